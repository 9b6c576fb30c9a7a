package announcer

import (
	"net/netip"
	"time"

	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

// subnetAddress returns an IPv4 address that no host has, to ask for in the name of addr:
// the lowest one of the subnet that addr is in or, where the link has none, of the
// link's first subnet, else the link's own address; invalid when the link has no
// IPv4 address. Neither the node's own address nor that of the gateway would do where
// the bridge knows them. The lowest address of a /31 is a host's, which does no harm:
// there is one neighbour, who is asked or hears it.
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
func (p *port) beyond(addr netip.Addr, now time.Time) neighbor.Beyond {
	if addr.Is4() {
		return neighbor.Beyond{Subnet: subnetAddress(addr, p.prefixes)}
	}
	if p.routerSeen.IsZero() || now.Sub(p.routerSeen) >= routerMemory {
		p.router, p.routerSeen = p.a.router(p.link.Index), now
	}
	return neighbor.Beyond{Router: p.router}
}
