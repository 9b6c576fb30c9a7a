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

// settle finds out which members are alive and what was claimed, and looks at
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
	case <-sp.config.Known().C():
	case <-ctx.Done():
		return nil
	}
	sp.tracker.Evaluate(ctx)
	if sp.hasMembers() {
		// It gets nothing that its service proxy drops, while others can serve.
		select {
		case <-sp.bgp.ProxyReady().C():
		case <-ctx.Done():
			return nil
		}
	}
	sp.resume(ctx)
	sp.tracker.SetStage(announcement.StageReady)
	sp.ready.Settled().Set()
	// Those that came meanwhile were reconciled for BGP only, and a cordoned node
	// had to wait with that.
	sp.bgp.ConfigChanged()
	sp.status.Set()
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
	writeErr := sp.object.Write(ctx)
	// The API server's word, not that of a cache.
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
	if time.Since(sp.introducing) < sp.settings.Member.SettleTimeout || readErr != nil || !sp.canBeFound(ctx) {
		return false
	}
	sp.log.Warn("continuing although the Speaker object cannot be written; trying again",
		"name", sp.settings.Node, "error", writeErr)
	sp.ready.Explain("")
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
	err := sp.live.Get(ctx, types.NamespacedName{Name: sp.settings.Node}, &own)
	if err == nil && own.Status.MemberAddress == sp.address.String() {
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

// resume takes up what this speaker announced before it was started anew, and
// looks at every address once.
func (sp *speaker) resume(ctx context.Context) {
	sp.tracker.MarkDisconnected()
	sp.tracker.Evaluate(ctx)
	sp.layer2.Adopt()
	if err := sp.loop.Resume(ctx); err != nil {
		sp.log.Error("cannot reconcile addresses", "error", err)
	}
	sp.layer2.PublishAll()
}

// Times of an orderly end.
const (
	// standInTime is how long a speaker that restarts goes on answering after
	// it said so, so that a member stands in before it stops.
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
	leaves := sp.config.Known().IsSet() && sp.nodeLeaves()
	var bgp sync.WaitGroup
	if leaves {
		bgp.Go(sp.bgp.Drain)
	}
	sp.leaveLayer2(leaves)
	bgp.Wait()
}

// leaveLayer2 does so for addresses that this node owns.
func (sp *speaker) leaveLayer2(leaves bool) {
	if !sp.ready.Settled().IsSet() {
		return
	}
	if !leaves {
		// It says so also when nobody works who could hear it: the last of all that
		// are restarted at once. Who starts before it is back reads it in its object.
		sp.tracker.SetStage(announcement.StageRestarting)
		if sp.hasMembers() {
			sp.log.Info("restarting: another speaker answers in the meantime")
			time.Sleep(standInTime)
		}
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
		time.Sleep(leaveLook)
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
	if err := sp.cluster.Get(context.Background(), types.NamespacedName{Name: sp.settings.Node}, &node); err != nil {
		return false
	}
	in, err := sp.source.Inputs(context.Background())
	if err != nil {
		return false
	}
	return node.DeletionTimestamp != nil || announcement.Leaves(announcement.ParseNode(&node), in.Nodes, in.Speakers)
}

// stall is how long this process may stand still before it asks the others
// whether they have taken over. A node whose kernel is silent is taken over
// sooner, but then its kernel stood still as well, which is rare. A busy node
// whose processes wait for their turn is not to fall silent for it.
const stall = time.Second

// confirm makes sure of the cluster whenever this process was stalled, until ctx ends.
func (sp *speaker) confirm(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-sp.layer2.Stalled():
			if sp.announcer.Suspended() {
				sp.makeSure(ctx)
			}
		}
	}
}

// makeSure asks the members what has become of this node's addresses while the
// process stood still, and has the announcer go on with what is right now.
func (sp *speaker) makeSure(ctx context.Context) {
	start := time.Now()
	sp.log.Warn("process was stalled; confirming ownership with other speakers before answering")
	// What the others say is looked at before anything is answered.
	sp.tracker.Reconnect(ctx)
	if err := sp.loop.Reconcile(ctx, sp.layer2.Announced()); err != nil {
		sp.log.Error("cannot reconcile addresses", "error", err)
	}
	sp.announcer.Resume()
	sp.log.Info("answering again", "duration", time.Since(start).String())
}
