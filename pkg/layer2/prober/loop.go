package prober

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

// retryMin and retryMax bound the delay, doubled each time, after which a port that
// failed is opened again. A change of links opens it at once.
const (
	retryMin = 100 * time.Millisecond
	retryMax = 10 * time.Second
)

// probeLoop is the goroutine of a prober's Run and what it owns.
type probeLoop struct {
	*Prober
	ports    map[probeRole]*probePort
	failures chan probeFailure
	retries  map[probeRole]probeRetry
}

// probeFailure is the end of a port's goroutine.
type probeFailure struct {
	port *probePort
	err  error
}

// probeRetry says when to open a port again after a failure. The delay is
// doubled each time.
type probeRetry struct {
	at    time.Time
	delay time.Duration
	err   error
}

func newProbeLoop(p *Prober) *probeLoop {
	return &probeLoop{
		Prober:   p,
		ports:    make(map[probeRole]*probePort),
		failures: make(chan probeFailure),
		retries:  make(map[probeRole]probeRetry),
	}
}

// run is one wait and one look at everything, again and again.
func (l *probeLoop) run(ctx context.Context) {
	defer l.end()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case f := <-l.failures:
			l.portFailed(f)
		case <-timer.C:
		}
		timer.Reset(l.reconcile(time.Now()))
	}
}

// end closes everything, and nothing is known any more.
func (l *probeLoop) end() {
	for _, role := range slices.SortedFunc(maps.Keys(l.ports), compareRoles) {
		l.closePort(l.ports[role])
	}
	l.mu.Lock()
	l.ended = true
	for _, b := range l.books {
		b.lose()
	}
	for _, key := range slices.SortedFunc(maps.Keys(l.asks), compareProbeKeys) {
		l.asks[key].endAll(ErrStopped)
	}
	tell := l.newsLocked()
	l.mu.Unlock()
	tell()
}

func compareRoles(a, b probeRole) int {
	if order := compareProbeKeys(a.probeKey, b.probeKey); order != 0 || a.asks == b.asks {
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
func (l *probeLoop) reconcile(now time.Time) time.Duration {
	needed, current, stale := l.snapshot()
	wait := time.Hour
	roles := maps.Clone(needed)
	for role := range l.ports {
		roles[role] = needed[role]
	}
	for _, role := range slices.SortedFunc(maps.Keys(roles), compareRoles) {
		var again time.Duration
		if roles[role] {
			again = l.need(role, current, now)
		} else {
			again = l.spare(role, now)
		}
		if again > 0 {
			wait = min(wait, again)
		}
	}
	maps.DeleteFunc(l.retries, func(role probeRole, _ probeRetry) bool { return !needed[role] })
	if stale {
		l.refresh(now)
	}
	for _, port := range l.ports {
		if stale || port.key.asks {
			port.sock.Rouse()
		}
	}
	return wait
}

// snapshot returns which ports are needed, and the links; stale is true when
// these or the targets are new.
func (l *probeLoop) snapshot() (needed map[probeRole]bool, current map[string]links.Link, stale bool) {
	needed = make(map[probeRole]bool)
	l.mu.Lock()
	defer l.mu.Unlock()
	for key := range l.books {
		needed[probeRole{key, false}] = true
	}
	for key, b := range l.asks {
		if len(b.byAddr) > 0 {
			needed[probeRole{key, true}] = true
		}
	}
	stale, l.stale = l.stale, false
	if stale {
		// The links may be well now.
		for role, r := range l.retries {
			r.at = time.Time{}
			l.retries[role] = r
		}
	}
	return needed, l.links, stale
}

// need makes a needed port be open, when it can be, and returns when to try again, 0
// when there is no need to.
func (l *probeLoop) need(role probeRole, all map[string]links.Link, now time.Time) time.Duration {
	link, ok := all[role.link]
	port := l.ports[role]
	if port != nil {
		port.idle = time.Time{}
		if ok && link.Up && port.sameStation(link) {
			return 0
		}
		l.closePort(port)
		if ok && link.Up && link.Index == port.link.Index && !role.asks {
			l.interrupt(role)
		} else {
			l.lose(role, fmt.Errorf("%w: it has changed", ErrLinkUnusable))
		}
	}
	var problem string
	switch {
	case !ok:
		problem = "there is none"
	case !link.Up:
		problem = "it is down"
	case !neighbor.IsStation(link.HardwareAddr):
		problem = "it has no Ethernet address"
	}
	if problem != "" {
		delete(l.retries, role)
		l.lose(role, fmt.Errorf("%w: %s", ErrLinkUnusable, problem))
		return 0
	}
	if r := l.retries[role]; r.at.After(now) {
		l.lose(role, r.err)
		return r.at.Sub(now)
	}
	port, err := l.openProbePort(role, link, l.failures)
	if err != nil {
		return l.failed(role, err, now)
	}
	l.ports[role] = port
	if !role.asks {
		l.mu.Lock()
		l.stale = true // its targets need frames
		l.mu.Unlock()
		signal(l.wake)
	}
	return 0
}

// spare closes a port that is not needed. Questions come in crowds, so one that
// asks stays open for a while.
func (l *probeLoop) spare(role probeRole, now time.Time) time.Duration {
	port := l.ports[role]
	if role.asks {
		if port.idle.IsZero() {
			port.idle = now
		}
		if rest := askLinger - now.Sub(port.idle); rest > 0 {
			return rest
		}
	}
	l.closePort(port)
	return 0
}

// refresh makes the probes of the targets on open ports anew.
func (l *probeLoop) refresh(now time.Time) {
	type unasked struct {
		*track
		err error
	}
	var failed []unasked
	l.mu.Lock()
	for key, b := range l.books {
		port := l.ports[probeRole{key, false}]
		if port == nil {
			continue
		}
		link := l.links[key.link]
		b.frames(now, func(t *track) []byte {
			frame, err := probeFrame(link, t.addr, t.mac)
			if err != nil {
				failed = append(failed, unasked{t, err})
			}
			return frame
		})
	}
	tell := l.newsLocked()
	l.mu.Unlock()
	for _, f := range failed {
		l.log.Debug("cannot probe", "node", f.node, "address", f.addr, "error", f.err)
	}
	tell()
}

// interrupt says that a socket is replaced.
func (l *probeLoop) interrupt(role probeRole) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.books[role.probeKey]; b != nil {
		b.interrupt()
	}
}

// lose says that nothing can be known on a link.
func (l *probeLoop) lose(role probeRole, err error) {
	l.mu.Lock()
	if role.asks {
		l.asks[role.probeKey].endAll(err)
	} else if b := l.books[role.probeKey]; b != nil {
		b.lose()
	}
	tell := l.newsLocked()
	l.mu.Unlock()
	tell()
}

// closePort closes a port and waits until its goroutine has ended.
func (l *probeLoop) closePort(port *probePort) {
	delete(l.ports, port.key)
	if err := port.close(); err != nil {
		l.log.Warn("cannot close socket", "link", port.key.link, "protocol", port.key.protocol.String(), "error", err)
	}
}

// portFailed handles the end of a port's goroutine.
func (l *probeLoop) portFailed(f probeFailure) {
	now := time.Now()
	l.closePort(f.port)
	if now.Sub(f.port.opened) > retryMax {
		delete(l.retries, f.port.key)
	}
	l.failed(f.port.key, f.err, now)
}

// failed schedules the next try of a port, logs the first failure of a row, and
// returns for how long not to try.
func (l *probeLoop) failed(role probeRole, err error, now time.Time) time.Duration {
	l.mu.Lock()
	l.counterLocked(role.probeKey).failures.Add(1)
	l.mu.Unlock()
	r := l.retries[role]
	if r.delay == 0 {
		l.log.Warn("cannot probe on link", "link", role.link, "protocol", role.protocol.String(), "error", err)
	}
	r.delay = min(max(cmp.Or(2*r.delay, retryMin), retryMin), retryMax)
	r.at, r.err = now.Add(r.delay), err
	l.retries[role] = r
	l.lose(role, err)
	return r.delay
}
