package main

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/config"
)

// state is what the speaker remembers: the configuration in force, and of each
// address its last decision and what came before.
type state struct {
	// loops are the main loops of the process, none of which may stand still.
	loops kube.Loops

	mu        sync.Mutex
	config    config.Config
	addresses map[netip.Addr]remembered
	bgp       map[netip.Addr]decidedRoute
	serial    uint64 // of the last question

	// configured is closed when the configuration was read for the first
	// time, settled when it is known which fellows are alive. Nothing is
	// announced before both.
	configured chan struct{}
	settled    chan struct{}
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
	// incomplete is since when it has lacked what may be about to come, and nobody
	// was told; see newService.
	incomplete time.Time
}

// newService is how long an address that was not announced before may lack what
// comes after a Service by itself, before that is told: EndpointSlices are written a
// second or so later, and pools and advertisements may be created beside it.
const newService = 5 * time.Second

// comes tells whether what the reason of a decision says is missing may be about to
// come for a new Service.
func comes(reason v1beta1.Reason) bool {
	switch reason {
	case v1beta1.ReasonNoPool, v1beta1.ReasonNoAdvertisement, v1beta1.ReasonNoEndpoint:
		return true
	}
	return false
}

// incompleteSince is since when an address has been incomplete, by that time before
// and the reasons before and now; zero when it is not, or that was told.
func incompleteSince(since time.Time, before, after v1beta1.Reason, now time.Time) time.Time {
	switch {
	case !comes(after):
		return time.Time{}
	case before == "" || before == v1beta1.ReasonNoService:
		return now
	}
	return since
}

// overdue says how much longer nobody is to be told that an address is incomplete, and,
// once, that the time has come.
func overdue(since *time.Time, now time.Time) (wait time.Duration, due bool) {
	if since.IsZero() {
		return 0, false
	}
	if wait = newService - now.Sub(*since); wait > 0 {
		return wait, false
	}
	*since = time.Time{}
	return 0, true
}

// takeover is one address on its way to this node.
type takeover struct {
	cause v1beta1.Cause
	// from is when the owner before was last known to be there or, where that
	// is not known, when this node decided.
	from time.Time
}

func newState() *state {
	return &state{
		addresses:  map[netip.Addr]remembered{},
		bgp:        map[netip.Addr]decidedRoute{},
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

// Current implements [members.Configuration].
func (s *state) Current() (config.Config, uint64) { return s.configuration(), 0 }

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
	after.incomplete = incompleteSince(before.incomplete, before.Reason, d.Reason, in.Now)
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

// incomplete says how much longer nobody is to be told what an address lacks, 0 for
// no longer, and, once, that the time has come.
func (s *state) incomplete(addr netip.Addr, now time.Time) (wait time.Duration, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, known := s.addresses[addr]
	if !known {
		return 0, false
	}
	wait, due = overdue(&r.incomplete, now)
	s.addresses[addr] = r
	return wait, due
}

// incompleteBGP is the same for BGP.
func (s *state) incompleteBGP(addr netip.Addr, now time.Time) (wait time.Duration, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, known := s.bgp[addr]
	if !known {
		return 0, false
	}
	wait, due = overdue(&r.incomplete, now)
	s.bgp[addr] = r
	return wait, due
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

// recordBGP remembers what this node does with an address by BGP. Addresses that
// BGP does not concern are forgotten.
func (s *state) recordBGP(addr netip.Addr, d announcement.BGPDecision, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.bgp[addr]
	if d.Reason == "" || d.Reason == v1beta1.ReasonNoService {
		delete(s.bgp, addr)
		return
	}
	after := decidedRoute{
		BGPDecision: d,
		since:       old.since,
		incomplete:  incompleteSince(old.incomplete, old.Reason, d.Reason, now),
	}
	switch {
	case !d.Announce:
		after.since = time.Time{}
	case !old.Announce:
		after.since = now
	}
	s.bgp[addr] = after
}

// route is what this node does with an address by BGP.
func (s *state) route(addr netip.Addr) announcement.BGPDecision {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bgp[addr].BGPDecision
}

// routes is a copy of what this node does by BGP, by address.
func (s *state) routes() map[netip.Addr]decidedRoute {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.bgp)
}

// known are the addresses of which anything is remembered, sorted.
func (s *state) known() []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]netip.Addr, 0, len(s.addresses))
	for addr := range s.addresses {
		out = append(out, addr)
	}
	for addr := range s.bgp {
		if _, already := s.addresses[addr]; !already {
			out = append(out, addr)
		}
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
