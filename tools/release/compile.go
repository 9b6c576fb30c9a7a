package main

import (
	"context"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A compiler runs the go command with settings that nothing outside of the sources changes.
type compiler struct {
	root    string // folder of the sources
	version string // what the programs call themselves
	env     []string
	// Go is the version of the go command: go1.26.8.
	Go string
}

// levels are the oldest processors of each kind that the programs run on. They are Go's defaults, and stand
// here so that settings of whoever builds do not matter.
var levels = []string{
	"GOAMD64=v1", "GOARM=7", "GOARM64=v8.0", "GOPPC64=power8",
}

// newCompiler asks the go command where its caches are.
func newCompiler(ctx context.Context, root, version string) (*compiler, error) {
	ask := exec.CommandContext(ctx, "go", "env", "GOCACHE", "GOMODCACHE", "GOVERSION")
	ask.Dir = root
	ask.Env = append(os.Environ(), "GOTOOLCHAIN=local")
	told, err := ask.Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(told)), "\n")
	if len(lines) != 3 {
		return nil, fmt.Errorf("go env printed %q", told)
	}
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir(),
		"GOCACHE=" + lines[0], "GOMODCACHE=" + lines[1],
		// No settings of the user, no network, no other Go.
		"GOENV=off", "GOFLAGS=-mod=readonly", "GOWORK=off", "GOPROXY=off", "GOTOOLCHAIN=local",
		"CGO_ENABLED=0",
	}
	return &compiler{
		root:    root,
		version: version,
		env:     append(env, levels...),
		Go:      lines[2],
	}, nil
}

// flags are those of STATIC in the Makefile, but that no revision is put into the program: who builds from an
// archive of the sources has none.
func (c *compiler) flags() []string {
	return []string{
		"-tags", "grpcnotrace", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X github.com/berth-lb/berth/internal/version.released=" + c.version,
	}
}

// compile builds a package of the sources, named by its folder, for a platform, into a folder. It returns the
// program.
func (c *compiler) compile(ctx context.Context, name string, p platform, folder string) (program, error) {
	path := filepath.Join(folder, p.file(), name)
	if p.OS == "windows" {
		path += ".exe"
	}
	args := slices.Concat([]string{"build"}, c.flags(), []string{"-o", path, "./" + name})
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = c.root
	cmd.Env = slices.Concat(c.env, []string{"GOOS=" + p.OS, "GOARCH=" + p.Arch})
	if text, err := cmd.CombinedOutput(); err != nil {
		return program{}, fmt.Errorf("build %s for %s: %w (modules that are missing: go mod download)\n%s",
			name, p, err, text)
	}
	if p.OS == "linux" {
		if err := checkStatic(path, p); err != nil {
			return program{}, fmt.Errorf("%s for %s: %w", name, p, err)
		}
	}
	return program{
		platform: p,
		name:     name,
		path:     path,
	}, nil
}

// machines are the processors as ELF files name them.
var machines = map[string]elf.Machine{
	"amd64":   elf.EM_X86_64,
	"arm64":   elf.EM_AARCH64,
	"arm":     elf.EM_ARM,
	"ppc64le": elf.EM_PPC64,
	"s390x":   elf.EM_S390,
}

// checkStatic returns an error if a program is for another processor, or needs a loader or a library: an
// image has none.
func checkStatic(path string, p platform) error {
	file, err := elf.Open(path)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was only read from
	if file.Machine != machines[p.Arch] {
		return fmt.Errorf("it is for %v", file.Machine)
	}
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP || segment.Type == elf.PT_DYNAMIC {
			return fmt.Errorf("it is not static: it has a segment %v", segment.Type)
		}
	}
	return nil
}
