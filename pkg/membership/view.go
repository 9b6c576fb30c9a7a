package membership

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// State is what is known of a member's life.
type State string

// The states of a member.
const (
	// Alive is a member that answers, or is suspected and may still refute.
	Alive State = "alive"
	// Left is a member that said goodbye.
	Left State = "left"
	// Dead is a member that does not answer any more and did not say goodbye. One
	// that was never alive here, but that others told of, is dead too.
	Dead State = "dead"
)

// Member is a speaker as this member knows it.
type Member struct {
	// Name is the member's name, the node's.
	Name string
	// Addr is the address that it advertises. It is invalid when nothing but
	// statements that do not tell it were heard of the member.
	Addr  netip.Addr
	State State
	// Since is when it came to this State, by this member's clock.
	Since time.Time
	// Said is what it says of itself: key to value. It is shared and never changed:
	// do not change it.
	Said map[string][]byte
	// Revision is another whenever Said is.
	Revision uint64
	// Incomplete is set when the member says more than this one could keep.
	Incomplete bool
	// Format is how it writes what it says; zero until it is known.
	Format Format
}

// person is a member as the view holds it.
type person struct {
	// node is where to reach it; a copy, because memberlist changes its own.
	node memberlist.Node
	addr netip.AddrPort
	// alive is what memberlist says.
	alive bool
	state State
	since time.Time
	// format is the one that it told last.
	format Format
}

// view is this member's picture of the cluster: who is alive, and what they say.
// It implements the callbacks of memberlist, which hold memberlist's locks: they
// take in what they are told and say "look again", nothing else. So nothing here
// may call memberlist while it holds mu.
type view struct {
	self string
	// They are channels of one: changed for the user, look for Run, and spread for
	// the goroutine that sends what this member says.
	changed chan struct{}
	look    chan struct{}
	spread  chan struct{}

	mu     sync.Mutex
	closed bool
	people map[string]*person
	store  *statements
	outbox outbox
	// pending are own keys that were not sent directly yet.
	pending map[string]bool
	peers   map[netip.AddrPort]bool
	// met is true when the whole state of another member was merged, merges how many
	// were.
	met    bool
	merges atomic.Uint64
	// maxState is the largest whole state, in bytes.
	maxState int
	// turn is who comes first among the others in the next whole state.
	turn int
	// cut is true when a whole state was too large and something was left out.
	cut bool
	// refused counts messages that could not be read.
	refused uint64
}

var (
	_ memberlist.Delegate      = (*view)(nil)
	_ memberlist.EventDelegate = (*view)(nil)
)

func newView(self string) *view {
	return &view{
		self:    self,
		changed: make(chan struct{}, 1),
		look:    make(chan struct{}, 1),
		spread:  make(chan struct{}, 1),
		people:  make(map[string]*person),
		store:   newStatements(self, defaultLimits),
		pending: make(map[string]bool),

		maxState: maxState,
	}
}

// here reports whether Run runs.
func (v *view) here() bool {
	p := v.people[v.self]
	return p != nil && p.alive && !v.closed
}

// members returns the members, sorted by name; none before and after Run.
func (v *view) members() []Member {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.here() {
		return nil
	}
	now := time.Now()
	out := make([]Member, 0, len(v.people))
	for _, name := range slices.Sorted(maps.Keys(v.people)) {
		p := v.people[name]
		m := Member{Name: name, Addr: p.addr.Addr(), State: p.state, Since: p.since, Said: v.store.said(name), Format: p.format}
		if b := v.store.books[name]; b != nil {
			m.Revision, m.Incomplete = b.revision, b.incomplete(now)
		}
		out = append(out, m)
	}
	return out
}

// acquaintance is a member as Run needs to know it; port tells a peer from others
// on the same address.
type acquaintance struct {
	name  string
	addr  netip.AddrPort
	state State
	// alive is what memberlist says, which hears of a goodbye a little later.
	alive  bool
	format Format
}

// acquaintances returns the members, sorted by name; none before and after Run.
func (v *view) acquaintances() []acquaintance {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.here() {
		return nil
	}
	out := make([]acquaintance, 0, len(v.people))
	for _, name := range slices.Sorted(maps.Keys(v.people)) {
		p := v.people[name]
		out = append(out, acquaintance{name: name, addr: p.addr, state: p.state, alive: p.alive, format: p.format})
	}
	return out
}

// hasMet reports whether the whole state of another member was merged, so that
// this one knows what it said before a restart.
func (v *view) hasMet() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.met
}

func (v *view) setPeers(peers []netip.AddrPort) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.peers = make(map[netip.AddrPort]bool, len(peers))
	for _, p := range peers {
		v.peers[p] = true
	}
}

// close makes the view empty for good, whatever callbacks are still to come.
func (v *view) close() {
	v.mu.Lock()
	v.closed = true
	v.mu.Unlock()
	signal(v.changed)
}

// forget forgets what is old: deletions, and members that have been gone for long
// and are no peers. A peer is expected back.
func (v *view) forget(now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.store.expire(now)
	for name, p := range v.people {
		if name != v.self && !p.alive && now.Sub(p.since) >= memory && !v.peers[p.addr] {
			v.store.forget(name)
			delete(v.people, name)
			signal(v.changed)
			signal(v.look)
		}
	}
}

// judge finds out the state of a member after something about it changed. A
// goodbye counts at once, and until the member says that it is here again:
// memberlist's own news of either come later and may be of the past.
func (v *view) judge(name string, now time.Time) {
	p := v.people[name]
	life, _ := v.store.get(name, lifeKey)
	if addr, ok := lifeAddr(life.value); ok && !p.alive {
		p.addr = addr
	}
	state := Dead
	switch {
	case name == v.self:
		state = Alive
	case hasLeft(life.value):
		state = Left
	case p.alive:
		state = Alive
	}
	if p.state != "" && p.state != state || p.since.IsZero() {
		p.since = now
	}
	p.state = state
	if name != v.self && !p.alive && v.store.books[name] == nil {
		delete(v.people, name)
	}
	signal(v.changed)
	signal(v.look)
}

func (v *view) person(name string) *person {
	p := v.people[name]
	if p == nil {
		p = new(person)
		v.people[name] = p
	}
	return p
}

// NotifyJoin implements memberlist.EventDelegate.
func (v *view) NotifyJoin(n *memberlist.Node) {
	addr, _ := netip.AddrFromSlice(n.Addr)
	v.mu.Lock()
	defer v.mu.Unlock()
	p := v.person(n.Name)
	p.addr, p.alive = netip.AddrPortFrom(addr.Unmap(), n.Port), true
	p.format = readFormat(n.Meta)
	p.node = memberlist.Node{Name: n.Name, Addr: slices.Clone(n.Addr), Port: n.Port, PMin: n.PMin, PMax: n.PMax, PCur: n.PCur}
	v.judge(n.Name, time.Now())
}

// NotifyUpdate implements memberlist.EventDelegate.
func (v *view) NotifyUpdate(n *memberlist.Node) { v.NotifyJoin(n) }

// NotifyLeave implements memberlist.EventDelegate. It cannot tell a goodbye from a
// death: memberlist keeps that in a field that it does not show.
func (v *view) NotifyLeave(n *memberlist.Node) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.person(n.Name).alive = false
	v.judge(n.Name, time.Now())
}

// losses are what this member could not take in or tell.
type losses struct {
	dropped uint64 // statements that could not be kept
	refused uint64 // messages that could not be read
	cut     bool   // a whole state was too large
}

func (v *view) losses() losses {
	v.mu.Lock()
	defer v.mu.Unlock()
	return losses{v.store.dropped, v.refused, v.cut}
}

// contradictions returns how often this member contradicted what it cannot have said.
func (v *view) contradictions() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.store.contradicted
}

// signal puts a value into a channel of one that has none.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// isAlive reports whether memberlist says that a peer is alive.
func isAlive(all []acquaintance, peer netip.AddrPort) bool {
	return slices.ContainsFunc(all, func(a acquaintance) bool { return a.alive && a.addr == peer })
}

func indexOf(all []acquaintance, name string) int {
	i, ok := slices.BinarySearchFunc(all, name, func(a acquaintance, name string) int { return strings.Compare(a.name, name) })
	if !ok {
		return -1
	}
	return i
}
