package announcement

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
	"github.com/berth-lb/berth/pkg/layer2/election"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// candidate is a node that may own the address.
type candidate struct {
	name     string
	weight   int64
	cordoned bool
	held     bool
	claim    *Claim // nil when it claims nothing
	links    []links.Link
	why      links.Reason
	// silent is set when the node's kernel answers no probes on one of links.
	silent bool
}

// filter sorts the nodes into those that may announce, with their weight,
// and those that may not.
func filter(
	in Input, ads []*config.L2Advertisement, services []Service,
) (may []candidate, mayNot []Rejection) {
	marks := marksOf(in.Nodes, in.Speakers)
	for _, n := range in.Nodes {
		c := candidate{name: n.Name, cordoned: marks.cordoned(n), held: in.Speakers[n.Name].Presence == Held}
		c.links, c.why = choose(in, ads, n)
		c.silent = slices.ContainsFunc(c.links, func(l links.Link) bool {
			return slices.Contains(in.Speakers[n.Name].SilentLinks, l.Name)
		})
		if reason := rejected(in, marks, n, ads, services); reason != "" {
			mayNot = append(mayNot, Rejection{n.Name, reason})
			continue
		}
		if len(c.links) == 0 {
			mayNot = append(mayNot, Rejection{n.Name, v1beta1.ReasonNoLinkForAddress})
			continue
		}
		if claim, ok := in.Claims[n.Name]; ok {
			c.claim = &claim
		}
		for _, a := range ads {
			if a.SelectsNode(n.Labels) {
				c.weight += a.Weight(n.Labels)
			}
		}
		may = append(may, c)
	}
	may, mayNot = inSubnet(may, mayNot)
	may, mayNot = onTheLAN(may, mayNot)
	return uncordoned(may, mayNot)
}

// inSubnet leaves nodes without a link in the address's subnet out where
// others have one: what they announce would be on another LAN.
func inSubnet(may []candidate, mayNot []Rejection) ([]candidate, []Rejection) {
	if !slices.ContainsFunc(may, func(c candidate) bool { return c.why == links.LinksBySubnet }) {
		return may, mayNot
	}
	return reject(may, mayNot, v1beta1.ReasonNoLinkForAddress, func(c candidate) bool {
		return c.why == links.AllEligibleLinks
	})
}

// onTheLAN leaves nodes out whose kernel is silent on a link that is to carry the
// address where those of others answer: clients there do not reach them, although
// the node lives on another LAN.
func onTheLAN(may []candidate, mayNot []Rejection) ([]candidate, []Rejection) {
	if !slices.ContainsFunc(may, func(c candidate) bool { return !c.silent }) {
		return may, mayNot
	}
	return reject(may, mayNot, v1beta1.ReasonLinkSilent, func(c candidate) bool { return c.silent })
}

// uncordoned leaves cordoned nodes out where there are others.
func uncordoned(may []candidate, mayNot []Rejection) ([]candidate, []Rejection) {
	if !slices.ContainsFunc(may, func(c candidate) bool { return !c.cordoned }) {
		return may, mayNot
	}
	return reject(may, mayNot, v1beta1.ReasonNodeCordoned, func(c candidate) bool { return c.cordoned })
}

// reject rejects the candidates for which a condition holds.
func reject(
	may []candidate, mayNot []Rejection, reason v1beta1.Reason, condition func(candidate) bool,
) ([]candidate, []Rejection) {
	var out []candidate
	for _, c := range may {
		if condition(c) {
			mayNot = append(mayNot, Rejection{c.name, reason})
			continue
		}
		out = append(out, c)
	}
	return out, mayNot
}

// rejected says why a node may not announce, or "".
func rejected(
	in Input, marks marks, n Node, ads []*config.L2Advertisement, services []Service,
) v1beta1.Reason {
	speaker := in.Speakers[n.Name]
	switch {
	case speaker.NoLayer2:
		return v1beta1.ReasonProtocolDisabled
	case marks.excluded(n):
		return v1beta1.ReasonNodeExcluded
	case n.NetworkUnavailable:
		return v1beta1.ReasonNetworkUnavailable
	case !slices.ContainsFunc(ads, func(a *config.L2Advertisement) bool { return a.SelectsNode(n.Labels) }):
		return v1beta1.ReasonNodeNotSelected
	case speaker.Presence == Gone || speaker.Presence == Leaving:
		return cmp.Or(speaker.Reason, v1beta1.ReasonSpeakerNotAlive)
	case slices.ContainsFunc(services, func(s Service) bool { return s.Local && s.Endpoints[n.Name] == 0 }):
		return v1beta1.ReasonNoLocalEndpoint
	}
	if _, claimed := in.Claims[n.Name]; speaker.Full && !claimed {
		return v1beta1.ReasonNodeFull
	}
	if speaker.Presence == Held && !claimsLast(in.Claims, n.Name) {
		return v1beta1.ReasonNodeHeld
	}
	return ""
}

// claimsLast reports whether a node has claimed the address and no other has
// since. A node that was away, and whose kernel answers again before its speaker
// does, still says what it said before others took over.
func claimsLast(claims map[string]Claim, node string) bool {
	mine, claimed := claims[node]
	for _, other := range claims {
		if other.Generation > mine.Generation {
			return false
		}
	}
	return claimed
}

// choose chooses the links of a node for the address.
func choose(in Input, ads []*config.L2Advertisement, n Node) ([]links.Link, links.Reason) {
	return links.Choose(in.Address, in.Speakers[n.Name].Links, selection(ads, n))
}

// selection is what the advertisements that select a node say of its
// interfaces. One that names none leaves the choice open for all.
func selection(ads []*config.L2Advertisement, n Node) links.Selection {
	var out links.Selection
	for _, a := range ads {
		if !a.SelectsNode(n.Labels) {
			continue
		}
		if len(a.Interfaces) == 0 && len(a.InterfacePatterns) == 0 {
			return links.Selection{}
		}
		out.Names = append(out.Names, a.Interfaces...)
		out.Patterns = append(out.Patterns, a.InterfacePatterns...)
	}
	return out
}

// elect names the owner, "" when there is no candidate. It drops candidates
// step by step, and each step leaves at least one.
func elect(addr netip.Addr, candidates []candidate, immediate bool) string {
	left := heaviest(candidates)
	if !immediate {
		left = present(left)
	}
	var out []election.Candidate
	for _, c := range left {
		out = append(out, election.Candidate{Name: c.name})
	}
	owner, _ := election.Elect(addr, out)
	return owner
}

// heaviest leaves those with the highest weight.
func heaviest(candidates []candidate) []candidate {
	most := int64(0)
	for _, c := range candidates {
		most = max(most, c.weight)
	}
	return keep(candidates, func(c candidate) bool { return c.weight == most })
}

// present leaves those with the best claim, or all where nobody has one.
func present(candidates []candidate) []candidate {
	majority := slices.ContainsFunc(candidates, func(c candidate) bool {
		return c.claim != nil && !c.claim.Minority && !c.held
	})
	best := Claim{Minority: true}
	for _, c := range candidates {
		if c.claim != nil && better(c.standing(majority), best) {
			best = c.standing(majority)
		}
	}
	return keep(candidates, func(c candidate) bool {
		return c.claim != nil && !better(best, c.standing(majority))
	})
}

// standing returns a candidate's claim as it counts. A speaker that is not heard now may be
// dead. So where only a minority announces the address, its claim is one of the minority
// too: it holds the address, but it does not win one back. Beside an older majority claim
// it counts in full: whoever has that one has missed that the address moved on.
func (c candidate) standing(majority bool) Claim {
	return Claim{Generation: c.claim.Generation, Minority: c.claim.Minority || c.held && !majority}
}

// better reports whether one claim beats another.
func better(a, b Claim) bool {
	if a.Minority != b.Minority {
		return b.Minority
	}
	return a.Generation > b.Generation
}

// keep leaves the candidates for which a condition holds, or all when it
// holds for none.
func keep(candidates []candidate, condition func(candidate) bool) []candidate {
	var out []candidate
	for _, c := range candidates {
		if condition(c) {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return candidates
	}
	return out
}
