package view

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// WhatIf is what would be at the moment after a node has died. Pods that its death ends, and
// those that start elsewhere for them, are not in it.
type WhatIf struct {
	Node string
	// Addresses are those that the node answers for or announces now.
	Addresses []Consequence
	// More is how many it announces besides, of which nobody asked.
	More int
	// Routers would have no session left.
	Routers []string
	// Unknown says what is not known, "" for nothing.
	Unknown string
}

// Consequence is what would become of one address.
type Consequence struct {
	Address  string
	Services []string
	State    v1alpha1.StepState
	Reason   string
	Text     string
	// Next is the node that would answer by ARP and NDP, "" for none.
	Next string
}

// mostAsked is for how many addresses a WhatIf decides: each takes a look at every node.
const mostAsked = 500

// Without returns what would be if a node died.
func (f *Facts) Without(node string) WhatIf {
	out := WhatIf{Node: node}
	switch {
	case !f.Has(snapshot.Speakers):
		out.Unknown = "What the node announces is not known: the Speaker objects could not be read."
		return out
	case f.speakers == nil:
		out.Unknown = "Who would take over is not known: " + f.whyNoSpeakers() + "."
	case !f.layer2Complete || !f.bgpComplete:
		out.Unknown = "Some Speaker objects have no room to list all that their nodes announce."
	}
	for _, addr := range f.addresses() {
		i := slices.IndexFunc(f.layer2[addr], func(a v1alpha1.Announcer) bool { return a.Node == node })
		byBGP := slices.ContainsFunc(f.bgp, func(n bgpNode) bool {
			return n.node == node && n.set.Contains(addr)
		})
		if i < 0 && !byBGP {
			continue
		}
		if len(out.Addresses) == mostAsked {
			out.More++
			continue
		}
		c := Consequence{Address: addr.String()}
		for _, s := range f.holders[addr] {
			c.Services = append(c.Services, s.key())
		}
		if i >= 0 {
			f.withoutAnnouncer(&c, addr, f.layer2[addr][i])
		}
		if byBGP {
			f.withoutRoute(&c, addr)
		}
		f.withoutEndpoints(&c, addr, node)
		out.Addresses = append(out.Addresses, c)
	}
	slices.SortStableFunc(out.Addresses, func(a, b Consequence) int {
		return cmp.Compare(rankOf(a.State), rankOf(b.State))
	})
	out.Routers = f.routersOnlyOf(node)
	return out
}

// withoutAnnouncer says who would answer for an address by ARP and NDP.
func (f *Facts) withoutAnnouncer(c *Consequence, addr netip.Addr, a v1alpha1.Announcer) {
	if f.speakers == nil {
		c.State, c.Text = v1alpha1.StepUnknown, "who would answer is not known"
		return
	}
	next, err := f.speakers.Layer2Without(addr, a.Node)
	switch {
	case err != nil:
		c.State, c.Text = v1alpha1.StepUnknown, err.Error()
	case next.Owner == "":
		c.State, c.Reason, c.Text = v1alpha1.StepProblem, string(next.Reason), "nobody would answer for it"
	case a.StandInFor != "" && next.Owner == a.StandInFor:
		c.State = v1alpha1.StepUnknown
		c.Text = fmt.Sprintf("the node stands in for %s, which still owns it; who would stand in then is "+
			"not known from here", a.StandInFor)
	default:
		c.State, c.Next, c.Text = v1alpha1.StepOK, next.Owner, next.Owner+" would take over"
	}
}

// withoutRoute says how many other nodes announce an address by BGP.
func (f *Facts) withoutRoute(c *Consequence, addr netip.Addr) {
	others := f.bgpCounts[addr].count - 1
	text := fmt.Sprintf("other nodes announce it by BGP: %d", others)
	state := v1alpha1.StepOK
	if others == 0 {
		state, text = v1alpha1.StepProblem, "no other node announces it by BGP"
		if c.Next != "" {
			state = v1alpha1.StepInfo
		}
		if !f.bgpComplete {
			state, text = v1alpha1.StepUnknown, "no other node lists that it announces it by BGP"
		}
	}
	if c.Text != "" {
		text = c.Text + "; " + text
	}
	if c.State == "" || c.Next == "" && state == v1alpha1.StepOK || rankOf(state) < rankOf(c.State) {
		c.State = state
	}
	c.Text = text
}

// withoutEndpoints says whether a Service of an address has endpoints on other nodes.
func (f *Facts) withoutEndpoints(c *Consequence, addr netip.Addr, node string) {
	for _, s := range f.holders[addr] {
		e := f.endpoints(s)
		if e == nil {
			continue
		}
		i := slices.IndexFunc(e.Nodes, func(n v1alpha1.NodeCount) bool { return n.Node == node })
		if i < 0 || e.Nodes[i].Count < e.Usable {
			continue
		}
		c.State, c.Reason = v1alpha1.StepProblem, cmp.Or(c.Reason, string(v1beta1.ReasonNoEndpoint))
		c.Text += fmt.Sprintf("; all usable endpoints of %s are on it", s.key())
	}
}

// routersOnlyOf returns the routers of which all established sessions are with a node.
func (f *Facts) routersOnlyOf(node string) []string {
	with, others := map[string]bool{}, map[string]bool{}
	for i := range f.Speakers {
		for _, s := range f.sessionsOf(&f.Speakers[i]) {
			switch {
			case s.State != string(v1beta1.BGPEstablished):
			case s.Node == node:
				with[s.Peer] = true
			default:
				others[s.Peer] = true
			}
		}
	}
	var out []string
	for _, peer := range sortedKeys(with) {
		if !others[peer] {
			out = append(out, peer)
		}
	}
	return out
}

// Overlay returns a Diagram with what would change: the lines of the node are lost, and those
// of the nodes that would answer are added.
func (d Diagram) Overlay(w WhatIf) Diagram {
	nodes, addresses := places(d.Nodes), places(d.Addresses)
	dead, drawn := nodes[w.Node]
	d.Sessions, d.Announcements = slices.Clone(d.Sessions), slices.Clone(d.Announcements)
	d.Nodes.Spots, d.Addresses.Spots = slices.Clone(d.Nodes.Spots), slices.Clone(d.Addresses.Spots)
	if drawn {
		for i := range d.Sessions {
			d.Sessions[i].Lost = d.Sessions[i].Lost || d.Sessions[i].To == dead
		}
		for i := range d.Announcements {
			d.Announcements[i].Lost = d.Announcements[i].Lost || d.Announcements[i].From == dead
		}
		d.Nodes.Spots[dead].State = v1alpha1.StepProblem
		d.Nodes.Spots[dead].Note = "if this node died"
	}
	for _, c := range w.Addresses {
		to, drawn := addresses[c.Address]
		if !drawn {
			continue
		}
		d.Addresses.Spots[to].State = c.State
		d.Addresses.Spots[to].Reason, d.Addresses.Spots[to].Text = c.Reason, c.Text
		if from, drawn := nodes[c.Next]; drawn {
			d.Announcements = append(d.Announcements, Line{
				From:  from,
				To:    to,
				Kind:  LineNext,
				State: v1alpha1.StepOK,
				Text:  c.Address + ": " + c.Text,
			})
		}
	}
	return d
}

// NodeNames returns the names of the nodes that have a speaker, sorted.
func (f *Facts) NodeNames() []string {
	var out []string
	for i := range f.Speakers {
		out = append(out, f.Speakers[i].Name)
	}
	return out
}
