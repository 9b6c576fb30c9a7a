package membership

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/membership/kv"
)

// State is what is known of a member's life.
type State string

// The states of a member.
const (
	// Alive is a member that answers, or is suspected and may still refute.
	Alive State = "alive"
	// Left is a member that has left in order.
	Left State = "left"
	// Dead is a member that no longer answers and has not sent a leave notice. One that was
	// never alive here, but that others know, is dead too.
	Dead State = "dead"
)

// Member is a speaker as this member knows it.
type Member struct {
	// Name is the member's name, the node's.
	Name string
	// Addr is the address that it advertises. It is invalid while entries of the member are
	// known, but not the one with its address.
	Addr  netip.Addr
	State State
	// Since is when it came to this State, by this member's clock.
	Since time.Time
	// Values is what it publishes of itself: key to value. It is shared and never changed:
	// do not change it.
	Values map[string][]byte
	// Revision is another whenever Values is.
	Revision uint64
	// Incomplete is set when the member publishes more than this one could keep.
	Incomplete bool
	// Format is how it writes what it publishes; zero until it is known.
	Format Format
}

// memberMemory is how long a member that is gone is remembered.
const memberMemory = kv.TombstoneTTL

// member is what is known of a member, beside its entries.
type member struct {
	name string
	// addr is invalid while it is not known.
	addr netip.AddrPort
	// protocol is the newest of memberlist's protocols that it understands; 0 while that
	// is not known.
	protocol uint8
	// alive is memberlist's view, which learns a little later that a member left.
	alive bool
	state State
	since time.Time
	// format is the last one that it published.
	format Format
}

// view is what this member knows of the cluster: who is alive, and what they publish. It
// implements the callbacks of memberlist, which hold memberlist's locks: they record what
// they get and set signals, nothing else. So nothing here may call memberlist while it
// holds mu.
type view struct {
	self string
	// changed is for the user, moved for Run when a member came, went or changed,
	// or something was lost, and outgoing for the goroutine that sends what this member
	// publishes.
	changed, moved, outgoing notify.Signal

	// merges counts the whole states of other members that were merged.
	merges atomic.Uint64

	mu      sync.Mutex
	closed  bool
	members map[string]*member
	store   *kv.Store
	queue   kv.BroadcastQueue
	// pending are own keys that were not sent directly yet.
	pending map[string]bool
	// peers are sorted; peersSet is true when they were ever set.
	peers    []netip.AddrPort
	peersSet bool
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
		self:     self,
		changed:  notify.NewSignal(),
		moved:    notify.NewSignal(),
		outgoing: notify.NewSignal(),
		members:  make(map[string]*member),
		store:    kv.NewStore(self, kv.DefaultLimits),
		pending:  make(map[string]bool),
		maxState: maxState,
	}
}

// running reports whether Run runs.
func (v *view) running() bool {
	m := v.members[v.self]
	return m != nil && m.alive && !v.closed
}

// list returns the members with what they publish, sorted by name; none before and
// after Run.
func (v *view) list() []Member {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.running() {
		return nil
	}
	now := time.Now()
	out := make([]Member, 0, len(v.members))
	for _, name := range slices.Sorted(maps.Keys(v.members)) {
		m := v.members[name]
		out = append(out, Member{
			Name:       name,
			Addr:       m.addr.Addr(),
			State:      m.state,
			Since:      m.since,
			Values:     v.store.Values(name),
			Revision:   v.store.Revision(name),
			Incomplete: v.store.Incomplete(name, now),
			Format:     m.format,
		})
	}
	return out
}

// snapshot returns the members without what they publish, sorted by name; none before
// and after Run.
func (v *view) snapshot() []member {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.running() {
		return nil
	}
	out := make([]member, 0, len(v.members))
	for _, m := range v.members {
		out = append(out, *m)
	}
	slices.SortFunc(out, func(a, b member) int { return cmp.Compare(a.name, b.name) })
	return out
}

// synced reports whether the whole state of another member was merged, so that this one
// knows what it had published before a restart.
func (v *view) synced() bool { return v.merges.Load() > 0 }

// setPeers sets the peers, which are sorted. It reports whether that changes anything.
func (v *view) setPeers(peers []netip.AddrPort) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	changed := !v.peersSet || !slices.Equal(v.peers, peers)
	v.peers, v.peersSet = peers, true
	return changed
}

// knownPeers returns the peers, and whether they were ever set.
func (v *view) knownPeers() (peers []netip.AddrPort, set bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.peers, v.peersSet
}

func (v *view) isPeer(addr netip.AddrPort) bool {
	_, found := slices.BinarySearchFunc(v.peers, addr, netip.AddrPort.Compare)
	return found
}

// close makes the view empty for good, whatever callbacks are still to come.
func (v *view) close() {
	v.mu.Lock()
	v.closed = true
	v.mu.Unlock()
	v.changed.Set()
}

// forget forgets what is old: tombstones, and members that have been gone for long and
// are no peers. A peer is expected back.
func (v *view) forget(now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.store.Expire(now)
	for name, m := range v.members {
		if name != v.self && !m.alive && now.Sub(m.since) >= memberMemory && !v.isPeer(m.addr) {
			v.store.Forget(name)
			delete(v.members, name)
			v.changed.Set()
			v.moved.Set()
		}
	}
}

// update changes what is known of a member, also after its entries have changed, and
// finds out its state. That it leaves counts at once, and until the member publishes
// that it is here again: memberlist's own news of either come later and may be of the
// past.
func (v *view) update(name string, now time.Time, change func(*member)) {
	m := v.members[name]
	if m == nil {
		m = &member{name: name}
		v.members[name] = m
	}
	before := *m
	change(m)
	life, _ := v.store.Get(name, lifeKey)
	if addr, ok := lifeAddr(life.Value); ok && !m.alive {
		m.addr = addr
	}
	switch {
	case name == v.self:
		m.state = Alive
	case hasLeft(life.Value):
		m.state = Left
	case m.alive:
		m.state = Alive
	default:
		m.state = Dead
	}
	if before.state != "" && before.state != m.state || m.since.IsZero() {
		m.since = now
	}
	if name != v.self && !m.alive && !v.store.Has(name) {
		delete(v.members, name)
	}
	v.changed.Set()
	if *m != before {
		v.moved.Set()
	}
}

// NotifyJoin implements memberlist.EventDelegate.
func (v *view) NotifyJoin(n *memberlist.Node) {
	addr, _ := netip.AddrFromSlice(n.Addr)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.update(n.Name, time.Now(), func(m *member) {
		m.addr = netip.AddrPortFrom(addr.Unmap(), n.Port)
		m.protocol = n.PMax
		m.alive = true
		m.format = readFormat(n.Meta)
	})
}

// NotifyUpdate implements memberlist.EventDelegate.
func (v *view) NotifyUpdate(n *memberlist.Node) { v.NotifyJoin(n) }

// NotifyLeave implements memberlist.EventDelegate. It cannot distinguish a leave from a
// death: memberlist keeps that in a private field.
func (v *view) NotifyLeave(n *memberlist.Node) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.update(n.Name, time.Now(), func(m *member) { m.alive = false })
}

// losses count what this member could not merge or pass on.
type losses struct {
	dropped uint64 // entries that could not be kept
	refused uint64 // messages that could not be read
	cut     bool   // a whole state was too large
}

func (v *view) losses() losses {
	v.mu.Lock()
	defer v.mu.Unlock()
	return losses{v.store.Dropped(), v.refused, v.cut}
}

// contradictions returns how often this member contradicted what it cannot have
// published.
func (v *view) contradictions() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.store.Contradicted()
}

// aliveAddrs returns the addresses of the members that memberlist sees alive.
func aliveAddrs(members []member) map[netip.AddrPort]bool {
	out := make(map[netip.AddrPort]bool, len(members))
	for _, m := range members {
		if m.alive {
			out[m.addr] = true
		}
	}
	return out
}

// find returns the member with a name, from members that are sorted by name.
func find(members []member, name string) (member, bool) {
	i, ok := slices.BinarySearchFunc(members, name, func(m member, name string) int {
		return cmp.Compare(m.name, name)
	})
	if !ok {
		return member{}, false
	}
	return members[i], true
}
