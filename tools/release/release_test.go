package main

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"sigs.k8s.io/yaml"
)

// root is the folder of the real sources.
const root = "../.."

// here is the platform of this machine, which compiles for it.
var here = platform{
	OS:   runtime.GOOS,
	Arch: runtime.GOARCH,
}

// sources writes sources whose programs are tiny and say their version, and all else is Berth's own.
func sources(t *testing.T, dir string) {
	t.Helper()
	for _, folder := range []string{"manifests", filepath.Join("internal", "version")} {
		if err := os.CopyFS(filepath.Join(dir, folder), os.DirFS(filepath.Join(root, folder))); err != nil {
			t.Fatal(err)
		}
	}
	const changelog = "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-02-03\n\n- It *works*.\n"
	const program = `package main

import "github.com/berth-lb/berth/internal/version"

func main() { println(version.String()) }
`
	files := map[string]string{
		"go.mod":                "module github.com/berth-lb/berth\n\ngo 1.26.0\n",
		"LICENSE":               "Do as you like.\n",
		"CHANGELOG.md":          changelog,
		"controller/main.go":    program,
		"speaker/main.go":       program,
		"kubectl-berth/main.go": program,
	}
	for name, text := range files {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// made builds a release of sources in a folder, and returns its files.
func made(t *testing.T, dir string, args ...string) map[string][]byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	args = append([]string{"-root", dir, "-out", out}, args...)
	if err := run(t.Context(), args, io.Discard); err != nil {
		t.Fatal(err)
	}
	all, err := filesIn(out)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, f := range all {
		files[f.Name] = f.Data
	}
	return files
}

// TestTwoFoldersGiveTheSameBytes: a release is the same wherever, whenever and by whomever it is built. That
// the real programs are the same too is shown by make release-check, which compiles them all anew.
func TestTwoFoldersGiveTheSameBytes(t *testing.T) {
	first := filepath.Join(t.TempDir(), "a")
	second := filepath.Join(t.TempDir(), "another folder", "with a longer path")
	sources(t, first)
	sources(t, second)
	args := []string{"-version", "v1.2.3", "-platforms", here.String()}
	a := made(t, first, args...)
	// What a user may have set does not matter either.
	for name, value := range map[string]string{
		"GOFLAGS":           "-ldflags=-w",
		"GOAMD64":           "v2",
		"CGO_ENABLED":       "1",
		"GOOS":              "plan9",
		"SOURCE_DATE_EPOCH": "1",
	} {
		t.Setenv(name, value)
	}
	b := made(t, second, args...)
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if !bytes.Equal(a[name], b[name]) {
			t.Errorf("%s differs", name)
		}
	}
	if len(a) != len(b) || len(a) < 10 {
		t.Errorf("there are %d and %d files", len(a), len(b))
	}
}

// TestReleaseIsWhole: every file of a release is what it says it is.
func TestReleaseIsWhole(t *testing.T) {
	dir := t.TempDir()
	sources(t, dir)
	files := made(t, dir, "-version", "v1.2.3", "-platforms", here.String())
	suffix := here.file()

	var names []string
	sums := string(files["checksums.txt"])
	for line := range strings.Lines(sums) {
		sum, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if got := sumOf(files[name]); files[name] == nil || got != sum {
			t.Errorf("%s has checksum %s, and checksums.txt says %s", name, got, sum)
		}
		names = append(names, name)
	}
	want := []string{
		"berth-1.2.3.tgz", "berth-krew.yaml", "berth-" + suffix + ".tar.gz",
		"controller-" + suffix + ".cdx.json", "controller.oci.tar", "images.txt", "install.yaml",
		"kubectl-berth-" + suffix + ".cdx.json", "kubectl-berth-" + suffix + ".tar.gz",
		"manifests.tar.gz", "release-notes.md",
		"speaker-" + suffix + ".cdx.json", "speaker.oci.tar",
	}
	slices.Sort(want)
	if !slices.Equal(names, want) || len(files) != len(names)+1 {
		t.Errorf("there are\n%q, want\n%q", names, want)
	}

	inArchive := contents(t, files["berth-"+suffix+".tar.gz"])
	if got := fmt.Sprint(slices.Sorted(maps.Keys(inArchive))); got != "[LICENSE controller speaker]" {
		t.Errorf("the archive of the programs has %s", got)
	}
	inPlugin := contents(t, files["kubectl-berth-"+suffix+".tar.gz"])
	if got := fmt.Sprint(slices.Sorted(maps.Keys(inPlugin))); got != "[LICENSE kubectl-berth]" {
		t.Errorf("the archive of the plugin has %s", got)
	}
	for name, data := range map[string][]byte{
		"controller": inArchive["controller"],
		"speaker":    inArchive["speaker"],
		"plugin":     inPlugin["kubectl-berth"],
	} {
		if got := says(t, data); got != "v1.2.3\n" {
			t.Errorf("the %s says %q", name, got)
		}
	}

	text := string(files["release-notes.md"])
	for _, part := range []string{
		"- It *works*.", "/download/v1.2.3/install.yaml", "--version 1.2.3", runtime.Version(),
	} {
		if !strings.Contains(text, part) {
			t.Errorf("the release notes lack %q:\n%s", part, text)
		}
	}
	for line := range strings.Lines(string(files["images.txt"])) {
		ref, digest, _ := strings.Cut(strings.TrimSpace(line), "@")
		if !strings.Contains(text, "| `"+ref+"` | `"+digest+"` |") {
			t.Errorf("the release notes do not give the digest of %s:\n%s", ref, text)
		}
	}
	if _, has := contents(t, files["berth-1.2.3.tgz"])["berth/Chart.yaml"]; !has {
		t.Error("the chart's archive has no berth/Chart.yaml")
	}
	if _, has := contents(t, files["manifests.tar.gz"])["manifests/base/kustomization.yaml"]; !has {
		t.Error("the archive of the manifests has no base")
	}
	krewInstalls(t, files)
}

// contents returns the files of a compressed tar.
func contents(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	unpacked, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for archive := tar.NewReader(unpacked); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if out[header.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
		at := header.ModTime.UTC().Format(time.DateOnly)
		if header.Uid != 0 || header.Uname != "" || at != "2026-02-03" {
			t.Errorf("%s is of %d (%s), at %v", header.Name, header.Uid, header.Uname, header.ModTime)
		}
	}
}

// says runs a program, which prints to its standard error.
func says(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	told, err := exec.CommandContext(t.Context(), path).CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	return string(told)
}

// krewInstalls checks what krew does: the version, the checksum of each archive, and the program in it.
func krewInstalls(t *testing.T, files map[string][]byte) {
	t.Helper()
	var manifest struct {
		Spec struct {
			Version   string `json:"version"`
			Platforms []struct {
				URI    string `json:"uri"`
				SHA256 string `json:"sha256"`
				Bin    string `json:"bin"`
			} `json:"platforms"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(files["berth-krew.yaml"], &manifest); err != nil {
		t.Fatal(err)
	}
	if manifest.Spec.Version != "v1.2.3" || len(manifest.Spec.Platforms) != 1 {
		t.Fatalf("the manifest for krew is\n%s", files["berth-krew.yaml"])
	}
	p := manifest.Spec.Platforms[0]
	archive, is := strings.CutPrefix(p.URI, "https://github.com/berth-lb/berth/releases/download/v1.2.3/")
	data := files[archive]
	if !is || data == nil || sumOf(data) != p.SHA256 || contents(t, data)[p.Bin] == nil {
		t.Errorf("krew would find %+v", p)
	}
}

// TestImagesAreIndexes: of each role there is an index with an image for each platform, under the name that
// the manifests use. The image has the program, and runs it as the Containerfile says.
func TestImagesAreIndexes(t *testing.T) {
	dir := t.TempDir()
	created := beginning
	for _, r := range roles {
		var programs []program
		for _, p := range nodes {
			path := filepath.Join(dir, p.file())
			if err := os.WriteFile(path, []byte(r.Name+" for "+p.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			programs = append(programs, program{
				platform: p,
				name:     r.Name,
				path:     path,
			})
		}
		spec := imageSpec{
			role:     r,
			ref:      plan{version: "v1.2.3"}.image(r),
			version:  "v1.2.3",
			created:  created,
			programs: programs,
		}
		archive, digest, err := imageArchive(spec)
		if err != nil {
			t.Fatal(err)
		}
		again, digestAgain, err := imageArchive(spec)
		if err != nil || !bytes.Equal(archive, again) || digest != digestAgain {
			t.Errorf("%s: another image comes of the same program (%v)", r.Name, err)
		}
		checkIndex(t, r, unpacked(t, archive), digest)
	}
}

// unpacked returns the folder of a tar.
func unpacked(t *testing.T, data []byte) string {
	t.Helper()
	dir := t.TempDir()
	for archive := tar.NewReader(bytes.NewReader(data)); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, filepath.FromSlash(header.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func checkIndex(t *testing.T, r role, dir, digest string) {
	t.Helper()
	outer, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	list, err := outer.IndexManifest()
	if err != nil || len(list.Manifests) != 1 {
		t.Fatalf("%s: the layout has %+v, %v", r.Name, list, err)
	}
	top := list.Manifests[0]
	if top.Digest.String() != digest || top.MediaType != types.OCIImageIndex ||
		top.Annotations["io.containerd.image.name"] != "ghcr.io/berth-lb/"+r.Name+":v1.2.3" ||
		top.Annotations["org.opencontainers.image.ref.name"] != "v1.2.3" {
		t.Errorf("%s: the layout names %+v, want %s", r.Name, top, digest)
	}
	index, err := outer.ImageIndex(top.Digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, m := range manifest.Manifests {
		platforms = append(platforms, m.Platform.String())
		img, err := index.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, r, img, m.Platform)
	}
	want := []string{"linux/amd64", "linux/arm64", "linux/arm/v7", "linux/ppc64le", "linux/s390x"}
	if !slices.Equal(platforms, want) {
		t.Errorf("%s is for %q, want %q", r.Name, platforms, want)
	}
}

func checkImage(t *testing.T, r role, img v1.Image, p *v1.Platform) {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Platform().String() != p.String() || config.Config.User != r.User ||
		!slices.Equal(config.Config.Entrypoint, []string{"/" + r.Name}) {
		t.Errorf("%s for %s has the configuration %+v", r.Name, p, config)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%s for %s has %d layers, %v", r.Name, p, len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewReader(content)
	header, err := archive.Next()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(archive)
	if err != nil {
		t.Fatal(err)
	}
	if header.Name != r.Name || header.Mode != 0o755 || string(data) != r.Name+" for "+p.String() {
		t.Errorf("%s for %s has %s, mode %o: %q", r.Name, p, header.Name, header.Mode, data)
	}
	if _, err := archive.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("%s for %s has more than its program (%v)", r.Name, p, err)
	}
}

// TestRolesAreThoseOfTheContainerfile: who builds with a container engine gets images that run the same way.
func TestRolesAreThoseOfTheContainerfile(t *testing.T) {
	text := read(t, "Containerfile")
	for _, r := range roles {
		_, stage, has := strings.Cut(text, "FROM scratch AS "+r.Name+"\n")
		stage, _, _ = strings.Cut(stage, "\nFROM ")
		if !has || !strings.Contains(stage, "\nUSER "+r.User+"\n") ||
			!strings.Contains(stage, `ENTRYPOINT ["/`+r.Name+`"]`) {
			t.Errorf("%s: the Containerfile has\n%s", r.Name, stage)
		}
	}
}

// TestFlagsAreThoseOfTheMakefile: what is released is built as what is tested.
func TestFlagsAreThoseOfTheMakefile(t *testing.T) {
	static := regexp.MustCompile(`(?m)^STATIC .*$`).FindString(read(t, "Makefile"))
	flags := (&compiler{version: "$(VERSION)"}).flags()
	for _, flag := range flags {
		if !strings.Contains(static, flag) && flag != "-buildvcs=false" {
			t.Errorf("STATIC of the Makefile has no %q: %s", flag, static)
		}
	}
	if !strings.HasPrefix(static, "STATIC  := CGO_ENABLED=0 go build ") {
		t.Errorf("STATIC is %s", static)
	}
}

// TestMakefileCrossesToUsers: make cross builds the plugin for the platforms of a release.
func TestMakefileCrossesToUsers(t *testing.T) {
	loop := regexp.MustCompile(`for system in ([a-z0-9 ]+); do for arch in ([a-z0-9 ]+);`)
	m := loop.FindStringSubmatch(read(t, "Makefile"))
	if m == nil {
		t.Fatal("make cross has no loop over systems and processors")
	}
	var got []platform
	for _, system := range strings.Fields(m[1]) {
		for _, arch := range strings.Fields(m[2]) {
			got = append(got, platform{
				OS:   system,
				Arch: arch,
			})
		}
	}
	if !slices.Equal(got, users) {
		t.Errorf("make cross builds for %v, a release for %v", got, users)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestZip: the archives for Windows are as reproducible, and keep that a program is one.
func TestZip(t *testing.T) {
	data, err := zipOf([]file{{
		Name: "kubectl-berth.exe",
		Mode: 0o755,
		Data: []byte("MZ"),
	}}, beginning)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	f := archive.File[0]
	if f.Name != "kubectl-berth.exe" || f.Mode().Perm() != 0o755 || !f.Modified.Equal(beginning) {
		t.Errorf("the zip has %+v", f.FileHeader)
	}
	again, err := zipOf([]file{{
		Name: "kubectl-berth.exe",
		Mode: 0o755,
		Data: []byte("MZ"),
	}}, beginning)
	if err != nil || !bytes.Equal(data, again) {
		t.Errorf("another zip comes of the same file (%v)", err)
	}
}

// TestRefusals: a release that nobody could trust is not built, and nothing is deleted that is no release.
func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	sources(t, dir)
	ofSomebody := t.TempDir()
	if err := os.WriteFile(filepath.Join(ofSomebody, "thesis.txt"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		story string
		args  []string
		says  string
	}{
		{"no version", []string{"-out", "x"}, `version "": want one like v1.2.3`},
		{"a version without v", []string{"-out", "x", "-version", "1.2.3"}, `version "1.2.3": want one like`},
		{"half a version", []string{"-out", "x", "-version", "v1.2"}, "want all three numbers"},
		{"what no tag can have", []string{"-out", "x", "-version", "v1.2.3+4"}, "nothing after a plus"},
		{"an unknown platform", []string{"-out", "x", "-version", "v1.2.3", "-platforms", "linux/mips"},
			`platform "linux/mips": want some of [linux/amd64`},
		{"nowhere to write", []string{"-version", "v1.2.3"}, "usage:"},
		{"a folder of somebody", []string{"-out", ofSomebody, "-version", "v1.2.3"}, "it is not a release"},
	} {
		t.Run(test.story, func(t *testing.T) {
			args := append([]string{"-root", dir}, test.args...)
			err := run(t.Context(), args, io.Discard)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want an error with %q", err, test.says)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(ofSomebody, "thesis.txt")); err != nil {
		t.Error(err)
	}
}

// TestWhatIsPublishable: only the sources of the tag, with a dated section in the changelog, on all
// platforms.
func TestWhatIsPublishable(t *testing.T) {
	dir := t.TempDir()
	sources(t, dir)
	git := func(args ...string) {
		t.Helper()
		who := []string{"-c", "user.name=a", "-c", "user.email=a@b"}
		cmd := exec.CommandContext(t.Context(), "git", append(who, args...)...)
		cmd.Dir = dir
		if told, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, told)
		}
	}
	git("init", "--quiet")
	git("add", ".")
	git("commit", "--quiet", "-m", "all")
	git("tag", "v1.2.3")
	git("tag", "v1.3.0")
	git("tag", "v1.3.0-rc.1")

	check := func(version, only string) string {
		t.Helper()
		p, err := newPlan(version, only)
		if err != nil {
			t.Fatal(err)
		}
		e, err := entryOf(string(must(os.ReadFile(filepath.Join(dir, "CHANGELOG.md")))), version)
		if err != nil {
			t.Fatal(err)
		}
		err = publishable(context.Background(), job{
			plan: p,
			root: dir,
		}, e)
		return fmt.Sprint(err)
	}
	for _, test := range []struct{ story, version, only, want string }{
		{"a tagged version", "v1.2.3", "", "<nil>"},
		{"a candidate needs no section", "v1.3.0-rc.1", "", "<nil>"},
		{"a version without a section", "v1.3.0", "", "CHANGELOG.md has no section 1.3.0 with a date"},
		{"without a tag", "v1.2.4-rc.1", "", "the commit has no tag v1.2.4-rc.1"},
		{"for one platform", "v1.2.3", "linux/amd64", "platforms are left out"},
	} {
		if got := check(test.version, test.only); got != test.want {
			t.Errorf("%s: got %s, want %s", test.story, got, test.want)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := check("v1.2.3", ""); !strings.Contains(got, "not committed:\n?? new") {
		t.Errorf("with a new file: got %s", got)
	}
}

// must returns what was read.
func must(data []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return data
}

// TestStaticIsChecked: a program that needs a loader is not released, nor one for another processor.
func TestStaticIsChecked(t *testing.T) {
	shell, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("there is no bash, which needs libraries")
	}
	if err := checkStatic(shell, here); err == nil || !strings.Contains(err.Error(), "not static") {
		t.Errorf("bash: got %v", err)
	}
	err = checkStatic(shell, platform{OS: "linux", Arch: "s390x"})
	if err == nil || !strings.Contains(err.Error(), "it is for") {
		t.Errorf("bash on s390x: got %v", err)
	}
}

// lines returns the lines of a text.
func lines(text string) []string {
	var out []string
	for in := bufio.NewScanner(strings.NewReader(text)); in.Scan(); {
		out = append(out, in.Text())
	}
	return out
}
