package announcement

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/layer2/election"
)

// The times of a dispute.
const (
	// disputeCount is how often a claim is superseded within disputeWindow before
	// its node yields; one time less is a dispute, of which the other node knows by
	// then too. An address that moves for a reason is superseded once.
	disputeCount  = 4
	disputeWindow = 10 * time.Second
	// disputeRest is for how long the node that yields leaves the address to the
	// other, at first. Each time that the dispute goes on afterwards doubles it, up
	// to maxDisputeRest.
	disputeRest    = time.Minute
	maxDisputeRest = 16 * time.Minute
)

// Dispute is what a node remembers of members that want an address as well. Every
// speaker elects by what it sees. Two that see something else for long, because
// their settings or versions differ, say, or a path between two nodes is broken,
// each claim the address above the claim of the other, as fast as gossip goes, or
// it goes round among three. So each node counts how often it is superseded, and
// one of whose rivals any comes before it in the order of [election.Rank] yields. The
// zero value is no dispute.
type Dispute struct {
	// Superseded are the last claims that came above this node's own.
	Superseded []Superseding
	// With are the nodes of the dispute, sorted; none as long as it is none.
	With []string
	// Rest is for how long this node rests when it yields, Until when it has done
	// so; Until is zero in a node that does not yield.
	Rest  time.Duration
	Until time.Time
	// Over is when the dispute is forgotten unless it goes on.
	Over time.Time
}

// Superseding is one claim that came above this node's own.
type Superseding struct {
	By string
	At time.Time
}

// Lasts reports whether there is a dispute at a time.
func (d Dispute) Lasts(now time.Time) bool { return len(d.With) > 0 && now.Before(d.Over) }

// Equal reports whether two disputes are the same.
func (d Dispute) Equal(o Dispute) bool {
	return slices.Equal(d.Superseded, o.Superseded) && slices.Equal(d.With, o.With) &&
		d.Rest == o.Rest && d.Until.Equal(o.Until) && d.Over.Equal(o.Over)
}

// again is the dispute after another node has superseded the claim of node once
// more.
func (d Dispute) again(addr netip.Addr, node, by string, now time.Time) Dispute {
	if !d.Lasts(now) {
		d = Dispute{Superseded: d.Superseded}
	}
	rested := !d.Until.IsZero() && slices.Contains(d.With, by) // and in vain
	d.Superseded = slices.DeleteFunc(slices.Clone(d.Superseded), func(s Superseding) bool {
		return now.Sub(s.At) > disputeWindow
	})
	d.Superseded = append(d.Superseded, Superseding{by, now})
	if len(d.Superseded) < disputeCount-1 && !rested {
		return d
	}
	with := slices.Clone(d.With)
	for _, s := range d.Superseded {
		with = append(with, s.By)
	}
	slices.Sort(with)
	d.With = slices.Compact(with)
	d.Over = now.Add(max(d.Rest, disputeRest) + disputeWindow)
	if len(d.Superseded) < disputeCount && !rested || d.first(addr, node) == node {
		return d
	}
	d.Rest = min(max(2*d.Rest, disputeRest), maxDisputeRest)
	d.Until, d.Superseded = now.Add(d.Rest), nil
	d.Over = d.Until.Add(disputeWindow)
	return d
}

// first is the node of the dispute that goes on, of node and those that it is in
// dispute with.
func (d Dispute) first(addr netip.Addr, node string) string {
	candidates := []election.Candidate{{Name: node}}
	for _, name := range d.With {
		candidates = append(candidates, election.Candidate{Name: name})
	}
	owner, _ := election.Elect(addr, candidates)
	return owner
}

// superseded names the member that claims the address above this node, which
// announces it; "" for none. What a member claims that is not heard now is old.
func superseded(in Input) string {
	mine, claimed := in.Claims[in.Node]
	if !claimed || !in.Announcing {
		return ""
	}
	by, highest := "", uint64(0)
	for _, name := range sortedNames(in.Claims) {
		claim := in.Claims[name]
		heard := name != in.Node && in.Speakers[name].Heard
		if heard && claim.Generation >= mine.Generation && claim.Generation > highest {
			by, highest = name, claim.Generation
		}
	}
	return by
}

// rest has this node, which takes the address for its own and has yielded in a
// dispute, leave it to whoever claims it. It reports whether that is so: it is not,
// once nobody is heard that claims the address.
func rest(in Input, d *Decision) bool {
	if !in.Now.Before(d.Dispute.Until) {
		return false
	}
	to, highest := "", uint64(0)
	for _, name := range sortedNames(in.Claims) {
		heard := name != in.Node && in.Speakers[name].Heard
		if claim := in.Claims[name]; heard && claim.Generation > highest {
			to, highest = name, claim.Generation
		}
	}
	if to == "" {
		return false
	}
	d.Owner, d.OwnerLinks, d.Recheck = to, nil, d.Dispute.Until
	d.Reason = v1beta1.ReasonContested
	d.Message = fmt.Sprintf("Nodes %s and %s both take the address for theirs, again and again. "+
		"This node leaves it to %s until %s. "+
		"Compare the settings and versions of their speakers, and what is between them.",
		in.Node, strings.Join(d.Dispute.With, ", "), to, d.Dispute.Until.UTC().Format(time.RFC3339))
	return true
}
