package layer2

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/time/rate"
)

const (
	// coalesce is the least time between two passes over the desired state. The
	// first change after a quiet time is applied at once; thousands that follow
	// each other are applied together.
	coalesce = 10 * time.Millisecond
	// breath is how often the pacer lets announcements go when many wait.
	breath = 5 * time.Millisecond
	// retryMin and retryMax bound the delay, doubled each time, after which a
	// port that failed is opened again. A change of links opens it at once.
	retryMin = 100 * time.Millisecond
	retryMax = 10 * time.Second
)

// loop is the goroutine of Run and what it owns.
type loop struct {
	*Announcer
	ports    map[portKey]*port
	bursts   *bursts
	pacer    *rate.Limiter
	pause    time.Duration
	failures chan failure
	retries  map[portKey]retry
	// dirty is true when the desired state has to be looked at, not before the
	// next pass is allowed.
	dirty       bool
	passAllowed time.Time
	seenLinks   uint64
}

// failure is the end of a port's reader.
type failure struct {
	port *port
	err  error
}

// retry says when to try a port again: at is zero when there is no need. The
// delay is that of the last failure, so that a port which opens well and fails
// soon after is not tried ever so often.
type retry struct {
	at    time.Time
	delay time.Duration
}

// due reports whether the time of the retry has come.
func (r retry) due(now time.Time) bool { return !r.at.IsZero() && !r.at.After(now) }

func newLoop(a *Announcer) *loop {
	perSecond := rate.Limit(a.config.BurstRate)
	return &loop{
		Announcer: a,
		ports:     make(map[portKey]*port),
		bursts:    newBursts(a.config.BurstCount, a.config.BurstInterval),
		pacer:     rate.NewLimiter(perSecond, 1+int(2*breath.Seconds()*float64(perSecond))),
		pause:     max(breath, time.Duration(float64(time.Second)/float64(perSecond))),
		failures:  make(chan failure),
		retries:   make(map[portKey]retry),
		dirty:     true,
	}
}

// run is one wait and one look at everything, again and again.
func (l *loop) run(ctx context.Context) {
	defer l.closeAll()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
			l.dirty = true
		case f := <-l.failures:
			l.portFailed(f)
		case <-timer.C:
		}
		now := time.Now()
		l.dirty = l.dirty || l.retryDue(now)
		if l.dirty && !now.Before(l.passAllowed) {
			l.dirty = false
			l.reconcile(now)
			now = time.Now()
			l.passAllowed = now.Add(coalesce)
		}
		l.sendDue(now)
		timer.Reset(l.untilNext(time.Now()))
	}
}

// untilNext returns how long nothing will be due.
func (l *loop) untilNext(now time.Time) time.Duration {
	next := now.Add(time.Hour)
	earlier := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	if l.dirty {
		earlier(l.passAllowed)
	}
	for _, r := range l.retries {
		if !r.at.IsZero() {
			earlier(r.at)
		}
	}
	if due, ok := l.bursts.next(); ok {
		if !due.After(now) {
			// Announcements wait for the pacer.
			due = now.Add(l.pause)
		}
		earlier(due)
	}
	return max(next.Sub(now), 0)
}

func (l *loop) retryDue(now time.Time) bool {
	for _, r := range l.retries {
		if r.due(now) {
			return true
		}
	}
	return false
}

// sendDue sends announcements as far as they are due and the pacer lets them.
func (l *loop) sendDue(now time.Time) {
	for {
		due, ok := l.bursts.next()
		if !ok || due.After(now) || !l.pacer.AllowN(now, 1) {
			return
		}
		key, _ := l.bursts.take(now)
		p := l.ports[key.port]
		// It may have been withdrawn since the last pass.
		if p != nil && l.announces(key.addr, key.port.link) {
			p.sendAnnouncement(key.addr)
		}
	}
}

// reconcile brings the ports to the desired state.
func (l *loop) reconcile(now time.Time) {
	desired, links := l.snapshot()
	for _, key := range sortedKeys(l.ports) {
		p := l.ports[key]
		link, ok := links[key.link]
		switch {
		case len(desired[key]) == 0:
			l.closePort(p, "withdrawn")
		case !ok:
			l.closePort(p, "link is gone")
		case !link.Up:
			l.closePort(p, "link is down")
		case !p.sameStation(link):
			l.closePort(p, "link has changed")
		}
	}
	maps.DeleteFunc(l.retries, func(key portKey, _ retry) bool { return len(desired[key]) == 0 })
	problems := make(map[portKey]Problem)
	for _, key := range sortedKeys(desired) {
		if problem := l.announceOn(key, links, desired[key], now); problem != "" {
			problems[key] = problem
		}
	}
	l.mu.Lock()
	l.problems = problems
	l.mu.Unlock()
}

// snapshot copies the desired state, by port, and forgets about delays when the
// links are other than the last time.
func (l *loop) snapshot() (map[portKey]map[netip.Addr]uint64, map[string]Link) {
	desired := make(map[portKey]map[netip.Addr]uint64)
	l.mu.RLock()
	defer l.mu.RUnlock()
	for addr, claims := range l.desired {
		for _, c := range claims {
			key := portKey{protocolOf(addr), c.link}
			if desired[key] == nil {
				desired[key] = make(map[netip.Addr]uint64)
			}
			desired[key][addr] = c.serial
		}
	}
	if l.linksSerial != l.seenLinks {
		l.seenLinks = l.linksSerial
		clear(l.retries)
	}
	return desired, l.links
}

// announceOn makes one port announce exactly the claims, and opens it when it is
// not open. It returns why the addresses are not announced.
func (l *loop) announceOn(key portKey, links map[string]Link, claims map[netip.Addr]uint64, now time.Time) Problem {
	link, ok := links[key.link]
	switch {
	case !ok:
		delete(l.retries, key)
		return ProblemLinkMissing
	case !link.Up:
		delete(l.retries, key)
		return ProblemLinkDown
	case !isStation(link.HardwareAddr):
		delete(l.retries, key)
		return ProblemNotEthernet
	}
	p := l.ports[key]
	if p == nil {
		if l.retries[key].at.After(now) {
			return ProblemSocket
		}
		var err error
		if p, err = l.openPort(key, link, claims, now); err != nil {
			l.failed(key, err, now)
			return ProblemSocket
		}
	}
	before := p.claims
	groupErr, err := p.pass(claims)
	if err != nil {
		l.closePort(p, "socket failed")
		l.failed(key, err, now)
		return ProblemSocket
	}
	if groupErr != nil {
		l.failed(key, groupErr, now)
	} else {
		l.retries[key] = retry{delay: l.retries[key].delay}
	}
	l.publish(p, before, now)
	return ""
}

// openPort opens the port with a filter for the claims, of which it announces
// none yet.
func (l *loop) openPort(key portKey, link Link, claims map[netip.Addr]uint64, now time.Time) (*port, error) {
	sock, err := l.open(socketSpec{
		link:      link,
		etherType: key.protocol.etherType(),
		filter:    key.protocol.filter(addresses(claims), link.Index),
	})
	if err != nil {
		return nil, err
	}
	p := &port{
		key:      key,
		link:     link,
		opened:   now,
		sock:     sock,
		counters: l.counter(key),
		announce: func(addr netip.Addr) bool { return l.announces(addr, key.link) },
		groups:   make(map[netip.Addr]struct{}),
		closing:  make(chan struct{}),
		done:     make(chan struct{}),
	}
	p.counters.opened.Add(1)
	l.ports[key] = p
	go func() {
		defer close(p.done)
		err := p.serve()
		select {
		case l.failures <- failure{p, err}:
		case <-p.closing:
		}
	}()
	return p, nil
}

// publish starts bursts for the claims that the port did not have before, stops
// those of the claims that it has no more, and tells State about both.
func (l *loop) publish(p *port, before map[netip.Addr]uint64, now time.Time) {
	for _, addr := range addresses(before) {
		if _, ok := p.claims[addr]; !ok {
			l.retract(burstKey{p.key, addr}, "withdrawn")
		}
	}
	for _, addr := range addresses(p.claims) {
		serial := p.claims[addr]
		if old, ok := before[addr]; ok && old == serial {
			continue
		}
		key := burstKey{p.key, addr}
		l.bursts.start(key, now)
		l.mu.Lock()
		l.live[key] = liveClaim{serial, now}
		l.mu.Unlock()
		l.log.Info("announcing", "address", addr, "link", p.key.link, "mac", p.link.HardwareAddr.String())
	}
}

// retract forgets an announcement.
func (l *loop) retract(key burstKey, reason string) {
	l.bursts.stop(key)
	l.mu.Lock()
	delete(l.live, key)
	l.mu.Unlock()
	l.log.Info("withdrew", "address", key.addr, "link", key.port.link, "reason", reason)
}

// closePort closes a port and retracts everything on it.
func (l *loop) closePort(p *port, reason string) {
	delete(l.ports, p.key)
	for _, addr := range addresses(p.claims) {
		l.retract(burstKey{p.key, addr}, reason)
	}
	if err := p.close(); err != nil {
		l.log.Warn("cannot close socket", "link", p.key.link, "protocol", p.key.protocol.String(), "error", err)
	}
}

// portFailed handles the end of a port's reader: the port is closed and will be
// opened again after a delay, or at once when the links change.
func (l *loop) portFailed(f failure) {
	now := time.Now()
	l.closePort(f.port, "socket failed")
	if now.Sub(f.port.opened) > retryMax {
		delete(l.retries, f.port.key)
	}
	l.failed(f.port.key, f.err, now)
	l.dirty = true
}

// failed schedules the next try of a port and logs the first failure of a row.
func (l *loop) failed(key portKey, err error, now time.Time) {
	l.counter(key).failures.Add(1)
	r := l.retries[key]
	again := r.delay > 0
	r.delay = min(max(2*r.delay, retryMin), retryMax)
	r.at = now.Add(r.delay)
	l.retries[key] = r
	if !again {
		l.log.Warn("cannot announce on link", "link", key.link, "protocol", key.protocol.String(), "error", err)
	}
}

func (l *loop) closeAll() {
	for _, key := range sortedKeys(l.ports) {
		l.closePort(l.ports[key], "announcer stopped")
	}
}

// sortedKeys returns port keys by link, then by protocol.
func sortedKeys[V any](m map[portKey]V) []portKey {
	return slices.SortedFunc(maps.Keys(m), func(a, b portKey) int {
		return cmp.Or(cmp.Compare(a.link, b.link), cmp.Compare(a.protocol.String(), b.protocol.String()))
	})
}
