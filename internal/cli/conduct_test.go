package cli

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/berth-lb/berth/internal/cli/clitest"
)

// conduct is how a command is called by the tests that are about all commands.
type conduct struct {
	args string
	// bare is set if it is asked of a cluster that has MetalLB and no Berth.
	bare bool
	// mayEndWell is set if it ends with 0 as well where it says that it may not read all.
	mayEndWell bool
	// alone is set if it answers without a cluster.
	alone bool
}

// conducts has every command: TestEveryCommandIsTried fails for one that is missing.
var conducts = map[string]conduct{
	"status":    {args: "status"},
	"check":     {args: "check"},
	"report":    {args: "report -f FILE", mayEndWell: true},
	"pools":     {args: "pools", mayEndWell: true},
	"services":  {args: "services -A", mayEndWell: true},
	"nodes":     {args: "nodes", mayEndWell: true},
	"sessions":  {args: "sessions", mayEndWell: true},
	"routes":    {args: "routes", mayEndWell: true},
	"explain":   {args: "explain svc/web -n default", mayEndWell: true},
	"plan":      {args: "plan --drain node1"},
	"watch":     {args: "watch", mayEndWell: true},
	"import":    {args: "import --from metallb", bare: true},
	"dashboard": {args: "dashboard --snapshot -", mayEndWell: true},
	"version":   {args: "version", mayEndWell: true, alone: true},
}

// cluster returns the cluster that a command is asked of, with objects that belong to what it prints.
func (c conduct) cluster(t *testing.T) *clitest.Server {
	if c.bare {
		s := importFrom(t, "metallb")
		s.MissingIn = nil // Berth's kinds are installed, and there are no objects of them
		return s
	}
	return clitest.New(load(t)...)
}

// until is a writer that ends a command once it has printed what is waited for.
type until struct {
	mu   sync.Mutex
	text bytes.Buffer
	want string
	end  context.CancelFunc
}

func (u *until) Write(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.text.Write(p)
	if strings.Contains(u.text.String(), u.want) {
		u.end()
	}
	return len(p), nil
}

// says runs a command until it ends, or, if it does not by itself, until it has printed want. It
// returns all that it printed.
func (c conduct) says(t *testing.T, kubeconfig, want string) (text string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	t.Setenv("KUBECONFIG", kubeconfig)
	out := &until{want: want, end: cancel}
	if !strings.HasPrefix(c.args, "watch") {
		out.end = func() {}
	}
	file := filepath.Join(t.TempDir(), "file")
	args := strings.Fields(strings.ReplaceAll(c.args, "FILE", file))
	streams := genericiooptions.IOStreams{In: &bytes.Buffer{}, Out: out, ErrOut: out}
	code = runMain(ctx, append([]string{"kubectl-berth"}, args...), streams,
		func() time.Time { return noon })
	return out.text.String(), code
}

// asks has a server asked for all that a command reads.
func (c conduct) asks(t *testing.T, server *clitest.Server) {
	t.Helper()
	if !strings.HasPrefix(c.args, "watch") {
		c.says(t, server.Start(t), "")
		return
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Setenv("KUBECONFIG", server.Start(t))
	ended := make(chan int)
	go func() {
		var in, out, errOut bytes.Buffer
		streams := genericiooptions.IOStreams{In: &in, Out: &out, ErrOut: &errOut}
		ended <- runMain(ctx, []string{"kubectl-berth", "watch"}, streams,
			func() time.Time { return noon })
	}()
	for server.Watched(&corev1.Event{}) == 0 { // it has read everything once by then
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-ended
}

// commands returns all commands that do something, by name.
func commands() map[string]*cobra.Command {
	out := map[string]*cobra.Command{}
	root := New("kubectl-berth", genericiooptions.IOStreams{Out: &bytes.Buffer{}, ErrOut: &bytes.Buffer{}})
	for _, c := range root.Commands() {
		if c.Name() != "help" && c.Name() != "completion" {
			out[c.Name()] = c
		}
	}
	return out
}

// TestEveryCommandIsTried: the tests below forget none.
func TestEveryCommandIsTried(t *testing.T) {
	have := slices.Sorted(maps.Keys(commands()))
	if tried := slices.Sorted(maps.Keys(conducts)); !slices.Equal(have, tried) {
		t.Errorf("the commands are %v, and tried are %v", have, tried)
	}
}

// resourcesOf returns the resources that were asked for, without those of no kind.
func resourcesOf(paths []string) []string {
	found := map[string]bool{}
	for _, path := range paths {
		parts := strings.Split(strings.Trim(path, "/"), "/")
		switch {
		case parts[0] == "apis" && len(parts) > 3:
			parts = parts[3:]
		case parts[0] == "api" && len(parts) > 2:
			parts = parts[2:]
		default:
			continue // such as the version
		}
		if parts[0] == "namespaces" && len(parts) > 2 {
			parts = parts[2:]
		}
		if len(parts) < 3 && !strings.HasPrefix(parts[0], "selfsubject") { // not what a pod says
			found[parts[0]] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// TestWhatMayNotBeReadIsSaid: of each kind that a command reads it says that it may not, if that is
// so, and why; what decides that all is well does not say so then.
func TestWhatMayNotBeReadIsSaid(t *testing.T) {
	tried := 0
	for name, c := range conducts {
		t.Run(name, func(t *testing.T) {
			all := c.cluster(t)
			c.asks(t, all)
			for _, resource := range resourcesOf(all.Requests()) {
				server := c.cluster(t)
				server.Forbidden[resource] = true
				text, code := c.says(t, server.Start(t), "Forbidden")
				one := strings.TrimSuffix(resource, "s")
				if !strings.Contains(text, one) || !strings.Contains(text, "Forbidden") {
					t.Errorf("%s may not be read, and it says:\n%s", resource, text)
				}
				if code == ExitOK && !c.mayEndWell {
					t.Errorf("%s may not be read, and all is well:\n%s", resource, text)
				}
				tried++
			}
		})
	}
	if tried < 100 {
		t.Errorf("only %d kinds of all commands were tried", tried)
	}
}

// TestExitCodes: 0 if nothing is wrong or differs, 1 if something does, above 1 if there is no
// answer. What has no answer prints none.
func TestExitCodes(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{name: a, context: {cluster: " +
		"a}}]\nclusters: [{name: a, cluster: {server: \"http://127.0.0.1:1\"}}]\n"
	if err := os.WriteFile(nowhere, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	healthy := clitest.New(well(t)...).Start(t)
	for name, c := range conducts {
		t.Run(name, func(t *testing.T) {
			want := ExitError
			if c.alone {
				want = ExitOK
			}
			if text, code := c.says(t, nowhere, "\n"); code != want || !strings.Contains(text, "refused") {
				t.Errorf("without an API server: exit code %d:\n%s", code, text)
			}
			strange := c
			strange.args += " --funny"
			if text, code := strange.says(t, healthy, "\n"); code != ExitError ||
				!strings.HasPrefix(text, "error: ") || strings.Count(text, "\n") != 1 {
				t.Errorf("with a flag that is not: exit code %d:\n%s", code, text)
			}
		})
	}
	for _, test := range []struct {
		args string
		code int
	}{
		{"status", ExitOK},
		{"check", ExitOK},
		{"pools", ExitOK},
		{"services -A", ExitOK},
		{"nodes", ExitOK},
		{"sessions", ExitOK},
		{"routes", ExitOK},
		{"explain pool/lan", ExitOK},
		{"plan -f testdata/plan/node4.yaml", ExitOK},
		{"plan --delete pool/lan", ExitProblems},
		{"dashboard --snapshot -", ExitOK},
		{"version", ExitOK},
	} {
		if got := run(t, healthy, strings.Fields(test.args)...); got.code != test.code {
			t.Errorf("%s: exit code %d, want %d:\n%s%s", test.args, got.code, test.code, got.out, got.err)
		}
	}
}

// describe returns the flags of a set, as users see them.
func describe(flags *pflag.FlagSet) map[string]string {
	out := map[string]string{}
	flags.VisitAll(func(f *pflag.Flag) {
		out[f.Name] = fmt.Sprintf("-%s %s %s", f.Shorthand, f.Value.Type(), f.DefValue)
	})
	return out
}

// TestFiltersAreAlikeEverywhere: every list takes the same flags, with the same meaning.
func TestFiltersAreAlikeEverywhere(t *testing.T) {
	all := commands()
	want := describe(all["services"].LocalNonPersistentFlags())
	for _, name := range []string{"pool", "node", "peer", "address", "service", "selector", "problems",
		"watch", "watch-only", "all-namespaces", "output", "no-headers"} {
		if want[name] == "" {
			t.Errorf("lists do not take --%s", name)
		}
	}
	for _, l := range listings {
		got := describe(all[l.use].LocalNonPersistentFlags())
		if l.use == "pools" {
			delete(got, "services") // a form of its own
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s takes %v, and services %v", l.use, got, want)
		}
	}
}

// TestEveryCommandIsLikeKubectl: it takes kubectl's flags, explains itself by the name that users
// type, and completes words.
func TestEveryCommandIsLikeKubectl(t *testing.T) {
	kubectls := pflag.NewFlagSet("kubectl", pflag.ContinueOnError)
	genericclioptions.NewConfigFlags(true).AddFlags(kubectls)
	for name, c := range commands() {
		kubectls.VisitAll(func(f *pflag.Flag) {
			if own := c.InheritedFlags().Lookup(f.Name); own == nil || own.Shorthand != f.Shorthand {
				t.Errorf("%s does not take --%s as kubectl does", name, f.Name)
			}
		})
		got := run(t, os.DevNull, name, "--help")
		if got.code != ExitOK || !strings.Contains(got.out, "kubectl berth "+name) {
			t.Errorf("%s --help: exit code %d:\n%s%s", name, got.code, got.out, got.err)
		}
		if c.ValidArgsFunction == nil {
			t.Errorf("%s completes names of files, which it does not take", name)
		}
	}
}
