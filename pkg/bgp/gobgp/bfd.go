package gobgp

import (
	"context"
	"errors"
	"time"

	"github.com/berth-lb/berth/pkg/bgp"
)

var (
	errPathFailed = errors.New("BFD: the way to the router has failed")
	errNoPath     = errors.New("BFD: the router is heard, but BFD does not come up, and strictBFD asks for that: " +
		"does the router hear this node, and is BFD not shut down there?")
	errSilent = errors.New("BFD: nothing is heard of the router, also not while it has a session, and strictBFD " +
		"asks for BFD: is it configured at the router, for this node?")
	errSilentPassive = errors.New("BFD: nothing is heard of the router, and strictBFD asks for BFD: is it " +
		"configured at the router, for this node? Routers begin BFD with a dynamic neighbour only when it connects, " +
		"and a passive peer does not")
)

const (
	// pathTimeout bounds one wait for a path: meanwhile the router may have got
	// another address.
	pathTimeout = 15 * time.Second
	// silence is how long a router is waited for before anything is heard of it by
	// BFD. Routers send a packet a second while BFD is not up.
	silence = 3 * time.Second
)

// SetPaths says what BFD finds of the ways to the routers, by the peers' names;
// those of peers that are not named are not watched. A session whose path fails
// ends at once (RFC 9384), and one that is strict begins only while its path is
// up. A session that has begun without BFD goes on without.
func (s *Speaker) SetPaths(paths map[string]bgp.Path) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paths = paths
	for name, one := range s.sessions {
		one.setPath(paths[name])
	}
}

// setPath takes in what became of the path.
func (s *session) setPath(path bgp.Path) {
	s.mu.Lock()
	before := s.path
	if path.Failed() && !before.Failed() {
		s.failures++
	}
	s.path = path
	s.mu.Unlock()
	if path != before {
		signal(s.wake)
	}
}

// pathNow is what is known of the path, and how often it has failed.
func (s *session) pathNow() (bgp.Path, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.path, s.failures
}

// awaitPath waits until the path is up, or the peer is strict no more, for so long
// at most.
func (s *session) awaitPath(ctx context.Context, most time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for {
		if s.mayBegin() {
			return nil
		}
		s.show(func(v *bgp.Session) { v.State = bgp.SessionAwaitingBFD })
		select {
		case <-ctx.Done():
			if path, _ := s.pathNow(); path.Silent() {
				return errSilent
			}
			return errNoPath
		case <-s.wake:
		}
	}
}

// mayBegin tells whether BFD allows the session to announce.
func (s *session) mayBegin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.peer.Strict || s.path == bgp.PathUp
}

// awaitRouter waits until BFD is up with a router, or nothing is heard of it for a
// while: then it may be waiting for this side to connect. Routers begin BFD with a
// dynamic neighbour (FRR's bgp listen range) only when that connects. So this side
// begins a session that is held: it announces nothing before BFD is up.
//
// To hold only the connection would not do. FRR begins BFD anew, from the address
// of the session, when that is established, and ends a session of which BFD was up
// before.
func (s *session) awaitRouter(ctx context.Context, passive bool) error {
	if passive {
		err := s.awaitPath(ctx, pathTimeout)
		if errors.Is(err, errSilent) {
			return errSilentPassive
		}
		return err
	}
	for end := time.Now().Add(pathTimeout); ; {
		err := s.awaitPath(ctx, silence)
		switch {
		case err == nil || errors.Is(err, errSilent):
			return nil
		case ctx.Err() != nil || time.Now().After(end):
			return err
		}
	}
}

// release ends the holding of a session whose path is up, and tells whether it is.
func (s *session) release() bool {
	if !s.mayBegin() {
		return false
	}
	s.engineMu.Lock()
	defer s.engineMu.Unlock()
	s.held = false
	return true
}

// giveUp ends a session that was held for too long.
func (s *session) giveUp(r *relay) {
	why := errNoPath
	if path, _ := s.pathNow(); path.Silent() {
		why = errSilent
	}
	r.say(notification(codeCease, ceaseBFDDown, ""), why)
}

// lose ends a connection whose path has failed. A router that keeps routes over
// the end of a session is told to keep none: what failed is the way for the
// traffic.
func (s *session) lose(r *relay, t terms) {
	cease := notification(codeCease, ceaseBFDDown, "")
	if t.hard {
		cease = hardened(cease)
	}
	r.say(cease, errPathFailed)
}
