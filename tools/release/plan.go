package main

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// A platform is a system and a processor, as Go and container images name them.
type platform struct {
	OS, Arch string
	// Variant is v7 for arm: processors before ARMv7 are not supported.
	Variant string
}

// String returns the platform as images have it: linux/arm/v7.
func (p platform) String() string {
	if p.Variant != "" {
		return p.OS + "/" + p.Arch + "/" + p.Variant
	}
	return p.OS + "/" + p.Arch
}

// file returns the platform as a part of a file name: linux-armv7.
func (p platform) file() string { return p.OS + "-" + p.Arch + p.Variant }

// nodes are the platforms of nodes, for which controller and speaker are built.
var nodes = []platform{
	{OS: "linux", Arch: "amd64"},
	{OS: "linux", Arch: "arm64"},
	{OS: "linux", Arch: "arm", Variant: "v7"},
	{OS: "linux", Arch: "ppc64le"},
	{OS: "linux", Arch: "s390x"},
}

// users are the platforms of those who use kubectl.
var users = []platform{
	{OS: "linux", Arch: "amd64"},
	{OS: "linux", Arch: "arm64"},
	{OS: "darwin", Arch: "amd64"},
	{OS: "darwin", Arch: "arm64"},
	{OS: "windows", Arch: "amd64"},
	{OS: "windows", Arch: "arm64"},
}

// plugin is the program that users have.
const plugin = "kubectl-berth"

// A role is a program that runs in the cluster, each in an image of its own.
type role struct {
	Name string
	// User runs it, as the Containerfile says.
	User string
	// Title is what a registry shows.
	Title string
}

var roles = []role{
	{
		Name:  "controller",
		User:  "65532:65532",
		Title: "Berth controller: assigns addresses to Services",
	},
	{
		Name:  "speaker",
		User:  "0:0",
		Title: "Berth speaker: announces addresses by ARP, NDP and BGP",
	},
}

// A plan is what a release consists of.
type plan struct {
	version string
	nodes   []platform
	users   []platform
	// partial says that platforms were left out.
	partial bool
}

// newPlan returns the plan of a version. The list only, if it is not empty, has the platforms to build.
func newPlan(version, only string) (plan, error) {
	switch {
	case !semver.IsValid(version):
		return plan{}, fmt.Errorf("version %q: want one like v1.2.3 or v1.2.3-rc.1 (VERSION=v1.2.3)", version)
	case semver.Canonical(version) != version:
		// A tag of an image cannot have a plus.
		return plan{}, fmt.Errorf("version %q: want all three numbers, and nothing after a plus", version)
	}
	p := plan{
		version: version,
		nodes:   nodes,
		users:   users,
	}
	if only == "" {
		return p, nil
	}
	p.partial = true
	p.nodes, p.users = nil, nil
	for name := range strings.SplitSeq(only, ",") {
		is := func(p platform) bool { return p.String() == name }
		node, user := slices.IndexFunc(nodes, is), slices.IndexFunc(users, is)
		if node < 0 && user < 0 {
			return plan{}, fmt.Errorf("platform %q: want some of %v, %v, separated by commas",
				name, nodes, users)
		}
		if node >= 0 {
			p.nodes = append(p.nodes, nodes[node])
		}
		if user >= 0 {
			p.users = append(p.users, users[user])
		}
	}
	return p, nil
}

// prerelease reports whether the version comes before the one that it is named for.
func (p plan) prerelease() bool { return semver.Prerelease(p.version) != "" }

// repository is where the sources and the releases are.
const repository = "https://github.com/berth-lb/berth"

// registry is where images and charts are published.
const registry = "ghcr.io/berth-lb"

// image returns the reference of a role's image.
func (p plan) image(r role) string { return registry + "/" + r.Name + ":" + p.version }
