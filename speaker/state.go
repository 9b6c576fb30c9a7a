package main

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/config"
)

// state is what the speaker remembers: the configuration in force, and its
// last decision for each address.
type state struct {
	mu        sync.Mutex
	config    config.Config
	decisions map[netip.Addr]decided

	// configured is closed when the configuration was read for the first
	// time, settled when it is known which fellows are alive. Nothing is
	// announced before both.
	configured chan struct{}
	settled    chan struct{}
}

// decided is a decision and since when this node has announced the address
// by it; zero when it does not.
type decided struct {
	announcement.Decision
	since time.Time
}

func newState() *state {
	return &state{
		decisions:  map[netip.Addr]decided{},
		configured: make(chan struct{}),
		settled:    make(chan struct{}),
	}
}

// setConfig makes a configuration the one in force. What is wrong with its
// objects is the controller's to tell.
//
// It returns when it must be read again although no object changes; zero for
// never.
func (s *state) setConfig(objects config.Objects, now time.Time) (recheck time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config, _ = config.Parse(objects, s.config, now)
	if !isClosed(s.configured) {
		close(s.configured)
	}
	return s.config.Recheck
}

// missing says what the speaker waits for before it announces anything, ""
// when for nothing.
func (s *state) missing() string {
	switch {
	case !isClosed(s.configured):
		return "the configuration is not read yet"
	case !isClosed(s.settled):
		return "it is not known yet which other speakers are alive"
	}
	return ""
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// configuration is the one in force. It is not to be changed.
func (s *state) configuration() config.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config
}

// record remembers the decision for an address and returns the one before.
// Addresses that no Service has are forgotten.
func (s *state) record(addr netip.Addr, d announcement.Decision, now time.Time) announcement.Decision {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.decisions[addr]
	since := before.since
	switch {
	case !d.Announce:
		since = time.Time{}
	case !before.Announce:
		since = now
	}
	s.decisions[addr] = decided{d, since}
	if len(d.Services) == 0 && !d.Announce {
		delete(s.decisions, addr)
	}
	return before.Decision
}

// known are the addresses with a remembered decision, sorted.
func (s *state) known() []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]netip.Addr, 0, len(s.decisions))
	for addr := range s.decisions {
		out = append(out, addr)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// announced are the decisions by which this node announces addresses.
func (s *state) announced() map[netip.Addr]decided {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[netip.Addr]decided{}
	for addr, d := range s.decisions {
		if d.Announce {
			out[addr] = d
		}
	}
	return out
}
