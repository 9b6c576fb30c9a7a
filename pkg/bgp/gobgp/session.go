package gobgp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/bgp"
)

const (
	// connectTimeout bounds one attempt to connect, openTimeout the time from
	// the connection to the session.
	connectTimeout = 10 * time.Second
	openTimeout    = 15 * time.Second
	// minPause is the least time from one session to the next.
	minPause = time.Second
	// flushTimeout bounds the wait until all has been sent.
	flushTimeout = 2 * time.Second
)

// endMode is how a session ends.
type endMode int

const (
	forRestart endMode = iota // the speaker comes back, and the router keeps the routes
	forReset                  // the next session begins at once, on other terms
	forGood                   // the routes are withdrawn
)

// sharedState is what the sessions of a speaker share.
type sharedState struct {
	log        *slog.Logger
	globals    sync.RWMutex // see engine
	listeners  listeners
	restarting bool
	software   string
	complete   notify.Latch  // all routes are known
	connecting time.Duration // connectTimeout, openTimeout and steady; less in tests
	opening    time.Duration
	steady     time.Duration
	skipGrace  notify.Latch  // there is no more time for graceful shutdown
	changed    notify.Signal // something of the state has
	pairs      pairs
}

// session keeps one peer's session, over all its connections. Its goroutine
// is run.
type session struct {
	shared *sharedState
	name   string
	end    context.CancelFunc
	over   context.Context // done when the session shall end
	done   chan struct{}   // closed when it has ended
	// wake is set when routes, peer or liveness have changed, and retryNow when the next
	// attempt shall not wait.
	wake, retryNow notify.Signal

	mu         sync.Mutex
	peer       bgp.Peer
	routes     []bgp.Route
	serial     uint64 // of the state that routes are of
	endMode    endMode
	view       bgp.Session
	lastLogged string // the failure that was logged last
	liveness   bgp.Liveness
	// failures counts how often BFD went down.
	failures uint64

	// engineMu guards what engine announces, and what follows.
	engineMu       sync.Mutex
	engine         *engine
	chooseNextHops func(bgp.Peer) (nextHops, string) // hopsFor the present connection
	held           bool                              // nothing is announced before BFD is up
	prepared       bool                              // the session is established
	output         output

	// The goroutine of run alone uses what follows.

	// omitted is what the OPEN leaves out because the router has refused it, until a
	// session has ended. again is set when the next attempt is worth making at once, and
	// answered when the last ended because the two sides do not agree. refusals are the
	// omissions that were logged since the last session: a router that refuses everything
	// is tried every connectTime, and logged once.
	omitted         omission
	again, answered bool
	refusals        map[string]bool

	before      bool      // there was a session in this process
	established time.Time // when the last one began
	ignored     atomic.Uint64
}

func newSession(shared *sharedState, peer bgp.Peer, routes []bgp.Route) *session {
	s := &session{
		shared:   shared,
		name:     peer.Name,
		done:     make(chan struct{}),
		wake:     notify.NewSignal(),
		retryNow: notify.NewSignal(),
		peer:     peer,
		routes:   routes,
		view: bgp.Session{
			Peer:  peer.Name,
			State: bgp.SessionConnecting,
			Since: time.Now(),
		},
	}
	s.over, s.end = context.WithCancel(context.Background())
	return s
}

// update gives the session other routes, and what of the peer needs no reset.
func (s *session) update(peer bgp.Peer, routes []bgp.Route, serial uint64) {
	s.mu.Lock()
	s.peer, s.routes, s.serial = peer, routes, serial
	s.mu.Unlock()
	s.wake.Set()
}

// finish has the session end. Only the first call counts, but forGood replaces an
// earlier mode.
func (s *session) finish(how endMode) {
	s.mu.Lock()
	if s.over.Err() == nil || how == forGood {
		s.endMode = how
	}
	s.mu.Unlock()
	s.end()
}

// wanted returns the peer and the routes that were set last.
func (s *session) wanted() (bgp.Peer, []bgp.Route) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peer, s.routes
}

// show changes what State returns of the session.
func (s *session) show(change func(*bgp.Session)) {
	s.mu.Lock()
	before := s.view
	change(&s.view)
	if s.view.State != before.State {
		s.view.Since = time.Now()
	}
	same := s.view == before
	s.mu.Unlock()
	if !same {
		s.shared.changed.Set()
	}
}

// run connects and keeps the session, again and again, until finish is called. It begins
// when old, an earlier session with the same router, has ended; nil is none.
func (s *session) run(old *session) {
	defer close(s.done)
	defer s.end()
	if old != nil {
		<-old.done
		s.before = old.before
	}
	if peer, _ := s.wanted(); peer.GracefulRestart > 0 {
		s.show(func(v *bgp.Session) { v.State = bgp.SessionHeld })
		select {
		case <-s.shared.complete.C():
		case <-s.over.Done():
			return
		}
	}
	defer func() {
		if s.engine != nil {
			s.engine.stop()
		}
	}()
	retry, lost := newRetry(s.shared.steady), time.Now()
	for s.over.Err() == nil {
		s.again, s.answered = false, false
		was, err := s.once(s.over)
		if s.over.Err() != nil {
			return
		}
		peer, _ := s.wanted()
		var wait time.Duration
		damped := false
		switch {
		case was:
			lost = time.Now()
			wait, damped = retry.after(lost.Sub(s.established), peer.Connect)
		case !s.again:
			wait = retry.failed(time.Since(lost), peer.Connect, s.answered)
		}
		s.recordFailure(was, err)
		if damped {
			s.recordDamping(retry.flaps, wait)
		}
		if wait > 0 {
			s.pause(jitter(wait))
		}
	}
}

// jitter returns d, less by up to a quarter by chance, so that the nodes of a cluster do
// not all connect at once (RFC 4271, 10).
func jitter(d time.Duration) time.Duration {
	return time.Duration((0.75 + 0.25*rand.Float64()) * float64(d))
}

// recordDamping shows and logs that the next attempt waits, because sessions end again
// and again (RFC 4271, 8.1.1).
func (s *session) recordDamping(flaps int, wait time.Duration) {
	s.show(func(v *bgp.Session) { v.State, v.Flaps = bgp.SessionDamped, flaps })
	s.shared.log.Warn("BGP session ends again and again: the next attempt waits", "peer", s.name,
		"count", flaps, "duration", wait.String())
}

// pause waits before the next attempt. It returns early when the session shall end or be
// tried at once.
func (s *session) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.retryNow.C():
	case <-s.over.Done():
	}
}

// recordFailure shows why there is no session, or no longer, and logs it once. was
// reports whether there was a session.
func (s *session) recordFailure(was bool, err error) {
	text := err.Error()
	s.show(func(v *bgp.Session) {
		now := time.Now()
		next := bgp.Session{
			Peer:           v.Peer,
			State:          bgp.SessionConnecting,
			Since:          v.Since,
			Router:         v.Router,
			LastError:      text,
			LastErrorAt:    now,
			Ended:          v.Ended,
			EndedAt:        v.EndedAt,
			Notification:   v.Notification,
			NotificationAt: v.NotificationAt,
		}
		if was {
			next.Ended, next.EndedAt = text, now
		} else if v.State == bgp.SessionAwaitingBFD {
			next.State = v.State // attempts come and go meanwhile
		}
		*v = next
	})
	if !was && s.again {
		return // learnFrom has logged the refusal, and the next attempt is under way
	}
	s.mu.Lock()
	again := s.lastLogged == text
	s.lastLogged = text
	s.mu.Unlock()
	switch {
	case was:
		s.shared.log.Warn("BGP session lost", "peer", s.name, "error", text)
	case !again:
		s.shared.log.Warn("BGP connection attempt failed", "peer", s.name, "error", text)
	}
}

// once makes one connection and keeps it until it ends. was reports whether there was a
// session, on which routes were announced.
func (s *session) once(ctx context.Context) (was bool, err error) {
	peer, _ := s.wanted()
	router, leave, err := s.connect(ctx, peer)
	defer leave()
	if err != nil {
		return false, err
	}
	defer func() { _ = router.Close() }()
	liveness, failures := s.currentLiveness()
	held := peer.Strict && liveness != bgp.LivenessUp
	s.show(func(v *bgp.Session) {
		if !held {
			v.State = bgp.SessionOpening
		}
	})
	gobgp, err := s.openInside(ctx)
	if err != nil {
		return false, err
	}
	drained := make(chan struct{})
	defer s.closeInside(gobgp, drained)
	r := &relay{
		peer:      peer,
		router:    router,
		gobgp:     gobgp,
		drained:   drained,
		opening:   s.shared.opening,
		restarted: s.shared.restarting && !s.before,
		preserved: s.shared.restarting || s.before,
		software:  s.shared.software,
		omitted:   s.omitted,
		asked:     notify.NewSignal(),
		ignored:   &s.ignored,
	}
	local, remote := addrOf(router.LocalAddr()), addrOf(router.RemoteAddr())
	if peer.Interface != "" {
		local, remote = local.WithZone(peer.Interface), remote.WithZone(peer.Interface)
	}
	r.opened = func(theirs *open) error {
		if peer.PeerASN == 0 && theirs.as == peer.LocalASN {
			r.sendNotification(notification(codeOpen, openBadPeerAS, ""),
				errors.New("told the router: OPEN error: bad peer AS (it is our own, and external "+
					"is wanted)"))
			return errEnded
		}
		s.engineMu.Lock()
		defer s.engineMu.Unlock()
		takes := theirs.nextHop6
		s.held = held
		s.chooseNextHops = func(p bgp.Peer) (nextHops, string) { return hopsFor(p, local, takes) }
		change, _ := s.change()
		return s.engine.announce(change)
	}
	r.establish = s.engine.establish
	begun := make(chan terms, 1)
	r.established = func(t terms) { begun <- t }
	defer func() { s.learnFrom(r, was) }()
	return s.serve(r, begun, failures, bgp.Session{
		Peer:     s.name,
		State:    bgp.SessionEstablished,
		Local:    local,
		Remote:   remote,
		LocalASN: peer.LocalASN,
		MD5:      peer.Password.Set(),
	})
}

// learnFrom takes in the NOTIFICATION by which the router ended a connection: it is shown
// until another one comes, whatever attempts fail with afterwards, and decides what the
// next OPEN leaves out (RFC 5492, 3). was reports whether there was a session.
func (s *session) learnFrom(r *relay, was bool) {
	said, offered := r.notification()
	s.answered = disagrees(said) || r.refusedByUs()
	if len(said) > 0 {
		text := bodyInWords(said)
		s.show(func(v *bgp.Session) {
			if v.Notification != text || was {
				v.Notification, v.NotificationAt = text, time.Now()
			}
		})
	}
	if was {
		s.omitted, s.refusals = omission{}, nil // another router may be there next time, or a newer one
		return
	}
	if s.again = s.omitted.refused(said, offered, r.peer.Families); s.again {
		s.logRefusal(s.omitted.inWords(offered))
	} else if refusal(said) {
		s.omitted = omission{} // it did not help
	}
}

// logRefusal logs which capabilities the next attempt leaves out, each set of them
// once until there was a session.
func (s *session) logRefusal(capabilities string) {
	if s.refusals[capabilities] {
		return
	}
	if s.refusals == nil {
		s.refusals = map[string]bool{}
	}
	s.refusals[capabilities] = true
	s.shared.log.Warn("the router refuses a capability: the next attempt leaves it out", "peer", s.name,
		"capabilities", capabilities)
}

// change returns what gobgp has to be given so that it announces what is wanted now.
// withheld says in words what of that has no next hop. The caller holds engineMu.
func (s *session) change() (c change, withheld string) {
	peer, routes := s.wanted()
	if s.held {
		routes = nil
	}
	via, withheld := s.chooseNextHops(peer)
	return s.engine.changeTo(routes, via), withheld
}

// openInside begins the session with gobgp, which it starts if it does not run yet.
func (s *session) openInside(ctx context.Context) (net.Conn, error) {
	s.engineMu.Lock()
	defer s.engineMu.Unlock()
	if s.engine == nil {
		// What may change of a peer without a new session is not gobgp's business.
		peer, _ := s.wanted()
		e, err := startEngine(ctx, peer, &s.shared.globals)
		if err != nil {
			return nil, err
		}
		s.engine = e
	}
	return s.engine.open(ctx)
}

// closeInside ends the session with gobgp, and then the connection.
func (s *session) closeInside(gobgp io.Closer, drained <-chan struct{}) {
	s.engineMu.Lock()
	defer s.engineMu.Unlock()
	s.engine.deletePeer()
	s.prepared = false
	select {
	case <-drained:
	case <-time.After(flushTimeout):
	}
	_ = gobgp.Close()
}

// outcome is why a connection ended.
type outcome struct{ why error }

// serve runs the relay until the connection ends, and announces what is wanted
// meanwhile. failures is how often BFD had gone down before.
func (s *session) serve(
	r *relay, begun <-chan terms, failures uint64, view bgp.Session,
) (was bool, err error) {
	ended := make(chan outcome, 1)
	go func() { ended <- outcome{r.run()} }()
	var t terms
	var holdLimit <-chan time.Time // while the session is held
	for {
		var later <-chan time.Time
		if s.due() {
			later = time.After(quiet / 4)
		}
		select {
		case o := <-ended:
			return was, o.why
		case t = <-begun:
			s.before = true
			if s.begin() {
				holdLimit = time.After(livenessTimeout)
			} else {
				was = true
				s.recordEstablished(t, view)
			}
			continue
		case <-holdLimit:
			s.endHeld(r)
			continue
		case <-s.wake.C():
			if _, now := s.currentLiveness(); now != failures {
				failures = now
				s.endForBFD(r, t)
				continue
			}
			if holdLimit != nil && s.release() {
				holdLimit, was = nil, true
				s.recordEstablished(t, view)
			}
			s.want(func(o *output) { o.routesDue = true })
		case <-r.asked.C():
			s.want(func(o *output) { o.refreshDue = true })
		case <-later:
		case <-s.over.Done():
			s.shutDown(r, ended, was, t)
			return was, errEnded
		}
		if err := s.follow(r); err != nil {
			r.end(err)
		}
	}
}

// due reports whether something is to be sent that had to wait.
func (s *session) due() bool {
	s.engineMu.Lock()
	defer s.engineMu.Unlock()
	return s.prepared && s.output.waiting()
}

// want records that something is to be sent.
func (s *session) want(what func(*output)) {
	s.engineMu.Lock()
	defer s.engineMu.Unlock()
	what(&s.output)
}

// begin records that a session has just been established, and reports whether it is
// held.
func (s *session) begin() (held bool) {
	s.engineMu.Lock()
	defer s.engineMu.Unlock()
	s.prepared = true
	s.output = output{}
	s.output.gave(time.Now(), len(s.engine.announced)) // gobgp sends all of them now
	// Routes may have changed since the router's OPEN, and the counts have to be shown.
	s.wake.Set()
	return s.held
}

// recordEstablished shows and logs that a session is established, and announces.
func (s *session) recordEstablished(t terms, view bgp.Session) {
	s.established = time.Now()
	s.show(func(v *bgp.Session) {
		view.Since, view.Router = v.Since, v.Router
		view.LastError, view.LastErrorAt = v.LastError, v.LastErrorAt
		view.Ended, view.EndedAt = v.Ended, v.EndedAt
		view.Notification, view.NotificationAt = v.Notification, v.NotificationAt
		view.Omitted = t.omitted
		view.PeerASN, view.Families, view.Hold, view.Keepalive = t.peerASN, t.families, t.hold, t.keepalive
		view.GracefulRestart, view.LongLived = t.restart, t.longLived
		*v = view
	})
	s.mu.Lock()
	s.lastLogged = ""
	s.mu.Unlock()
	s.shared.log.Info("BGP session established", "peer", s.name, "address", view.Remote)
}

// follow announces what is wanted now, as far as the router takes it, once the session
// is established: what gobgp is given while it establishes one may get lost.
func (s *session) follow(r *relay) error {
	s.engineMu.Lock()
	defer s.engineMu.Unlock()
	if !s.prepared {
		return nil
	}
	if s.output.routesDue {
		if err := s.passRoutes(r); err != nil {
			return err
		}
	}
	if now := time.Now(); s.output.mayRefresh(now, r.sendState()) {
		s.output.refreshDue, s.output.refreshed = false, now
		s.output.gave(now, len(s.engine.announced))
		return s.engine.refresh()
	}
	return nil
}

// passRoutes gives gobgp the routes that are wanted now, unless the router has yet to
// take others. The caller holds engineMu.
func (s *session) passRoutes(r *relay) error {
	s.mu.Lock()
	serial := s.serial
	s.mu.Unlock()
	now := time.Now()
	if s.output.waits(now, r.sendState()) {
		return nil
	}
	change, withheld := s.change()
	if !s.output.mayGive(now, r.sendState(), change.size()) {
		return nil
	}
	if err := s.engine.announce(change); err != nil {
		return err
	}
	s.output.routesDue = false
	s.output.gave(now, change.size())
	four, six := counts(s.engine.announced)
	s.show(func(v *bgp.Session) {
		v.Advertised4, v.Advertised6, v.Withheld = four, six, withheld
		if v.Handed != serial {
			v.Handed, v.HandedAt = serial, time.Now()
		}
	})
	return nil
}

// shutDown ends a connection in the mode that finish was called with, and waits until it
// has ended.
func (s *session) shutDown(r *relay, ended <-chan outcome, was bool, t terms) {
	s.mu.Lock()
	how, peer := s.endMode, s.peer
	s.mu.Unlock()
	s.show(func(v *bgp.Session) { v.State = bgp.SessionLeaving })
	cease := notification(codeCease, ceaseShutdown, "the speaker of this node stops")
	switch {
	case how == forRestart && t.restart:
		r.end(errEnded) // without a NOTIFICATION: the router keeps the routes (RFC 4724, 4.2)
	case how == forReset && t.restart && !t.hard:
		r.end(errEnded) // a NOTIFICATION would make it drop the routes (RFC 4724, 4.2)
	case how == forReset:
		r.sendNotification(notification(codeCease, ceaseConfiguration, ""), errEnded)
	default:
		if was && how == forGood && s.withdraw(r, ended, peer.GracefulShutdown) {
			return
		}
		if t.hard {
			cease = hardened(cease)
		}
		r.sendNotification(cease, errEnded)
	}
	<-ended
}

// withdraw withdraws the routes, after a time in which they carry GRACEFUL_SHUTDOWN
// (RFC 8326). It reports whether the connection ended meanwhile.
func (s *session) withdraw(r *relay, ended <-chan outcome, after time.Duration) bool {
	s.engineMu.Lock()
	defer s.engineMu.Unlock()
	peer, routes := s.wanted()
	via, _ := s.chooseNextHops(peer)
	avoided := s.engine.changeTo(withGracefulShutdown(routes), via)
	if after > 0 && len(routes) > 0 && s.engine.announce(avoided) == nil {
		select {
		case <-ended:
			return true
		case <-time.After(after):
		case <-s.shared.skipGrace.C():
		}
	}
	start := time.Now()
	s.output.given = start
	if s.engine.announce(s.engine.changeTo(nil, via)) != nil {
		return false
	}
	for time.Since(start) < flushTimeout && !s.output.taken(time.Now(), r.sendState()) {
		select {
		case <-ended:
			return true
		case <-time.After(quiet / 4):
		}
	}
	return false
}
