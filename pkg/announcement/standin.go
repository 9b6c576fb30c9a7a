package announcement

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/layer2/election"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// standIn has this node answer in the place of an owner whose speaker is not
// there while its node goes on forwarding. The answers name the owner's own
// hardware address, so traffic goes where it went, and neighbours that ask in
// the meantime are not left without an answer. It reports whether that is so.
//
// Each link on which the owner announces the address gets a stand-in: the first
// by rendezvous hash of the speakers that are present and share a subnet with
// that link. Elsewhere nobody answers.
func standIn(in Input, d *Decision) bool {
	if in.Speakers[d.Owner].Presence != Held {
		return false
	}
	for _, theirs := range ownerLinks(in, *d) {
		first, ok := election.Elect(in.Address, neighbours(in.Speakers, d.Owner, theirs))
		if !ok || first != in.Node {
			continue
		}
		ours, _ := meet(in.Speakers[in.Node].Links, theirs)
		if d.As[ours] != nil {
			continue // two of its links are on one LAN: one answer is enough
		}
		if d.As == nil {
			d.As = map[string]net.HardwareAddr{}
		}
		d.As[ours] = theirs.HardwareAddr
		d.Links = append(d.Links, ours)
	}
	if len(d.Links) == 0 {
		return false
	}
	slices.Sort(d.Links)
	d.Announce, d.StandInFor, d.Reason = true, d.Owner, v1beta1.ReasonStandIn
	d.Message = fmt.Sprintf("Node %s owns the address and forwards its traffic, "+
		"but its speaker is not there. "+
		"This node answers on %s in its place, with the hardware address of that node.",
		d.Owner, strings.Join(d.Links, ", "))
	return true
}

// withoutStandIn names the links of a held owner on which nobody can stand in: no
// present node has an address in one of their subnets, or they have none.
func withoutStandIn(in Input, d Decision) []string {
	if in.Speakers[d.Owner].Presence != Held {
		return nil
	}
	var out []string
	for _, theirs := range ownerLinks(in, d) {
		if len(neighbours(in.Speakers, d.Owner, theirs)) == 0 {
			out = append(out, theirs.Name)
		}
	}
	return out
}

// ownerLinks returns the links on which the owner announces the address, by name.
func ownerLinks(in Input, d Decision) []links.Link {
	return named(in.Speakers[d.Owner].Links, d.OwnerLinks)
}

// named returns the links with one of these names, by name.
func named(all []links.Link, names []string) []links.Link {
	var out []links.Link
	for _, l := range all {
		if slices.Contains(names, l.Name) {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b links.Link) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// neighbours returns the nodes whose speakers are present and that are on one LAN with
// a link of another node, and have not lost it.
func neighbours(speakers map[string]Speaker, node string, link links.Link) []election.Candidate {
	var out []election.Candidate
	for name, s := range speakers {
		if name == node || s.Presence != Present {
			continue
		}
		if ours, ok := meet(s.Links, link); ok && !slices.Contains(s.SilentLinks, ours) {
			out = append(out, election.Candidate{Name: name})
		}
	}
	return out
}

// meet names the first of our links that is on one LAN with one of theirs.
func meet(ours []links.Link, theirs links.Link) (link string, ok bool) {
	for _, o := range ours {
		if _, ok := SharedAddress(o, theirs); ok && o.Usable() && len(theirs.HardwareAddr) > 0 {
			return o.Name, true
		}
	}
	return "", false
}

// SharedAddress is the first address of a link of another node that is in a
// subnet of our link, so that both are, most likely, on one LAN. Link-local
// addresses, which every LAN has, tell nothing.
func SharedAddress(ours, theirs links.Link) (netip.Addr, bool) {
	for _, p := range theirs.Prefixes {
		if !p.Addr().IsLinkLocalUnicast() && ours.Reaches(p.Addr()) {
			return p.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// Check is one question that finds out who answers for an address.
type Check struct {
	// Link is the link of this node on which to ask.
	Link string
	// MAC is the hardware address with which the owner should answer.
	MAC net.HardwareAddr
}

// Checks tells how a node is to check, as a client would, who answers for an
// address that another owns: on each link on which the owner announces it, the
// first by rendezvous hash, in an order other than that of owners, of the speakers
// that are present and share a subnet with that link. The checks are sorted by
// link.
func Checks(
	addr netip.Addr, owner string, ownerLinks []string, node string, speakers map[string]Speaker,
) []Check {
	var out []Check
	for _, theirs := range named(speakers[owner].Links, ownerLinks) {
		ranked := election.RankFor("check "+addr.String(), neighbours(speakers, owner, theirs))
		if len(ranked) == 0 || ranked[0].Name != node {
			continue
		}
		ours, _ := meet(speakers[node].Links, theirs)
		out = append(out, Check{ours, theirs.HardwareAddr})
	}
	slices.SortFunc(out, func(a, b Check) int { return strings.Compare(a.Link, b.Link) })
	return slices.CompactFunc(out, func(a, b Check) bool { return a.Link == b.Link })
}
