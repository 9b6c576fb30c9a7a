package links

import (
	"cmp"
	"net/netip"
	"slices"
)

// Route is a route of this node to a subnet, without a gateway.
type Route struct {
	// Subnet is masked.
	Subnet netip.Prefix
	// Link is the index of the link that the route leads out of.
	Link int
	// Metric decides between two routes: the lower one is used.
	Metric int
}

// lanSubnet is a subnet in one routing domain. In another VRF the same subnet is most
// likely that of another LAN.
type lanSubnet struct {
	vrf    int
	subnet netip.Prefix
}

// sharedSubnets returns the subnets that two or more usable links of one routing
// domain have, sorted. The links are on one LAN then, such as two ports of a server
// that are plugged into one switch. Link-local subnets, which every LAN has, tell
// nothing.
func sharedSubnets(links []Link) []lanSubnet {
	count := make(map[lanSubnet]int)
	for _, l := range links {
		if !l.Usable() {
			continue
		}
		for _, subnet := range l.subnets() {
			count[lanSubnet{l.VRF, subnet}]++
		}
	}
	var out []lanSubnet
	for subnet, n := range count {
		if n > 1 {
			out = append(out, subnet)
		}
	}
	slices.SortFunc(out, func(a, b lanSubnet) int {
		return cmp.Or(cmp.Compare(a.vrf, b.vrf), a.subnet.Compare(b.subnet))
	})
	return out
}

// NeedRoutes reports whether what the links are depends on the node's routes, so that
// [ApplyRoutes] is to be called: two are in one subnet, or one has an address that is
// in none.
func NeedRoutes(links []Link) bool {
	return len(sharedSubnets(links)) > 0 || slices.ContainsFunc(links, func(l Link) bool {
		return l.Usable() && slices.ContainsFunc(l.Prefixes, l.isAlone)
	})
}

// isAlone reports whether an address of the link is in no subnet of it. Link-local
// ones are of no interest.
func (l Link) isAlone(p netip.Prefix) bool {
	return p.IsSingleIP() && !p.Addr().IsLinkLocalUnicast() && !l.Holds(p.Addr())
}

// ApplyRoutes completes links with what the node's routes say of them, in place: the
// subnets of addresses that come without one, and [Link.Shadowed]. The routes are in
// the kernel's order.
func ApplyRoutes(links []Link, routes []Route) {
	widen(links, routes)
	shadow(links, routes)
}

// widen gives addresses that are in no subnet of their link the longest subnet to
// which a route leads out of it without a gateway: what DHCPv6 (RFC 8415) and some
// providers assign is a single address, and which neighbours are on the LAN routes
// tell, from router advertisements (RFC 4861 6.3.4) or from configuration.
func widen(links []Link, routes []Route) {
	for i := range links {
		l := &links[i]
		if !l.Usable() {
			continue
		}
		narrow := l.Clone()
		for at, p := range narrow.Prefixes {
			if !narrow.isAlone(p) {
				continue
			}
			bits := 0
			for _, r := range routes {
				holds := !r.Subnet.IsSingleIP() && r.Subnet.Contains(p.Addr())
				if r.Link == l.Index && holds && r.Subnet.Bits() > bits {
					bits = r.Subnet.Bits()
				}
			}
			if bits > 0 {
				l.Prefixes[at] = netip.PrefixFrom(p.Addr(), bits)
			}
		}
	}
}

// subnets returns the subnets of a link, masked, sorted and each once, without
// link-local ones.
func (l Link) subnets() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range l.Prefixes {
		if !p.IsSingleIP() && !p.Addr().IsLinkLocalUnicast() {
			out = append(out, p.Masked())
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

// shadow marks on each usable link the subnets to which the node's route leads
// out of another. The route with the lowest metric counts, and of several such
// the first; a subnet without a route belongs to the link with the lowest index.
func shadow(links []Link, routes []Route) {
	for _, shared := range sharedSubnets(links) {
		subnet := shared.subnet
		var on []int // positions in links
		for i, l := range links {
			if l.Usable() && l.VRF == shared.vrf && slices.Contains(l.subnets(), subnet) {
				on = append(on, i)
			}
		}
		out := slices.MinFunc(on, func(a, b int) int {
			one, other := links[a].Index, links[b].Index
			return cmp.Or(compareRoutes(routes, subnet, one, other), cmp.Compare(one, other))
		})
		for _, i := range on {
			if i != out {
				links[i].Shadowed = append(links[i].Shadowed, subnet)
			}
		}
	}
}

// compareRoutes is negative when the node reaches a subnet by link a rather than
// by link b.
func compareRoutes(routes []Route, subnet netip.Prefix, a, b int) int {
	best := func(link int) (metric, position int) {
		metric, position = int(^uint(0)>>1), len(routes)
		for i, r := range routes {
			if r.Subnet == subnet && r.Link == link && r.Metric < metric {
				metric, position = r.Metric, i
			}
		}
		return metric, position
	}
	aMetric, aPosition := best(a)
	bMetric, bPosition := best(b)
	return cmp.Or(cmp.Compare(aMetric, bMetric), cmp.Compare(aPosition, bPosition))
}

// oneOnEachLAN leaves links out whose LAN another of them is on too, out of which
// the node's route leads. The link out of which the route to addr leads stays in
// any case.
func oneOnEachLAN(addr netip.Addr, links []Link) []Link {
	left := slices.Clone(links)
	for _, l := range links {
		toAddr := slices.ContainsFunc(l.subnets(), func(s netip.Prefix) bool {
			return s.Contains(addr) && l.leadsTo(s)
		})
		another := slices.ContainsFunc(l.Shadowed, func(subnet netip.Prefix) bool {
			return slices.ContainsFunc(left, func(other Link) bool { return other.leadsTo(subnet) })
		})
		if another && !toAddr {
			left = slices.DeleteFunc(left, func(other Link) bool { return other.Name == l.Name })
		}
	}
	return left
}

// leadsTo reports whether the node's route to a subnet leads out of this link.
func (l Link) leadsTo(subnet netip.Prefix) bool {
	return !slices.Contains(l.Shadowed, subnet) && slices.Contains(l.subnets(), subnet)
}
