package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/berth-lb/berth/internal/cli/clitest"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

var update = flag.Bool("update", false, "write the expected outputs anew")

// noon is when the stories happen.
var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// outputs are what a command printed, and its exit code.
type outputs struct {
	out, err string
	code     int
}

// run runs a command line against a cluster.
func run(t testing.TB, kubeconfig string, args ...string) outputs {
	t.Helper()
	t.Setenv("KUBECONFIG", kubeconfig)
	t.Setenv("LANG", "C.UTF-8")
	var out, errOut bytes.Buffer
	streams := genericiooptions.IOStreams{In: &bytes.Buffer{}, Out: &out, ErrOut: &errOut}
	code := runMain(t.Context(), append([]string{"kubectl-berth"}, args...), streams,
		func() time.Time { return noon })
	return outputs{out.String(), errOut.String(), code}
}

// shop is the cluster of most stories.
func shop(t testing.TB) *clitest.Server {
	t.Helper()
	return clitest.New(clitest.Load(t, filepath.Join("testdata", "shop.yaml"))...)
}

// TestStories: what each command prints of a cluster, word by word.
func TestStories(t *testing.T) {
	all := shop(t)
	partly := shop(t)
	partly.Forbidden = map[string]bool{"services": true, "speakers": true, "leases": true, "events": true}
	partly.AllowedIn = "shop"
	unknown := shop(t)
	unknown.Forbidden["endpointslices"] = true
	bare := clitest.New()
	for _, resource := range []string{"ipaddresspools", "l2advertisements", "bgpadvertisements", "bgppeers",
		"bfdprofiles", "communities", "speakers"} {
		bare.Missing[resource] = true
	}

	for _, story := range []struct {
		name   string
		server *clitest.Server
		args   string
		code   int
	}{
		{"status", all, "status", ExitProblems},
		{"status-ascii", all, "status --ascii", ExitProblems},
		{"status-partly", partly, "status", ExitProblems},
		{"status-bare", bare, "status", ExitProblems},
		{"pools", all, "pools", ExitProblems},
		{"pools-wide", all, "pools -o wide", ExitProblems},
		{"pools-services", all, "pools --services", ExitProblems},
		{"services", all, "services -A", ExitProblems},
		{"services-here", all, "services", ExitProblems},
		{"services-problems", all, "services -A --problems -o wide", ExitProblems},
		{"services-node", all, "services -A --node node1", ExitOK},
		{"services-partly", partly, "services", ExitProblems},
		{"nodes", all, "nodes -o wide", ExitOK},
		{"sessions", all, "sessions -o wide", ExitProblems},
		{"routes", all, "routes", ExitProblems},
		{"routes-service", all, "routes --service api --node node1 -o wide", ExitOK},
		{"explain-web", all, "explain svc/web -n default", ExitOK},
		{"explain-idle", all, "explain default/idle", ExitProblems},
		{"explain-api", all, "explain api", ExitOK},
		{"explain-cart", all, "explain service cart", ExitProblems},
		{"explain-internal", all, "explain svc/internal", ExitOK},
		{"explain-cart-partly", partly, "explain service cart", ExitProblems},
		{"explain-held", all, "explain 10.77.0.200", ExitOK},
		{"explain-excluded", all, "explain 10.77.0.209", ExitOK},
		{"explain-free", all, "explain 10.77.0.205", ExitOK},
		{"explain-nowhere", all, "explain 192.0.2.1", ExitOK},
		{"explain-node-address", all, "explain 10.77.0.11", ExitOK},
		{"explain-pool", all, "explain pool/dmz", ExitOK},
		{"explain-node", all, "explain node/node1", ExitOK},
		{"explain-peer", all, "explain peer/tor", ExitProblems},
		{"version", all, "version", ExitOK},
		{"plan-nothing", all, "plan -f testdata/plan/same.yaml", ExitOK},
		{"plan-drain", all, "plan --drain node1", ExitProblems},
		{"plan-fail", all, "plan --fail node1 -o wide", ExitProblems},
		{"plan-add", all, "plan --add node4 -f testdata/plan/node4.yaml", ExitProblems},
		{"plan-wider", all, "plan -f testdata/plan/wider.yaml", ExitProblems},
		{"plan-delete-pool", all, "plan --delete pool/lan", ExitProblems},
		{"plan-replace-pool", all, "plan --delete pool/dmz -f testdata/plan/other-pool.yaml", ExitProblems},
		{"plan-delete-service", all, "plan --delete svc/api,node/node2 --ascii", ExitProblems},
		{"plan-kustomize", all, "plan -k testdata/plan/kustomize", ExitProblems},
		{"plan-invalid", all, "plan -f testdata/plan/invalid.yaml", ExitProblems},
		{"plan-app", all, "plan -f testdata/plan/app.yaml", ExitProblems},
		{"plan-partly", unknown, "plan --drain node1", ExitProblems},
		{"plan-json", all, "plan --drain node1 -o json", ExitProblems},
	} {
		t.Run(story.name, func(t *testing.T) {
			got := run(t, story.server.Start(t), strings.Fields(story.args)...)
			if got.code != story.code {
				t.Errorf("exit code %d, want %d", got.code, story.code)
			}
			text := "$ kubectl berth " + story.args + "\n" + got.out
			if got.err != "" {
				text += "--- stderr\n" + got.err
			}
			compare(t, filepath.Join("testdata", "stories", story.name+".txt"), text)
		})
	}
}

// compare compares a text with what a file has.
func compare(t *testing.T, file, text string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

// TestFormats: every format of -o prints the same facts.
func TestFormats(t *testing.T) {
	config := shop(t).Start(t)
	var list v1alpha1.ServiceList
	if err := json.Unmarshal([]byte(run(t, config, "services", "-A", "-o", "json").out), &list); err != nil {
		t.Fatal(err)
	}
	if list.Kind != "ServiceList" || list.APIVersion != v1alpha1.APIVersion || len(list.Items) != 4 {
		t.Errorf("JSON is %+v", list)
	}
	var again v1alpha1.ServiceList
	text := run(t, config, "services", "-A", "-o", "yaml").out
	if err := yaml.UnmarshalStrict([]byte(text), &again); err != nil {
		t.Fatal(err)
	}
	if len(again.Items) != len(list.Items) || again.Items[3].Name != list.Items[3].Name {
		t.Errorf("YAML is %+v", again)
	}
	for _, test := range []struct{ args, want string }{
		{"services -A -o name", "service/idle\nservice/web\nservice/api\nservice/cart\n"},
		{"pools -o name", "ipaddresspool.berth.io/dmz\nipaddresspool.berth.io/lan\n"},
		{"sessions -o name", "bgppeer.berth.io/tor\n"},
		{"nodes --node node1 -o name", "node/node1\n"},
		{"services -A -o jsonpath={.items[*].name}", "idle web api cart"},
		{"status -o jsonpath={.verdict}", "Problems"},
		{"services -A -o " +
			"go-template={{range.items}}{{.reason}},{{end}}", "Assigned,Assigned,Assigned,PoolsExhausted,"},
		{
			"services -A -o custom-columns=N:.name,A:.addresses[*].address",
			"N      A\nidle   10.77.0.201\nweb    10.77.0.200\napi    10.88.0.0\ncart   <none>\n",
		},
		{"services -A -o custom-columns=N:name --no-headers", "idle\nweb\napi\ncart\n"},
		{"explain svc/web -n default -o jsonpath={.kind}", "Explanation"},
	} {
		if got := run(t, config, strings.Fields(test.args)...); got.out != test.want {
			t.Errorf("%s prints %q (%s), want %q", test.args, got.out, got.err, test.want)
		}
	}
}

// TestErrors: what cannot be answered ends with exit code 2 and says why.
func TestErrors(t *testing.T) {
	server := shop(t)
	server.Forbidden["ipaddresspools"] = true
	config := server.Start(t)
	for _, test := range []struct{ args, says string }{
		{"pools", "ipaddresspools.berth.io could not be read (Forbidden)"},
		{"routes", "what the nodes announce cannot be computed"},
		{"explain svc/none", `there is no Service "none" in namespace "shop"`},
		{"explain pool/none", "Forbidden"},
		{"explain none", "Forbidden"},
		{"explain ip/none", "no IP address"},
		{"explain thing none", "no kind that can be explained"},
		{"services -o funny", `"funny" is not valid`},
		{"services -o custom-columns=x", "HEADER:PATH"},
		{"services --color funny", `"funny" is not valid`},
		{"services --address funny", "no IP address"},
		{"services -l =", "--selector"},
		{"services extra", "unknown command"},
		{"watch -o yaml", "use json"},
		{"plan", "say what is to be changed"},
		{"plan -f testdata/plan/same.yaml", "what becomes of the cluster cannot be computed: not all of " +
			"ipaddresspools.berth.io (Forbidden) could be read"},
		{"plan --drain node9", "cannot be computed"},
		{"plan --delete pool/none", "cannot be computed"},
	} {
		got := run(t, config, strings.Fields(test.args)...)
		if got.code != ExitError || !strings.Contains(got.err, test.says) {
			t.Errorf("%s: exit code %d, says %q, want %q in it", test.args, got.code, got.err, test.says)
		}
	}
}

// TestErrorsOfPlans: a change that is not one is refused, and what is wrong with it is said.
func TestErrorsOfPlans(t *testing.T) {
	config := shop(t).Start(t)
	for _, test := range []struct{ args, says string }{
		{"plan --drain node9", `--drain: there is no node "node9"`},
		{"plan --fail node9", `--fail: there is no node "node9"`},
		{"plan --add node1", `--add: there is a node "node1" already`},
		{"plan --delete pool", `"pool" is not KIND/NAME`},
		{"plan --delete pool/none", "--delete: there is no ipaddresspool none"},
		{"plan --delete deployment/web", "what the deletion of a deployment brings cannot be judged"},
		{"plan -f testdata/plan/none.yaml", `the path "testdata/plan/none.yaml" does not exist`},
		{"plan -f testdata/plan/unknown-field.yaml",
			"testdata/plan/unknown-field.yaml, document 2: ipaddresspool dmz: strict decoding error: " +
				"unknown field"},
		{"plan -f testdata/plan/broken.yaml", "document 2: error parsing testdata/plan/broken.yaml"},
		{"plan -f testdata/plan/no-kind.yaml", "document 2: unable to decode \"testdata/plan/no-kind.yaml\""},
		{"plan -k testdata", "-k testdata: "},
	} {
		got := run(t, config, strings.Fields(test.args)...)
		if got.code != ExitError || !strings.Contains(got.err, test.says) {
			t.Errorf("%s: exit code %d, says %q, want %q in it", test.args, got.code, got.err, test.says)
		}
	}
}

// TestNobodyAnswers: an API server that is not there is an error, and nothing is zero.
func TestNobodyAnswers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{name: a, context: {cluster: " +
		"a}}]\n" +
		"clusters: [{name: a, cluster: {server: \"http://127.0.0.1:1\"}}]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got := run(t, file, "status")
	if got.code != ExitError || got.out != "" || !strings.Contains(got.err, "connection refused") {
		t.Errorf("got %+v", got)
	}
	if got := run(t, file, "version"); got.code != ExitOK || !strings.Contains(got.out, "kubectl berth") {
		t.Errorf("the version of the program alone: %+v", got)
	}
}

// TestPagesAreReadWhole: with small pages a command says the same as with large ones.
func TestPagesAreReadWhole(t *testing.T) {
	server := shop(t)
	config := server.Start(t)
	want := run(t, config, "services", "-A", "-o", "wide")
	if got := run(t, config, "services", "-A", "-o", "wide", "--chunk-size", "1"); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestTheClassOfTheControllerCounts: which Services are handled stands in the Deployment,
// in the ConfigMap that it names, or in the flag.
func TestTheClassOfTheControllerCounts(t *testing.T) {
	config := shop(t).Start(t)
	got := run(t, config, "services", "-A", "-o", "name", "--load-balancer-class", "berth.io/other")
	if got.out != "" || got.code != ExitOK {
		t.Errorf("Services of another class: %+v", got)
	}
}

// TestUsageByName: the program speaks of itself as it is called.
func TestUsageByName(t *testing.T) {
	for name, want := range map[string]string{
		"kubectl-berth":     "kubectl berth status [flags]",
		"kubectl-berth.exe": "kubectl berth status [flags]",
		"berth":             "berth status [flags]",
	} {
		var out bytes.Buffer
		streams := genericiooptions.IOStreams{Out: &out, ErrOut: &out}
		code := Main(t.Context(), []string{"/usr/bin/" + name, "status", "--help"}, streams)
		if code != ExitOK || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %q is not in %s", name, want, out.String())
		}
	}
}

// TestCompletion: words are completed as kubectl asks for them.
func TestCompletion(t *testing.T) {
	t.Setenv("KUBECONFIG", shop(t).Start(t))
	for _, test := range []struct {
		words []string
		want  []string
	}{
		{[]string{"st"}, []string{"status"}},
		{[]string{"explain", ""}, []string{"node/", "peer/", "pool/", "service/"}},
		{[]string{"explain", "svc/"}, []string{"svc/api", "svc/cart"}},
		{[]string{"explain", "-n", "default", "svc/w"}, []string{"svc/web"}},
		{[]string{"explain", "pool", "l"}, []string{"lan"}},
		{[]string{"explain", "node/node"}, []string{"node/node1", "node/node2", "node/node3"}},
		{[]string{"services", "--pool", ""}, []string{"dmz", "lan"}},
		{[]string{"sessions", "--peer", "t"}, []string{"tor"}},
		{[]string{"pools", "-o", "custom"}, []string{"custom-columns"}},
		{[]string{"services", "-n", "sh"}, []string{"shop"}},
		{[]string{"plan", "--drain", "node"}, []string{"node1", "node2", "node3"}},
		{[]string{"plan", "--delete", "s"}, []string{"service/"}},
		{[]string{"plan", "--delete", "svc/c"}, []string{"svc/cart"}},
		{[]string{"plan", "--delete", "ipaddresspool/"}, []string{"ipaddresspool/dmz", "ipaddresspool/lan"}},
	} {
		var out bytes.Buffer
		streams := genericiooptions.IOStreams{Out: &out, ErrOut: &bytes.Buffer{}}
		code := Main(t.Context(), append([]string{completeName}, test.words...), streams)
		var got []string
		for line := range strings.Lines(out.String()) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			if word != "" && !strings.HasPrefix(word, ":") {
				got = append(got, word)
			}
		}
		if code != ExitOK || !slices.Equal(got, test.want) {
			t.Errorf("%v: got %v (%s), want %v", test.words, got, out.String(), test.want)
		}
	}
	var out bytes.Buffer
	streams := genericiooptions.IOStreams{Out: &out, ErrOut: &out}
	code := Main(t.Context(), []string{"kubectl-berth", "completion", "kubectl"}, streams)
	if code != ExitOK ||
		out.String() != "#!/usr/bin/env sh\nkubectl berth __complete \"$@\"\n" {
		t.Errorf("the script is %q", out.String())
	}
}

// TestColour is for terminals, unless it is asked for.
func TestColour(t *testing.T) {
	config := shop(t).Start(t)
	if got := run(t, config, "status"); strings.Contains(got.out, "\x1b") {
		t.Errorf("a pipe gets colours: %q", got.out)
	}
	if got := run(t, config, "status", "--color", "always"); !strings.Contains(got.out, "\x1b[31m×") {
		t.Errorf("there are no colours: %q", got.out)
	}
}

// watching runs a command until its output has a text, and returns all of it.
func watching(t *testing.T, config string, args []string, began func() bool, act func(), want string) string {
	t.Helper()
	t.Setenv("KUBECONFIG", config)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	out := &lockedBuffer{}
	streams := genericiooptions.IOStreams{Out: out, ErrOut: out}
	done := make(chan int, 1)
	go func() { done <- Main(ctx, append([]string{"kubectl-berth"}, args...), streams) }()
	for !began() && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	act()
	for !strings.Contains(out.String(), want) && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	if ctx.Err() != nil {
		t.Errorf("%v has not printed %q within a minute, but %q", args, want, out.String())
	}
	stop()
	<-done
	return out.String()
}

// load returns the objects of the cluster of the stories.
func load(t testing.TB) []client.Object {
	t.Helper()
	return clitest.Load(t, filepath.Join("testdata", "shop.yaml"))
}
