package layer2

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/pkg/announcement"
)

// announces has node1 own an address since a time.
func (w *world) announces(addr string, since time.Time) {
	w.memory.record(announcement.Input{Address: netip.MustParseAddr(addr), Now: since}, announcement.Decision{
		Announce: true,
		Reason:   v1beta1.ReasonOwner,
		Links:    []string{"eth0"},
		Services: []string{"default/web"},
		Claim:    &announcement.Claim{Generation: 3},
	})
}

func TestStatusIsSorted(t *testing.T) {
	w := newWorld(t)
	since := time.Date(2026, 1, 1, 0, 0, 0, 999, time.UTC)
	for _, addr := range []string{"2001:db8::1", "192.0.2.10", "192.0.2.9"} {
		w.announces(addr, since)
	}
	s := w.object()
	var got []string
	for _, a := range s.Layer2.Announcements {
		got = append(got, a.Address)
		if a.Generation != 3 {
			t.Errorf("%s has generation %d", a.Address, a.Generation)
		}
		if !a.Since.Time.Equal(since.Truncate(time.Second)) {
			t.Errorf("%s has been announced since %s", a.Address, a.Since)
		}
	}
	if fmt.Sprint(got) != "[192.0.2.9 192.0.2.10 2001:db8::1]" || s.Layer2.Count != 3 {
		t.Errorf("%d announcements: %v", s.Layer2.Count, got)
	}
	if s.Layer2.Addresses != "192.0.2.9,192.0.2.10,2001:db8::1" {
		t.Errorf("in one line: %q", s.Layer2.Addresses)
	}
}

func TestStatusIsCapped(t *testing.T) {
	const owned = v1beta1.MaxSpeakerAnnouncements + 44
	w := newWorld(t)
	addr := netip.MustParseAddr("192.0.2.0")
	for range owned {
		w.announces(addr.String(), time.Time{})
		addr = addr.Next()
	}
	s := w.object()
	if len(s.Layer2.Announcements) != v1beta1.MaxSpeakerAnnouncements || s.Layer2.Count != owned {
		t.Errorf("%d listed, %d counted", len(s.Layer2.Announcements), s.Layer2.Count)
	}
	if first := s.Layer2.Announcements[0].Address; first != "192.0.2.0" {
		t.Errorf("the first that is listed is %s", first)
	}
	if s.Layer2.Addresses != "192.0.2.0,192.0.2.1,192.0.2.2,192.0.2.3 + 296 more" {
		t.Errorf("in one line: %q", s.Layer2.Addresses)
	}
}

// TestStandInIsListedInTheObject: whose address this node answers for.
func TestStandInIsListedInTheObject(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
	w.Publishes("node2", "claim/192.0.2.10=7", "stage=restarting")
	w.look()
	got := w.object().Layer2.Announcements
	if len(got) != 1 || got[0].StandInFor != "node2" || got[0].Generation != 0 {
		t.Errorf("got %+v", got)
	}
	if o := presence.ParseObject(&v1beta1.Speaker{Status: w.object()}, "node9"); len(o.State.Claims) > 0 {
		t.Errorf("members take it for the claim %v", o.State.Claims)
	}
}

// TestStandInsAreNotOwned: a node that answers for another, or until another does, does
// not count the address as its own.
func TestStandInsAreNotOwned(t *testing.T) {
	w := newWorld(t)
	w.announces("192.0.2.10", time.Now())
	w.announces("192.0.2.11", time.Now())
	w.announces("192.0.2.12", time.Now())
	for text, change := range map[string]func(*announcement.Decision){
		"192.0.2.11": func(d *announcement.Decision) { d.StandInFor, d.Claim = "node2", nil },
		"192.0.2.12": func(d *announcement.Decision) { d.HandingOver = true },
	} {
		in := announcement.Input{Address: netip.MustParseAddr(text), Now: time.Now()}
		d := w.memory.of(in.Address).Decision
		change(&d)
		w.memory.record(in, d)
	}
	if l := w.object().Layer2; l.Count != 3 || l.Owned != 1 {
		t.Errorf("%d answered for, %d owned: want 3 and 1", l.Count, l.Owned)
	}
}

// TestRetainedIsSortedAndBounded: an object takes so many.
func TestRetainedIsSortedAndBounded(t *testing.T) {
	claims := map[netip.Addr]announcement.Claim{}
	for i := range 300 {
		addr := netip.MustParseAddr(fmt.Sprintf("10.0.%d.%d", i/100, i%100))
		claims[addr] = announcement.Claim{Generation: 7}
	}
	got := retainedStatus(claims)
	if len(got) != v1beta1.MaxSpeakerAnnouncements || got[0].Address != "10.0.0.0" ||
		got[255].Address != "10.0.2.55" || got[255].Generation != 7 {
		t.Errorf("%d are listed: %v", len(got), got)
	}
	l := v1beta1.SpeakerLayer2{
		Announcements: []v1beta1.Layer2Announcement{
			{Address: "10.0.0.1", Generation: 8},
			{Address: "10.0.0.2", StandInFor: "node2"},
			{Address: "10.0.0.3"},
		},
		Retained: append(got[:2:2], v1beta1.Layer2Claim{Address: "no address", Generation: 1}),
	}
	want := map[netip.Addr]announcement.Claim{
		netip.MustParseAddr("10.0.0.0"): {Generation: 7},
		netip.MustParseAddr("10.0.0.1"): {Generation: 8},
	}
	if owned := claimsOf(l); !maps.Equal(owned, want) {
		t.Errorf("it owns %v, want %v", owned, want)
	}
}

// TestConflictsInTheObject: those of the lowest addresses, as the API has them, and how many
// there are.
func TestConflictsInTheObject(t *testing.T) {
	w := newWorld(t)
	w.Publishes("node2")
	w.see()
	since := time.Date(2026, 1, 1, 0, 0, 0, 999, time.UTC)
	addr := netip.MustParseAddr("192.0.2.0")
	for range v1beta1.MaxSpeakerAnnouncements + 4 {
		w.owned(addr.String(), "node2")
		at := addressOn{addr, "eth0"}
		w.conflicts.record(at, &conflict{
			addressOn: at,
			kind:      v1beta1.ConflictDuplicate,
			other:     host{mac: net6(9)},
			owner:     "node2",
			since:     since,
			message:   "Two answer.",
		})
		addr = addr.Next()
	}
	l := w.object().Layer2
	const most = v1beta1.MaxSpeakerAnnouncements
	if len(l.Conflicts) != most || l.ConflictCount != most+4 {
		t.Fatalf("%d are listed, %d counted", len(l.Conflicts), l.ConflictCount)
	}
	want := v1beta1.Layer2Conflict{
		Address:    "192.0.2.0",
		Link:       "eth0",
		MACAddress: "02:00:00:00:00:09",
		Kind:       v1beta1.ConflictDuplicate,
		Owner:      "node2",
		Since:      metav1.NewTime(since.Truncate(time.Second)),
		Message:    "Two answer.",
	}
	if got := l.Conflicts[0]; got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if last := l.Conflicts[most-1].Address; last != "192.0.2.255" {
		t.Errorf("the last that is listed is %s", last)
	}
}
