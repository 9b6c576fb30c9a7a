package membership

import (
	"net/netip"
	"time"
)

// say makes statements of this member.
func (v *view) say(key string, value []byte) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	news, ok := v.store.say(time.Now(), key, value)
	if news {
		v.tell(key)
	}
	return ok
}

func (v *view) sayAll(prefix string, values map[string][]byte) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	news, ok := v.store.sayAll(time.Now(), prefix, values)
	v.tell(news...)
	return ok
}

// tell has own statements spread.
func (v *view) tell(keys ...string) {
	for _, key := range keys {
		v.pending[key] = true
	}
	if len(keys) > 0 {
		signal(v.spread)
		signal(v.changed)
	}
}

// NodeMeta implements memberlist.Delegate. It tells the format of this member to
// those who cannot read its statements; all else goes by these.
func (*view) NodeMeta(int) []byte { return ownFormat.meta() }

// NotifyMsg implements memberlist.Delegate.
func (v *view) NotifyMsg(message []byte) { v.merge(message) }

// MergeRemoteState implements memberlist.Delegate.
func (v *view) MergeRemoteState(message []byte, _ bool) {
	if !v.merge(message) {
		return
	}
	v.merges.Add(1)
	v.mu.Lock()
	v.met = true
	v.mu.Unlock()
	signal(v.look)
}

// merge takes in what others say, and passes on what is new. It reports false for
// a message that cannot be read; nothing of it is taken in.
func (v *view) merge(message []byte) bool {
	now := time.Now()
	err := unpack(message, now, nil)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil {
		v.refused++
		signal(v.look)
		return false
	}
	if v.closed {
		return true
	}
	touched := make(map[string]bool)
	skip, last := false, ""
	_ = unpack(message, now, func(of about, key string, e statement) {
		if of.member != last {
			last, skip = of.member, v.stranger(of, key, e)
		}
		if skip {
			return
		}
		if v.people[of.member] == nil && of.member != v.self {
			v.people[of.member] = &person{since: now.Add(-of.gone)}
			touched[of.member] = true
		}
		switch v.store.hear(now, of.member, key, e) {
		case heard:
			v.outbox.add(ref{of.member, key})
			touched[of.member] = true
		case objected:
			v.pending[key] = true
			signal(v.spread)
		case noRoom:
			signal(v.look)
			signal(v.changed)
		}
	})
	for member := range touched {
		if v.people[member] != nil {
			v.judge(member, now)
		}
	}
	return true
}

// stranger reports whether what is said of a member is not worth remembering: it
// has been gone for long and is no peer. It gets the first statement of a section,
// which tells the address.
func (v *view) stranger(of about, key string, e statement) bool {
	if p := v.people[of.member]; p != nil || of.alive || of.gone < memory {
		return false
	}
	addr, ok := lifeAddr(e.value)
	return key != lifeKey || !ok || !v.peers[addr]
}

// about is what a section about a member says of it.
func (v *view) about(name string, now time.Time) about {
	of := about{member: name, alive: true}
	if p := v.people[name]; p != nil && p.state != Alive && name != v.self {
		of.alive, of.gone = false, now.Sub(p.since)
	}
	return of
}

// The value of lifeKey is one byte, the port, and the address after its size. What
// follows is of a later version.
const (
	lifeHere = 1
	lifeLeft = 0
)

func lifeValue(state byte, addr netip.AddrPort) []byte {
	return appendText([]byte{state, byte(addr.Port() >> 8), byte(addr.Port())}, addr.Addr().AsSlice())
}

func hasLeft(value []byte) bool { return len(value) > 0 && value[0] == lifeLeft }

func lifeAddr(value []byte) (netip.AddrPort, bool) {
	if len(value) < 4 {
		return netip.AddrPort{}, false
	}
	addr, ok := netip.AddrFromSlice(value[4:min(len(value), 4+int(value[3]))])
	return netip.AddrPortFrom(addr.Unmap(), uint16(value[1])<<8|uint16(value[2])), ok
}
