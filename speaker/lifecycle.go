package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
)

// settle finds out which members are alive and what was claimed, and reconciles every
// address once. Layer 2 announces nothing before. Each speaker first publishes its own
// address and then looks for the others, so that of any two that start at once, at least
// one finds the other before it announces anything.
func (sp *speaker) settle(ctx context.Context) error {
	steps := []func(context.Context) bool{sp.linksKnown, sp.introduced}
	if sp.member != nil {
		steps = append(steps, sp.takesPart)
	}
	for _, known := range steps {
		poll := func(ctx context.Context) (bool, error) { return known(ctx), nil }
		if err := wait.PollUntilContextCancel(ctx, settleInterval, true, poll); err != nil {
			return nil // ctx has ended
		}
	}
	sp.tracker.Settle(ctx, sp.settings.Member.SettleTimeout)
	select {
	case <-sp.config.Known().C():
	case <-ctx.Done():
		return nil
	}
	sp.tracker.Evaluate(ctx)
	if sp.hasMembers() {
		// While others can serve, this node takes nothing that its service proxy would
		// drop.
		select {
		case <-sp.rules.Written().C():
		case <-ctx.Done():
			return nil
		}
	}
	sp.resume(ctx)
	sp.tracker.SetStage(announcement.StageReady)
	sp.ready.Settled().Set()
	// Until now addresses were reconciled for BGP only, and not on a cordoned node.
	sp.requeueAll()
	sp.status.Set()
	return nil
}

// requeueAll has every address reconciled, and routes planned when that is done.
func (sp *speaker) requeueAll() {
	if sp.bgp == nil {
		sp.queue.RequeueAll()
		return
	}
	sp.bgp.ConfigChanged()
}

// settleInterval is how often a starting speaker checks whether it can continue.
const settleInterval = 20 * time.Millisecond

// linksKnown reports whether the links of this node are known. Before that, the node would
// give up its addresses for want of a link.
func (sp *speaker) linksKnown(ctx context.Context) bool {
	sp.tracker.Evaluate(ctx)
	return sp.tracker.LinksKnown()
}

// introduced reports whether this speaker has published its address, and read those of the
// others. It insists on writing for --member-settle-timeout at most: an API server that is
// full, a webhook that fails or a CustomResourceDefinition of another version may refuse
// writes for long, and clients must not suffer from that. It then continues if the others
// find it all the same.
func (sp *speaker) introduced(ctx context.Context) bool {
	if sp.introducing.IsZero() {
		sp.introducing = time.Now()
	}
	if time.Now().Before(sp.introduceNext) {
		return false
	}
	sp.introduceNext = time.Now().Add(time.Second)
	sp.tracker.Evaluate(ctx) // the links, which the object lists
	writeErr := sp.object.Write(ctx)
	// Reads from the API server, not from a cache.
	readErr := sp.peers.Read(ctx, sp.live)
	why := ""
	switch {
	case readErr != nil:
		why = fmt.Sprintf("the Speaker objects cannot be read: %v", readErr)
	case writeErr != nil:
		why = fmt.Sprintf("the Speaker object of this node cannot be written: %v", writeErr)
	default:
		sp.ready.Explain("")
		return true
	}
	if sp.ready.Explain(why) {
		sp.log.Warn("cannot look for other speakers as intended; trying again", "message", why)
	}
	early := time.Since(sp.introducing) < sp.settings.Member.SettleTimeout
	if early || readErr != nil || !sp.canBeFound(ctx) {
		return false
	}
	sp.log.Warn("continuing although the Speaker object cannot be written; trying again",
		"name", sp.settings.Node, "error", writeErr)
	sp.ready.Explain("")
	return true
}

// canBeFound reports whether this speaker and the others find each other although it cannot
// write its address: the node's former speaker has written the same, this one has met
// another, or there is no other node.
func (sp *speaker) canBeFound(ctx context.Context) bool {
	if sp.tracker.HasMet() {
		return true
	}
	var own v1beta1.Speaker
	err := sp.live.Get(ctx, types.NamespacedName{Name: sp.settings.Node}, &own)
	if err == nil && (sp.member == nil || own.Status.MemberAddress == sp.member.address.String()) {
		return true
	}
	nodes, err := sp.cluster.Nodes(ctx)
	return err == nil && len(nodes) <= 1
}

// takesPart reports whether this speaker takes part in the membership.
func (sp *speaker) takesPart(context.Context) bool {
	if sp.joiner.Joined() {
		sp.ready.Explain("")
		return true
	}
	if why := sp.joiner.Problem(); why != nil {
		sp.ready.Explain(why.Message)
	}
	return false
}

// resume takes up what this speaker announced before its restart, and reconciles every
// address once.
func (sp *speaker) resume(ctx context.Context) {
	sp.tracker.MarkDisconnected()
	sp.tracker.Evaluate(ctx)
	if sp.layer2 != nil {
		sp.layer2.Adopt()
	}
	if err := sp.loop.Resume(ctx); err != nil {
		sp.log.Error("cannot reconcile addresses", "error", err)
	}
	if sp.layer2 != nil {
		sp.layer2.PublishAll()
	}
}

// Times of a clean shutdown.
const (
	// standInTime is how long a speaker answers after it has announced its restart, so that
	// a member stands in before it stops.
	standInTime = 200 * time.Millisecond
	// leaveInterval is how often a leaving speaker checks whether it still owns an address.
	leaveInterval = 10 * time.Millisecond
)

// Times of taking the place of a former speaker.
const (
	// announceInterval is how often a speaker checks whether it announces what it owns.
	announceInterval = 20 * time.Millisecond
	// announcePatience is how long it waits for that. What is not announced by then has a
	// problem, such as a link that is down, or is probed for still.
	announcePatience = 5 * time.Second
)

// relieve tells the former speaker of this node, which still answers, that this one
// announces what the node owns.
func (sp *speaker) relieve(ctx context.Context) error {
	select {
	case <-sp.ready.Settled().C():
	case <-ctx.Done():
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, announcePatience)
	defer cancel()
	does := func(context.Context) (bool, error) { return sp.layer2 == nil || !sp.layer2.Pending(), nil }
	_ = wait.PollUntilContextCancel(ctx, announceInterval, true, does)
	sp.place.announced()
	return nil
}

// isAlone reports whether this speaker owns addresses on a node that stays, and no other
// one is there that could stand in.
func (sp *speaker) isAlone() bool {
	return sp.ready.Settled().IsSet() && sp.owns() && !sp.hasMembers() && !sp.nodeLeaves()
}

// owns reports whether this node owns an address.
func (sp *speaker) owns() bool { return sp.layer2 != nil && sp.layer2.Owns() }

// leave prepares the end of the speaker. If the node is about to go, others take over
// first, and the routes are withdrawn. Otherwise the others expect the speaker back: one of
// them stands in, and BGP peers with graceful restart keep the routes. If a successor is
// prepared, which succeeded says, it is back whatever becomes of the node.
func (sp *speaker) leave(succeeded bool) {
	// Before the configuration is read, the cache may not answer.
	leaves := !succeeded && sp.config.Known().IsSet() && sp.nodeLeaves()
	var bgp sync.WaitGroup
	if leaves && sp.bgp != nil {
		bgp.Go(sp.bgp.Drain)
	}
	sp.leaveLayer2(leaves)
	bgp.Wait()
}

// leaveLayer2 does this for the addresses that this node owns.
func (sp *speaker) leaveLayer2(leaves bool) {
	if !sp.ready.Settled().IsSet() {
		return
	}
	if !leaves {
		// The speaker publishes this even if no other speaker works, as the last one does
		// when all are restarted at once. A speaker that starts before this one is back
		// reads it in this one's object.
		sp.tracker.SetStage(announcement.StageRestarting)
		if sp.layer2 != nil && sp.hasMembers() {
			sp.log.Info("restarting: another speaker answers in the meantime")
			time.Sleep(standInTime)
		}
		return
	}
	if sp.layer2 == nil {
		sp.tracker.SetStage(announcement.StageLeaving)
		return
	}
	if !sp.hasMembers() {
		return
	}
	sp.log.Info("handing over, because the node is about to go")
	sp.tracker.SetStage(announcement.StageLeaving)
	sp.queue.RequeueAll()
	deadline := time.Now().Add(sp.settings.HandOver + time.Second)
	for sp.layer2.Owns() && time.Now().Before(deadline) {
		time.Sleep(leaveInterval)
	}
	sp.log.Info("handed over", "count", len(sp.layer2.Announced()))
}

// hasMembers reports whether another speaker is present.
func (sp *speaker) hasMembers() bool {
	return sp.tracker.Current().AnyPresent()
}

// nodeLeaves reports whether this node is being drained, excluded, deleted or
// shut down.
func (sp *speaker) nodeLeaves() bool {
	var node corev1.Node
	name := types.NamespacedName{Name: sp.settings.Node}
	if err := sp.cluster.Get(context.Background(), name, &node); err != nil {
		return false
	}
	in, err := sp.source.Inputs(context.Background())
	if err != nil {
		return false
	}
	return node.DeletionTimestamp != nil ||
		announcement.Leaves(announcement.ParseNode(&node), in.Nodes, in.Speakers)
}

// stall is how long this process may be stalled before it asks the others whether they have
// taken over. They take over sooner only from a node whose kernel is silent, that is, was
// stalled as well, which is rare. A busy node, whose processes wait for their turn, must
// not fall silent for less.
const stall = time.Second

// confirm calls makeSure whenever this process was stalled, until ctx ends.
func (sp *speaker) confirm(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-sp.layer2.Stalled():
			if sp.member.announcer.Suspended() {
				sp.makeSure(ctx)
			}
		}
	}
}

// makeSure asks the other members what became of this node's addresses while the process
// was stalled, reconciles them, and resumes the announcer.
func (sp *speaker) makeSure(ctx context.Context) {
	start := time.Now()
	sp.log.Warn("process was stalled; confirming ownership with other speakers before answering")
	// Evaluates the answers before the announcer answers anybody.
	sp.tracker.Reconnect(ctx)
	if err := sp.loop.Reconcile(ctx, sp.layer2.Announced()); err != nil {
		sp.log.Error("cannot reconcile addresses", "error", err)
	}
	sp.member.announcer.Resume()
	sp.log.Info("answering again", "duration", time.Since(start).String())
}
