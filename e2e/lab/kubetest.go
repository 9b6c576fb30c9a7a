package lab

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-lb/berth/e2e/image"
)

// agnhostPackage is the program that the pods of Kubernetes' own tests run.
const agnhostPackage = "k8s.io/kubernetes/test/images/agnhost"

// podTools are what Kubernetes' own tests run in pods by a shell, by the path in the pod.
var podTools = map[string]string{
	"/bin/sh":       "sh",
	"/bin/cat":      "cat",
	"/bin/grep":     "grep",
	"/bin/sleep":    "sleep",
	"/bin/timeout":  "timeout",
	"/usr/bin/curl": "curl",
	"/usr/bin/nc":   "nc",
	"/usr/bin/wget": "wget",
}

// BuildKubetest fills the cache with Kubernetes' own tests of load balancers and with the image that their
// pods run, and returns the paths of both. The image holds tools of this machine, besides what is built: the
// error may be a *MissingError.
func BuildKubetest(ctx context.Context, out io.Writer) (program, archive string, err error) {
	progress := newProgress(out)
	sources, err := sourceDir()
	if err != nil {
		return "", "", err
	}
	sources = filepath.Join(sources, "kubetest")
	key, err := cacheKey(sources)
	if err != nil {
		return "", "", err
	}
	key = KubernetesVersion + "-" + key
	program, err = cached(ctx, progress, "kubetest-"+key, func(target string) error {
		progress.say("building Kubernetes' own tests: some minutes, once")
		return goBuildStripped(ctx, sources, target, ".")
	})
	if err != nil {
		return "", "", fmt.Errorf("build Kubernetes' own tests: %w", err)
	}
	tools := sha256.Sum256(fmt.Append(nil, podTools)) // maps are printed in the order of their keys
	name := fmt.Sprintf("agnhost-%s-%x.tar", key, tools[:3])
	archive, err = cached(ctx, progress, name, func(target string) error {
		progress.say("building the image of their pods")
		return buildAgnhost(ctx, sources, program, target)
	})
	if err != nil {
		return "", "", fmt.Errorf("build the image of the pods of Kubernetes' own tests: %w", err)
	}
	return program, archive, nil
}

// buildAgnhost writes the image that the tests in program ask for.
func buildAgnhost(ctx context.Context, sources, program, target string) error {
	files, err := withLibraries(ctx, podTools)
	if err != nil {
		return err
	}
	ref, err := exec.CommandContext(ctx, program, "image").Output()
	if err != nil {
		return fmt.Errorf("ask for the image's reference: %w", err)
	}
	binary := target + ".bin"
	defer os.Remove(binary) //nolint:errcheck // it is not there if it was not built
	if err := goBuildStripped(ctx, sources, binary, agnhostPackage); err != nil {
		return err
	}
	// The tests take for granted that wget tries once.
	wgetrc := target + ".wgetrc"
	defer os.Remove(wgetrc) //nolint:errcheck // it may be missing
	if err := os.WriteFile(wgetrc, []byte("tries = 1\n"), 0o644); err != nil {
		return err
	}
	return image.Build(image.Spec{
		Ref: strings.TrimSpace(string(ref)),
		Files: append(files,
			image.File{Source: binary, Path: "/agnhost"},
			image.File{Source: wgetrc, Path: "/etc/wgetrc", Mode: 0o644},
		),
		Entrypoint: []string{"/agnhost"},
	}, target)
}

// goBuildStripped compiles a package into the file target.
func goBuildStripped(ctx context.Context, dir, target, pkg string) error {
	if out, err := goBuild(ctx, dir, "-ldflags", "-s -w", "-o", target, pkg).CombinedOutput(); err != nil {
		return goError(ctx, err, string(out))
	}
	return nil
}

// withLibraries returns programs of this machine, by their path in an image, and the shared libraries that
// they need.
func withLibraries(ctx context.Context, programs map[string]string) ([]image.File, error) {
	if missing := missingTools(programs); len(missing) > 0 {
		return nil, &MissingError{missing}
	}
	var files []image.File
	libraries := map[string]bool{}
	for _, path := range sortedKeys(programs) {
		source, err := findTool(programs[path])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", programs[path], err)
		}
		files = append(files, image.File{Source: source, Path: path})
		out, err := exec.CommandContext(ctx, "ldd", source).Output()
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			continue // it is static
		}
		if err != nil {
			return nil, err
		}
		for _, library := range librariesOf(string(out)) {
			libraries[library] = true
		}
	}
	for _, library := range sortedKeys(libraries) {
		files = append(files, image.File{Source: library, Path: library})
	}
	return files, nil
}

// librariesOf returns the files in what ldd writes. Each line names a library and where it is, or only the
// latter; one that the kernel brings along is nowhere.
func librariesOf(text string) []string {
	var files []string
	for line := range strings.Lines(text) {
		for _, word := range strings.Fields(line) {
			if filepath.IsAbs(word) {
				files = append(files, word)
			}
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// missingTools returns those of the requirements of which one of the programs is missing.
func missingTools(programs map[string]string) []Requirement {
	wanted := map[string]bool{}
	for _, name := range programs {
		wanted[name] = true
	}
	return slices.DeleteFunc(Requirements(), func(r Requirement) bool {
		return !slices.ContainsFunc(r.Missing(), func(name string) bool { return wanted[name] })
	})
}
