package gobgp

import (
	"context"
	"errors"
	"time"

	"github.com/berth-lb/berth/pkg/bgp"
)

var (
	errBFDDown  = errors.New("BFD: the session with the router went down")
	errBFDNotUp = errors.New("BFD: the router is heard, but BFD does not come up, and strictBFD asks for " +
		"that: does the router hear this node, and is BFD not shut down there?")
	errBFDSilent = errors.New("BFD: nothing is heard of the router, also not while it has a session, and " +
		"strictBFD asks for BFD: is it configured at the router, for this node?")
	errBFDSilentPassive = errors.New("BFD: nothing is heard of the router, and strictBFD asks for BFD: " +
		"is it configured at the router, for this node? Routers begin BFD with a dynamic neighbour only " +
		"when it connects, and a passive peer does not")
)

const (
	// livenessTimeout bounds one wait for BFD: meanwhile the router may have got another
	// address.
	livenessTimeout = 15 * time.Second
	// silence is how long a router is waited for before anything is heard of it by
	// BFD. Routers send a packet a second while BFD is not up.
	silence = 3 * time.Second
)

// SetLiveness replaces what BFD knows of the routers, by the peers' names; a peer that is
// not named is not monitored. The caller must not change the map afterwards. A session
// ends at once when BFD goes down (RFC 9384), and a strict one announces only while BFD is
// up. A session that has begun without BFD goes on without.
func (s *Speaker) SetLiveness(liveness map[string]bgp.Liveness) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.liveness = liveness
	for name, one := range s.sessions {
		one.setLiveness(liveness[name])
	}
}

// setLiveness records what BFD knows of the router now.
func (s *session) setLiveness(now bgp.Liveness) {
	s.mu.Lock()
	before := s.liveness
	if now.Failed() && !before.Failed() {
		s.failures++
	}
	s.liveness = now
	s.mu.Unlock()
	if now != before {
		s.wake.Set()
	}
}

// currentLiveness returns what BFD knows of the router, and how often it went down.
func (s *session) currentLiveness() (liveness bgp.Liveness, failures uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.liveness, s.failures
}

// awaitLiveness waits until BFD is up, or the peer is strict no more, for most at the
// longest.
func (s *session) awaitLiveness(ctx context.Context, most time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for {
		if s.mayBegin() {
			return nil
		}
		s.show(func(v *bgp.Session) { v.State = bgp.SessionAwaitingBFD })
		select {
		case <-ctx.Done():
			if now, _ := s.currentLiveness(); now.Silent() {
				return errBFDSilent
			}
			return errBFDNotUp
		case <-s.wake.C():
		}
	}
}

// mayBegin reports whether BFD allows the session to announce.
func (s *session) mayBegin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.peer.Strict || s.liveness == bgp.LivenessUp
}

// awaitBFD waits until BFD is up with a router, or nothing is heard of the router for a
// while: then it may be waiting for this side to connect. Routers begin BFD with a dynamic
// neighbour (FRR's bgp listen range) only when that connects. So this side begins a
// session that is held: it announces nothing before BFD is up.
//
// To hold only the connection would not do. FRR starts a second BFD session, from the
// address of the BGP session, when that is established, and ends a BGP session whose BFD
// was up before.
func (s *session) awaitBFD(ctx context.Context, passive bool) error {
	if passive {
		err := s.awaitLiveness(ctx, livenessTimeout)
		if errors.Is(err, errBFDSilent) {
			return errBFDSilentPassive
		}
		return err
	}
	for end := time.Now().Add(livenessTimeout); ; {
		err := s.awaitLiveness(ctx, silence)
		switch {
		case err == nil || errors.Is(err, errBFDSilent):
			return nil
		case ctx.Err() != nil || time.Now().After(end):
			return err
		}
	}
}

// release lets a held session announce when BFD is up, and reports whether it is.
func (s *session) release() bool {
	if !s.mayBegin() {
		return false
	}
	s.engineMu.Lock()
	defer s.engineMu.Unlock()
	s.held = false
	return true
}

// endHeld ends a session that was held for too long.
func (s *session) endHeld(r *relay) {
	why := errBFDNotUp
	if now, _ := s.currentLiveness(); now.Silent() {
		why = errBFDSilent
	}
	r.sendNotification(notification(codeCease, ceaseBFDDown, ""), why)
}

// endForBFD ends a connection because BFD went down (RFC 9384). A router that keeps
// routes over a NOTIFICATION gets a hard reset and keeps none: the traffic for them would
// take the path that failed.
func (s *session) endForBFD(r *relay, t terms) {
	cease := notification(codeCease, ceaseBFDDown, "")
	if t.hard {
		cease = hardened(cease)
	}
	r.sendNotification(cease, errBFDDown)
}
