package main

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/berth-lb/berth/pkg/announcement"
)

// settle finds out which fellows are alive and what was claimed, and looks at
// every address once; nothing is announced before. Each speaker first says
// where it is itself and then looks for the others, so that of any two that
// start at once, at least one finds the other before it announces anything.
func (sp *speaker) settle(ctx context.Context) error {
	err := wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		sp.watch.look(ctx) // at the links, which the object lists
		err := sp.object.write(ctx, sp.object.status())
		if err == nil {
			// The API server's word, not that of a cache.
			err = sp.peers.read(ctx, sp.object.live)
		}
		if err != nil {
			sp.log.Warn("cannot look for fellow speakers; trying again", "error", err)
		}
		return err == nil, nil
	})
	if err != nil {
		return nil // ctx has ended
	}
	settle(ctx, sp.members, sp.settings.Member.SettleTimeout, sp.log)
	select {
	case <-sp.view.state.configured:
	case <-ctx.Done():
		return nil
	}
	sp.watch.look(ctx)
	if sp.hasFellows() {
		// It gets nothing that its service proxy drops, while others can serve.
		select {
		case <-sp.rules.done:
		case <-ctx.Done():
			return nil
		}
	}
	sp.resume(ctx)
	sp.say(announcement.StageReady)
	close(sp.view.state.settled)
	// Those that came meanwhile were looked at for BGP only, and a cordoned node
	// had to wait with that.
	sp.routes.configChanged()
	sp.watch.all()
	sp.object.tell()
	return nil
}

// resume takes up what this speaker announced before it was started anew, and
// looks at every address once.
func (sp *speaker) resume(ctx context.Context) {
	sp.fellows.wasBlind(time.Now())
	sp.watch.look(ctx)
	sp.adopt()
	addresses, err := sp.view.addresses(ctx, sp.settings.Kube.Class)
	if err != nil {
		sp.log.Error("cannot list addresses", "error", err)
	}
	if err := sp.addresses.look(ctx, addresses); err != nil {
		sp.log.Error("cannot look at addresses", "error", err)
	}
	sp.claims.sayAll()
}

// adopt takes in what the speaker before this one claimed: as the fellows remember
// it, and as its object tells, should they have been started anew too.
func (sp *speaker) adopt() {
	own := word{}
	for _, m := range sp.members.Members() {
		if m.Name == sp.settings.Node {
			own = readWord(m)
		}
	}
	own = own.or(speakerObject{claims: sp.object.before}, false)
	sp.view.state.adopt(own.claims, sp.fellows.current().claims)
	// Before the first is said, all others of its block are known.
	for addr, r := range sp.view.state.all() {
		if r.Claim != nil {
			sp.claims.set(addr, r.Claim)
		}
	}
}

// say tells the fellows how far this speaker is with its work.
func (sp *speaker) say(stage announcement.Stage) {
	sp.stage.Store(&stage)
	if err := sp.members.Say(saysStage, []byte(stage)); err != nil {
		sp.log.Error("cannot tell the fellows", "error", err)
	}
	sp.object.tell()
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
	leaves := isClosed(sp.view.state.configured) && sp.nodeLeaves()
	var bgp sync.WaitGroup
	if leaves {
		bgp.Go(sp.routes.leave)
	}
	sp.leaveLayer2(leaves)
	bgp.Wait()
}

// leaveLayer2 does so for addresses that this node owns.
func (sp *speaker) leaveLayer2(leaves bool) {
	if !isClosed(sp.view.state.settled) || !sp.hasFellows() {
		return
	}
	if !leaves {
		sp.log.Info("expected back: another speaker answers meanwhile")
		sp.say(announcement.StageRestarting)
		time.Sleep(standInTime)
		return
	}
	sp.log.Info("handing over, because the node is about to go")
	sp.view.leaving.Store(true)
	sp.say(announcement.StageLeaving)
	sp.watch.all()
	deadline := time.Now().Add(sp.settings.HandOver + time.Second)
	for sp.view.state.owns() && time.Now().Before(deadline) {
		time.Sleep(leaveLook)
	}
	sp.log.Info("handed over", "count", len(sp.view.state.announced()))
}

// hasFellows reports whether another speaker is present.
func (sp *speaker) hasFellows() bool {
	for _, f := range sp.fellows.current().fellows {
		if f.Presence == announcement.Present {
			return true
		}
	}
	return false
}

// nodeLeaves reports whether this node is being drained, excluded, deleted or
// shut down.
func (sp *speaker) nodeLeaves() bool {
	var node corev1.Node
	if err := sp.view.cached.Get(context.Background(), types.NamespacedName{Name: sp.settings.Node}, &node); err != nil {
		return false
	}
	parsed := announcement.ParseNode(&node)
	return parsed.Cordoned || parsed.Excluded && !sp.settings.IgnoreExclude || parsed.ShuttingDown || node.DeletionTimestamp != nil
}

// stall is how long this process may stand still before it asks its fellows
// whether they have taken over. A node whose kernel is silent is taken over
// sooner, but then its kernel stood still as well, which is rare. A busy node
// whose processes wait for their turn is not to fall silent for it.
const stall = time.Second

// confirmTimeout is how long a speaker that was frozen or cut off waits for a
// fellow to answer before it takes itself for alone.
const confirmTimeout = 3 * time.Second

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
	sp.fellows.wasBlind(start)
	bounded, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	if err := sp.members.Confirm(bounded); err != nil {
		sp.log.Warn("no fellow answers; going on alone", "error", err)
	}
	// What they say is looked at before anything is answered.
	sp.watch.look(ctx)
	announced := slices.SortedFunc(maps.Keys(sp.view.state.announced()), netip.Addr.Compare)
	if err := sp.addresses.look(ctx, announced); err != nil {
		sp.log.Error("cannot look at addresses", "error", err)
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
	// renewalTrust is how long a renewal seen proves that its writer works.
	renewalTrust = 20 * time.Second
)

// renew writes the Speaker object as soon as a fellow writes in its own that it
// does not hear this speaker, and again and again while it does. Only what is
// written after a fellow began to doubt proves anything to it, so each new doubt
// is answered. It also finds out whether this speaker has lost both the API
// server and all fellows for so long that it must not announce any more.
func (sp *speaker) renew(ctx context.Context) error {
	ticker := time.NewTicker(renewLook)
	defer ticker.Stop()
	contact := time.Now()
	var next, ask time.Time
	var answered map[string]string
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		doubters := sp.doubters(ctx)
		if anyNew(doubters, answered) || len(doubters) > 0 && !time.Now().Before(next) {
			next = time.Now().Add(renewRetry)
			if sp.proveAlive(ctx) {
				contact, next = time.Now(), time.Now().Add(renewInterval)
			}
		}
		answered = doubters
		switch {
		case sp.fellows.current().alive > 1 || len(sp.fellows.missing()) == 0:
			contact = time.Now()
		case !time.Now().Before(ask):
			if sp.object.reachable(ctx) {
				contact = time.Now()
			}
			ask = time.Now().Add(renewInterval)
		}
		sp.isolate(time.Since(contact))
	}
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
	out := sp.fellows.doubters()
	for name := range out {
		var node corev1.Node
		err := sp.view.cached.Get(ctx, types.NamespacedName{Name: name}, &node)
		if err != nil || !announcement.ParseNode(&node).Ready {
			delete(out, name)
		}
	}
	return out
}

// isolate stops all announcing when there has been no contact with the API
// server or a fellow for too long, and has it go on when there is again.
func (sp *speaker) isolate(lonely time.Duration) {
	limit := sp.settings.Isolation
	isolated := limit > 0 && isClosed(sp.view.state.settled) && lonely > limit
	if sp.view.isolated.Swap(isolated) == isolated {
		return
	}
	if isolated {
		sp.log.Warn("isolated: nothing is announced any more", "duration", limit.String())
	} else {
		sp.log.Info("no longer isolated")
	}
	sp.watch.all()
	sp.object.tell()
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
