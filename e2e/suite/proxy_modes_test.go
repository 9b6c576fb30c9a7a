package suite

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
)

// TestProxyModes: what stands behind an address is kube-proxy in each of its modes, or nothing. Berth does
// the same, and where something is forwarded the client is served. All other tests run in the mode of the lab
// that they share, so it is left out here.
func TestProxyModes(t *testing.T) {
	for _, mode := range lab.ProxyModes() {
		t.Run(string(mode), func(t *testing.T) {
			if mode == cluster.ProxyMode() {
				t.Skip("the shared lab has this mode: all other tests run in it")
			}
			start := time.Now()
			useLab(t, string(mode), lab.Options{ProxyMode: mode})
			fmt.Printf("figure: a cluster with kube-proxy in mode %s with Berth is up after %.1f s\n",
				mode, time.Since(start).Seconds())
			addresses := eight(t)
			if mode.Forwards() {
				checkForwarded(t, addresses)
			} else {
				checkUnforwarded(t, addresses)
			}
			if got := conflicts(t, addresses...); len(got) > 0 {
				t.Errorf("conflicts: %v", got)
			}
			fmt.Printf("figure: all that is tried with kube-proxy in mode %s took %.0f s\n",
				mode, time.Since(start).Seconds())
		})
	}
}

// modeTrials returns the ways in which nodes end that are tried in every mode.
func modeTrials() []trial {
	return slices.DeleteFunc(trials(), func(trial trial) bool {
		return !slices.Contains([]string{"crash", "cable", "drain"}, trial.name)
	})
}

// checkForwarded: from the client's side nothing differs from the shared lab.
func checkForwarded(t *testing.T, addresses []netip.Addr) {
	t.Run("straight line", TestStraightLine)
	t.Run("local", TestLocalTraffic)
	t.Run("source ranges", TestSourceRanges)
	t.Run("session affinity", TestSessionAffinity)
	t.Run("mixed protocols", TestMixedProtocols)
	for _, trial := range modeTrials() {
		t.Run(trial.name, func(t *testing.T) { trial.run(t, addresses) })
	}
	t.Run("BGP", checkForwardedRoutes)
}

// checkForwardedRoutes: a client behind a router is served by all nodes, and with traffic policy Local by
// those with a pod, which see its own address. What else TestBGP tries is the same in every mode.
func checkForwardedRoutes(t *testing.T) {
	_, ofCluster, ofLocal := routedServices(t)
	routedTo(t, lab.HostRouter, ofCluster, cluster.NodeNames()...)
	fetched(t, ofCluster, false)
	checkLocal(t, ofLocal, ofCluster)
}

// checkUnforwarded: addresses are assigned, each has one owner, they follow pods and leave nodes that end,
// and routes are announced, all without a client that could be served.
func checkUnforwarded(t *testing.T, addresses []netip.Addr) {
	t.Run("straight line", func(t *testing.T) {
		for _, addr := range addresses {
			line, err := page(t.Context(), lab.HostClient, addr.String(), 300*time.Millisecond)
			if err == nil {
				t.Errorf("%s answers %q, though nothing is forwarded", addr, line)
			}
		}
		whole(t)
		e := watched(t, addresses)
		from := time.Now()
		e.owners(t)
		time.Sleep(time.Second)
		e.clear(t, from)
	})
	t.Run("local", func(t *testing.T) { checkOwnerFollowsPod(t, func(string, string) {}) })
	for _, trial := range modeTrials() {
		t.Run(trial.name, func(t *testing.T) { checkTakenOver(t, trial, addresses) })
	}
	t.Run("BGP", checkUnconfirmedRoutes)
}

// checkTakenOver breaks the node that owns the most and waits until others answer in its place. What has
// moved stays when it is mended.
func checkTakenOver(t *testing.T, trial trial, addresses []netip.Addr) {
	t.Helper()
	whole(t)
	e := watched(t, addresses)
	from := time.Now()
	victim, owned := most(e.owners(t))
	mended := false
	t.Cleanup(func() {
		if !mended {
			trial.mend(t, victim)
		}
	})
	start := time.Now()
	trial.fault(t, victim)
	var next map[netip.Addr]string
	eventually(t, lossLimit, "others answer for what "+victim+" had", func() (bool, string) {
		next = e.owners(t)
		left := !slices.ContainsFunc(owned, func(a netip.Addr) bool { return next[a] == victim })
		return left, fmt.Sprint(next)
	})
	fmt.Printf("figure: nothing forwarded, %s of the owner of %d addresses: "+
		"others answer for all after %d ms\n",
		trial.name, len(owned), time.Since(start).Milliseconds())
	mended = true
	trial.mend(t, victim)
	whole(t)
	for addr, node := range e.owners(t) {
		if node != next[addr] {
			t.Errorf("%s was at %s and moved to %s when %s came back", addr, next[addr], node, victim)
		}
	}
	e.clear(t, from)
}

// checkUnconfirmedRoutes: nobody confirms the pods of a Service with traffic policy Local at its health check
// node port. The route is announced all the same, after a while, from where a pod is.
func checkUnconfirmedRoutes(t *testing.T) {
	router(t, peering.Router{Host: lab.HostRouter, Dynamic: true})
	apply(t, peering.Peer{Name: "first-v4", Address: lab.RouterAddresses.V4}.Manifest()+
		peering.Peer{Name: "first-v6", Address: lab.RouterAddresses.V6}.Manifest())
	apply(t, web("routed", "node1"))
	kubectl(t, "rollout", "status", "deployment/routed", "--timeout=60s")
	apply(t, peering.Announced("routed", "198.51.100.0/28, 2001:db8:100::/124", ""))
	for _, peer := range []string{"first-v4", "first-v6"} {
		established(t, peer)
	}
	for _, of := range []struct {
		policy string
		nodes  []string
	}{
		{"Cluster", cluster.NodeNames()},
		{"Local", []string{"node1"}},
	} {
		name := "routed-" + strings.ToLower(of.policy)
		apply(t, echo(name, "routed", "externalTrafficPolicy: "+of.policy))
		took := routedTo(t, lab.HostRouter, addressesOf(t, name), of.nodes...)
		fmt.Printf("figure: nothing forwarded, traffic policy %s: routes after %.1f s\n",
			of.policy, took.Seconds())
	}
}
