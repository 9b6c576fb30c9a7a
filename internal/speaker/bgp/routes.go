package bgp

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/speaker/serviceproxy"
	"github.com/berth-lb/berth/pkg/bgp"
	"github.com/berth-lb/berth/pkg/config"
)

// gatherChanges is how long a change waits for others, so that one plan serves
// them all.
const gatherChanges = 3 * time.Millisecond

// routes makes of the decisions for all addresses what is announced to each BGP peer, and
// follows what becomes of the sessions. Its goroutine is run.
type routes struct {
	node      string
	cluster   *cluster.Reader
	config    *cluster.Config
	settled   notify.Latch
	queue     Requeuer
	decisions *decisions
	speaker   Speaker
	sessions  *sessions
	bfd       *bfdSessions
	loops     *kube.Loops
	log       *slog.Logger
	weights   weights
	toRoute   prometheus.Observer // of seconds from a decision to a route

	again notify.Signal // plan again

	// What follows belongs to run.

	sweep     sweep // the one that the next plan waits for
	planned   uint64
	complete  bool      // it is known of every address whether it is announced
	began     time.Time // when the first plan was made
	self      config.Node
	cordoned  bool
	known     map[netip.Addr]bool         // what was in the last plan
	waiting   map[netip.Addr]pendingRoute // on the way to a session
	conflicts []bgp.Conflict              // that were logged
	// nextFollow is when to follow the sessions although they do not change; zero for never.
	nextFollow time.Time

	mu      sync.Mutex
	asked   sweep         // the last that was asked for; the next plan waits for it
	left    bool          // the sessions have ended for good
	longest time.Duration // that a peer wants routes to be avoided before they go
}

// sweep is a sweep of the queue over all addresses, and what was known when it was asked
// for.
type sweep struct {
	number   uint64 // 0 for none
	revision uint64 // of the configuration
	settled  bool
}

// pendingRoute is a new address on its way to a session.
type pendingRoute struct {
	since  time.Time // when it was decided
	serial uint64    // of the state that has it
}

func newRoutes(c Config, owner *Controller) *routes {
	return &routes{
		node:      c.Node,
		cluster:   c.Cluster,
		config:    c.Config,
		settled:   c.Settled,
		queue:     c.Queue,
		decisions: owner.decisions,
		speaker:   c.Speaker,
		sessions:  owner.sessions,
		bfd:       owner.bfd,
		loops:     c.Loops,
		log:       c.Logger,
		weights:   weights{interval: c.WeightInterval},
		toRoute:   owner.metrics.toRoute,
		again:     notify.NewSignal(),
	}
}

// run plans whenever something changed, until ctx ends. It needs the configuration, but
// no other speakers: each node announces by itself.
func (r *routes) run(ctx context.Context) error {
	select {
	case <-r.config.Known().C():
	case <-ctx.Done():
		return nil
	}
	pass := r.loops.Loop("routes")
	timer, follow := time.NewTimer(0), time.NewTimer(0)
	defer timer.Stop()
	defer follow.Stop()
	for first := true; ; first = false {
		if follow.Stop(); !r.nextFollow.IsZero() {
			follow.Reset(time.Until(r.nextFollow))
		}
		if !first {
			select {
			case <-ctx.Done():
				return nil
			case <-r.speaker.Changed():
				pass.Begin()
				r.follow()
				pass.End()
				continue
			case <-follow.C:
				pass.Begin()
				r.follow()
				pass.End()
				continue
			case <-r.queue.SweepEnded():
				if r.planned >= r.sweep.number {
					continue // it was asked for by somebody else
				}
			case <-r.again.C():
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

// plan gives the sessions what follows from all decisions, unless these are of another
// configuration yet. It returns after how long to plan again.
func (r *routes) plan(ctx context.Context) time.Duration {
	const idle, retry = time.Hour, time.Second
	c, decided, swept := r.decided()
	if !swept {
		return idle // until the sweep ends
	}
	if err := r.readNode(ctx); err != nil {
		r.log.Error("cannot read this node", "node", r.node, "error", err)
		return retry
	}

	now := time.Now()
	awaits := r.awaitProxyUntil(now, decided)
	// Of a cordoned node it is not known before what it announces.
	r.complete = r.complete || awaits.IsZero() && (r.sweep.settled || !r.cordoned)
	r.planned = r.sweep.number
	peers, problems := peersOf(&c, r.self)
	addresses, again := r.weights.apply(now, addressesOf(decided))
	planned := bgp.Plan(now, peers, addresses)

	serial, ok := r.set(planned.Desired)
	if !ok {
		return idle
	}
	r.sessions.configure(planned.Desired, problems)
	r.bfd.configure(watchedPeers(&c, peers), peers, r.speaker.State())
	r.logConflicts(planned.Conflicts)
	r.follow()
	r.await(decided, serial)

	wait := idle
	for _, at := range []time.Time{again, planned.Again, awaits} {
		if !at.IsZero() {
			wait = min(wait, max(at.Sub(now), time.Millisecond))
		}
	}
	return wait
}

// sweepAll has every address reconciled, and the next plan wait for it.
func (r *routes) sweepAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, revision := r.config.Current()
	r.asked = sweep{revision: revision, settled: r.settled.IsSet()}
	r.asked.number = r.queue.RequeueAll()
}

// decided returns the configuration in force and the decisions of all addresses by it.
// swept is false as long as some are by an earlier one: then they are being reconciled,
// and the queue says when that is done.
func (r *routes) decided() (c config.Config, all map[netip.Addr]decision, swept bool) {
	for {
		r.mu.Lock()
		r.sweep = r.asked
		r.mu.Unlock()
		all = r.decisions.all()
		current, revision := r.config.Current()
		if revision == r.sweep.revision {
			return current, all, r.queue.Swept() >= r.sweep.number
		}
		r.sweepAll()
	}
}

// awaitProxyUntil returns until when a route is waited for of which the service proxy has
// yet to say that it has programmed the endpoints; zero for none. What was decided counts,
// and not what the proxy has answered: an answer may still wait to be reconciled. It is
// waited for only while a speaker starts, as something new may come all the time.
func (r *routes) awaitProxyUntil(now time.Time, decided map[netip.Addr]decision) time.Time {
	if r.complete {
		return time.Time{}
	}
	if r.began.IsZero() {
		r.began = now
	}
	until := r.began.Add(2 * serviceproxy.Grace)
	if !now.Before(until) {
		return time.Time{}
	}
	for _, d := range decided {
		if d.Reason == v1beta1.ReasonProxyNotReady {
			return until
		}
	}
	return time.Time{}
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
// they are withdrawn, and then the sessions are closed with a NOTIFICATION.
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
	node, cordoned, err := r.cluster.Node(ctx, r.node)
	if err == nil {
		r.self, r.cordoned = node, cordoned
	}
	if apierrors.IsNotFound(err) && r.self.Name != "" {
		return nil
	}
	return err
}

// peersOf returns the peers that select a node, as the node talks to them, and by
// name what of others, or of these, cannot be in force on it.
func peersOf(c *config.Config, node config.Node) (peers []bgp.Peer, problems map[string]sessionProblem) {
	problems = map[string]sessionProblem{}
	for _, p := range c.PeersOn(node) {
		if reason, message := p.Lacking(); reason != "" {
			problems[p.Name] = sessionProblem{reason, message}
		}
		if p.InForce() {
			peers = append(peers, p.Peer)
		}
	}
	return peers, problems
}

// addressesOf returns those of all decisions that announce, sorted, and those that would
// if a session carried their family: the Speaker object says so of their peers.
func addressesOf(decided map[netip.Addr]decision) []bgp.Address {
	var out []bgp.Address
	for addr, d := range decided {
		if route, ok := d.Route(addr); ok {
			out = append(out, route)
		}
	}
	slices.SortFunc(out, func(a, b bgp.Address) int { return a.Address.Compare(b.Address) })
	return out
}

// await remembers which addresses are new in a plan, to measure how long they
// take to a session. Those of before this speaker started are not, nor those
// that no session is there for.
func (r *routes) await(decided map[netip.Addr]decision, serial uint64) {
	now := map[netip.Addr]bool{}
	waiting := map[netip.Addr]pendingRoute{}
	for addr, d := range decided {
		if !d.Announce {
			continue
		}
		now[addr] = true
		if w, already := r.waiting[addr]; already {
			waiting[addr] = w
		} else if r.known != nil && !r.known[addr] && r.sessions.anyEstablished() {
			waiting[addr] = pendingRoute{d.since, serial}
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
	r.nextFollow = r.sessions.follow(time.Now(), state)
	r.bfd.update(state)
	for addr, w := range r.waiting {
		for _, s := range state {
			if s.State == bgp.SessionEstablished && s.Handed >= w.serial {
				r.toRoute.Observe(max(s.HandedAt.Sub(w.since), 0).Seconds())
				delete(r.waiting, addr)
				break
			}
		}
	}
}

// logConflicts logs what younger advertisements say in vain, once.
func (r *routes) logConflicts(conflicts []bgp.Conflict) {
	const most = 20
	logged := 0
	for _, c := range conflicts {
		if slices.Contains(r.conflicts, c) {
			continue
		}
		if logged++; logged > most {
			break
		}
		r.log.Warn("BGPAdvertisements contradict each other: the older one counts",
			"peer", c.Peer, "prefix", c.Prefix.String(),
			"message", fmt.Sprintf("%s of %s counts, not that of %s", c.Field, c.Kept, c.Ignored))
	}
	r.conflicts = conflicts
}

// weights holds changes of weights back, so that pods which come and go do not
// make routers compute all the time. Whatever else changes is not held back.
type weights struct {
	interval time.Duration
	used     map[netip.Addr]int
	applyAt  time.Time // when what has changed counts; zero when nothing has
}

// apply puts into each address the number of endpoints that counts now. again is
// when it will be another; zero for never.
func (w *weights) apply(now time.Time, addresses []bgp.Address) (out []bgp.Address, again time.Time) {
	weighted := slices.ContainsFunc(addresses, func(a bgp.Address) bool {
		return slices.ContainsFunc(a.Advertisements, func(ad *bgp.Advertisement) bool { return ad.Weight })
	})
	if !weighted {
		w.used, w.applyAt = nil, time.Time{}
		return addresses, time.Time{}
	}
	changed := slices.ContainsFunc(addresses, func(a bgp.Address) bool {
		n, known := w.used[a.Address]
		return known && n != a.Endpoints
	})
	switch {
	case !changed:
		w.applyAt = time.Time{}
	case w.applyAt.IsZero():
		w.applyAt = now.Add(w.interval)
	}
	hold := changed && w.applyAt.After(now)
	if !hold {
		w.applyAt = time.Time{}
	}
	used := map[netip.Addr]int{}
	for i, a := range addresses {
		if n, known := w.used[a.Address]; known && hold {
			addresses[i].Endpoints = n
		}
		used[a.Address] = addresses[i].Endpoints
	}
	w.used = used
	return addresses, w.applyAt
}
