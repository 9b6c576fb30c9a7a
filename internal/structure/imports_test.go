package structure

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// module is the path of the root module.
const module = "github.com/berth-lb/berth"

// goPackage is what `go list -json` tells of a package.
type goPackage struct {
	ImportPath   string
	Dir          string
	Standard     bool
	Imports      []string // direct, without those of tests
	Deps         []string // direct and indirect
	GoFiles      []string
	IgnoredFiles []string `json:"IgnoredGoFiles"` // of other systems
}

// rule says what a package may import. Packages are named without the module;
// a name that ends in /... stands for everything below it too.
type rule struct {
	of  string
	may []string // of our own packages
	// never are packages, of anybody, that must not be linked in, however
	// indirectly. They end in /... as above.
	never []string
	// pure code has no clock, goroutine, logger, metric or client.
	pure bool
	why  string
}

// Libraries by what they are for.
var (
	wire = []string{
		"github.com/osrg/gobgp/...", "github.com/vishvananda/netlink/...",
		"github.com/hashicorp/memberlist/...", "github.com/mdlayher/...",
	}
	kubernetes = []string{"k8s.io/...", "sigs.k8s.io/..."}
	// commandLine is what only kubectl-berth needs.
	commandLine = []string{module + "/internal/cli/...", "k8s.io/cli-runtime/..."}
	effects     = []string{
		"github.com/prometheus/...", "k8s.io/client-go/...", "sigs.k8s.io/controller-runtime/...",
	}
)

// rules is the table of DESIGN.md. Every package of the module matches one;
// the first counts.
var rules = []rule{
	{
		of: "controller",
		may: []string{
			"api/...", "internal/...", "pkg/assignment", "pkg/config", "pkg/allocator", "pkg/bgp",
		},
		never: slices.Concat(wire, commandLine),
		why:   "the controller assigns addresses and sends no frames: it must not link what announces them",
	},
	{
		of:    "kubectl-berth",
		may:   []string{"internal/cli"},
		never: wire,
		why:   "it is thin: what it does is in internal/cli, and it sends no frames",
	},
	{
		of: "internal/cli",
		may: []string{
			"internal/cli/bundle", "internal/cli/change", "internal/cli/dashboard", "internal/cli/importing",
			"internal/cli/output", "internal/cli/snapshot", "internal/cli/v1alpha1", "internal/cli/view",
			"internal/version",
		},
		never: wire,
		why:   "it is commands: what they say is decided in view, and printed by output",
	},
	{
		of:    "internal/cli/change",
		may:   []string{"api/...", "internal/cli/snapshot", "internal/cli/v1alpha1"},
		never: wire,
		why:   "it reads manifests and applies them to a snapshot, and decides nothing",
	},
	{
		of:    "internal/cli/gendocs",
		may:   []string{"internal/cli"},
		never: wire,
		why:   "it writes the reference of the commands",
	},
	{
		of: "internal/cli/snapshot",
		may: []string{
			"api/...", "internal/cli/v1alpha1", "internal/kube", "internal/settings", "pkg/config",
		},
		never: wire,
		why:   "it reads API objects, and decides nothing",
	},
	{
		of: "internal/cli/view",
		may: []string{
			"api/...",
			"internal/cli/snapshot", "internal/cli/v1alpha1",
			"internal/cluster", "internal/controller/plan", "internal/speaker/plan",
			"pkg/announcement", "pkg/assignment", "pkg/bgp", "pkg/config",
		},
		never: wire,
		pure:  true,
		why:   "what is said is a pure function of a snapshot, decided by the code that decides in clusters",
	},
	{
		of:    "internal/cli/bundle",
		never: slices.Concat(wire, kubernetes, effects),
		why:   "it makes archives of files, and knows nothing of clusters",
	},
	{
		of: "internal/cli/importing",
		may: []string{
			"api/...",
			"internal/cli/snapshot", "internal/cli/v1alpha1", "internal/controller/plan",
			"pkg/assignment", "pkg/config",
		},
		never: wire,
		pure:  true,
		why:   "what an import makes of objects is a pure function, and the controller's code checks it",
	},
	{
		of:    "internal/cli/output",
		may:   []string{"api/...", "internal/cli/v1alpha1"},
		never: wire,
		why:   "it prints values, and knows neither clusters nor decisions",
	},
	{
		of:    "internal/cli/dashboard",
		may:   []string{"internal/cli/output", "internal/cli/v1alpha1", "internal/cli/view"},
		never: wire,
		why:   "it shows values as pages, and reads no cluster by itself",
	},
	{
		of:    "internal/cli/v1alpha1",
		never: slices.Concat(wire, effects),
		why:   "it is a contract for scripts: types, and nothing else",
	},
	{
		of:    "internal/cli/clitest",
		may:   []string{"internal/kube"},
		never: wire,
		why:   "it serves the tests of kubectl-berth",
	},
	{
		of: "internal/controller/state",
		may: []string{
			"api/...", "internal/notify", "pkg/allocator", "pkg/assignment", "pkg/config",
		},
		never: slices.Concat(wire, effects),
		why:   "what the controller remembers and decides needs no client, so that kubectl-berth can ask it",
	},
	{
		of: "internal/controller/shared",
		may: []string{
			"internal/controller/state", "internal/kube", "internal/notify", "pkg/config",
		},
		never: wire,
		why:   "it is what all reconcilers are given, and knows none of them",
	},
	{
		of: "internal/controller/announced",
		may: []string{
			"api/...", "internal/controller/shared", "internal/controller/state", "internal/kube",
			"pkg/assignment", "pkg/bgp", "pkg/config",
		},
		never: wire,
		why:   "what becomes of Services by BGP is judged from objects, not from sessions",
	},
	{
		of: "internal/controller/services",
		may: []string{
			"api/...",
			"internal/controller/announced", "internal/controller/shared", "internal/controller/state",
			"internal/kube", "pkg/assignment",
		},
		never: wire,
		why:   "it knows Services and their status, and of the configuration only what state decides by it",
	},
	{
		of: "internal/controller/configuration",
		may: []string{
			"api/...",
			"internal/controller/announced", "internal/controller/shared", "internal/controller/state",
			"internal/kube", "pkg/assignment", "pkg/bgp", "pkg/config",
		},
		never: wire,
		why:   "it knows what users write, and of Services only which are served",
	},
	{
		of: "internal/controller/speakers",
		may: []string{
			"api/...", "internal/controller/announced", "internal/controller/shared", "internal/kube",
		},
		never: wire,
		why:   "it corrects Speaker objects and decides nothing about Services",
	},
	{
		of: "internal/controller/definitions",
		may: []string{
			"api/...", "manifests/crds", "internal/controller/shared", "internal/controller/state",
		},
		never: wire,
		why:   "it knows seven CustomResourceDefinitions",
	},
	{
		of:    "internal/controller/memberkey",
		may:   []string{"api/...", "internal/controller/shared", "internal/kube", "internal/notify"},
		never: wire,
		why:   "it knows one Secret",
	},
	{
		of: "internal/controller/plan",
		may: []string{
			"api/...",
			"internal/controller/announced", "internal/controller/configuration", "internal/controller/state",
			"pkg/assignment", "pkg/config",
		},
		never: wire,
		why:   "it runs the controller's decisions on a snapshot, without what writes them",
	},
	{
		of:    "internal/controller/controllertest",
		may:   []string{"api/..."},
		never: slices.Concat(wire, effects),
		why:   "it serves the tests of the controller's packages",
	},
	{
		of: "speaker",
		may: []string{
			"api/...", "internal/...",
			"pkg/announcement", "pkg/assignment", "pkg/bfd", "pkg/bgp", "pkg/bgp/gobgp", "pkg/config",
			"pkg/layer2/...", "pkg/membership",
		},
		never: commandLine,
		why: "the speaker announces; " +
			"of assignment it asks only which Services are served and what addresses they have",
	},

	{
		of:    "internal/speaker/presence",
		may:   []string{"api/...", "pkg/announcement", "pkg/layer2/links"},
		never: slices.Concat(wire, effects),
		pure:  true,
		why:   "who is there is a pure function of what was observed, so that tests can tell whole stories",
	},
	{
		of: "internal/speaker/plan",
		may: []string{
			"api/...", "internal/cluster", "internal/speaker/presence",
			"pkg/announcement", "pkg/bgp", "pkg/config",
		},
		never: wire,
		pure:  true,
		why:   "it runs the speakers' decisions on a snapshot, without what puts them into practice",
	},
	{
		of: "internal/speaker/members",
		may: []string{
			"api/...", "internal/kube", "internal/notify", "internal/speaker/presence",
			"pkg/announcement", "pkg/config", "pkg/layer2/links", "pkg/layer2/prober", "pkg/membership",
		},
		why: "it knows who is there, and neither what is announced nor how",
	},

	{
		of:    "pkg/assignment",
		may:   []string{"api/...", "pkg/allocator", "pkg/config", "internal/nearest"},
		never: slices.Concat(wire, effects),
		pure:  true,
		why:   "the decision for a Service is a pure function, so that tests and kubectl-berth can ask it",
	},
	{
		of:    "pkg/announcement",
		may:   []string{"api/...", "pkg/bgp", "pkg/config", "pkg/layer2/election", "pkg/layer2/links"},
		never: slices.Concat(wire, effects),
		pure:  true,
		why:   "the decision for an address is a pure function, so that tests and kubectl-berth can ask it",
	},
	{
		of:    "pkg/config",
		may:   []string{"api/...", "pkg/allocator", "pkg/bgp"},
		never: slices.Concat(wire, effects),
		pure:  true,
		why:   "configuration is parsed into values the same way wherever it is read",
	},
	{
		of:    "pkg/allocator",
		never: slices.Concat(wire, kubernetes, effects),
		pure:  true,
		why:   "the record of addresses knows nothing of Kubernetes",
	},

	{
		of:    "pkg/layer2/election",
		never: slices.Concat(wire, kubernetes, effects),
		pure:  true,
		why:   "every node computes the owner of an address from the same inputs",
	},
	{
		of:    "pkg/layer2/links",
		never: slices.Concat(wire, kubernetes, effects),
		pure:  true,
		why:   "links are values, so that decisions about them can be asked without a node",
	},
	{
		of:    "pkg/layer2/links/watch",
		may:   []string{"internal/notify", "pkg/layer2/links"},
		never: slices.Concat(kubernetes, effects),
		why:   "it is a leaf: it reads the kernel and nothing else",
	},
	{
		of:    "pkg/layer2/neighbor",
		may:   []string{"pkg/layer2/links"},
		never: slices.Concat(kubernetes, effects),
		why:   "it is what announcer and prober share: frames and sockets",
	},
	{
		of:    "pkg/layer2/internal/ports",
		may:   []string{"pkg/layer2/links"},
		never: slices.Concat(wire, kubernetes, effects),
		why:   "it keeps ports open, whatever they do",
	},
	{
		of: "pkg/layer2/announcer",
		may: []string{
			"internal/notify", "pkg/layer2/links", "pkg/layer2/neighbor", "pkg/layer2/internal/ports",
		},
		never: slices.Concat(kubernetes, effects),
		why:   "protocols know nothing of Kubernetes and can be used without Berth",
	},
	{
		of: "pkg/layer2/prober",
		may: []string{
			"internal/notify", "pkg/layer2/links", "pkg/layer2/neighbor", "pkg/layer2/internal/ports",
		},
		never: slices.Concat(kubernetes, effects),
		why:   "protocols know nothing of Kubernetes and can be used without Berth",
	},
	{
		of:    "pkg/layer2/internal/layer2test",
		may:   []string{"pkg/layer2/links", "internal/netnstest"},
		never: slices.Concat(kubernetes, effects),
		why:   "it serves the tests of layer 2, which must not make frames with the code under test",
	},
	{
		of:    "pkg/bgp",
		never: slices.Concat(wire, kubernetes, effects),
		pure:  true,
		why: "what is announced to which peer is a pure function, " +
			"so that tests and kubectl-berth can ask it",
	},
	{
		of:    "pkg/bgp/gobgp",
		may:   []string{"internal/notify", "pkg/bgp"},
		never: kubernetes,
		why:   "protocols know nothing of Kubernetes and can be used without Berth",
	},
	{
		of:    "pkg/bfd",
		may:   []string{"internal/notify"},
		never: kubernetes,
		why:   "protocols know nothing of Kubernetes and can be used without Berth",
	},
	{
		of:    "pkg/membership",
		may:   []string{"internal/notify", "pkg/membership/kv"},
		never: kubernetes,
		why:   "membership works while the API server is away, so it knows nothing of it",
	},
	{
		of:    "pkg/membership/kv",
		never: slices.Concat(wire, kubernetes, effects),
		pure:  true,
		why: "what members know of each other is merged by pure functions, " +
			"so that any order of messages can be tested",
	},
	{
		of:    "pkg/membership/kv/kvtest",
		never: slices.Concat(wire, kubernetes, effects),
		pure:  true,
		why:   "it makes messages for tests, which those of kv must be able to import",
	},

	{
		of: "internal/cluster",
		may: []string{
			"api/...", "internal/kube", "internal/notify", "pkg/announcement", "pkg/assignment", "pkg/config",
		},
		why: "it reads a cluster or a snapshot, and knows no protocol and no speaker",
	},
	{
		of:  "internal/cluster/clustertest",
		may: []string{"api/...", "internal/cluster", "internal/kube"},
		why: "it serves tests",
	},
	{
		of:  "internal/speaker/reconcile",
		may: []string{"api/...", "internal/kube", "internal/notify", "pkg/announcement", "pkg/config"},
		why: "it gives addresses to protocols and knows none of them",
	},
	{
		of: "internal/speaker/inputs",
		may: []string{
			"internal/cluster",
			"internal/notify",
			"internal/speaker/members",
			"internal/speaker/reconcile",
			"pkg/announcement",
		},
		why: "it gathers for every protocol, and knows none of them",
	},
	{
		of: "internal/speaker/speakertest",
		may: []string{
			"api/...", "internal/cluster/clustertest", "internal/notify", "internal/speaker/presence",
			"internal/speaker/reconcile",
			"pkg/announcement",
			"pkg/config", "pkg/layer2/announcer", "pkg/layer2/links", "pkg/layer2/prober", "pkg/membership",
		},
		why: "it serves the tests of the speaker's packages, which must be able to import it",
	},
	{
		of: "internal/speaker/layer2",
		may: []string{
			"api/...", "internal/cluster", "internal/kube", "internal/notify", "internal/speaker/members",
			"internal/speaker/reconcile",
			"pkg/announcement", "pkg/config", "pkg/layer2/announcer",
			"pkg/layer2/election", "pkg/layer2/links", "pkg/layer2/prober",
		},
		why: "it announces by layer 2, and knows nothing of BGP",
	},
	{
		of:    "internal/speaker/serviceproxy",
		may:   []string{"internal/notify"},
		never: kubernetes,
		why:   "it asks a program of the node, and knows no protocol",
	},
	{
		of:    "internal/speaker/succession",
		may:   []string{"internal/notify"},
		never: slices.Concat(wire, kubernetes, effects),
		why:   "two processes meet there, whatever they are; what they do about it is the speaker's",
	},
	{
		of: "internal/speaker/report",
		may: []string{
			"api/...", "internal/cluster", "internal/kube", "internal/notify", "internal/version",
			"internal/speaker/members",
			"internal/speaker/presence", "pkg/announcement", "pkg/layer2/links", "pkg/membership",
		},
		why: "it writes what the parts of the speaker say, and knows no protocol",
	},
	{
		of: "internal/speaker/bgp",
		may: []string{
			"api/...", "internal/cluster", "internal/kube", "internal/notify", "internal/speaker/reconcile",
			"internal/speaker/serviceproxy",
			"pkg/announcement", "pkg/bfd", "pkg/bgp", "pkg/config", "pkg/layer2/links",
		},
		why: "it announces by BGP, and knows nothing of layer 2 but which links the node has",
	},
	{
		of:    "internal/kube",
		may:   []string{"api/...", "pkg/config", "internal/settings"},
		never: wire,
		why:   "it is what both binaries need of a cluster, and nothing of what only one does",
	},
	{
		of:    "internal/logging",
		may:   []string{"internal/settings"},
		never: wire,
		why:   "it is the same in both binaries",
	},
	{
		of:    "internal/nearest",
		never: slices.Concat(wire, kubernetes, effects),
		pure:  true,
		why:   "it compares words",
	},
	{
		of:    "internal/notify",
		never: slices.Concat(wire, kubernetes, effects),
		why:   "it wakes goroutines and knows nothing of what for",
	},
	{
		of:    "internal/settings",
		may:   []string{"internal/nearest"},
		never: slices.Concat(wire, kubernetes),
		why:   "settings are of a process, not of a cluster",
	},
	{
		of:    "internal/settings/settingstest",
		may:   []string{"internal/settings"},
		never: slices.Concat(wire, kubernetes),
		why:   "it serves the tests of settings",
	},
	{
		of:    "internal/metricstest",
		never: slices.Concat(wire, kubernetes),
		why:   "it serves tests of both binaries, and of what reads their metrics",
	},
	{of: "manifests/crds", never: slices.Concat(wire, kubernetes), why: "it has files only"},
	{of: "internal/version", never: slices.Concat(wire, kubernetes), why: "it has to know nothing"},
	{
		of:    "internal/netnstest",
		never: kubernetes,
		why:   "it serves the tests of packages that know nothing of Kubernetes",
	},
	{of: "internal/structure", why: "it has tests only"},
	{of: "manifests", why: "it has tests only"},
	{
		of:    "api/...",
		never: slices.Concat(wire, effects),
		why:   "whoever writes clients for our API must get no more than its types",
	},
}

func TestImports(t *testing.T) {
	packages := listPackages(t)
	for _, p := range packages {
		for _, wrong := range check(rules, p) {
			t.Error(wrong)
		}
		r, _ := ruleOf(rules, p)
		if !r.pure {
			continue
		}
		for _, file := range slices.Concat(p.GoFiles, p.IgnoredFiles) {
			source, err := os.ReadFile(filepath.Join(p.Dir, file))
			if err != nil {
				t.Fatal(err)
			}
			for _, wrong := range impurities(t, file, string(source)) {
				t.Errorf("%s/%s: %s. Pure code gets the time as an argument and starts nothing: %s.",
					r.of, file, wrong, r.why)
			}
		}
	}
}

// listPackages returns the packages of the root module.
func listPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e=false", "-deps",
		"-json=ImportPath,Dir,Standard,Imports,Deps,GoFiles,IgnoredGoFiles", "./...")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []goPackage
	for in := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		err := in.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, own := ours(p.ImportPath); own {
			packages = append(packages, p)
		}
	}
	if len(packages) < 10 {
		t.Fatalf("go list knows only %d packages of the module", len(packages))
	}
	return packages
}

// ours is the name of a package without the module.
func ours(path string) (name string, ok bool) {
	if path == module {
		return ".", true
	}
	return strings.CutPrefix(path, module+"/")
}

func ruleOf(rules []rule, p goPackage) (rule, bool) {
	name, _ := ours(p.ImportPath)
	for _, r := range rules {
		if matches(r.of, name) {
			return r, true
		}
	}
	return rule{}, false
}

// check tells what a package imports against the rules.
func check(rules []rule, p goPackage) []string {
	name, _ := ours(p.ImportPath)
	r, ok := ruleOf(rules, p)
	if !ok {
		return []string{fmt.Sprintf("%s has no rule: say in the table of "+
			"internal/structure/imports_test.go what it may import, and why", name)}
	}
	var wrong []string
	for _, path := range p.Imports {
		other, own := ours(path)
		if !own {
			continue
		}
		if matches("controller", other) || matches("speaker", other) {
			wrong = append(wrong, fmt.Sprintf("%s imports %s: nobody imports a binary, because what two "+
				"need belongs into a package of its own", name, other))
			continue
		}
		if !slices.ContainsFunc(r.may, func(m string) bool { return matches(m, other) }) {
			wrong = append(wrong, fmt.Sprintf("%s imports %s, and may import of ours only %s: %s",
				name, other, orNothing(r.may), r.why))
		}
	}
	for _, path := range p.Deps {
		if slices.ContainsFunc(r.never, func(n string) bool { return matches(n, path) }) {
			wrong = append(wrong, fmt.Sprintf(
				"%s links %s (go mod why -m, or go list -deps, tells through whom): %s",
				name, path, r.why,
			))
		}
	}
	if r.pure && slices.Contains(p.Imports, "log/slog") {
		wrong = append(wrong, fmt.Sprintf(
			"%s imports log/slog: pure code returns reasons and lets its caller log them: %s",
			name, r.why,
		))
	}
	return wrong
}

func orNothing(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

// matches tells whether a pattern is a path, or ends in /... and is above it.
func matches(pattern, path string) bool {
	if parent, tree := strings.CutSuffix(pattern, "/..."); tree {
		return path == parent || strings.HasPrefix(path, parent+"/")
	}
	return path == pattern
}

// clocks are the functions of package time that look at the clock or wait.
var clocks = []string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep"}

// netValues are the parts of package net that are values and open nothing.
var netValues = []string{"HardwareAddr", "ParseMAC"}

// impurities finds in a source file what pure code must not have.
func impurities(t *testing.T, name, source string) []string {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, i := range file.Imports {
		switch path := strings.Trim(i.Path.Value, `"`); path {
		case "math/rand", "math/rand/v2", "crypto/rand", "sync", "sync/atomic", "os", "net/http":
			found = append(found, "imports "+path)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = append(found, fmt.Sprintf("starts a goroutine in line %d", files.Position(n.Pos()).Line))
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			switch line := files.Position(n.Pos()).Line; {
			case !ok:
			case x.Name == "time" && slices.Contains(clocks, n.Sel.Name):
				found = append(found, fmt.Sprintf("calls time.%s in line %d", n.Sel.Name, line))
			case x.Name == "net" && !slices.Contains(netValues, n.Sel.Name):
				found = append(found, fmt.Sprintf("uses net.%s in line %d", n.Sel.Name, line))
			}
		}
		return true
	})
	return found
}

// TestImportsAreChecked gives the checker made-up packages, to see that it
// finds what is wrong with them.
func TestImportsAreChecked(t *testing.T) {
	for _, test := range []struct {
		story   string
		path    string
		imports []string
		deps    []string
		says    string // "" when nothing is wrong
	}{
		{"the controller may decide", "controller", []string{module + "/pkg/assignment", "fmt"}, nil, ""},
		{"and see all of internal", "controller", []string{module + "/internal/kube"}, nil, ""},
		{"but not announce", "controller", []string{module + "/pkg/layer2/announcer"},
			nil, "controller imports pkg/layer2/announcer"},
		{"also not through others", "controller", nil,
			[]string{"fmt", "github.com/mdlayher/arp"}, "controller links github.com/mdlayher/arp"},
		{"a library that only begins like it is another",
			"controller", nil, []string{"github.com/vishvananda/netlinks"}, ""},
		{"nobody imports the speaker",
			"internal/kube", []string{module + "/speaker"}, nil, "nobody imports a binary"},
		{"layer 2 stands alone", "pkg/layer2/prober", []string{module + "/api/v1beta1"},
			nil, "may import of ours only internal/notify, pkg/layer2/links"},
		{"without Kubernetes", "pkg/layer2/announcer", nil,
			[]string{"k8s.io/apimachinery/pkg/util/sets"}, "pkg/layer2/announcer links k8s.io/"},
		{"the announcer does not probe", "pkg/layer2/announcer", []string{module + "/pkg/layer2/prober"},
			nil, "imports pkg/layer2/prober"},
		{"decisions know links", "pkg/announcement", []string{module + "/pkg/layer2/links"}, nil, ""},
		{"but send no frames", "pkg/announcement", nil,
			[]string{"github.com/mdlayher/packet"}, "pkg/announcement links github.com/mdlayher/packet"},
		{"config knows labels", "pkg/config", nil, []string{"k8s.io/apimachinery/pkg/labels"}, ""},
		{"but has no client",
			"pkg/config", nil, []string{"k8s.io/client-go/rest"}, "pkg/config links k8s.io/client-go/rest"},
		{"decisions do not log", "pkg/assignment", []string{"log/slog"}, nil, "imports log/slog"},
		{"a new package needs a rule", "pkg/surprise", nil, nil, "pkg/surprise has no rule"},
	} {
		t.Run(test.story, func(t *testing.T) {
			got := strings.Join(check(rules, goPackage{
				ImportPath: module + "/" + test.path,
				Imports:    test.imports,
				Deps:       test.deps,
			}), "\n")
			if (got == "") != (test.says == "") || !strings.Contains(got, test.says) {
				t.Errorf("got %q, want %q in it", got, test.says)
			}
		})
	}
}

func TestImpuritiesAreFound(t *testing.T) {
	for _, test := range []struct{ story, source, says string }{
		{"durations are values", "import \"time\"\nconst d = time.Second", ""},
		{"the clock is not", "import \"time\"\nvar x = time.Now()", "calls time.Now in line 3"},
		{"waiting neither", "import \"time\"\nfunc f() { time.Sleep(1) }", "calls time.Sleep"},
		{"no goroutine", "func f() { go f() }", "starts a goroutine in line 2"},
		{"Ethernet addresses are values", "import \"net\"\nvar x net.HardwareAddr", ""},
		{"connections are not", "import \"net\"\nvar x, _ = net.Dial(\"\", \"\")", "uses net.Dial in line 3"},
		{"no dice", "import _ \"math/rand/v2\"", "imports math/rand/v2"},
	} {
		t.Run(test.story, func(t *testing.T) {
			got := strings.Join(impurities(t, "x.go", "package x\n"+test.source), "\n")
			if (got == "") != (test.says == "") || !strings.Contains(got, test.says) {
				t.Errorf("got %q, want %q in it", got, test.says)
			}
		})
	}
}
