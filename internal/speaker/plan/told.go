package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/bgp"
)

// Routes plans for one node. What all nodes tell routers is compared here without a look at
// every node for every address: nodes that the configuration takes for the same are a class,
// and tell the same, but for addresses of Services that are Local, which are decided for
// each node that has endpoints. Weights by endpoints are left out.

// RouteChange is a prefix that nodes begin or cease to tell a peer, or tell otherwise.
type RouteChange struct {
	Peer   string
	Prefix netip.Prefix
	// Gained are the nodes that begin to tell it, Lost those that cease to, and Changed
	// those that tell it with other attributes, each sorted. They must not be changed.
	Gained, Lost, Changed []string
	// Before and After are how many nodes tell it.
	Before, After int
	// As are its attributes then, and those of before where no node tells it any more.
	As bgp.Attributes
}

// WhyNotTold says why a node no longer tells routers of an address; the reason is "" if that is
// not because of the address or the node.
func (p *Plan) WhyNotTold(addr netip.Addr, node string) (v1beta1.Reason, error) {
	s, known := p.speakers[node]
	switch {
	case !known:
		return v1beta1.ReasonNodeUnknown, nil
	case s.Presence == announcement.Gone || s.Presence == announcement.Leaving:
		return s.Reason, nil
	}
	services, err := p.Services(addr)
	if err != nil {
		return "", err
	}
	if d := p.bgpOf(addr, node, services); !d.Announce {
		return d.Reason, nil
	}
	return "", nil
}

// RouteChanges compares what routers are to be told of addresses by two plans. They are
// sorted by peer and prefix.
func RouteChanges(before, after *Plan, was, is []netip.Addr) ([]RouteChange, error) {
	one, err := before.told(was)
	if err != nil {
		return nil, err
	}
	other, err := after.told(is)
	if err != nil {
		return nil, err
	}
	c := comparison{before: one, after: other, changes: map[string]RouteChange{}}
	c.findCells()
	var out []RouteChange
	for _, key := range keysOf(one, other) {
		if change, differs := c.compare(key); differs {
			out = append(out, change)
		}
	}
	return out, nil
}

// routeKey is a prefix that a peer is told.
type routeKey struct {
	peer   string
	prefix netip.Prefix
}

func (k routeKey) compare(o routeKey) int {
	return cmp.Or(cmp.Compare(k.peer, o.peer), k.prefix.Addr().Compare(o.prefix.Addr()),
		cmp.Compare(k.prefix.Bits(), o.prefix.Bits()))
}

// noClass is the class of nodes that tell nobody anything.
const noClass = -1

// told is what all nodes tell.
type told struct {
	classOf map[string]int // by node
	classes []bgpClass
	// byClass has for each route how each class tells it, as indexes of attributes; 0 for
	// not at all.
	byClass map[routeKey][]int
	// byNode has what single nodes tell besides, because of endpoints of their own.
	byNode     map[routeKey]map[string]int
	attributes []bgp.Attributes
	known      map[string]int
	few        []announcement.Node // one of each class
}

// bgpClass are nodes that the configuration takes for the same.
type bgpClass struct {
	first announcement.Node
	peers []bgp.Peer
}

// told returns what all nodes tell of addresses.
func (p *Plan) told(addrs []netip.Addr) (*told, error) {
	out := &told{
		classOf:    map[string]int{},
		byClass:    map[routeKey][]int{},
		byNode:     map[routeKey]map[string]int{},
		attributes: make([]bgp.Attributes, 1),
		known:      map[string]int{},
	}
	p.classify(out)
	routes := make([][]bgp.Address, len(out.classes))
	own := map[string][]bgp.Address{} // by node
	for _, addr := range addrs {
		services, err := p.Services(addr)
		if err != nil {
			return nil, err
		}
		p.decideClasses(out, addr, services, routes)
		p.decideNodes(out, addr, services, own)
	}
	for i, class := range out.classes {
		for _, d := range bgp.Plan(p.now, class.peers, routes[i]).Desired {
			for _, r := range d.Routes {
				key := routeKey{d.Peer.Name, r.Prefix}
				if out.byClass[key] == nil {
					out.byClass[key] = make([]int, len(out.classes))
				}
				out.byClass[key][i] = out.index(r.Attributes)
			}
		}
	}
	for node, addresses := range own {
		for _, d := range bgp.Plan(p.now, out.classes[out.classOf[node]].peers, addresses).Desired {
			for _, r := range d.Routes {
				key := routeKey{d.Peer.Name, r.Prefix}
				if out.byNode[key] == nil {
					out.byNode[key] = map[string]int{}
				}
				out.byNode[key][node] = out.index(r.Attributes)
			}
		}
	}
	return out, nil
}

// index returns the index of attributes, which is never 0.
func (t *told) index(a bgp.Attributes) int {
	key := fmt.Sprint(a)
	i, known := t.known[key]
	if !known {
		i = len(t.attributes)
		t.attributes, t.known[key] = append(t.attributes, a), i
	}
	return i
}

// classify puts nodes into classes, in the order of their names.
func (p *Plan) classify(t *told) {
	byKey := map[string]int{}
	for _, n := range p.nodes {
		s, known := p.speakers[n.Name]
		if !known || s.NoBGP || s.Presence == announcement.Gone || s.Presence == announcement.Leaving {
			t.classOf[n.Name] = noClass
			continue
		}
		var peers []bgp.Peer
		var key strings.Builder
		fmt.Fprint(&key, n.Excluded, n.Cordoned, n.NetworkUnavailable,
			s.Worked, s.IgnoresExclude, s.IgnoresCordon, s.Presence)
		for _, a := range p.config.BGPAdvertisements {
			fmt.Fprint(&key, " ", a.SelectsNode(n.Labels))
		}
		for _, on := range p.config.PeersOn(p.byName[n.Name]) {
			fmt.Fprint(&key, " ", on.Name, on.InForce(), on.Peer.Families, on.Peer.LocalASN, on.Peer.PeerASN,
				on.Peer.GracefulShutdown)
			if on.InForce() {
				peers = append(peers, on.Peer)
			}
		}
		class, known := byKey[key.String()]
		if !known {
			class = len(t.classes)
			byKey[key.String()] = class
			t.classes = append(t.classes, bgpClass{first: n, peers: peers})
		}
		t.classOf[n.Name] = class
	}
}

// decideClasses decides what each class does with an address, as a node of it without
// endpoints does.
func (p *Plan) decideClasses(
	t *told, addr netip.Addr, services []announcement.Service, routes [][]bgp.Address,
) {
	without := slices.Clone(services)
	for i := range without {
		without[i].Endpoints = nil
	}
	for i, class := range t.classes {
		if len(class.peers) == 0 {
			continue
		}
		d := p.decideBGP(addr, class.first.Name, without, p.fewNodes(t, addr, nil))
		if d.Announce {
			routes[i] = append(routes[i], bgp.Address{Address: addr, Advertisements: d.Advertisements})
		}
	}
}

// decideNodes decides for the nodes that have endpoints of Services that are Local.
func (p *Plan) decideNodes(
	t *told, addr netip.Addr, services []announcement.Service, own map[string][]bgp.Address,
) {
	var with []string
	for _, s := range services {
		if s.Local {
			for node := range s.Endpoints {
				with = append(with, node)
			}
		}
	}
	slices.Sort(with)
	with = slices.Compact(with)
	for _, node := range with {
		class, known := t.classOf[node]
		if !known || class == noClass || len(t.classes[class].peers) == 0 {
			continue
		}
		d := p.decideBGP(addr, node, services, p.fewNodes(t, addr, with))
		if d.Announce {
			own[node] = append(own[node], bgp.Address{Address: addr, Advertisements: d.Advertisements})
		}
	}
}

// fewNodes returns the nodes that a decision for an address needs to know: one of each
// class, these, and all where the address may be a node's own.
func (p *Plan) fewNodes(t *told, addr netip.Addr, these []string) []announcement.Node {
	c := p.contest()
	if c.ofNodes.Has(addr) {
		return p.nodes
	}
	if these == nil {
		if t.few == nil {
			t.few = c.only(t.firsts(c))
		}
		return t.few
	}
	return c.only(append(t.firsts(c), these...))
}

// firsts returns a node of each class, and one by which the exclude label means something.
func (t *told) firsts(c *contests) []string {
	out := []string{c.unmarked}
	for _, class := range t.classes {
		out = append(out, class.first.Name)
	}
	return out
}

// cell are nodes that are of one class before and of one after.
type cell struct{ before, after int }

// comparison compares what is told before and after.
type comparison struct {
	before, after *told
	cells         []cell
	nodes         map[cell][]string
	changes       map[string]RouteChange // of routes that all single nodes tell alike
}

// findCells puts all nodes into cells.
func (c *comparison) findCells() {
	classOf := func(t *told, node string) int {
		if class, known := t.classOf[node]; known {
			return class
		}
		return noClass
	}
	c.nodes = map[cell][]string{}
	for _, t := range []*told{c.before, c.after} {
		for node := range t.classOf {
			at := cell{classOf(c.before, node), classOf(c.after, node)}
			c.nodes[at] = append(c.nodes[at], node)
		}
	}
	for at, nodes := range c.nodes {
		slices.Sort(nodes)
		c.nodes[at] = slices.Compact(nodes)
		c.cells = append(c.cells, at)
	}
	slices.SortFunc(c.cells, func(a, b cell) int {
		return cmp.Or(cmp.Compare(a.before, b.before), cmp.Compare(a.after, b.after))
	})
}

// compare returns what changes about a route.
func (c *comparison) compare(key routeKey) (change RouteChange, differs bool) {
	was, is := c.before.byClass[key], c.after.byClass[key]
	single := c.before.byNode[key] != nil || c.after.byNode[key] != nil
	var memo string
	if !single { // most routes are told by the same classes
		memo = fmt.Sprint(was, is)
		if known, ok := c.changes[memo]; ok {
			known.Peer, known.Prefix = key.peer, key.prefix
			differs = known.differs()
			return known, differs
		}
	}
	change = RouteChange{Peer: key.peer, Prefix: key.prefix}
	for _, at := range c.cells {
		one, other := at.of(was, at.before), at.of(is, at.after)
		if !single {
			change.note(c, c.nodes[at], one, other)
			continue
		}
		for _, node := range c.nodes[at] {
			ownBefore, ownAfter := c.before.byNode[key][node], c.after.byNode[key][node]
			change.note(c, []string{node}, cmp.Or(one, ownBefore), cmp.Or(other, ownAfter))
		}
	}
	for _, nodes := range [][]string{change.Gained, change.Lost, change.Changed} {
		slices.Sort(nodes)
	}
	if !single {
		c.changes[memo] = change
	}
	differs = change.differs()
	return change, differs
}

// of returns how a class tells a route.
func (cell) of(byClass []int, class int) int {
	if byClass == nil || class == noClass {
		return 0
	}
	return byClass[class]
}

// note takes note of how nodes tell a route, before and after.
func (r *RouteChange) note(c *comparison, nodes []string, was, is int) {
	if was != 0 {
		r.Before += len(nodes)
	}
	if is != 0 {
		if r.After == 0 {
			r.As = c.after.attributes[is]
		}
		r.After += len(nodes)
	}
	switch {
	case was == 0 && is != 0:
		r.Gained = append(r.Gained, nodes...)
	case was != 0 && is == 0:
		r.Lost = append(r.Lost, nodes...)
		if r.After == 0 {
			r.As = c.before.attributes[was]
		}
	case was != 0 && !c.before.attributes[was].Equal(c.after.attributes[is]):
		r.Changed = append(r.Changed, nodes...)
	}
}

func (r *RouteChange) differs() bool { return len(r.Gained)+len(r.Lost)+len(r.Changed) > 0 }

// keysOf returns the routes of both, sorted.
func keysOf(tables ...*told) []routeKey {
	all := map[routeKey]bool{}
	for _, t := range tables {
		for key := range t.byClass {
			all[key] = true
		}
		for key := range t.byNode {
			all[key] = true
		}
	}
	out := make([]routeKey, 0, len(all))
	for key := range all {
		out = append(out, key)
	}
	slices.SortFunc(out, routeKey.compare)
	return out
}
