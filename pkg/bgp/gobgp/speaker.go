package gobgp

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/bgp"
)

// DefaultListenPort is where passive sessions wait for their routers.
const DefaultListenPort = 179

// Config is what a Speaker needs to know for its life.
type Config struct {
	Logger *slog.Logger
	// Restarting says that the node has forwarded traffic all the time while no
	// speaker ran: the first session of each peer asks its router to go on
	// with the routes of before (RFC 4724, 4.1).
	Restarting bool
	// Software is the name and version of this program, for peers that are offered them.
	Software string
	// ListenPort is where passive sessions listen; 0 means DefaultListenPort.
	ListenPort uint16
}

// Speaker keeps the sessions of a node. No method but Run and Leave waits for
// anything, so a router that is dead or wrong delays nobody.
type Speaker struct {
	shared     sharedState
	newDesired notify.Signal

	mu       sync.Mutex
	desired  []bgp.Desired
	serial   uint64 // of desired
	current  []bgp.Desired
	sessions map[string]*session
	// ending are sessions that shall end and have not yet, by name; the newest
	// of each.
	ending   map[string]*session
	liveness map[string]bgp.Liveness
	running  bool
}

// New returns a Speaker that does nothing until Run.
func New(c Config) *Speaker {
	return &Speaker{
		shared: sharedState{
			log:        c.Logger,
			restarting: c.Restarting,
			software:   c.Software,
			connecting: connectTimeout,
			opening:    openTimeout,
			steady:     steady,
			complete:   notify.NewLatch(),
			skipGrace:  notify.NewLatch(),
			changed:    notify.NewSignal(),
			listeners: listeners{
				port: cmp.Or(c.ListenPort, DefaultListenPort),
				open: map[listenAt]*listener{},
			},
		},
		newDesired: notify.NewSignal(),
		sessions:   map[string]*session{},
		ending:     map[string]*session{},
	}
}

// Set replaces the desired state: the peers, and the routes to announce to each, as
// bgp.Plan returns them. The caller must not change it afterwards. Sessions with
// graceful restart begin only once a complete state was set: at the end of the restart,
// routers drop every earlier route that was not announced again (RFC 4724, 4.2). Set
// returns the number of the state, one more than that of the one before.
func (s *Speaker) Set(desired []bgp.Desired, complete bool) (serial uint64) {
	s.mu.Lock()
	s.desired = desired
	s.serial++
	serial = s.serial
	s.mu.Unlock()
	if complete {
		s.shared.complete.Set()
	}
	s.newDesired.Set()
	return serial
}

// Changed returns a channel that holds one value when State has changed since the last
// one was received.
func (s *Speaker) Changed() <-chan struct{} { return s.shared.changed.C() }

// State returns what all sessions are doing, sorted by the peers' names. Sessions that
// are about to end are among them.
func (s *Speaker) State() []bgp.Session {
	s.mu.Lock()
	all := make([]*session, 0, len(s.sessions)+len(s.ending))
	for _, one := range s.sessions {
		all = append(all, one)
	}
	for name, one := range s.ending {
		if s.sessions[name] == nil {
			all = append(all, one)
		}
	}
	s.mu.Unlock()
	out := make([]bgp.Session, 0, len(all))
	for _, one := range all {
		one.mu.Lock()
		view := one.view
		one.mu.Unlock()
		view.Ignored = one.ignored.Load()
		out = append(out, view)
	}
	slices.SortFunc(out, func(a, b bgp.Session) int { return cmp.Compare(a.Peer, b.Peer) })
	return out
}

// Run keeps the sessions until the context ends, and returns when all have
// ended. Routers that know graceful restart then keep the routes for the next
// speaker; the others get a NOTIFICATION that this one stops. To have the routes
// withdrawn, call Leave first. Run is called once.
func (s *Speaker) Run(ctx context.Context) {
	s.mu.Lock()
	s.running = true
	s.mu.Unlock()
	for ctx.Err() == nil {
		s.reconcile()
		select {
		case <-ctx.Done():
		case <-s.newDesired.C():
		}
	}
	s.shared.skipGrace.Set()
	s.mu.Lock()
	s.running = false
	var all []*session
	for _, one := range s.sessions {
		one.finish(forRestart)
		all = append(all, one)
	}
	for _, one := range s.ending {
		one.finish(forRestart) // does not go over what was said before
		all = append(all, one)
	}
	s.sessions, s.current = map[string]*session{}, nil
	s.mu.Unlock()
	for _, one := range all {
		<-one.done
	}
}

// Leave ends every session for good: it asks routers to avoid the routes for as long as
// their peers say (RFC 8326), then withdraws the routes, then closes the sessions with
// a NOTIFICATION. It returns when that is done or the context ends, and needs Run to
// run.
func (s *Speaker) Leave(ctx context.Context) {
	s.Set(nil, true)
	s.reconcile()
	for {
		s.mu.Lock()
		var one *session
		for _, one = range s.ending {
			break
		}
		s.mu.Unlock()
		if one == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-one.done:
			s.forget(one)
		}
	}
}

// reconcile starts, stops and updates sessions until they are the desired ones.
func (s *Speaker) reconcile() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running {
		return
	}
	routes := map[string][]bgp.Route{}
	for _, d := range s.desired {
		routes[d.Peer.Name] = d.Routes
	}
	for _, c := range bgp.Diff(s.current, s.desired) {
		name := c.Peer.Name
		old := s.sessions[name]
		switch c.Action {
		case bgp.Start:
			s.start(c.Peer, routes[name])
		case bgp.Stop:
			s.stop(old, forGood)
		case bgp.Reset:
			s.shared.log.Info("resetting BGP session", "peer", name, "message", c.Field+" has changed")
			s.stop(old, forReset)
			s.start(c.Peer, routes[name])
		case bgp.Keep, bgp.Retry:
			old.update(c.Peer, routes[name], s.serial)
			if c.Action == bgp.Retry {
				old.retryNow.Set()
			}
		}
	}
	s.current = s.desired
}

// start starts a session, once an earlier one with the same name has ended.
func (s *Speaker) start(p bgp.Peer, routes []bgp.Route) {
	one := newSession(&s.shared, p, routes)
	one.serial, one.liveness = s.serial, s.liveness[p.Name]
	s.sessions[p.Name] = one
	go one.run(s.ending[p.Name])
	s.shared.changed.Set()
}

// stop has a session end, and forgets it once it has.
func (s *Speaker) stop(one *session, how endMode) {
	delete(s.sessions, one.name)
	s.ending[one.name] = one
	one.finish(how)
	go func() {
		<-one.done
		s.forget(one)
	}()
}

// forget removes a session that has ended.
func (s *Speaker) forget(one *session) {
	s.mu.Lock()
	if s.ending[one.name] == one {
		delete(s.ending, one.name)
	}
	s.mu.Unlock()
	s.shared.changed.Set()
}
