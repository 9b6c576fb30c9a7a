// Package layer2 announces addresses by ARP and NDP, each from one node: it decides who,
// probes before the first announcement, checks what other nodes announce, and knows which
// addresses another host answers for.
package layer2

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/reconcile"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/announcer"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/prober"
)

// Announcer answers for addresses by ARP and NDP; package announcer has it.
type Announcer interface {
	Set(addr netip.Addr, want announcer.Request)
	State() []announcer.Announcement
	Conflicts() []announcer.Conflict
	Stats() announcer.Stats
	Changed() <-chan struct{}
	Suspended() bool
	Applied(limit time.Duration) bool
}

// Prober asks the LAN who has an address; package prober has it.
type Prober interface {
	Ask(context.Context, prober.Question) (prober.Found, error)
	Stats() prober.Stats
}

// Links knows the network interfaces of this node.
type Links interface{ Links() []links.Link }

// Requeuer has addresses reconciled; package reconcile has it.
type Requeuer interface {
	Requeue(netip.Addr)
	RequeueAll() (number uint64)
}

// Config is what a [Controller] works with.
type Config struct {
	Node      string // this one
	Config    *cluster.Config
	Settled   notify.Latch // set when it is known which other speakers are alive
	Members   *members.Tracker
	Claims    *members.Claims
	Links     Links
	Announcer Announcer
	Prober    Prober
	Queue     Requeuer
	Events    *reconcile.ServiceEvents
	Status    notify.Signal // set when the Speaker object is out of date
	Logger    *slog.Logger

	// Before is what the speaker before this one claimed, by its object.
	Before map[netip.Addr]announcement.Claim
	// ProbeCount is how many times the LAN is asked before an address is announced for the
	// first time, 0 for not at all; ProbeInterval is the time between two questions.
	ProbeCount    int
	ProbeInterval time.Duration
	// CheckInterval is how often the addresses of other nodes are checked; 0 for never.
	CheckInterval time.Duration
	// HandOver is how long an owner waits for the next one when it hands an address over.
	HandOver time.Duration
	// ProxyHealthy asks the service proxy of this node whether it works; nil if it is not to
	// be asked.
	ProxyHealthy func(context.Context) bool
}

// view is what all parts of a Controller read.
type view struct {
	node    string
	memory  *memory
	config  *cluster.Config
	tracker *members.Tracker
	links   Links
	// probes is false when addresses are announced without being probed first.
	probes bool
	// handOver is how long another may take to take an address over.
	handOver time.Duration
	proxy    *proxyWatch
}

// A Controller announces addresses by layer 2, one owner for each. It is a
// [reconcile.Protocol].
type Controller struct {
	c         Config
	view      *view
	asking    asker
	probing   *probing
	selfCheck *selfCheck
	conflicts *conflicts
	metrics   *metrics
	stalled   notify.Signal
	// takes is set when this part of the reconciling takes an address from a node that goes
	// on announcing it until it hears of the claim.
	takes bool
}

// asker probes the LAN for addresses.
type asker interface {
	start(addr netip.Addr, links []string)
}

// New returns a Controller, which announces nothing before it is asked to reconcile. ctx
// ends with the process.
func New(ctx context.Context, c Config) *Controller {
	v := &view{
		node:     c.Node,
		memory:   newMemory(),
		config:   c.Config,
		tracker:  c.Members,
		links:    c.Links,
		probes:   c.ProbeCount > 0,
		handOver: c.HandOver,
	}
	v.proxy = &proxyWatch{
		healthy: c.ProxyHealthy,
		memory:  v.memory,
		queue:   c.Queue,
		log:     c.Logger,
		wake:    notify.NewSignal(),
	}
	hosts := newProxyFinder(c.Prober, v)
	first := &probing{
		prober:     c.Prober,
		proxyHosts: hosts,
		view:       v,
		log:        c.Logger,
		count:      c.ProbeCount,
		interval:   c.ProbeInterval,
		queue:      c.Queue,
		ctx:        ctx,
	}
	found := newConflicts(v, c.Announcer, c.Events)
	return &Controller{
		c:         c,
		view:      v,
		asking:    first,
		probing:   first,
		conflicts: found,
		selfCheck: &selfCheck{
			prober:     c.Prober,
			proxyHosts: hosts,
			view:       v,
			conflicts:  found,
			status:     c.Status,
			log:        c.Logger,
			interval:   c.CheckInterval,
		},
		metrics: newMetrics(v, c.Announcer, c.Prober, found),
		stalled: notify.NewSignal(),
	}
}

const (
	// reportPause is the least time between two reports of what the announcer has done.
	// While thousands of addresses are taken, it has news every few milliseconds.
	reportPause = 250 * time.Millisecond
	// appliedLimit is how long the claims of addresses that were taken from nodes which still
	// answer are held back until this node answers.
	appliedLimit = 50 * time.Millisecond
	// conflictInterval is how often conflicts are evaluated that come about without an event:
	// a claim of another node is one when it goes on for too long.
	conflictInterval = 5 * time.Second
)

// Run probes, checks and reports until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	parts := []func(context.Context) error{c.probing.run, c.selfCheck.run, c.view.proxy.run, c.follow}
	for _, part := range parts {
		group.Go(func() error { return part(ctx) })
	}
	return group.Wait()
}

// follow reports what the announcer has done, and which conflicts there are.
func (c *Controller) follow(ctx context.Context) error {
	timer, ticker := time.NewTimer(0), time.NewTicker(conflictInterval)
	defer timer.Stop()
	defer ticker.Stop()
	var next time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if c.conflicts.report() {
				c.c.Status.Set()
			}
			continue
		case <-c.c.Announcer.Changed():
			if c.c.Announcer.Suspended() {
				c.stalled.Set()
			}
			if wait := time.Until(next); wait > 0 {
				timer.Reset(wait)
				continue
			}
		case <-timer.C:
		}
		next = time.Now().Add(reportPause)
		c.measureTakeovers()
		c.conflicts.report()
		c.c.Status.Set()
	}
}

// measureTakeovers measures those whose addresses have been announced for the first time.
func (c *Controller) measureTakeovers() {
	for _, a := range c.c.Announcer.State() {
		at := a.Announced
		if a.Manner == announcer.Quietly {
			at = a.Since // it answers, and announces nothing for long
		}
		if at.IsZero() {
			continue
		}
		if t, ok := c.view.memory.took(a.Addr); ok {
			c.metrics.tookOver(t.cause, max(at.Sub(t.from), 0))
		}
	}
}

// Stalled returns a channel that delivers a value when the announcer has stopped
// answering, since this process was stalled: others may own its addresses by now.
func (c *Controller) Stalled() <-chan struct{} { return c.stalled.C() }

// Adopt takes in what the speaker before this one claimed: as other members remember it,
// and as its object says, should they have been restarted too.
func (c *Controller) Adopt() {
	c.view.memory.adopt(c.c.Members.ClaimedBefore(c.c.Before), c.c.Members.Current().Claims)
	// Before the first is published, all others of its block are known.
	for addr, r := range c.view.memory.all() {
		if r.Claim != nil {
			c.c.Claims.Set(addr, r.Claim)
		}
	}
}

// PublishAll publishes every claim of this node, and takes back what else it published
// before it was restarted.
func (c *Controller) PublishAll() { c.c.Claims.PublishAll() }

// Owns reports whether this node claims anything.
func (c *Controller) Owns() bool { return c.view.memory.owns() }

// Pending reports whether this node owns an address that it does not answer for yet: the
// announcer has not come to it, or the LAN is being probed for it.
func (c *Controller) Pending() bool {
	return pending(c.view.memory.all(), c.c.Announcer.State())
}

// pending is [Controller.Pending] for what is remembered of the addresses, and what the
// announcer says of them.
func pending(all map[netip.Addr]remembered, announced []announcer.Announcement) bool {
	for _, r := range all {
		if r.Reason == v1beta1.ReasonProbing {
			return true
		}
	}
	return slices.ContainsFunc(announced, func(a announcer.Announcement) bool {
		return a.Problem == announcer.ProblemPending
	})
}

// Announced returns the addresses that this node announces, sorted.
func (c *Controller) Announced() []netip.Addr {
	return slices.SortedFunc(maps.Keys(c.view.memory.announced()), netip.Addr.Compare)
}

// ClaimedByOthers returns the addresses that this node announced before since and that
// other nodes claimed on the LAN after it, with the node.
func (c *Controller) ClaimedByOthers(since time.Time) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for _, heard := range c.c.Announcer.Conflicts() {
		own := c.view.memory.of(heard.Addr)
		node := c.c.Members.NodeOf(heard.MAC)
		if heard.Last.After(since) && own.since.Before(since) && node != "" && node != c.c.Node {
			out[heard.Addr] = node
		}
	}
	return out
}

// UrgentFirst sorts addresses so that those come first whose owner, as it was last decided,
// is not present any more.
func (c *Controller) UrgentFirst(all []netip.Addr) []netip.Addr {
	others := c.c.Members.Current().Members
	urgent := func(addr netip.Addr) bool {
		owner := c.view.memory.of(addr).Owner
		return owner != "" && owner != c.c.Node && others[owner].Presence != announcement.Present
	}
	var first, rest []netip.Addr
	for _, addr := range all {
		if urgent(addr) {
			first = append(first, addr)
		} else {
			rest = append(rest, addr)
		}
	}
	return append(first, rest...)
}

// gather returns what the decision for one address depends on.
func (v *view) gather(in reconcile.Inputs, a reconcile.Address) announcement.Input {
	r := v.memory.of(a.Addr)
	out := announcement.Input{
		Address:     a.Addr,
		Services:    a.Services,
		Config:      in.Config,
		Nodes:       in.Nodes,
		Speakers:    in.Speakers,
		Basis:       in.Basis,
		Claims:      map[string]announcement.Claim{},
		Highest:     r.highest,
		Node:        v.node,
		Minority:    in.Minority,
		YieldedTo:   v.tracker.YieldedTo(a.Addr),
		Returning:   in.Returning,
		Probe:       r.probe,
		Dispute:     r.Dispute,
		Announcing:  owns(r.Decision),
		HandingOver: r.handingOver,
		HandOver:    v.handOver,

		QuietSince:     r.quietSince,
		LingeringSince: r.lingersSince,
		ProxyFailed:    v.proxy.failed.Load(),
		Now:            in.Now,
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

// Reconcile implements [reconcile.Protocol].
func (c *Controller) Reconcile(all reconcile.Inputs, a reconcile.Address) reconcile.Outcome {
	in := c.view.gather(all, a)
	d := announcement.Decide(in)
	d = c.apply(in, d, a.Elsewhere)

	out := reconcile.Outcome{
		Reason:   d.Reason,
		Message:  d.Message,
		Services: d.Services,
		Announce: d.Announce,
		Recheck:  d.Recheck,
	}
	out.Warn = c.warns(all, d) && !onlyElsewhere(d, a.Elsewhere)
	return out
}

// Flush implements [reconcile.Protocol]: it publishes what this node claims, since
// addresses of one block are published together. The owner before answers until it hears of
// the claim, so that is not published before this node answers. Who is to own what changes
// when it has no more room to say so, or has some again.
func (c *Controller) Flush() {
	if c.takes {
		c.takes = false
		c.c.Announcer.Applied(appliedLimit)
	}
	if c.c.Claims.Publish() {
		c.c.Queue.RequeueAll()
	}
}

// NeedsMembers implements [reconcile.Protocol]: an address has one owner.
func (c *Controller) NeedsMembers() bool { return true }

// Known implements [reconcile.Protocol].
func (c *Controller) Known() []netip.Addr { return c.view.memory.known() }

// apply gives a decision to the announcer, remembers it, sets the claim that is published,
// and reports it where it differs from the one before. An address whose claim cannot be
// published is not announced: other members might announce it too.
//
// It returns the decision that is in force.
func (c *Controller) apply(
	in announcement.Input, d announcement.Decision, elsewhere bool,
) announcement.Decision {
	if !c.c.Claims.Set(in.Address, d.Claim) {
		d = announcement.Unclaimable(d)
	}
	before, after := c.view.memory.record(in, d)
	if d.Cause == v1beta1.CauseNodeGone {
		if seen := c.c.Members.Current().Members[d.Before].LastSeen; !seen.IsZero() {
			c.view.memory.missedSince(in.Address, seen)
		}
	}
	c.c.Announcer.Set(in.Address, announcer.Request{
		Links:       d.Links,
		Policy:      announcer.Policy(d.Policy),
		As:          d.As,
		Generation:  after.burst,
		Manner:      mannerOf(d),
		Promiscuous: d.Promiscuous,
	})
	c.takes = c.takes || d.Cause.Planned()
	if d.LingersFor != "" && before.LingersFor == "" {
		c.view.proxy.wake.Set()
	}
	if len(d.Ask) > 0 {
		c.asking.start(in.Address, d.Ask)
	}
	if differs(before.Decision, d) {
		c.c.Status.Set()
		if !onlyElsewhere(d, elsewhere) || owns(before.Decision) {
			c.report(in, before.Decision, d)
		}
	}
	return d
}

// differs reports whether two decisions are not the same to users.
func differs(before, d announcement.Decision) bool {
	return before.Announce != d.Announce ||
		before.Reason != d.Reason ||
		before.Owner != d.Owner ||
		!slices.Equal(before.Beside, d.Beside) ||
		!sameClaim(before.Claim, d.Claim) ||
		!slices.Equal(before.Links, d.Links) ||
		!slices.Equal(before.Services, d.Services)
}

func sameClaim(a, b *announcement.Claim) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// report writes a changed decision to the log and to the Events of its Services.
func (c *Controller) report(in announcement.Input, before, d announcement.Decision) {
	log := c.c.Logger.With("address", in.Address.String(), "owner", d.Owner, "services", d.Services,
		"reason", string(d.Reason), "message", d.Message)
	emit := func(services []string, reason v1beta1.Reason, message string) {
		c.c.Events.Emit(services, in.Address.String(), corev1.EventTypeNormal, reason, message)
	}
	took, gaveUp := owns(d) && !owns(before), owns(before) && !owns(d)
	switch {
	case took:
		log.Info("address taken",
			"links", d.Links, "cause", string(d.Cause), "generation", d.Claim.Generation)
		message := fmt.Sprintf("Node %s announces %s on %s (%s). %s",
			in.Node, in.Address, strings.Join(d.Links, ", "), d.CauseText(), d.Unseen)
		if d.Former != "" {
			message = fmt.Sprintf("%s %s", strings.TrimSpace(message), d.Message)
		}
		emit(d.Services, v1beta1.ReasonAnnouncing, strings.TrimSpace(message))
	case d.LingersFor != "":
		log.Info("address given up; answering those that know this node", "links", d.Links)
		emit(d.Services, v1beta1.ReasonLingering, fmt.Sprintf("%s: %s", in.Address, d.Message))
	case gaveUp:
		log.Info("address given up")
		emit(before.Services, v1beta1.ReasonWithdrawn, fmt.Sprintf("Node %s no longer announces %s (%s): %s",
			in.Node, in.Address, d.Reason, d.Message))
	case d.Reason == v1beta1.ReasonNotOwner && before.Reason == v1beta1.ReasonNotOwner:
		log.Debug("another node owns the address now")
	default:
		log.Info("decision changed", "links", d.Links)
	}
}

// onlyElsewhere reports whether only another protocol announces the address: that is no
// news, and no trouble.
func onlyElsewhere(d announcement.Decision, elsewhere bool) bool {
	return elsewhere && d.Reason == v1beta1.ReasonNoAdvertisement
}

// warns reports whether this node is to warn the Services that nobody announces their
// address: its owner does, or the first of all speakers where it has none.
func (*Controller) warns(in reconcile.Inputs, d announcement.Decision) bool {
	if d.Announce || d.Owner != in.Node && (d.Owner != "" || in.Node != in.Reporter()) {
		return false
	}
	switch d.Reason {
	case v1beta1.ReasonProbing, v1beta1.ReasonReturning, v1beta1.ReasonClaimsUnknown:
		return false
	}
	return true
}

// owns reports whether a node announces an address by a decision as its owner.
func owns(d announcement.Decision) bool {
	return d.Announce && d.StandInFor == "" && d.LingersFor == ""
}

// mannerOf returns how a node announces an address by a decision.
func mannerOf(d announcement.Decision) announcer.Manner {
	switch {
	case d.LingersFor != "":
		return announcer.Lingering
	case d.Former != "" || len(d.Beside) > 0:
		return announcer.Quietly
	}
	return announcer.Openly
}
