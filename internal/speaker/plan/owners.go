package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/berth-lb/berth/pkg/announcement"
)

// Layer2 looks at every node for every address. What follows gives the same owners in large
// clusters: addresses that differ in nothing but themselves have the same field of nodes,
// which is computed once. The election prefers one candidate to another whoever else there
// is, so who claims an address has it if it beats one node of the field; if nobody who
// claims it does, the hash decides within the field.

// contests is what Owner knows of the election for many addresses.
type contests struct {
	nodes map[string]announcement.Node
	// ofNodes are addresses that Nodes name or links have.
	ofNodes sets.Set[netip.Addr]
	// subnets are those of all links, each once.
	subnets []netip.Prefix
	// unmarked is a node by which the exclude label means something, "" for none.
	unmarked string
	fields   map[string]announcement.Field // by kind of address
}

// contest returns what Owner knows, and finds it out first if need be.
func (p *Plan) contest() *contests {
	if p.contests != nil {
		return p.contests
	}
	c := &contests{
		nodes:   map[string]announcement.Node{},
		ofNodes: sets.New[netip.Addr](),
		fields:  map[string]announcement.Field{},
	}
	subnets := sets.New[netip.Prefix]()
	for _, n := range p.nodes {
		c.nodes[n.Name] = n
		c.ofNodes.Insert(n.Addresses...)
		s := p.speakers[n.Name]
		if c.unmarked == "" && !n.Excluded && s.Worked {
			c.unmarked = n.Name
		}
		for _, l := range s.Links {
			for _, prefix := range l.Prefixes {
				c.ofNodes.Insert(prefix.Addr())
				subnets.Insert(prefix.Masked())
			}
		}
	}
	c.subnets = slices.SortedFunc(maps.Keys(subnets), netip.Prefix.Compare)
	p.contests = c
	return c
}

// Owner returns which node is to answer for an address, "" for none: what Layer2 says,
// without the reasons.
func (p *Plan) Owner(addr netip.Addr) (string, error) {
	services, err := p.Services(addr)
	if err != nil || len(services) == 0 {
		return "", err
	}
	c := p.contest()
	in := p.layer2Input(addr, services)
	by := announcement.AdvertisedBy(in)
	switch {
	case !by.Ready:
		return "", nil
	case c.ofNodes.Has(addr):
		return announcement.Decide(in).Owner, nil
	case by.Bound:
		in.Nodes = c.only(append(by.To, c.unmarked))
		return announcement.Decide(in).Owner, nil
	}

	field := c.field(in, by)
	var claimants []string
	restricted := false // a node that gets nothing new, but may keep what it has
	for name := range in.Claims {
		claimants = append(claimants, name)
		s := p.speakers[name]
		restricted = restricted || s.Full || s.Presence == announcement.Held
	}
	switch {
	case field.Immediate && restricted:
		return announcement.Decide(in).Owner, nil
	case field.Immediate || len(claimants) == 0:
		return field.Elect(addr), nil
	}
	few := append(slices.Clone(claimants), c.unmarked)
	if len(field.Nodes) > 0 {
		few = append(few, field.Nodes[0])
	}
	in.Nodes = c.only(few)
	if owner := announcement.Decide(in).Owner; slices.Contains(claimants, owner) {
		return owner, nil
	}
	return field.Elect(addr), nil
}

// field returns the field of an address, computed once for all of its kind.
func (c *contests) field(in announcement.Input, by announcement.Advertised) announcement.Field {
	var kind strings.Builder
	for _, a := range by.Ads {
		fmt.Fprintf(&kind, "%s/", a.Name)
	}
	for i, subnet := range c.subnets {
		if subnet.Contains(in.Address) {
			fmt.Fprintf(&kind, " %d", i)
		}
	}
	key := kind.String()
	field, known := c.fields[key]
	if !known {
		field = announcement.FieldOf(in)
		c.fields[key] = field
	}
	return field
}

// only returns the nodes of these names that there are, each once, by name.
func (c *contests) only(names []string) []announcement.Node {
	slices.Sort(names)
	var out []announcement.Node
	for _, name := range slices.Compact(names) {
		if n, ok := c.nodes[name]; ok {
			out = append(out, n)
		}
	}
	return out
}

// Takes says why a node takes an address that another has, or nobody; both are those that
// Owner names, before and after a change.
func (p *Plan) Takes(addr netip.Addr, from, to string) (announcement.Decision, error) {
	services, err := p.Services(addr)
	if err != nil {
		return announcement.Decision{}, err
	}
	c := p.contest()
	in := p.layer2Input(addr, services)
	in.Nodes, in.Node = c.only([]string{from, to, c.unmarked}), to
	in.Probe.State = announcement.ProbeFree
	return announcement.Decide(in), nil
}
