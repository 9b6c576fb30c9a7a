package suite

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
	"github.com/berth-lb/berth/e2e/product"
	"github.com/berth-lb/berth/e2e/watch"
)

// TestControlPlaneOutage: the API server is away and the speakers' port is blocked on all nodes, for longer
// than the limit after which a speaker takes itself for isolated. What the cluster serves it goes on to
// serve: no route is withdrawn, each address of the LAN is answered for by one node, and clients lose
// nothing. Afterwards new Services are given addresses.
func TestControlPlaneOutage(t *testing.T) {
	if _, err := os.Stat("/usr/lib/frr/bgpd"); err != nil {
		t.Fatal("needs FRR: `make deps` installs it")
	}
	limit := defaultOf(t, "BERTH_ISOLATION_TIMEOUT")
	router(t, peering.Router{Host: lab.HostRouter})
	sessions, manifests := peers("outage", lab.RouterAddresses)
	apply(t, manifests)
	addresses := aDualStack(t, "outage", spans(247, 247))
	apply(t, peering.Announced("outage-bgp", "198.51.100.32/32, 2001:db8:100::32/128", ""))
	apply(t, echo("outage-bgp", "outage", "externalTrafficPolicy: Local"))
	routed := addressesOf(t, "outage-bgp")
	for _, peer := range sessions {
		established(t, peer)
	}
	routedTo(t, lab.HostRouter, routed, cluster.NodeNames()...)

	e := watched(t, addresses)
	e.known(t)
	from := e.served(t)
	before := e.owners(t)
	routes, err := watch.StartRoutes(cluster, lab.HostRouter)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := routes.Stop(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		mendControlPlane(t)
		kubernetesAnew(t)
	})
	start := time.Now()
	// One that is killed stays in the Service by which pods reach it: they find it at once when it is back.
	if err := cluster.Component(lab.APIServer).Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, node := range cluster.NodeNames() {
		if err := cluster.Node(node).Block(t.Context(), product.MemberPort); err != nil {
			t.Fatal(err)
		}
	}
	// The limit is looked at every few seconds, and whoever is isolated must have had the time to say so.
	for time.Since(start) < 3*limit {
		time.Sleep(time.Second)
		err := peering.Reached(t.Context(), cluster, lab.HostRouter, routed, cluster.NodeNames()...)
		if err != nil {
			t.Errorf("%s after the outage began: %v", time.Since(start).Round(time.Second), err)
			break
		}
	}
	to := time.Now().Add(-200 * time.Millisecond)
	loss, at := e.longest(addresses, from, to)
	var withdrawn []watch.RouteEvent
	for _, event := range routes.Events(start) {
		if slices.ContainsFunc(routed, event.Prefix.Contains) {
			withdrawn = append(withdrawn, event)
		}
	}
	owners := watch.Owners(e.claimsSince(t, to.Add(-time.Second)), to.Add(-time.Second))
	fmt.Printf("figure: API server away and member port blocked for %s, isolation limit %s: "+
		"%d changes of routes, a client of the LAN lost an address for %d ms at most\n",
		time.Since(start).Round(time.Second), limit, len(withdrawn), loss.Milliseconds())
	if len(withdrawn) > 0 {
		t.Errorf("routes changed: %v", withdrawn)
	}
	if loss > lossLimit {
		t.Errorf("the client lost %s for %d ms", at, loss.Milliseconds())
	}
	for _, addr := range addresses {
		if mac, answered := owners[addr]; !answered {
			t.Errorf("nobody answers for %s, which %s had", addr, before[addr])
		} else if node := nodeOf(t, mac.String()); node != before[addr] {
			t.Errorf("%s is at %s and was at %s", addr, node, before[addr])
		}
	}
	e.clear(t, start)
	for _, addr := range routed {
		if line, err := page(t.Context(), lab.HostExt, addr.String(), time.Second); err != nil {
			t.Errorf("the client behind the router gets %q, %v from %s", line, err, addr)
		}
	}

	mendControlPlane(t)
	back := time.Now()
	whole(t)
	end := e.served(t)
	if loss, at := e.longest(addresses, to, end); loss > fewLost {
		t.Errorf("the client lost %s for %d ms when the control plane was back", at, loss.Milliseconds())
	}
	e.clear(t, back)
	if after := e.owners(t); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("owners are %v afterwards, and were %v", after, before)
	}
	stillRouted(t, routed)
	apply(t, pool("outage-after", spans(248, 248)))
	apply(t, service("outage-after", "outage", ""))
	eventually(t, time.Minute, "a new Service has an address", func() (bool, string) {
		got := address(t, "outage-after")
		return got != "", condition(t, "service outage-after", "berth.io/AddressAssigned")
	})
}

func stillRouted(t *testing.T, routed []netip.Addr) {
	t.Helper()
	err := peering.Reached(t.Context(), cluster, lab.HostRouter, routed, cluster.NodeNames()...)
	if err != nil {
		t.Error(err)
	}
}

// mendControlPlane starts the API server, if it is stopped, and opens the port.
func mendControlPlane(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 3*time.Minute)
	defer cancel()
	for _, node := range cluster.NodeNames() {
		if err := cluster.Node(node).Heal(ctx); err != nil {
			t.Error(err)
		}
	}
	if _, err := cluster.API().Kubectl(ctx, "get", "--raw", "/readyz"); err == nil {
		return
	}
	if err := cluster.Component(lab.APIServer).Start(ctx); err != nil {
		t.Error(err)
		return
	}
	for ctx.Err() == nil {
		if product.Whole(ctx, cluster) == nil {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Error("the speakers do not work again")
}

// kubernetesAnew starts those parts of Kubernetes anew that follow the API server, after an outage of it.
// They would wait for up to a minute until they watch it again, and the next test for them.
func kubernetesAnew(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	for _, name := range []string{lab.ControllerManager, lab.Scheduler} {
		c := cluster.Component(name)
		if err := errors.Join(c.Stop(ctx), c.Start(ctx)); err != nil {
			t.Error(err)
		}
	}
	for _, program := range []string{"kubelet", "kube-proxy"} { // which their node starts again
		signalAll(t, program, syscall.SIGTERM)
	}
}
