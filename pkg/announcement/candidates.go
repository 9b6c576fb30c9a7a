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
	*standing
	claim *Claim // nil when it claims nothing
}

// filter sorts the nodes into those that may announce, with their weight,
// and those that may not.
func filter(
	in Input, ads []*config.L2Advertisement, services []Service,
) (may []candidate, mayNot []Rejection) {
	local := slices.DeleteFunc(slices.Clone(services), func(s Service) bool { return !s.Local })
	all, claims := in.Basis.standingsFor(in.Address, ads), in.claimsByPosition()
	may = make([]candidate, 0, len(all))
	for i := range all {
		c := candidate{standing: &all[i]}
		if len(claims) > 0 && claims[0].position == i {
			c.claim, claims = &claims[0].Claim, claims[1:]
		}
		if reason := rejected(in, c, local); reason != "" {
			mayNot = append(mayNot, Rejection{c.name, reason})
			continue
		}
		may = append(may, c)
	}
	may, mayNot = inSubnet(may, mayNot)
	may, mayNot = onTheLAN(may, mayNot)
	return uncordoned(may, mayNot)
}

// positionedClaim is the claim of the node at this position.
type positionedClaim struct {
	position int
	Claim
}

// claimsByPosition returns the claims of nodes, in their order. There are few.
func (in Input) claimsByPosition() []positionedClaim {
	out := make([]positionedClaim, 0, len(in.Claims))
	for name, claim := range in.Claims {
		if position, ok := in.Basis.position[name]; ok {
			out = append(out, positionedClaim{position, claim})
		}
	}
	slices.SortFunc(out, func(a, b positionedClaim) int { return cmp.Compare(a.position, b.position) })
	return out
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
	if !slices.ContainsFunc(may, condition) {
		return may, mayNot
	}
	out := make([]candidate, 0, len(may))
	for _, c := range may {
		if condition(c) {
			mayNot = append(mayNot, Rejection{c.name, reason})
			continue
		}
		out = append(out, c)
	}
	return out, mayNot
}

// rejected says why a node may not announce an address that these Local Services have, or "".
func rejected(in Input, c candidate, local []Service) v1beta1.Reason {
	switch {
	case c.barred != "":
		return c.barred
	case slices.ContainsFunc(local, func(s Service) bool { return s.Endpoints[c.name] == 0 }):
		return v1beta1.ReasonNoLocalEndpoint
	case c.full && c.claim == nil:
		return v1beta1.ReasonNodeFull
	case c.held && !claimsLast(in.Claims, c.name):
		return v1beta1.ReasonNodeHeld
	case len(c.links) == 0:
		return v1beta1.ReasonNoLinkForAddress
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
	out := make([]election.Candidate, len(left))
	for i, c := range left {
		out[i].Name = c.name
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
		if c.claim != nil && better(c.counts(majority), best) {
			best = c.counts(majority)
		}
	}
	return keep(candidates, func(c candidate) bool {
		return c.claim != nil && !better(best, c.counts(majority))
	})
}

// counts returns a candidate's claim as it counts. A speaker that is not heard now may be
// dead. So where only a minority announces the address, its claim is one of the minority
// too: it holds the address, but it does not win one back. Beside an older majority claim
// it counts in full: whoever has that one has missed that the address moved on.
func (c candidate) counts(majority bool) Claim {
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
	n := 0
	for _, c := range candidates {
		if condition(c) {
			n++
		}
	}
	if n == 0 || n == len(candidates) {
		return candidates
	}
	out := make([]candidate, 0, n)
	for _, c := range candidates {
		if condition(c) {
			out = append(out, c)
		}
	}
	return out
}
