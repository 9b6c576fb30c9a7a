package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/pkg/announcement"
)

// settle finds out which fellows are alive and what was claimed, and looks at
// every address once; nothing is announced by layer 2 before. Each speaker first
// says where it is itself and then looks for the others, so that of any two that
// start at once, at least one finds the other before it announces anything.
func (sp *speaker) settle(ctx context.Context) error {
	for _, known := range []func(context.Context) bool{sp.linksKnown, sp.introduced, sp.takesPart} {
		err := wait.PollUntilContextCancel(ctx, settleLook, true, func(ctx context.Context) (bool, error) {
			return known(ctx), nil
		})
		if err != nil {
			return nil // ctx has ended
		}
	}
	sp.tracker.Settle(ctx, sp.settings.Member.SettleTimeout)
	select {
	case <-sp.view.config.Known().C():
	case <-ctx.Done():
		return nil
	}
	sp.tracker.Evaluate(ctx)
	if sp.hasFellows() {
		// It gets nothing that its service proxy drops, while others can serve.
		select {
		case <-sp.bgp.ProxyReady().C():
		case <-ctx.Done():
			return nil
		}
	}
	sp.resume(ctx)
	sp.tracker.SetStage(announcement.StageReady)
	sp.view.state.settled.Set()
	// Those that came meanwhile were looked at for BGP only, and a cordoned node
	// had to wait with that.
	sp.bgp.ConfigChanged()
	sp.queue.RequeueAll()
	sp.object.tell()
	return nil
}

// settleLook is how often a speaker that starts looks whether it can go on.
const settleLook = 20 * time.Millisecond

// linksKnown reports whether the links of this node are known. Before that, it
// would give up what it had for want of a link.
func (sp *speaker) linksKnown(ctx context.Context) bool {
	sp.tracker.Evaluate(ctx)
	return sp.tracker.LinksKnown()
}

// introduced reports whether this speaker has said where it is, and read where the
// others are. It does not insist on writing for longer than --member-settle-timeout:
// an API server that is full, a webhook that fails and a CustomResourceDefinition of
// another version refuse writes for long, and clients are not to pay for it. It then
// goes on when the others find it all the same.
func (sp *speaker) introduced(ctx context.Context) bool {
	if sp.introducing.IsZero() {
		sp.introducing = time.Now()
	}
	if time.Now().Before(sp.introduceNext) {
		return false
	}
	sp.introduceNext = time.Now().Add(time.Second)
	sp.tracker.Evaluate(ctx) // the links, which the object lists
	writeErr := sp.object.write(ctx, sp.object.status())
	// The API server's word, not that of a cache.
	readErr := sp.peers.Read(ctx, sp.object.live)
	why := ""
	switch {
	case readErr != nil:
		why = fmt.Sprintf("the Speaker objects cannot be read: %v", readErr)
	case writeErr != nil:
		why = fmt.Sprintf("the Speaker object of this node cannot be written: %v", writeErr)
	default:
		sp.view.state.setUnsettled("")
		return true
	}
	if sp.view.state.setUnsettled(why) {
		sp.log.Warn("cannot look for fellow speakers as it should be; trying again", "message", why)
	}
	if time.Since(sp.introducing) < sp.settings.Member.SettleTimeout || readErr != nil || !sp.canBeFound(ctx) {
		return false
	}
	sp.log.Warn("going on, though the Speaker object cannot be written; that is tried again and again",
		"name", sp.settings.Node, "error", writeErr)
	sp.view.state.setUnsettled("")
	return true
}

// canBeFound reports whether this speaker and the others find each other although it
// cannot write where it is: an earlier one of this node has written the same, this one
// has met another, or there is no other node.
func (sp *speaker) canBeFound(ctx context.Context) bool {
	if sp.tracker.HasMet() {
		return true
	}
	var own v1beta1.Speaker
	err := sp.object.live.Get(ctx, types.NamespacedName{Name: sp.settings.Node}, &own)
	if err == nil && own.Status.MemberAddress == sp.object.address.String() {
		return true
	}
	nodes, err := sp.view.cluster.Nodes(ctx)
	return err == nil && len(nodes) <= 1
}

// takesPart reports whether this speaker takes part in the membership.
func (sp *speaker) takesPart(context.Context) bool {
	if sp.joiner.Joined() {
		sp.view.state.setUnsettled("")
		return true
	}
	if why := sp.joiner.Problem(); why != nil {
		sp.view.state.setUnsettled(why.Message)
	}
	return false
}

// resume takes up what this speaker announced before it was started anew, and
// looks at every address once.
func (sp *speaker) resume(ctx context.Context) {
	sp.tracker.MarkDisconnected()
	sp.tracker.Evaluate(ctx)
	sp.adopt()
	if err := sp.loop.ReconcileAll(ctx); err != nil {
		sp.log.Error("cannot reconcile addresses", "error", err)
	}
	sp.claims.PublishAll()
}

// adopt takes in what the speaker before this one claimed: as the fellows remember
// it, and as its object tells, should they have been started anew too.
func (sp *speaker) adopt() {
	sp.view.state.adopt(sp.tracker.ClaimedBefore(sp.object.before), sp.tracker.Current().Claims)
	// Before the first is said, all others of its block are known.
	for addr, r := range sp.view.state.all() {
		if r.Claim != nil {
			sp.claims.Set(addr, r.Claim)
		}
	}
}

// Times of an orderly end.
const (
	// standInTime is how long a speaker that restarts goes on answering after
	// it said so, so that a fellow stands in before it stops.
	standInTime = 200 * time.Millisecond
	// leaveLook is how often a speaker that leaves looks whether it still owns
	// anything.
	leaveLook = 10 * time.Millisecond
)

// leave says goodbye before the speaker stops. When the node is about to go,
// others take over first, and BGP peers take its routes away. Otherwise the
// speaker is expected back: another answers in its place meanwhile, and BGP
// peers that know graceful restart keep its routes.
func (sp *speaker) leave() {
	// Before the configuration is read, the cache may not answer.
	leaves := sp.view.config.Known().IsSet() && sp.nodeLeaves()
	var bgp sync.WaitGroup
	if leaves {
		bgp.Go(sp.bgp.Drain)
	}
	sp.leaveLayer2(leaves)
	bgp.Wait()
}

// leaveLayer2 does so for addresses that this node owns.
func (sp *speaker) leaveLayer2(leaves bool) {
	if !sp.view.state.settled.IsSet() {
		return
	}
	if !leaves {
		// It says so also when nobody works who could hear it: the last of all that
		// are restarted at once. Who starts before it is back reads it in its object.
		sp.tracker.SetStage(announcement.StageRestarting)
		if sp.hasFellows() {
			sp.log.Info("expected back: another speaker answers meanwhile")
			time.Sleep(standInTime)
		}
		return
	}
	if !sp.hasFellows() {
		return
	}
	sp.log.Info("handing over, because the node is about to go")
	sp.tracker.SetStage(announcement.StageLeaving)
	sp.queue.RequeueAll()
	deadline := time.Now().Add(sp.settings.HandOver + time.Second)
	for sp.view.state.owns() && time.Now().Before(deadline) {
		time.Sleep(leaveLook)
	}
	sp.log.Info("handed over", "count", len(sp.view.state.announced()))
}

// hasFellows reports whether another speaker is present.
func (sp *speaker) hasFellows() bool {
	return sp.tracker.Current().AnyPresent()
}

// nodeLeaves reports whether this node is being drained, excluded, deleted or
// shut down.
func (sp *speaker) nodeLeaves() bool {
	var node corev1.Node
	if err := sp.view.cluster.Get(context.Background(), types.NamespacedName{Name: sp.settings.Node}, &node); err != nil {
		return false
	}
	in, err := sp.view.Inputs(context.Background())
	if err != nil {
		return false
	}
	return node.DeletionTimestamp != nil || announcement.Leaves(announcement.ParseNode(&node), in.Nodes, in.Speakers)
}

// stall is how long this process may stand still before it asks its fellows
// whether they have taken over. A node whose kernel is silent is taken over
// sooner, but then its kernel stood still as well, which is rare. A busy node
// whose processes wait for their turn is not to fall silent for it.
const stall = time.Second

// tellPause is the least time between two looks at what the announcer has done.
// While thousands of addresses are taken, it has news every few milliseconds.
const tellPause = 250 * time.Millisecond

// guard follows the announcer: it makes sure of the cluster when the process was
// frozen or starved, and tells what was announced and which conflicts there are.
func (sp *speaker) guard(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var next time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-sp.announcer.Changed():
			if sp.announcer.Suspended() {
				sp.makeSure(ctx)
			}
			if wait := time.Until(next); wait > 0 {
				timer.Reset(wait)
				continue
			}
		case <-timer.C:
		}
		next = time.Now().Add(tellPause)
		sp.takeovers()
		sp.conflicts.announce()
		sp.object.tell()
	}
}

// makeSure asks the fellows what has become of this node's addresses while the
// process stood still, and has the announcer go on with what is right now.
func (sp *speaker) makeSure(ctx context.Context) {
	start := time.Now()
	sp.log.Warn("this process stood still; asking the fellows before anything is answered")
	// What the others say is looked at before anything is answered.
	sp.tracker.Reconnect(ctx)
	announced := slices.SortedFunc(maps.Keys(sp.view.state.announced()), netip.Addr.Compare)
	if err := sp.loop.Reconcile(ctx, announced); err != nil {
		sp.log.Error("cannot reconcile addresses", "error", err)
	}
	sp.announcer.Resume()
	sp.log.Info("answering again", "duration", time.Since(start).String())
}

// Intervals of renewing.
const (
	// renewLook is how often a speaker looks whether a fellow doubts that it
	// works.
	renewLook = 500 * time.Millisecond
	// renewInterval is how often a speaker that is doubted renews its Speaker
	// object, renewRetry how soon it tries again when it could not.
	renewInterval = 8 * time.Second
	renewRetry    = time.Second
	// contactInterval is how often a speaker that does not hear somebody, and has
	// not for a while, finds out whether it hears anybody.
	contactInterval = 4 * time.Second
)

// renew writes the Speaker object as soon as a fellow writes in its own that it
// does not hear this speaker, and again and again while it does. Only what is
// written after a fellow began to doubt proves anything to it, so each new doubt
// is answered. It also finds out whether it is this speaker that hears nothing,
// when it does not hear somebody.
func (sp *speaker) renew(ctx context.Context) error {
	defer sp.tracker.WaitContact()
	ticker := time.NewTicker(renewLook)
	defer ticker.Stop()
	r := renewal{contact: time.Now()}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		sp.renewOnce(ctx, &r)
	}
}

// renewal is what renew remembers.
type renewal struct {
	// contact is when anybody was heard last, next when the object is to be renewed
	// again while a fellow doubts, ask when the next look for contact is due.
	contact, next, ask time.Time
	// answered are the doubts of fellows that were answered.
	answered map[string]string
}

// renewOnce does what renew does each time.
func (sp *speaker) renewOnce(ctx context.Context, r *renewal) {
	doubters := sp.doubters(ctx)
	if anyNew(doubters, r.answered) || len(doubters) > 0 && !time.Now().Before(r.next) {
		r.next = time.Now().Add(renewRetry)
		if sp.proveAlive(ctx) {
			sp.tracker.SawAPI(true)
			r.next = time.Now().Add(renewInterval)
		}
	}
	r.answered = doubters
	doubt, alive, askAPI := sp.tracker.Current().Doubt()
	switch {
	case doubt == presence.NoDoubt:
		sp.tracker.SawAll()
	case doubt == presence.FreshDoubt, !time.Now().Before(r.ask):
		r.ask = time.Now().Add(contactInterval)
		sp.tracker.SeekContact(ctx, alive, askAPI, sp.object)
	}
	if len(alive) > 0 {
		r.contact = time.Now()
	}
	if last := sp.tracker.LastContact(); last.After(r.contact) {
		r.contact = last
	}
	sp.isolate(r.contact, time.Now())
}

// contactPatience is how long a speaker may take to find out whether it hears
// anybody, once somebody has been silent for too long: more than a call to an API
// server that is not there takes.
const contactPatience = apiTimeout + 4*renewLook

// isolate takes in since when this speaker has had no contact with anybody. As
// long as that lasts it takes nothing from a node whose kernel answers, and so does
// everybody else who knows as little. An address that it had before and that a
// fellow announces nevertheless was taken by one that knows more: that one keeps it.
func (sp *speaker) isolate(since, now time.Time) {
	limit := sp.settings.Isolation
	isolated := limit > 0 && sp.view.state.settled.IsSet() && now.Sub(since) > limit
	var taken map[netip.Addr]string
	if isolated {
		taken = sp.takenByOthers(since)
	}
	switch news := sp.tracker.SetIsolated(isolated, taken); {
	case news && isolated:
		sp.log.Warn("isolated: neither the API server nor another speaker is heard", "duration", limit.String())
	case news:
		sp.log.Info("no longer isolated")
	}
}

// takenByOthers are the addresses that this node announced before a time and that
// fellows claimed on the LAN since.
func (sp *speaker) takenByOthers(since time.Time) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for _, heard := range sp.conflicts.announcer.Conflicts() {
		own := sp.view.state.memory(heard.Addr)
		node := sp.tracker.NodeOf(heard.MAC)
		if heard.Last.After(since) && own.since.Before(since) && node != "" && node != sp.view.node {
			out[heard.Addr] = node
		}
	}
	return out
}

// anyNew reports whether a fellow doubts that did not before, or does so again.
func anyNew(doubters, before map[string]string) bool {
	for name, doubt := range doubters {
		if before[name] != doubt {
			return true
		}
	}
	return false
}

// proveAlive renews the Speaker object, and reports whether it could.
func (sp *speaker) proveAlive(ctx context.Context) bool {
	err := sp.object.renew(ctx)
	if err != nil && ctx.Err() == nil {
		sp.log.Warn("cannot renew the Speaker object", "name", sp.settings.Node, "error", err)
	}
	return err == nil
}

// doubters are the fellows that do not hear this speaker. What one says whose
// node is not ready, or gone, is what it said before it died.
func (sp *speaker) doubters(ctx context.Context) map[string]string {
	out := sp.tracker.Doubters()
	for name := range out {
		var node corev1.Node
		err := sp.view.cluster.Get(ctx, types.NamespacedName{Name: name}, &node)
		if err != nil || !announcement.ParseNode(&node).Ready {
			delete(out, name)
		}
	}
	return out
}

// tellReachable emits an Event at the Speaker object when other speakers are no
// longer heard, or are again.
func (sp *speaker) tellReachable(ctx context.Context) error {
	ticker := time.NewTicker(conflictLook)
	defer ticker.Stop()
	before := string(v1beta1.ReasonMembersHeard)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := members.ReachableCondition(sp.joiner.Problem(), sp.tracker.Current(), sp.object.address)
		if now.Reason == before {
			continue
		}
		before = now.Reason
		kind := corev1.EventTypeWarning
		if now.Status == metav1.ConditionTrue {
			kind = corev1.EventTypeNormal
		}
		sp.log.Info("what is heard of other speakers has changed", "reason", now.Reason, "message", now.Message)
		object := v1beta1.Speaker{}
		if sp.view.cluster.Get(ctx, types.NamespacedName{Name: sp.settings.Node}, &object) == nil {
			sp.events.Eventf(&object, nil, kind, now.Reason, "Listen", "%s", kube.Note(now.Message))
		}
	}
}

// conflictLook is how often conflicts are looked at that nothing else tells of:
// a claim of a fellow is one when it goes on for too long.
const conflictLook = 5 * time.Second

// tellConflicts tells of conflicts that are new.
func (sp *speaker) tellConflicts(ctx context.Context) error {
	ticker := time.NewTicker(conflictLook)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if sp.conflicts.announce() {
				sp.object.tell()
			}
		}
	}
}

// takeovers measures those that have been announced for the first time.
func (sp *speaker) takeovers() {
	for _, a := range sp.announcer.State() {
		if a.Announced.IsZero() {
			continue
		}
		if t, ok := sp.view.state.took(a.Addr); ok {
			sp.metrics.tookOver(t.cause, max(a.Announced.Sub(t.from), 0))
		}
	}
}
