// Package image builds container images from files, without a container engine and without a registry.
//
// An image has one layer on an empty root, so it holds what Spec names and nothing else: no shell, no libc.
// The programs in it must be static. The same Spec and file contents give the same bytes, whatever the clock,
// the user or the umask say.
package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// A Spec says what an image holds.
type Spec struct {
	// Ref is the name under which a node finds the image, with its tag: "lab.test/web:1".
	Ref string
	// Files are put into the image; their parent directories are made with mode 0755.
	Files []File
	// Entrypoint is the command of a container; the first element is a path in the image.
	Entrypoint []string
	// User is the numeric user, or user:group, that runs it. Empty means root.
	User string
}

// A File is a regular file of an image.
type File struct {
	// Source is the file's path on this machine.
	Source string
	// Path is the absolute path in the image.
	Path string
	// Mode holds the permission bits; zero means 0755, which suits a program.
	Mode os.FileMode
}

// Build writes the image to the file out as a docker-archive, which `ctr images import` and `docker load`
// read. The file appears whole or not at all.
func Build(spec Spec, out string) error {
	tag, err := name.NewTag(spec.Ref, name.StrictValidation)
	if err != nil {
		return fmt.Errorf("image reference: %w", err)
	}
	img, err := assemble(spec)
	if err != nil {
		return fmt.Errorf("image %s: %w", spec.Ref, err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(out), "."+filepath.Base(out)+"-*")
	if err != nil {
		return fmt.Errorf("image %s: %w", spec.Ref, err)
	}
	defer os.Remove(temporary.Name()) //nolint:errcheck // fails once the file has its final name
	err = errors.Join(
		tarball.Write(tag, img, temporary),
		temporary.Chmod(0o644),
		temporary.Close(),
	)
	if err == nil {
		err = os.Rename(temporary.Name(), out)
	}
	if err != nil {
		return fmt.Errorf("image %s: write %s: %w", spec.Ref, out, err)
	}
	return nil
}

// Refs returns the references of the images in a docker-archive, in the archive's order. It is an error if
// there is none.
func Refs(archive string) ([]string, error) {
	manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(archive) })
	if err != nil {
		return nil, fmt.Errorf("%s is not an image saved as a docker-archive: %w", archive, err)
	}
	var refs []string
	for _, m := range manifest {
		refs = append(refs, m.RepoTags...)
	}
	if len(refs) == 0 {
		return nil, fmt.Errorf("%s holds no image with a reference", archive)
	}
	return refs, nil
}

func assemble(spec Spec) (v1.Image, error) {
	content, err := layer(spec.Files)
	if err != nil {
		return nil, err
	}
	opener := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	// Images stay on one machine: time is worth more than size.
	packed, err := tarball.LayerFromOpener(opener, tarball.WithCompressionLevel(gzip.BestSpeed))
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, packed)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config.Entrypoint = spec.Entrypoint
	config.Config.User = spec.User
	config.Config.WorkingDir = "/"
	return mutate.ConfigFile(img, config)
}

// layer returns an uncompressed tar of the files and their parent directories, sorted by path.
func layer(files []File) ([]byte, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	var content bytes.Buffer
	archive := tar.NewWriter(&content)
	made := map[string]bool{"/": true}
	for _, f := range files {
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || made[f.Path] {
			return nil, fmt.Errorf("path %q: want each path once, absolute and clean", f.Path)
		}
		if err := addParents(archive, made, f.Path); err != nil {
			return nil, err
		}
		made[f.Path] = true
		if err := addFile(archive, f); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	return content.Bytes(), nil
}

func addParents(archive *tar.Writer, made map[string]bool, file string) error {
	var missing []string
	for dir := path.Dir(file); !made[dir]; dir = path.Dir(dir) {
		made[dir] = true
		missing = append(missing, dir)
	}
	for _, dir := range slices.Backward(missing) {
		header := &tar.Header{
			Typeflag: tar.TypeDir,
			Name:     dir[1:] + "/",
			Mode:     0o755,
			ModTime:  time.Unix(0, 0),
		}
		if err := archive.WriteHeader(header); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	return nil
}

func addFile(archive *tar.Writer, f File) error {
	data, err := os.ReadFile(f.Source)
	if err != nil {
		return err
	}
	mode := f.Mode.Perm()
	if mode == 0 {
		mode = 0o755
	}
	header := &tar.Header{
		Typeflag: tar.TypeReg,
		Name:     f.Path[1:],
		Size:     int64(len(data)),
		Mode:     int64(mode),
		ModTime:  time.Unix(0, 0),
	}
	if err := archive.WriteHeader(header); err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	if _, err := archive.Write(data); err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	return nil
}
