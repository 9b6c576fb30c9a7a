package suite

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
	"github.com/berth-lb/berth/e2e/product"
)

// TestOneFamily: clusters whose nodes, pods and Services have addresses of one IP family only, with Berth's
// manifests as they are. Pools offer both families, as those of a user who moves from one to two do.
func TestOneFamily(t *testing.T) {
	ownFamilies(t)
	for _, families := range []lab.Families{lab.IPv6Only, lab.IPv4Only} {
		t.Run(string(families), func(t *testing.T) {
			if families == lab.IPv4Only {
				fullOnly(t, "40 s; the shared lab has IPv4 too")
			}
			start := time.Now()
			useLab(t, string(families), lab.Options{Nodes: 2, Families: families})
			fmt.Printf("figure: a cluster of %s with Berth is up after %.1f s\n",
				families, time.Since(start).Seconds())
			nodes := cluster.NodeNames()
			apply(t, web("single", nodes...))
			apply(t, pool("single", "10.77.0.112/28, fd77::120/124"))
			kubectl(t, "rollout", "status", "deployment/single", "--timeout=60s")
			checkMembersOf(t, families)

			apply(t, echo("single", "single", "externalTrafficPolicy: Local"))
			first := onlyAddress(t, "single", families)
			checkOwnerDies(t, families, first)
			checkRouted(t, families)
			checkPorts(t, families)
			if got := conflicts(t, first); len(got) > 0 {
				t.Errorf("conflicts: %v", got)
			}
		})
	}
}

// onlyAddress waits until a Service has an address, which must be of the cluster's family and its only one.
func onlyAddress(t *testing.T, service string, families lab.Families) netip.Addr {
	t.Helper()
	addr, err := netip.ParseAddr(hasAddress(t, service))
	if err != nil || addr.Is6() != (families == lab.IPv6Only) {
		t.Fatalf("%s has %s, %v in a cluster of %s", service, addr, err, families)
	}
	got := condition(t, "service "+service, "berth.io/AddressAssigned")
	if !strings.HasPrefix(got, "Assigned: ") {
		t.Errorf("%s says %q", service, got)
	}
	return addr
}

// checkMembersOf: the speakers reach each other by the cluster's family, as `kubectl get speakers -o wide`
// shows.
func checkMembersOf(t *testing.T, families lab.Families) {
	t.Helper()
	whole(t)
	wide := kubectl(t, "get", "speakers", "-o", "wide")
	for i := range cluster.NodeNames() {
		want := netip.AddrPortFrom(families.Of(lab.NodeAddresses(i + 1))[0], product.MemberPort).String()
		if !strings.Contains(wide, " "+want+" ") {
			t.Errorf("no speaker is reached at %s:\n%s", want, wide)
		}
	}
}

// checkOwnerDies crashes the owner of an address under traffic: the other node has the address, new Services
// are served meanwhile, and nothing moves back.
func checkOwnerDies(t *testing.T, families lab.Families, addr netip.Addr) {
	t.Helper()
	_, took := served(t, addr.String())
	e := watched(t, []netip.Addr{addr})
	e.known(t)
	from := e.served(t)
	victim := e.owners(t)[addr]
	if err := cluster.Node(victim).Crash(t.Context()); err != nil {
		t.Fatal(err)
	}
	back := false
	start := func() {
		if !back {
			back = true
			if err := cluster.Node(victim).Start(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(start)
	time.Sleep(time.Second)
	to := e.served(t)
	loss, _ := e.longest(e.addresses, from, to)
	next := e.owners(t)[addr]
	if next == victim || loss > lossLimit {
		t.Errorf("%s was at %s, is at %s, and was lost for %s", addr, victim, next, loss)
	}

	created := time.Now()
	apply(t, echo("late", "single", ""))
	served(t, onlyAddress(t, "late", families).String())
	fmt.Printf("figure: %s: first page after %.1f s, crash of the owner %d ms lost, "+
		"a Service made while it is down served after %.1f s\n",
		families, took.Seconds(), loss.Milliseconds(), time.Since(created).Seconds())

	start()
	whole(t)
	end := e.served(t)
	if again := e.owners(t)[addr]; again != next {
		t.Errorf("%s moved from %s to %s when %s came back", addr, next, again, victim)
	}
	if loss, _ := e.longest(e.addresses, to, end); loss > fewLost {
		t.Errorf("%s was lost for %s when %s came back", addr, loss, victim)
	}
	e.clear(t, from)
}

// checkRouted: the nodes have sessions with a router over the cluster's family, and a client behind it is
// served.
func checkRouted(t *testing.T, families lab.Families) {
	t.Helper()
	router(t, peering.Router{Host: lab.HostRouter, Dynamic: true})
	entry := "198.51.100.32/28"
	if families == lab.IPv6Only {
		entry = "2001:db8:100::20/124"
	}
	apply(t, peering.Peer{Name: "single", Address: families.Of(lab.RouterAddresses)[0]}.Manifest()+
		peering.Announced("routed", entry, ", autoAssign: false"))
	apply(t, strings.Replace(echo("routed", "single", "externalTrafficPolicy: Cluster"),
		"metadata: {name: routed}",
		"metadata: {name: routed, annotations: {berth.io/address-pool: routed}}", 1))
	addr := onlyAddress(t, "routed", families)
	up := established(t, "single")
	took := routedTo(t, lab.HostRouter, []netip.Addr{addr}, cluster.NodeNames()...)
	fetched(t, []netip.Addr{addr}, false)
	fmt.Printf("figure: %s: sessions of all nodes up after %.1f s, routes after %.1f s more\n",
		families, up.Seconds(), took.Seconds())
	for _, object := range []string{
		"bgpadvertisement routed", "bgppeer single", "l2advertisement single", "ipaddresspool single",
	} {
		eventually(t, 10*time.Second, object+" is ready", func() (bool, string) {
			got := condition(t, object, "Ready")
			return strings.HasPrefix(got, "Accepted: "), got
		})
	}
}

// checkPorts: metrics and health are served at the nodes' addresses.
func checkPorts(t *testing.T, families lab.Families) {
	t.Helper()
	token := metricsReader(t)
	for i, node := range cluster.NodeNames() {
		addr := families.Of(lab.NodeAddresses(i + 1))[0]
		metrics := netip.AddrPortFrom(addr, metricsPort).String()
		out, err := cluster.Client().Exec(t.Context(), "curl", "-gsk", "-m", "5", "-H",
			"Authorization: Bearer "+token, "https://"+metrics+"/metrics")
		if err != nil || !strings.Contains(string(out), "berth_speaker_members 2") {
			t.Errorf("%s: metrics do not tell of two members: %v\n%.300s", metrics, err, out)
		}
		health := netip.AddrPortFrom(addr, healthPort).String()
		if out, err := cluster.Node(node).Exec(t.Context(), "curl", "-gsf", "-m", "5", "http://"+health+
			"/readyz"); err != nil {
			t.Errorf("%s is not ready: %s, %v", health, out, err)
		}
	}
}
