package view

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/pkg/config"
)

// unparsed returns a check that needs the configuration, if that is not known.
func (c checker) unparsed(name, what string) (v1alpha1.Check, bool) {
	if c.config != nil {
		return v1alpha1.Check{}, false
	}
	if unknown, missing := c.unseen(name, what, snapshot.ConfigKinds); missing {
		return unknown, true
	}
	return newCheck(name, v1alpha1.CheckUnknown, what+" is not known: the configuration could not be "+
		"read"), true
}

// advertised looks for pools that nobody announces.
func (c checker) advertised() v1alpha1.Check {
	const name, what = "Advertised", "Which pools are advertised"
	if unknown, missing := c.unparsed(name, what); missing {
		return unknown
	}
	var found []v1alpha1.Problem
	for i := range c.Pools {
		for _, p := range c.poolRow(&c.Pools[i]).Problems {
			if p.Reason == string(v1beta1.ReasonNoAdvertisement) {
				found = append(found, p)
			}
		}
	}
	if len(c.Pools) == 0 {
		return newCheck(name, v1alpha1.CheckWarning, "There is no IPAddressPool: no Service gets an address")
	}
	return c.judged(name, found, what, fmt.Sprintf("Every pool (%d) is advertised", len(c.Pools)))
}

// inUse looks for advertisements and peers that have nothing to do.
func (c checker) inUse() v1alpha1.Check {
	const name, what = "InUse", "Which advertisements have something to announce"
	if unknown, missing := c.unparsed(name, what); missing {
		return unknown
	}
	var found []v1alpha1.Problem
	idle := func(kind, object, message string) {
		found = append(found, problem(v1alpha1.Warning, v1alpha1.Ref{Kind: kind, Name: object}, "Idle",
			message,
			"kubectl describe "+kind+" "+object))
	}
	anyPool := func(selects func(*config.Pool) bool) bool {
		return slices.ContainsFunc(c.config.Pools,
			selects)
	}
	for _, a := range c.config.L2Advertisements {
		if !anyPool(a.SelectsPool) {
			idle("l2advertisement", a.Name, "It selects no pool")
		}
	}
	for _, a := range c.config.BGPAdvertisements {
		switch {
		case !anyPool(a.SelectsPool):
			idle("bgpadvertisement", a.Name, "It selects no pool")
		case !slices.ContainsFunc(c.config.BGPPeers,
			func(p *config.BGPPeer) bool { return a.Reaches(p.Name) }):
			idle("bgpadvertisement", a.Name, "There is no BGPPeer for it")
		}
	}
	if c.Has(snapshot.Nodes) {
		for _, p := range c.config.BGPPeers {
			if !c.anyNode(p) {
				idle("bgppeer", p.Name, "It selects no node")
			}
		}
	}
	return c.judged(name, found, what, "All advertisements and peers have something to do")
}

func (c checker) anyNode(p *config.BGPPeer) bool {
	for i := range c.Nodes {
		if p.SelectsNode(c.Nodes[i].Labels) {
			return true
		}
	}
	return false
}

// room looks for pools that are full, or shrank below what is held.
func (c checker) room() v1alpha1.Check {
	var found []v1alpha1.Problem
	for i := range c.Pools {
		for _, p := range c.poolRow(&c.Pools[i]).Problems {
			if p.Severity == v1alpha1.Warning && p.Reason != string(v1beta1.ReasonNoAdvertisement) &&
				p.Reason != reasonNotJudged {
				found = append(found, p)
			}
		}
	}
	return c.judged("Room", found, "Whether pools have free addresses",
		"All pools have free addresses", snapshot.Pools)
}

// overlap looks for pools with addresses that others use: pods, Services, routers.
func (c checker) overlap() v1alpha1.Check {
	const name, what = "Overlap", "Whether pools have addresses of others"
	if unknown, missing := c.unparsed(name, what); missing {
		return unknown
	}
	var found []v1alpha1.Problem
	add := func(severity v1alpha1.Severity, pool, reason, message string) {
		found = append(found, problem(severity, poolRef(pool), reason, message,
			"kubectl berth explain pool/"+pool))
	}
	for _, cidr := range c.podRanges() {
		for _, p := range c.config.Pools {
			if overlaps(p, cidr) {
				add(v1alpha1.Error, p.Name, "PodRange", "It overlaps "+cidr.String()+", which a node "+
					"gives to pods")
			}
		}
	}
	told := map[string]bool{}
	for i := range c.Services {
		for _, text := range c.Services[i].Spec.ClusterIPs {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				continue
			}
			if p := c.config.PoolOf(addr); p != nil && !told[p.Name] {
				told[p.Name] = true
				add(v1alpha1.Error, p.Name, "ServiceRange", fmt.Sprintf("It has %s, the cluster IP of "+
					"Service %s/%s",
					addr, c.Services[i].Namespace, c.Services[i].Name))
			}
		}
	}
	for _, peer := range c.BGPPeers {
		addr, err := netip.ParseAddr(peer.Spec.PeerAddress)
		if p := c.config.PoolOf(addr); err == nil && p != nil {
			add(v1alpha1.Error, p.Name, "RouterAddress", fmt.Sprintf("It has %s, the router of BGPPeer %s",
				addr,
				peer.Name))
		}
	}
	for _, prefix := range c.subnetsOfNodes() {
		first, last := prefix.Masked().Addr(), netipx.PrefixLastIP(prefix)
		router := first.Next()
		if p := c.config.PoolOf(router); p != nil && c.config.Excluded(router) == "" {
			add(v1alpha1.Warning, p.Name, "FirstAddress", fmt.Sprintf(
				"It has %s, the first address of %s: mostly that is the router's", router, prefix.Masked()))
		}
		if p := c.config.PoolOf(last); p != nil && prefix.Addr().Is4() && prefix.Bits() < 31 &&
			c.config.Excluded(last) == "" {
			add(v1alpha1.Error, p.Name, "Broadcast", fmt.Sprintf("It has %s, the broadcast address of %s",
				last,
				prefix.Masked()))
		}
	}
	return c.judged(name, found, what, "No pool is seen to have an address of pods, Services or routers. "+
		"DHCP ranges are not seen from here", snapshot.Nodes, snapshot.Services, snapshot.Speakers)
}

// podRanges returns the ranges that nodes give to pods.
func (c checker) podRanges() []netip.Prefix {
	var out []netip.Prefix
	for i := range c.Nodes {
		for _, text := range c.Nodes[i].Spec.PodCIDRs {
			if prefix, err := netip.ParsePrefix(text); err == nil {
				out = append(out, prefix)
			}
		}
	}
	return out
}

// overlaps reports whether a pool has an address of a prefix.
func overlaps(p *config.Pool, prefix netip.Prefix) bool {
	of := netipx.RangeOfPrefix(prefix)
	return slices.ContainsFunc(p.Ranges, func(r netipx.IPRange) bool { return r.Overlaps(of) })
}

// subnetsOfNodes returns the subnets that speakers list of their links, each once.
func (c checker) subnetsOfNodes() []netip.Prefix {
	seen := map[netip.Prefix]bool{}
	var out []netip.Prefix
	for i := range c.Speakers {
		for _, l := range c.Speakers[i].Status.Links {
			for _, text := range l.Prefixes {
				prefix, err := netip.ParsePrefix(text)
				if err == nil && !prefix.IsSingleIP() && !seen[prefix.Masked()] {
					seen[prefix.Masked()] = true
					out = append(out, prefix.Masked())
				}
			}
		}
	}
	return out
}

// subnets looks for pools that are announced by layer 2 and are in no subnet of a node.
func (c checker) subnets() v1alpha1.Check {
	const name, what = "Subnets", "Which subnets pools are in"
	if unknown, missing := c.unparsed(name, what); missing {
		return unknown
	}
	subnets := c.subnetsOfNodes()
	var found []v1alpha1.Problem
	for _, p := range c.config.Pools {
		if len(subnets) == 0 || !slices.ContainsFunc(c.config.L2Advertisements,
			func(a *config.L2Advertisement) bool { return a.SelectsPool(p) && len(a.Interfaces) == 0 }) {
			continue
		}
		var outside []string
		for _, r := range p.Ranges {
			if !slices.ContainsFunc(subnets, func(s netip.Prefix) bool {
				return r.Overlaps(netipx.RangeOfPrefix(s))
			}) {
				outside = append(outside, r.String())
			}
		}
		if len(outside) > 0 {
			found = append(found, problem(v1alpha1.Warning, poolRef(p.Name), "NoSubnet",
				"An L2Advertisement selects it, and no node has a link in the subnet of "+
					strings.Join(outside, ", "), "kubectl berth explain pool/"+p.Name))
		}
	}
	return c.judged(name, found, what, "Pools that are announced by layer 2 are in subnets of nodes",
		snapshot.Speakers)
}

// held looks for addresses of Services that no pool contains.
func (c checker) held() v1alpha1.Check {
	const name, what = "Held", "Whether pools contain the addresses of Services"
	if unknown, missing := c.unparsed(name, what); missing {
		return unknown
	}
	var outside []string
	for _, addr := range c.addresses() {
		if c.config.PoolOf(addr) == nil {
			outside = append(outside, fmt.Sprintf("%s of %s", addr, c.holders[addr][0].key()))
		}
	}
	if len(outside) > 0 {
		return newCheck(name, v1alpha1.CheckProblem, fmt.Sprintf(
			"Addresses of Services in no pool, which nobody announces: %d", len(outside)), outside...)
	}
	return c.judged(name, nil, what, "Pools contain all addresses of Services", snapshot.Services)
}
