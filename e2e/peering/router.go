package peering

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
)

// AS numbers of the nodes and of the routers, where nothing else is said. They are of those for private use
// (RFC 6996).
const (
	NodeASN   = 64512
	RouterASN = 64513
)

// A Router says how FRR on a router of a lab has sessions with the nodes.
type Router struct {
	// Host is lab.HostRouter or lab.HostRouter2.
	Host string
	// ASN is its own AS number, NodeASN that of the nodes; 0 stands for the constants of these names.
	ASN, NodeASN uint32
	// Nodes are the nodes with which it has sessions, by name; both of the addresses of each.
	Nodes []string
	// Dynamic: instead of naming the nodes it takes every host of the LAN that has the nodes' AS number.
	Dynamic bool
	// Password of all sessions; "" for none.
	Password string
	// HoldTime is what it proposes, in whole seconds. 0 leaves FRR's own, which is 180 s.
	HoldTime time.Duration
	// Both families go over each session. Otherwise each has a session of its own.
	Both bool
	// GracefulRestart: it asks the nodes to keep to it while it restarts, and its routes stay in the kernel
	// meanwhile.
	GracefulRestart bool
	// BFD watches all sessions, with packets every BFDInterval and three that may be missing.
	BFD bool
}

// BFDInterval is between two packets of a router's BFD.
const BFDInterval = 100 * time.Millisecond

// restartTime is how long a router's routes outlive its daemons.
const restartTime = 120 * time.Second

// Addresses returns the addresses of a router on the LAN.
func (r Router) Addresses() lab.Addresses {
	if r.Host == lab.HostRouter2 {
		return lab.Router2Addresses
	}
	return lab.RouterAddresses
}

// A group holds the sessions over one family.
type group struct {
	name, lan string
	carries   []string // families
}

// Config writes the configuration.
func (r Router) Config() lab.RouterConfig {
	groups := []group{{"NODES4", "10.77.0.0/24", []string{"ipv4"}}, {"NODES6", "fd77::/64", []string{"ipv6"}}}
	if r.Both {
		groups[0].carries, groups[1].carries = []string{"ipv4", "ipv6"}, []string{"ipv4", "ipv6"}
	}
	var c strings.Builder
	line := func(on bool, format string, args ...any) {
		if on {
			fmt.Fprintf(&c, format+"\n", args...)
		}
	}
	line(true, "router bgp %d", cmp.Or(r.ASN, RouterASN))
	line(true, " bgp router-id %s", r.Addresses().V4)
	line(true, " no bgp ebgp-requires-policy")
	line(true, " no bgp default ipv4-unicast")
	line(true, " bgp bestpath as-path multipath-relax")
	line(r.GracefulRestart, " bgp graceful-restart")
	line(r.GracefulRestart, " bgp graceful-restart preserve-fw-state")
	line(r.GracefulRestart, " bgp graceful-restart restart-time %d", int(restartTime.Seconds()))
	for _, g := range groups {
		line(true, " neighbor %s peer-group", g.name)
		line(true, " neighbor %s remote-as %d", g.name, cmp.Or(r.NodeASN, NodeASN))
		line(true, " neighbor %s passive", g.name)
		line(r.Password != "", " neighbor %s password %s", g.name, r.Password)
		seconds := int(r.HoldTime.Seconds())
		line(seconds > 0, " neighbor %s timers %d %d", g.name, max(1, seconds/3), seconds)
		line(r.BFD, " neighbor %s bfd", g.name)
		line(r.BFD, " neighbor %s bfd profile fast", g.name)
		line(r.Dynamic, " bgp listen range %s peer-group %s", g.lan, g.name)
	}
	if !r.Dynamic {
		for _, node := range r.Nodes {
			a := nodeAddresses(node)
			line(true, " neighbor %s peer-group NODES4", a.V4)
			line(true, " neighbor %s peer-group NODES6", a.V6)
		}
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		line(true, " address-family %s unicast", family)
		for _, g := range groups {
			for _, carried := range g.carries {
				line(carried == family, "  neighbor %s activate", g.name)
			}
		}
		line(true, "  maximum-paths 16")
		line(true, " exit-address-family")
	}
	line(true, "exit")
	config := lab.RouterConfig{BGP: c.String()}
	if r.BFD {
		ms := BFDInterval.Milliseconds()
		config.BFD = fmt.Sprintf(
			"bfd\n profile fast\n  transmit-interval %d\n  receive-interval %d\n exit\nexit\n",
			ms, ms,
		)
	}
	if r.GracefulRestart {
		config.KeepRoutes = restartTime
	}
	return config
}

// nodeAddresses returns the addresses of a node by its name.
func nodeAddresses(node string) lab.Addresses {
	for i := 1; i <= lab.MaxNodes; i++ {
		if lab.NodeName(i) == node {
			return lab.NodeAddresses(i)
		}
	}
	return lab.Addresses{V4: netip.IPv4Unspecified(), V6: netip.IPv6Unspecified()}
}
