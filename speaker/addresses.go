package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/reconcile"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/announcer"
)

// addresses announces addresses by layer 2. It is a [reconcile.Protocol].
type addresses struct {
	view      *view
	announcer addressSetter
	claims    *members.Claims
	asking    asker
	queue     *reconcile.Queue
	events    *reconcile.ServiceEvents
	status    notify.Signal // the Speaker object is out of date
	log       *slog.Logger
}

// addressSetter answers for addresses; package announcer has it.
type addressSetter interface {
	Set(addr netip.Addr, want announcer.Request)
}

// asker probes the LAN for addresses.
type asker interface {
	start(addr netip.Addr, links []string)
}

// Reconcile implements [reconcile.Protocol].
func (r *addresses) Reconcile(all reconcile.Inputs, a reconcile.Address) reconcile.Outcome {
	in := r.view.gather(all, a)
	d := announcement.Decide(in)
	d = r.apply(all, in, d, a.Elsewhere)

	out := reconcile.Outcome{
		Reason:   d.Reason,
		Message:  d.Message,
		Services: d.Services,
		Announce: d.Announce,
		Recheck:  d.Recheck,
	}
	out.Warn = r.warns(all, d) && !onlyElsewhere(d, a.Elsewhere)
	return out
}

// Flush implements [reconcile.Protocol]: it publishes what this node claims, since
// addresses of one block are published together. Who is to own what changes when it has no
// more room to say so, or has some again.
func (r *addresses) Flush() {
	if r.claims.Publish() {
		r.queue.RequeueAll()
	}
}

// Known implements [reconcile.Protocol].
func (r *addresses) Known() []netip.Addr { return r.view.state.known() }

// apply gives a decision to the announcer, remembers it, has the fellows told what
// this node claims, and tells of it where it differs from the one before. What the
// fellows cannot be told is not announced: they might announce it too.
//
// It returns the decision that is in force.
func (r *addresses) apply(
	all reconcile.Inputs, in announcement.Input, d announcement.Decision, elsewhere bool,
) announcement.Decision {
	if !r.claims.Set(in.Address, d.Claim) {
		d = announcement.Unclaimable(d)
	}
	before, after := r.view.state.record(in, d)
	if seen := all.LastAnswers[d.Before]; d.Cause == v1beta1.CauseNodeGone && !seen.IsZero() {
		r.view.state.missedSince(in.Address, seen)
	}
	r.announcer.Set(in.Address, announcer.Request{
		Links: d.Links, Policy: announcer.Policy(d.Policy), As: d.As, Generation: after.burst, Promiscuous: d.Promiscuous,
	})
	if len(d.Ask) > 0 {
		r.asking.start(in.Address, d.Ask)
	}
	if before.Announce != d.Announce || before.Reason != d.Reason || before.Owner != d.Owner || !sameClaim(before.Claim, d.Claim) ||
		!slices.Equal(before.Links, d.Links) || !slices.Equal(before.Services, d.Services) {
		r.status.Set()
		if !onlyElsewhere(d, elsewhere) || owns(before.Decision) {
			r.tell(in, before.Decision, d)
		}
	}
	return d
}

func sameClaim(a, b *announcement.Claim) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// tell writes a changed decision to the log and to the Events of its Services.
func (r *addresses) tell(in announcement.Input, before, d announcement.Decision) {
	log := r.log.With("address", in.Address.String(), "owner", d.Owner, "services", d.Services, "reason", string(d.Reason), "message", d.Message)
	took, gaveUp := owns(d) && !owns(before), owns(before) && !owns(d)
	switch {
	case took:
		log.Info("address taken", "links", d.Links, "cause", string(d.Cause), "generation", d.Claim.Generation)
		r.events.Emit(d.Services, in.Address.String(), corev1.EventTypeNormal, v1beta1.ReasonAnnouncing,
			strings.TrimSpace(fmt.Sprintf("Node %s announces %s on %s (%s). %s", in.Node, in.Address, strings.Join(d.Links, ", "), d.CauseText(), d.Unseen)))
	case gaveUp:
		log.Info("address given up")
		r.events.Emit(before.Services, in.Address.String(), corev1.EventTypeNormal, v1beta1.ReasonWithdrawn,
			fmt.Sprintf("Node %s no longer announces %s (%s): %s", in.Node, in.Address, d.Reason, d.Message))
	case d.Reason == v1beta1.ReasonNotOwner && before.Reason == v1beta1.ReasonNotOwner:
		log.Debug("another node owns the address now")
	default:
		log.Info("decision changed", "links", d.Links)
	}
}

// onlyElsewhere tells whether only another protocol announces the address: that is no
// news, and no trouble.
func onlyElsewhere(d announcement.Decision, elsewhere bool) bool {
	return elsewhere && d.Reason == v1beta1.ReasonNoAdvertisement
}

// warns reports whether this node is to warn the Services that nobody announces their
// address: its owner does, or the first of all speakers where it has none.
func (*addresses) warns(in reconcile.Inputs, d announcement.Decision) bool {
	if d.Announce || d.Owner != in.Node && (d.Owner != "" || in.Node != in.Reporter()) {
		return false
	}
	switch d.Reason {
	case v1beta1.ReasonProbing, v1beta1.ReasonReturning, v1beta1.ReasonClaimsUnknown:
		return false
	}
	return true
}

// owns tells whether a node announces an address by a decision as its owner.
func owns(d announcement.Decision) bool { return d.Announce && d.StandInFor == "" }
