package layer2

import (
	"cmp"
	"net/netip"
	"slices"
)

// subnetRoute is a route of this node to a subnet that one of its links is in.
type subnetRoute struct {
	subnet netip.Prefix // masked
	link   int          // the index of the link that it leads out of
	metric int          // the lower one is used
}

// sharedSubnets returns the subnets that two or more usable links have, sorted.
// The links are on one LAN then, such as two ports of a server that are plugged
// into one switch. Link-local subnets, which every LAN has, tell nothing.
func sharedSubnets(links []Link) []netip.Prefix {
	count := make(map[netip.Prefix]int)
	for _, l := range links {
		if !l.Usable() {
			continue
		}
		for _, subnet := range l.subnets() {
			count[subnet]++
		}
	}
	var out []netip.Prefix
	for subnet, n := range count {
		if n > 1 {
			out = append(out, subnet)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
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
func shadow(links []Link, routes []subnetRoute) {
	for _, subnet := range sharedSubnets(links) {
		var on []int // positions in links
		for i, l := range links {
			if l.Usable() && slices.Contains(l.subnets(), subnet) {
				on = append(on, i)
			}
		}
		out := slices.MinFunc(on, func(a, b int) int {
			return cmp.Or(compareRoutes(routes, subnet, links[a].Index, links[b].Index), cmp.Compare(links[a].Index, links[b].Index))
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
func compareRoutes(routes []subnetRoute, subnet netip.Prefix, a, b int) int {
	best := func(link int) (metric, position int) {
		metric, position = int(^uint(0)>>1), len(routes)
		for i, r := range routes {
			if r.subnet == subnet && r.link == link && r.metric < metric {
				metric, position = r.metric, i
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
		toAddr := slices.ContainsFunc(l.subnets(), func(s netip.Prefix) bool { return s.Contains(addr) && l.leadsTo(s) })
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
