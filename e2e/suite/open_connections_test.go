package suite

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
	"github.com/berth-lb/berth/e2e/product"
	"github.com/berth-lb/berth/e2e/watch"
)

// What the tests of open connections open, and how they look at them.
const (
	openEach  = 30 // connections with one address
	talkEvery = 100 * time.Millisecond
	// quietLimit is how long a connection may be without an echo, at the end of the time that is looked at,
	// before it counts as silent: it is far more than the client's kernel needs to send twice.
	quietLimit = 3 * time.Second
)

// A disturbance is something that happens to a node under open connections.
type disturbance struct {
	name       string
	fault      func(t *testing.T, victim string)
	mend       func(t *testing.T, victim string)
	lasts      time.Duration // how long connections are looked at
	takesPods  bool          // pods on the node end
	movesOwned bool          // what the node owns, or the routes to it, are elsewhere afterwards
	// slow says why only the full suite has it; "" if every suite has.
	slow string
}

// planned reports whether the node is well and all is in order.
func (d disturbance) planned() bool { return d.name != "crash" }

// disturbances returns what the tests of open connections do to a node, the mildest first.
func disturbances() []disturbance {
	run := func(t *testing.T, args ...string) {
		t.Helper()
		// Also when the test has ended: what is broken must be mended.
		if _, err := cluster.API().Kubectl(context.WithoutCancel(t.Context()), args...); err != nil {
			t.Error(err)
		}
	}
	uncordon := func(t *testing.T, victim string) { t.Helper(); run(t, "uncordon", victim) }
	try := func(do func(*lab.Node, context.Context) error) func(*testing.T, string) {
		return func(t *testing.T, victim string) {
			t.Helper()
			if err := do(cluster.Node(victim), context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		}
	}
	return []disturbance{
		{
			name: "all speakers replaced",
			fault: func(t *testing.T, _ string) {
				run(t, "rollout", "restart", "-n", system, product.Speaker)
				run(t, "rollout", "status", "-n", system, product.Speaker, "--timeout=60s")
			},
			mend:  func(*testing.T, string) {},
			lasts: 5 * time.Second,
		},
		{
			name:       "cordon",
			fault:      func(t *testing.T, victim string) { t.Helper(); run(t, "cordon", victim) },
			mend:       uncordon,
			lasts:      8 * time.Second,
			movesOwned: true,
		},
		{
			name: "drain",
			fault: func(t *testing.T, victim string) {
				t.Helper()
				run(t, "drain", victim, "--ignore-daemonsets", "--delete-emptydir-data", "--force",
					"--timeout=60s")
			},
			mend:       uncordon,
			lasts:      12 * time.Second,
			takesPods:  true,
			movesOwned: true,
			slow:       "a quarter of a minute; a cordon breaks the same connections",
		},
		{
			name:       "crash",
			fault:      try((*lab.Node).Crash),
			mend:       try((*lab.Node).Start),
			lasts:      15 * time.Second,
			takesPods:  true,
			movesOwned: true,
			slow:       "half a minute; TestFailover crashes nodes",
		},
	}
}

// TestOpenConnections holds connections open through all that moves addresses, and says what their clients
// notice. Berth may break those only that enter by the node from which an address moves.
func TestOpenConnections(t *testing.T) {
	forwarded(t)
	for _, policy := range []string{"Cluster", "Local"} {
		t.Run("layer 2, "+policy, func(t *testing.T) {
			if policy == "Local" {
				fullOnly(t, "a minute; the same is tried with traffic policy Cluster")
			}
			addresses := eightOf(t, policy)
			for _, d := range disturbances() {
				t.Run(d.name, func(t *testing.T) {
					if d.slow != "" {
						fullOnly(t, d.slow)
					}
					checkOpenOnLAN(t, d, policy, addresses)
				})
			}
		})
	}
}

// opened opens connections of a host with an address until the test ends.
func opened(t *testing.T, host string, addr netip.Addr, count int) *watch.Connections {
	t.Helper()
	c, err := watch.OpenConnections(t.Context(), watch.ConnectionsConfig{
		Lab:      cluster,
		Host:     host,
		To:       netip.AddrPortFrom(addr, 80),
		Count:    count,
		Interval: talkEvery,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// A group of connections has something in common, which its name says.
type group struct {
	name  string
	fates watch.Fates
	// spared: nothing that happens concerns them.
	spared bool
}

// report prints a row for each group that is not empty, and fails the test if Berth broke what is spared, or
// if a planned move left clients without news of the end.
func report(t *testing.T, what string, planned bool, groups []group) {
	t.Helper()
	for _, g := range groups {
		if len(g.fates) == 0 {
			continue
		}
		fmt.Printf("figure: open connections, %s, %s: %s\n", what, g.name, g.fates)
		if stay := len(g.fates.Of(watch.Open)); g.spared && stay < len(g.fates) {
			t.Errorf("%s, %s: %d of %d stay open, want all", what, g.name, stay, len(g.fates))
		}
		if silent := len(g.fates.Of(watch.Silent)); planned && silent > 0 {
			t.Errorf("%s, %s: %d are silent, want all others reset or closed", what, g.name, silent)
		}
	}
}

// grouped sorts connections by the node of their pod.
func grouped(
	name string, c *watch.Connections, d disturbance, victim string, enters bool, from, to time.Time,
) []group {
	here := group{name: name + ", pod there", spared: !d.takesPods && !(enters && d.movesOwned)}
	elsewhere := group{name: name + ", pod elsewhere", spared: !(enters && d.movesOwned)}
	for _, one := range c.All() {
		g := &elsewhere
		if one.Node() == victim {
			g = &here
		}
		g.fates = append(g.fates, one.Fate(from, to, quietLimit))
	}
	return []group{here, elsewhere}
}

// checkOpenOnLAN disturbs the node that owns the most, under connections of a client on the LAN with
// addresses that it owns and with one that another owns.
func checkOpenOnLAN(t *testing.T, d disturbance, policy string, addresses []netip.Addr) {
	whole(t)
	e := watched(t, addresses)
	e.known(t)
	e.served(t)
	e.traffic.Stop() // it would keep the processors busy
	owners := e.owners(t)
	victim, owned := most(owners)
	var other netip.Addr
	for _, addr := range addresses {
		if owners[addr] != victim {
			other = addr
		}
	}
	ends := []netip.Addr{owned[0], owned[len(owned)-1]} // one of each family, mostly
	var theirs []*watch.Connections
	for _, addr := range ends {
		theirs = append(theirs, opened(t, lab.HostClient, addr, openEach))
	}
	control := opened(t, lab.HostClient, other, openEach)
	time.Sleep(time.Second)

	from := time.Now()
	mended := false
	t.Cleanup(func() {
		if !mended {
			d.mend(t, victim)
		}
	})
	d.fault(t, victim)
	time.Sleep(max(0, d.lasts-time.Since(from)))
	to := time.Now()

	what := fmt.Sprintf("layer 2, %s, %s", policy, d.name)
	for i, c := range theirs {
		family := "IPv4"
		if ends[i].Is6() {
			family = "IPv6"
		}
		report(t, what, d.planned(), grouped(family+" through the node", c, d, victim, true, from, to))
	}
	report(t, what, d.planned(), grouped("through another node", control, d, victim, false, from, to))
	mended = true
	d.mend(t, victim)
	restored(t)
}

// restored waits until there is a pod of the workload on each node again.
func restored(t *testing.T) {
	t.Helper()
	kubectl(t, "rollout", "status", "deployment/over", "--timeout=90s")
	whole(t)
}

// TestOpenConnectionsByBGP does the same for a client behind a router with equal routes to three nodes.
func TestOpenConnectionsByBGP(t *testing.T) {
	fullOnly(t, "three minutes of faults; TestOpenConnections has those of layer 2")
	forwarded(t)
	router(t, peering.Router{
		Host:            lab.HostRouter,
		Nodes:           cluster.NodeNames(),
		GracefulRestart: true,
		BFD:             true,
	})
	peer := func(name string, addr netip.Addr) string {
		return peering.Peer{Name: name, Address: addr, Restart: true, BFDProfile: "fast"}.Manifest()
	}
	apply(t, peering.BFDProfile("fast")+peer("open-v4", lab.RouterAddresses.V4)+
		peer("open-v6", lab.RouterAddresses.V6))
	apply(t, web("over", "node1", "node2", "node3"))
	apply(t, peering.Announced("over", "198.51.100.0/28, 2001:db8:100::/124", ""))
	apply(t, echo("over-cluster", "over", "externalTrafficPolicy: Cluster")+"---\n"+
		echo("over-local", "over", "externalTrafficPolicy: Local"))
	kubectl(t, "rollout", "status", "deployment/over", "--timeout=60s")
	for _, policy := range []string{"Cluster", "Local"} {
		addresses := addressesOf(t, "over-"+strings.ToLower(policy))
		for _, d := range disturbances() {
			t.Run(policy+", "+d.name, func(t *testing.T) { checkOpenByBGP(t, d, policy, addresses) })
		}
	}
}

// checkOpenByBGP disturbs one of three next hops, and looks at connections while it goes, and at others while
// it comes back.
func checkOpenByBGP(t *testing.T, d disturbance, policy string, addresses []netip.Addr) {
	const victim = "node2"
	restored(t)
	routedTo(t, lab.HostRouter, addresses, cluster.NodeNames()...)
	what := fmt.Sprintf("BGP, %s, %s", policy, d.name)
	mended := false
	t.Cleanup(func() {
		if !mended {
			d.mend(t, victim)
		}
	})
	var all []*watch.Connections
	begin := func() {
		t.Helper()
		all = nil
		for _, addr := range addresses {
			all = append(all, opened(t, lab.HostExt, addr, openEach))
		}
		time.Sleep(time.Second)
	}
	begin()
	from := time.Now()
	d.fault(t, victim)
	time.Sleep(max(0, d.lasts-time.Since(from)))
	report(t, what, d.planned(), byEntry(t, all, policy, d, victim, from, time.Now()))
	if !d.movesOwned {
		return
	}
	begin()
	from = time.Now()
	mended = true
	d.mend(t, victim)
	restored(t)
	routedTo(t, lab.HostRouter, addresses, cluster.NodeNames()...)
	time.Sleep(max(5*time.Second, d.lasts-time.Since(from)))
	back := disturbance{movesOwned: true}
	report(t, what+" mended", true, byEntry(t, all, policy, back, victim, from, time.Now()))
}

// entered names the node by which a connection entered the cluster when it was opened. A pod of a Service
// with traffic policy Cluster sees that node's address in place of the client's.
func entered(t *testing.T, one *watch.Connection, policy string) string {
	t.Helper()
	if policy == "Local" {
		return one.Node()
	}
	node := entryOf(one.Line)
	if node == "" {
		t.Fatalf("no node is %s", field(one.Line, "client"))
	}
	return node
}

// entryOf names the node that a pod of a Service with traffic policy Cluster names as its client, "" if it is
// none.
func entryOf(line string) string {
	seen, err := netip.ParseAddrPort(field(line, "client"))
	if err != nil {
		return ""
	}
	for i, name := range cluster.NodeNames() {
		a := lab.NodeAddresses(i + 1)
		pods := []string{fmt.Sprintf("10.244.%d.0/24", i+1), fmt.Sprintf("fd44:0:0:%x::/64", i+1)}
		if seen.Addr() == a.V4 || seen.Addr() == a.V6 ||
			slices.ContainsFunc(pods, func(p string) bool {
				return netip.MustParsePrefix(p).Contains(seen.Addr())
			}) {
			return name
		}
	}
	return ""
}

// everyNodeForwards waits until every node itself sends to pods what a host sends to it for these addresses.
// A node whose proxy has not written the rules yet sends it back to the LAN, to the node that its own
// neighbour cache names. If that one has the rules, the client is served, by a detour on which its connection
// stays. If nobody answers, the client is told after three seconds that there is no route to the host.
func everyNodeForwards(t *testing.T, addresses []netip.Addr) {
	t.Helper()
	forwarded(t)
	host := cluster.Host(lab.HostStranger)
	for _, addr := range addresses {
		for _, node := range cluster.NodeNames() {
			must(t)(host.Exec(t.Context(), "ip", "neigh", "replace", addr.String(),
				"lladdr", macOf(t, node), "dev", "eth0", "nud", "permanent"))
			eventually(t, 15*time.Second, node+" forwards "+addr.String(), func() (bool, string) {
				line, err := page(t.Context(), lab.HostStranger, addr.String(), 300*time.Millisecond)
				return entryOf(line) == node, fmt.Sprintln(line, err)
			})
		}
		must(t)(host.Exec(t.Context(), "ip", "neigh", "del", addr.String(), "dev", "eth0"))
	}
}

// byEntry sorts connections by the node by which they entered. Linux chooses anew for others when a next hop
// comes or goes, so only if none does those are spared.
func byEntry(
	t *testing.T, all []*watch.Connections, policy string, d disturbance, victim string, from, to time.Time,
) []group {
	t.Helper()
	groups := []group{
		{name: "entered by the node", spared: !d.movesOwned},
		{name: "entered by another node, pod on the node", spared: !d.movesOwned},
		{name: "entered by another node, pod elsewhere", spared: !d.movesOwned},
	}
	for _, c := range all {
		for _, one := range c.All() {
			at := 2
			switch {
			case entered(t, one, policy) == victim:
				at = 0
			case one.Node() == victim:
				at = 1
			}
			groups[at].fates = append(groups[at].fates, one.Fate(from, to, quietLimit))
		}
	}
	return groups
}
