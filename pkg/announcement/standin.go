package announcement

import (
	"fmt"
	"net/netip"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/layer2"
)

// standIn has this node answer in the place of an owner whose speaker is not
// there while its node goes on forwarding. The answers name the owner's own
// hardware address, so traffic goes where it went, and neighbours that ask in
// the meantime are not left without an answer. It reports whether that is so.
//
// The stand-in is the first by rendezvous hash of the speakers that are
// present and share a subnet with the owner.
func standIn(in Input, d *Decision) bool {
	if in.Speakers[d.Owner].Presence != Held {
		return false
	}
	var candidates []layer2.Candidate
	for _, n := range in.Nodes {
		if in.Speakers[n.Name].Presence != Present {
			continue
		}
		if _, _, ok := sharedLink(in.Speakers[n.Name].Links, in.Speakers[d.Owner].Links); ok {
			candidates = append(candidates, layer2.Candidate{Name: n.Name})
		}
	}
	if first, ok := layer2.Elect(in.Address, candidates); !ok || first != in.Node {
		return false
	}
	link, as, _ := sharedLink(in.Speakers[in.Node].Links, in.Speakers[d.Owner].Links)
	d.Announce, d.Links, d.StandInFor, d.As = true, []string{link}, d.Owner, as
	d.Reason = v1beta1.ReasonStandIn
	d.Message = fmt.Sprintf("Node %s owns the address and forwards its traffic, but its speaker is not there. "+
		"This node answers on %s in its place, with the hardware address of that node.", d.Owner, link)
	return true
}

// sharedLink is the first of our links that is in a subnet with one of
// theirs, and the hardware address of theirs.
func sharedLink(ours, theirs []layer2.Link) (link string, theirMAC layer2.HardwareAddr, ok bool) {
	for _, o := range ours {
		for _, t := range theirs {
			if _, ok := SharedAddress(o, t); ok && o.Usable() && len(t.HardwareAddr) > 0 {
				return o.Name, t.HardwareAddr, true
			}
		}
	}
	return "", nil, false
}

// SharedAddress is the first address of a link of another node that is in a
// subnet of our link, so that both are, most likely, on one LAN. Link-local
// addresses, which every LAN has, tell nothing.
func SharedAddress(ours, theirs layer2.Link) (netip.Addr, bool) {
	for _, p := range theirs.Prefixes {
		if !p.Addr().IsLinkLocalUnicast() && ours.Holds(p.Addr()) {
			return p.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// Checker tells whether a node is the one to check, as a client would, who
// answers for an address that another owns: on which of its links to ask, and
// with which hardware address the owner should answer. It is the first by
// rendezvous hash, in an order other than that of owners, of the speakers that
// are present and share a subnet with the owner.
func Checker(addr netip.Addr, owner, node string, speakers map[string]Speaker) (link string, mac layer2.HardwareAddr, ok bool) {
	var candidates []layer2.Candidate
	for name, s := range speakers {
		if name == owner || s.Presence != Present {
			continue
		}
		if _, _, shared := sharedLink(s.Links, speakers[owner].Links); shared {
			candidates = append(candidates, layer2.Candidate{Name: name})
		}
	}
	ranked := layer2.RankFor("check "+addr.String(), candidates)
	if len(ranked) == 0 || ranked[0].Name != node {
		return "", nil, false
	}
	return sharedLink(speakers[node].Links, speakers[owner].Links)
}
