package main

import (
	"context"
	"maps"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/reconcile"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// view reads what decisions depend on: caches, links, who is there, and what is
// remembered.
type view struct {
	cluster *cluster.Reader
	config  *cluster.Config
	state   *state
	tracker *members.Tracker
	joiner  *members.Joiner
	claims  interface{ IsFull() bool }
	links   interface {
		Links() []links.Link
	}
	node string
	// ignoreExclude and ignoreCordon are what this speaker makes of marks of nodes.
	ignoreExclude bool
	ignoreCordon  bool
	// probes is false when addresses are announced without being probed first,
	// handOver how long another may take to take an address over.
	probes   bool
	handOver time.Duration
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
	around := v.tracker.Around()
	out := reconcile.Inputs{
		Node:     v.node,
		Config:   &c,
		Revision: revision,
		Nodes:    nodes,
		Speakers: around.Speakers,
		Settled:  v.state.settled.IsSet(),
		Now:      time.Now(),

		Claims:      around.Claims,
		Minority:    around.Minority,
		Returning:   around.Returning,
		LastAnswers: map[string]time.Time{},
	}
	for name, m := range around.Members {
		if !m.LastSeen.IsZero() {
			out.LastAnswers[name] = m.LastSeen
		}
	}
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
		YieldedTo:   v.tracker.YieldedTo(a.Addr),
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

// UrgentFirst implements [reconcile.Source]: those come first whose owner, as it was last
// decided, is not present any more.
func (v *view) UrgentFirst(list []netip.Addr) []netip.Addr {
	others := v.tracker.Current().Members
	urgent := func(addr netip.Addr) bool {
		owner := v.state.memory(addr).Owner
		return owner != "" && owner != v.node && others[owner].Presence != announcement.Present
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
