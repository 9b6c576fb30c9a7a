package main

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/announcement"
)

// state is what the speaker remembers of each address: its last decision and what came
// before.
type state struct {
	// loops are the main loops of the process, none of which may stand still.
	loops kube.Loops

	mu        sync.Mutex
	addresses map[netip.Addr]remembered
	serial    uint64 // of the last question

	// configured is set when the configuration was read for the first time, settled when
	// it is known which fellows are alive. Nothing is announced before both.
	configured notify.Latch
	settled    notify.Latch
	// unsettled is why the latter is not known yet, "" for no reason in particular.
	unsettled string
}

// remembered is what the speaker remembers of one address.
type remembered struct {
	announcement.Decision
	// changed is when the decision came to its reason, since when this node
	// began to announce the address, zero when it does not; handingOver is since
	// when it hands it over.
	changed     time.Time
	since       time.Time
	handingOver time.Time
	// highest is the highest generation that any claim of it had, burst what
	// makes the announcer announce it anew.
	highest uint64
	burst   uint64
	// probe is what is known of the address on the LAN, asking the serial of
	// the question that is open, 0 for none.
	probe  announcement.Probe
	asking uint64
	// takeover is why and since when it was being taken, until it was
	// announced for the first time.
	takeover takeover
}

// takeover is one address on its way to this node.
type takeover struct {
	cause v1beta1.Cause
	// from is when the owner before was last known to be there or, where that
	// is not known, when this node decided.
	from time.Time
}

func newState(configured notify.Latch) *state {
	return &state{addresses: map[netip.Addr]remembered{}, configured: configured, settled: notify.NewLatch()}
}

// missing says what the speaker waits for before it announces anything, ""
// when for nothing.
func (s *state) missing() string {
	switch {
	case !s.configured.IsSet():
		return "the configuration is not read yet"
	case !s.settled.IsSet():
		const missing = "it is not known yet which other speakers are alive"
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.unsettled != "" {
			return missing + ": " + s.unsettled
		}
		return missing
	}
	return ""
}

// setUnsettled says why it is not known yet which fellows are alive. It reports
// whether that is news.
func (s *state) setUnsettled(why string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	news := s.unsettled != why
	s.unsettled = why
	return news
}

// adopt takes in what this speaker claimed before it was started anew. What
// another has claimed since is not this node's any more.
func (s *state) adopt(own map[netip.Addr]announcement.Claim, others map[netip.Addr]map[string]announcement.Claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for addr, claim := range own {
		r := remembered{highest: claim.Generation}
		for _, other := range others[addr] {
			r.highest = max(r.highest, other.Generation)
		}
		if r.highest == claim.Generation {
			r.Claim = &claim
		}
		s.addresses[addr] = r
	}
}

// memory is what is remembered of an address.
func (s *state) memory(addr netip.Addr) remembered {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addresses[addr]
}

// record remembers the decision for an address, and returns what was
// remembered before and is now. Addresses that no Service has are forgotten.
func (s *state) record(in announcement.Input, d announcement.Decision) (before, after remembered) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before = s.addresses[in.Address]
	after = before
	after.Decision = d
	after.highest = in.Highest
	for _, claim := range in.Claims {
		after.highest = max(after.highest, claim.Generation)
	}
	if d.Claim != nil {
		after.highest = max(after.highest, d.Claim.Generation)
	}
	if before.Reason != d.Reason {
		after.changed = in.Now
	}
	if !d.Announce {
		after.since = time.Time{}
	} else if !before.Announce || before.StandInFor != d.StandInFor {
		after.since = in.Now
	}
	switch {
	case !d.HandingOver:
		after.handingOver = time.Time{}
	case !before.HandingOver:
		after.handingOver = in.Now
	}
	// It is announced anew when it is taken, and once more when the fellow that
	// had it has given it up.
	if d.Cause != "" || d.Announce && before.Contested && !d.Contested {
		after.burst++
	}
	switch {
	case d.Cause != "":
		after.takeover = takeover{d.Cause, in.Now}
	case !d.Announce:
		after.takeover = takeover{}
	}
	// What the LAN said is asked anew when this node comes to own the address
	// another time.
	switch d.Reason {
	case v1beta1.ReasonProbing, v1beta1.ReasonConflict, v1beta1.ReasonNodeAnswers, v1beta1.ReasonClaimsUnknown:
	default:
		after.probe, after.asking = announcement.Probe{}, 0
	}
	s.addresses[in.Address] = after
	if len(d.Services) == 0 && !d.Announce {
		delete(s.addresses, in.Address)
	}
	return before, after
}

// startProbe remembers that the LAN is being asked for an address, and returns
// the serial of this question. An earlier one is over.
func (s *state) startProbe(addr netip.Addr) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.addresses[addr]
	s.serial++
	r.asking, r.probe.State = s.serial, announcement.ProbeAsking
	s.addresses[addr] = r
	return s.serial
}

// probing reports whether the answer to a question still matters.
func (s *state) probing(addr netip.Addr, serial uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addresses[addr].asking == serial
}

// setProbe remembers the answer to a question, if it still matters. Who had the
// address before it was free is remembered too.
func (s *state) setProbe(addr netip.Addr, serial uint64, probe announcement.Probe) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, known := s.addresses[addr]
	if !known || r.asking != serial {
		return false
	}
	if probe.Holder == nil {
		probe.Holder = r.probe.Holder
	}
	r.probe = probe
	s.addresses[addr] = r
	return true
}

// missedSince remembers when the owner before was last known to be there, if the
// address is being taken.
func (s *state) missedSince(addr netip.Addr, from time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.addresses[addr]; r.takeover.cause != "" {
		r.takeover.from = from
		s.addresses[addr] = r
	}
}

// took returns the takeover of an address that is announced now, once.
func (s *state) took(addr netip.Addr) (takeover, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.addresses[addr]
	if r.takeover.cause == "" {
		return takeover{}, false
	}
	t := r.takeover
	r.takeover = takeover{}
	s.addresses[addr] = r
	return t, true
}

// known are the addresses of which anything is remembered, sorted.
func (s *state) known() []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]netip.Addr, 0, len(s.addresses))
	for addr := range s.addresses {
		out = append(out, addr)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// all is a copy of what is remembered.
func (s *state) all() map[netip.Addr]remembered {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[netip.Addr]remembered, len(s.addresses))
	for addr, r := range s.addresses {
		out[addr] = r
	}
	return out
}

// announced is what this node announces.
func (s *state) announced() map[netip.Addr]remembered {
	out := s.all()
	for addr, r := range out {
		if !r.Announce {
			delete(out, addr)
		}
	}
	return out
}

// owns reports whether this node claims anything.
func (s *state) owns() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.addresses {
		if r.Claim != nil {
			return true
		}
	}
	return false
}
