package structure

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The two protocols change for different reasons: neither knows the other. What they
// share are values, such as the links of a node.
var (
	layer2Packages = []string{"internal/speaker/layer2/...", "pkg/layer2/..."}
	bgpPackages    = []string{"internal/speaker/bgp/...", "pkg/bgp/...", "pkg/bfd/..."}
	// Decisions for addresses are made of these, in pkg/announcement.
	sharedValues = []string{"pkg/layer2/election", "pkg/layer2/links", "pkg/bgp"}
)

func TestProtocolsAreApart(t *testing.T) {
	for _, p := range listPackages(t) {
		for _, wrong := range together(p) {
			t.Error(wrong)
		}
	}
}

// together returns what a package of one protocol links of the other, beside values.
func together(p goPackage) []string {
	name, _ := ours(p.ImportPath)
	anyOf := func(patterns []string, path string) bool {
		return slices.ContainsFunc(patterns, func(m string) bool { return matches(m, path) })
	}
	var others []string
	switch {
	case anyOf(layer2Packages, name):
		others = bgpPackages
	case anyOf(bgpPackages, name):
		others = layer2Packages
	default:
		return nil
	}
	var wrong []string
	for _, path := range p.Deps {
		other, own := ours(path)
		if own && anyOf(others, other) && !anyOf(sharedValues, other) {
			wrong = append(wrong,
				fmt.Sprintf("%s links %s (go list -deps tells through whom): layer 2 and BGP are apart",
					name, other))
		}
	}
	return wrong
}

func TestProtocolsTogetherAreFound(t *testing.T) {
	for _, test := range []struct {
		story, path string
		imports     []string
		through     []string
		says        string // "" when nothing is wrong
	}{
		{"each has its own", "internal/speaker/bgp", []string{"pkg/bgp/gobgp", "pkg/bfd"}, nil, ""},
		{"both decide by the same package",
			"internal/speaker/bgp", []string{"pkg/announcement"}, []string{"pkg/layer2/links"}, ""},
		{"and know the same links", "internal/speaker/bgp", []string{"pkg/layer2/links"}, nil, ""},
		{"but not who watches them",
			"internal/speaker/bgp", []string{"pkg/layer2/links/watch"}, nil, "links pkg/layer2/links/watch"},
		{"nor the other's part of the speaker",
			"internal/speaker/layer2", []string{"internal/speaker/bgp"}, nil, "links internal/speaker/bgp"},
		{"also not through others", "internal/speaker/layer2", []string{"internal/cluster"},
			[]string{"pkg/bgp/gobgp"}, "links pkg/bgp/gobgp"},
		{"a library neither", "pkg/layer2/prober", []string{"pkg/bfd"}, nil, "links pkg/bfd"},
		{"main has both", "speaker", []string{"internal/speaker/bgp", "internal/speaker/layer2"}, nil, ""},
	} {
		t.Run(test.story, func(t *testing.T) {
			p := goPackage{ImportPath: module + "/" + test.path}
			for _, path := range test.imports {
				p.Imports = append(p.Imports, module+"/"+path)
			}
			p.Deps = slices.Clone(p.Imports)
			for _, path := range test.through {
				p.Deps = append(p.Deps, module+"/"+path)
			}
			got := strings.Join(together(p), "\n")
			if (got == "") != (test.says == "") || !strings.Contains(got, test.says) {
				t.Errorf("got %q, want %q in it", got, test.says)
			}
		})
	}
}
