package main

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/speaker/members"
)

func labelledNode(name string) *corev1.Node {
	n := node(name)
	n.Labels = map[string]string{v1beta1.LabelExcludeNode: ""}
	return n
}

// TestTheFirstWorkerTakesOver: on a cluster of control planes, all with the exclude
// label, addresses are announced. A worker that joins darkens nothing: it gets them
// once its speaker works. When it dies, the label is heeded all the same, until its Node
// is deleted.
func TestTheFirstWorkerTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, append(service("web"), labelledNode("node1"))...)
		w.look()
		w.Did("192.0.2.10 eth0", true, "web Normal Announcing")

		if err := w.api.Create(t.Context(), node("node2")); err != nil {
			t.Fatal(err)
		}
		w.look()
		w.reads(written("node2", func(s *v1beta1.SpeakerStatus) { s.Stage = v1beta1.StageStarting }))
		w.Publishes("node2", "stage=starting")
		w.look()
		if got := w.reason(); got != v1beta1.ReasonOwner {
			t.Errorf("while a worker starts, this node is %s", got)
		}

		w.Publishes("node2")
		w.look()
		if got := w.reason(); got != v1beta1.ReasonHandingOver {
			t.Errorf("once the worker's speaker works, this node is %s", got)
		}
		w.Publishes("node2", "claim/192.0.2.10=2")
		w.look()
		if got := w.reason(); got != v1beta1.ReasonNotOwner {
			t.Errorf("once the worker has claimed, this node is %s", got)
		}

		w.reads(written("node2", func(s *v1beta1.SpeakerStatus) { s.HasWorked = true }))
		w.died("node2", false)
		w.look()
		if got := w.reason(); got != v1beta1.ReasonNoCandidate {
			t.Errorf("when the worker is dead, this node is %s", got)
		}
		w.reads(written("node2", func(s *v1beta1.SpeakerStatus) {
			s.Stage = v1beta1.StageStarting
			s.HasWorked = true
		}))
		w.look()
		if got := w.reason(); got != v1beta1.ReasonNoCandidate {
			t.Errorf("when the worker boots again, this node is %s", got)
		}

		delete(w.Others, "node2")
		for _, o := range []client.Object{node("node2"), written("node2")} {
			if err := w.api.Delete(t.Context(), o); err != nil {
				t.Fatal(err)
			}
		}
		w.reads()
		w.look()
		if got := w.reason(); got != v1beta1.ReasonOwner {
			t.Errorf("without the worker's Node, this node is %s", got)
		}
	})
}

// TestWhatAMemberIgnoresIsKnownWithoutIt: its object tells while it is not heard, so
// that it keeps what it owns through a restart.
func TestWhatAMemberIgnoresIsKnownWithoutIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const arrives = 10 * time.Second
		w := newWorld(t)
		knows := func(want bool) {
			t.Helper()
			f := w.tracker.Current().Members["node2"]
			if f.IgnoresCordon != want || f.IgnoresExclude != want {
				t.Errorf("it ignores a cordon is %t, the label %t", f.IgnoresCordon, f.IgnoresExclude)
			}
		}
		both := func(s *v1beta1.SpeakerStatus) {
			s.ExcludeLabel = v1beta1.MarkIgnored
			s.Cordon = v1beta1.MarkIgnored
		}
		w.reads(written("node2", both))
		knows(true)
		w.Publishes("node2", "ignores-cordon=yes", "ignores-exclude-label=yes")
		w.see()
		knows(true)
		w.died("node2", true)
		w.see()
		knows(true)
		// It is started anew without these settings.
		w.reads(written("node2", func(s *v1beta1.SpeakerStatus) {
			s.ExcludeLabel, s.Cordon = v1beta1.MarkHeeded, v1beta1.MarkHeeded
		}))
		w.Publishes("node2")
		w.see()
		knows(false)
		// What it says may arrive a while after the word that it is ready.
		w.reads(written("node2", both))
		knows(true)
		if p := w.tracker.Current(); !p.Recheck.Equal(time.Now().Add(arrives)) {
			t.Errorf("it is looked again in %s", time.Until(p.Recheck))
		}
		time.Sleep(arrives)
		w.see()
		knows(false)
	})
}

// TestObjectReportsMarks and what the node has done before.
func TestObjectReportsMarks(t *testing.T) {
	w := newWorld(t, node("node1"))
	s := w.object.Current()
	if !s.HasWorked || s.ExcludeLabel != v1beta1.MarkHeeded || s.Cordon != v1beta1.MarkHeeded {
		t.Errorf("got %t, %s, %s", s.HasWorked, s.ExcludeLabel, s.Cordon)
	}
	ignores := func(c *members.Config) { c.IgnoreExclude, c.IgnoreCordon = true, true }
	s = unsettledWorld(t, v1beta1.SpeakerStatus{}, ignores, node("node1")).object.Current()
	if s.HasWorked || s.ExcludeLabel != v1beta1.MarkIgnored || s.Cordon != v1beta1.MarkIgnored {
		t.Errorf("before it has settled: %t, %s, %s", s.HasWorked, s.ExcludeLabel, s.Cordon)
	}
	before := v1beta1.SpeakerStatus{HasWorked: true}
	if s = unsettledWorld(t, before, ignores, node("node1")).object.Current(); !s.HasWorked {
		t.Error("what a speaker before this one did is forgotten")
	}
	for stage, worked := range map[v1beta1.SpeakerStage]bool{
		"":                      false,
		v1beta1.StageStarting:   false,
		v1beta1.StageReady:      true,
		v1beta1.StageRestarting: true,
		v1beta1.StageLeaving:    true,
	} {
		if (v1beta1.SpeakerStatus{Stage: stage}).Worked() != worked {
			t.Errorf("one of an earlier version that is %q has worked: want %t", stage, worked)
		}
	}
}
