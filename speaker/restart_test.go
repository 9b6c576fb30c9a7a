package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/report"
	"github.com/berth-lb/berth/internal/speaker/speakertest"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/prober"
)

func TestLastStatus(t *testing.T) {
	w := newWorld(t)
	log := slog.New(slog.DiscardHandler)
	if got, err := report.LastStatus(t.Context(), w.api, "node9", log); err != nil ||
		len(claimsOf(got.Layer2)) > 0 || report.HadSessions(got, "this boot") || report.HadSessions(got, "") {
		t.Errorf("a new node had %+v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := report.LastStatus(ctx, errors500{}, "node1", log); err == nil {
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
	before, err := report.LastStatus(w.t.Context(), w.api, "node1", slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	next := unsettledWorld(w.t, before, func(*members.Config) {}, objects...)
	next.tracker.SetStage(announcement.StageStarting)
	return next
}

// TestRestartOfAllRetainsWhatEachNodeHad: each finds in its own Speaker
// object what it had, and in those of the others what they have, however far they
// are; only what another has taken meanwhile is lost.
func TestRestartOfAllRetainsWhatEachNodeHad(t *testing.T) {
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
		{"in order",
			(*world).stop, nil, written("node2", keeps("192.0.2.10", 2), in(v1beta1.StageRestarting)), true},
		{"killed", (*world).kill, nil, written("node2", speakertest.Announcing("192.0.2.10", 2)), true},
		{"killed, the other works already",
			(*world).kill, []string{}, written("node2", keeps("192.0.2.10", 2)), true},
		{"the other has taken it", (*world).stop, []string{"claim/192.0.2.10=4"}, written("node2"), false},
		{"the other has taken it and was started anew too",
			(*world).stop, nil, written("node2", speakertest.Announcing("192.0.2.10", 4)), false},
		{"the same, and it starts", (*world).stop, []string{"stage=starting"},
			written("node2", keeps("192.0.2.10", 4), in(v1beta1.StageStarting)), false},
		{"the other leaves", (*world).stop, []string{"stage=leaving"},
			written("node2", speakertest.Announcing("192.0.2.10", 2)), true},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t, objects...)
			w.Publishes("node2", "claim/192.0.2.10=2")
			w.look()
			w.died("node2", false)
			w.look() // and node1 has taken the address, with generation 3
			test.stops(w)
			w = w.restarted(objects...)
			if test.said != nil {
				w.Publishes("node2", test.said...)
			}
			w.Kernels["node2"] = prober.Reach{State: prober.Answers, LastAnswer: time.Now()}
			w.reads(test.object)
			sp := w.process()
			sp.tracker.MarkDisconnected()
			got := w.object.Current().Layer2
			if len(got.Announcements) > 0 || len(got.Retained) != 1 || got.Retained[0].Generation != 3 {
				t.Errorf("while it starts its object says %+v", got)
			}
			sp.layer2.Adopt()
			w.readiness.Settled().Set()
			w.look()
			if got := layer2Status(w.layer2); (got.Owned == 1) != test.owns {
				t.Errorf("it owns %+v: %s", got, w.reason())
			}
			if got := w.object.Current().Layer2; len(got.Retained) > 0 {
				t.Errorf("when it works its object says that it keeps %v", got.Retained)
			}
		})
	}
}

// TestUnmetMemberIsHeldByTheStageInItsObject: a speaker that is started anew has never
// met it, and knows of it by its Speaker object only; nor has anybody probed its node
// yet.
func TestUnmetMemberIsHeldByTheStageInItsObject(t *testing.T) {
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
		if got := w.isMember("node2"); got != want {
			t.Errorf("of one whose object says %s it is expected to be %s, want %s", stage, got, want)
		}
	}
}

// TestLeavingSpeakerRetainsNothing: it does not come back for what it had.
func TestLeavingSpeakerRetainsNothing(t *testing.T) {
	w := newWorld(t, node("node1"))
	w.announces("192.0.2.10")
	w.tracker.SetStage(announcement.StageLeaving)
	w.stop()
	if got := w.speaker().Status.Layer2; len(got.Claims()) > 0 {
		t.Errorf("its object says %+v", got)
	}
}

// stop has the speaker of node1 write its last words.
func (w *world) stop() {
	w.t.Helper()
	if err := w.object.Run(still()); err != nil {
		w.t.Fatal(err)
	}
}

// kill has it say nothing more than it has.
func (w *world) kill() {
	w.t.Helper()
	if err := w.object.Write(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// keeps has an object tell of an address that its node keeps.
func keeps(addr string, generation int64) func(*v1beta1.SpeakerStatus) {
	return func(s *v1beta1.SpeakerStatus) {
		s.Layer2.Retained = append(s.Layer2.Retained, v1beta1.Layer2Claim{
			Address:    addr,
			Generation: generation,
		})
	}
}

// in has an object tell of a stage.
func in(stage v1beta1.SpeakerStage) func(*v1beta1.SpeakerStatus) {
	return func(s *v1beta1.SpeakerStatus) { s.Stage = stage }
}
