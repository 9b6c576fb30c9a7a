package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/berth-lb/berth/internal/cli/clitest"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// importFrom returns a cluster without Berth that has the objects of a file.
func importFrom(t testing.TB, name string) *clitest.Server {
	t.Helper()
	s := clitest.New(clitest.Load(t, filepath.Join("testdata", "import", name+".yaml"))...)
	s.MissingIn["berth.io"] = []string{"l2advertisements", "ipaddresspools", "bgpadvertisements", "bgppeers",
		"bfdprofiles", "communities", "speakers"}
	return s
}

// TestImportStories: what import prints of each load balancer, word by word.
func TestImportStories(t *testing.T) {
	for _, story := range []struct {
		name, file, args string
		code             int
	}{
		{"import-metallb", "metallb", "--from metallb", ExitProblems},
		{"import-metallb-minikube", "metallb-minikube", "--from metallb", ExitOK},
		{"import-metallb-configmap", "metallb-configmap", "--from metallb", ExitProblems},
		{"import-openelb", "openelb", "--from openelb", ExitProblems},
		{"import-purelb", "purelb", "--from purelb", ExitProblems},
		{"import-kube-vip", "kube-vip", "--from kube-vip", ExitProblems},
		{"import-kube-vip-bare", "kube-vip-bare", "--from kube-vip", ExitOK},
		{"import-cilium", "cilium", "--from cilium", ExitProblems},
		{"import-report", "metallb-minikube", "--from metallb --report", ExitOK},
		{"import-take-over", "take-over", "--from metallb --take-over", ExitProblems},
	} {
		t.Run(story.name, func(t *testing.T) {
			got := run(t, importFrom(t, story.file).Start(t),
				append([]string{"import"}, strings.Fields(story.args)...)...)
			if got.code != story.code {
				t.Errorf("exit code %d, want %d", got.code, story.code)
			}
			text := "$ kubectl berth import " + story.args + "\n" + got.out
			if got.err != "" {
				text += "--- stderr\n" + got.err
			}
			compare(t, filepath.Join("testdata", "stories", story.name+".txt"), text)
		})
	}
}

// TestImportFromFilesIsTheSame as from a cluster with the same objects, and needs none.
func TestImportFromFilesIsTheSame(t *testing.T) {
	for file, from := range map[string]string{
		"metallb": "metallb", "metallb-configmap": "metallb", "openelb": "openelb", "purelb": "purelb",
		"kube-vip": "kube-vip", "cilium": "cilium",
	} {
		want := run(t, importFrom(t, file).Start(t), "import", "--from", from, "-o", "yaml")
		path := filepath.Join("testdata", "import", file+".yaml")
		got := run(t, "/nonexistent", "import", "--from", from, "-o", "yaml", "--local", "-f", path)
		if got != want {
			t.Errorf("%s: from files\n%s%s\nfrom the "+
				"cluster\n%s%s", file, got.out, got.err, want.out, want.err)
		}
	}
}

// TestImportIsAContract: the object that -o prints has the manifests and the report, and the
// manifests are those that are printed without it.
func TestImportIsAContract(t *testing.T) {
	config := importFrom(t, "metallb").Start(t)
	var got v1alpha1.Import
	raw := run(t, config, "import", "--from", "metallb", "-o", "json").out
	if err := json.Unmarshal([]byte(raw), &got); err != nil {
		t.Fatal(err)
	}
	if got.Kind != "Import" || got.APIVersion != v1alpha1.APIVersion || got.From != "metallb" ||
		len(got.Remarks) == 0 || got.Services.Verdict != "Changes" {
		t.Errorf("JSON is %+v", got)
	}
	text := run(t, config, "import", "--from", "metallb").out
	for i, document := range strings.Split(strings.TrimPrefix(text, "---\n"), "\n---\n") {
		var m map[string]any
		if err := yaml.UnmarshalStrict([]byte(document), &m); err != nil {
			t.Fatal(err)
		}
		a, _ := json.Marshal(m)
		b, _ := json.Marshal(got.Manifests[i])
		if string(a) != string(b) {
			t.Errorf("manifest %d is %s, and %s in JSON", i, a, b)
		}
	}
	names := run(t, config, "import", "--from", "metallb", "-o", "name").out
	if !strings.HasPrefix(names, "bfdprofile.berth.io/fast\ncommunity.berth.io/names\nipaddresspool.") {
		t.Errorf("the names are %s", names)
	}
}

// TestTakeOverIsAContract: the steps are in the object that -o prints. When nothing of the other is
// left and Berth has its addresses, they are done.
func TestTakeOverIsAContract(t *testing.T) {
	steps := func(s *clitest.Server, code int) []v1alpha1.ImportStep {
		t.Helper()
		var out v1alpha1.Import
		got := run(t, s.Start(t), "import", "--from", "metallb", "--take-over", "-o", "json")
		if err := json.Unmarshal([]byte(got.out), &out); err != nil || got.code != code {
			t.Fatalf("exit code %d, %v: %s", got.code, err, got.err)
		}
		return out.Steps
	}
	begun := steps(importFrom(t, "take-over"), ExitProblems)
	if len(begun) != 11 || begun[0].State != v1alpha1.ImportStepDone ||
		begun[1].Name != "Configured" || begun[1].State != v1alpha1.ImportStepNext ||
		begun[2].State != v1alpha1.ImportStepLater || len(begun[1].Back) == 0 {
		t.Errorf("begun are %+v", begun)
	}

	for _, s := range steps(shop(t), ExitProblems) {
		if s.Name == "Removed" && s.State != v1alpha1.ImportStepDone {
			t.Errorf("nothing of MetalLB is there, and %+v", s)
		}
	}

	refused := importFrom(t, "take-over")
	refused.Forbidden["daemonsets"] = true
	for _, s := range steps(refused, ExitProblems) {
		if s.Name == "SpeakersEnded" && s.State != v1alpha1.ImportStepUnknown {
			t.Errorf("DaemonSets may not be read, and %+v", s)
		}
	}
}

// TestImportSaysWhatItCouldNotRead, and does not take it for nothing.
func TestImportSaysWhatItCouldNotRead(t *testing.T) {
	server := importFrom(t, "metallb-minikube")
	server.Forbidden["services"] = true
	got := run(t, server.Start(t), "import", "--from", "metallb", "--report")
	if got.code != ExitProblems || !strings.Contains(got.out, "It is not known whether") ||
		!strings.Contains(got.out, "services (Forbidden)") || !strings.Contains(got.out, "NOT READ") {
		t.Errorf("without Services: %+v", got)
	}

	server = importFrom(t, "metallb")
	server.Forbidden["configmaps"] = true
	got = run(t, server.Start(t), "import", "--from", "metallb", "--report")
	if got.code != ExitProblems || !strings.Contains(got.out, "? configmaps: Forbidden.") {
		t.Errorf("without ConfigMaps: %+v", got)
	}

	server = importFrom(t, "metallb")
	server.Forbidden["ipaddresspools"], server.AllowedIn = true, "metallb-system"
	got = run(t, server.Start(t), "import", "--from", "metallb", "--report")
	if !strings.Contains(got.out, "? ipaddresspools.metallb.io but those of namespace metallb-system: "+
		"Forbidden") ||
		!strings.Contains(got.out, "2 IPAddressPool") {
		t.Errorf("in one namespace: %+v", got)
	}
}

// TestImportErrors: what cannot be imported ends with exit code 2 and says why.
func TestImportErrors(t *testing.T) {
	config := importFrom(t, "metallb").Start(t)
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("kind: [\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := importFrom(t, "metallb")
	for _, resource := range []string{"ipaddresspools", "l2advertisements", "bgpadvertisements", "bgppeers",
		"bfdprofiles", "communities", "addresspools", "frrconfigurations", "configmaps", "daemonsets"} {
		refused.Forbidden[resource] = true
	}
	for _, test := range []struct{ config, args, says string }{
		{config, "", `required flag(s) "from" not set`},
		{config, "--from keepalived", "use one of metallb, openelb, purelb, kube-vip, cilium"},
		{config, "--from cilium", "nothing of Cilium was found"},
		{config, "--from metallb --local", "--local needs -f"},
		{config, "--from cilium --take-over", "--take-over is not for Cilium: its agents"},
		{config, "--from metallb --take-over --report", "none of the others can be"},
		{config, "--from metallb -f " + bad, "-f:"},
		{config, "--from metallb -f testdata/import/none.yaml", "does not exist"},
		{refused.Start(t), "--from metallb", "nothing of MetalLB could be read: "},
		{"/nonexistent", "--from metallb", "connection refused"},
	} {
		got := run(t, test.config, append([]string{"import"}, strings.Fields(test.args)...)...)
		if got.code != ExitError || !strings.Contains(got.err, test.says) || got.out != "" {
			t.Errorf("%s: exit code %d, says %q, want %q in it", test.args, got.code, got.err, test.says)
		}
	}
}

// TestImportWithoutACluster: files are converted, and what only a cluster knows is not known.
func TestImportWithoutACluster(t *testing.T) {
	got := run(t, "/nonexistent", "import", "--from", "metallb", "-f",
		filepath.Join("testdata", "import", "metallb-minikube.yaml"))
	if got.code != ExitProblems || !strings.Contains(got.out, "name: default") ||
		!strings.Contains(got.err, "It is not known whether") || !strings.Contains(got.err, "connection "+
		"refused") {
		t.Errorf("got %+v", got)
	}
}
