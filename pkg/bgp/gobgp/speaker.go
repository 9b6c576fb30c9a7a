package gobgp

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"

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
	// Software is the name and version of this program, for routers that are to be
	// told.
	Software string
	// ListenPort is where passive sessions listen; 0 means DefaultListenPort.
	ListenPort uint16
}

// Speaker keeps the sessions of a node. No method but Run and Leave waits for
// anything, so a router that is dead or wrong delays nobody.
type Speaker struct {
	common
	changes chan struct{}
	news    chan struct{}

	mu       sync.Mutex
	desired  []bgp.Desired
	serial   uint64 // of desired
	current  []bgp.Desired
	sessions map[string]*session
	// ending are sessions that shall end and have not yet, by name; the newest
	// of each.
	ending   map[string]*session
	paths    map[string]bgp.Path
	complete bool
	running  bool
}

// New makes a Speaker that does nothing until Run.
func New(c Config) *Speaker {
	s := &Speaker{changes: make(chan struct{}, 1), news: make(chan struct{}, 1),
		sessions: map[string]*session{}, ending: map[string]*session{}}
	s.common = common{log: c.Logger, restarting: c.Restarting, software: c.Software, connecting: connectTimeout, opening: openTimeout, steady: steady,
		replayed: make(chan struct{}), hurry: make(chan struct{}), changed: func() { signal(s.changes) },
		listeners: listeners{port: cmp.Or(c.ListenPort, DefaultListenPort), open: map[listenAt]*listener{}}}
	return s
}

// Set says what each peer shall be told, as bgp.Plan returns it. It replaces
// what was said before, and must not be changed afterwards. Sessions with
// graceful restart begin only once a complete state has been given: their
// routers drop every route of before that is not announced again. It returns
// the number of this state, one more than that of the one before.
func (s *Speaker) Set(desired []bgp.Desired, complete bool) (serial uint64) {
	s.mu.Lock()
	s.desired = desired
	s.serial++
	serial = s.serial
	if complete && !s.complete {
		s.complete = true
		close(s.replayed)
	}
	s.mu.Unlock()
	signal(s.news)
	return serial
}

// Changed tells that State has changed since it was last read from. It holds
// one notice.
func (s *Speaker) Changed() <-chan struct{} { return s.changes }

// State is what all sessions are doing, by the peers' names. Sessions that are
// about to end are among them.
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
// speaker; the others are told that this one stops. To have the routes
// withdrawn, call Leave first. Run is called once.
func (s *Speaker) Run(ctx context.Context) {
	s.mu.Lock()
	s.running = true
	s.mu.Unlock()
	for ctx.Err() == nil {
		s.reconcile()
		select {
		case <-ctx.Done():
		case <-s.news:
		}
	}
	close(s.hurry)
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

// Leave has every session end for good: routers are asked to avoid the routes
// for as long as their peers say, then the routes are withdrawn, then the
// sessions are closed with a word. It returns when that is done or the context
// ends, and needs Run to run.
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

// reconcile does what leads from the current state to the desired one.
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
			s.log.Info("BGP session begins anew", "name", name, "reason", c.Field+" has changed")
			s.stop(old, forReset)
			s.start(c.Peer, routes[name])
		case bgp.Keep, bgp.Retry:
			old.update(c.Peer, routes[name], s.serial)
			if c.Action == bgp.Retry {
				signal(old.kick)
			}
		}
	}
	s.current = s.desired
}

// start begins a session, once one that is about to end has ended.
func (s *Speaker) start(p bgp.Peer, routes []bgp.Route) {
	one := newSession(&s.common, p, routes)
	one.serial, one.path = s.serial, s.paths[p.Name]
	s.sessions[p.Name] = one
	go one.run(s.ending[p.Name])
	s.changed()
}

func (s *Speaker) stop(one *session, how ending) {
	delete(s.sessions, one.name)
	s.ending[one.name] = one
	one.finish(how)
	go func() {
		<-one.done
		s.forget(one)
	}()
}

// forget takes away a session that has ended.
func (s *Speaker) forget(one *session) {
	s.mu.Lock()
	if s.ending[one.name] == one {
		delete(s.ending, one.name)
	}
	s.mu.Unlock()
	s.changed()
}
