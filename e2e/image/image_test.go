package image_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/berth-lb/berth/e2e/image"
)

// write makes a file of this machine with a modification time of its own.
func write(t *testing.T, content string, modified time.Time) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, modified, modified); err != nil {
		t.Fatal(err)
	}
	return file
}

func spec(program, data string) image.Spec {
	return image.Spec{
		Ref: "lab.test/thing:1",
		Files: []image.File{
			{Source: program, Path: "/bin/thing"},
			{Source: data, Path: "/etc/thing/data", Mode: 0o644},
		},
		Entrypoint: []string{"/bin/thing", "--now"},
		User:       "65532:65532",
	}
}

func build(t *testing.T, s image.Spec) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "image.tar")
	if err := image.Build(s, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSameInputGivesSameBytes(t *testing.T) {
	old, recent := time.Unix(1_000_000_000, 0), time.Now()
	first := spec(write(t, "program", old), write(t, "data", old))
	second := spec(write(t, "program", recent), write(t, "data", recent))
	slices.Reverse(second.Files) // order does not matter either
	a, err := os.ReadFile(build(t, first))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(build(t, second))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("two builds from the same contents differ")
	}
}

func TestImageHoldsWhatTheSpecSays(t *testing.T) {
	now := time.Now()
	out := build(t, spec(write(t, "program", now), write(t, "data", now)))
	refs, err := image.Refs(out)
	if err != nil || !slices.Equal(refs, []string{"lab.test/thing:1"}) {
		t.Errorf("Refs = %v, %v", refs, err)
	}
	img, err := tarball.ImageFromPath(out, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(config.Config.Entrypoint, " "); got != "/bin/thing --now" {
		t.Errorf("entrypoint %q", got)
	}
	if config.Config.User != "65532:65532" || config.OS != "linux" {
		t.Errorf("user %q, os %q", config.Config.User, config.OS)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	want := []string{
		"bin/ 755 ", "bin/thing 755 program",
		"etc/ 755 ", "etc/thing/ 755 ", "etc/thing/data 644 data",
	}
	if got := entries(t, content); !slices.Equal(got, want) {
		t.Errorf("layer holds\n%q, want\n%q", got, want)
	}
}

// entries lists a tar as "name mode content".
func entries(t *testing.T, content io.Reader) []string {
	t.Helper()
	var list []string
	archive := tar.NewReader(content)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(header.Mode)
		list = append(list, strings.Join([]string{header.Name, octal(mode), string(data)}, " "))
	}
}

func octal(mode os.FileMode) string {
	digits := []byte{'0' + byte(mode>>6&7), '0' + byte(mode>>3&7), '0' + byte(mode&7)}
	return string(digits)
}

func TestBuildRefuses(t *testing.T) {
	file := write(t, "x", time.Now())
	for name, s := range map[string]image.Spec{
		"a reference without tag": {Ref: "lab.test/thing"},
		"a relative path": {
			Ref:   "lab.test/thing:1",
			Files: []image.File{{Source: file, Path: "bin/thing"}},
		},
		"a path twice": {Ref: "lab.test/thing:1", Files: []image.File{
			{Source: file, Path: "/thing"}, {Source: file, Path: "/thing"},
		}},
		"a file that is not there": {
			Ref:   "lab.test/thing:1",
			Files: []image.File{{Source: file + "-no", Path: "/thing"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "image.tar")
			if err := image.Build(s, out); err == nil {
				t.Error("no error")
			}
			if left, _ := filepath.Glob(filepath.Join(filepath.Dir(out), "*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestRefsOfSomethingElse(t *testing.T) {
	if _, err := image.Refs(write(t, "not a tar", time.Now())); err == nil {
		t.Error("no error")
	}
}
