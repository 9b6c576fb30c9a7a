package gobgp

import (
	"context"
	"errors"
	"time"

	"github.com/berth-lb/berth/pkg/bgp"
)

var (
	errPathFailed = errors.New("BFD: the way to the router has failed")
	errNoPath     = errors.New("BFD: the way to the router is not known to work, and strictBFD asks for that")
)

// pathTimeout bounds one wait for a path: meanwhile the router may have got
// another address.
const pathTimeout = 15 * time.Second

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
	if path == bgp.PathFailed && before != path {
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

// awaitPath waits until the path is up.
func (s *session) awaitPath(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pathTimeout)
	defer cancel()
	for {
		path, _ := s.pathNow()
		if path == bgp.PathUp {
			return nil
		}
		s.show(func(v *bgp.Session) { v.State = bgp.SessionAwaitingBFD })
		select {
		case <-ctx.Done():
			return errNoPath
		case <-s.wake:
		}
	}
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
