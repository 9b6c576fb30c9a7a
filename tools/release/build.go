package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/berth-lb/berth/tools/install/packaged"
)

// A job is a release to build.
type job struct {
	plan     plan
	root     string // folder of the sources
	out      string // folder for the release
	final    bool   // it is to be published
	progress io.Writer
}

// Names of files of a release that others refer to.
const (
	checksums = "checksums.txt"
	imageList = "images.txt"
	notesFile = "release-notes.md"
)

// beginning is the time of files in a release without a date. A zip cannot have an earlier one.
var beginning = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// build makes the release, whole or not at all.
func build(ctx context.Context, j job) error {
	if err := replaceable(j.out); err != nil {
		return err
	}
	changelog, err := os.ReadFile(filepath.Join(j.root, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	e, err := entryOf(string(changelog), j.plan.version)
	if err != nil {
		return err
	}
	if j.final {
		if err := publishable(ctx, j, e); err != nil {
			return err
		}
	}
	c, err := newCompiler(ctx, j.root, j.plan.version)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "berth-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work) //nolint:errcheck // it is in the folder for such files

	r := release{
		job:      j,
		entry:    e,
		at:       e.Date,
		compiler: c,
		work:     work,
		files:    map[string][]byte{},
	}
	if r.at.IsZero() {
		r.at = beginning
	}
	for _, part := range []func(context.Context) error{r.cluster, r.plugin, r.manifests, r.notes} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	r.files[checksums] = []byte(sumsOf(r.files))
	return r.write()
}

// replaceable returns an error if the folder is there and no release: nothing else is deleted.
func replaceable(out string) error {
	entries, err := os.ReadDir(out)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(out, checksums)); err != nil {
		return fmt.Errorf("%s has files, but no %s: it is not a release, and stays as it is", out, checksums)
	}
	return nil
}

// publishable returns an error if others could not build the same from the tag.
func publishable(ctx context.Context, j job, e entry) error {
	var problems []error
	if e.Date.IsZero() && !j.plan.prerelease() {
		problems = append(problems, fmt.Errorf("CHANGELOG.md has no section %s with a date",
			strings.TrimPrefix(j.plan.version, "v")))
	}
	if j.plan.partial {
		problems = append(problems, errors.New("platforms are left out"))
	}
	git := func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Dir = j.root
		told, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("git %s: %w", args[0], err)
		}
		return strings.TrimSpace(string(told)), nil
	}
	changed, err := git("status", "--porcelain")
	if err != nil {
		return err
	}
	if changed != "" {
		problems = append(problems,
			fmt.Errorf("the sources have changes that are not committed:\n%s", changed))
	}
	tags, err := git("tag", "--points-at", "HEAD")
	if err != nil {
		return err
	}
	if !slices.Contains(strings.Fields(tags), j.plan.version) {
		problems = append(problems, fmt.Errorf("the commit has no tag %s", j.plan.version))
	}
	return errors.Join(problems...)
}

// A release is one that is being built.
type release struct {
	job
	entry    entry
	at       time.Time // of all files
	compiler *compiler
	work     string            // folder for programs
	files    map[string][]byte // what is built, by name
	digests  map[string]string // of the images, by role
}

// say tells what is done next.
func (r *release) say(format string, args ...any) {
	_, _ = fmt.Fprintf(r.progress, format+"\n", args...) // who does not listen is not told
}

// program compiles one program, and adds its bill of materials.
func (r *release) program(ctx context.Context, name string, p platform) (program, error) {
	r.say("%s for %s", name, p)
	built, err := r.compiler.compile(ctx, name, p, r.work)
	if err != nil {
		return program{}, err
	}
	r.files[name+"-"+p.file()+".cdx.json"], err = billOf(built, r.plan.version, r.at)
	return built, err
}

// cluster adds what runs in the cluster: archives of the programs, and their images.
func (r *release) cluster(ctx context.Context) error {
	byRole := map[string][]program{}
	for _, p := range r.plan.nodes {
		var both []program
		for _, role := range roles {
			built, err := r.program(ctx, role.Name, p)
			if err != nil {
				return err
			}
			byRole[role.Name] = append(byRole[role.Name], built)
			both = append(both, built)
		}
		if err := r.archive("berth-"+p.file()+".tar.gz", both, tarGzOf); err != nil {
			return err
		}
	}
	r.digests = map[string]string{}
	if len(r.plan.nodes) == 0 {
		return nil
	}
	var list strings.Builder
	for _, role := range roles {
		ref := r.plan.image(role)
		r.say("image %s", ref)
		archive, digest, err := imageArchive(imageSpec{
			role:     role,
			ref:      ref,
			version:  r.plan.version,
			created:  r.at,
			programs: byRole[role.Name],
		})
		if err != nil {
			return fmt.Errorf("image %s: %w", ref, err)
		}
		r.files[role.Name+".oci.tar"] = archive
		r.digests[role.Name] = digest
		fmt.Fprintf(&list, "%s@%s\n", ref, digest)
	}
	r.files[imageList] = []byte(list.String())
	return nil
}

// plugin adds the archives of kubectl-berth, and the manifest with which krew installs them.
func (r *release) plugin(ctx context.Context) error {
	sums := map[string]string{}
	for _, p := range r.plan.users {
		built, err := r.program(ctx, plugin, p)
		if err != nil {
			return err
		}
		name, pack := plugin+"-"+p.file()+".tar.gz", packer(tarGzOf)
		if p.OS == "windows" {
			name, pack = plugin+"-"+p.file()+".zip", zipOf
		}
		if err := r.archive(name, []program{built}, pack); err != nil {
			return err
		}
		sums[name] = sumOf(r.files[name])
	}
	template, err := os.ReadFile(filepath.Join(r.root, "manifests", "krew", "berth.yaml"))
	if err != nil {
		return err
	}
	manifest, err := krewManifest(string(template), r.plan.version, sums)
	if err != nil {
		return err
	}
	r.files["berth-krew.yaml"] = []byte(manifest)
	return nil
}

// A packer makes an archive of files, all with one time.
type packer func(files []file, at time.Time) ([]byte, error)

// archive adds an archive of programs with the license.
func (r *release) archive(name string, programs []program, pack packer) error {
	license, err := os.ReadFile(filepath.Join(r.root, "LICENSE"))
	if err != nil {
		return err
	}
	files := []file{{
		Name: "LICENSE",
		Mode: 0o644,
		Data: license,
	}}
	for _, p := range programs {
		data, err := os.ReadFile(p.path)
		if err != nil {
			return err
		}
		files = append(files, file{
			Name: filepath.Base(p.path),
			Mode: 0o755,
			Data: data,
		})
	}
	r.files[name], err = pack(files, r.at)
	return err
}

// manifests adds what is applied and installed.
func (r *release) manifests(context.Context) error {
	r.say("manifests and chart")
	folder := filepath.Join(r.root, "manifests")
	install, err := packaged.Install(folder, r.plan.version)
	if err != nil {
		return err
	}
	r.files["install.yaml"] = install
	chart, err := packaged.Chart(folder, r.plan.version)
	if err != nil {
		return err
	}
	kustomizations, err := packaged.Kustomizations(folder, r.plan.version)
	if err != nil {
		return err
	}
	for name, files := range map[string][]packaged.File{
		"berth-" + packaged.ChartVersion(r.plan.version) + ".tgz": chart,
		"manifests.tar.gz": kustomizations,
	} {
		var all []file
		for _, f := range files {
			all = append(all, file{
				Name: f.Path,
				Mode: 0o644,
				Data: f.Text,
			})
		}
		if r.files[name], err = tarGzOf(all, r.at); err != nil {
			return err
		}
	}
	return nil
}

// notes adds the release notes.
func (r *release) notes(context.Context) error {
	r.files[notesFile] = []byte(notes(r.plan, r.entry, r.compiler.Go, r.digests))
	return nil
}

// sumsOf returns the checksums of files, as sha256sum prints and checks them.
func sumsOf(files map[string][]byte) string {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&out, "%s  %s\n", sumOf(files[name]), name)
	}
	return out.String()
}

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// write puts all files into the folder in place of what was there.
func (r *release) write() error {
	out, err := filepath.Abs(r.out)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	part, err := os.MkdirTemp(filepath.Dir(out), "."+filepath.Base(out)+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(part) //nolint:errcheck // fails once the folder has its final name
	if err := os.Chmod(part, 0o755); err != nil {
		return err
	}
	for name, data := range r.files {
		if err := os.WriteFile(filepath.Join(part, name), data, 0o644); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.Rename(part, out); err != nil {
		return err
	}
	r.say("%d files in %s; what they should be: %s", len(r.files), r.out, checksums)
	return nil
}
