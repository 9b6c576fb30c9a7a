package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/bgp"
	"github.com/berth-lb/berth/pkg/config"
)

// gatherChanges is how long a change waits for others, so that one plan serves
// them all.
const gatherChanges = 3 * time.Millisecond

// bgpSpeaker keeps the sessions of this node; package gobgp has it.
type bgpSpeaker interface {
	Set(desired []bgp.Desired, complete bool) (serial uint64)
	State() []bgp.Session
	Changed() <-chan struct{}
	Leave(ctx context.Context)
}

// routes makes of the decisions for all addresses what each BGP peer shall be
// told, and follows what becomes of the sessions. Its goroutine is run.
type routes struct {
	view     *view
	speaker  bgpSpeaker
	sessions *sessions
	paths    *paths
	log      *slog.Logger
	weights  weights
	// lookAtAll decides about every address anew; toRoute takes down how long an
	// address took to a route.
	lookAtAll func(ctx context.Context) error
	toRoute   func(time.Duration)

	changed chan struct{} // of one: plan again
	stale   atomic.Bool   // every address is to be looked at before

	// What follows belongs to run.

	complete  bool // it is known of every address whether it is announced
	awaiting  bool // but for what the service proxy has yet to say
	began     time.Time
	node      config.Node
	cordoned  bool
	known     map[netip.Addr]bool     // what was in the last plan
	waiting   map[netip.Addr]handover // on the way to a session
	conflicts []bgp.Conflict          // that were told
	overdue   time.Time               // when to follow the sessions although they do not change; zero for never

	mu      sync.Mutex
	left    bool          // the sessions have ended for good
	longest time.Duration // that a peer wants routes to be avoided before they go
}

// handover is a new address on its way to a session.
type handover struct {
	since  time.Time // when it was decided
	serial uint64    // of the state that has it
}

// again has the next plan made soon.
func (r *routes) again() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// configChanged has every address looked at before the next plan, so that no
// plan mixes two configurations.
func (r *routes) configChanged() {
	r.stale.Store(true)
	r.again()
}

// run plans whenever something changed, until ctx ends. It needs the
// configuration, but no fellows: each node announces by itself.
func (r *routes) run(ctx context.Context) error {
	select {
	case <-r.view.state.configured:
	case <-ctx.Done():
		return nil
	}
	r.stale.Store(true)
	pass := r.view.state.loops.Loop("routes")
	timer, overdue := time.NewTimer(0), time.NewTimer(0)
	defer timer.Stop()
	defer overdue.Stop()
	for due := true; ; due = false {
		if overdue.Stop(); !r.overdue.IsZero() {
			overdue.Reset(time.Until(r.overdue))
		}
		if !due {
			select {
			case <-ctx.Done():
				return nil
			case <-r.speaker.Changed():
				pass.Begin()
				r.follow()
				pass.End()
				continue
			case <-overdue.C:
				pass.Begin()
				r.follow()
				pass.End()
				continue
			case <-r.changed:
			case <-timer.C:
			}
		}
		start := time.Now()
		pass.Begin()
		wait := r.plan(ctx)
		pass.End()
		// Plans take no more than a third of the time, however many changes come.
		pause := max(gatherChanges, 2*time.Since(start))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		timer.Reset(wait)
	}
}

// plan gives the sessions what follows from all decisions. It returns how long
// nothing will be due.
func (r *routes) plan(ctx context.Context) time.Duration {
	const idle, retry = time.Hour, time.Second
	looked, settled := false, isClosed(r.view.state.settled)
	if r.awaiting && !r.proxyAsked() {
		r.awaiting = false
		r.stale.Store(true) // the answers count
	}
	for r.stale.Swap(false) {
		if err := r.lookAtAll(ctx); err != nil {
			r.log.Error("cannot look at all addresses", "error", err)
			r.stale.Store(true)
			return retry
		}
		looked = true
	}
	if err := r.readNode(ctx); err != nil {
		r.log.Error("cannot read this node", "node", r.view.node, "error", err)
		if looked {
			r.stale.Store(true)
		}
		return retry
	}
	// Of a cordoned node it is not known before what it announces.
	if !r.complete && looked && (settled || !r.cordoned) {
		r.awaiting = r.proxyAsked()
		r.complete = !r.awaiting
	}
	now := time.Now()
	c := r.view.state.configuration()
	peers, problems := peersOf(&c, r.node)
	decided := r.view.state.routes()
	addresses, again := r.weights.apply(now, addressesOf(decided))
	planned := bgp.Plan(now, peers, addresses)
	serial, ok := r.set(planned.Desired)
	if !ok {
		return idle
	}
	r.sessions.configure(planned.Desired, problems)
	r.paths.configure(watchedPeers(&c, peers), peers, r.speaker.State())
	r.tellConflicts(planned.Conflicts)
	r.follow()
	r.await(decided, serial)
	if r.awaiting {
		return 2 * proxyLook
	}
	if again.IsZero() || !planned.Again.IsZero() && planned.Again.Before(again) {
		again = planned.Again
	}
	if again.IsZero() {
		return idle
	}
	return min(max(again.Sub(now), time.Millisecond), idle)
}

// proxyAsked reports whether the service proxy has yet to answer about endpoints
// that were there when this speaker started. What is asked later is not waited
// for: there may be something new all the time.
func (r *routes) proxyAsked() bool {
	if r.began.IsZero() {
		r.began = time.Now()
	}
	return time.Since(r.began) < 2*proxyPatience && r.view.proxies.asking()
}

// set gives the sessions a plan, unless they have ended for good.
func (r *routes) set(desired []bgp.Desired) (serial uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left {
		return 0, false
	}
	r.longest = 0
	for _, d := range desired {
		r.longest = max(r.longest, d.Peer.GracefulShutdown)
	}
	return r.speaker.Set(desired, r.complete), true
}

// leaveSlack is how long sessions may take to end besides the time in which
// routes are to be avoided.
const leaveSlack = 5 * time.Second

// leave ends all sessions for good: peers are asked to avoid the routes, then
// they are withdrawn, and then the sessions are closed with a word.
func (r *routes) leave() {
	r.mu.Lock()
	r.left = true
	longest := r.longest
	r.mu.Unlock()
	r.sessions.leave()
	ctx, cancel := context.WithTimeout(context.Background(), longest+leaveSlack)
	defer cancel()
	r.speaker.Leave(ctx)
}

// readNode reads what peers take from this node. Of a Node that is gone, the
// last that was known stays.
func (r *routes) readNode(ctx context.Context) error {
	var node corev1.Node
	err := r.view.cached.Get(ctx, types.NamespacedName{Name: r.view.node}, &node)
	if err == nil {
		r.node, r.cordoned = parseBGPNode(&node), node.Spec.Unschedulable
	}
	if client.IgnoreNotFound(err) == nil && r.node.Name != "" {
		return nil
	}
	return err
}

// parseBGPNode reads what peers take from a Node. Its addresses are those by
// which the cluster knows it.
func parseBGPNode(n *corev1.Node) config.Node {
	out := config.Node{Name: n.Name, Labels: n.Labels, Annotations: n.Annotations}
	for _, a := range n.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
			out.Addresses = append(out.Addresses, addr.Unmap())
		}
	}
	return out
}

// peersOf are the peers that select a node, as the node talks to them, and by
// name what of others, or of these, cannot be in force on it.
func peersOf(c *config.Config, node config.Node) (peers []bgp.Peer, problems map[string]sessionProblem) {
	problems = map[string]sessionProblem{}
	for _, p := range c.PeersOn(node) {
		switch {
		case p.Rival != nil:
			problems[p.Name] = sessionProblem{v1beta1.ReasonConflicting, p.Conflicting(p.Rival).Message}
			continue
		case errors.Is(p.Err, config.ErrNoPassword):
			problems[p.Name] = sessionProblem{v1beta1.ReasonSecretNotFound, p.Err.Error()}
			continue
		case p.Err != nil:
			problems[p.Name] = sessionProblem{v1beta1.ReasonNotConfigured, p.Err.Error()}
			continue
		case p.Problem != "":
			problems[p.Name] = sessionProblem{v1beta1.ReasonSecretNotFound, p.Problem}
		}
		peers = append(peers, p.Peer)
	}
	return peers, problems
}

// addressesOf are those of all decisions that announce, sorted, and those that would
// if a session carried their family: their peers are told of that.
func addressesOf(decided map[netip.Addr]decidedRoute) []bgp.Address {
	var out []bgp.Address
	for addr, d := range decided {
		if d.Announce || d.Reason == v1beta1.ReasonNoPeerForFamily {
			out = append(out, bgp.Address{
				Address: addr, Advertisements: d.Advertisements, Endpoints: d.Endpoints, LeavingSince: d.LeavingSince,
			})
		}
	}
	slices.SortFunc(out, func(a, b bgp.Address) int { return a.Address.Compare(b.Address) })
	return out
}

// await remembers which addresses are new in a plan, to measure how long they
// take to a session. Those of before this speaker started are not, nor those
// that no session is there for.
func (r *routes) await(decided map[netip.Addr]decidedRoute, serial uint64) {
	now := map[netip.Addr]bool{}
	waiting := map[netip.Addr]handover{}
	for addr, d := range decided {
		if !d.Announce {
			continue
		}
		now[addr] = true
		if w, already := r.waiting[addr]; already {
			waiting[addr] = w
		} else if r.known != nil && !r.known[addr] && r.sessions.anyEstablished() {
			waiting[addr] = handover{d.since, serial}
		}
	}
	r.waiting = waiting
	if r.complete {
		r.known = now
	}
}

// follow takes in what became of the sessions.
func (r *routes) follow() {
	state := r.speaker.State()
	r.overdue = r.sessions.follow(time.Now(), state)
	r.paths.update(state)
	for addr, w := range r.waiting {
		for _, s := range state {
			if s.State == bgp.SessionEstablished && s.Handed >= w.serial {
				r.toRoute(max(s.HandedAt.Sub(w.since), 0))
				delete(r.waiting, addr)
				break
			}
		}
	}
}

// tellConflicts logs what younger advertisements say in vain, once.
func (r *routes) tellConflicts(conflicts []bgp.Conflict) {
	const most = 20
	told := 0
	for _, c := range conflicts {
		if slices.Contains(r.conflicts, c) {
			continue
		}
		if told++; told > most {
			break
		}
		r.log.Warn("BGPAdvertisements contradict each other: the older one counts", "peer", c.Peer, "prefixes", c.Prefix.String(),
			"message", fmt.Sprintf("%s of %s counts, not that of %s", c.Field, c.Kept, c.Ignored))
	}
	r.conflicts = conflicts
}

// weights holds changes of weights back, so that pods which come and go do not
// make routers compute all the time. Whatever else changes is not held back.
type weights struct {
	interval time.Duration
	used     map[netip.Addr]int
	due      time.Time // when what has changed counts; zero when nothing has
}

// apply puts into each address the number of endpoints that counts now. again is
// when it will be another; zero for never.
func (w *weights) apply(now time.Time, addresses []bgp.Address) (out []bgp.Address, again time.Time) {
	weighted := slices.ContainsFunc(addresses, func(a bgp.Address) bool {
		return slices.ContainsFunc(a.Advertisements, func(ad *bgp.Advertisement) bool { return ad.Weight })
	})
	if !weighted {
		w.used, w.due = nil, time.Time{}
		return addresses, time.Time{}
	}
	changed := slices.ContainsFunc(addresses, func(a bgp.Address) bool {
		n, known := w.used[a.Address]
		return known && n != a.Endpoints
	})
	switch {
	case !changed:
		w.due = time.Time{}
	case w.due.IsZero():
		w.due = now.Add(w.interval)
	}
	hold := changed && w.due.After(now)
	if !hold {
		w.due = time.Time{}
	}
	used := map[netip.Addr]int{}
	for i, a := range addresses {
		if n, known := w.used[a.Address]; known && hold {
			addresses[i].Endpoints = n
		}
		used[a.Address] = addresses[i].Endpoints
	}
	w.used = used
	return addresses, w.due
}

// decidedRoute is the decision for one address that is remembered.
type decidedRoute struct {
	announcement.BGPDecision
	since time.Time // when this node began to announce it; zero when it does not
	// incomplete is what it is in remembered.
	incomplete time.Time
}
