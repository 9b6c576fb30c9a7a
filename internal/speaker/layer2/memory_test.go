package layer2

import (
	"net/netip"
	"testing"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
)

// decided is a decision about an address that a Service has.
func decided(reason v1beta1.Reason) announcement.Decision {
	return announcement.Decision{
		Reason:   reason,
		Announce: reason == v1beta1.ReasonOwner,
		Services: []string{"default/web"},
	}
}

// TestAnnouncedSinceIsWhenItBegan: an address has been announced since it was last not, whatever
// else changed meanwhile.
func TestAnnouncedSinceIsWhenItBegan(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	announcing := decided(v1beta1.ReasonOwner)
	announcing.Links = []string{"eth0"}
	onTwo := announcing
	onTwo.Links = []string{"eth0", "eth1"}
	other := decided(v1beta1.ReasonNotOwner)
	other.Owner = "node2"
	standIn := announcing
	standIn.Reason, standIn.StandInFor = v1beta1.ReasonStandIn, "node2"
	s := newMemory()
	for i, step := range []struct {
		story  string
		what   announcement.Decision
		before v1beta1.Reason
		since  time.Duration // after start; -1 for not announced
	}{
		{"another node has it", other, "", -1},
		{"this node takes it", announcing, v1beta1.ReasonNotOwner, 1 * time.Minute},
		{"and keeps it", announcing, v1beta1.ReasonOwner, 1 * time.Minute},
		{"on one link more", onTwo, v1beta1.ReasonOwner, 1 * time.Minute},
		{"it goes to another node", other, v1beta1.ReasonOwner, -1},
		{"and comes back", announcing, v1beta1.ReasonNotOwner, 5 * time.Minute},
		{"this node goes on in the place of another", standIn, v1beta1.ReasonOwner, 6 * time.Minute},
		{"and is owner again", announcing, v1beta1.ReasonStandIn, 7 * time.Minute},
	} {
		now := start.Add(time.Duration(i) * time.Minute)
		before, _ := s.record(announcement.Input{Address: address, Now: now}, step.what)
		if before.Reason != step.before {
			t.Errorf("%s: before it was %q, want %q", step.story, before.Reason, step.before)
		}
		got, announced := s.announced()[address]
		switch {
		case announced != (step.since >= 0):
			t.Errorf("%s: announced is %t", step.story, announced)
		case announced && !got.since.Equal(start.Add(step.since)):
			t.Errorf("%s: since %s", step.story, got.since)
		}
		if known := s.known(); len(known) != 1 {
			t.Errorf("%s: known are %v", step.story, known)
		}
	}
}

func TestAddressesWithoutServiceAreForgotten(t *testing.T) {
	s := newMemory()
	for _, text := range []string{"192.0.2.10", "192.0.2.9", "2001:db8::1"} {
		s.record(announcement.Input{Address: netip.MustParseAddr(text)}, decided(v1beta1.ReasonOwner))
	}
	if got := s.known(); len(got) != 3 || got[0].String() != "192.0.2.9" || got[1].String() != "192.0.2.10" {
		t.Errorf("known are %v, want them in their order", got)
	}
	gone := announcement.Decision{Reason: v1beta1.ReasonNoService}
	before, _ := s.record(announcement.Input{Address: address}, gone)
	if !before.Announce {
		t.Error("that it was announced is forgotten too early")
	}
	if got := s.known(); len(got) != 2 {
		t.Errorf("known are %v", got)
	}
}

// TestRejectionsAreNotRemembered: of a thousand nodes they are more than all the rest.
func TestRejectionsAreNotRemembered(t *testing.T) {
	s := newMemory()
	d := decided(v1beta1.ReasonOwner)
	d.Rejections = []announcement.Rejection{{Node: "node2", Reason: v1beta1.ReasonNoLocalEndpoint}}
	_, after := s.record(announcement.Input{Address: address}, d)
	if len(after.Rejections)+len(s.of(address).Rejections) > 0 || len(d.Rejections) != 1 {
		t.Errorf("remembered are %v, decided was %v", s.of(address).Rejections, d.Rejections)
	}
}

// TestRestartedSpeakerAdoptsItsClaims: a speaker that was restarted gets back from the others
// what it claimed before.
func TestRestartedSpeakerAdoptsItsClaims(t *testing.T) {
	type others = map[string]announcement.Claim
	fourth, minority := announcement.Claim{Generation: 4}, announcement.Claim{Generation: 4, Minority: true}
	for _, test := range []struct {
		story   string
		own     announcement.Claim
		others  others
		claim   *announcement.Claim
		highest uint64
	}{
		{"nobody else claims it", fourth, nil, &fourth, 4},
		{"it was a minority claim", minority, nil, &minority, 4},
		{"one that had it before still says so", fourth, others{"node2": {Generation: 3}}, &fourth, 4},
		{"another has claimed it since", fourth,
			others{"node2": {Generation: 3}, "node3": {Generation: 5}}, nil, 5},
	} {
		t.Run(test.story, func(t *testing.T) {
			s := newMemory()
			s.adopt(map[netip.Addr]announcement.Claim{address: test.own},
				map[netip.Addr]map[string]announcement.Claim{address: test.others})
			r := s.of(address)
			if !sameClaim(r.Claim, test.claim) || r.highest != test.highest {
				t.Errorf("got %+v and highest %d, want %+v and %d",
					r.Claim, r.highest, test.claim, test.highest)
			}
			if s.owns() != (test.claim != nil) {
				t.Errorf("it owns something: %t", s.owns())
			}
			if len(s.announced()) > 0 {
				t.Error("it is announced before it was reconciled")
			}
			if known := s.known(); len(known) != 1 || known[0] != address {
				t.Errorf("known are %v: it would never be reconciled", known)
			}
		})
	}
}

// TestTakingAnAddressStartsABurst: an address is announced again when it is taken, and once more when
// the member that had it gives it up; in between hosts may have heard either.
func TestTakingAnAddressStartsABurst(t *testing.T) {
	owner, gone := decided(v1beta1.ReasonOwner), decided(v1beta1.ReasonNotOwner)
	took, contested := owner, owner
	took.Cause, took.Contested, contested.Contested = v1beta1.CauseNodeGone, true, true
	s := newMemory()
	for _, step := range []struct {
		story string
		what  announcement.Decision
		want  uint64
	}{
		{"another has it", gone, 0},
		{"this node takes it, and the other has not heard of that", took, 1},
		{"still", contested, 1},
		{"the other gives it up", owner, 2},
		{"nothing changes", owner, 2},
		{"another claims it", contested, 2},
		{"and gets it", gone, 2},
		{"this node takes it again", took, 3},
		{"and nobody minds", owner, 4},
	} {
		if _, after := s.record(announcement.Input{Address: address}, step.what); after.burst != step.want {
			t.Errorf("%s: burst %d, want %d", step.story, after.burst, step.want)
		}
	}
}

func TestHandingOverSince(t *testing.T) {
	owner := decided(v1beta1.ReasonOwner)
	handing := owner
	handing.Reason, handing.HandingOver = v1beta1.ReasonHandingOver, true
	s := newMemory()
	for i, step := range []struct {
		story string
		what  announcement.Decision
		since time.Duration // after start; -1 for not at all
	}{
		{"it owns the address", owner, -1},
		{"another is to take it", handing, time.Second},
		{"which takes a while", handing, time.Second},
		{"it keeps it after all", owner, -1},
		{"another is to take it", handing, 4 * time.Second},
	} {
		now, want := start.Add(time.Duration(i)*time.Second), start.Add(step.since)
		if step.since < 0 {
			want = time.Time{}
		}
		_, after := s.record(announcement.Input{Address: address, Now: now}, step.what)
		if !after.handingOver.Equal(want) {
			t.Errorf("%s: it hands over since %s", step.story, after.handingOver)
		}
		if !after.since.Equal(start) {
			t.Errorf("%s: it announces since %s", step.story, after.since)
		}
	}
}

// TestHighestIsNeverLower: what was the highest generation once stays so, even
// when nobody claims it any more.
func TestHighestIsNeverLower(t *testing.T) {
	s := newMemory()
	d := decided(v1beta1.ReasonNotOwner)
	record := func(claims map[string]announcement.Claim, d announcement.Decision) uint64 {
		in := announcement.Input{Address: address, Highest: s.of(address).highest, Claims: claims}
		_, after := s.record(in, d)
		return after.highest
	}
	two := map[string]announcement.Claim{"node2": {Generation: 4}, "node3": {Generation: 6}}
	if got := record(two, d); got != 6 {
		t.Errorf("of two claims the highest is %d", got)
	}
	if got := record(nil, d); got != 6 {
		t.Errorf("after they were taken back it is %d", got)
	}
	d.Claim = &announcement.Claim{Generation: 7}
	if got := record(nil, d); got != 7 {
		t.Errorf("with the own claim it is %d", got)
	}
}

// TestProbeResultIsRemembered as long as the address is on its way to this
// node, and asked anew the next time.
func TestProbeResultIsRemembered(t *testing.T) {
	holder := net6(9)
	s := newMemory()
	record := func(reason v1beta1.Reason) { s.record(announcement.Input{Address: address}, decided(reason)) }
	answered(s, address, announcement.ProbeFree, nil)
	if len(s.known()) > 0 {
		t.Error("an address that is not known is remembered for a probe")
	}
	for _, step := range []struct {
		story  string
		do     func()
		state  announcement.ProbeState
		holder bool
	}{
		{"it is to be asked for", func() { record(v1beta1.ReasonProbing) }, announcement.ProbeNone, false},
		{"it is asked for", func() { answered(s, address, announcement.ProbeAsking, nil) },
			announcement.ProbeAsking, false},
		{"a host has it", func() { answered(s, address, announcement.ProbeTaken, holder) },
			announcement.ProbeTaken, true},
		{"that is a conflict", func() { record(v1beta1.ReasonConflict) }, announcement.ProbeTaken, true},
		{"the host has it no more", func() { answered(s, address, announcement.ProbeFree, nil) },
			announcement.ProbeFree, true},
		{"it is announced", func() { record(v1beta1.ReasonOwner) }, announcement.ProbeNone, false},
	} {
		step.do()
		got := s.of(address).probe
		if got.State != step.state || (len(got.Holder) > 0) != step.holder {
			t.Errorf("%s: got %d, %s", step.story, got.State, got.Holder)
		}
	}
}

func TestTakeoverIsMeasuredOnce(t *testing.T) {
	s := newMemory()
	take, keep := decided(v1beta1.ReasonOwner), decided(v1beta1.ReasonOwner)
	take.Cause = v1beta1.CauseNodeGone
	record := func(d announcement.Decision) { s.record(announcement.Input{Address: address, Now: start}, d) }
	if _, ok := s.took(address); ok {
		t.Error("an address that nobody has was taken")
	}
	record(take)
	record(keep)
	if got, ok := s.took(address); !ok || got.cause != v1beta1.CauseNodeGone || !got.from.Equal(start) {
		t.Errorf("got %+v, %t", got, ok)
	}
	if got, ok := s.took(address); ok {
		t.Errorf("once more: %+v", got)
	}
	record(take)
	record(decided(v1beta1.ReasonNotOwner))
	if got, ok := s.took(address); ok {
		t.Errorf("one that was lost before it was announced is measured: %+v", got)
	}
}
