package bfd

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// String returns the role in words, for logs.
func (r role) String() string {
	name := [...]string{singleHop: "bfd", multihop: "bfd-multihop", echo: "bfd-echo"}[r.kind]
	if r.v6 {
		return name + "-ipv6"
	}
	return name + "-ipv4"
}

func (r role) compare(o role) int {
	return cmp.Or(cmp.Compare(r.kind, o.kind), compareBool(r.v6, o.v6))
}

// listens reports whether there is a socket for the role.
func (l *loop) listens(r role) bool {
	return slices.ContainsFunc(l.ports, func(p port) bool { return p.role == r })
}

// wanted returns the configuration that was last set for a session.
func (l *loop) wanted(key Key) SessionConfig {
	l.speaker.mu.Lock()
	defer l.speaker.mu.Unlock()
	return l.speaker.desired[key]
}

// reconcileIfNew brings sockets and sessions to the desired state, when that is new or a
// socket has to be tried again. After the end was set, it starts nothing.
func (l *loop) reconcileIfNew(now, end time.Time) {
	l.speaker.mu.Lock()
	desired, serial := l.speaker.desired, l.speaker.serial
	l.speaker.mu.Unlock()
	retry := !l.retryAt.IsZero() && !now.Before(l.retryAt)
	if !end.IsZero() || serial == l.seen && !retry {
		return
	}
	if serial != l.seen {
		l.speaker.changed.Set()
	}
	l.seen, l.retryAt = serial, time.Time{}
	l.reconcilePorts(now, desired)
	for _, key := range slices.SortedFunc(maps.Keys(l.entries), Key.compare) {
		if _, ok := desired[key]; !ok {
			l.leave(l.entries[key], now)
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(desired), Key.compare) {
		l.reconcileSession(now, key, desired[key])
	}
}

// reconcilePorts opens the sockets that the sessions need, and closes others.
func (l *loop) reconcilePorts(now time.Time, desired map[Key]SessionConfig) {
	needed := make(map[role]bool)
	for key, config := range desired {
		needed[roleOf(key)] = true
		if config.EchoMode {
			needed[role{echo, key.Peer.Is6()}] = true
		}
	}
	for e := range l.leaving {
		needed[roleOf(e.key)] = true
	}
	l.ports = slices.DeleteFunc(l.ports, func(p port) bool {
		if !needed[p.role] {
			p.close()
		}
		return !needed[p.role]
	})
	for _, r := range slices.SortedFunc(maps.Keys(needed), role.compare) {
		if l.listens(r) {
			continue
		}
		socket, err := l.speaker.network.listen(r)
		if err != nil {
			l.stats.SocketErrors++
			if !l.missing[r] {
				l.speaker.log.Error("BFD socket failed", "socket", r.String(), "error", err)
			}
			l.missing[r] = true
			l.retryLater(now)
			continue
		}
		delete(l.missing, r)
		l.ports = append(l.ports, port{r, socket})
		l.speaker.changed.Set()
	}
	slices.SortFunc(l.ports, func(a, b port) int { return a.role.compare(b.role) })
}

// reconcileSession starts or reconfigures one session.
func (l *loop) reconcileSession(now time.Time, key Key, config SessionConfig) {
	// A Required Min Echo RX Interval other than 0 promises that echo packets come back (RFC
	// 5880 6.8.9): it is sent only where they do.
	comeBack := l.listens(role{echo, key.Peer.Is6()}) && l.speaker.network.forwards(key)
	config.EchoMode = config.EchoMode && comeBack
	e := l.entries[key]
	if e == nil {
		l.forgetLeaving(key)
		e = &entry{key: key, slot: -1}
		e.session = newSession(now, sessionStart{config, l.sessions.discriminator(), random})
		l.entries[key] = e
		l.sessions.add(e)
	}
	if e.sender == nil {
		l.openSender(e, now)
	}
	out := outcome{}
	if e.session.config != config {
		out = e.session.configure(now, config)
	}
	l.apply(e, out)
}

// leave shuts a session down in order.
func (l *loop) leave(e *entry, now time.Time) {
	delete(l.entries, e.key)
	l.leaving[e] = struct{}{}
	l.sessions.hide(e)
	l.apply(e, e.session.leave(now))
}

// forgetLeaving ends the farewell of a session that is wanted again.
func (l *loop) forgetLeaving(key Key) {
	for e := range l.leaving {
		if e.key == key {
			l.forget(e)
		}
	}
}

// leaveAll shuts everything down. After Run, State returns how it was when the sessions
// were shut down.
func (l *loop) leaveAll(now time.Time) {
	entries := maps.Clone(l.entries)
	for _, key := range slices.SortedFunc(maps.Keys(entries), Key.compare) {
		l.leave(entries[key], now)
	}
	l.speaker.last = l.describe(entries)
}

// forget removes a session that has left. Its port may not be needed any more, which the
// next reconciliation finds.
func (l *loop) forget(e *entry) {
	l.retryLater(time.Now())
	l.timers.set(e, time.Time{})
	l.sessions.remove(e)
	l.closeSender(e)
	delete(l.leaving, e)
}

// openSender opens the socket of a session.
func (l *loop) openSender(e *entry, now time.Time) {
	var err error
	e.sender, e.link, err = l.speaker.network.dial(e.key)
	if err != nil {
		e.sender = nil
		l.logSendError(e, err)
		l.stats.SocketErrors++
		l.retryLater(now)
		return
	}
	e.failing = 0
	l.speaker.changed.Set()
}

func (l *loop) closeSender(e *entry) {
	if e.sender != nil {
		e.sender.close()
		e.sender = nil
	}
}

func (l *loop) closeAll() {
	for e := range l.leaving {
		l.forget(e)
	}
	for _, p := range l.ports {
		p.close()
	}
	l.ports = nil
}
