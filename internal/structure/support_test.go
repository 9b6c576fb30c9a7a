package structure

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSupportIsWhatTheLabHas: docs/release.md gives the versions that the lab is built with, and names tests
// that exist.
func TestSupportIsWhatTheLabHas(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "release.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	for _, pin := range []struct{ module, folder string }{
		{"k8s.io/kubernetes", "kube"},
		{"go.etcd.io/etcd/server/v3", "kube"},
		{"helm.sh/helm/v4", "helm"},
		{"github.com/traefik/traefik/v3", "ingress"},
		{"sigs.k8s.io/gateway-api/conformance", "conformance"},
	} {
		mod, err := os.ReadFile(filepath.Join(root, "e2e", pin.folder, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(regexp.QuoteMeta(pin.module) + ` (v\S+)`).FindStringSubmatch(string(mod))
		if m == nil {
			t.Errorf("e2e/%s does not require %s", pin.folder, pin.module)
		} else if !strings.Contains(page, m[1]) {
			t.Errorf("docs/release.md does not name %s %s: run hack/support-matrix", pin.module, m[1])
		}
	}
	known := testNames(t)
	named := regexp.MustCompile("`(Test[A-Z]\\w+)`").FindAllStringSubmatch(page, -1)
	if len(named) < 10 {
		t.Errorf("only %d tests are named", len(named))
	}
	for _, m := range named {
		if !known[m[1]] {
			t.Errorf("docs/release.md names %s, which does not exist", m[1])
		}
	}
}
