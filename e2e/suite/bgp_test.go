package suite

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
)

// TestBGP: three nodes announce to FRR, a client behind it is served, and what is wrong with one peer is told
// and does no harm to others. The first router takes the nodes as docs/bgp.md says and has a session for each
// family of the lab; the second one has a password and both families over one session, of the first family.
func TestBGP(t *testing.T) {
	firsts, ofCluster, ofLocal := routedServices(t)

	t.Run("sessions", func(t *testing.T) { checkSessions(t, firsts) })
	t.Run("cluster", func(t *testing.T) {
		routedTo(t, lab.HostRouter, ofCluster, cluster.NodeNames()...)
		fetched(t, ofCluster, false)
	})
	t.Run("local", func(t *testing.T) { checkLocal(t, ofLocal, ofCluster) })
	t.Run("second router", func(t *testing.T) { checkSecondRouter(t, firsts, ofCluster) })
	t.Run("MetalLB's manifests", checkMetalLB)
	t.Run("by layer 2 as well", checkBothWays)
	// Other numbers are told after half a minute, which is over by now.
	t.Run("condition", func(t *testing.T) {
		eventually(t, time.Minute, "the Service says which nodes announce it", func() (bool, string) {
			got := condition(t, "service routed-cluster", "berth.io/BGPAnnounced")
			return strings.HasPrefix(got, "Announced: ") &&
				strings.Contains(got, "from 3 nodes (node1, node2, node3) to "), got
		})
	})
}

// routedServices has all nodes announce two Services with a pod on each node to a router. It returns the
// names of its BGPPeers and the addresses of both Services: one has traffic policy Cluster, the other Local.
func routedServices(t *testing.T) (firsts []string, ofCluster, ofLocal []netip.Addr) {
	t.Helper()
	if _, err := os.Stat("/usr/lib/frr/bgpd"); err != nil {
		t.Fatal("needs FRR: `make deps` installs it")
	}
	router(t, peering.Router{Host: lab.HostRouter, Dynamic: true})
	firsts, manifests := peers("first", lab.RouterAddresses)
	apply(t, manifests)
	apply(t, web("routed", "node1", "node2", "node3"))
	apply(t, peering.Announced("routed", "198.51.100.0/28, 2001:db8:100::/124", ""))
	apply(t, echo("routed-cluster", "routed", "externalTrafficPolicy: Cluster")+"---\n"+
		echo("routed-local", "routed", "externalTrafficPolicy: Local"))
	kubectl(t, "rollout", "status", "deployment/routed", "--timeout=60s")
	return firsts, addressesOf(t, "routed-cluster"), addressesOf(t, "routed-local")
}

// router runs FRR until the test ends.
func router(t *testing.T, r peering.Router) {
	t.Helper()
	r.Nodes = cluster.NodeNames()
	if err := cluster.Router(r.Host).Start(t.Context(), r.Config()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Router(r.Host).Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
}

// addressesOf waits until a Service has an address of each family of the lab, and returns them in its order.
func addressesOf(t *testing.T, service string) []netip.Addr {
	t.Helper()
	var addresses []netip.Addr
	eventually(t, 10*time.Second, service+" has all its addresses", func() (bool, string) {
		addresses = nil
		for _, text := range strings.Fields(address(t, service)) {
			addresses = append(addresses, netip.MustParseAddr(text))
		}
		return len(addresses) == len(families()), fmt.Sprint(addresses)
	})
	for i, f := range families() {
		if familyOf(addresses[i]) != f {
			t.Errorf("%s has %v, want %v in this order", service, addresses, families())
		}
	}
	return addresses
}

// routedTo waits until a router's kernel has exactly these nodes as next hops of addresses, and returns how
// long it took.
func routedTo(t *testing.T, router string, addresses []netip.Addr, nodes ...string) time.Duration {
	t.Helper()
	what := fmt.Sprintf("%s has next hops %v for %v", router, nodes, addresses)
	return eventually(t, 15*time.Second, what, func() (bool, string) {
		err := peering.Reached(t.Context(), cluster, router, addresses, nodes...)
		return err == nil, fmt.Sprint(err)
	})
}

// fetched has the client behind the router fetch a page from each address, from more than one node. With
// preserved, the pods must have seen the client's own address.
func fetched(t *testing.T, addresses []netip.Addr, preserved bool) {
	t.Helper()
	forwarded(t)
	for _, addr := range addresses {
		seen := map[string]bool{}
		eventually(t, 10*time.Second, fmt.Sprintf("pages of two nodes from %s", addr), func() (bool, string) {
			line, err := page(t.Context(), lab.HostExt, addr.String(), time.Second)
			if err != nil {
				return false, err.Error()
			}
			seen[field(line, "node")] = true
			client := familyOf(addr).of(lab.ExtAddresses)
			if from, err := netip.ParseAddrPort(field(line, "client")); preserved &&
				(err != nil || from.Addr() != client) {
				t.Errorf("a pod saw the client at %s as %s", client, from)
			}
			return len(seen) > 1, fmt.Sprint(seen)
		})
	}
}

// session reads one field of what the Speaker of a node says of its session with a peer.
func session(t *testing.T, node, peer, field string) string {
	t.Helper()
	return get(t, "get speaker "+node, fmt.Sprintf(`.status.bgp.sessions[?(@.peer=="%s")].%s`, peer, field))
}

// established waits until every node's session with a peer is up, and returns how long it took.
func established(t *testing.T, peer string) time.Duration {
	t.Helper()
	start := time.Now()
	for _, node := range cluster.NodeNames() {
		eventually(t, 15*time.Second, node+" has a session with "+peer, func() (bool, string) {
			state := session(t, node, peer, "state")
			return state == peering.Established, state + " " + session(t, node, peer, "lastError")
		})
	}
	return time.Since(start)
}

// saysWhyNot waits until every node's session with a peer is down for a reason that contains this text.
func saysWhyNot(t *testing.T, peer, want string) {
	t.Helper()
	for _, node := range cluster.NodeNames() {
		eventually(t, 15*time.Second, node+" says of "+peer+": "+want, func() (bool, string) {
			state, why := session(t, node, peer, "state"), session(t, node, peer, "lastError")
			return state == "Connecting" && strings.Contains(why, want), state + " " + why
		})
	}
}

// checkSessions: every node has a session with each of these peers, one for each family of the lab.
func checkSessions(t *testing.T, peers []string) {
	for _, peer := range peers {
		established(t, peer)
		eventually(t, 5*time.Second, peer+" is ready", func() (bool, string) {
			got := condition(t, "bgppeer "+peer, "Ready")
			return strings.HasPrefix(got, "Accepted: "), got
		})
	}
	for i, f := range families() {
		err := peering.Up(t.Context(), cluster, lab.HostRouter,
			peering.NodeAddresses(f.of(lab.RouterAddresses), cluster.NodeNames()...)...)
		if err != nil {
			t.Error("the router does not agree:", err)
		}
		if got := session(t, "node1", peers[i], "families"); got != fmt.Sprintf("[%q]", f) {
			t.Errorf("the session over %s carries %s", f, got)
		}
	}
}

// checkLocal scales the pods of a Service with traffic policy Local: the routes follow them, and those of
// others stay.
func checkLocal(t *testing.T, local, others []netip.Addr) {
	routedTo(t, lab.HostRouter, local, cluster.NodeNames()...)
	fetched(t, local, true)
	kubectl(t, "scale", "deployment/routed", "--replicas=1")
	var last string
	eventually(t, 15*time.Second, "one pod is left", func() (bool, string) {
		nodes := strings.Fields(get(t, "get pods -l app=routed", ".items[*].spec.nodeName"))
		if len(nodes) > 0 {
			last = nodes[0]
		}
		return len(nodes) == 1, fmt.Sprint(nodes)
	})
	routedTo(t, lab.HostRouter, local, last)
	routedTo(t, lab.HostRouter, others, cluster.NodeNames()...)
	for _, addr := range local {
		line, err := page(t.Context(), lab.HostExt, addr.String(), time.Second)
		if err != nil || field(line, "node") != last {
			t.Errorf("%s answers %q, %v; the pod is on %s", addr, line, err, last)
		}
	}
	kubectl(t, "scale", "deployment/routed", "--replicas=3")
	routedTo(t, lab.HostRouter, local, cluster.NodeNames()...)
}

// checkSecondRouter makes every mistake with a second router, and puts it right. The first one notices
// nothing.
func checkSecondRouter(t *testing.T, firsts []string, addresses []netip.Addr) {
	const peer = "second"
	// Its way to the client stays closed.
	router(t, peering.Router{Host: lab.HostRouter2, Password: "right", Both: true, HoldTime: 9 * time.Second})
	secret := func(password string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: second-router, namespace: %s}\n"+
			"type: kubernetes.io/basic-auth\nstringData: {password: %s}\n---\n", system, password)
	}
	bgpPeer := func(asn uint32, more string) string {
		p := onePeer(peer, lab.Router2Addresses)
		p.PeerASN, p.HoldTime, p.More = asn, "9s", p.More+more
		return p.Manifest()
	}
	before := uptimes(t, firsts)
	change := func(manifest string) {
		t.Helper()
		_, err := cluster.API().KubectlInput(t.Context(), strings.NewReader(manifest), "apply", "-f", "-")
		if err != nil {
			t.Fatal(err)
		}
	}

	apply(t, bgpPeer(64999, "password: right"))
	saysWhyNot(t, peer, "bad peer AS")
	change(bgpPeer(0, "password: wrong"))
	saysWhyNot(t, peer, "password")
	hasEvent(t, peer, "NoSession")
	change(bgpPeer(0, "passwordSecret: {name: second-router}"))
	eventually(t, 10*time.Second, "the Secret is missing", func() (bool, string) {
		got := condition(t, "bgppeer "+peer, "Ready")
		return strings.HasPrefix(got, "SecretNotFound: "), got
	})
	apply(t, secret("right"))
	took := established(t, peer)
	fmt.Printf("figure: Secret created to three sessions up %.1f s\n", took.Seconds())
	eventually(t, 5*time.Second, peer+" is ready", func() (bool, string) {
		got := condition(t, "bgppeer "+peer, "Ready")
		return strings.HasPrefix(got, "Accepted: "), got
	})
	got := session(t, "node1", peer, "families") + session(t, "node1", peer, "md5") +
		session(t, "node1", peer, "holdTime")
	if got != `["IPv4","IPv6"]true9s` {
		t.Errorf("the session has %s", got)
	}
	// Both families over the one session.
	routedTo(t, lab.HostRouter2, addresses, cluster.NodeNames()...)

	// The password is changed on both sides. The session that is up lives on with the old one until it is
	// reset.
	must(t)(cluster.Router(lab.HostRouter2).Vtysh(t.Context(), "configure terminal",
		fmt.Sprintf("router bgp %d", peering.RouterASN),
		"neighbor "+first().group()+" password rotated"))
	change(secret("rotated"))
	eventually(t, 20*time.Second, "sessions with the new password", func() (bool, string) {
		err := peering.Up(t.Context(), cluster, lab.HostRouter2,
			peering.NodeAddresses(first().of(lab.Router2Addresses), cluster.NodeNames()...)...)
		return err == nil, fmt.Sprint(err)
	})
	established(t, peer)
	routedTo(t, lab.HostRouter2, addresses, cluster.NodeNames()...)
	if after := uptimes(t, firsts); !slices.Equal(before, after) {
		t.Errorf("sessions with the first router were reset:\n%v\n%v", before, after)
	}
}

// uptimes tells since when the sessions with peers are up.
func uptimes(t *testing.T, peers []string) []string {
	t.Helper()
	var out []string
	for _, node := range cluster.NodeNames() {
		for _, peer := range peers {
			out = append(out, node+" "+peer+" "+session(t, node, peer, "state")+" "+
				session(t, node, peer, "since"))
		}
	}
	return out
}

// hasEvent waits until an Event with this reason tells of a peer.
func hasEvent(t *testing.T, peer, reason string) {
	t.Helper()
	eventually(t, 10*time.Second, "an Event "+reason+" tells of "+peer, func() (bool, string) {
		got := get(t, "get events -A", fmt.Sprintf(`.items[?(@.involvedObject.name=="%s")].reason`, peer))
		return slices.Contains(strings.Fields(got), reason), got
	})
}

// metalLB is what a user of MetalLB has, with nothing changed but the group and version. ofIPv6 makes of it
// what one has whose addresses are of IPv6.
const metalLB = `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata:
  name: production
  namespace: metallb-system
spec:
  addresses:
  - 198.51.100.64/27
  avoidBuggyIPs: true
  autoAssign: false
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata:
  name: tor
  namespace: metallb-system
spec:
  myASN: 64512
  peerASN: 64513
  peerAddress: 10.77.0.3
  holdTime: 90s
  keepaliveTime: 30s
  password: right
  nodeSelectors:
  - matchExpressions:
    - key: kubernetes.io/hostname
      operator: In
      values: [node1, node2]
---
apiVersion: metallb.io/v1beta1
kind: Community
metadata:
  name: communities
  namespace: metallb-system
spec:
  communities:
  - name: vpn-only
    value: 1234:1
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata:
  name: local
  namespace: metallb-system
spec:
  ipAddressPools:
  - production
  aggregationLength: 32
  localPref: 100
  communities:
  - vpn-only
  peers: [tor]
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata:
  name: external
  namespace: metallb-system
spec:
  ipAddressPools:
  - production
  aggregationLength: 27
  peers: [tor]
`

var ofIPv6 = strings.NewReplacer(
	"198.51.100.64/27", "2001:db8:100::40/123",
	"198.51.100.67", "2001:db8:100::43",
	"10.77.0.3", "fd77::3",
	"aggregationLength: 32", "aggregationLengthV6: 128",
	"aggregationLength: 27", "aggregationLengthV6: 123",
)

// checkMetalLB applies manifests as they are but for the apiVersion.
func checkMetalLB(t *testing.T) {
	router(t, peering.Router{Host: lab.HostRouter2, Password: "right"})
	text, aggregate, asked := metalLB, "198.51.100.64/27", "198.51.100.67"
	if first() == ipv6 {
		text, aggregate, asked = ofIPv6.Replace(text), ofIPv6.Replace(aggregate), ofIPv6.Replace(asked)
	}
	var manifest strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "apiVersion: ") {
			line = "apiVersion: berth.io/v1beta1\n"
		}
		manifest.WriteString(line)
	}
	apply(t, manifest.String())
	apply(t, service("routed-tor", "routed", "loadBalancerIP: "+asked))
	addr := netip.MustParseAddr(hasAddress(t, "routed-tor"))
	routedTo(t, lab.HostRouter2, []netip.Addr{addr}, "node1", "node2")
	eventually(t, 10*time.Second, "the aggregate is announced too", func() (bool, string) {
		routes, err := cluster.Host(lab.HostRouter2).Routes(t.Context(), addr)
		return len(routes[netip.MustParsePrefix(aggregate)]) == 2, fmt.Sprint(routes, err)
	})
	out, err := cluster.Router(lab.HostRouter2).Vtysh(t.Context(), fmt.Sprintf("show bgp %s unicast %s json",
		strings.ToLower(string(first())), netip.PrefixFrom(addr, addr.BitLen())))
	if err != nil || !strings.Contains(string(out), "1234:1") {
		t.Errorf("the route has no community 1234:1: %s, %v", out, err)
	}
	// The peer was not asked for elsewhere.
	if hops, err := peering.Hops(t.Context(), cluster, lab.HostRouter, addr); err != nil || len(hops) > 0 {
		t.Errorf("the first router has next hops %v, %v", hops, err)
	}
}

// checkBothWays announces an address of the LAN's own network by layer 2 and by BGP at once.
func checkBothWays(t *testing.T) {
	apply(t, pool("both", spans(88, 89))+
		"---\napiVersion: berth.io/v1beta1\nkind: BGPAdvertisement\nmetadata: {name: both}\nspec: "+
		"{ipAddressPools: [both]}\n")
	apply(t, strings.Replace(echo("both", "routed", ""), "metadata: {name: both}",
		"metadata: {name: both, annotations: {berth.io/address-pool: both}}", 1))
	addresses := addressesOf(t, "both")
	routedTo(t, lab.HostRouter, addresses, cluster.NodeNames()...)
	fetched(t, addresses, false)
	for _, addr := range addresses {
		served(t, addr.String())
	}
	ownedBy(t, addresses[0].String())
}
