package announcement

import (
	"fmt"
	"slices"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// A connection that is open while its address moves is reset: the new owner's service
// proxy does not know it. Where every L2Advertisement of the address gives a
// lingerPeriod, and no Service with it is Local, a planned move therefore has two steps.
// The new owner takes the address quietly: it answers all requests and announces nothing.
// The owner before lingers: it answers only requests that were sent to it alone, by which
// hosts verify what they know. So hosts that know the owner before go on sending there,
// and all others go to the new owner, who is the only one.
//
// The two agree by their claims, without a clock that both have: that of the new owner is
// marked Quiet, for as long as it is; then that of the owner before is marked Lingers.
// When either mark is missing, the move is over: the new owner announces the address, and
// the other falls silent. Both marks count for nothing in the election.

// lingerPeriod is how long the owner before may linger: the shortest time that one of the
// advertisements gives, zero for not at all. A Service that is Local allows none: the
// address moves because of its endpoints.
func lingerPeriod(ads []*config.L2Advertisement, services []Service) time.Duration {
	if len(ads) == 0 || slices.ContainsFunc(services, func(s Service) bool { return s.Local }) {
		return 0
	}
	shortest := ads[0].LingerPeriod
	for _, a := range ads {
		shortest = min(shortest, a.LingerPeriod)
	}
	return shortest
}

// beQuiet has the owner take the address quietly, or go on being quiet, if the owner
// before lingers or may be about to. It waits for that as long as a hand-over may take.
func beQuiet(in Input, ads []*config.L2Advertisement, d *Decision) {
	period, since := lingerPeriod(ads, in.Services), in.QuietSince
	former := formerOwner(in)
	theirs := in.Claims[former]
	switch {
	case period <= 0 || former == "" || in.Minority:
		return
	case in.Announcing && since.IsZero():
		return // it announces openly
	case !in.Announcing:
		if !d.Cause.Planned() || theirs.Generation != in.Highest || theirs.Quiet || theirs.Lingers {
			return
		}
		since = in.Now
	}
	if _, ok := mayLinger(in, ads, former, d.Owner); !ok {
		return
	}
	end := since.Add(period)
	again := end
	if handedOver := since.Add(in.HandOver); !theirs.Lingers && handedOver.Before(end) {
		again = handedOver
	}
	if !again.After(in.Now) {
		return
	}
	d.Former, d.Until, d.Recheck, d.Claim.Quiet = former, end, again, true
	d.Message += fmt.Sprintf(" It answers and announces nothing until %s, "+
		"while node %s goes on answering those that know it.", clockTime(end), former)
}

// formerOwner is the node that owned the address before this one, as far as it still
// claims it; "" for none.
func formerOwner(in Input) string {
	former, highest := "", uint64(0)
	for _, name := range sortedNames(in.Claims) {
		if generation := in.Claims[name].Generation; name != in.Node && generation > highest {
			former, highest = name, generation
		}
	}
	return former
}

// linger has this node, which owned the address until another took it quietly, go on
// answering those that know it. It reports whether that is so.
func linger(in Input, ads []*config.L2Advertisement, d *Decision) bool {
	period, since := lingerPeriod(ads, in.Services), in.LingeringSince
	mine, claimed := in.Claims[in.Node]
	theirs := in.Claims[d.Owner]
	switch {
	case !claimed || !theirs.Quiet || theirs.Generation != mine.Generation+1:
		return false
	case in.Speakers[d.Owner].Presence != Present || in.ProxyFailed:
		return false
	case in.Announcing:
		since = in.Now
	case since.IsZero():
		return false // it has ceased to
	}
	end := since.Add(period)
	left, ok := mayLinger(in, ads, in.Node, d.Owner)
	if !ok || !end.After(in.Now) {
		return false
	}
	d.Announce, d.Links, d.LingersFor = true, linkNames(left), d.Owner
	d.Until, d.Recheck, d.Reason = end, end, v1beta1.ReasonLingering
	d.Claim = &Claim{Generation: mine.Generation, Minority: mine.Minority, Lingers: true}
	d.Message = fmt.Sprintf("Node %s owns the address. Until %s this node goes on answering those "+
		"that know it, so that their connections can end by themselves.", d.Owner, clockTime(end))
	return true
}

// mayLinger returns the links on which a node can go on answering for an address that
// another owns, and false when it cannot: its speaker must be there, its network must
// work, and it must have links on the LAN of the owner that are not silent. Whether it is
// cordoned, excluded or not selected does not matter.
func mayLinger(in Input, ads []*config.L2Advertisement, node, owner string) ([]links.Link, bool) {
	speaker := in.Speakers[node]
	at := slices.IndexFunc(in.Nodes, func(n Node) bool { return n.Name == node })
	if at < 0 || in.Nodes[at].NetworkUnavailable || speaker.Presence != Present || !speaker.Heard {
		return nil, false
	}
	left, why := in.choose(ads, node)
	silent := slices.ContainsFunc(left, func(l links.Link) bool {
		return slices.Contains(speaker.SilentLinks, l.Name)
	})
	return left, len(left) > 0 && !silent && !in.elsewhere(ads, why, owner)
}

// elsewhere reports whether links that were chosen for a node are on other LANs than those of
// the owner.
func (in Input) elsewhere(ads []*config.L2Advertisement, why links.Reason, owner string) bool {
	if why != links.AllEligibleLinks {
		return false
	}
	_, theirs := in.choose(ads, owner)
	return theirs == links.LinksBySubnet
}

// clockTime is a time as messages have it.
func clockTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
