package layer2

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/speaker/speakertest"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/announcer"
	"github.com/berth-lb/berth/pkg/layer2/election"
	"github.com/berth-lb/berth/pkg/layer2/prober"
)

// hears has the announcer hear another claim an address, again and again for
// some time.
func (w *world) hears(addr, on string, who byte, member bool, during time.Duration) {
	first := time.Now().Add(-during)
	w.Heard = append(w.Heard, announcer.Conflict{
		Addr:   netip.MustParseAddr(addr),
		Link:   on,
		MAC:    net6(who),
		First:  first,
		Last:   first.Add(during),
		Count:  2,
		Member: member,
	})
}

// inConflict lists what is in conflict, each as "address link kind hardware address".
func (w *world) inConflict() []string {
	var out []string
	for _, c := range w.conflicts.list() {
		if c.message == "" || c.since.IsZero() {
			w.t.Errorf("%s has the message %q, since %s", c.addr, c.message, c.since)
		}
		words := strings.Fields(fmt.Sprintln(c.addr, c.link, c.kind, c.other.mac))
		out = append(out, strings.Join(words, " "))
	}
	return out
}

// TestConflictsAreListedInOrder: from probes before the first announcement,
// from claims that were heard, and from checks.
func TestConflictsAreListedInOrder(t *testing.T) {
	w := newWorld(t)
	w.Publishes("node2")
	w.see()
	probed := netip.MustParseAddr("192.0.2.5")
	w.memory.record(announcement.Input{Address: probed, Now: start}, announcement.Decision{
		Reason: v1beta1.ReasonProbing, Owner: "node1", Services: []string{"default/web"},
	})
	answered(w.memory, probed, announcement.ProbeTaken, net6(9))
	w.memory.record(announcement.Input{Address: probed, Now: start}, announcement.Decision{
		Reason: v1beta1.ReasonConflict, Owner: "node1", Services: []string{"default/web"},
	})
	w.hears("192.0.2.10", "eth1", 9, false, 0)
	w.hears("192.0.2.10", "eth0", 9, false, 0)
	w.hears("192.0.2.10", "eth0", 7, false, 0)
	w.hears("2001:db8::1", "eth0", 2, true, time.Minute)
	w.owned("192.0.2.20", "node2")
	checked := addressOn{netip.MustParseAddr("192.0.2.20"), "eth0"}
	w.conflicts.record(checked, &conflict{
		addressOn: checked,
		kind:      v1beta1.ConflictUnanswered,
		owner:     "node2",
		since:     start,
		message:   "Nobody answers.",
	})
	want := []string{
		"192.0.2.5 ForeignHost 02:00:00:00:00:09",
		"192.0.2.10 eth0 ForeignHost 02:00:00:00:00:09",
		"192.0.2.10 eth1 ForeignHost 02:00:00:00:00:09",
		"192.0.2.20 eth0 Unanswered",
		"2001:db8::1 eth0 OtherNode 02:00:00:00:00:02",
	}
	if got := w.inConflict(); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// owned has a member own an address, as node1 sees it.
func (w *world) owned(addr, by string) {
	w.memory.record(announcement.Input{Address: netip.MustParseAddr(addr), Now: start}, announcement.Decision{
		Reason: v1beta1.ReasonNotOwner, Owner: by, Services: []string{"default/web"},
	})
}

// TestClaimsOfMembersMayBeAHandOver: for a while two may answer.
func TestClaimsOfMembersMayBeAHandOver(t *testing.T) {
	for _, test := range []struct {
		story  string
		member bool
		during time.Duration
		want   int
	}{
		{"a member claimed it once", true, 0, 0},
		{"a member claims it for a moment", true, handOverNoise - 1, 0},
		{"a member does not stop", true, handOverNoise, 1},
		{"a stranger claimed it once", false, 0, 1},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t)
			w.hears("192.0.2.10", "eth0", 9, test.member, test.during)
			if got := w.inConflict(); len(got) != test.want {
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestConflictIsReportedOnce, however often it is heard and on however many links.
// One that was over and is back is reported again.
func TestConflictIsReportedOnce(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"))...)
	w.look()
	w.Did("192.0.2.10 eth0", true, "web Normal Announcing")
	for _, step := range []struct {
		story  string
		change func()
		events []string
	}{
		{"there is none", func() {}, nil},
		{"a stranger claims the address", func() { w.hears("192.0.2.10", "eth0", 9, false, 0) },
			[]string{"web Warning AddressForeignHost"}},
		{"again", func() {}, nil},
		{"on another link too", func() { w.hears("192.0.2.10", "eth1", 9, false, 0) }, nil},
		{"and so does another stranger", func() { w.hears("192.0.2.10", "eth0", 8, false, 0) }, nil},
		{"they are silent", func() { w.Heard = nil }, nil},
		{"the first is back", func() { w.hears("192.0.2.10", "eth0", 9, false, 0) },
			[]string{"web Warning AddressForeignHost"}},
	} {
		step.change()
		w.Emitted = nil
		w.conflicts.report()
		if !slices.Equal(w.Emitted, step.events) {
			t.Errorf("%s: emitted %q, want %q", step.story, w.Emitted, step.events)
		}
	}
	if got := w.conflicts.counted(); len(got) != 1 || got[v1beta1.ConflictForeignHost] != 2 {
		t.Errorf("counted are %v", got)
	}
}

// TestDisputeIsReportedWithBothNames: two nodes that both take an address for theirs, each for a
// reason of its own, do so a few times. Then one leaves it to the other, and both
// names are reported.
func TestDisputeIsReportedWithBothNames(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
	w.Publishes("node2")
	w.Kernels["node2"] = prober.Reach{State: prober.Silent, LastAnswer: time.Now().Add(-time.Minute)}
	w.Mute["node2"] = true
	w.tracker.Ping(t.Context(), "node2")
	generation := uint64(0)
	for range 10 {
		w.look()
		text := strings.TrimRight(speakertest.ClaimIn(w.Published, address), "w")
		claim, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			break // it yields
		}
		generation = claim + 1
		w.Others["node2"].Values["claims/192.0.2.0"] = fmt.Appendf(nil, "%d:a", generation)
	}
	first, _ := election.Elect(address, []election.Candidate{{Name: "node1"}, {Name: "node2"}})
	if yields := w.reason() == v1beta1.ReasonContested; yields != (first == "node2") || generation > 12 {
		t.Errorf("%s comes first; generation %d, the reason is %s", first, generation, w.reason())
	}
	w.Emitted, w.Notes = nil, nil
	w.conflicts.report()
	if len(w.Notes) != 1 || !strings.Contains(w.Notes[0], "Node node1 and node2 both claim 192.0.2.10") ||
		w.Emitted[0] != "web Warning AddressContested" {
		t.Errorf("emitted %q: %q", w.Emitted, w.Notes)
	}
	if got := w.inConflict(); len(got) != 1 || got[0] != "192.0.2.10 Contested" {
		t.Errorf("in conflict is %q", got)
	}
}

// TestConflictFoundByProbesHasItsEventAlready: it is counted here, and the
// decision has emitted the Event.
func TestConflictFoundByProbesHasItsEventAlready(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"))...)
	w.c.view.probes = true
	w.look()
	answered(w.memory, address, announcement.ProbeTaken, net6(9))
	w.look()
	w.Did("192.0.2.10", true, "web Warning Conflict")
	w.conflicts.report()
	if len(w.Emitted) > 0 || w.conflicts.counted()[v1beta1.ConflictForeignHost] != 1 {
		t.Errorf("emitted %q, counted %v", w.Emitted, w.conflicts.counted())
	}
}

func TestConflictFoundByChecksIsNewsOnce(t *testing.T) {
	w := newWorld(t)
	w.owned("192.0.2.10", "node2")
	at := addressOn{address, "eth0"}
	dead := &conflict{addressOn: at, kind: v1beta1.ConflictUnanswered}
	twice := &conflict{addressOn: at, kind: v1beta1.ConflictDuplicate, other: host{mac: net6(9)}}
	other := &conflict{addressOn: at, kind: v1beta1.ConflictDuplicate, other: host{mac: net6(8)}}
	for i, step := range []struct {
		found *conflict
		news  bool
	}{
		{nil, false},
		{dead, true},
		{dead, false},
		{twice, true},
		{other, true},
		{other, false},
		{nil, true},
		{nil, false},
	} {
		if news := w.conflicts.record(at, step.found); news != step.news {
			t.Errorf("step %d: news is %t", i, news)
		}
	}
}
