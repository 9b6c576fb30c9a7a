package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/berth-lb/berth/e2e/image"
)

const (
	// TraefikVersion is that of github.com/traefik/traefik/v3 in e2e/ingress/go.mod.
	TraefikVersion = "v3.7.12"

	// TraefikImage is the ingress controller, which runs as user 65532. No node has it before it is loaded,
	// see BuildTraefik.
	TraefikImage = "lab.test/traefik:" + TraefikVersion

	// traefikPackages is about how many Go packages are compiled when none is cached.
	traefikPackages = 2640
)

// BuildTraefik returns the path of a docker-archive with TraefikImage, for Lab.LoadImage. It builds it if the
// cache has none for these sources and this version of Go, and tells progress what it does.
func BuildTraefik(ctx context.Context, out io.Writer) (string, error) {
	sources, err := sourceDir()
	if err != nil {
		return "", err
	}
	folders, err := foldersBelow(filepath.Join(sources, "ingress"))
	if err != nil {
		return "", err
	}
	key, err := cacheKey(append(folders, filepath.Join(sources, "image"))...)
	if err != nil {
		return "", err
	}
	progress := newProgress(out)
	name := "traefik-" + TraefikVersion + "-" + key + ".tar"
	return cached(ctx, progress, name, func(target string) error {
		binary := target + ".bin"
		defer os.Remove(binary) //nolint:errcheck // it is not there if it was not built
		if err := compile(ctx, progress, traefik(folders[0]), binary); err != nil {
			return err
		}
		return image.Build(image.Spec{
			Ref:        TraefikImage,
			Files:      []image.File{{Source: binary, Path: "/traefik"}},
			Entrypoint: []string{"/traefik"},
			User:       "65532:65532",
		}, target)
	})
}

// traefik says how the controller is compiled from the module in the folder sources.
func traefik(sources string) compilation {
	const module = "github.com/traefik/traefik/v3"
	return compilation{
		name:        "Traefik " + TraefikVersion,
		sources:     sources,
		mainPackage: module + "/cmd/traefik",
		packages:    traefikPackages,
		variables:   []string{module + "/pkg/version.Version=" + TraefikVersion[1:]},
	}
}

// GatewayCRDs returns a kustomization with the CRDs of Gateway API, of the version that Traefik is built
// with. They are those of the experimental channel: Traefik reads TCPRoutes in a version that the standard
// one no longer serves. They are part of that Go module, which is downloaded if it was not yet.
func GatewayCRDs(ctx context.Context) (string, error) {
	sources, err := sourceDir()
	if err != nil {
		return "", err
	}
	const module = "sigs.k8s.io/gateway-api"
	cmd := goCommand(ctx, filepath.Join(sources, "ingress"), "mod", "download", "-json", module)
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("download %s: %w: %s", module, err, out)
	}
	var downloaded struct{ Dir string }
	if err := json.Unmarshal(out, &downloaded); err != nil {
		return "", fmt.Errorf("download %s: %w", module, err)
	}
	return filepath.Join(downloaded.Dir, "config", "crd", "experimental"), nil
}

// foldersBelow returns a folder and all that are in it, each before what it holds.
func foldersBelow(folder string) ([]string, error) {
	var folders []string
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("folders below %s: %w", folder, err)
		}
		if entry.IsDir() {
			folders = append(folders, path)
		}
		return nil
	})
	return folders, err
}
