package membership

import (
	"net/netip"
	"time"

	"github.com/berth-lb/berth/pkg/membership/kv"
)

// publish sets a key of this member, or deletes it when value is nil.
func (v *view) publish(key string, value []byte) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	changed, ok := v.store.Set(time.Now(), key, value)
	if changed {
		v.send(key)
	}
	return ok
}

// publishPrefix makes what this member publishes under the prefix exactly these values.
func (v *view) publishPrefix(prefix string, values map[string][]byte) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	changed, ok := v.store.SetPrefix(time.Now(), prefix, values)
	v.send(changed...)
	return ok
}

// send has own entries sent.
func (v *view) send(keys ...string) {
	for _, key := range keys {
		v.pending[key] = true
	}
	if len(keys) > 0 {
		v.outgoing.Set()
		v.changed.Set()
	}
}

// NodeMeta implements memberlist.Delegate. It carries the format of this member for those
// that cannot read its messages; everything else travels in these.
func (*view) NodeMeta(int) []byte { return ownFormat.meta() }

// NotifyMsg implements memberlist.Delegate.
func (v *view) NotifyMsg(message []byte) { v.merge(message) }

// MergeRemoteState implements memberlist.Delegate.
func (v *view) MergeRemoteState(message []byte, _ bool) {
	if v.merge(message) {
		v.merges.Add(1)
		v.moved.Set()
	}
}

// merge merges a message, and passes on what is new in it. It reports false, and merges
// nothing, if the message cannot be read.
func (v *view) merge(message []byte) bool {
	now := time.Now()
	err := kv.Unpack(message, now, nil)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil {
		v.refused++
		v.moved.Set()
		return false
	}
	if v.closed {
		return true
	}
	touched := make(map[string]time.Time) // since when it would be gone, were it new
	skip, last := false, ""
	_ = kv.Unpack(message, now, func(of kv.Section, key string, e kv.Entry) {
		if of.Member != last {
			last, skip = of.Member, v.forgotten(of, key, e)
		}
		if skip {
			return
		}
		switch v.store.Merge(now, of.Member, key, e) {
		case kv.Merged:
			v.queue.Add(kv.Ref{Member: of.Member, Key: key})
			if _, again := touched[of.Member]; !again {
				touched[of.Member] = now.Add(-of.Gone)
			}
		case kv.Reasserted:
			v.pending[key] = true
			v.outgoing.Set()
		case kv.NoRoom:
			v.moved.Set()
			v.changed.Set()
		}
	})
	for name, since := range touched {
		if v.members[name] == nil && name == v.self {
			continue // Run has not begun
		}
		v.update(name, now, func(m *member) {
			if m.since.IsZero() {
				m.since = since
			}
		})
	}
	return true
}

// forgotten reports whether a member is not worth remembering: it has been gone for long
// and is no peer. It gets the first entry of a section, which has the address.
func (v *view) forgotten(of kv.Section, key string, e kv.Entry) bool {
	if v.members[of.Member] != nil || of.Alive || of.Gone < memberMemory {
		return false
	}
	addr, ok := lifeAddr(e.Value)
	return key != lifeKey || !ok || !v.isPeer(addr)
}

// section returns what this member thinks of another, or of itself, for a message.
func (v *view) section(name string, now time.Time) kv.Section {
	of := kv.Section{Member: name, Alive: true}
	if m := v.members[name]; m != nil && m.state != Alive && name != v.self {
		of.Alive, of.Gone = false, now.Sub(m.since)
	}
	return of
}

// lifeKey is the key under which each member publishes that it is here, and where, or
// that it has left. Users cannot publish anything under it.
const lifeKey = kv.Hidden

// The value of lifeKey is one byte, the port, the size of the address and the address. What
// follows belongs to a later version.
const (
	lifeHere = 1
	lifeLeft = 0
)

func lifeValue(state byte, at netip.AddrPort) []byte {
	addr := at.Addr().AsSlice()
	return append([]byte{state, byte(at.Port() >> 8), byte(at.Port()), byte(len(addr))}, addr...)
}

func hasLeft(value []byte) bool { return len(value) > 0 && value[0] == lifeLeft }

func lifeAddr(value []byte) (netip.AddrPort, bool) {
	if len(value) < 4 {
		return netip.AddrPort{}, false
	}
	addr, ok := netip.AddrFromSlice(value[4:min(len(value), 4+int(value[3]))])
	return netip.AddrPortFrom(addr.Unmap(), uint16(value[1])<<8|uint16(value[2])), ok
}
