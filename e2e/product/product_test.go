package product

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOverlay: what is applied where nodes forward nothing is the manifests, found from where the overlay is,
// and the API server's address.
func TestOverlay(t *testing.T) {
	dir, base := t.TempDir(), filepath.Join("..", "..", "manifests", "base")
	base, err := filepath.Abs(base)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeOverlay(dir, base, netip.MustParseAddrPort("[fd77::2]:6443")); err != nil {
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
	for _, want := range []string{`HOST, value: "fd77::2"`, `PORT, value: "6443"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}
