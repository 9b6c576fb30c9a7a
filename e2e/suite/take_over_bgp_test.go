package suite

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/incumbent"
	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
	"github.com/berth-lb/berth/e2e/watch"
)

// otherSpeakers are those of another load balancer, by node, that announce addresses by BGP.
type otherSpeakers struct {
	addresses []netip.Addr
	running   map[string]*incumbent.Speaker
}

func (o *otherSpeakers) start(t *testing.T, node string) {
	t.Helper()
	var routes []netip.Prefix
	for _, addr := range o.addresses {
		routes = append(routes, netip.PrefixFrom(addr, addr.BitLen()))
	}
	s, err := incumbent.StartBGP(cluster.Host(node), incumbent.Sessions{
		ASN:       peering.NodeASN,
		RouterASN: peering.RouterASN,
		Routers:   []netip.Addr{lab.RouterAddresses.V4, lab.RouterAddresses.V6},
		Routes:    routes,
	})
	if err != nil {
		t.Fatal(err)
	}
	o.running[node] = s
}

func (o *otherSpeakers) end(t *testing.T, node string) {
	t.Helper()
	s := o.running[node]
	if s == nil {
		return
	}
	delete(o.running, node)
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}

// takeOverLabel marks the nodes whose sessions are Berth's.
const takeOverLabel = "berth.io/take-over"

// underAnotherBGP makes a Service whose addresses every node announces to a router by another load balancer,
// and a client behind the router that sends to them.
func underAnotherBGP(t *testing.T) (*migration, *otherSpeakers) {
	t.Helper()
	needsBoth(t, "its prefixes are of both families")
	router(t, peering.Router{Host: lab.HostRouter, Dynamic: true})
	nodes := cluster.NodeNames()
	addresses := []netip.Addr{
		netip.MustParseAddr("198.51.100.96"),
		netip.MustParseAddr("2001:db8:100::96"),
	}
	apply(t, web("moving", nodes...))
	kubectl(t, "rollout", "status", "deployment/moving", "--timeout=60s")
	apply(t, echo("moving", "moving", ""))
	writes(t, "moving", fmt.Sprintf(`[{"ip":%q},{"ip":%q}]`, addresses[0], addresses[1]))

	others := &otherSpeakers{addresses: addresses, running: map[string]*incumbent.Speaker{}}
	t.Cleanup(func() {
		for _, node := range nodes {
			others.end(t, node)
		}
	})
	for _, node := range nodes {
		others.start(t, node)
	}
	routedTo(t, lab.HostRouter, addresses, nodes...)

	traffic, err := watch.StartTraffic(watch.TrafficConfig{
		Lab:       cluster,
		Host:      lab.HostExt,
		Addresses: addresses,
		Port:      9,
		Interval:  probeEvery,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(traffic.Stop)
	m := &migration{eyes: eyes{addresses: addresses, traffic: traffic}}
	m.begun = m.served(t)
	return m, others
}

// TestTakeOverBGP: the sessions with a router go from another load balancer to Berth, node by node, and back
// on one node. Both announce the same prefixes meanwhile, each from some nodes, and a client behind the
// router loses nothing.
func TestTakeOverBGP(t *testing.T) {
	m, others := underAnotherBGP(t)
	nodes := cluster.NodeNames()

	names, manifests := peers("moving", lab.RouterAddresses)
	marked := "[{matchExpressions: [{key: " + takeOverLabel + ", operator: Exists}]}]"
	apply(t, strings.ReplaceAll(manifests, "---\n", "  nodeSelectors: "+marked+"\n---\n"))
	apply(t, peering.Announced("moving", "198.51.100.96/32, 2001:db8:100::96/128", ""))
	told(t, "moving", "Assigned: ")
	m.lost(t, "Berth is beside the other, without sessions")

	for _, node := range nodes {
		began := time.Now()
		others.end(t, node)
		kubectl(t, "label", "node", node, takeOverLabel+"=")
		cleanup(t, "label", "node", node, takeOverLabel+"-")
		for _, peer := range names {
			eventually(t, 20*time.Second, node+" has a session with "+peer, func() (bool, string) {
				state := session(t, node, peer, "state")
				return state == peering.Established, state + " " + session(t, node, peer, "lastError")
			})
		}
		routedTo(t, lab.HostRouter, m.addresses, nodes...)
		fmt.Printf("figure: take-over by BGP: %s was no next hop for %.1f s at most\n", node,
			time.Since(began).Seconds())
		m.lost(t, "the sessions of "+node+" are Berth's")
	}

	back := nodes[0]
	kubectl(t, "label", "node", back, takeOverLabel+"-")
	others.start(t, back)
	routedTo(t, lab.HostRouter, m.addresses, nodes...)
	m.lost(t, "the sessions of "+back+" are the other's again")
}
