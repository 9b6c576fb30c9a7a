package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/prober"
)

func TestLastStatus(t *testing.T) {
	w := newWorld(t)
	log := slog.New(slog.DiscardHandler)
	if got, err := lastStatus(t.Context(), w.api, "node9", log); err != nil || len(claimsOf(got.Layer2)) > 0 || hadSessions(got, "this boot") || hadSessions(got, "") {
		t.Errorf("a new node had %+v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lastStatus(ctx, errors500{}, "node1", log); err == nil {
		t.Error("who stops while the API server is away gets no answer")
	}
}

// errors500 is an API server that is away.
type errors500 struct{ client.Reader }

// Get fails.
func (errors500) Get(context.Context, types.NamespacedName, client.Object, ...client.GetOption) error {
	return errors.New("away")
}

// restarted is the speaker of node1 started anew, while nobody remembers what it said.
func (w *world) restarted(objects ...client.Object) *world {
	w.t.Helper()
	before, err := lastStatus(w.t.Context(), w.api, "node1", slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	next := newWorld(w.t, objects...)
	next.state.settled, next.stage = notify.NewLatch(), announcement.StageStarting
	next.object.before = claimsOf(before.Layer2)
	return next
}

// TestWhatIsKeptOverARestartOfAll: each finds in its own Speaker
// object what it had, and in those of the others what they have, however far they
// are; only what another has taken meanwhile is lost.
func TestWhatIsKeptOverARestartOfAll(t *testing.T) {
	objects := append(service("web"), node("node1"), node("node2"))
	for _, test := range []struct {
		story string
		// stops is how the speaker of node1 ends.
		stops func(*world)
		// node2 says this by membership, nil for nothing, and this in its object.
		said   []string
		object *v1beta1.Speaker
		owns   bool
	}{
		{"in order", (*world).stop, nil, written("node2", keeps("192.0.2.10", 2), in(v1beta1.StageRestarting)), true},
		{"killed", (*world).kill, nil, written("node2", announcesIn("192.0.2.10", 2)), true},
		{"killed, the other works already", (*world).kill, []string{}, written("node2", keeps("192.0.2.10", 2)), true},
		{"the other has taken it", (*world).stop, []string{"claim/192.0.2.10=4"}, written("node2"), false},
		{"the other has taken it and was started anew too", (*world).stop, nil, written("node2", announcesIn("192.0.2.10", 4)), false},
		{"the same, and it starts", (*world).stop, []string{"stage=starting"}, written("node2", keeps("192.0.2.10", 4), in(v1beta1.StageStarting)), false},
		{"the other leaves", (*world).stop, []string{"stage=leaving"}, written("node2", announcesIn("192.0.2.10", 2)), true},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t, objects...)
			w.announces("192.0.2.10", time.Now())
			test.stops(w)
			w = w.restarted(objects...)
			if test.said != nil {
				w.says("node2", test.said...)
			}
			w.reach["node2"] = prober.Reach{State: prober.Answers, LastAnswer: time.Now()}
			w.reads(test.object)
			sp := w.process()
			sp.tracker.MarkDisconnected()
			if got := w.object.status().Layer2; len(got.Announcements) > 0 || len(got.Kept) != 1 || got.Kept[0].Generation != 3 {
				t.Errorf("while it starts its object says %+v", got)
			}
			sp.adopt()
			w.state.settled.Set()
			w.look()
			if d := w.state.memory(address); owns(d.Decision) != test.owns {
				t.Errorf("the decision is %+v", d.Decision)
			}
			if got := w.object.status().Layer2; len(got.Kept) > 0 {
				t.Errorf("when it works its object says that it keeps %v", got.Kept)
			}
		})
	}
}

// TestFellowThatIsExpectedBack: a speaker that is started anew has never met it, and
// knows of it by its Speaker object only; nor has anybody probed its node yet.
func TestFellowThatIsExpectedBack(t *testing.T) {
	for stage, want := range map[v1beta1.SpeakerStage]string{
		v1beta1.StageRestarting: "Held (NodeHeld)",
		v1beta1.StageStarting:   "Held (NodeHeld)",
		v1beta1.StageLeaving:    "Gone (NodeLeaving)",
		v1beta1.StageReady:      "Gone (SpeakerNotAlive)",
	} {
		w := newWorld(t)
		w.tracker.MarkDisconnected()
		object := written("node2", keeps("192.0.2.10", 4), in(stage))
		object.Status.Links = nil // it has not looked for them yet
		w.reads(object)
		if got := w.isFellow("node2"); got != want {
			t.Errorf("of one whose object says %s it is expected to be %s, want %s", stage, got, want)
		}
	}
}

// TestWhatALeavingSpeakerLeaves: it does not come back for it.
func TestWhatALeavingSpeakerLeaves(t *testing.T) {
	w := newWorld(t, node("node1"))
	w.announces("192.0.2.10", time.Now())
	w.stage = announcement.StageLeaving
	w.stop()
	if got := w.speaker().Status.Layer2; len(got.Claims()) > 0 {
		t.Errorf("its object says %+v", got)
	}
}

// TestKeptIsSortedAndBounded: an object takes so many.
func TestKeptIsSortedAndBounded(t *testing.T) {
	claims := map[netip.Addr]announcement.Claim{}
	for i := range 300 {
		claims[netip.MustParseAddr(fmt.Sprintf("10.0.%d.%d", i/100, i%100))] = announcement.Claim{Generation: 7}
	}
	got := keptOf(claims)
	if len(got) != v1beta1.MaxSpeakerAnnouncements || got[0].Address != "10.0.0.0" || got[255].Address != "10.0.2.55" || got[255].Generation != 7 {
		t.Errorf("%d are listed: %v", len(got), got)
	}
	l := v1beta1.SpeakerLayer2{
		Announcements: []v1beta1.Layer2Announcement{
			{Address: "10.0.0.1", Generation: 8}, {Address: "10.0.0.2", StandInFor: "node2"}, {Address: "10.0.0.3"},
		},
		Kept: append(got[:2:2], v1beta1.Layer2Claim{Address: "no address", Generation: 1}),
	}
	want := map[netip.Addr]announcement.Claim{netip.MustParseAddr("10.0.0.0"): {Generation: 7}, netip.MustParseAddr("10.0.0.1"): {Generation: 8}}
	if owned := claimsOf(l); !maps.Equal(owned, want) {
		t.Errorf("it owns %v, want %v", owned, want)
	}
}

// stop has the speaker of node1 write its last words.
func (w *world) stop() {
	w.t.Helper()
	if err := w.object.stopped(); err != nil {
		w.t.Fatal(err)
	}
}

// kill has it say nothing more than it has.
func (w *world) kill() {
	w.t.Helper()
	if err := w.object.write(w.t.Context(), w.object.status()); err != nil {
		w.t.Fatal(err)
	}
}

// keeps has an object tell of an address that its node keeps.
func keeps(addr string, generation int64) func(*v1beta1.SpeakerStatus) {
	return func(s *v1beta1.SpeakerStatus) {
		s.Layer2.Kept = append(s.Layer2.Kept, v1beta1.Layer2Claim{Address: addr, Generation: generation})
	}
}

// in has an object tell of a stage.
func in(stage v1beta1.SpeakerStage) func(*v1beta1.SpeakerStatus) {
	return func(s *v1beta1.SpeakerStatus) { s.Stage = stage }
}
