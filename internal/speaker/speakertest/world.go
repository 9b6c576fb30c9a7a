// Package speakertest has what a speaker finds around it, for the tests of its packages:
// a [World] without sockets and goroutines, in which a test says what is there, and the
// entries, links and Speaker objects of made-up members. It writes entries by itself, not
// by the code under test.
package speakertest

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-lb/berth/internal/cluster/clustertest"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/layer2/announcer"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/prober"
	"github.com/berth-lb/berth/pkg/membership"
)

// ErrDown is what a host says that is not there.
var ErrDown = errors.New("down")

// World is the membership, the links, the prober, the announcer and the queue of one
// speaker. A test sets what the speaker finds, and reads what it did. Membership and queue
// are safe for concurrent use, and their fields while nothing of the speaker runs.
type World struct {
	Quiet
	*clustertest.Events

	t  *testing.T
	mu sync.Mutex // of what membership and queue remember
	// evaluated is closed when a snapshot was made, and confirmed counts how often others
	// were asked what became of this node's addresses; they answer when it is closed.
	evaluated chan struct{}
	confirmed int

	// Node is this one, Others are the other members, Mute the nodes whose speaker answers no ping
	// although membership hears it.
	Node   string
	Others map[string]membership.Member
	Mute   map[string]bool
	// Kernels are what the prober found of other nodes, LANs what it found of the links
	// of this one, and Local these links.
	Kernels map[string]prober.Reach
	LANs    prober.LinkReach
	Local   []links.Link
	// Heard are the conflicts that the announcer heard of. While Stuck is not nil, the
	// announcer takes nothing before it is closed.
	Heard []announcer.Conflict
	Stuck chan struct{}

	// Published are the entries of this speaker, ClaimsPublished how often it published
	// claims, and Peers which members membership was told to join.
	Published       map[string][]byte
	ClaimsPublished int
	Peers           []netip.AddrPort
	// Given is what was given to the announcer, as "address links", and Requests the last
	// for each address.
	Given    []string
	Requests map[netip.Addr]announcer.Request
	// Awaited has, for each time that the announcer was waited for, how often claims had been
	// published by then.
	Awaited []int
	// Requeued are the addresses requeued one by one, AllRequeued how often all were.
	Requeued    []netip.Addr
	AllRequeued int
	// Status is set when the Speaker object is out of date.
	Status notify.Signal
}

// NewWorld returns the world of a node, which is alone and has a link.
func NewWorld(t *testing.T, node string) *World {
	return &World{
		Events:    &clustertest.Events{T: t},
		t:         t,
		Node:      node,
		Others:    map[string]membership.Member{},
		Mute:      map[string]bool{},
		Kernels:   map[string]prober.Reach{},
		Local:     []links.Link{Link("eth0", "192.0.2.1/24")},
		Published: map[string][]byte{},
		Requests:  map[netip.Addr]announcer.Request{},
		Status:    notify.NewSignal(),
	}
}

// Members returns the others, and this node, which is alive.
func (w *World) Members() []membership.Member {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := maps.Clone(w.Others)
	all[w.Node] = membership.Member{Name: w.Node, State: membership.Alive, Values: maps.Clone(w.Published)}
	var out []membership.Member
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[name])
	}
	return out
}

// Settled returns true: the members are known.
func (w *World) Settled() bool { return true }

// SetPeers remembers the peers.
func (w *World) SetPeers(peers []netip.AddrPort) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Peers = peers
}

// Ping returns an error unless the member is alive and answers.
func (w *World) Ping(_ context.Context, node string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.Mute[node] || w.Others[node].State != membership.Alive {
		return ErrDown
	}
	return nil
}

// Confirm waits for the snapshot that [World.See] makes, if it makes one.
func (w *World) Confirm(context.Context) error {
	w.mu.Lock()
	w.confirmed++
	w.mu.Unlock()
	if w.evaluated != nil {
		<-w.evaluated
	}
	return nil
}

// Publish remembers an entry, or forgets it when its value is nil.
func (w *World) Publish(key string, value []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.HasPrefix(key, claimsPrefix) {
		w.ClaimsPublished++
	}
	if value == nil {
		delete(w.Published, key)
	} else {
		w.Published[key] = value
	}
	return nil
}

// PublishPrefix remembers entries instead of those with the prefix.
func (w *World) PublishPrefix(prefix string, values map[string][]byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if prefix == claimsPrefix {
		w.ClaimsPublished++
	}
	maps.DeleteFunc(w.Published, func(key string, _ []byte) bool { return strings.HasPrefix(key, prefix) })
	maps.Copy(w.Published, values)
	return nil
}

// Reach returns what the prober found of other nodes.
func (w *World) Reach() map[string]prober.Reach { return w.Kernels }

// LinkReach returns what the prober found of this node's links.
func (w *World) LinkReach() prober.LinkReach { return w.LANs }

// Links returns the links of this node.
func (w *World) Links() []links.Link { return w.Local }

// Conflicts returns those that the announcer heard of.
func (w *World) Conflicts() []announcer.Conflict { return w.Heard }

// Set remembers what is given to the announcer.
func (w *World) Set(addr netip.Addr, want announcer.Request) {
	if w.Stuck != nil {
		<-w.Stuck
	}
	w.Given = append(w.Given, strings.TrimSpace(addr.String()+" "+strings.Join(want.Links, ",")))
	w.Requests[addr] = want
}

// Applied remembers that the announcer was waited for.
func (w *World) Applied(time.Duration) bool {
	w.Awaited = append(w.Awaited, w.ClaimsPublished)
	return true
}

// Requeue remembers an address; a test says what is reconciled when.
func (w *World) Requeue(addr netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Requeued = append(w.Requeued, addr)
}

// RequeueAll counts how often all addresses are requeued.
func (w *World) RequeueAll() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.AllRequeued++
	return 0
}

// Publishes makes a node a member that is alive and has these entries, as [Member] takes
// them. Nothing is known of its kernel.
func (w *World) Publishes(name string, entries ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.Kernels, name)
	w.Others[name] = Member(name, membership.Alive, time.Now(), entries...)
}

// Dies has membership take a member for dead, while its kernel answers or not. Its entries
// stay remembered.
func (w *World) Dies(name string, kernelAnswers bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.Others[name]
	m.State, m.Since = membership.Dead, time.Now()
	w.Others[name] = m
	w.Kernels[name] = prober.Reach{State: prober.Silent, LastAnswer: time.Now().Add(-time.Second)}
	if kernelAnswers {
		w.Kernels[name] = prober.Reach{State: prober.Answers, LastAnswer: time.Now()}
	}
}

// Tracker makes snapshots; package members has it.
type Tracker interface {
	SawAPI(answers bool)
	Evaluate(context.Context) time.Duration
	Run(context.Context) error
}

// See has a Tracker make a new snapshot. Where the node is back on its LAN, it has asked
// the others when See returns.
func (w *World) See(tracker Tracker) { w.see(tracker, func() {}) }

// see calls before when the snapshot is made and the others have not answered.
func (w *World) see(tracker Tracker, before func()) {
	tracker.SawAPI(true)
	w.evaluated = make(chan struct{})
	tracker.Evaluate(Still())
	before()
	close(w.evaluated)
	_ = tracker.Run(Still()) // waits for what was begun, and returns nil
}

// Returns has the node lose its links and get them back, and checks that it asks the
// others. It calls before when the links are there again, and the others have not answered.
func (w *World) Returns(tracker Tracker, before func()) {
	w.t.Helper()
	up, confirmed := w.Local, w.confirmed
	w.Local = []links.Link{}
	w.see(tracker, func() {})
	w.Local = up
	w.see(tracker, before)
	if w.confirmed != confirmed+1 {
		w.t.Errorf("it asked others %d times", w.confirmed-confirmed)
	}
}

// IsStale reports, once, whether the Speaker object is out of date.
func (w *World) IsStale() bool {
	select {
	case <-w.Status.C():
		return true
	default:
		return false
	}
}

// Did checks the last thing given to the announcer, the Events, and whether the Speaker
// object became out of date, since the last time.
func (w *World) Did(given string, stale bool, emitted ...string) {
	w.t.Helper()
	if len(w.Given) == 0 || w.Given[len(w.Given)-1] != given {
		w.t.Errorf("the announcer was given %q, want %q", w.Given, given)
	}
	if !slices.Equal(w.Emitted, emitted) {
		w.t.Errorf("emitted %q, want %q", w.Emitted, emitted)
	}
	if got := w.IsStale(); got != stale {
		w.t.Errorf("the Speaker object is out of date: %t", got)
	}
	w.Given, w.Emitted = nil, nil
}

// Still returns a context that has ended: nothing that is begun with it goes on.
func Still() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// Quiet takes all that a speaker gives to its membership and its sockets, does nothing
// with it, and finds nothing. What finds something embeds it.
type Quiet struct{}

// Run returns at once.
func (Quiet) Run(context.Context) error { return nil }

// Changed returns nil: a test says when something is evaluated.
func (Quiet) Changed() <-chan struct{} { return nil }

// SetPeers does nothing.
func (Quiet) SetPeers([]netip.AddrPort) {}

// SetNodes does nothing.
func (Quiet) SetNodes([]netip.Addr) {}

// SetKeys does nothing.
func (Quiet) SetKeys([][]byte) error { return nil }

// Confirm asks nobody.
func (Quiet) Confirm(context.Context) error { return nil }

// SetLinks does nothing.
func (Quiet) SetLinks([]links.Link) {}

// SetTargets does nothing.
func (Quiet) SetTargets([]prober.Target) {}

// SetMembers does nothing.
func (Quiet) SetMembers([]net.HardwareAddr) {}

// LinkReach returns nothing: no link has lost its LAN.
func (Quiet) LinkReach() prober.LinkReach { return prober.LinkReach{} }

// DialContext returns an error: nobody answers.
func (Quiet) DialContext(context.Context, string, string) (net.Conn, error) { return nil, ErrDown }

// Set does nothing.
func (Quiet) Set(netip.Addr, announcer.Request) {}

// State returns no announcements.
func (Quiet) State() []announcer.Announcement { return nil }

// Conflicts returns none.
func (Quiet) Conflicts() []announcer.Conflict { return nil }

// Stats returns counters that are zero.
func (Quiet) Stats() announcer.Stats { return announcer.Stats{} }

// Applied returns true.
func (Quiet) Applied(time.Duration) bool { return true }

// Suspended returns false.
func (Quiet) Suspended() bool { return false }
