package suite

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
)

// metalLBPrograms is as much of MetalLB as the API shows: what it is configured with, in the form of 0.12,
// and programs that do nothing. Its speakers' work is done by an incumbent.
const metalLBPrograms = `
apiVersion: v1
kind: Namespace
metadata: {name: metallb-system}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config, namespace: metallb-system}
data:
  config: |
    address-pools:
    - name: moving
      protocol: layer2
      addresses: [10.77.0.232-10.77.0.235, "fd77::232-fd77::235"]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: metallb-speaker, namespace: metallb-system}
spec:
  selector: {matchLabels: {app: metallb, component: speaker}}
  template:
    metadata: {labels: {app: metallb, component: speaker}}
    spec: {containers: [{name: speaker, image: "lab.test/pause:1"}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: metallb-controller, namespace: metallb-system}
spec:
  selector: {matchLabels: {app: metallb, component: controller}}
  template:
    metadata: {labels: {app: metallb, component: controller}}
    spec: {containers: [{name: controller, image: "lab.test/pause:1"}]}
`

// takeOverStep is one of the steps that kubectl berth import --take-over lists.
type takeOverStep struct {
	Name, State, Message    string
	Details, Commands, Back []string
}

// guide is what leads through a take-over: kubectl berth import --take-over.
type guide struct{ berth }

// steps returns the steps as they are now, by name, and the first that is not done; "" for none.
func (g guide) steps(t *testing.T) (byName map[string]takeOverStep, next string) {
	t.Helper()
	out, problems, code := g.run(t, "import", "--from", "metallb", "--take-over", "-o", "json")
	var printed struct{ Steps []takeOverStep }
	if err := json.Unmarshal([]byte(out), &printed); err != nil || code > 1 {
		t.Fatalf("exit code %d, %v: %s%s", code, err, out, problems)
	}
	byName = map[string]takeOverStep{}
	for _, s := range printed.Steps {
		byName[s.Name] = s
		if s.State != "Done" && next == "" {
			next = s.Name
		}
	}
	if done := next == ""; done != (code == 0) {
		t.Errorf("the exit code is %d, and next is %q", code, next)
	}
	return byName, next
}

// types has a shell run commands, in the folder of the sources, where kubectl finds its plugin.
func (g guide) types(t *testing.T, commands ...string) {
	t.Helper()
	for _, line := range commands {
		script := "export PATH=" + filepath.Dir(g.binary) + ":$PATH; set -e; " + line
		words := []string{"bash", "-o", "pipefail", "-c", script}
		cmd, err := cluster.Host(lab.HostControlPlane).Command(t.Context(), words...)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
}

// does goes through a step: it is the next one, its commands are typed, and then it is done.
func (g guide) does(t *testing.T, name string, meanwhile func()) {
	t.Helper()
	var now takeOverStep
	eventually(t, 30*time.Second, name+" is next", func() (bool, string) {
		steps, next := g.steps(t)
		now = steps[name]
		return next == name || now.State == "Done", fmt.Sprintf("%s: %+v", next, steps[next])
	})
	if now.State == "Next" {
		// Those that only look end with exit code 1 while not all is well.
		looks := func(c string) bool {
			return strings.HasPrefix(c, "kubectl berth ") && !strings.Contains(c, "|")
		}
		g.types(t, slices.DeleteFunc(now.Commands, looks)...)
	}
	meanwhile()
	eventually(t, 90*time.Second, name+" is done", func() (bool, string) {
		steps, _ := g.steps(t)
		return steps[name].State == "Done", fmt.Sprintf("%+v", steps[name])
	})
}

// TestTakeOverStepByStep: the commands that kubectl berth import --take-over prints lead from another load
// balancer to Berth, which is installed beside it, and back. A client loses nothing.
func TestTakeOverStepByStep(t *testing.T) {
	fullOnly(t, "a cluster of its own; TestTakeOver shows the moments at which addresses change hands")
	useBareLab(t, "other", lab.Options{})
	for _, role := range []string{"controller", "speaker"} {
		if err := cluster.LoadImage(t.Context(), filepath.Join(root, "dist", role+".tar")); err != nil {
			t.Fatal(err)
		}
	}
	g := guide{buildBerth(t)}
	apply(t, metalLBPrograms)
	kubectl(t, "rollout", "status", "-n", "metallb-system", "daemonset/metallb-speaker", "--timeout=60s")
	m := underAnother(t)
	nothing := func() {}

	for _, step := range []string{"CarriesOver", "Configured", "ControllerStopped", "Running", "Adopted",
		"AnnouncedBeside"} {
		g.does(t, step, nothing)
	}
	m.adopted(t)
	owners := m.owned(t)
	m.beside(t, owners)
	m.lost(t, "Berth is installed beside the other")

	g.does(t, "SpeakersEnded", func() { m.end(t) })
	g.does(t, "Alone", nothing)
	m.sentTo(t, "Berth's owners", owners)
	m.lost(t, "the other is ended")
	steps, next := g.steps(t)
	if next != "Removed" || len(steps["Removed"].Details) == 0 {
		t.Errorf("next is %q: %+v", next, steps["Removed"])
	}

	m.start(t)
	m.sentTo(t, "the other's nodes", m.nodes)
	for _, step := range []string{"SpeakersEnded", "Running", "ControllerStopped"} {
		g.types(t, steps[step].Back...)
	}
	if _, next := g.steps(t); next != "ControllerStopped" {
		t.Errorf("next is %q", next)
	}
	m.adopted(t)
	m.lost(t, "the other is back, and Berth is removed")
	g.says(t, 1, "import --from metallb --take-over", "ControllerStopped: ", "--replicas=0", "back: ")
	g.says(t, 2, "import --from cilium --take-over", "not for Cilium")
}
