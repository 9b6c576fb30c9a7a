package main

import (
	"bytes"
	"context"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/speaker/reconcile"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/config"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// view reads what decisions depend on: caches, links, the fellows, and what is
// remembered.
type view struct {
	cluster *cluster.Reader
	config  *cluster.Config
	state   *state
	fellows interface{ current() picture }
	links   interface {
		Links() []links.Link
	}
	claims interface{ isFull() bool }
	// local are the links of this node that may carry announcements, as
	// lookAtLinks found them.
	local atomic.Pointer[[]links.Link]
	node  string
	// member is the address at which this speaker is a member; onLAN is set once a
	// link had a subnet with it, and cutOff while none has that is up, or while no
	// link is left at all.
	member        netip.Addr
	onLAN, cutOff atomic.Bool
	excludeLinks  []*regexp.Regexp
	ignoreExclude bool
	ignoreCordon  bool
	// probes is false when addresses are announced without being probed first,
	// handOver how long another may take to take an address over.
	probes   bool
	handOver time.Duration
	// leaving is set when this speaker hands over all it owns, isolated while it
	// has lost everybody for long; yielded is what it leaves to others then.
	// returning counts the returns of a
	// link, after there was none, of which the fellows are still asked what has
	// become of the addresses meanwhile.
	leaving   atomic.Bool
	isolated  atomic.Bool
	yielded   yielded
	returning atomic.Int32
	// joining is why this speaker does not take part in the membership; nil when it
	// does, or is about to.
	joining atomic.Pointer[problem]
	// writeFailures counts writes of the Speaker object that failed.
	writeFailures atomic.Uint64
}

// Inputs implements [reconcile.Source].
func (v *view) Inputs(ctx context.Context) (reconcile.Inputs, error) {
	nodes, err := v.cluster.Nodes(ctx)
	if err != nil {
		return reconcile.Inputs{}, err
	}
	c, revision := v.config.Current()
	// The order counts: whoever sees links that are back sees that the node is
	// returning, or a picture that was made since it has asked.
	own := v.self()
	returning := v.returning.Load() > 0
	p := v.fellows.current()
	out := reconcile.Inputs{
		Node:     v.node,
		Config:   &c,
		Revision: revision,
		Nodes:    nodes,
		Speakers: map[string]announcement.Speaker{},
		Settled:  v.state.settled.IsSet(),
		Now:      time.Now(),

		Claims:      p.claims,
		Minority:    p.minority,
		Returning:   returning,
		LastAnswers: map[string]time.Time{},
	}
	for name, f := range p.fellows {
		out.Speakers[name] = f.Speaker
		if !f.lastSeen.IsZero() {
			out.LastAnswers[name] = f.lastSeen
		}
	}
	own.SilentLinks = p.silent
	out.Speakers[v.node] = own
	return out, nil
}

// Services implements [reconcile.Source].
func (v *view) Services(ctx context.Context, addr netip.Addr) ([]announcement.Service, error) {
	return v.cluster.Services(ctx, addr)
}

// Addresses implements [reconcile.Source].
func (v *view) Addresses(ctx context.Context) ([]netip.Addr, error) { return v.cluster.Addresses(ctx) }

// gather returns what the decision for one address depends on.
func (v *view) gather(in reconcile.Inputs, a reconcile.Address) announcement.Input {
	r := v.state.memory(a.Addr)
	out := announcement.Input{
		Address:     a.Addr,
		Services:    a.Services,
		Config:      in.Config,
		Nodes:       in.Nodes,
		Speakers:    in.Speakers,
		Claims:      map[string]announcement.Claim{},
		Highest:     r.highest,
		Node:        v.node,
		Minority:    in.Minority,
		YieldedTo:   v.yieldedTo(a.Addr, in),
		Returning:   in.Returning,
		Probe:       r.probe,
		Dispute:     r.Dispute,
		Announcing:  r.Announce && r.StandInFor == "",
		HandingOver: r.handingOver,
		HandOver:    v.handOver,
		Now:         in.Now,
	}
	if !v.probes {
		out.Probe = announcement.Probe{State: announcement.ProbeFree}
	}
	maps.Copy(out.Claims, in.Claims[a.Addr])
	if r.Claim != nil {
		out.Claims[v.node] = *r.Claim
	}
	return out
}

// yieldedTo is the node to which an address is left because this speaker knows
// nothing of the others; "" for none, or for one that is gone since.
func (v *view) yieldedTo(addr netip.Addr, in reconcile.Inputs) string {
	node := v.yielded.node(addr)
	if s, known := in.Speakers[node]; known && s.Presence == announcement.Gone {
		return ""
	}
	return node
}

// self is this node's own speaker.
func (v *view) self() announcement.Speaker {
	s := announcement.Speaker{
		Presence:       announcement.Present,
		Reason:         v1beta1.ReasonNodePresent,
		Links:          v.ownLinks(),
		Heard:          true,
		Worked:         v.state.settled.IsSet(),
		IgnoresExclude: v.ignoreExclude,
		IgnoresCordon:  v.ignoreCordon,
		Full:           v.claims.isFull(),
	}
	if v.leaving.Load() {
		s.Presence, s.Reason = announcement.Leaving, v1beta1.ReasonNodeLeaving
	}
	return s
}

// ownLinks are the links of this node that may carry announcements, as its fellows
// know them. They are not to be changed.
func (v *view) ownLinks() []links.Link {
	if links := v.local.Load(); links != nil {
		return *links
	}
	return nil
}

// lookAtLinks looks which links of this node may carry announcements: those
// that are eligible, and those that an advertisement names. It reports whether
// they changed, and whether this node is back on the LAN of its fellows, which it
// had lost: then it is returning, until the caller has asked them and counts that
// back. It may have kept other links all the while. Links of pods come and go all
// the time and are none of them.
func (v *view) lookAtLinks() (moved, back bool) {
	all := v.links.Links()
	if all == nil {
		return false, false // they are not known yet
	}
	c, _ := v.config.Current()
	out := []links.Link{}
	for _, l := range all {
		named := slices.ContainsFunc(c.L2Advertisements, func(a *config.L2Advertisement) bool { return a.NamesInterface(l.Name) })
		l.Excluded = links.IsExcluded(l.Name, v.excludeLinks)
		if l.Usable() && (named || !l.Excluded) {
			out = append(out, l)
		}
	}
	out = asSaid(out)
	before := v.local.Load()
	cutOff := len(out) == 0 || v.offLAN(all)
	if back = v.cutOff.Swap(cutOff) && !cutOff && before != nil; back {
		v.returning.Add(1) // before anybody sees the links
	}
	v.local.Store(&out)
	return before == nil || !slices.EqualFunc(*before, out, links.Link.Equal), back
}

// offLAN reports whether this node has lost the LAN over which it is a member.
func (v *view) offLAN(all []links.Link) bool {
	on := func(l links.Link) bool { return v.member.IsValid() && l.Holds(v.member) }
	if slices.ContainsFunc(all, func(l links.Link) bool { return on(l) && l.Up }) {
		v.onLAN.Store(true)
		return false
	}
	return v.onLAN.Load()
}

// nodeOf names the node that has a link with this hardware address, "" for a
// stranger's.
func (v *view) nodeOf(mac net.HardwareAddr) string {
	has := func(l links.Link) bool { return bytes.Equal(l.HardwareAddr, mac) }
	if slices.ContainsFunc(v.ownLinks(), has) {
		return v.node
	}
	for name, f := range v.fellows.current().fellows {
		if slices.ContainsFunc(f.Links, has) {
			return name
		}
	}
	return ""
}

// linkWith names the interface of this node that has the address, "" for none. Berth
// puts addresses on none, but service proxies and other programs do.
func (v *view) linkWith(addr netip.Addr) string {
	for _, l := range v.links.Links() {
		if slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool { return p.Addr() == addr }) {
			return l.Name
		}
	}
	return ""
}

// UrgentFirst implements [reconcile.Source]: those come first whose owner, as it was last
// decided, is not present any more.
func (v *view) UrgentFirst(list []netip.Addr) []netip.Addr {
	fellows := v.fellows.current().fellows
	urgent := func(addr netip.Addr) bool {
		owner := v.state.memory(addr).Owner
		return owner != "" && owner != v.node && fellows[owner].Presence != announcement.Present
	}
	var first, rest []netip.Addr
	for _, addr := range list {
		if urgent(addr) {
			first = append(first, addr)
		} else {
			rest = append(rest, addr)
		}
	}
	return append(first, rest...)
}
