package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/internal/speaker/report"
	"github.com/berth-lb/berth/internal/speaker/speakertest"
	"github.com/berth-lb/berth/pkg/announcement"
)

func (w *world) speaker() *v1beta1.Speaker {
	w.t.Helper()
	var s v1beta1.Speaker
	if err := w.api.Get(w.t.Context(), types.NamespacedName{Name: "node1"}, &s); err != nil {
		w.t.Fatal(err)
	}
	return &s
}

func TestStatusBeforeTheMembersAreKnown(t *testing.T) {
	w := unsettledWorld(t, v1beta1.SpeakerStatus{}, func(*members.Config) {})
	c := meta.FindStatusCondition(w.object.Current().Conditions, v1beta1.ConditionReady)
	if c == nil || c.Status != metav1.ConditionFalse || c.Reason != string(v1beta1.ReasonStarting) {
		t.Errorf("the condition is %v", c)
	}
}

func TestSpeakerIsCreatedOwnedByItsNodeAndWrittenOnce(t *testing.T) {
	w := newWorld(t, node("node1"))
	w.announces("192.0.2.10")
	if err := w.object.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := w.speaker()
	o := s.OwnerReferences
	if len(o) != 1 || o[0].Kind != "Node" || o[0].Name != "node1" || o[0].UID != "node1" {
		t.Errorf("the owners are %v", o)
	}
	if s.Status.Layer2.Count != 1 {
		t.Errorf("the status is %+v", s.Status)
	}
	if err := w.object.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again := w.speaker(); again.ResourceVersion != s.ResourceVersion {
		t.Error("the same status was written twice")
	}
}

func TestSpeakerOfAMissingNode(t *testing.T) {
	w := newWorld(t)
	if err := w.object.Write(t.Context()); err == nil {
		t.Error("no error")
	}
}

// TestSpeakerObjectFromStartToEnd: many changes are one write, a second apart
// at least; at the end the object says that nothing is announced.
func TestSpeakerObjectFromStartToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, node("node1"))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.object.Run(ctx) }()
		synctest.Wait()
		if s := w.speaker(); s.Status.Layer2.Count != 0 ||
			!meta.IsStatusConditionTrue(s.Status.Conditions, v1beta1.ConditionReady) {
			t.Errorf("after the start the status is %+v", s.Status)
		}

		first := w.speaker().ResourceVersion
		for _, addr := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"} {
			w.announces(addr)
			w.Status.Set()
			synctest.Wait()
		}
		if w.speaker().ResourceVersion != first {
			t.Error("written again within a second")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := w.speaker().Status.Layer2.Count; n != 3 {
			t.Errorf("after a second %d announcements are told", n)
		}

		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		s := w.speaker()
		c := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionReady)
		if s.Status.Layer2.Count != 0 || len(s.Status.Layer2.Announcements) != 0 || c == nil ||
			c.Reason != string(v1beta1.ReasonStopped) {
			t.Errorf("at the end the status is %+v", s.Status)
		}
	})
}

// TestMembersInTheStatus are those that this node watches, once they are absent for half a second.
func TestMembersInTheStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Publishes("node2")
		w.see()
		w.Publishes("node3", "stage=leaving")
		w.Publishes("node4", "stage=restarting")
		w.Publishes("node5")
		w.died("node5", false)
		w.see()
		if s := w.object.Current(); s.AbsentCount != 0 || len(s.AbsentMembers) != 0 {
			t.Errorf("at once it reports %v", s.AbsentMembers)
		}
		time.Sleep(500 * time.Millisecond)
		w.see()
		s := w.object.Current()
		var got []string
		for _, f := range s.AbsentMembers {
			got = append(got, f.Name+" "+string(f.Presence))
		}
		if fmt.Sprint(got) != "[node3 Leaving]" || s.AbsentCount != 1 { // node2 and node4 watch the others
			t.Errorf("got %v, %d in all", got, s.AbsentCount)
		}
	})
}

func TestStagesInTheStatus(t *testing.T) {
	w := newWorld(t)
	for stage, want := range map[announcement.Stage]v1beta1.SpeakerStage{
		announcement.StageStarting:   v1beta1.StageStarting,
		announcement.StageReady:      v1beta1.StageReady,
		announcement.StageRestarting: v1beta1.StageRestarting,
		announcement.StageLeaving:    v1beta1.StageLeaving,
	} {
		w.tracker.SetStage(stage)
		if got := w.object.Current().Stage; got != want {
			t.Errorf("%s is told as %s", stage, got)
		}
		got := presence.ParseObject(
			&v1beta1.Speaker{Status: v1beta1.SpeakerStatus{Stage: want}},
			"node9",
		).State.Stage
		if got != stage {
			t.Errorf("%s is read as %s", want, got)
		}
	}
}

func TestConditions(t *testing.T) {
	for _, test := range []struct {
		story  string
		change func(*world)
		ready  v1beta1.Reason
		clear  v1beta1.Reason
		says   string // in the message of AddressesClear
	}{
		{"all is well", func(*world) {}, v1beta1.ReasonAnnouncing, v1beta1.ReasonNoConflicts, ""},
		{"there is a conflict", func(w *world) { w.hears("192.0.2.10", 9) },
			v1beta1.ReasonAnnouncing,
			v1beta1.ReasonConflicts, "Another host (02:00:00:00:00:09) claims 192.0.2.10"},
		{"there are many", func(w *world) {
			for i := range 300 {
				w.hears(fmt.Sprintf("10.0.%d.%d", i/256, i%256), 9)
			}
		}, v1beta1.ReasonAnnouncing, v1beta1.ReasonConflicts, "And 290 more"},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t)
			test.change(w)
			status := w.object.Current()
			ready := meta.FindStatusCondition(status.Conditions, v1beta1.ConditionReady)
			if ready.Reason != string(test.ready) ||
				(ready.Status == metav1.ConditionTrue) != (test.ready == v1beta1.ReasonAnnouncing) {
				t.Errorf("Ready is %+v", ready)
			}
			clean := meta.FindStatusCondition(status.Conditions, v1beta1.ConditionAddressesClear)
			if clean.Reason != string(test.clear) ||
				(clean.Status == metav1.ConditionTrue) != (test.clear == v1beta1.ReasonNoConflicts) ||
				!strings.Contains(clean.Message, test.says) {
				t.Errorf("AddressesClear is %+v", clean)
			}
			if n := status.Layer2.ConflictCount; int(n) != len(w.Heard) ||
				len(status.Layer2.Conflicts) != min(len(w.Heard), v1beta1.MaxSpeakerAnnouncements) {
				t.Errorf("%d conflicts are counted, %d listed", n, len(status.Layer2.Conflicts))
			}
		})
	}
}

// TestObjectIsReadAsItIsWritten: what a member reads is what this speaker does.
func TestObjectIsReadAsItIsWritten(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"))...)
	w.look()
	o := presence.ParseObject(&v1beta1.Speaker{Status: w.object.Current()}, "node9")
	if o.State.Stage != announcement.StageReady || o.Peer.String() != "192.0.2.1:7947" ||
		!o.Renewal.IsZero() || !o.Renewed.IsZero() {
		t.Errorf("got %+v", o)
	}
	claim := o.State.Claims[address]
	if len(o.State.Claims) != 1 || claim != (announcement.Claim{Generation: 1}) {
		t.Errorf("claims are %v", o.State.Claims)
	}
	if len(o.State.Links) != 1 || !o.State.Links[0].Equal(speakertest.LinkOf("node1")) {
		t.Errorf("links are %+v", o.State.Links)
	}
}

// TestRenewalIsWrittenThoughNothingElseChanged: that is what it is for.
func TestRenewalIsWrittenThoughNothingElseChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, node("node1"))
		if err := w.object.Write(t.Context()); err != nil || w.speaker().Status.RenewTime != nil {
			t.Fatalf("%v; renewed %s", err, w.speaker().Status.RenewTime)
		}
		for range 2 {
			time.Sleep(renewInterval)
			if err := w.object.Renew(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := w.speaker().Status.RenewTime; got == nil || !got.Equal(new(metav1.NowMicro())) {
				t.Errorf("renewed %s", got)
			}
		}
		if !w.object.Reachable(t.Context()) {
			t.Error("the API server is there")
		}
		gone := report.New(report.Config{
			Node: "node1",
			Live: fake.NewClientBuilder().WithScheme(kube.Scheme()).WithInterceptorFuncs(away()).Build(),
		})
		if gone.Reachable(t.Context()) {
			t.Error("the API server is away")
		}
	})
}

// away is an API server that does not answer in time.
func away() interceptor.Funcs {
	return interceptor.Funcs{
		Get: func(ctx context.Context, _ client.WithWatch, _ client.ObjectKey, _ client.Object,
			_ ...client.GetOption) error {
			<-ctx.Done()
			return ctx.Err()
		},
	}
}
