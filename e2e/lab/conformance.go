package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/berth-lb/berth/e2e/image"
)

// conformancePods are the main packages of what the pods of Gateway API's conformance suite run, by the name
// of the image without registry and tag.
var conformancePods = map[string]string{
	"echo-basic": "sigs.k8s.io/gateway-api/conformance/echo-basic",
	"coredns":    "./dns",
}

// BuildConformance fills the cache with the conformance suite of Gateway API and with the images that its
// pods run, and returns the paths of the program and of the archives.
func BuildConformance(ctx context.Context, out io.Writer) (program string, archives []string, err error) {
	progress := newProgress(out)
	sources, err := sourceDir()
	if err != nil {
		return "", nil, err
	}
	sources = filepath.Join(sources, "conformance")
	key, err := cacheKey(sources, filepath.Join(sources, "dns"))
	if err != nil {
		return "", nil, err
	}
	program, err = cached(ctx, progress, "conformance-"+key, func(target string) error {
		progress.say("building the conformance suite of Gateway API: some minutes, once")
		return goBuildStripped(ctx, sources, target, ".")
	})
	if err != nil {
		return "", nil, fmt.Errorf("build the conformance suite of Gateway API: %w", err)
	}
	refs, err := exec.CommandContext(ctx, program, "images").Output()
	if err != nil {
		return "", nil, fmt.Errorf("ask the conformance suite for its images: %w", err)
	}
	for _, ref := range strings.Fields(string(refs)) {
		name := path.Base(ref)
		archive, err := cached(ctx, progress, "conformance-"+name+"-"+key+".tar", func(target string) error {
			progress.say("building %s", ref)
			return buildConformancePod(ctx, sources, ref, target)
		})
		if err != nil {
			return "", nil, fmt.Errorf("build %s: %w", ref, err)
		}
		archives = append(archives, archive)
	}
	return program, archives, nil
}

// buildConformancePod writes an image of the conformance suite.
func buildConformancePod(ctx context.Context, sources, ref, target string) error {
	name, _, _ := strings.Cut(path.Base(ref), ":")
	pkg := conformancePods[name]
	if pkg == "" {
		return fmt.Errorf("the suite wants an image %q: add its main package to conformancePods", name)
	}
	binary := target + ".bin"
	defer os.Remove(binary) //nolint:errcheck // it is not there if it was not built
	if err := goBuildStripped(ctx, sources, binary, pkg); err != nil {
		return err
	}
	return image.Build(image.Spec{
		Ref:        ref,
		Files:      []image.File{{Source: binary, Path: "/" + name}},
		Entrypoint: []string{"/" + name},
	}, target)
}
