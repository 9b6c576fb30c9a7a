package prober

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var probeEpoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// story is a book and a clock that go from turn to turn.
type bookStory struct {
	*book
	now time.Time
}

// newBookStory has a book with targets that can be asked.
func newBookStory(targets ...Target) *bookStory {
	s := &bookStory{newBook(100*ms, 3, probeEpoch), probeEpoch}
	s.set(targets)
	s.frames(s.now, func(*track) []byte { return []byte{1} })
	return s
}

// turnOf lets the next turn come, has it judged and what is due sent.
func (s *bookStory) turnOf(sent, lost bool) {
	next, ok := s.next()
	if !ok {
		panic("nothing is due")
	}
	s.now = next
	turn, _ := s.pass(s.now, lost)
	for _, t := range turn {
		s.probed(t, s.now, sent)
	}
}

func (s *bookStory) nodes() map[string]Reach {
	out := make(map[string]Reach)
	s.addTo(out)
	return out
}

func TestBookStates(t *testing.T) {
	const (
		probed   = "p" // a turn comes, and its probe is sent
		unsent   = "u" // a turn comes, but nothing can be sent
		lost     = "l" // a turn comes after frames were lost; its probe is sent
		answered = "a" // an answer comes
		down     = "d" // the link goes down and comes back
		replaced = "r" // the socket is replaced
	)
	tests := []struct {
		story, events string
		want          Reachability
		missed        int
	}{
		{"nothing was asked", "", Unknown, 0},
		{"never answered", probed + probed + probed + probed + probed, Unknown, 4},
		{"answered", probed + answered, Answers, 0},
		{"answered without being asked", answered, Answers, 0},
		{"waited for", probed + answered + probed, Answers, 0},
		{"one unanswered", probed + answered + probed + probed, Answers, 1},
		{"two unanswered", probed + answered + probed + probed + probed, Answers, 2},
		{"three unanswered", probed + answered + probed + probed + probed + probed, Silent, 3},
		{"the count goes on", probed + answered + probed + probed + probed + probed + probed, Silent, 4},
		{"an answer ends the row",
			probed + answered + probed + probed + answered + probed + probed + probed, Answers, 2},
		{"back from silence", probed + answered + probed + probed + probed + probed + answered, Answers, 0},
		{"a late answer is one",
			probed + answered + probed + probed + probed + probed + answered + probed, Answers, 0},
		{"nothing could be sent", probed + answered + unsent + unsent, Answers, 0},
		{"nothing could be sent for long", probed + answered + unsent + unsent + unsent, Unknown, 0},
		{"a probe that was not sent is no miss",
			probed + answered + probed + probed + unsent + probed, Answers, 2},
		{"frames were lost", probed + answered + probed + lost + lost, Answers, 0},
		{"frames were lost for long", probed + answered + probed + lost + lost + lost, Unknown, 0},
		{"lost frames do not end the row",
			probed + answered + probed + probed + lost + probed + probed, Silent, 3},
		{"the link was down", probed + answered + down, Unknown, 0},
		{"the link was down while it was silent",
			probed + answered + probed + probed + probed + probed + down, Unknown, 0},
		{"it answers after the link was down", probed + answered + down + probed + answered, Answers, 0},
		{"the probe before a new socket is no miss",
			probed + answered + probed + replaced + probed, Answers, 0},
		{"a new socket changes nothing else",
			probed + answered + probed + probed + replaced + probed, Answers, 1},
	}
	for _, tt := range tests {
		s := newBookStory(Target{Node: "n", Addr: client4})
		for _, event := range tt.events {
			switch string(event) {
			case probed:
				s.turnOf(true, false)
			case unsent:
				s.turnOf(false, false)
			case lost:
				s.turnOf(true, true)
			case answered:
				s.answered(client4, s.now)
			case down:
				s.invalidate()
				s.frames(s.now, func(*track) []byte { return []byte{1} })
			case replaced:
				s.dropInFlight()
			}
		}
		if got := s.nodes()["n"]; got.State != tt.want || got.Missed != tt.missed {
			t.Errorf("%s: %s, missed %d; want %s, %d", tt.story, got.State, got.Missed, tt.want, tt.missed)
		}
	}
}

func TestNodesAnswerWhenAnyTargetDoes(t *testing.T) {
	early, late := probeEpoch, probeEpoch.Add(time.Second)
	tests := []struct {
		story      string
		a, b, want Reach
	}{
		{"both answer", Reach{Answers, early, 0}, Reach{Answers, late, 2}, Reach{Answers, late, 0}},
		{"one is silent", Reach{Answers, early, 1}, Reach{Silent, late, 9}, Reach{Answers, late, 1}},
		{"one is unknown",
			Reach{Answers, early, 0}, Reach{Unknown, time.Time{}, 9}, Reach{Answers, early, 0}},
		{"silent where it can be asked",
			Reach{Silent, early, 3}, Reach{Unknown, late, 0}, Reach{Silent, late, 3}},
		{"both silent", Reach{Silent, early, 3}, Reach{Silent, late, 7}, Reach{Silent, late, 3}},
		{"nobody knows", Reach{Unknown, time.Time{}, 4}, Reach{}, Reach{}},
	}
	for _, tt := range tests {
		for _, got := range []Reach{bestReach(tt.a, tt.b), bestReach(tt.b, tt.a)} {
			if got != tt.want {
				t.Errorf("%s: %+v, want %+v", tt.story, got, tt.want)
			}
		}
	}
}

func TestTargetsThatStayKeepWhatIsKnown(t *testing.T) {
	target := Target{Node: "n", Addr: client4}
	s := newBookStory(target)
	s.turnOf(true, false)
	s.answered(client4, s.now)
	due := s.tracks[0].due

	target.MAC = otherMAC
	s.set([]Target{{Node: "m", Addr: client4}, target, target})
	if n := s.nodes(); n["n"].State != Answers || n["m"].State != Unknown || len(s.tracks) != 2 {
		t.Errorf("with another MAC, beside a new node: %+v", n)
	}
	if kept := s.tracks[1]; kept.mac.String() != otherMAC.String() || kept.due != due {
		t.Errorf("kept %+v", kept)
	}
	s.set([]Target{{Node: "n", Addr: vip4}})
	if n := s.nodes(); n["n"].State != Unknown {
		t.Errorf("another address of the node is another target: %+v", n)
	}
}

// TestTurns: whatever delays there are, a probe has three quarters of an
// interval to be answered, probes are not sent oftener to make up for delays,
// and without delays they are sent once in an interval.
func TestTurns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newBookStory(Target{Node: rapid.String().Draw(t, "node"), Addr: client4})
		var sent time.Time
		punctual := false
		for range rapid.IntRange(1, 30).Draw(t, "turns") {
			next, _ := s.next()
			if !sent.IsZero() {
				gap := next.Sub(sent)
				if gap < 75*ms || gap > 175*ms || (punctual && gap != 100*ms) {
					t.Fatalf("the next turn comes %s after the last probe; punctual: %t", gap, punctual)
				}
			}
			late := time.Duration(rapid.Int64Range(0, 500).Draw(t, "delay")) * ms
			punctual = late == 0
			now := next.Add(late)
			turn, _ := s.pass(now, false)
			if len(turn) != 1 {
				t.Fatalf("%d probes", len(turn))
			}
			sent = now
			s.probed(turn[0], sent, true)
		}
	})
}

func TestPhasesAreSpread(t *testing.T) {
	b := newBook(100*ms, 3, probeEpoch)
	perSlot := make(map[time.Duration]int)
	const count = 1600
	addr := netip.MustParseAddr("10.0.0.1")
	for i := range count {
		phase := b.phase(trackKey{fmt.Sprintf("node-%d", i), addr})
		if phase < 0 || phase >= b.interval {
			t.Fatalf("phase %s", phase)
		}
		perSlot[phase]++
		addr = addr.Next()
	}
	for phase, n := range perSlot {
		if n < count/slotCount/2 || n > count/slotCount*2 {
			t.Errorf("%d targets at %s, want about %d", n, phase, count/slotCount)
		}
	}
	if len(perSlot) != slotCount {
		t.Errorf("%d slots", len(perSlot))
	}
}

// TestAFloodOfMadeUpHosts: a hostile host answers under many Ethernet addresses. Some
// are remembered, so that the address is not taken for a free one.
func TestAFloodOfMadeUpHosts(t *testing.T) {
	b := newAskBook()
	a := &asking{
		Question: Question{Addr: vip4},
		holders:  make(map[string]struct{}),
		probers:  make(map[string]struct{}),
		left:     1,
		done:     make(chan struct{}),
	}
	b.add(a, probeEpoch)
	for i := range 10 * maxFound {
		for _, what := range []sightingKind{sawHolder, sawProber} {
			b.saw(sighting{
				what: what,
				addr: vip4,
				mac:  net.HardwareAddr{2, byte(what), 0, 0, byte(i >> 8), byte(i)},
			})
		}
	}
	if found := a.found(); len(found.Holders) != maxFound || len(found.Probers) != maxFound {
		t.Errorf("%d holders and %d probers are remembered, want %d of each",
			len(found.Holders), len(found.Probers), maxFound)
	}
}
