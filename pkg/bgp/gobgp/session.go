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

// ending is how a session ends.
type ending int

const (
	forRestart ending = iota // the speaker comes back, and the router keeps the routes
	forReset                 // it begins anew on other terms
	forGood                  // the routes are withdrawn
)

// common is what the sessions of a speaker share.
type common struct {
	log        *slog.Logger
	globals    sync.RWMutex // see engine
	listeners  listeners
	restarting bool
	software   string
	replayed   chan struct{} // closed when all routes are known
	connecting time.Duration // connectTimeout, openTimeout and steady; less in tests
	opening    time.Duration
	steady     time.Duration
	hurry      chan struct{} // closed when there is no more time for graceful shutdown
	changed    func()        // something of the state has
	pairs      pairs
}

// session keeps one peer's session, over all its connections. Its goroutine
// is run.
type session struct {
	*common
	name string
	end  context.CancelFunc
	over context.Context // done when it shall end
	done chan struct{}   // closed when it has
	wake chan struct{}   // of one: routes or peer have changed
	kick chan struct{}   // of one: do not wait for the next attempt

	mu     sync.Mutex
	peer   bgp.Peer
	routes []bgp.Route
	serial uint64 // of the state that routes are of
	how    ending
	view   bgp.Session
	told   string // the failure that was logged last
	path   bgp.Path
	// failures counts how often the path has failed.
	failures uint64

	// engineMu guards what engine announces, and what follows.
	engineMu sync.Mutex
	engine   *engine
	choose   func(bgp.Peer) (nextHops, string) // hopsFor the present connection
	held     bool                              // nothing is announced before the path is up
	prepared bool                              // the session is established
	output   output

	// omitted is what the OPEN leaves out because the router has refused it, until
	// a session has ended. again is set when the next attempt is worth making at
	// once, and answered when the last ended because the two sides do not agree.
	// They are of run alone.
	// refusals are the omissions that were logged since the last session: a router that
	// refuses everything is tried every connectTime, and logged once.
	omitted         omission
	again, answered bool
	refusals        map[string]bool

	before      bool      // there was a session in this process
	established time.Time // when the last one began
	ignored     atomic.Uint64
}

func newSession(c *common, peer bgp.Peer, routes []bgp.Route) *session {
	s := &session{common: c, name: peer.Name, peer: peer, routes: routes, done: make(chan struct{}),
		wake: make(chan struct{}, 1), kick: make(chan struct{}, 1)}
	s.over, s.end = context.WithCancel(context.Background())
	s.view = bgp.Session{Peer: peer.Name, State: bgp.SessionConnecting, Since: time.Now()}
	return s
}

// update gives the session other routes, and what of the peer needs no reset.
func (s *session) update(peer bgp.Peer, routes []bgp.Route, serial uint64) {
	s.mu.Lock()
	s.peer, s.routes, s.serial = peer, routes, serial
	s.mu.Unlock()
	signal(s.wake)
}

// finish has the session end. Only the first call counts, but forGood goes
// over what was said before.
func (s *session) finish(how ending) {
	s.mu.Lock()
	if s.over.Err() == nil || how == forGood {
		s.how = how
	}
	s.mu.Unlock()
	s.end()
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (s *session) wanted() (bgp.Peer, []bgp.Route) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peer, s.routes
}

// show changes what is told of the session.
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
		s.changed()
	}
}

// run keeps the session until it shall end. It begins when old, one with the
// same router, has ended; nil is none.
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
		case <-s.replayed:
		case <-s.over.Done():
			return
		}
	}
	defer func() {
		if s.engine != nil {
			s.engine.stop()
		}
	}()
	retry, lost := newRetry(s.steady), time.Now()
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
		s.failed(was, err)
		if damped {
			s.damp(retry.flaps, wait)
		}
		if wait > 0 {
			s.rest(unlike(wait))
		}
	}
}

// unlike is a time, less by up to a quarter by chance, so that the nodes of a
// cluster do not all come at once.
func unlike(d time.Duration) time.Duration {
	return time.Duration((0.75 + 0.25*rand.Float64()) * float64(d))
}

// damp tells that the session is not tried again for a while, because it ends
// again and again.
func (s *session) damp(flaps int, wait time.Duration) {
	s.show(func(v *bgp.Session) { v.State, v.Flaps = bgp.SessionDamped, flaps })
	s.log.Warn("BGP session ends again and again: the next attempt waits", "name", s.name, "count", flaps, "duration", wait)
}

// rest waits, unless there is something to do.
func (s *session) rest(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.kick:
	case <-s.over.Done():
	}
}

// failed tells why there is no session, or no longer, and logs it once.
func (s *session) failed(was bool, err error) {
	text := err.Error()
	s.show(func(v *bgp.Session) {
		now := time.Now()
		next := bgp.Session{
			Peer: v.Peer, State: bgp.SessionConnecting, Since: v.Since, Router: v.Router,
			LastError: text, LastErrorAt: now, Ended: v.Ended, EndedAt: v.EndedAt,
			Notification: v.Notification, NotificationAt: v.NotificationAt,
		}
		if was {
			next.Ended, next.EndedAt = text, now
		} else if v.State == bgp.SessionAwaitingBFD {
			next.State = v.State // attempts come and go meanwhile
		}
		*v = next
	})
	if !was && s.again {
		return // heed has logged the refusal, and the next attempt is under way
	}
	s.mu.Lock()
	again := s.told == text
	s.told = text
	s.mu.Unlock()
	switch {
	case was:
		s.log.Warn("BGP session lost", "name", s.name, "error", text)
	case !again:
		s.log.Warn("no BGP session", "name", s.name, "error", text)
	}
}

// once makes one connection and keeps it until it ends. was tells whether
// there was a session.
func (s *session) once(ctx context.Context) (was bool, err error) {
	peer, _ := s.wanted()
	router, leave, err := s.connect(ctx, peer)
	defer leave()
	if err != nil {
		return false, err
	}
	defer func() { _ = router.Close() }()
	path, failures := s.pathNow()
	held := peer.Strict && path != bgp.PathUp
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
	r := &relay{peer: peer, router: router, gobgp: gobgp, drained: drained, opening: s.opening, ignored: &s.ignored,
		asked: make(chan struct{}, 1), software: s.software, omitted: s.omitted,
		restarted: s.restarting && !s.before, preserved: s.restarting || s.before}
	local, remote := addrOf(router.LocalAddr()), addrOf(router.RemoteAddr())
	if peer.Interface != "" {
		local, remote = local.WithZone(peer.Interface), remote.WithZone(peer.Interface)
	}
	r.opened = func(theirs *open) error {
		if peer.PeerASN == 0 && theirs.as == peer.LocalASN {
			r.say(notification(codeOpen, openBadPeerAS, ""),
				errors.New("told the router: OPEN error: bad peer AS (it is our own, and external is wanted)"))
			return errEnded
		}
		s.engineMu.Lock()
		defer s.engineMu.Unlock()
		takes := theirs.nextHop6
		s.held = held
		s.choose = func(p bgp.Peer) (nextHops, string) { return hopsFor(p, local, takes) }
		change, _ := s.change()
		return s.engine.announce(change)
	}
	r.establish = s.engine.establish
	begun := make(chan terms, 1)
	r.established = func(t terms) { begun <- t }
	defer func() { s.heed(r, was) }()
	return s.serve(r, begun, failures, bgp.Session{Peer: s.name, State: bgp.SessionEstablished, Local: local, Remote: remote,
		LocalASN: peer.LocalASN, MD5: peer.Password.Set()})
}

// heed takes in what the router has said when it ended a connection: that is shown
// until it says something else, whatever attempts fail with afterwards, and decides
// what the next OPEN leaves out. was tells whether there was a session.
func (s *session) heed(r *relay, was bool) {
	said, offered := r.notified()
	s.answered = disagrees(said) || r.refused()
	if len(said) > 0 {
		text := saidInWords(said)
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
	s.log.Warn("the router refuses a capability: the next attempt leaves it out", "name", s.name,
		"capability", capabilities)
}

// change is what gobgp has to be given so that it announces what is wanted now,
// and in words what of that has no next hop. The caller holds engineMu.
func (s *session) change() (c change, withheld string) {
	peer, routes := s.wanted()
	if s.held {
		routes = nil
	}
	via, withheld := s.choose(peer)
	return s.engine.changeTo(routes, via), withheld
}

// openInside begins the session with gobgp, which it starts when need be.
func (s *session) openInside(ctx context.Context) (net.Conn, error) {
	s.engineMu.Lock()
	defer s.engineMu.Unlock()
	if s.engine == nil {
		// What may change of a peer without a new session is not gobgp's business.
		peer, _ := s.wanted()
		e, err := startEngine(ctx, peer, &s.globals)
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
	s.engine.disarm()
	s.prepared = false
	select {
	case <-drained:
	case <-time.After(flushTimeout):
	}
	_ = gobgp.Close()
}

// outcome is why a connection ended.
type outcome struct{ why error }

// serve runs the relay, and follows what is wanted meanwhile.
// failures is how often the path had failed before.
func (s *session) serve(r *relay, begun <-chan terms, failures uint64, view bgp.Session) (was bool, err error) {
	ended := make(chan outcome, 1)
	go func() { ended <- outcome{r.run()} }()
	var t terms
	var patience <-chan time.Time // while the session is held
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
				patience = time.After(pathTimeout)
			} else {
				was = true
				s.tell(t, view)
			}
			continue
		case <-patience:
			s.giveUp(r)
			continue
		case <-s.wake:
			if _, now := s.pathNow(); now != failures {
				failures = now
				s.lose(r, t)
				continue
			}
			if patience != nil && s.release() {
				patience, was = nil, true
				s.tell(t, view)
			}
			s.want(func(o *output) { o.routesDue = true })
		case <-r.asked:
			s.want(func(o *output) { o.refreshDue = true })
		case <-later:
		case <-s.over.Done():
			s.depart(r, ended, was, t)
			return was, errEnded
		}
		if err := s.follow(r); err != nil {
			r.end(err)
		}
	}
}

// due tells whether something is to be sent that had to wait.
func (s *session) due() bool {
	s.engineMu.Lock()
	defer s.engineMu.Unlock()
	return s.prepared && s.output.waiting()
}

// want notes that something is to be sent.
func (s *session) want(what func(*output)) {
	s.engineMu.Lock()
	defer s.engineMu.Unlock()
	what(&s.output)
}

// begin notes that a session has just been established, and tells whether it is
// held.
func (s *session) begin() (held bool) {
	s.engineMu.Lock()
	defer s.engineMu.Unlock()
	s.prepared = true
	s.output = output{}
	s.output.gave(time.Now(), len(s.engine.announced)) // gobgp sends all of them now
	signal(s.wake)                                     // for what has changed since the router's OPEN, and the counts
	return s.held
}

// tell tells of a session that is established, and announces.
func (s *session) tell(t terms, view bgp.Session) {
	s.established = time.Now()
	s.show(func(v *bgp.Session) {
		view.Since, view.Router, view.LastError, view.LastErrorAt = v.Since, v.Router, v.LastError, v.LastErrorAt
		view.Ended, view.EndedAt = v.Ended, v.EndedAt
		view.Notification, view.NotificationAt = v.Notification, v.NotificationAt
		view.Omitted = t.omitted
		view.PeerASN, view.Families, view.Hold, view.Keepalive = t.peerASN, t.families, t.hold, t.keepalive
		view.GracefulRestart, view.LongLived = t.restart, t.longLived
		*v = view
	})
	s.mu.Lock()
	s.told = ""
	s.mu.Unlock()
	s.log.Info("BGP session established", "name", s.name, "address", view.Remote)
}

// follow announces what is wanted now, as far as the router takes it, once the
// session is established. What gobgp is given while it establishes a session may
// get lost.
func (s *session) follow(r *relay) error {
	s.engineMu.Lock()
	defer s.engineMu.Unlock()
	if !s.prepared {
		return nil
	}
	if s.output.routesDue {
		if err := s.hand(r); err != nil {
			return err
		}
	}
	if now := time.Now(); s.output.mayRefresh(now, r.line()) {
		s.output.refreshDue, s.output.refreshed = false, now
		s.output.gave(now, len(s.engine.announced))
		return s.engine.refresh()
	}
	return nil
}

// hand gives gobgp the routes that are wanted now, unless the router has yet to
// take others. The caller holds engineMu.
func (s *session) hand(r *relay) error {
	s.mu.Lock()
	serial := s.serial
	s.mu.Unlock()
	now := time.Now()
	if s.output.waits(now, r.line()) {
		return nil
	}
	change, withheld := s.change()
	if !s.output.mayGive(now, r.line(), change.size()) {
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

// depart ends a connection as finish has asked, and waits until it has ended.
func (s *session) depart(r *relay, ended <-chan outcome, was bool, t terms) {
	s.mu.Lock()
	how, peer := s.how, s.peer
	s.mu.Unlock()
	s.show(func(v *bgp.Session) { v.State = bgp.SessionLeaving })
	cease := notification(codeCease, ceaseShutdown, "the speaker of this node stops")
	switch {
	case how == forRestart && t.restart:
		r.end(errEnded) // without a word: the router waits for us
	case how == forReset && t.restart && !t.hard:
		r.end(errEnded) // a word would make it forget the routes
	case how == forReset:
		r.say(notification(codeCease, ceaseConfiguration, ""), errEnded)
	default:
		if was && how == forGood && s.withdraw(r, ended, peer.GracefulShutdown) {
			return
		}
		if t.hard {
			cease = hardened(cease)
		}
		r.say(cease, errEnded)
	}
	<-ended
}

// withdraw takes the routes back, after a time in which others are told to
// avoid them. It tells whether the connection ended meanwhile.
func (s *session) withdraw(r *relay, ended <-chan outcome, after time.Duration) bool {
	s.engineMu.Lock()
	defer s.engineMu.Unlock()
	peer, routes := s.wanted()
	via, _ := s.choose(peer)
	if after > 0 && len(routes) > 0 && s.engine.announce(s.engine.changeTo(asLeaving(routes), via)) == nil {
		select {
		case <-ended:
			return true
		case <-time.After(after):
		case <-s.hurry:
		}
	}
	start := time.Now()
	s.output.given = start
	if s.engine.announce(s.engine.changeTo(nil, via)) != nil {
		return false
	}
	for time.Since(start) < flushTimeout && !s.output.taken(time.Now(), r.line()) {
		select {
		case <-ended:
			return true
		case <-time.After(quiet / 4):
		}
	}
	return false
}
