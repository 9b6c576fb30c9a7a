package layer2

import (
	"net"
	"net/netip"
	"time"
)

// Bridges that suppress ARP and Neighbor Discovery (Linux: neigh_suppress, in EVPN
// fabrics) flood no ARP packet whose sender is its target or is 0.0.0.0, no
// unsolicited Neighbor Advertisement, and no solicitation from ::. Nor do they flood
// a request for an address that they know: they answer that themselves. What is sent
// to one Ethernet address they forward.

// beyond is to whom the last frame of an announcement goes, which passes such
// bridges.
type beyond struct {
	// subnet is an IPv4 address that no bridge knows, so that they flood a request for
	// it: hosts that have an entry for its sender update it. Invalid for none.
	subnet netip.Addr
	// router is who sends on what comes from elsewhere by IPv6. Other hosts cannot be
	// told: a solicitation changes the entries of its target only, and a target that
	// many have, such as the anycast address of routers, would have each node of the
	// cluster answer and learn every announced address.
	router router
}

// router is a neighbour to which this node's default route leads. The zero value is
// none.
type router struct {
	ip  netip.Addr
	mac net.HardwareAddr
}

// subnetAddress is an IPv4 address that no host has, to ask for in the name of addr:
// the lowest one of the subnet that addr is in or, where the link has none, of the
// link's first subnet, else the link's own address; invalid when the link has no
// IPv4 address. Neither the node's own address nor that of the gateway would do
// where the bridge knows them.
func subnetAddress(addr netip.Addr, prefixes []netip.Prefix) netip.Addr {
	var subnet, single netip.Addr
	for _, p := range prefixes {
		if !p.Addr().Is4() {
			continue
		}
		lowest := p.Masked().Addr()
		switch {
		case p.IsSingleIP() || lowest == addr || lowest.IsUnspecified():
			if !single.IsValid() && p.Addr() != addr {
				single = p.Addr()
			}
		case p.Contains(addr):
			return lowest
		case !subnet.IsValid():
			subnet = lowest
		}
	}
	if subnet.IsValid() {
		return subnet
	}
	return single
}

// routerMemory is for how long a port takes the router to be what it was when it
// looked last. No event tells of routes.
const routerMemory = 10 * time.Second

// beyond returns to whom the last frame of an announcement of addr goes.
func (p *port) beyond(addr netip.Addr, now time.Time) beyond {
	if addr.Is4() {
		return beyond{subnet: subnetAddress(addr, p.prefixes)}
	}
	if p.routerSeen.IsZero() || now.Sub(p.routerSeen) >= routerMemory {
		p.router, p.routerSeen = p.sock.router(), now
	}
	return beyond{router: p.router}
}
