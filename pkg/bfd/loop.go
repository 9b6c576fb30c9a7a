package bfd

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// retryAfter is when sockets that failed are tried again.
	retryAfter = time.Second
	// failuresMax is how many sends in a row may fail before the socket is opened
	// anew: its link may have been made again under another index.
	failuresMax = 3
	// readMax is how many packets are read from a socket before timers are checked. The queue
	// of a socket holds fewer, so every packet that had arrived when reading began is read.
	readMax = 1024
)

// loop is what the goroutine of Run owns.
//
// A session is taken down only after every packet that has arrived was read: a
// process that did not run for a while finds its timers expired and its packets
// unread, and that is no failure of the path.
type loop struct {
	speaker  *Speaker
	entries  map[Key]*entry
	leaving  map[*entry]struct{}
	sessions sessions
	timers   timers
	// ports are the listening sockets, in the order of their roles; missing are those that
	// could not be opened, which was logged.
	ports   []port
	missing map[role]bool
	stats   Stats
	// seen is the serial of the desired state that was reconciled.
	seen uint64
	// retryAt is when to try missing sockets again; zero is never.
	retryAt time.Time
	buf     []byte
	in      datagram
}

// port is a listening socket.
type port struct {
	role role
	listener
}

func newLoop(s *Speaker) *loop {
	return &loop{
		speaker:  s,
		entries:  make(map[Key]*entry),
		leaving:  make(map[*entry]struct{}),
		sessions: newSessions(),
		missing:  make(map[role]bool),
		buf:      make([]byte, 0, packetLen),
	}
}

// run serves until ctx ends, and then until the peers have answered the end of their
// sessions or Farewell is over.
func (l *loop) run(ctx context.Context) {
	defer l.closeAll()
	var end time.Time
	for {
		requests := l.takeRequests()
		now := time.Now()
		if ctx.Err() != nil && end.IsZero() {
			end = now.Add(l.speaker.config.Farewell)
			l.leaveAll(now)
		}
		l.reconcileIfNew(now, end)
		l.runTimers(now)
		if len(requests) > 0 {
			out := l.describe(l.entries)
			if !end.IsZero() {
				out = l.speaker.last
			}
			for _, r := range requests {
				r <- out
			}
		}
		now = time.Now()
		if !end.IsZero() && (len(l.leaving) == 0 || !now.Before(end)) {
			return
		}
		l.speaker.network.wait(l.untilNext(now, end))
		l.readPorts(listener.ready)
	}
}

// takeRequests returns the callers of State and Stats since the last time.
func (l *loop) takeRequests() []chan<- snapshot {
	l.speaker.mu.Lock()
	defer l.speaker.mu.Unlock()
	requests := l.speaker.requests
	l.speaker.requests = nil
	return requests
}

// untilNext returns how long nothing will be due.
func (l *loop) untilNext(now, end time.Time) time.Duration {
	next := now.Add(time.Hour)
	if e := l.timers.first(); e != nil && e.due.Before(next) {
		next = e.due
	}
	last := end
	if end.IsZero() {
		last = l.retryAt // nothing is tried again after the end was set
	}
	if !last.IsZero() && last.Before(next) {
		next = last
	}
	return max(next.Sub(now), 0)
}

// runTimers does what is due. Sessions that seem silent are checked again when all sockets
// have been read.
func (l *loop) runTimers(now time.Time) {
	read := false
	for {
		e := l.timers.first()
		if e == nil || e.due.After(now) {
			return
		}
		if !read && e.session.silent(now) {
			read = true
			l.readPorts(always)
			continue
		}
		late := now.Sub(e.due)
		out := e.session.tick(now)
		if out.send && l.speaker.observe != nil {
			l.speaker.observe(late)
		}
		l.apply(e, out)
		now = time.Now()
	}
}

// apply sends, records and schedules what follows from an input to a session.
func (l *loop) apply(e *entry, out outcome) {
	if out.send {
		l.send(e, out.packet)
	}
	if out.changed {
		l.speaker.changed.Set()
		l.logTransition(e)
	}
	if e.session.gone(time.Now()) {
		l.forget(e)
		return
	}
	l.timers.set(e, e.session.next())
}

func (l *loop) send(e *entry, p Packet) {
	if e.sender == nil {
		e.counters.SendErrors++
		return
	}
	l.buf = p.Append(l.buf[:0])
	if err := e.sender.send(l.buf); err != nil {
		e.counters.SendErrors++
		e.failing++
		if e.failing == failuresMax {
			l.logSendError(e, err)
			l.closeSender(e)
			l.retryLater(time.Now())
			l.speaker.changed.Set()
		}
		return
	}
	e.failing, e.sendErrorLogged = 0, false
	e.counters.Sent++
}

// logSendError logs that a session cannot send, once until it can.
func (l *loop) logSendError(e *entry, err error) {
	if !e.sendErrorLogged {
		l.speaker.log.Warn("cannot send to BFD peer", "address", e.key.Peer, "link", e.key.Link, "error", err)
	}
	e.sendErrorLogged = true
}

// readPorts reads the ports for which the condition is true.
func (l *loop) readPorts(condition func(listener) bool) {
	l.ports = slices.DeleteFunc(l.ports, func(p port) bool {
		if !condition(p.listener) {
			return false
		}
		err := l.read(p)
		if err == nil {
			return false
		}
		l.stats.SocketErrors++
		l.speaker.log.Error("BFD socket failed", "socket", p.role.String(), "error", err)
		p.close()
		l.retryLater(time.Now())
		l.speaker.changed.Set()
		return true
	})
}

func always(listener) bool { return true }

// read receives the packets that have arrived at a port.
func (l *loop) read(p port) error {
	for range readMax {
		ok, err := p.read(&l.in)
		switch {
		case err != nil:
			return fmt.Errorf("BFD port %d: %w", p.role.port(), err)
		case !ok:
			return nil
		case p.role.kind == echo:
			l.reflect(p, &l.in)
		default:
			l.receive(p.role, &l.in)
		}
	}
	return nil
}

// receive gives a packet to its session, or counts why it does not.
func (l *loop) receive(r role, d *datagram) {
	p, verdict := ParsePacket(d.payload())
	var e *entry
	if verdict == Accepted {
		e, verdict = l.sessions.find(r, d, p)
	} else {
		e = l.sessions.ofPeer(r, d)
	}
	if e == nil {
		l.stats.Dropped[verdict]++
		return
	}
	if verdict != Accepted {
		e.counters.Received[verdict]++
		return
	}
	verdict, out := e.session.receive(time.Now(), p)
	e.counters.Received[verdict]++
	l.apply(e, out)
}

// reflect sends a peer's echo packet back (RFC 5880 6.8.8), for peers that address it to
// this node and not to themselves. A packet that was sent back has a lower TTL, so two
// nodes do not send one to and fro for ever.
func (l *loop) reflect(p port, d *datagram) {
	e := l.sessions.ofPeer(p.role, d)
	if e == nil || !e.session.config.EchoMode || d.ttl != maxTTL || p.answer(d) != nil {
		l.stats.Echoes++
		return
	}
	e.counters.Echoes++
}

// logTransition logs that a session came up or went down.
func (l *loop) logTransition(e *entry) {
	before, h := e.logged, e.session.history
	e.logged = h
	if h.ups != before.ups {
		l.speaker.log.Info("BFD session is up", "address", e.key.Peer, "link", e.key.Link)
	}
	switch {
	case h.downs == before.downs:
	case h.lastDown.Cause.failure():
		l.speaker.log.Warn("BFD session is down", "address", e.key.Peer, "link", e.key.Link,
			"reason", string(h.lastDown.Cause))
	default:
		l.speaker.log.Info("BFD session was shut down", "address", e.key.Peer, "link", e.key.Link,
			"reason", string(h.lastDown.Cause))
	}
}

// retryLater has missing sockets tried again after retryAfter.
func (l *loop) retryLater(now time.Time) { l.retryAt = now.Add(retryAfter) }

// describe returns the answer to State and Stats.
func (l *loop) describe(entries map[Key]*entry) snapshot {
	out := snapshot{stats: l.stats}
	for _, key := range slices.SortedFunc(maps.Keys(entries), Key.compare) {
		e := entries[key]
		status := Status{Key: key, Config: l.wanted(key), Counters: e.counters}
		e.session.fill(&status)
		if e.session.state != AdminDown && (e.sender == nil || !l.listens(roleOf(key))) {
			status.Problem = ProblemSocket
		}
		out.sessions = append(out.sessions, status)
	}
	return out
}

func random() float64 { return rand.Float64() }
