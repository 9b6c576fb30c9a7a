package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// An imageSpec says what the image of a role is, on all its platforms.
type imageSpec struct {
	role    role
	ref     string // with the tag
	version string
	created time.Time
	// programs are the paths of the program, by platform, in the order of the index.
	programs []program
}

// A program is a built binary.
type program struct {
	platform platform
	name     string
	path     string
}

// imageArchive returns an OCI layout as a tar, with an index of the images of all platforms, and the digest
// of that index: it is what a registry calls the image.
func imageArchive(spec imageSpec) (archive []byte, digest string, err error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	annotations := annotationsOf(spec)
	for _, p := range spec.programs {
		img, err := imageFor(spec, p)
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", p.platform, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: img,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{
				OS:           p.platform.OS,
				Architecture: p.platform.Arch,
				Variant:      p.platform.Variant,
			}},
		})
	}
	annotated, ok := mutate.Annotations(index, annotations).(v1.ImageIndex)
	if !ok {
		return nil, "", fmt.Errorf("annotations make no index of an index")
	}
	hash, err := annotated.Digest()
	if err != nil {
		return nil, "", err
	}
	archive, err = layoutOf(annotated, spec)
	return archive, hash.String(), err
}

// annotationsOf returns what a registry shows of an image.
func annotationsOf(spec imageSpec) map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":         "berth-" + spec.role.Name,
		"org.opencontainers.image.description":   spec.role.Title,
		"org.opencontainers.image.version":       spec.version,
		"org.opencontainers.image.created":       spec.created.Format(time.RFC3339),
		"org.opencontainers.image.source":        repository,
		"org.opencontainers.image.documentation": repository + "/tree/" + spec.version + "/docs",
		"org.opencontainers.image.licenses":      "Apache-2.0",
	}
}

// imageFor returns the image of one platform: the program on an empty root, and nothing else.
func imageFor(spec imageSpec, p program) (v1.Image, error) {
	data, err := os.ReadFile(p.path)
	if err != nil {
		return nil, err
	}
	content, err := tarOf([]file{{
		Name: spec.role.Name,
		Mode: 0o755,
		Data: data,
	}}, spec.created)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
	if err != nil {
		return nil, err
	}
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	img, err = mutate.Append(img, mutate.Addendum{
		Layer: layer,
		History: v1.History{
			Created:   v1.Time{Time: spec.created},
			CreatedBy: "make release",
			Comment:   "/" + spec.role.Name,
		},
	})
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = p.platform.OS, p.platform.Arch, p.platform.Variant
	config.Created = v1.Time{Time: spec.created}
	config.Config = v1.Config{
		Entrypoint: []string{"/" + spec.role.Name},
		User:       spec.role.User,
		WorkingDir: "/",
		Labels:     annotationsOf(spec),
	}
	return mutate.ConfigFile(img, config)
}

// layoutOf returns the tar of an OCI layout with the index. Both containerd and skopeo find its name.
func layoutOf(index v1.ImageIndex, spec imageSpec) ([]byte, error) {
	dir, err := os.MkdirTemp("", "berth-image-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it is in the folder for such files
	made, err := layout.Write(dir, empty.Index)
	if err != nil {
		return nil, err
	}
	if err := made.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": spec.version,
		"io.containerd.image.name":          spec.ref,
	})); err != nil {
		return nil, err
	}
	files, err := filesIn(dir)
	if err != nil {
		return nil, err
	}
	return tarOf(files, spec.created)
}

// filesIn returns all files of a folder, in the order of their paths.
func filesIn(dir string) ([]file, error) {
	var out []file
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(dir, name)
		out = append(out, file{
			Name: filepath.ToSlash(inside),
			Mode: 0o644,
			Data: data,
		})
		return err
	})
	return out, err
}
