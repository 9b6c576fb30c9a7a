// Package announcement is the speaker's decision for one address: which node
// answers for it, on which links, and why. It is pure: no clock, client, log
// or lock. Speakers with the same view come to the same decision without
// asking each other.
//
// The rules for layer 2, in their order:
//
//  1. A pool must contain the address, a Service must have it, and an
//     L2Advertisement must select both. For a while after a pool was deleted whose
//     addresses another contains, it may as well select the deleted one. What is a
//     node's own is announced by nobody.
//  2. Some Service with the address must have a usable endpoint, or one of which the
//     control plane does not know whether it is (see [Unheard]).
//  3. A node is a candidate when an advertisement selects it, its speaker is
//     present, it is neither excluded by label (where nodes without that label have
//     had a speaker) nor without network, it has a link that may carry the address,
//     and it has a usable endpoint of every Service whose externalTrafficPolicy is
//     Local. A node whose speaker restarts or is silent is a candidate for what it
//     owns only, and so is one that can say no more claims. A node that has no link in
//     the address's subnet, or is silent on the link that is to carry the address, is
//     none where others are better off.
//  4. Among the candidates those that are not cordoned come first, then the
//     highest preference weight wins, then the present owner stays, and an
//     address without one goes by rendezvous hash of address and name.
//  5. The present owner is who claims the address. Of several claims, which
//     there are after a partition, one taken with most speakers in sight beats
//     one taken without, then the higher generation wins.
//  6. Before its very first announcement the address is probed. So it is before
//     this node begins to announce it while a member of which not all claims are
//     known may own it; while such a member is held, nothing is taken. An address that
//     a stranger has is not announced. One for which nothing but nodes answer whose
//     speakers are heard and do not claim it has another program that announces it from
//     there: the owner announces it beside that, quietly until the other is gone.
//  7. A node whose claim others supersede again and again, because they see
//     something else, leaves the address for a while to the first of them.
//  8. The owner announces on the links that the advertisements name; where
//     they name none, on those whose subnet holds the address, else on all
//     that can carry it. A node that is no longer the owner announces the address
//     until the new one claims it.
//  9. Where the advertisements give a lingerPeriod, a planned move of an address is
//     quiet: the new owner announces nothing as long as the owner before goes on
//     answering those that know it.
package announcement

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// Input is everything that Decide looks at.
type Input struct {
	Address  netip.Addr
	Services []Service // those that have the address
	Config   *config.Config
	Nodes    []Node
	// Speakers are those of all nodes, by node, this one included.
	Speakers map[string]Speaker
	// Basis is that of this Config, Nodes and Speakers, for callers that decide for many
	// addresses; else nil.
	Basis *Basis
	// Claims are by node what speakers say that they own, this one included.
	Claims map[string]Claim
	// Highest is the highest generation that a claim of the address ever had,
	// as far as this speaker remembers; 0 for an address never announced.
	Highest uint64

	Node string // this node
	// Minority is set when this speaker sees fewer than half of the speakers
	// that there are.
	Minority bool
	// YieldedTo is the node to which this one leaves the address, because it has
	// lost contact with all others and that one announces it on the LAN since; ""
	// for none.
	YieldedTo string
	// Returning is set while this node, which had lost the LAN of the others, asks what has become
	// of its addresses.
	Returning bool
	// Probe tells what is known of the address on the LAN.
	Probe Probe
	// Dispute is what is remembered of members that want the address as well.
	Dispute Dispute
	// Announcing is set when this node announces the address as its owner, or
	// did until it handed over; HandingOver is since when it hands over, zero
	// when it does not.
	Announcing  bool
	HandingOver time.Time
	// HandOver is how long the new owner may take to claim the address.
	HandOver time.Duration
	// QuietSince is since when this node, which owns the address, is quiet,
	// LingeringSince since when it lingers; both are zero when it does not.
	QuietSince     time.Time
	LingeringSince time.Time
	// ProxyFailed is set when this node's service proxy worked and does so no longer.
	ProxyFailed bool
	Now         time.Time
}

// Speaker is what is known of one node's speaker.
type Speaker struct {
	Presence Presence
	Reason   v1beta1.Reason // of its presence
	Links    []links.Link   // those that may carry announcements
	// SilentLinks are the names of those on which the node's kernel answers no
	// probes any more, while others answer there.
	SilentLinks []string
	// Heard is set when membership hears the speaker now, whatever is expected of
	// its node.
	Heard bool
	// Worked is set when a speaker of this node has been ready, now or at any time
	// since the Node exists.
	Worked bool
	// NoLayer2 is set when its settings turn layer 2 off, NoBGP when they turn BGP off.
	NoLayer2, NoBGP bool
	// IgnoresExclude is set when the exclude label means nothing to it, IgnoresCordon
	// when a cordon does not.
	IgnoresExclude bool
	IgnoresCordon  bool
	// Full is set when it cannot say more claims than it says: it gets nothing new.
	Full bool
	// ClaimsUnknown is set when it may claim more than is known: it is not heard,
	// and its Speaker object does not list everything.
	ClaimsUnknown bool
}

// Equal reports whether two speakers are the same to every decision.
func (s Speaker) Equal(o Speaker) bool {
	return s.Presence == o.Presence && s.Reason == o.Reason && s.Heard == o.Heard &&
		s.IgnoresExclude == o.IgnoresExclude && s.IgnoresCordon == o.IgnoresCordon &&
		s.NoLayer2 == o.NoLayer2 && s.NoBGP == o.NoBGP &&
		s.Worked == o.Worked && s.Full == o.Full && s.ClaimsUnknown == o.ClaimsUnknown &&
		slices.Equal(s.SilentLinks, o.SilentLinks) && slices.EqualFunc(s.Links, o.Links, links.Link.Equal)
}

// Claim is a speaker's word that it owns an address.
type Claim struct {
	// Generation counts the owners of an address.
	Generation uint64
	// Minority is set when the claim was made with fewer than half of all speakers
	// in sight: it yields to one that was not.
	Minority bool
	// Quiet is set while the owner announces nothing, for the owner before lingers.
	Quiet bool
	// Lingers is set in the claim of a node that owned the address until another took
	// it, and goes on answering those that know it.
	Lingers bool
}

// Probe is what is known of an address on the LAN.
type Probe struct {
	State ProbeState
	// Holder is who has it when it is taken, or who had it before it was free.
	Holder net.HardwareAddr
	// Node is the node that Holder is a link of, "" for a stranger's.
	Node string
	// Nodes are all nodes that answer for it, Node among them.
	Nodes []string
	// Everything is an address that nobody should have and that Holder answers for as
	// well: it answers for every one, as a router does with proxy ARP.
	Everything netip.Addr
	// Here is the interface of this node that has the address, "" for none. Berth puts
	// it on none.
	Here string
	// Unseen is set when it is free as far as could be asked, and hosts behind bridges
	// that suppress ARP or NDP could not be.
	Unseen bool
}

// ProbeState is how far the probing of an address is.
type ProbeState int

// The states of probing.
const (
	// ProbeNone: nothing is known.
	ProbeNone ProbeState = iota
	// ProbeAsking: the LAN is being asked.
	ProbeAsking
	// ProbeFree: nobody has the address; or nobody is to be asked.
	ProbeFree
	// ProbeTaken: another host has it.
	ProbeTaken
)

// Decision is the outcome for one address.
type Decision struct {
	// Announce is set when this node answers for the address, on Links.
	Announce bool
	Links    []string // sorted; empty unless Announce
	// StandInFor is the node in whose place this one answers, on each link with
	// the hardware address that As has for it; "" when it answers for itself.
	StandInFor string
	As         map[string]net.HardwareAddr
	// Owner is the node that owns the address, "" for none; OwnerLinks are the
	// links on which it is to announce it.
	Owner      string
	OwnerLinks []string
	// Claim is what this node is to say about the address; nil for nothing.
	Claim *Claim
	// Contested is set while a member still claims what this node owns.
	Contested bool
	// HandingOver is set while this node announces what another is to take.
	HandingOver bool
	// Former is the node that owned the address before and lingers, or may be about to,
	// while this one, the owner, is quiet; "" when it is not. LingersFor is the owner,
	// while this node lingers; "" when it does not. Until is when either is over at the
	// latest.
	Former     string
	LingersFor string
	Until      time.Time
	// Ask are the links on which the LAN is to be probed for the address.
	Ask []string
	// Dispute is what is to be remembered of members that want the address as well.
	Dispute Dispute
	// Cause is why this node takes the address, "" when it does not or has
	// it already.
	Cause v1beta1.Cause
	// Before is the node that owned it before, "" for none.
	Before string
	// Unseen says what probing could not see before the first announcement, "" for
	// nothing.
	Unseen string
	// Beside are the nodes on which another program answers for the address, which this
	// node announces as its owner; sorted, and none as long as nobody is known to. It then
	// answers, and announces nothing unasked.
	Beside []string
	// Policy is how the address is announced, Promiscuous whether the links take all
	// frames for it.
	Policy      config.AnnouncementPolicy
	Promiscuous bool
	// Services are the names of those that are concerned.
	Services []string
	Reason   v1beta1.Reason
	Message  string
	// Rejections are the nodes that are no candidate, in the order given.
	Rejections []Rejection
	// Recheck is when to decide again although nothing changed; zero for never.
	Recheck time.Time
}

// Rejection says why one node is no candidate.
type Rejection struct {
	Node   string
	Reason v1beta1.Reason
}

// Decide says which node answers for an address and, if it is this one, on
// which links.
func Decide(in Input) Decision {
	in = in.based()
	pools := poolsOf(in.Config, in.Address)
	switch {
	case len(in.Services) == 0:
		return Decision{
			Reason:  v1beta1.ReasonNoService,
			Message: "No Service that Berth handles has the address.",
		}
	case len(pools) == 0:
		return Decision{
			Services: names(in.Services),
			Reason:   v1beta1.ReasonNoPool,
			Message:  "No IPAddressPool contains the address.",
		}
	}
	if reason, message := in.Basis.nodeOwn(in.Address, pools[0]); reason != "" {
		return Decision{Services: names(in.Services), Reason: reason, Message: message}
	}
	ads, services := advertised(in.Config.L2Advertisements, pools, in.Services)
	if len(services) == 0 {
		return Decision{
			Services: names(in.Services),
			Reason:   v1beta1.ReasonNoAdvertisement,
			Message: fmt.Sprintf("No L2Advertisement selects pool %s and a Service with the address.",
				pools[0].Name),
		}
	}
	d := Decision{
		Services:    names(services),
		Policy:      policy(ads),
		Promiscuous: slices.ContainsFunc(ads, func(a *config.L2Advertisement) bool { return a.Promiscuous }),
	}
	services = slices.DeleteFunc(services, func(s Service) bool { return !s.Ready })
	if len(services) == 0 {
		d.Reason, d.Message = v1beta1.ReasonNoEndpoint, "No Service with the address has a ready endpoint."
		return d
	}
	for _, claim := range in.Claims {
		in.Highest = max(in.Highest, claim.Generation)
	}
	candidates, rejections := filter(in, ads, services)
	d.Rejections, d.Dispute = rejections, in.Dispute
	if by := superseded(in); by != "" {
		d.Dispute = in.Dispute.again(in.Address, in.Node, by, in.Now)
	}
	d.Owner = elect(in.Address, candidates, failbackImmediate(ads))
	for _, c := range candidates {
		if c.name == d.Owner {
			d.OwnerLinks = linkNames(c.links)
		}
	}
	switch {
	case in.YieldedTo != "":
		d.Owner, d.OwnerLinks, d.Reason = in.YieldedTo, nil, v1beta1.ReasonIsolated
		d.Message = fmt.Sprintf("This speaker hears neither the API server nor another speaker, "+
			"and node %s has taken the address meanwhile.", in.YieldedTo)
	case in.Returning:
		d.Owner, d.OwnerLinks, d.Reason = "", nil, v1beta1.ReasonReturning
		d.Message = "This node is back on the network of the other speakers, " +
			"and asks them about its addresses first."
	case d.Owner == in.Node:
		if !rest(in, &d) {
			own(in, ads, candidates, &d)
		}
	case d.Owner == "":
		d.Reason = v1beta1.ReasonNoCandidate
		d.Message = "No node can announce the address: " + listed(rejections) + "."
	case !handOver(in, ads, &d) && !linger(in, ads, &d) && !standIn(in, &d):
		d.Reason, d.Message = v1beta1.ReasonNotOwner, d.announcedBy(in.Node)
		if alone := withoutStandIn(in, d); len(alone) > 0 {
			d.Message = fmt.Sprintf("Node %s owns the address and its speaker is not there. "+
				"Nobody can answer in its place on %s, "+
				"for no present node shares a subnet with it there.", d.Owner, strings.Join(alone, ", "))
		}
	}
	d.Message += assumed(services)
	return d
}

// own is the decision of the node that owns the address.
func own(in Input, ads []*config.L2Advertisement, candidates []candidate, d *Decision) {
	self := candidates[slices.IndexFunc(candidates, func(c candidate) bool { return c.name == in.Node })]
	if suspect := unknownOwner(in); suspect != "" && !mayTake(in, suspect, self.links, d) {
		return
	}
	if in.Highest == 0 || in.Announcing {
		d.Beside = otherProgram(in)
	}
	if in.Highest == 0 && len(d.Beside) == 0 && !free(in, self.links, d) {
		return
	}
	d.Announce, d.Links, d.Reason = true, linkNames(self.links), v1beta1.ReasonOwner
	d.Message = fmt.Sprintf("This node announces the address on %s: %s.",
		strings.Join(d.Links, ", "), self.why)
	if in.Probe.State == ProbeFree && in.Probe.Unseen {
		d.Unseen = "Whether a host behind a switch that suppresses ARP or NDP has it is not known: " +
			"it was asked for by probes only, as this node has no address in its subnet, " +
			"or as --conflict-probe-count is 1."
		d.Message += " " + d.Unseen
	}
	if len(d.Beside) > 0 {
		d.Message += " " + BesideMessage(in.Address, in.Probe)
	}
	if !in.Announcing {
		d.Cause, d.Before = cause(in, ads, candidates, d.Rejections)
	}

	d.Claim = ownClaim(in, d)
	beQuiet(in, ads, d)
}

// ownClaim is the claim of the owner. It is above all that stand against it: so everybody
// knows which came last, and the others give theirs up.
func ownClaim(in Input, d *Decision) *Claim {
	mine, claimed := in.Claims[in.Node]
	against := uint64(0)
	for name, claim := range in.Claims {
		if name != in.Node {
			d.Contested = d.Contested || in.Speakers[name].Presence != Gone && !claim.Lingers
			against = max(against, claim.Generation)
		}
	}
	if claimed && mine.Generation > against && mine.Generation == in.Highest {
		return &Claim{Generation: mine.Generation, Minority: mine.Minority && in.Minority}
	}
	return &Claim{Generation: in.Highest + 1, Minority: in.Minority}
}

// unknownOwner is the member that may own the address as far as this node can tell,
// which is about to announce it: one of which not all claims are known, when nobody
// else is known to have it. It is "" when there is none. One that is held comes
// first, then it goes by name.
func unknownOwner(in Input) string {
	if in.Announcing {
		return ""
	}
	for name, claim := range in.Claims {
		there := name != in.Node && in.Speakers[name].Presence != Gone
		if there && claim.Generation >= in.Claims[in.Node].Generation {
			return ""
		}
	}
	out := ""
	for _, name := range in.Basis.unknown() {
		switch {
		case name == in.Node:
		case in.Speakers[name].Presence == Held:
			return name
		case out == "":
			out = name
		}
	}
	return out
}

// mayTake reports whether the address may be taken although a member may own it of
// which not all claims are known: when nobody answers for it. The kernel of a held
// node does not, whatever it owns. If not, the decision says so; what this node
// claimed before, it goes on claiming until somebody answers.
func mayTake(in Input, suspect string, links []links.Link, d *Decision) bool {
	if mine, claimed := in.Claims[in.Node]; claimed && mine.Generation == in.Highest {
		d.Claim = &mine
	}
	if in.Speakers[suspect].Presence == Held {
		d.Owner, d.OwnerLinks, d.Reason = "", nil, v1beta1.ReasonClaimsUnknown
		d.Message = fmt.Sprintf("Node %s may own the address: its speaker is not there, "+
			"and not all of its claims are known.", suspect)
		return false
	}
	taken := in.Probe.State == ProbeTaken
	// With the hardware address of this node another stands in for it.
	if taken && in.Probe.Node == in.Node || free(in, links, d) {
		return true
	}
	if taken && in.Probe.Node != "" {
		d.Owner, d.OwnerLinks, d.Claim, d.Reason = in.Probe.Node, nil, nil, v1beta1.ReasonClaimsUnknown
		d.Message = fmt.Sprintf("Node %s answers for the address, and not all claims of node %s are known.",
			in.Probe.Node, suspect)
	}
	return false
}

// Unclaimable is the decision instead of one for which the claim cannot be said:
// what the members do not know of, they may announce too.
func Unclaimable(d Decision) Decision {
	return Decision{
		Services:   d.Services,
		Policy:     d.Policy,
		Rejections: d.Rejections,
		Reason:     v1beta1.ReasonNodeFull,
		Message:    "This node claims as many addresses as it can publish to the other speakers.",
	}
}

// free reports whether the LAN has been found not to have the address yet. If
// not, the decision says so.
func free(in Input, links []links.Link, d *Decision) bool {
	switch in.Probe.State {
	case ProbeFree:
		return true
	case ProbeTaken:
		if in.Probe.Node != "" {
			d.Reason = v1beta1.ReasonNodeAnswers
			d.Message = nodeAnswers(in.Address, in.Probe)
			break
		}
		d.Reason = v1beta1.ReasonConflict
		d.Message = strangerAnswers(in.Address, in.Probe)
	default:
		d.Reason = v1beta1.ReasonProbing
		if in.Probe.State == ProbeNone {
			d.Ask = linkNames(links)
		}
		d.Message = "The address is announced for the first time; " +
			"the speaker asks the network whether it is free."
	}
	return false
}

// handOver has the node that owned the address announce it until the new
// owner claims it: for a moment both answer rather than none. It reports
// whether that is so.
func handOver(in Input, ads []*config.L2Advertisement, d *Decision) bool {
	mine, claimed := in.Claims[in.Node]
	if !claimed || !in.Announcing || in.Speakers[d.Owner].Presence == Held {
		return false
	}
	if in.Claims[d.Owner].Generation > mine.Generation {
		return false
	}
	since := in.HandingOver
	if since.IsZero() {
		since = in.Now
	}
	end := since.Add(in.HandOver)
	left, why := in.choose(ads, in.Node)
	if !end.After(in.Now) {
		return false
	}
	if len(left) == 0 || in.elsewhere(ads, why, d.Owner) {
		return false
	}
	d.Announce, d.Links, d.HandingOver, d.Recheck = true, linkNames(left), true, end
	d.Claim = &Claim{Generation: mine.Generation, Minority: mine.Minority}
	d.Reason = v1beta1.ReasonHandingOver
	d.Message = fmt.Sprintf("This node announces the address on %s until node %s does: %s.",
		strings.Join(d.Links, ", "), d.Owner, why)
	return true
}

// cause is why this node takes the address now: what became of the owner
// before it.
func cause(
	in Input, ads []*config.L2Advertisement, candidates []candidate, rejections []Rejection,
) (why v1beta1.Cause, before string) {
	before = formerOwner(in)
	highest := in.Claims[before].Generation
	mine, claimed := in.Claims[in.Node]
	at := slices.IndexFunc(candidates, func(c candidate) bool { return c.name == before })
	self := slices.IndexFunc(candidates, func(c candidate) bool { return c.name == in.Node })
	switch {
	case claimed && mine.Generation > highest:
		return v1beta1.CauseRestart, in.Node
	case before == "" && in.Highest > 0:
		return v1beta1.CauseReturn, before
	case before == "" && in.Probe.State == ProbeFree && len(in.Probe.Holder) > 0:
		return v1beta1.CauseConflictOver, before
	case before == "":
		return v1beta1.CauseFirst, before
	case in.Speakers[before].Presence == Gone:
		return v1beta1.CauseNodeGone, before
	case slices.Contains(rejections, Rejection{before, v1beta1.ReasonLinkSilent}):
		return v1beta1.CauseLinkSilent, before
	case at < 0:
		return v1beta1.CauseHandOver, before
	case candidates[at].weight < candidates[self].weight:
		return v1beta1.CausePreferred, before
	case failbackImmediate(ads):
		return v1beta1.CauseFailback, before
	}
	return v1beta1.CausePartitionHealed, before
}

// poolsOf returns the pool that an address belongs to and, after it, the deleted ones
// that had it lately: an advertisement that selects one of them announces it, so
// that a pool can be renamed or split without a pause. There are none of an address
// that no pool contains.
func poolsOf(c *config.Config, addr netip.Addr) []*config.Pool {
	pool := c.PoolOf(addr)
	if pool == nil {
		return nil
	}
	return append([]*config.Pool{pool}, c.Predecessors(pool, addr)...)
}

// advertisement is what the advertisements of both protocols have in common.
type advertisement interface {
	SelectsPool(*config.Pool) bool
	SelectsService(labels.Set) bool
}

// advertised returns the advertisements that apply to the address on some node, and
// the Services that at least one of them selects.
func advertised[A advertisement](all []A, pools []*config.Pool, of []Service) (ads []A, services []Service) {
	selected := sets.New[string]()
	for _, a := range all {
		if !slices.ContainsFunc(pools, a.SelectsPool) {
			continue
		}
		applies := false
		for _, s := range of {
			if a.SelectsService(s.Labels) {
				selected.Insert(s.Name)
				applies = true
			}
		}
		if applies {
			ads = append(ads, a)
		}
	}
	for _, s := range of {
		if selected.Has(s.Name) {
			services = append(services, s)
		}
	}
	return ads, services
}

// policy is the most that one of the advertisements asks for: the longest
// burst, the shortest interval, the shortest time between refreshes. What none
// says is left to the announcer.
func policy(ads []*config.L2Advertisement) config.AnnouncementPolicy {
	var out config.AnnouncementPolicy
	for _, a := range ads {
		p := a.Announcement
		out.Count = max(out.Count, p.Count)
		out.Interval = shorter(out.Interval, p.Interval)
		out.Refresh = shorter(out.Refresh, p.Refresh)
	}
	return out
}

// shorter is the shorter of two times, of which zero was not said and a
// negative one means never.
func shorter(a, b time.Duration) time.Duration {
	switch {
	case a == 0 || a < 0 && b > 0:
		return b
	case b <= 0:
		return a
	}
	return min(a, b)
}

// failbackImmediate tells whether one of the advertisements has nodes take
// back what is theirs by rank.
func failbackImmediate(ads []*config.L2Advertisement) bool {
	return slices.ContainsFunc(ads, func(a *config.L2Advertisement) bool { return a.FailbackImmediate })
}

func names(services []Service) []string {
	var out []string
	for _, s := range services {
		out = append(out, s.Name)
	}
	slices.Sort(out)
	return out
}

func sortedNames(claims map[string]Claim) []string {
	return sets.List(sets.KeySet(claims))
}

func linkNames(of []links.Link) []string {
	var out []string
	for _, l := range of {
		out = append(out, l.Name)
	}
	slices.Sort(out)
	return out
}

// listed writes rejections for a person, a few of many.
func listed(rejections []Rejection) string {
	const most = 20
	if len(rejections) == 0 {
		return "the cluster has no nodes"
	}
	var out []string
	for i, r := range rejections {
		if i == most {
			out = append(out, fmt.Sprintf("and %d more", len(rejections)-most))
			break
		}
		out = append(out, fmt.Sprintf("%s (%s)", r.Node, r.Reason))
	}
	return strings.Join(out, ", ")
}
