package announcer

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/neighbor"
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
	ports map[portKey]*port
	// wishes are those of the last pass, and wanted is the same by port. A pass
	// follows the addresses whose wish has changed since, and does not look at
	// the others. differ are, by open port, the addresses in which it differs
	// from wanted.
	wishes   map[netip.Addr]wish
	wanted   map[portKey]map[netip.Addr]portClaim
	differ   map[portKey]map[netip.Addr]struct{}
	bursts   *bursts
	pacer    *rate.Limiter // of all announcements
	repeats  *rate.Limiter // of those for which nobody waits
	pause    time.Duration
	failures chan failure
	retries  map[portKey]retry
	// dirty is true when the desired state has to be looked at, not before the
	// next pass is allowed.
	dirty       bool
	passAllowed time.Time
	seenLinks   uint64
	// forget is when to look for conflicts to forget; zero is never.
	forget time.Time
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
	return &loop{
		Announcer: a,
		ports:     make(map[portKey]*port),
		wishes:    make(map[netip.Addr]wish),
		wanted:    make(map[portKey]map[netip.Addr]portClaim),
		differ:    make(map[portKey]map[netip.Addr]struct{}),
		bursts:    newBursts(jitter),
		pacer:     newPacer(a.config.BurstRate),
		repeats:   newPacer(a.config.RepeatRate),
		pause:     max(breath, time.Second/time.Duration(a.config.BurstRate)),
		failures:  make(chan failure),
		retries:   make(map[portKey]retry),
		dirty:     true,
	}
}

// newPacer lets so many announcements go in a second, some at each breath.
func newPacer(perSecond int) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(perSecond), 1+int(2*breath.Seconds()*float64(perSecond)))
}

// run is one wait and one look at everything, again and again.
func (l *loop) run(ctx context.Context) {
	defer l.closeAll()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wake := l.wake
		if l.dirty {
			// The next pass sees all that is set until then: thousands of calls of
			// Set are not to wake this goroutine one by one.
			wake = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
			l.dirty = true
		case f := <-l.failures:
			l.config.Pass.Begin()
			l.portFailed(f)
		case <-timer.C:
		}
		l.config.Pass.Begin()
		now := time.Now()
		l.dirty = l.dirty || l.retryDue(now)
		if l.dirty && !now.Before(l.passAllowed) {
			l.dirty = false
			l.reconcile(now)
			now = time.Now()
			l.passAllowed = now.Add(coalesce)
		}
		l.forget = l.forgetSilent(now)
		l.sendDue(now)
		timer.Reset(l.untilNext(time.Now()))
		l.config.Pass.End()
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
	if !l.forget.IsZero() {
		earlier(l.forget)
	}
	// What waits for the end of a suspension is sent when Resume wakes the loop.
	if due, ok := l.bursts.next(); ok && l.guard.open() {
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

// openPort opens the port with a filter for what is wanted, of which it announces
// nothing yet.
func (l *loop) openPort(key portKey, link links.Link, now time.Time) (*port, error) {
	sock, err := l.open(neighbor.Spec{
		Link:     link,
		Protocol: key.protocol,
		Filter:   key.protocol.RequestFilter(slices.Collect(maps.Keys(l.wanted[key])), link.Index),
	})
	if err != nil {
		return nil, err
	}
	p := &port{
		key:      key,
		link:     link,
		opened:   now,
		prefixes: link.Prefixes,
		sock:     sock,
		counters: l.counter(key),

		findRouter: l.router,
		groups:     make(map[netip.Addr]int),
		unjoined:   make(map[netip.Addr]struct{}),
		closing:    make(chan struct{}),
		done:       make(chan struct{}),
	}
	p.counters.opened.Add(1)
	l.ports[key] = p
	go func() {
		defer close(p.done)
		err := p.serve(l.Announcer)
		select {
		case l.failures <- failure{p, err}:
		case <-p.closing:
		}
	}()
	return p, nil
}

// closePort closes a port and retracts everything on it.
func (l *loop) closePort(p *port, reason string) {
	delete(l.ports, p.key)
	delete(l.differ, p.key)
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
