package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2"
)

// addresses keeps the announcement of all addresses right: gather, decide,
// apply.
type addresses struct {
	view      *view
	announcer interface {
		Set(addr netip.Addr, want layer2.Request)
	}
	claims *members.Claims
	events events.EventRecorder
	log    *slog.Logger
	class  string
	due    *due
	later  func(addr netip.Addr, wait time.Duration) // has an address looked at after a while
	told   func()                                    // has the Speaker object written again
	routed func()                                    // has BGP peers told anew
	ask    func(addr netip.Addr, on []string)        // has the LAN probed for an address

	looking sync.Mutex
}

// lookRetry is after how long an address is looked at again for which what its
// decision depends on could not be read.
const lookRetry = time.Second

// run looks at addresses that are due until ctx ends.
func (r *addresses) run(ctx context.Context) error {
	select {
	case <-r.view.state.configured:
	case <-ctx.Done():
		return nil
	}
	pass := r.view.state.loops.Loop("addresses")
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.due.news:
		}
		for more := true; more && ctx.Err() == nil; {
			pass.Begin()
			more = r.lookAtDue(ctx)
			pass.End()
		}
	}
}

// lookAtDue looks at some of the addresses that are due, and reports whether
// there may be more.
func (r *addresses) lookAtDue(ctx context.Context) bool {
	if r.due.isAll() {
		all, err := r.view.addresses(ctx, r.class)
		if err != nil {
			r.log.Error("cannot list addresses", "error", err)
			time.AfterFunc(lookRetry, r.due.addAll)
			return true
		}
		r.due.setRest(r.view.urgentFirst(r.due.waitingFirst(all)))
	}
	next := r.due.take(partSize)
	if err := r.lookSoFar(ctx, next); err != nil && ctx.Err() == nil {
		r.log.Error("cannot look at addresses", "error", err)
		for _, addr := range next {
			r.later(addr, lookRetry)
		}
	}
	return len(next) > 0
}

// lookSoFar looks at addresses as far as that is possible: until it is known
// which fellows are alive, only about BGP is decided, where each node announces
// by itself. Afterwards every address is looked at again.
func (r *addresses) lookSoFar(ctx context.Context, list []netip.Addr) error {
	if !isClosed(r.view.state.settled) {
		return r.lookBGP(ctx, list)
	}
	return r.look(ctx, list)
}

// look gathers, decides and applies for some addresses.
func (r *addresses) look(ctx context.Context, list []netip.Addr) error {
	return r.inParts(ctx, list, r.lookOne)
}

// lookBGP does what look does, for BGP only.
func (r *addresses) lookBGP(ctx context.Context, list []netip.Addr) error {
	return r.inParts(ctx, list, r.lookOneBGP)
}

// lookAllBGP looks at every address for BGP.
func (r *addresses) lookAllBGP(ctx context.Context) error {
	list, err := r.view.addresses(ctx, r.class)
	if err != nil {
		return err
	}
	return r.lookBGP(ctx, list)
}

// partSize is how many addresses are looked at with the same surroundings: to
// gather these takes as long as to decide for some addresses, and what changes
// meanwhile has to wait for the part to end.
const partSize = 64

// inParts looks at addresses, some at a time. No two parts are looked at at
// once: a decision must not be recorded after one that saw more.
func (r *addresses) inParts(ctx context.Context, list []netip.Addr, look func(context.Context, netip.Addr, surroundings) error) error {
	part := func(list []netip.Addr) error {
		r.looking.Lock()
		defer r.looking.Unlock()
		// All of them may take longer than a loop may stand still, and whoever
		// waits for this part does not.
		for _, loop := range []string{"addresses", "routes"} {
			r.view.state.loops.Loop(loop).Step()
		}
		around, err := r.view.surroundings(ctx)
		if err != nil {
			return err
		}
		// Addresses of one block are said together.
		defer r.sayClaims()
		for _, addr := range list {
			if err := look(ctx, addr, around); err != nil {
				return err
			}
		}
		return nil
	}
	var errs []error
	for list := range slices.Chunk(list, partSize) {
		errs = append(errs, part(list))
	}
	return errors.Join(errs...)
}

// lookOne looks at one address.
func (r *addresses) lookOne(ctx context.Context, addr netip.Addr, around surroundings) error {
	in, err := r.view.gather(ctx, addr, around)
	if err != nil {
		return err
	}
	forBGP := r.view.bgpInput(in)
	byBGP := announcement.DecideBGP(forBGP)
	r.applyBGP(forBGP, byBGP)
	d := announcement.Decide(in)
	r.apply(in, d)
	r.tellBGP(forBGP, byBGP)
	if !d.Recheck.IsZero() {
		r.later(addr, max(d.Recheck.Sub(in.Now), 1))
	}
	return nil
}

// lookOneBGP looks at one address, for BGP only.
func (r *addresses) lookOneBGP(ctx context.Context, addr netip.Addr, around surroundings) error {
	in, err := r.view.gather(ctx, addr, around)
	if err != nil {
		return err
	}
	forBGP := r.view.bgpInput(in)
	d := announcement.DecideBGP(forBGP)
	r.applyBGP(forBGP, d)
	r.tellBGP(forBGP, d)
	return nil
}

// applyBGP remembers a decision, and has BGP peers told where it differs from
// the one before.
func (r *addresses) applyBGP(in announcement.BGPInput, d announcement.BGPDecision) {
	r.view.state.recordBGP(in.Address, d, in.Now)
	if in.Before.Announce != d.Announce {
		r.told() // the Speaker object lists it
	}
	if !in.Before.Equal(d) {
		r.routed()
	}
}

// tellBGP writes a changed decision to the log, and to the Events of its
// Services what layer 2 does not tell them already.
func (r *addresses) tellBGP(in announcement.BGPInput, d announcement.BGPDecision) {
	before := in.Before
	wait, due := r.view.state.incompleteBGP(in.Address, in.Now)
	if wait > 0 {
		r.later(in.Address, wait)
	}
	if before.Announce != d.Announce || before.Reason != d.Reason {
		r.logBGP(in, d)
	} else if !due {
		return
	}
	// What holds for all nodes is told by the first of all speakers.
	switch d.Reason {
	case v1beta1.ReasonNoEndpoint, v1beta1.ReasonNoAdvertisement:
		if wait == 0 && isClosed(r.view.state.settled) && in.Node == first(in.Speakers) && d.Reason != r.view.state.memory(in.Address).Reason {
			r.event(d.Services, in.Address.String(), corev1.EventTypeWarning, string(d.Reason), fmt.Sprintf("%s is not announced: %s", in.Address, d.Message))
		}
	}
}

// logBGP writes a changed decision to the log.
func (r *addresses) logBGP(in announcement.BGPInput, d announcement.BGPDecision) {
	before := in.Before
	log := r.log.With("address", in.Address.String(), "services", d.Services, "reason", string(d.Reason), "message", d.Message)
	switch {
	case d.Announce && !d.LeavingSince.IsZero():
		log.Info("leaving the address to others, by BGP")
	case d.Announce:
		log.Info("address announced by BGP")
	case before.Announce:
		log.Info("address withdrawn from BGP")
	default:
		log.Info("address not announced by BGP")
	}
}

// sayClaims says to the fellows what this node claims. Who is to own what changes
// when it has no more room to say so, or has some again.
func (r *addresses) sayClaims() {
	if r.claims.Publish() {
		r.due.addAll()
	}
}

// apply gives a decision to the announcer, remembers it, has the fellows told what
// this node claims, and tells of it where it differs from the one before. What the
// fellows cannot be told is not announced: they might announce it too.
func (r *addresses) apply(in announcement.Input, d announcement.Decision) {
	if !r.claims.Set(in.Address, d.Claim) {
		d = announcement.Unclaimable(d)
	}
	before, after := r.view.state.record(in, d)
	if seen := r.view.tracker.Current().Members[d.Before].LastSeen; d.Cause == v1beta1.CauseNodeGone && !seen.IsZero() {
		r.view.state.missedSince(in.Address, seen)
	}
	r.announcer.Set(in.Address, layer2.Request{
		Links: d.Links, Policy: d.Policy, As: d.As, Generation: after.burst, Promiscuous: d.Promiscuous,
	})
	if len(d.Ask) > 0 {
		r.ask(in.Address, d.Ask)
	}
	wait, due := r.view.state.incomplete(in.Address, in.Now)
	if wait > 0 {
		r.later(in.Address, wait)
	}
	if before.Announce != d.Announce || before.Reason != d.Reason || before.Owner != d.Owner || !sameClaim(before.Claim, d.Claim) ||
		!slices.Equal(before.Links, d.Links) || !slices.Equal(before.Services, d.Services) {
		r.told()
		r.tell(in, before.Decision, d)
	}
	if due || wait == 0 && d.Reason != before.Reason {
		r.warn(in, d)
	}
}

func sameClaim(a, b *announcement.Claim) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// tell writes a changed decision to the log and to the Events of its Services.
func (r *addresses) tell(in announcement.Input, before, d announcement.Decision) {
	if r.onlyBGP(in, d) && !owns(before) {
		return
	}
	log := r.log.With("address", in.Address.String(), "owner", d.Owner, "services", d.Services, "reason", string(d.Reason), "message", d.Message)
	took, gaveUp := owns(d) && !owns(before), owns(before) && !owns(d)
	switch {
	case took:
		log.Info("address taken", "links", d.Links, "cause", string(d.Cause), "generation", d.Claim.Generation)
		r.event(d.Services, in.Address.String(), corev1.EventTypeNormal, "Announcing",
			strings.TrimSpace(fmt.Sprintf("Node %s announces %s on %s (%s). %s", in.Node, in.Address, strings.Join(d.Links, ", "), d.Cause, d.Unseen)))
	case gaveUp:
		log.Info("address given up")
		r.event(before.Services, in.Address.String(), corev1.EventTypeNormal, "Withdrawn",
			fmt.Sprintf("Node %s no longer announces %s (%s): %s", in.Node, in.Address, d.Reason, d.Message))
	case d.Reason == v1beta1.ReasonNotOwner && before.Reason == v1beta1.ReasonNotOwner:
		log.Debug("another node owns the address now")
	default:
		log.Info("decision changed", "links", d.Links)
	}
}

// onlyBGP tells whether an address is for BGP only: that is no news, and no trouble.
func (r *addresses) onlyBGP(in announcement.Input, d announcement.Decision) bool {
	return d.Reason == v1beta1.ReasonNoAdvertisement && r.view.state.route(in.Address).Reason != ""
}

// warn tells Services why nobody announces their address, once: its owner does, or
// the first of all speakers where it has none.
func (r *addresses) warn(in announcement.Input, d announcement.Decision) {
	ours := d.Owner == in.Node || d.Owner == "" && in.Node == first(in.Speakers)
	if !ours || d.Announce || r.onlyBGP(in, d) {
		return
	}
	switch d.Reason {
	case v1beta1.ReasonProbing, v1beta1.ReasonReturning, v1beta1.ReasonClaimsUnknown:
		return
	}
	r.event(d.Services, in.Address.String(), corev1.EventTypeWarning, string(d.Reason),
		fmt.Sprintf("%s is not announced: %s", in.Address, d.Message))
}

// owns tells whether a node announces an address by a decision as its owner.
func owns(d announcement.Decision) bool { return d.Announce && d.StandInFor == "" }

// first is the first node by name whose speaker is present, "" of none.
func first(speakers map[string]announcement.Speaker) string {
	out := ""
	for name, s := range speakers {
		if s.Presence == announcement.Present && (out == "" || name < out) {
			out = name
		}
	}
	return out
}

// event tells Services what became of their address. The action names it: two
// Events that differ in nothing but their note count as one.
func (r *addresses) event(services []string, address, kind, reason, note string) {
	for _, name := range services {
		namespace, short := splitName(name)
		var service corev1.Service
		// One that is gone has nobody to be told.
		if r.view.cached.Get(context.Background(), types.NamespacedName{Namespace: namespace, Name: short}, &service) == nil {
			r.events.Eventf(&service, nil, kind, reason, "Announce/"+address, "%s", kube.Note(note))
		}
	}
}
