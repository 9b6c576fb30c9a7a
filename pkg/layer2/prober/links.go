package prober

import (
	"maps"
	"slices"
)

// LinkReach is what probes say of the links of other nodes, where Targets tell on
// which link of theirs the address is. A node may live on one LAN and have lost
// another, although its link there has a carrier.
type LinkReach struct {
	// Answers and Silent are by node the names of its links, sorted. A link answers
	// when one of its targets does. It is silent when none of those that answered
	// before does any more, while another node answers on the same link of this
	// node: else it may be this node that has lost the LAN.
	Answers, Silent map[string][]string
	// Suspect are the links of this node on which a target is silent, sorted. To
	// tell who has lost the LAN takes a target of another node there.
	Suspect []string
}

// Equal reports whether two say the same.
func (r LinkReach) Equal(o LinkReach) bool {
	return maps.EqualFunc(r.Answers, o.Answers, slices.Equal) &&
		maps.EqualFunc(r.Silent, o.Silent, slices.Equal) &&
		slices.Equal(r.Suspect, o.Suspect)
}

// LinkReach returns what is known of the links of each node that has a target. The
// caller must not change it.
func (p *Prober) LinkReach() LinkReach {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.linkReachLocked()
}

func (p *Prober) linkReachLocked() LinkReach {
	var all []linkTrack
	for key, b := range p.books {
		for _, t := range b.tracks {
			all = append(all, linkTrack{
				node:  t.node,
				on:    t.on,
				own:   key.link,
				state: t.reach(b.misses).State,
			})
		}
	}
	return linkReach(all)
}

// linkTrack is the state of one target: an address on a link of a node, probed on
// a link of this node.
type linkTrack struct {
	node, on, own string
	state         Reachability
}

// linkReach is what targets say of links.
func linkReach(all []linkTrack) LinkReach {
	type link struct{ node, on string }
	answers := make(map[link]bool)
	// There is a silent target of the link where another node answers.
	silent := make(map[link]bool)
	suspect := make(map[string]bool)
	anotherAnswers := func(t linkTrack) bool {
		return slices.ContainsFunc(all, func(o linkTrack) bool {
			return o.own == t.own && o.node != t.node && o.state == Answers
		})
	}
	for _, t := range all {
		at := link{t.node, t.on}
		switch t.state {
		case Answers:
			answers[at] = true
		case Silent:
			if t.on == "" {
				continue // its link does not matter
			}
			suspect[t.own] = true
			silent[at] = silent[at] || anotherAnswers(t)
		}
	}
	out := LinkReach{
		Answers: make(map[string][]string),
		Silent:  make(map[string][]string),
		Suspect: slices.Sorted(maps.Keys(suspect)),
	}
	for at := range answers {
		if at.on != "" {
			out.Answers[at.node] = append(out.Answers[at.node], at.on)
		}
	}
	for at, alone := range silent {
		if alone && !answers[at] {
			out.Silent[at.node] = append(out.Silent[at.node], at.on)
		}
	}
	for _, links := range []map[string][]string{out.Answers, out.Silent} {
		for _, names := range links {
			slices.Sort(names)
		}
	}
	return out
}
