package main

import (
	"net/netip"
	"testing"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
)

// TestSince: an address has been announced since it was last not, whatever
// else changed meanwhile.
func TestSince(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	announcing := announcement.Decision{Announce: true, Reason: v1beta1.ReasonOwner, Links: []string{"eth0"}, Services: []string{"default/web"}}
	onTwo := announcing
	onTwo.Links = []string{"eth0", "eth1"}
	other := announcement.Decision{Reason: v1beta1.ReasonNotOwner, Owner: "node2", Services: []string{"default/web"}}
	standIn := announcing
	standIn.Reason, standIn.StandInFor = v1beta1.ReasonStandIn, "node2"
	s := newState()
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
		before, _ := s.record(announcement.Input{Address: address, Now: start.Add(time.Duration(i) * time.Minute)}, step.what)
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
	s := newState()
	for _, text := range []string{"192.0.2.10", "192.0.2.9", "2001:db8::1"} {
		s.record(announcement.Input{Address: netip.MustParseAddr(text)}, announcement.Decision{Announce: true, Services: []string{"default/web"}})
	}
	if got := s.known(); len(got) != 3 || got[0].String() != "192.0.2.9" || got[1].String() != "192.0.2.10" {
		t.Errorf("known are %v, want them in their order", got)
	}
	before, _ := s.record(announcement.Input{Address: address}, announcement.Decision{Reason: v1beta1.ReasonNoService})
	if !before.Announce {
		t.Error("that it was announced is forgotten too early")
	}
	if got := s.known(); len(got) != 2 {
		t.Errorf("known are %v", got)
	}
}

func TestReadiness(t *testing.T) {
	for _, test := range []struct {
		story               string
		configured, settled bool
		ready               bool
	}{
		{"it has just started", false, false, false},
		{"it knows its fellows only", false, true, false},
		{"it knows the configuration only", true, false, false},
		{"it knows both", true, true, true},
	} {
		t.Run(test.story, func(t *testing.T) {
			s := newState()
			if test.configured {
				close(s.configured)
			}
			if test.settled {
				close(s.settled)
			}
			if missing := s.missing(); (missing == "") != test.ready {
				t.Errorf("it waits for %q", missing)
			}
		})
	}
}
