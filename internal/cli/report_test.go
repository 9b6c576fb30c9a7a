package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/clitest"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

const password = "correct-horse"

// reported is a cluster whose objects, Events and logs name addresses, nodes and Services,
// and have secrets where there may be some.
func reported(t *testing.T) *clitest.Server {
	t.Helper()
	objects := well(t)
	peer := objectOf[*v1beta1.BGPPeer](objects, "tor")
	peer.Spec.Password = password
	peer.Annotations = map[string]string{corev1.LastAppliedConfigAnnotation: "{password: " + password + "}"}
	objectOf[*corev1.Node](objects, "node2").Labels["acme.com/site"] = "mars"
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "berth-system",
		Name: "berth-memberlist"}}
	secret.Data = map[string][]byte{"key": []byte(password)}
	event := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web.1"}}
	event.InvolvedObject = corev1.ObjectReference{Kind: "Service", Namespace: "default", Name: "web"}
	event.Message = "Node node1 announces 10.77.0.200 on eth0 (First)."
	other := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "job.1"}}
	other.InvolvedObject = corev1.ObjectReference{Kind: "Job", Namespace: "default", Name: "payroll"}
	objects = append(objects, secret, event, other, podOf("berth-controller-1", "controller", "node1"),
		podOf("berth-speaker-1", "speaker", "node1"))
	server := clitest.New(objects...)
	const pods = "/api/v1/namespaces/berth-system/pods/"
	const hello = `2026-11-27T11:00:00Z {"msg":"hello","service":"default/web"}` + "\n"
	const taken = `{"msg":"taken","address":"10.77.0.200","node":"node1"}` + "\n"
	server.Raw = map[string]string{
		pods + "berth-controller-1/log":                      hello,
		pods + "berth-speaker-1/log":                         taken,
		pods + "http:berth-speaker-1:9741/proxy/readyz":      "ok",
		pods + "http:berth-controller-1:9741/proxy/readyz":   "ok",
		pods + "https:berth-speaker-1:9740/proxy/metrics":    `berth_speaker_owned{node="node1"} 1` + "\n",
		pods + "https:berth-controller-1:9740/proxy/metrics": "up 1\n",
	}
	return server
}

func podOf(name, component, node string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "berth-system",
		Name:      name,
		Labels:    map[string]string{"app.kubernetes.io/component": component},
	}}
	p.Spec.NodeName = node
	p.Spec.Containers = []corev1.Container{{
		Name: component,
		Env:  []corev1.EnvVar{{Name: "HTTP_PROXY_PASSWORD", Value: password}},
	}}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: component, RestartCount: 1}}
	return p
}

// unpack returns the files of an archive, after it has compared all checksums.
func unpack(t *testing.T, raw []byte) (names []string, files map[string]string) {
	t.Helper()
	compressed, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	files = map[string]string{}
	archive := tar.NewReader(compressed)
	for {
		head, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		name, in := strings.CutPrefix(head.Name, "berth-report-20261127-120000/")
		if !in || head.Mode != 0o600 {
			t.Errorf("%s has mode %o", head.Name, head.Mode)
		}
		names = append(names, name)
		files[name] = string(data)
	}
	checked := 0
	for line := range strings.Lines(files["SHA256SUMS"]) {
		want, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		sum := sha256.Sum256([]byte(files[name]))
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("%s: checksum %s, want %s", name, got, want)
		}
		checked++
	}
	if checked != len(files)-1 {
		t.Errorf("%d checksums of %d files", checked, len(files))
	}
	return names, files
}

// report runs report, and returns the files of the archive.
func report(t *testing.T, config string, args ...string) (outputs, []string, map[string]string) {
	t.Helper()
	got := run(t, config, append([]string{"report", "-f", "-"}, args...)...)
	if got.code != ExitOK {
		t.Fatalf("exit code %d: %s", got.code, got.err)
	}
	names, files := unpack(t, []byte(got.out))
	return got, names, files
}

// TestReport: what is in the archive, and what never is.
func TestReport(t *testing.T) {
	server := reported(t)
	_, names, files := report(t, server.Start(t))
	want := []string{
		"report.md", "manifest.json", "objects/ipaddresspools.berth.io.yaml",
		"objects/l2advertisements.berth.io.yaml", "objects/bgppeers.berth.io.yaml",
		"objects/speakers.berth.io.yaml", "objects/deployments.apps.yaml", "objects/daemonsets.apps.yaml",
		"objects/pods.yaml", "objects/leases.coordination.k8s.io.yaml", "objects/nodes.yaml",
		"objects/services.yaml", "objects/endpointslices.discovery.k8s.io.yaml", "objects/namespaces.yaml",
		"events.yaml",
		"logs/berth-controller-1/controller.log", "logs/berth-controller-1/controller.previous.log",
		"ready/berth-controller-1.txt", "metrics/berth-controller-1.txt",
		"logs/berth-speaker-1/speaker.log", "logs/berth-speaker-1/speaker.previous.log",
		"ready/berth-speaker-1.txt", "metrics/berth-speaker-1.txt", "SHA256SUMS",
	}
	if !slices.Equal(names, want) {
		t.Errorf("the files are %q, want %q", names, want)
	}
	for name, says := range map[string]string{
		"report.md":                        "√ Every pool (1) is advertised",
		"objects/nodes.yaml":               "kind: Node\n",
		"objects/services.yaml":            "10.77.0.200",
		"events.yaml":                      "announces 10.77.0.200",
		"logs/berth-speaker-1/speaker.log": `"address":"10.77.0.200"`,
	} {
		if !strings.Contains(files[name], says) {
			t.Errorf("%s does not say %q: %s", name, says, files[name])
		}
	}
	for name, data := range files {
		if strings.Contains(data, password) || strings.Contains(data, "payroll") {
			t.Errorf("%s has what it must not have: %s", name, data)
		}
	}
	for _, path := range server.Requests() {
		if strings.Contains(path, "secrets") || strings.Contains(path, "/exec") {
			t.Errorf("it asks for %s", path)
		}
	}
	checkManifest(t, files, false)
}

// checkManifest compares the manifest with the files.
func checkManifest(t *testing.T, files map[string]string, redacted bool) v1alpha1.ReportManifest {
	t.Helper()
	var m v1alpha1.ReportManifest
	if err := json.Unmarshal([]byte(files["manifest.json"]), &m); err != nil {
		t.Fatal(err)
	}
	if m.Kind != "ReportManifest" || m.Redacted != redacted || len(m.Files) != len(files)-3 {
		t.Errorf("the manifest is %+v", m)
	}
	for _, f := range m.Files {
		if len(files[f.Name]) != f.Bytes {
			t.Errorf("%s has %d bytes, and not %d", f.Name, len(files[f.Name]), f.Bytes)
		}
	}
	return m
}

// TestRedactedReport: nothing of what is to be replaced is left, and tokens agree between
// objects, Events, logs and metrics.
func TestRedactedReport(t *testing.T) {
	_, _, files := report(t, reported(t).Start(t), "--redact")
	secret := regexp.MustCompile(`\b(node[123]|web|dns|shop|tor|lan|mars|acme)\b|10\.(77|96|244)\.|02:00:00`)
	for name, data := range files {
		if found := secret.FindString(data); found != "" {
			t.Errorf("%s has %q: %s", name, found, data)
		}
	}
	find := func(name, pattern string) string {
		t.Helper()
		m := regexp.MustCompile(pattern).FindStringSubmatch(files[name])
		if m == nil {
			t.Fatalf("%s does not have %s: %s", name, pattern, files[name])
		}
		return m[1]
	}
	address := find("logs/berth-speaker-1/speaker.log", `"address":"(IPV4-\d+)"`)
	node := find("logs/berth-speaker-1/speaker.log", `"node":"(NODE-\d+)"`)
	service := find("events.yaml", `name: (SERVICE-\d+)\.1`)
	for _, same := range []struct{ name, pattern, want string }{
		{"events.yaml", `Node \S+ announces (IPV4-\d+)`, address},
		{"events.yaml", `Node (NODE-\d+) announces`, node},
		{"objects/speakers.berth.io.yaml", `address: (IPV4-\d+)`, address},
		{"objects/pods.yaml", `nodeName: (NODE-\d+)`, node},
		{"metrics/berth-speaker-1.txt", `node="(NODE-\d+)"`, node},
		{"logs/berth-controller-1/controller.log", `default/(SERVICE-\d+)`, service},
	} {
		if got := find(same.name, same.pattern); got != same.want {
			t.Errorf("%s has %s for %s", same.name, got, same.want)
		}
	}
	checkManifest(t, files, true)
}

// TestReportIsBounded: what does not fit is left out, and told.
func TestReportIsBounded(t *testing.T) {
	_, _, files := report(t, reported(t).Start(t), "--max-size", "4Ki")
	m := checkManifest(t, files, false)
	size := 0
	for _, f := range m.Files {
		size += f.Bytes
	}
	if size == 0 || size > 4<<10 || len(m.Cut) == 0 {
		t.Errorf("%d bytes, cut %+v", size, m.Cut)
	}
	if !strings.Contains(files["report.md"], "## What did not fit") {
		t.Errorf("the summary does not say what is missing: %s", files["report.md"])
	}
}

// TestReportSaysWhatIsMissing: what may not be read is named, once for all pods, and the
// rest is there.
func TestReportSaysWhatIsMissing(t *testing.T) {
	server := reported(t)
	server.Raw = nil
	server.Forbidden = map[string]bool{"pods/log": true, "events": true}
	_, _, files := report(t, server.Start(t))
	m := checkManifest(t, files, false)
	var got []string
	for _, u := range m.Unread {
		got = append(got, u.Kind+" "+u.Reason)
	}
	want := []string{"events Forbidden", "pods/log Forbidden", "ready/berth-controller-1.txt Failed",
		"metrics Failed"}
	if !slices.Equal(got[:min(4, len(got))], want) {
		t.Errorf("missing is %q, want %q", got, want)
	}
	if !strings.Contains(files["report.md"], "## What could not be read") {
		t.Errorf("the summary does not say it: %s", files["report.md"])
	}
}

// TestReportFile: the file has the time in its name, and only the user may read it; a
// mistake writes none.
func TestReportFile(t *testing.T) {
	config := reported(t).Start(t)
	dir := t.TempDir()
	t.Chdir(dir)
	got := run(t, config, "report")
	const name = "berth-report-20261127-120000.tar.gz"
	if got.code != ExitOK || got.out != name+"\n" {
		t.Fatalf("got %+v", got)
	}
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v (%v)", info, err)
	}
	for _, args := range [][]string{
		{"-f", filepath.Join(dir, "none", "x.tar.gz")}, {"-f", dir}, {"--max-size", "many"},
		{"--max-size", "0"}, {"--since", "-1s"},
	} {
		if got := run(t, config, append([]string{"report"},
			args...)...); got.code != ExitError || got.out != "" {
			t.Errorf("%q: got %+v", args, got)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("there are %v (%v)", entries, err)
	}
}
