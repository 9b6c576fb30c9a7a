package lab

import (
	"context"
	"io"
	"path/filepath"
)

const (
	// HelmVersion is that of helm.sh/helm/v4 in e2e/helm/go.mod.
	HelmVersion = "v4.3.1"

	// helmPackages is about how many Go packages are compiled when none is cached.
	helmPackages = 1150
)

// BuildHelm returns the path of the program helm. It builds it if the cache has none for these sources and
// this version of Go, and tells progress what it does.
func BuildHelm(ctx context.Context, out io.Writer) (string, error) {
	sources, err := sourceDir()
	if err != nil {
		return "", err
	}
	sources = filepath.Join(sources, "helm")
	key, err := cacheKey(sources)
	if err != nil {
		return "", err
	}
	progress := newProgress(out)
	return cached(ctx, progress, "helm-"+HelmVersion+"-"+key, func(target string) error {
		return compile(ctx, progress, helm(sources), target)
	})
}

// helm says how the program is compiled from the module in the folder sources.
func helm(sources string) compilation {
	const module = "helm.sh/helm/v4"
	return compilation{
		name:        "Helm " + HelmVersion,
		sources:     sources,
		mainPackage: module + "/cmd/helm",
		packages:    helmPackages,
		variables:   []string{module + "/internal/version.version=" + HelmVersion},
	}
}
