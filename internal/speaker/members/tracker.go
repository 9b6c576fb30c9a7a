package members

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"sync"
	"time"

	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/config"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/prober"
	"github.com/berth-lb/berth/pkg/membership"
)

// Membership is the membership of speakers, of which this one is a member.
type Membership interface {
	Publisher
	Run(context.Context) error
	Changed() <-chan struct{}
	Members() []membership.Member
	// Settled reports whether this member knows which others are alive.
	Settled() bool
	SetPeers([]netip.AddrPort)
	SetNodes([]netip.Addr)
	SetKeys([][]byte) error
	Ping(ctx context.Context, node string) error
	// Confirm asks another member what became of this node's addresses.
	Confirm(context.Context) error
}

// Prober probes the kernels of other nodes.
type Prober interface {
	Changed() <-chan struct{}
	SetLinks([]links.Link)
	SetTargets([]prober.Target)
	Reach() map[string]prober.Reach
	LinkReach() prober.LinkReach
}

// Announcer distinguishes frames of other nodes from those of foreign hosts.
type Announcer interface {
	SetLinks([]links.Link)
	SetMembers([]net.HardwareAddr)
}

// LinkSource knows the links of this node.
type LinkSource interface {
	Changed() <-chan struct{}
	// Links returns nil while they are not known.
	Links() []links.Link
}

// Dialer connects to the port of other speakers; [net.Dialer] is one.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Configuration has the configuration in force, and its revision.
type Configuration interface {
	Current() (config.Config, uint64)
}

// Room reports whether this node has room for more claims. [Claims] implements it.
type Room interface {
	IsFull() bool
}

// Requeuer requeues addresses, to have them reconciled.
type Requeuer interface {
	Requeue(netip.Addr)
	RequeueAll() (number uint64)
}

// Pass records when a pass of the Tracker begins and ends.
type Pass interface {
	Begin()
	End()
}

// Config is what a [Tracker] needs. All of it is required but ExcludeLinks.
type Config struct {
	// Node is this node, Address the one at which this speaker is a member.
	Node    string
	Address netip.Addr
	Grace   announcement.GracePeriods
	// ExcludeLinks match links that are used only if an advertisement names them.
	ExcludeLinks []*regexp.Regexp
	// IgnoreExclude is set if this speaker ignores the exclude label, IgnoreCordon if it
	// ignores a cordon.
	IgnoreExclude bool
	IgnoreCordon  bool

	Configuration Configuration
	Membership    Membership
	Links         LinkSource
	Prober        Prober
	Announcer     Announcer
	Dialer        Dialer
	Room          Room

	Requeue Requeuer
	// Status is set when the Speaker object is to be written again.
	Status notify.Signal
	Pass   Pass
	Log    *slog.Logger
}

// Tracker knows which speakers are there. It follows links, members, probes, Speaker
// objects and time, publishes what this node sees, and requeues addresses when that has
// changed. It is safe for concurrent use.
type Tracker struct {
	c     Config
	wake  notify.Signal // objects, configuration or pings changed
	tasks sync.WaitGroup
	// asking are the tasks that find out whether this speaker has contact.
	asking sync.WaitGroup

	// evaluating is held while a snapshot is made: what is seen later is published
	// later.
	evaluating sync.Mutex
	states     states

	mu   sync.Mutex
	own  ownState
	last presence.Snapshot
	// speakers are those of last and this node's own; nil if they have changed since.
	speakers map[string]announcement.Speaker
	// objects are the Speaker objects of other nodes, pings the last results of pings,
	// pinging the nodes that are being pinged.
	objects map[string]presence.Object
	pings   map[string]presence.Ping
	pinging map[string]bool
	// disconnectedUntil is until when this node could see none of the others.
	disconnectedUntil time.Time
	// api and others are the connections to the rest of the cluster; askingAPI is set while
	// a task asks whether the API server answers.
	api, others presence.Contact
	askingAPI   bool
}

// New returns a Tracker that knows nobody yet, and publishes whether this speaker ignores
// marks. It starts nothing.
func New(c Config) (*Tracker, error) {
	t := &Tracker{
		c:       c,
		wake:    notify.NewSignal(),
		states:  states{},
		pings:   map[string]presence.Ping{},
		pinging: map[string]bool{},
	}
	if err := c.Membership.Publish(keyIgnoresExclude, encodeFlag(c.IgnoreExclude)); err != nil {
		return nil, err
	}
	if err := c.Membership.Publish(keyIgnoresCordon, encodeFlag(c.IgnoreCordon)); err != nil {
		return nil, err
	}
	return t, nil
}

// Wake has the Tracker evaluate again.
func (t *Tracker) Wake() { t.wake.Set() }

// Run follows what changes until ctx ends.
func (t *Tracker) Run(ctx context.Context) error {
	defer t.tasks.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-t.c.Links.Changed():
			now := t.c.Links.Links()
			t.c.Announcer.SetLinks(now)
			t.c.Prober.SetLinks(now)
		case <-t.c.Membership.Changed():
		case <-t.c.Prober.Changed():
		case <-t.wake.C():
		case <-timer.C:
		}
		begin := time.Now()
		t.c.Pass.Begin()
		again := t.Evaluate(ctx)
		t.c.Pass.End()
		rest(ctx, time.Since(begin))
		timer.Reset(again)
	}
	return nil
}

// rest waits for some times as long as the last evaluation took. So thousands of claims,
// which come in hundreds of messages, are evaluated together, and leave processor time for
// acting on them.
func rest(ctx context.Context, took time.Duration) {
	const times, most = 4, 50 * time.Millisecond
	select {
	case <-ctx.Done():
	case <-time.After(min(times*took, most)):
	}
}

// Evaluate makes a new snapshot from all observations, and requeues the addresses that the
// difference concerns. It returns after how long the snapshot may change by itself.
func (t *Tracker) Evaluate(ctx context.Context) time.Duration {
	const idle = time.Hour
	t.evaluating.Lock()
	defer t.evaluating.Unlock()
	moved, back := t.refreshLinks()
	if moved {
		t.publish(keyLink, encodeLinks(t.OwnLinks()))
	}
	if back {
		t.MarkDisconnected()
		t.comeBack(ctx)
	}
	t.publish(keyProbe, encodeReports(t.ownReports()))

	now := time.Now()
	s := t.refresh(now)

	t.pingQuestionable(ctx)
	t.c.Prober.SetTargets(targetsOf(s.Targets(t.c.Node, t.OwnLinks(), t.c.Prober.LinkReach().Suspect)))
	t.c.Announcer.SetMembers(s.HardwareAddrs())
	switch {
	case moved || s.MembersChanged:
		t.c.Requeue.RequeueAll()
		t.c.Status.Set()
	default:
		for _, addr := range s.ClaimsChanged {
			t.c.Requeue.Requeue(addr)
		}
	}
	if s.AbsentChanged {
		t.c.Status.Set()
	}
	again := idle
	for _, at := range []time.Time{s.Recheck, s.AbsentDue} {
		if !at.IsZero() {
			again = min(again, max(at.Sub(now), time.Millisecond))
		}
	}
	return again
}

// refresh makes a new snapshot, for a caller that holds evaluating.
func (t *Tracker) refresh(now time.Time) presence.Snapshot {
	members := t.states.observe(t.c.Membership.Members())
	prev, obs := t.observe()
	obs.Members = members

	next := presence.Next(prev, obs, now)

	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = next
	if next.MembersChanged {
		t.speakers = nil
	}
	maps.DeleteFunc(t.pings, func(node string, _ presence.Ping) bool {
		_, known := next.Members[node]
		return !known
	})
	return next
}

// observe returns the last snapshot, and the observations that make the next one, except
// those of membership.
func (t *Tracker) observe() (presence.Snapshot, presence.Observations) {
	reach, linkReach := reachOf(t.c.Prober.Reach()), presence.LinkReach(t.c.Prober.LinkReach())
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last, presence.Observations{
		Node:              t.c.Node,
		Grace:             t.c.Grace,
		OwnLinks:          t.own.links,
		Objects:           t.objects,
		Reach:             reach,
		LinkReach:         linkReach,
		Pings:             maps.Clone(t.pings),
		DisconnectedUntil: t.disconnectedUntil,
		API:               t.api.Trusted,
		Others:            t.others.Trusted,
	}
}

// reachOf returns what probes have found, as values.
func reachOf(found map[string]prober.Reach) map[string]presence.Reach {
	states := map[prober.Reachability]presence.Reachability{
		prober.Answers: presence.Answers,
		prober.Silent:  presence.Silent,
	}
	out := make(map[string]presence.Reach, len(found))
	for node, r := range found {
		out[node] = presence.Reach{State: states[r.State], LastAnswer: r.LastAnswer, Missed: r.Missed}
	}
	return out
}

// targetsOf returns targets as the prober takes them.
func targetsOf(targets []presence.Target) []prober.Target {
	out := make([]prober.Target, len(targets))
	for i, t := range targets {
		out[i] = prober.Target(t)
	}
	return out
}

// ownReports returns what this node reports about the others.
func (t *Tracker) ownReports() map[string]presence.ProbeReport {
	last, obs := t.observe()
	return presence.OwnReports(last, obs)
}

// comeBack asks the other members on behalf of a returning node, before it announces
// anything. Each return asks for itself: answers to an earlier one are from before the
// links were lost again.
func (t *Tracker) comeBack(ctx context.Context) {
	t.tasks.Go(func() {
		t.confirm(ctx)
		t.Evaluate(ctx)
		t.returned()
		t.c.Requeue.RequeueAll()
	})
}

// confirmTimeout is how long a speaker that was stalled or cut off waits for an answer of
// another before it continues alone.
const confirmTimeout = 3 * time.Second

func (t *Tracker) confirm(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	if err := t.c.Membership.Confirm(bounded); err != nil && ctx.Err() == nil {
		t.c.Log.Warn("no other speaker reachable; continuing alone", "error", err)
	}
}

// Reconnect asks the other members what became of this node's addresses while its process
// was stalled, and evaluates the answers.
func (t *Tracker) Reconnect(ctx context.Context) {
	t.MarkDisconnected()
	t.confirm(ctx)
	t.Evaluate(ctx)
}

// MarkDisconnected records that this node could see none of the others until now.
func (t *Tracker) MarkDisconnected() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.disconnectedUntil = time.Now()
}

// Current returns the last snapshot.
func (t *Tracker) Current() presence.Snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// publish publishes all entries with a prefix.
func (t *Tracker) publish(prefix string, values map[string][]byte) {
	if err := t.c.Membership.PublishPrefix(prefix, values); err != nil {
		t.c.Log.Error("cannot publish to other speakers", "error", err)
	}
}

// Settle waits until this member knows which others are alive, for timeout at most.
func (t *Tracker) Settle(ctx context.Context, timeout time.Duration) {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for !t.c.Membership.Settled() {
		select {
		case <-ctx.Done():
			return
		case <-deadline.C:
			t.c.Log.Warn("no other speaker found in time; continuing with those that are known",
				"count", len(t.c.Membership.Members()))
			return
		case <-again.C:
		}
	}
	t.c.Log.Info("other speakers found", "count", len(t.c.Membership.Members())-1)
}

// HasMet reports whether membership sees another speaker alive.
func (t *Tracker) HasMet() bool {
	for _, m := range t.c.Membership.Members() {
		if m.Name != t.c.Node && m.State == membership.Alive {
			return true
		}
	}
	return false
}

// ClaimedBefore returns what this node's speaker claimed before its restart: as the others
// remember it, and as its object lists it, in case they were restarted too.
func (t *Tracker) ClaimedBefore(object map[netip.Addr]announcement.Claim) map[netip.Addr]announcement.Claim {
	var remembered map[netip.Addr]announcement.Claim
	for _, m := range t.c.Membership.Members() {
		if m.Name == t.c.Node {
			remembered = decodeState(m.Values).Claims
		}
	}
	return presence.HigherClaims(remembered, object)
}
