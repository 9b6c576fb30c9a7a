package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
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
