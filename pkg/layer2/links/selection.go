package links

import (
	"net/netip"
	"regexp"
	"slices"
)

// Reason says why [Choose] chose the links it did, in one word for logs,
// conditions and metrics.
type Reason string

// The reasons of [Choose].
const (
	// LinksNamed: the user named links and these of them are usable.
	LinksNamed Reason = "LinksNamed"
	// LinksBySubnet: no link was named; these hold the address in a subnet.
	LinksBySubnet Reason = "LinksBySubnet"
	// AllEligibleLinks: no link was named and no subnet holds the address, so it
	// is announced wherever it can be.
	AllEligibleLinks Reason = "AllEligibleLinks"
	// NoNamedLink: links were named and this node has none of them in a usable
	// state. Nothing is chosen.
	NoNamedLink Reason = "NoNamedLink"
	// NoEligibleLink: no link was named and none of this node's is eligible.
	// Nothing is chosen.
	NoEligibleLink Reason = "NoEligibleLink"
)

// DefaultExclude returns the patterns of link names that do not lead to a LAN,
// in the order in which docs list them. What they have in common is that a
// container runtime, a virtualiser or an overlay makes them: neighbours behind
// them are pods, guests or other nodes' tunnels, and announcing there would draw
// traffic to where no client is. A user who means such a link names it.
func DefaultExclude() []*regexp.Regexp {
	patterns := []string{
		`^lo$`,                                // this node only
		`^dummy`,                              // drops every frame
		`^(docker|podman|lxcbr|lxdbr|virbr)`,  // bridges of runtimes and virtualisers
		`^br-[0-9a-f]{12}$`,                   // networks made by docker
		`^(veth|vnet|tap)`,                    // one end of a pod's or a guest's cable
		`^(cbr|cni|nerdctl)`,                  // pod bridges of CNI plugins
		`^(cali|tunl|vxlan\.calico)`,          // Calico
		`^(cilium|lxc)`,                       // Cilium
		`^(flannel|weave|kube-bridge|antrea)`, // other CNI plugins
		`^(ovs|ovn|br-int$|genev|vxlan|gre[0-9]|gretap)`, // overlays
		`^(kube-ipvs|nodelocaldns)`,                      // addresses held by kube-proxy and the DNS cache
		`^(tun|wg|tailscale|zt|ppp|sit[0-9]|ip6tnl)`,     // tunnels without neighbours
	}
	out := make([]*regexp.Regexp, len(patterns))
	for i, p := range patterns {
		out[i] = regexp.MustCompile(p)
	}
	return out
}

// IsExcluded reports whether the name of a link matches one of the patterns.
func IsExcluded(link string, patterns []*regexp.Regexp) bool { return matchesAny(patterns, link) }

// Selection is what an advertisement says about links.
type Selection struct {
	// Names are the links to use, and so are those whose name matches one of
	// Patterns. Naming a link overrides [Link.Excluded]: the user knows better.
	// Both empty means the default choice.
	Names    []string
	Patterns []*regexp.Regexp
}

// Named reports whether the selection names links at all, and by that leaves no
// default choice.
func (s Selection) Named() bool { return len(s.Names) > 0 || len(s.Patterns) > 0 }

// names reports whether the selection names this link.
func (s Selection) names(link string) bool {
	return slices.Contains(s.Names, link) || matchesAny(s.Patterns, link)
}

// Choose returns the links that are to carry addr, in the order of links, and
// the reason. With names, it is every usable link that is named. Without, it is
// the eligible links (usable and not [Link.Excluded]) that hold addr in one of
// their subnets or, when none does, all eligible links. A node for which nothing
// is chosen cannot own the address.
//
// Of links on one LAN only one is chosen, that with the route, whatever else is
// said: two that answered would each give its own Ethernet address.
func Choose(addr netip.Addr, links []Link, sel Selection) ([]Link, Reason) {
	addr = addr.Unmap()
	if sel.Named() {
		named := filterLinks(links, func(l Link) bool { return l.Usable() && sel.names(l.Name) })
		if len(named) == 0 {
			return nil, NoNamedLink
		}
		return oneOnEachLAN(addr, named), LinksNamed
	}
	eligible := filterLinks(links, func(l Link) bool { return l.Usable() && !l.Excluded })
	if len(eligible) == 0 {
		return nil, NoEligibleLink
	}
	if bySubnet := filterLinks(eligible, func(l Link) bool { return l.Holds(addr) }); len(bySubnet) > 0 {
		return oneOnEachLAN(addr, bySubnet), LinksBySubnet
	}
	return oneOnEachLAN(addr, eligible), AllEligibleLinks
}

func filterLinks(links []Link, keep func(Link) bool) []Link {
	var out []Link
	for _, l := range links {
		if keep(l) {
			out = append(out, l)
		}
	}
	return out
}

func matchesAny(patterns []*regexp.Regexp, name string) bool {
	return slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(name) })
}
