package announcer

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/berth-lb/berth/pkg/layer2/internal/ports"
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
)

// loop is the goroutine of Run and what it owns.
type loop struct {
	a     *Announcer
	ports *ports.Set[portKey, *port]
	// wishes are those of the last pass, and wanted is the same by port. A pass
	// follows the addresses whose wish has changed since, and does not look at
	// the others. differ are, by open port, the addresses in which it differs
	// from wanted.
	wishes  map[netip.Addr]wish
	wanted  map[portKey]map[netip.Addr]portPlacement
	differ  map[portKey]map[netip.Addr]struct{}
	bursts  *bursts
	pacer   *rate.Limiter // of all announcements
	repeats *rate.Limiter // of those for which nobody waits
	pause   time.Duration
	// dirty is true when the desired state has to be looked at, not before the
	// next pass is allowed.
	dirty       bool
	passAllowed time.Time
	seenLinks   uint64
	// forget is when to look for conflicts to forget; zero is never.
	forget time.Time
}

func newLoop(a *Announcer) *loop {
	return &loop{
		a:       a,
		ports:   ports.NewSet[portKey, *port](comparePortKeys),
		wishes:  make(map[netip.Addr]wish),
		wanted:  make(map[portKey]map[netip.Addr]portPlacement),
		differ:  make(map[portKey]map[netip.Addr]struct{}),
		bursts:  newBursts(jitter),
		pacer:   newPacer(a.config.BurstRate),
		repeats: newPacer(a.config.RepeatRate),
		pause:   max(breath, time.Second/time.Duration(a.config.BurstRate)),
		dirty:   true,
	}
}

// newPacer lets so many announcements go in a second, some at each breath.
func newPacer(perSecond int) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(perSecond), 1+int(2*breath.Seconds()*float64(perSecond)))
}

// run waits and does what is due, again and again, until ctx ends.
func (l *loop) run(ctx context.Context) {
	defer l.closeAll()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wake := l.a.wake.C()
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
		case f := <-l.ports.Failures():
			l.a.config.Pass.Begin()
			l.portFailed(f)
		case <-timer.C:
		}
		l.a.config.Pass.Begin()
		now := time.Now()
		l.dirty = l.dirty || l.retryDue(now)
		if l.dirty && !now.Before(l.passAllowed) {
			l.dirty = false
			l.reconcile(now)
			now = time.Now()
			l.passAllowed = now.Add(coalesce)
		}
		l.forget = l.a.forgetSilent(now)
		l.sendDue(now)
		timer.Reset(l.untilNext(time.Now()))
		l.a.config.Pass.End()
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
	if retry := l.ports.Next(); !retry.IsZero() {
		earlier(retry)
	}
	if !l.forget.IsZero() {
		earlier(l.forget)
	}
	// What waits for the end of a suspension is sent when Resume wakes the loop.
	if due, ok := l.bursts.next(); ok && l.a.guard.open() {
		if !due.After(now) {
			// Announcements wait for the pacer.
			due = now.Add(l.pause)
		}
		earlier(due)
	}
	return max(next.Sub(now), 0)
}

func (l *loop) retryDue(now time.Time) bool {
	next := l.ports.Next()
	return !next.IsZero() && !next.After(now)
}

// openPort opens the port with a filter for what is wanted, of which it announces
// nothing yet.
func (l *loop) openPort(key portKey, link links.Link, now time.Time) (*port, error) {
	sock, err := l.a.open(neighbor.Spec{
		Link:     link,
		Protocol: key.protocol,
		Filter:   key.protocol.RequestFilter(slices.Collect(maps.Keys(l.wanted[key])), link.Index),
	})
	if err != nil {
		return nil, err
	}
	p := &port{
		a:        l.a,
		key:      key,
		link:     link,
		prefixes: link.Prefixes,
		sock:     sock,
		counters: l.a.counter(key),
		groups:   make(map[netip.Addr]int),
		unjoined: make(map[netip.Addr]struct{}),
	}
	p.counters.opened.Add(1)
	l.ports.Add(key, link, p, now)
	return p, nil
}

// closePort closes a port and retracts everything on it.
func (l *loop) closePort(key portKey, why string) { l.closed(key, why, l.ports.Close) }

// portFailed handles the end of a port's reader: the port is closed and will be opened
// again after a delay, or at once when the links change.
func (l *loop) portFailed(f ports.Failure[portKey]) {
	now := time.Now()
	l.closed(f.Key, "socket failed", func(key portKey) error { return l.ports.CloseFailed(key, now) })
	l.failed(f.Key, f.Err, now)
	l.dirty = true
}

func (l *loop) closed(key portKey, why string, end func(portKey) error) {
	delete(l.differ, key)
	p, _ := l.ports.Get(key)
	for _, addr := range addresses(p.placements) {
		l.retract(burstKey{key, addr}, why)
	}
	if err := end(key); err != nil {
		l.a.log.Warn("cannot close socket", "link", key.link, "protocol", key.protocol.String(), "error", err)
	}
}

// failed schedules the next try of a port and logs the first failure of a row.
func (l *loop) failed(key portKey, err error, now time.Time) {
	l.a.counter(key).failures.Add(1)
	if _, first := l.ports.Failed(key, err, now); first {
		l.a.log.Warn("cannot announce on link",
			"link", key.link, "protocol", key.protocol.String(), "error", err)
	}
}

func (l *loop) closeAll() {
	for _, key := range l.ports.Keys() {
		l.closePort(key, "announcer stopped")
	}
}
