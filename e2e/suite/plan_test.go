package suite

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
)

// plannedRoute is a route of a plan, as far as it is compared.
type plannedRoute struct {
	Peer         string
	Gained, Lost *struct{ Nodes []string }
}

// plan is what `kubectl berth plan` says, as far as it is compared.
type plan struct {
	Services []struct {
		Namespace, Name, Reason string
		After                   []string
	}
	Addresses []struct{ Address, To string }
	Routes    []plannedRoute
	Changes   []struct {
		Verb   string
		Object struct{ Kind, Name string }
	}
	Objects []struct {
		Object struct{ Kind, Name string }
		Reason string
	}
}

// state is what the cluster is like, as far as plans tell of it.
type state struct {
	services map[string]string // reason and addresses
	owners   map[string]string // nodes that say that they own an address
	sent     map[string]int    // how many prefixes each session sends
	ready    map[string]string // reasons of configuration objects
}

// stateOf reads what the cluster is like from what controller and speakers write.
func stateOf(t *testing.T, b berth) state {
	t.Helper()
	out := state{services: map[string]string{}, owners: map[string]string{}, ready: map[string]string{}}
	var list struct {
		Items []struct {
			Name, Reason string
			Addresses    []struct {
				Address string
				Layer2  []struct{ Node, StandInFor string }
			}
		}
	}
	text, problems, code := b.run(t, "services", "-n", "default", "-o", "json")
	if code > 1 {
		t.Fatal(problems)
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	for _, s := range list.Items {
		out.services[s.Name] = s.Reason
		for _, a := range s.Addresses {
			out.services[s.Name] += " " + a.Address
			for _, l := range a.Layer2 {
				out.owners[a.Address] += l.Node
			}
		}
	}
	out.sent = sentRoutes(t, b)
	const template = `{range .items[*]}{.kind}/{.metadata.name} ` +
		`{.status.conditions[?(@.type=="Ready")].reason}{"\n"}{end}`
	kinds := "ipaddresspools,l2advertisements,bgpadvertisements,bgppeers"
	for line := range strings.Lines(kubectl(t, "get", kinds, "-o", "jsonpath="+template)) {
		object, reason, _ := strings.Cut(strings.TrimSpace(line), " ")
		out.ready[strings.ToLower(object)] = reason
	}
	return out
}

// foretold returns what a plan says that a state becomes.
func (s state) foretold(p plan) state {
	out := state{maps.Clone(s.services), maps.Clone(s.owners), maps.Clone(s.sent), maps.Clone(s.ready)}
	for _, one := range p.Services {
		out.services[one.Name] = strings.Join(append([]string{one.Reason}, one.After...), " ")
		if one.Reason == "" {
			delete(out.services, one.Name)
		}
	}
	for _, one := range p.Addresses {
		if out.owners[one.Address] = one.To; one.To == "" {
			delete(out.owners, one.Address)
		}
	}
	for _, r := range p.Routes {
		if r.Gained != nil {
			for _, node := range r.Gained.Nodes {
				out.sent[node+" "+r.Peer]++
			}
		}
		if r.Lost != nil {
			for _, node := range r.Lost.Nodes {
				out.sent[node+" "+r.Peer]--
			}
		}
	}
	maps.DeleteFunc(out.sent, func(_ string, n int) bool { return n == 0 })
	for _, c := range p.Changes {
		object := c.Object.Kind + "/" + c.Object.Name
		switch {
		case c.Verb == "Delete":
			delete(out.ready, object)
		case c.Verb == "Create" && (strings.HasPrefix(object, "ip") || strings.HasPrefix(object, "bgp")):
			out.ready[object] = "Accepted"
		}
	}
	for _, o := range p.Objects {
		out.ready[o.Object.Kind+"/"+o.Object.Name] = o.Reason
	}
	return out
}

// differs says in what two states differ, "" for in nothing.
func (s state) differs(o state) string {
	var out []string
	if !maps.Equal(s.services, o.services) {
		out = append(out, fmt.Sprintf("Services %v, want %v", s.services, o.services))
	}
	if !maps.Equal(s.owners, o.owners) {
		out = append(out, fmt.Sprintf("owners %v, want %v", s.owners, o.owners))
	}
	if !maps.Equal(s.sent, o.sent) {
		out = append(out, fmt.Sprintf("prefixes sent %v, want %v", s.sent, o.sent))
	}
	if !maps.Equal(s.ready, o.ready) {
		out = append(out, fmt.Sprintf("Ready %v, want %v", s.ready, o.ready))
	}
	return strings.Join(out, "\n")
}

// planned is a change, what plan is asked for it, and how it is made.
type planned struct {
	story    string
	manifest string   // to be applied, "" for none
	args     []string // of plan, besides
	kubectl  []string // what makes the change that args name
}

// plans are changes of the cluster of TestPlan, each of what the one before has left. owner is the node that
// owns the address of Service asked.
func plans(owner string) []planned {
	node := func(fields string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Node\nmetadata: {name: %s%s\n", owner, fields)
	}
	advertisement := func(kind, name, spec string) string {
		return fmt.Sprintf("apiVersion: berth.io/v1beta1\nkind: %s\nmetadata: {name: %s}\n"+
			"spec: {ipAddressPools: [%s]%s}\n", kind, name, name, spec)
	}
	const label = "node.kubernetes.io/exclude-from-external-load-balancers"
	notOwner := fmt.Sprintf(", nodeSelectors: "+
		"[{matchExpressions: [{key: kubernetes.io/hostname, operator: NotIn, values: [%s]}]}]", owner)
	return []planned{
		{story: "a Service more", manifest: serviceAsking("second", "asked")},
		{story: "one that its pool has nothing for", manifest: serviceAsking("third", "asked")},
		{story: "the pool gets more", manifest: poolOnly("asked", "10.77.0.230-10.77.0.234")},
		{story: "a Service asks for another pool", manifest: serviceAsking("second", "told")},
		{story: "the owner is cordoned", manifest: node("}\nspec: {unschedulable: true}")},
		{story: "and taken back", manifest: node("}\nspec: {unschedulable: false}")},
		{story: "it carries the exclude label", manifest: node(fmt.Sprintf(", labels: {%s: \"\"}}", label))},
		{
			story:    "an advertisement leaves it out",
			manifest: advertisement("L2Advertisement", "asked", notOwner),
		},
		{
			story:    "routes are announced together",
			manifest: advertisement("BGPAdvertisement", "told", ", aggregationLength: 28"),
		},
		{
			story:    "and from other nodes only",
			manifest: advertisement("BGPAdvertisement", "told", ", aggregationLength: 28"+notOwner),
		},
		{
			story:    "a second peer of the same router",
			manifest: peering.Peer{Name: "again", Address: lab.RouterAddresses.V4}.Manifest(),
		},
		{story: "a pool that overlaps", manifest: poolOnly("late", "10.77.0.234-10.77.0.236")},
		{
			story:   "a Service goes",
			args:    []string{"--delete", "service/default/third"},
			kubectl: []string{"delete", "service", "third"},
		},
		{
			story:   "a pool goes that Services have addresses of",
			args:    []string{"--delete", "pool/asked"},
			kubectl: []string{"delete", "ipaddresspool", "asked"},
		},
	}
}

// serviceAsking is a Service for the pods asked that takes its address from a pool.
func serviceAsking(name, pool string) string {
	return strings.Replace(serviceOf(name), "berth.io/address-pool: "+name, "berth.io/address-pool: "+pool, 1)
}

// poolOnly is a pool without an advertisement.
func poolOnly(name, addresses string) string {
	return fmt.Sprintf("apiVersion: berth.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: %s}\n"+
		"spec: {addresses: [%s]}\n", name, addresses)
}

// TestPlan: of changes in the real cluster, what plan says is what then happens.
func TestPlan(t *testing.T) {
	needs(t, ipv4, "what plans say does not depend on the family")
	fullOnly(t, "minutes; tests of internal/cli compare plans with what controller and speakers do in memory")
	b := buildBerth(t)
	router(t, peering.Router{Host: lab.HostRouter, Dynamic: true})
	apply(t, peering.Peer{Name: "first-v4", Address: lab.RouterAddresses.V4}.Manifest())
	apply(t, pool("asked", "10.77.0.230-10.77.0.231"))
	apply(t, peering.Announced("told", "198.51.100.0/28", ""))
	apply(t, web("asked", "node1", "node2"))
	apply(t, serviceOf("asked")+"---\n"+serviceOf("told"))
	kubectl(t, "rollout", "status", "deployment/asked", "--timeout=60s")
	owner := ownedBy(t, hasAddress(t, "asked"), cluster.NodeNames()...)
	for _, made := range []string{"service/second", "service/third", "ipaddresspool/late", "bgppeer/again"} {
		cleanup(t, "delete", "--ignore-not-found", made)
	}
	cleanup(t, "uncordon", owner)
	cleanup(t, "label", "node", owner, "node.kubernetes.io/exclude-from-external-load-balancers-")
	eventually(t, 30*time.Second, "speakers say that they announce both Services", func() (bool, string) {
		asked, _, code := b.run(t, "services", "--service", "asked")
		told, _, other := b.run(t, "services", "--service", "told")
		return code == 0 && other == 0 && len(sentRoutes(t, b)) > 0, asked + told
	})

	for _, c := range plans(owner) {
		done := t.Run(c.story, func(t *testing.T) {
			args := slices.Concat([]string{"plan", "-o", "json"}, c.args)
			if c.manifest != "" {
				file := filepath.Join(t.TempDir(), "change.yaml")
				if err := os.WriteFile(file, []byte(c.manifest), 0o600); err != nil {
					t.Fatal(err)
				}
				args = append(args, "-f", file)
			}
			text, problems, code := b.run(t, args...)
			var says plan
			if err := json.Unmarshal([]byte(text), &says); err != nil || code > 1 {
				t.Fatalf("exit code %d, %v: %s%s", code, err, text, problems)
			}
			want := stateOf(t, b).foretold(says)
			c.make(t)
			eventually(t, time.Minute, "the cluster is as the plan says", func() (bool, string) {
				differs := stateOf(t, b).differs(want)
				return differs == "", differs + "\nthe plan is " + text
			})
		})
		if !done {
			return // the next changes what this one should have left
		}
	}
}

// make makes the change.
func (c planned) make(t *testing.T) {
	t.Helper()
	if c.manifest != "" {
		_, err := cluster.API().KubectlInput(t.Context(), strings.NewReader(c.manifest), "apply", "-f", "-")
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(c.kubectl) > 0 {
		kubectl(t, c.kubectl...)
	}
}
