package suite

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
	"github.com/berth-lb/berth/e2e/product"
)

// kubeProxy is the ConfigMap that kubeadm writes: the lab's kube-proxy reads none.
func kubeProxy() string {
	return fmt.Sprintf(`
apiVersion: v1
kind: ConfigMap
metadata: {namespace: kube-system, name: kube-proxy}
data: {config.conf: "{mode: %s, ipvs: {strictARP: true}}"}
`, cluster.ProxyMode())
}

// likeMetalLB is a DaemonSet that looks like the speakers of MetalLB, and runs nowhere.
const likeMetalLB = `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: speaker}
spec:
  selector: {matchLabels: {app: metallb}}
  template:
    metadata: {labels: {app: metallb}}
    spec:
      nodeSelector: {nowhere: "true"}
      containers: [{name: speaker, image: "quay.io/metallb/speaker:v0.15.2"}]
`

// notWell returns the checks that are not well, by state and name, and the exit code.
func (b berth) notWell(t *testing.T, args ...string) (lines []string, text string, code int) {
	t.Helper()
	out, problems, code := b.run(t, append([]string{"check", "--problems", "-o", "json"}, args...)...)
	var checks struct {
		Groups []struct {
			Checks []struct{ Name, State, Link string }
		}
	}
	if err := json.Unmarshal([]byte(out), &checks); err != nil {
		t.Fatalf("%v:\n%s%s", err, out, problems)
	}
	lines = []string{}
	for _, g := range checks.Groups {
		for _, c := range g.Checks {
			lines = append(lines, c.State+" "+c.Name)
		}
	}
	return lines, out, code
}

// becomes waits until exactly these checks are not well.
func (b berth) becomes(t *testing.T, code int, want ...string) {
	t.Helper()
	eventually(t, 90*time.Second, fmt.Sprintf("%q are not well", want), func() (bool, string) {
		lines, text, got := b.notWell(t)
		return got == code && slices.Equal(lines, want), text
	})
}

// TestCheck: in a lab that is well every line of check is. Whatever is broken is what its lines say, and
// nothing else. A report has what belongs to it, and no key.
func TestCheck(t *testing.T) {
	needs(t, ipv4, "what the commands say does not depend on the family")
	b := buildBerth(t)
	config := peering.Router{Host: lab.HostRouter, Dynamic: true}
	router(t, config)
	apply(t, peering.Peer{Name: "first-v4", Address: lab.RouterAddresses.V4}.Manifest())
	apply(t, kubeProxy())
	apply(t, pool("checked", "10.77.0.230-10.77.0.239"))
	apply(t, web("checked", "node1", "node2"))
	apply(t, service("checked", "checked", ipv4.only()))
	kubectl(t, "rollout", "status", "deployment/checked", "--timeout=60s")
	addr := hasAddress(t, "checked")
	out, problems, code := b.run(t, "check", "--wait", "90s")
	if code != 0 || strings.ContainsAny(out, "×‼?·") {
		t.Fatalf("all is well, and check says (exit code %d):\n%s%s", code, out, problems)
	}
	b.says(t, 0, "check --pre", "√ You may create all that manifests/base has")
	b.showsCheck(t, "check")

	const brokenLong = "ten seconds; a labelled node and another load balancer are found as well"
	t.Run("a node is labelled", func(t *testing.T) {
		const label = "node.kubernetes.io/exclude-from-external-load-balancers"
		cleanup(t, "label", "node", "node3", label+"-")
		kubectl(t, "label", "node", "node3", label+"=")
		b.becomes(t, 0, "Warning ExcludeLabel")
		b.showsCheck(t, "check --problems")
	})
	t.Run("another load balancer", func(t *testing.T) {
		apply(t, likeMetalLB)
		b.becomes(t, 1, "Problem OtherLoadBalancer")
	})
	t.Run("no endpoints", func(t *testing.T) {
		fullOnly(t, brokenLong)
		replicas := get(t, "get deployment checked", ".spec.replicas")
		cleanup(t, "rollout", "status", "deployment/checked", "--timeout=60s")
		cleanup(t, "scale", "deployment/checked", "--replicas="+replicas)
		kubectl(t, "scale", "deployment/checked", "--replicas=0")
		b.becomes(t, 1, "Problem ServiceAnnounced")
	})
	t.Run("a router is down", func(t *testing.T) {
		fullOnly(t, brokenLong)
		if err := cluster.Router(lab.HostRouter).Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.becomes(t, 1, "Problem Sessions")
		config.Nodes = cluster.NodeNames()
		if err := cluster.Router(lab.HostRouter).Start(t.Context(), config.Config()); err != nil {
			t.Fatal(err)
		}
		b.becomes(t, 0)
	})
	t.Run("the member port is blocked", func(t *testing.T) {
		fullOnly(t, brokenLong)
		if err := cluster.Node("node3").Block(t.Context(), product.MemberPort); err != nil {
			t.Fatal(err)
		}
		b.becomes(t, 1, "Problem Members")
		if err := cluster.Node("node3").Heal(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a node is dead", func(t *testing.T) {
		fullOnly(t, brokenLong)
		checkDeadNode(t, b, addr)
	})
	b.becomes(t, 0)
	t.Run("what may not be read is not well", func(t *testing.T) { checkLimited(t, b.limited(t)) })
	t.Run("report", func(t *testing.T) { checkReport(t, b, addr) })
}

// checkDeadNode takes the power from a node: check names it, and says of no Service that it is not announced
// once another node has taken the address over.
func checkDeadNode(t *testing.T, b berth, addr string) {
	owner := ownedBy(t, addr, cluster.NodeNames()...)
	node := cluster.Node(owner)
	if err := node.Crash(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Start(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	dead := regexp.MustCompile(`speaker ` + owner + `: NodeNotReady`)
	eventually(t, 90*time.Second, "check names the node that is dead, and all Services are announced",
		func() (bool, string) {
			lines, text, code := b.notWell(t)
			named := slices.Contains(lines, "Problem Speakers") && dead.MatchString(text)
			return named && code == 1 && !slices.Contains(lines, "Problem ServiceAnnounced"), text
		})
	b.says(t, 1, "status", owner)
	b.says(t, 1, "explain node/"+owner, "NodeNotReady")
}

// checkLimited checks as somebody who may read little: nothing that was not seen is said to be well.
func checkLimited(t *testing.T, reader berth) {
	lines, text, code := reader.notWell(t)
	if code != 1 {
		t.Errorf("exit code %d:\n%s", code, text)
	}
	for _, want := range []string{"Unknown ReadRights", "Unknown Speakers", "Unknown OtherLoadBalancer"} {
		if !slices.Contains(lines, want) {
			t.Errorf("%s is not among %q", want, lines)
		}
	}
	for _, line := range lines {
		if strings.HasPrefix(line, "Problem") {
			t.Errorf("%s, which nobody could see:\n%s", line, text)
		}
	}
	reader.says(t, 1, "check --pre", "× You may not install")
}

// unpacked makes a report and returns its files, after sha256sum has compared them.
func (b berth) unpacked(t *testing.T, args ...string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "report.tar.gz")
	if out, problems, code := b.run(t, append([]string{"report", "-f", file}, args...)...); code != 0 {
		t.Fatalf("exit code %d:\n%s%s", code, out, problems)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the archive is %v (%v)", info, err)
	}
	unpack := exec.Command("tar", "-xzf", file, "-C", dir, "--strip-components=1")
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	check := exec.Command("sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS")
	check.Dir = dir
	if out, err := check.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[name] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// checkReport makes a report as it is, and one that is redacted.
func checkReport(t *testing.T, b berth, addr string) {
	files := b.unpacked(t)
	encoded := get(t, "get secret -n "+system+" berth-memberlist", ".data.key")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(key) == 0 {
		t.Fatalf("there is no member key: %q, %v", encoded, err)
	}
	for name, data := range files {
		if strings.Contains(data, encoded) || strings.Contains(data, string(key)) {
			t.Errorf("%s has the member key", name)
		}
	}
	pods := get(t, "get pods -n "+system+" -l app.kubernetes.io/component=speaker", ".items[*].metadata.name")
	for pod := range strings.FieldsSeq(pods) {
		if !strings.Contains(files["logs/"+pod+"/speaker.log"], `"msg"`) || files["ready/"+pod+".txt"] == "" {
			t.Errorf("there is nothing of %s", pod)
		}
	}
	for name, says := range map[string]string{
		"report.md":          "- metrics: Failed.", // the API server does not pass on who asks
		"events.yaml":        addr,
		"objects/nodes.yaml": "name: node1",
	} {
		if !strings.Contains(files[name], says) {
			t.Errorf("%s does not say %q", name, says)
		}
	}

	if !strings.Contains(files["report.md"], "√ Every pool") {
		t.Errorf("the summary has no check: %s", files["report.md"])
	}

	redacted := b.unpacked(t, "--redact")
	left := regexp.MustCompile(`\b(node[0-9]|checked|first-v4)\b|\b10\.77\.|fd77:`)
	for name, data := range redacted {
		if found := left.FindString(data); found != "" {
			i := strings.Index(data, found)
			t.Errorf("%s still has %q: %s", name, found, data[max(0, i-80):min(len(data), i+80)])
		}
	}
	token := regexp.MustCompile(`- ip: (IPV4-\d+)`).FindStringSubmatch(redacted["objects/services.yaml"])
	if token == nil {
		t.Fatalf("no token in %s", redacted["objects/services.yaml"])
	}
	for _, name := range []string{"objects/speakers.berth.io.yaml", "events.yaml"} {
		if !regexp.MustCompile(`\b` + token[1] + `\b`).MatchString(redacted[name]) {
			t.Errorf("%s does not have %s, which stands for %s", name, token[1], addr)
		}
	}
	logged := slices.ContainsFunc(strings.Fields(pods), func(pod string) bool {
		return strings.Contains(redacted["logs/"+pod+"/speaker.log"], `"`+token[1]+`"`)
	})
	if !logged {
		t.Errorf("no log has %s, which stands for %s", token[1], addr)
	}
}
