package announcement

import (
	"encoding/binary"
	"net/netip"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// Basis is what the decisions for all addresses have in common that are made from one
// configuration and one view of the nodes and their speakers, which must not change. It finds
// out what that means for each node once for all addresses of a kind: those that the same
// advertisements select and the same subnets hold. It is not safe for concurrent use.
type Basis struct {
	config   *config.Config
	nodes    []Node
	speakers map[string]Speaker

	marks marks
	// position is where a node is in nodes, adverts where an advertisement is in the
	// configuration. subnets are those of all links, owns has by address the nodes of which
	// it may be one's own.
	position map[string]int
	adverts  map[*config.L2Advertisement]int
	subnets  []netip.Prefix
	owns     map[netip.Addr][]ownAddress

	// What follows is found out when it is asked for. withUnknown are the speakers that are not
	// gone and of which not all claims are known, by name; nil while nobody has asked. standings
	// are by kind of address.
	withUnknown []string
	standings   map[string][]standing
}

// ownAddress says by what an address is a node's own.
type ownAddress struct {
	node string
	// named is set when the node's status has the address, linked when a link has it.
	named, linked bool
}

// standing is how a node stands to be a candidate for addresses of a kind.
type standing struct {
	name     string
	weight   int64
	cordoned bool
	held     bool
	full     bool
	links    []links.Link
	why      links.Reason
	// silent is set when the node's kernel answers no probes on one of links.
	silent bool
	// barred is why the node may announce none of them, "" when it may.
	barred v1beta1.Reason
}

// BasisOf returns the basis of decisions for which these are the inputs.
func BasisOf(c *config.Config, nodes []Node, speakers map[string]Speaker) *Basis {
	b := &Basis{
		config:    c,
		nodes:     nodes,
		speakers:  speakers,
		marks:     marksOf(nodes, speakers),
		position:  make(map[string]int, len(nodes)),
		adverts:   make(map[*config.L2Advertisement]int, len(c.L2Advertisements)),
		owns:      make(map[netip.Addr][]ownAddress, 2*len(nodes)),
		standings: map[string][]standing{},
	}
	for i, a := range c.L2Advertisements {
		b.adverts[a] = i
	}
	subnets := sets.New[netip.Prefix]()
	for i, n := range nodes {
		b.position[n.Name] = i
		for _, addr := range n.Addresses {
			b.own(addr, n.Name).named = true
		}
		for _, l := range speakers[n.Name].Links {
			for _, p := range l.Prefixes {
				b.own(p.Addr(), n.Name).linked = true
				subnets.Insert(p.Masked())
			}
		}
	}
	b.subnets = subnets.UnsortedList()
	slices.SortFunc(b.subnets, netip.Prefix.Compare)
	return b
}

// unknown returns the speakers that are not gone and of which not all claims are known, by name.
func (b *Basis) unknown() []string {
	if b.withUnknown != nil {
		return b.withUnknown
	}
	b.withUnknown = []string{}
	for name, s := range b.speakers {
		if s.ClaimsUnknown && s.Presence != Gone {
			b.withUnknown = append(b.withUnknown, name)
		}
	}
	slices.Sort(b.withUnknown)
	return b.withUnknown
}

// own returns what is known of an address as a node's own, to be completed.
func (b *Basis) own(addr netip.Addr, node string) *ownAddress {
	all := b.owns[addr]
	if len(all) == 0 || all[len(all)-1].node != node {
		all = append(all, ownAddress{node: node})
		b.owns[addr] = all
	}
	return &all[len(all)-1]
}

// IsOf reports whether the basis is that of decisions for which these are the inputs: the same
// values, not equal ones.
func (b *Basis) IsOf(c *config.Config, nodes []Node, speakers map[string]Speaker) bool {
	return b != nil && b.config == c && len(b.nodes) == len(nodes) &&
		(len(nodes) == 0 || &b.nodes[0] == &nodes[0]) &&
		reflect.ValueOf(b.speakers).UnsafePointer() == reflect.ValueOf(speakers).UnsafePointer()
}

// standingsFor returns how each node stands to announce an address by these advertisements, in
// the order of nodes.
func (b *Basis) standingsFor(addr netip.Addr, ads []*config.L2Advertisement) []standing {
	kind := b.kindOf(addr.Unmap(), ads)
	known, ok := b.standings[kind]
	if ok {
		return known
	}
	known = make([]standing, len(b.nodes))
	for i, n := range b.nodes {
		known[i] = b.standingOf(addr, ads, n)
	}
	b.standings[kind] = known
	return known
}

// kindOf tells addresses apart for which nodes may stand differently.
func (b *Basis) kindOf(addr netip.Addr, ads []*config.L2Advertisement) string {
	kind := make([]byte, 0, 64)
	for _, a := range ads {
		kind = binary.AppendUvarint(kind, uint64(b.adverts[a]))
	}
	kind = append(kind, '/')
	for i, s := range b.subnets {
		if s.Contains(addr) {
			kind = binary.AppendUvarint(kind, uint64(i))
		}
	}
	return string(kind)
}

func (b *Basis) standingOf(addr netip.Addr, ads []*config.L2Advertisement, n Node) standing {
	speaker := b.speakers[n.Name]
	out := standing{
		name:     n.Name,
		cordoned: b.marks.cordoned(n),
		held:     speaker.Presence == Held,
		full:     speaker.Full,
	}
	selected := false
	for _, a := range ads {
		if a.SelectsNode(n.Labels) {
			selected = true
			out.weight += a.Weight(n.Labels)
		}
	}
	switch {
	case speaker.NoLayer2:
		out.barred = v1beta1.ReasonProtocolDisabled
	case b.marks.excluded(n):
		out.barred = v1beta1.ReasonNodeExcluded
	case n.NetworkUnavailable:
		out.barred = v1beta1.ReasonNetworkUnavailable
	case !selected:
		out.barred = v1beta1.ReasonNodeNotSelected
	case speaker.Presence == Gone || speaker.Presence == Leaving:
		out.barred = speaker.Reason
		if out.barred == "" {
			out.barred = v1beta1.ReasonSpeakerNotAlive
		}
	}
	out.links, out.why = links.Choose(addr, speaker.Links, selection(ads, n))
	out.silent = slices.ContainsFunc(out.links, func(l links.Link) bool {
		return slices.Contains(speaker.SilentLinks, l.Name)
	})
	return out
}

// based returns the input with its basis.
func (in Input) based() Input {
	if !in.Basis.IsOf(in.Config, in.Nodes, in.Speakers) {
		in.Basis = BasisOf(in.Config, in.Nodes, in.Speakers)
	}
	return in
}

// choose returns the links of a node for the address, and why these; none for a node that is
// not there.
func (in Input) choose(ads []*config.L2Advertisement, node string) ([]links.Link, links.Reason) {
	at, ok := in.Basis.position[node]
	if !ok {
		return nil, ""
	}
	s := in.Basis.standingsFor(in.Address, ads)[at]
	return s.links, s.why
}
