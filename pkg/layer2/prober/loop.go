package prober

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/berth-lb/berth/pkg/layer2/internal/ports"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

// loop is the goroutine of a prober's Run and what it owns.
type loop struct {
	p     *Prober
	ports *ports.Set[role, *port]
}

func newLoop(p *Prober) *loop {
	return &loop{p: p, ports: ports.NewSet[role, *port](compareRoles)}
}

// run waits and does what is due, again and again, until ctx ends.
func (l *loop) run(ctx context.Context) {
	defer l.end()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.p.wake.C():
		case f := <-l.ports.Failures():
			l.portFailed(f)
		case <-timer.C:
		}
		timer.Reset(l.reconcile(time.Now()))
	}
}

// end closes everything, and nothing is known any more.
func (l *loop) end() {
	for _, r := range l.ports.Keys() {
		l.closePort(r, l.ports.Close)
	}
	l.p.mu.Lock()
	l.p.ended = true
	for _, b := range l.p.books {
		b.invalidate()
	}
	for _, key := range slices.SortedFunc(maps.Keys(l.p.asks), comparePortKeys) {
		l.p.asks[key].endAll(ErrStopped)
	}
	report := l.p.newsLocked()
	l.p.mu.Unlock()
	report()
}

func compareRoles(a, b role) int {
	if order := comparePortKeys(a.portKey, b.portKey); order != 0 || a.asks == b.asks {
		return order
	}
	if a.asks {
		return 1
	}
	return -1
}

// reconcile opens the ports that are needed and can be opened, closes the
// others, has the open ones look at what is new, and returns for how long
// nothing else will be due.
func (l *loop) reconcile(now time.Time) time.Duration {
	needed, current, stale := l.snapshot()
	wait := time.Hour
	roles := maps.Clone(needed)
	for _, r := range l.ports.Keys() {
		roles[r] = needed[r]
	}
	for _, r := range slices.SortedFunc(maps.Keys(roles), compareRoles) {
		var again time.Duration
		if roles[r] {
			again = l.ensureOpen(r, current, now)
		} else {
			again = l.closeIdle(r, now)
		}
		if again > 0 {
			wait = min(wait, again)
		}
	}
	l.ports.Retain(func(r role) bool { return needed[r] })
	if stale {
		l.refresh(now)
	}
	for _, r := range l.ports.Keys() {
		if stale || r.asks {
			open, _ := l.ports.Get(r)
			open.sock.Rouse()
		}
	}
	return wait
}

// snapshot returns which ports are needed, and the links; stale is true when
// these or the targets are new.
func (l *loop) snapshot() (needed map[role]bool, current map[string]links.Link, stale bool) {
	needed = make(map[role]bool)
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	for key := range l.p.books {
		needed[role{key, false}] = true
	}
	for key, b := range l.p.asks {
		if len(b.byAddr) > 0 {
			needed[role{key, true}] = true
		}
	}
	stale, l.p.stale = l.p.stale, false
	if stale {
		l.ports.Hurry() // the links may be well now
	}
	return needed, l.p.links, stale
}

// ensureOpen makes a needed port be open, when it can be, and returns when to try
// again, 0 when there is no need to.
func (l *loop) ensureOpen(r role, current map[string]links.Link, now time.Time) time.Duration {
	link, ok := current[r.link]
	if open, is := l.ports.Get(r); is {
		open.idle = time.Time{}
		fits, sameIndex := l.ports.Fits(r, link)
		if ok && link.Up && fits {
			return 0
		}
		l.closePort(r, l.ports.Close)
		if ok && link.Up && sameIndex && !r.asks {
			l.dropInFlight(r)
		} else {
			l.invalidate(r, fmt.Errorf("%w: it has changed", ErrLinkUnusable))
		}
	}
	if problem := unusable(link, ok); problem != "" {
		l.ports.Forget(r)
		l.invalidate(r, fmt.Errorf("%w: %s", ErrLinkUnusable, problem))
		return 0
	}
	if wait, err := l.ports.Wait(r, now); wait > 0 {
		l.invalidate(r, err)
		return wait
	}
	open, err := l.p.openPort(r, link)
	if err != nil {
		return l.failed(r, err, now)
	}
	l.ports.Add(r, link, open, now)
	if !r.asks {
		l.p.mu.Lock()
		l.p.stale = true // its targets need frames
		l.p.mu.Unlock()
		l.p.wake.Set()
	}
	return 0
}

// unusable says why a link cannot be probed on, "" when it can be.
func unusable(link links.Link, exists bool) string {
	switch {
	case !exists:
		return "there is none"
	case !link.Up:
		return "it is down"
	case !neighbor.IsStation(link.HardwareAddr):
		return "it has no Ethernet address"
	}
	return ""
}

// closeIdle closes a port that is not needed. Questions come in crowds, so one that
// asks stays open for a while: closeIdle returns how much of it is left.
func (l *loop) closeIdle(r role, now time.Time) time.Duration {
	if r.asks {
		open, _ := l.ports.Get(r)
		if open.idle.IsZero() {
			open.idle = now
		}
		if rest := askLinger - now.Sub(open.idle); rest > 0 {
			return rest
		}
	}
	l.closePort(r, l.ports.Close)
	return 0
}

// refresh makes the probes of the targets on open ports anew.
func (l *loop) refresh(now time.Time) {
	type unasked struct {
		*track
		err error
	}
	var failed []unasked
	l.p.mu.Lock()
	for key, b := range l.p.books {
		if _, open := l.ports.Get(role{key, false}); !open {
			continue
		}
		link := l.p.links[key.link]
		b.frames(now, func(t *track) []byte {
			frame, err := probeFrame(link, t.addr, t.mac)
			if err != nil {
				failed = append(failed, unasked{t, err})
			}
			return frame
		})
	}
	report := l.p.newsLocked()
	l.p.mu.Unlock()
	for _, f := range failed {
		l.p.log.Debug("cannot probe", "node", f.node, "address", f.addr, "error", f.err)
	}
	report()
}

// dropInFlight forgets the probes on their way, for the socket is replaced.
func (l *loop) dropInFlight(r role) {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	if b := l.p.books[r.portKey]; b != nil {
		b.dropInFlight()
	}
}

// invalidate makes everything unknown that a port would tell, and ends its questions.
func (l *loop) invalidate(r role, err error) {
	l.p.mu.Lock()
	if r.asks {
		l.p.asks[r.portKey].endAll(err)
	} else if b := l.p.books[r.portKey]; b != nil {
		b.invalidate()
	}
	report := l.p.newsLocked()
	l.p.mu.Unlock()
	report()
}

// closePort closes a port and returns when its goroutine has ended.
func (l *loop) closePort(r role, end func(role) error) {
	if err := end(r); err != nil {
		l.p.log.Warn("cannot close socket", "link", r.link, "protocol", r.protocol.String(), "error", err)
	}
}

// portFailed handles the end of a port's goroutine.
func (l *loop) portFailed(f ports.Failure[role]) {
	now := time.Now()
	l.closePort(f.Key, func(r role) error { return l.ports.CloseFailed(r, now) })
	l.failed(f.Key, f.Err, now)
}

// failed schedules the next try of a port, logs the first failure of a row, and returns
// for how long not to try.
func (l *loop) failed(r role, err error, now time.Time) time.Duration {
	l.p.mu.Lock()
	l.p.counterLocked(r.portKey).failures.Add(1)
	l.p.mu.Unlock()
	wait, first := l.ports.Failed(r, err, now)
	if first {
		l.p.log.Warn("cannot probe on link", "link", r.link, "protocol", r.protocol.String(), "error", err)
	}
	l.invalidate(r, err)
	return wait
}
