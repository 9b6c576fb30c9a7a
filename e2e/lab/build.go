package lab

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/berth-lb/berth/e2e/image"
)

// KubernetesVersion is the version of the cluster and of its tests: that of k8s.io/kubernetes in the go.mod
// of e2e/kube and of e2e/kubetest.
const KubernetesVersion = "v1.36.3"

// kubernetesPackages is about how many Go packages are compiled when none is cached.
const kubernetesPackages = 2800

// Build fills the cache with what Up needs: the Kubernetes binary and the images that every node has. It
// tells progress what it does, and returns the path of the binary. When everything is there it takes no time.
func Build(ctx context.Context, out io.Writer) (string, error) {
	progress := newProgress(out)
	binary, err := buildKubernetes(ctx, progress)
	if err != nil {
		return "", err
	}
	_, err = buildImages(ctx, progress)
	return binary, err
}

// buildKubernetes returns the path of the multi-call binary, which it builds if the cache has none for these
// sources and this version of Go.
func buildKubernetes(ctx context.Context, progress *progress) (string, error) {
	sources, err := sourceDir()
	if err != nil {
		return "", err
	}
	sources = filepath.Join(sources, "kube")
	key, err := cacheKey(sources)
	if err != nil {
		return "", err
	}
	return cached(ctx, progress, "kube-"+KubernetesVersion+"-"+key, func(target string) error {
		return compile(ctx, progress, kubernetes(sources), target)
	})
}

// kubernetes says how the binary is compiled from the module in the folder sources.
func kubernetes(sources string) compilation {
	parts := strings.Split(strings.TrimPrefix(KubernetesVersion, "v"), ".")
	const version = "k8s.io/component-base/version."
	return compilation{
		name:        "Kubernetes " + KubernetesVersion,
		sources:     sources,
		mainPackage: ".",
		packages:    kubernetesPackages,
		variables: []string{
			version + "gitVersion=" + KubernetesVersion,
			version + "gitMajor=" + parts[0],
			version + "gitMinor=" + parts[1],
			version + "gitTreeState=clean",
		},
	}
}

// A compilation is that of a program which takes minutes.
type compilation struct {
	name        string
	sources     string // folder of the module that it is built from
	mainPackage string
	packages    int // about how many Go packages are compiled when none is cached
	// variables are set by the linker, each NAME=VALUE.
	variables []string
}

// compile builds a static binary and tells every 15 seconds how far it is.
func compile(ctx context.Context, progress *progress, c compilation, target string) error {
	progress.say("building %s: several minutes, once", c.name)
	flags := []string{"-s", "-w"} // a third smaller
	for _, v := range c.variables {
		flags = append(flags, "-X", v)
	}
	// -v prints each package when it is compiled.
	cmd := goBuild(ctx, c.sources, "-v", "-ldflags", strings.Join(flags, " "), "-o", target,
		c.mainPackage)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("build %s: %w", c.name, goError(ctx, err, ""))
	}
	var compiled atomic.Int32
	finished := make(chan struct{})
	go reportEvery(15*time.Second, finished, func() {
		progress.say("building %s: %d of about %d packages compiled", c.name, compiled.Load(), c.packages)
	})
	var messages []string
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, "go: downloading "):
		case strings.ContainsAny(line, ": "):
			messages = append(messages, line) // the path of a package has none of these
		default:
			compiled.Add(1)
		}
	}
	err = cmd.Wait()
	close(finished)
	if err != nil {
		last := strings.Join(messages[max(0, len(messages)-20):], "\n")
		return fmt.Errorf("build %s: %w", c.name, goError(ctx, err, last))
	}
	progress.say("%s built", c.name)
	return nil
}

// reportEvery calls report at intervals until finished is closed.
func reportEvery(interval time.Duration, finished <-chan struct{}, report func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			report()
		case <-finished:
			return
		}
	}
}

// buildImages returns the paths of the pause, the web and the stranger's image.
func buildImages(ctx context.Context, progress *progress) ([]string, error) {
	sources, err := sourceDir()
	if err != nil {
		return nil, err
	}
	var archives []string
	for _, program := range []struct {
		name, ref, user string
		// folders of the program's own sources; the first is its main package.
		folders []string
	}{
		{"pause", pauseRef, "65535:65535", []string{"pause"}},
		{"web", WebImage, "65532:65532", []string{"web"}},
		{"stranger", StrangerImage, "65532:65532", []string{"cmd/stranger", "stranger"}},
	} {
		folders := []string{filepath.Join(sources, "image")}
		for _, folder := range program.folders {
			folders = append(folders, filepath.Join(sources, folder))
		}
		key, err := cacheKey(folders...)
		if err != nil {
			return nil, err
		}
		archive, err := cached(ctx, progress, program.name+"-"+key+".tar", func(target string) error {
			binary := target + ".bin"
			defer os.Remove(binary) //nolint:errcheck // it is not there if it was not built
			cmd := goBuild(ctx, sources, "-trimpath", "-ldflags", "-s -w", "-o", binary, "./"+
				program.folders[0])
			if out, err := cmd.CombinedOutput(); err != nil {
				return goError(ctx, err, string(out))
			}
			path := "/" + program.name
			return image.Build(image.Spec{
				Ref:        program.ref,
				Files:      []image.File{{Source: binary, Path: path}},
				Entrypoint: []string{path},
				User:       program.user,
			}, target)
		})
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", program.ref, err)
		}
		archives = append(archives, archive)
	}
	return archives, nil
}

// cached returns the path of a file in the cache, and has build make it if it is not there. Programs that
// need the same file at the same time build it once.
func cached(
	ctx context.Context, progress *progress, name string, build func(target string) error,
) (string, error) {
	root, err := cacheRoot()
	if err != nil {
		return "", err
	}
	file := filepath.Join(root, name)
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	unlock, err := lockFile(ctx, file+".lock", func() {
		progress.say("waiting for another program that builds %s", name)
	})
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	if err := build(file + ".partial"); err != nil {
		return "", errors.Join(err, os.RemoveAll(file+".partial"))
	}
	// Whoever waits for the lock holds it by its file and finds what was built.
	return file, errors.Join(os.Rename(file+".partial", file), os.Remove(file+".lock"))
}

// cacheKey stands for the sources in dirs, but for tests, and for the Go version and architecture they are
// built with.
func cacheKey(dirs ...string) (string, error) {
	hash := sha256.New()
	fmt.Fprintln(hash, runtime.Version(), runtime.GOARCH)
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir) // sorted by name
		if err != nil {
			return "", err
		}
		for _, e := range entries {
			name := e.Name()
			if e.IsDir() || strings.HasSuffix(name, "_test.go") {
				continue
			}
			content, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return "", err
			}
			fmt.Fprintln(hash, name, len(content))
			hash.Write(content)
		}
	}
	return fmt.Sprintf("%x", hash.Sum(nil)[:6]), nil
}

// goBuild is a command for a static binary, whatever the caller's Go settings are.
func goBuild(ctx context.Context, dir string, args ...string) *exec.Cmd {
	return goCommand(ctx, dir, append([]string{"build"}, args...)...)
}

// goCommand is the go command with these settings in the folder of a module.
func goCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH,
		"GOWORK=off", "GOFLAGS=")
	return cmd
}

func goError(ctx context.Context, err error, output string) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("no `go` in PATH (%w): install %s or later from https://go.dev/dl",
			err, runtime.Version())
	}
	return fmt.Errorf("go build: %w:\n%s", err, strings.TrimSpace(output))
}

// sourceDir finds the directory e2e of a checkout: $BERTH_E2E_DIR, where this file was compiled, or near the
// working directory.
func sourceDir() (string, error) {
	var candidates []string
	if dir := os.Getenv("BERTH_E2E_DIR"); dir != "" {
		candidates = append(candidates, dir)
	}
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		candidates = append(candidates, filepath.Dir(filepath.Dir(file)))
	}
	if dir, err := os.Getwd(); err == nil {
		for ; dir != "/"; dir = filepath.Dir(dir) {
			candidates = append(candidates, dir, filepath.Join(dir, "e2e"))
		}
	}
	for _, dir := range candidates {
		if _, err := os.Stat(filepath.Join(dir, "kube", "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("the sources of the lab are not to be found: run it inside a checkout, " +
		"or set BERTH_E2E_DIR to the checkout's directory e2e")
}
