package suite

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
)

// berth is kubectl-berth with a kubeconfig, in the network of the control plane.
type berth struct{ binary, kubeconfig string }

// buildBerth builds kubectl-berth as make build does.
func buildBerth(t *testing.T) berth {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "kubectl-berth")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./kubectl-berth")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build kubectl-berth: %v\n%s", err, out)
	}
	return berth{binary, cluster.API().Kubeconfig()}
}

// run runs a command and returns what it printed, and its exit code.
func (b berth) run(t *testing.T, args ...string) (out, problems string, code int) {
	t.Helper()
	words := append([]string{b.binary, "--kubeconfig", b.kubeconfig}, args...)
	cmd, err := cluster.Host(lab.HostControlPlane).Command(t.Context(), words...)
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// says runs a command and fails the test unless it ends with the code and prints all of wants.
func (b berth) says(t *testing.T, code int, command string, wants ...string) string {
	t.Helper()
	out, problems, got := b.run(t, strings.Fields(command)...)
	if got != code {
		t.Errorf("%s: exit code %d, want %d:\n%s%s", command, got, code, out, problems)
	}
	for _, want := range wants {
		if !strings.Contains(out+problems, want) {
			t.Errorf("%s does not say %q:\n%s%s", command, want, out, problems)
		}
	}
	return out
}

// serviceOf is a Service for the pods asked that takes its address, of IPv4, from the pool of its name.
func serviceOf(name string) string {
	asking := fmt.Sprintf("{name: %s, annotations: {berth.io/address-pool: %[1]s}}", name)
	return strings.Replace(service(name, "asked", ipv4.only()), "{name: "+name+"}", asking, 1)
}

// TestCLI: each command of kubectl-berth tells of the real cluster what is the case there.
func TestCLI(t *testing.T) {
	needs(t, ipv4, "what the commands say does not depend on the family")
	b := buildBerth(t)
	router(t, peering.Router{Host: lab.HostRouter, Dynamic: true})
	apply(t, peering.Peer{Name: "first-v4", Address: lab.RouterAddresses.V4}.Manifest())
	apply(t, pool("asked", "10.77.0.230-10.77.0.231"))
	apply(t, peering.Announced("told", "198.51.100.0/28", ""))
	apply(t, web("asked", "node1", "node2"))
	apply(t, serviceOf("asked")+"---\n"+serviceOf("told"))
	kubectl(t, "rollout", "status", "deployment/asked", "--timeout=60s")
	addr := ""
	eventually(t, 15*time.Second, "asked has an address of its pool", func() (bool, string) {
		addr = address(t, "asked")
		return strings.HasPrefix(addr, "10.77.0.23"), addr
	})
	owner := ownedBy(t, addr, cluster.NodeNames()...)
	// Speakers write what they announce a moment after they do.
	eventually(t, 30*time.Second, "speakers say that they announce both Services", func() (bool, string) {
		asked, _, code := b.run(t, "services", "--service", "asked")
		told, _, other := b.run(t, "services", "--service", "told")
		return code == 0 && other == 0, asked + told
	})

	t.Run("lists", func(t *testing.T) {
		b.says(t, 0, "services --service asked", addr, owner+"/", "Announcing")
		b.says(t, 0, "services --service told", "Announced", "bgp:")
		b.says(t, 0, "pools --pool asked --services", "default/asked", addr)
		b.says(t, 0, "nodes", cluster.NodeNames()...)
		b.says(t, 0, "sessions --peer first-v4", "Established")
		b.says(t, 0, "version", "Kubernetes", "ghcr.io/berth-lb/controller")
	})
	t.Run("explain", func(t *testing.T) {
		b.says(t, 0, "explain svc/asked", owner+" answers on", "would take over", "Announcing")
		b.says(t, 0, "explain "+addr, "is held by default/asked")
		b.says(t, 0, "explain 10.77.0.231", "is held by nobody")
		b.says(t, 0, "explain node/"+owner, "default/asked")
		b.says(t, 0, "explain pool/asked", "default/asked")
		b.says(t, 0, "explain peer/first-v4", "BGPAdvertisement told")
	})
	t.Run("the successor is who takes over", func(t *testing.T) { checkSuccessor(t, b, addr, owner) })
	t.Run("routes are those that speakers send", func(t *testing.T) { checkTold(t, b) })
	t.Run("what may not be read is said", func(t *testing.T) { checkReader(t, b, addr) })
}

var takesOver = regexp.MustCompile(`(\S+) would take over`)

// checkSuccessor drains the owner, as which the other takes over that explain names.
func checkSuccessor(t *testing.T, b berth, addr, owner string) {
	m := takesOver.FindStringSubmatch(b.says(t, 0, "explain "+addr))
	if m == nil || m[1] == owner {
		t.Fatalf("nobody is named as the successor of %s: %v", owner, m)
	}
	kubectl(t, "cordon", owner)
	cleanup(t, "uncordon", owner)
	eventually(t, 10*time.Second, m[1]+" owns the address", func() (bool, string) {
		out, _, _ := b.run(t, "services", "--address", addr)
		return strings.Contains(out, m[1]+"/"), out
	})
	b.says(t, 0, "explain "+addr, "NodeCordoned")
}

// checkTold compares the routes that are computed with how many each session sends. A node that was cordoned
// a moment ago is about to send its own again.
func checkTold(t *testing.T, b berth) {
	eventually(t, 15*time.Second, "each session sends the routes that are computed", func() (bool, string) {
		planned, sent := plannedRoutes(t, b), sentRoutes(t, b)
		seen := fmt.Sprintf("%v computed, %v sent", planned, sent)
		return len(planned) > 0 && maps.Equal(planned, sent), seen
	})
}

// plannedRoutes counts what `kubectl berth routes` computes, by node and peer.
func plannedRoutes(t *testing.T, b berth) map[string]int {
	t.Helper()
	var routes struct {
		Items []struct{ Node, Peer, Prefix string }
	}
	if err := json.Unmarshal([]byte(b.says(t, 0, "routes -o json")), &routes); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, r := range routes.Items {
		counts[r.Node+" "+r.Peer]++
	}
	return counts
}

// sentRoutes counts what sessions send, as the speakers say, by node and peer.
func sentRoutes(t *testing.T, b berth) map[string]int {
	t.Helper()
	var sessions struct {
		Items []struct {
			Node, Peer     string
			AdvertisedIPv4 int
			AdvertisedIPv6 int
		}
	}
	out, problems, code := b.run(t, "sessions", "-o", "json")
	if code > 1 { // 1 is for sessions that have problems
		t.Fatalf("exit code %d: %s", code, problems)
	}
	if err := json.Unmarshal([]byte(out), &sessions); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, s := range sessions.Items {
		if sent := s.AdvertisedIPv4 + s.AdvertisedIPv6; sent > 0 {
			counts[s.Node+" "+s.Peer] = sent
		}
	}
	return counts
}

// limited returns the command for somebody who may read Services of one namespace and the pools only.
func (b berth) limited(t *testing.T) berth {
	t.Helper()
	apply(t, `
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules:
- {apiGroups: [""], resources: [services], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: default}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader-of-pools}
rules:
- {apiGroups: [berth.io], resources: [ipaddresspools], verbs: [get, list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reader-of-pools}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader-of-pools}
subjects: [{kind: ServiceAccount, name: reader, namespace: default}]
`)
	token := kubectl(t, "create", "token", "reader")
	raw, err := os.ReadFile(b.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	own := regexp.MustCompile(`token: \S+`).ReplaceAll(raw, []byte("token: "+token))
	reader := berth{b.binary, filepath.Join(t.TempDir(), "kubeconfig")}
	if err := os.WriteFile(reader.kubeconfig, own, 0o600); err != nil {
		t.Fatal(err)
	}
	return reader
}

// checkReader asks every command as somebody who may read little: each says so, and counts nothing of it.
func checkReader(t *testing.T, b berth, addr string) {
	reader := b.limited(t)
	forbidden := fmt.Sprintf("speakers.berth.io: %s", "Forbidden")
	reader.says(t, 1, "services", addr, forbidden, "services but those of namespace default")
	reader.says(t, 0, "pools --pool asked", "asked", forbidden)
	for _, list := range []string{"nodes", "sessions", "routes"} {
		reader.says(t, 2, list, "could not be read (Forbidden)")
	}
	reader.says(t, 0, "explain svc/asked", addr, "not known", forbidden)
	reader.says(t, 0, "version", forbidden)
	reader.says(t, 2, "plan --delete pool/asked", "cannot be computed: not all of services")
	reader.says(t, 2, "import --from kube-vip", "configmaps/kubevip: Forbidden", "cannot get resource")
	reader.says(t, 0, "dashboard --snapshot -", "Not read", "speakers.berth.io: Forbidden", addr)
	reader.says(t, 1, "check", "? ", "Forbidden")
	archive := filepath.Join(t.TempDir(), "report.tar.gz")
	reader.says(t, 0, "report -f "+archive, forbidden, "pods: Forbidden")
	reader.watches(t, forbidden)
	out := reader.says(t, 1, "status", "Speakers", "could not be read", forbidden)
	if strings.Contains(out, "Layer 2") {
		t.Errorf("what may not be read is counted:\n%s", out)
	}
}

// watches fails the test unless watch says what it wants.
func (b berth) watches(t *testing.T, want string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	host := cluster.Host(lab.HostControlPlane)
	cmd, err := host.Command(ctx, b.binary, "--kubeconfig", b.kubeconfig, "watch")
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var seen strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		seen.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), want) {
			cancel()
			_ = cmd.Wait() // it was killed
			return
		}
	}
	_ = cmd.Wait() // what it printed is what counts
	t.Errorf("watch does not say %q:\n%s", want, seen.String())
}
