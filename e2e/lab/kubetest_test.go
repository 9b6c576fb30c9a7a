package lab

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestLibrariesOf(t *testing.T) {
	got := librariesOf("\tlinux-vdso.so.1 (0x00007f66)\n" +
		"\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f66)\n" +
		"\t/lib64/ld-linux-x86-64.so.2 (0x00007f66)\n" +
		"\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f66)\n")
	want := []string{"/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestWithLibraries: a shell comes with what it needs to be started, and every file is there.
func TestWithLibraries(t *testing.T) {
	files, err := withLibraries(t.Context(), map[string]string{"/bin/sh": "sh", "/bin/cat": "cat"})
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, f := range files {
		if info, err := os.Stat(f.Source); err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s is taken from %s: %v", f.Path, f.Source, err)
		}
		paths = append(paths, filepath.Base(f.Path))
	}
	all := strings.Join(paths, " ")
	if !strings.HasPrefix(all, "cat sh ") || !strings.Contains(all, "libc.so") ||
		!strings.Contains(all, "ld-") {
		t.Errorf("got %s", all)
	}
}

// TestMissingTools: the error names the package of what is not there.
func TestMissingTools(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	wanted := map[string]string{"/bin/nc": "nc", "/bin/x": "no-such-program"}
	missing := missingTools(wanted)
	_, there := findTool("nc")
	if want := there != nil; (len(missing) == 1 && missing[0].Package == "netcat-openbsd") != want {
		t.Errorf("missing %v, nc: %v", missing, there)
	}
	_, err := withLibraries(t.Context(), wanted)
	if kind := (*MissingError)(nil); errors.As(err, &kind) != (there != nil) || err == nil {
		t.Errorf("error %v", err)
	}
}
