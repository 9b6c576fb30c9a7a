package lab

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestCacheKeyFollowsTheSources(t *testing.T) {
	dir := t.TempDir()
	key := func(name, content string) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		k, err := cacheKey(dir)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first := key("main.go", "package main")
	if again := key("main.go", "package main"); again != first {
		t.Error("the same sources have two keys")
	}
	if with := key("main_test.go", "package main"); with != first {
		t.Error("a test changes the key")
	}
	if changed := key("main.go", "package main // changed"); changed == first {
		t.Error("a change of the sources keeps the key")
	}
}

func TestCachedBuildsOnce(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	builds := 0
	build := func(target string) error {
		builds++
		return os.WriteFile(target, []byte("thing"), 0o644)
	}
	for range 2 {
		file, err := cached(context.Background(), newProgress(nil), "thing", build)
		if err != nil {
			t.Fatal(err)
		}
		if content, err := os.ReadFile(file); err != nil || string(content) != "thing" {
			t.Errorf("%s holds %q, %v", file, content, err)
		}
	}
	if builds != 1 {
		t.Errorf("built %d times", builds)
	}
}

func TestFailedBuildIsNotCached(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	broken := errors.New("broken")
	for range 2 {
		_, err := cached(context.Background(), newProgress(nil), "thing", func(target string) error {
			if err := os.WriteFile(target, []byte("half a thing"), 0o644); err != nil {
				t.Error(err)
			}
			return broken
		})
		if !errors.Is(err, broken) {
			t.Errorf("error %v", err)
		}
	}
}

func TestKubernetesVersionIsTheModules(t *testing.T) {
	for _, module := range []string{"kube", "kubetest"} {
		mod, err := os.ReadFile("../" + module + "/go.mod")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(mod), "\tk8s.io/kubernetes "+KubernetesVersion+"\n") {
			t.Errorf("e2e/%s/go.mod does not require k8s.io/kubernetes %s", module, KubernetesVersion)
		}
	}
}

func TestTraefikVersionIsTheModules(t *testing.T) {
	mod, err := os.ReadFile("../ingress/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(mod), "github.com/traefik/traefik/v3 "+TraefikVersion+" ") {
		t.Errorf("e2e/ingress/go.mod does not require github.com/traefik/traefik/v3 %s", TraefikVersion)
	}
}

func TestHelmVersionIsTheModules(t *testing.T) {
	mod, err := os.ReadFile("../helm/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(mod), "helm.sh/helm/v4 "+HelmVersion+" ") {
		t.Errorf("e2e/helm/go.mod does not require helm.sh/helm/v4 %s", HelmVersion)
	}
}

// TestOneGatewayAPI: the conformance suite is that of the Gateway API which Traefik has.
func TestOneGatewayAPI(t *testing.T) {
	version := regexp.MustCompile(`\tsigs\.k8s\.io/gateway-api(?:/conformance)? (v\S+)`)
	found := map[string]bool{}
	for _, module := range []string{"ingress", "conformance"} {
		mod, err := os.ReadFile("../" + module + "/go.mod")
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range version.FindAllStringSubmatch(string(mod), -1) {
			found[match[1]] = true
		}
	}
	if len(found) != 1 {
		t.Errorf("versions of Gateway API: %v, want one", slices.Sorted(maps.Keys(found)))
	}
}

func TestFoldersBelow(t *testing.T) {
	root := t.TempDir()
	for _, folder := range []string{"b/inner", "a"} {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "a", "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := foldersBelow(root)
	want := []string{root, filepath.Join(root, "a"), filepath.Join(root, "b"), filepath.Join(root, "b/inner")}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("folders %q, %v, want %q", got, err, want)
	}
	if _, err := foldersBelow(filepath.Join(root, "none")); err == nil {
		t.Error("a folder that is not there has folders")
	}
}

// TestCompile builds a small program as the large ones are built, and one that does not compile.
func TestCompile(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":  "module example\n\ngo 1.26.0\n",
		"main.go": "package main\n\nvar word = \"none\"\n\nfunc main() { println(word) }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var told strings.Builder
	progress := newProgress(&told)
	c := compilation{
		name:        "a word",
		sources:     dir,
		mainPackage: ".",
		packages:    1,
		variables:   []string{"main.word=given"},
	}
	binary := filepath.Join(dir, "word")
	if err := compile(t.Context(), progress, c, binary); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), binary).CombinedOutput(); string(out) != "given\n" {
		t.Errorf("the program says %q, %v", out, err)
	}
	for _, want := range []string{"building a word: ", "a word built\n"} {
		if !strings.Contains(told.String(), want) {
			t.Errorf("told %q, want %q", told.String(), want)
		}
	}
	c.mainPackage = "./none"
	err := compile(t.Context(), progress, c, binary)
	for _, want := range []string{"build a word: ", "none"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a package that is not there: %v, want %q in it", err, want)
		}
	}
}

func TestMissingErrorNamesThePackage(t *testing.T) {
	r := Requirement{Package: "nonesuch", Programs: []string{"no-such-program", "sh"}, Purpose: "nothing"}
	text := (&MissingError{[]Requirement{r}}).Error()
	if !strings.Contains(text, "no-such-program (nothing): in the Debian package nonesuch") ||
		!strings.Contains(text, "apt-get install nonesuch") || strings.Contains(text, "sh,") {
		t.Error(text)
	}
}

func TestImageFileNames(t *testing.T) {
	const ref = "lab.test/group/my_web:1"
	if file := imageFile(ref); strings.Contains(file, "/") || imageRef("/some/dir/"+file) != ref {
		t.Errorf("%s is kept as %s, read back as %s", ref, file, imageRef(file))
	}
}
