package membership

import (
	"bytes"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/memberlist"
)

// Member is a member that is alive.
type Member struct {
	// Name is the member's name, the node's.
	Name string
	// Addr is the address that it advertises.
	Addr netip.Addr
	// Meta is what it last said by SetMeta, empty when it said nothing.
	Meta []byte
}

// entry is a member as the view holds it; port tells a peer from others on the
// same address.
type entry struct {
	Member
	port uint16
}

// view is this member's picture of the cluster and what it says of itself. It
// implements the callbacks of memberlist, which hold memberlist's locks: they copy
// what they are told and say "look again", nothing else.
type view struct {
	// Both are channels of one: changed for the user, look for Run.
	changed chan struct{}
	look    chan struct{}

	mu    sync.Mutex
	alive map[string]entry
	meta  []byte
}

var (
	_ memberlist.Delegate      = (*view)(nil)
	_ memberlist.EventDelegate = (*view)(nil)
)

func newView() *view {
	return &view{
		changed: make(chan struct{}, 1),
		look:    make(chan struct{}, 1),
		alive:   make(map[string]entry),
	}
}

// members returns copies of the members, sorted by name.
func (v *view) members() []entry {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := slices.Collect(maps.Values(v.alive))
	for i := range out {
		out[i].Meta = bytes.Clone(out[i].Meta)
	}
	slices.SortFunc(out, func(a, b entry) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// setMeta reports whether it changed.
func (v *view) setMeta(meta []byte) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if bytes.Equal(v.meta, meta) {
		return false
	}
	v.meta = bytes.Clone(meta)
	return true
}

// close makes the view empty for good, whatever callbacks are still to come.
func (v *view) close() {
	v.mu.Lock()
	v.alive = nil
	v.mu.Unlock()
	signal(v.changed)
}

func (v *view) put(n *memberlist.Node) {
	addr, _ := netip.AddrFromSlice(n.Addr)
	e := entry{Member{Name: n.Name, Addr: addr.Unmap(), Meta: bytes.Clone(n.Meta)}, n.Port}
	v.mu.Lock()
	if v.alive != nil {
		v.alive[n.Name] = e
	}
	v.mu.Unlock()
	signal(v.changed)
	signal(v.look)
}

// NotifyJoin implements memberlist.EventDelegate.
func (v *view) NotifyJoin(n *memberlist.Node) { v.put(n) }

// NotifyUpdate implements memberlist.EventDelegate.
func (v *view) NotifyUpdate(n *memberlist.Node) { v.put(n) }

// NotifyLeave implements memberlist.EventDelegate.
func (v *view) NotifyLeave(n *memberlist.Node) {
	v.mu.Lock()
	delete(v.alive, n.Name)
	v.mu.Unlock()
	signal(v.changed)
	signal(v.look)
}

// NodeMeta implements memberlist.Delegate.
func (v *view) NodeMeta(int) []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	return bytes.Clone(v.meta)
}

// NotifyMsg implements memberlist.Delegate; there are no messages.
func (*view) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate; there are none of our own.
func (*view) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate; there is none but the meta data.
func (*view) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (*view) MergeRemoteState([]byte, bool) {}

// signal puts a value into a channel of one that has none.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
