package product

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestOverlay: what is applied where nodes forward nothing is the manifests, found from where the overlay is,
// and the API server's address; other patches stand beside it.
func TestOverlay(t *testing.T) {
	dir, base := t.TempDir(), filepath.Join("..", "..", "manifests", "base")
	base, err := filepath.Abs(base)
	if err != nil {
		t.Fatal(err)
	}
	patches := []Patch{
		{Target: "{kind: DaemonSet}", Operations: "- {op: remove, path: /spec}\n"},
		toldOfAPI(netip.MustParseAddrPort("[fd77::2]:6443")),
	}
	if err := writeOverlay(dir, base, patches); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), `resources: ["`)
	from, _, _ := strings.Cut(rest, `"]`)
	if _, err := os.Stat(filepath.Join(dir, from, "kustomization.yaml")); !found || err != nil {
		t.Errorf("%q leads nowhere: %v", from, err)
	}
	var overlay struct {
		Patches []struct{ Patch string }
	}
	if err := yaml.Unmarshal(text, &overlay); err != nil {
		t.Fatal(err)
	}
	if len(overlay.Patches) != 2 {
		t.Fatalf("%d patches in\n%s", len(overlay.Patches), text)
	}
	for i, wants := range [][]string{{"remove"}, {`HOST, value: "fd77::2"`, `PORT, value: "6443"`}} {
		for _, want := range wants {
			if got := overlay.Patches[i].Patch; !strings.Contains(got, want) {
				t.Errorf("no %s in\n%s", want, got)
			}
		}
	}
}
