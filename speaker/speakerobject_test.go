package main

import (
	"context"
	"fmt"
	"net/netip"
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
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// announces has node1 own an address since a time.
func (w *world) announces(addr string, since time.Time) {
	w.state.record(announcement.Input{Address: netip.MustParseAddr(addr), Now: since}, announcement.Decision{
		Announce: true, Reason: v1beta1.ReasonOwner, Links: []string{"eth0"}, Services: []string{"default/web"},
		Claim: &announcement.Claim{Generation: 3},
	})
}

func (w *world) speaker() *v1beta1.Speaker {
	w.t.Helper()
	var s v1beta1.Speaker
	if err := w.api.Get(w.t.Context(), types.NamespacedName{Name: "node1"}, &s); err != nil {
		w.t.Fatal(err)
	}
	return &s
}

func TestStatusIsSorted(t *testing.T) {
	w := newWorld(t)
	since := time.Date(2026, 1, 1, 0, 0, 0, 999, time.UTC)
	for _, addr := range []string{"2001:db8::1", "192.0.2.10", "192.0.2.9"} {
		w.announces(addr, since)
	}
	w.local = []links.Link{link("eth1", "198.51.100.7/24", "192.0.2.7/24", "192.0.2.8/24"), link("eth0"), link("veth1a2b", "10.1.0.1/24")}
	w.says("node2")
	w.see()
	s := w.object.status()
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
	if len(s.Links) != 2 || s.Links[0].Name != "eth0" || fmt.Sprint(s.Links[1].Prefixes) != "[198.51.100.7/24 192.0.2.7/24]" {
		t.Errorf("the links are %v", s.Links)
	}
	if s.Members != 2 || s.MemberAddress != "192.0.2.1:7947" || s.MemberProfile != "balanced" || s.Stage != v1beta1.StageReady {
		t.Errorf("%d members, reached at %s, %s, %s", s.Members, s.MemberAddress, s.MemberProfile, s.Stage)
	}
	if !meta.IsStatusConditionTrue(s.Conditions, v1beta1.ConditionReady) {
		t.Errorf("the conditions are %v", s.Conditions)
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
	s := w.object.status()
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

func TestStatusBeforeTheFellowsAreKnown(t *testing.T) {
	w := newWorld(t)
	w.state.settled = notify.NewLatch()
	c := meta.FindStatusCondition(w.object.status().Conditions, v1beta1.ConditionReady)
	if c == nil || c.Status != metav1.ConditionFalse || c.Reason != string(v1beta1.ReasonStarting) {
		t.Errorf("the condition is %v", c)
	}
}

func TestSpeakerIsCreatedOwnedByItsNodeAndWrittenOnce(t *testing.T) {
	w := newWorld(t, node("node1"))
	w.announces("192.0.2.10", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	if err := w.object.write(t.Context(), w.object.status()); err != nil {
		t.Fatal(err)
	}
	s := w.speaker()
	if o := s.OwnerReferences; len(o) != 1 || o[0].Kind != "Node" || o[0].Name != "node1" || o[0].UID != "node1" {
		t.Errorf("the owners are %v", o)
	}
	if s.Status.Layer2.Count != 1 {
		t.Errorf("the status is %+v", s.Status)
	}
	if err := w.object.write(t.Context(), w.object.status()); err != nil {
		t.Fatal(err)
	}
	if again := w.speaker(); again.ResourceVersion != s.ResourceVersion {
		t.Error("the same status was written twice")
	}
}

func TestSpeakerOfAMissingNode(t *testing.T) {
	w := newWorld(t)
	if err := w.object.write(t.Context(), w.object.status()); err == nil {
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
		go func() { done <- w.object.run(ctx) }()
		synctest.Wait()
		if s := w.speaker(); s.Status.Layer2.Count != 0 || !meta.IsStatusConditionTrue(s.Status.Conditions, v1beta1.ConditionReady) {
			t.Errorf("after the start the status is %+v", s.Status)
		}

		first := w.speaker().ResourceVersion
		for _, addr := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"} {
			w.announces(addr, time.Now())
			w.object.tell()
			synctest.Wait()
		}
		if w.speaker().ResourceVersion != first {
			t.Error("written again within a second")
		}
		time.Sleep(objectInterval)
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
		if s.Status.Layer2.Count != 0 || len(s.Status.Layer2.Announcements) != 0 || c == nil || c.Reason != string(v1beta1.ReasonStopped) {
			t.Errorf("at the end the status is %+v", s.Status)
		}
	})
}

// TestFellowsAreListedByNameAndThoseThatAreMissingFirst: of more than the
// object takes, those that somebody has to look after must not be left out.
func TestFellowsAreListedByNameAndThoseThatAreMissingFirst(t *testing.T) {
	p := presence.Snapshot{Members: map[string]presence.Member{}}
	for n := range v1beta1.MaxSpeakerAnnouncements + 50 {
		s := announcement.Speaker{Presence: announcement.Present, Reason: v1beta1.ReasonNodePresent}
		if n >= v1beta1.MaxSpeakerAnnouncements+40 {
			s = announcement.Speaker{Presence: announcement.Gone, Reason: v1beta1.ReasonNodeSilent}
		}
		p.Members[fmt.Sprintf("node%03d", n)] = presence.Member{Speaker: s, Since: start.Add(999)}
	}
	got := fellowStatus(p)
	if len(got) != v1beta1.MaxSpeakerAnnouncements {
		t.Errorf("%d are listed", len(got))
	}
	gone := 0
	for i, f := range got {
		if i > 0 && got[i-1].Name >= f.Name {
			t.Errorf("%s is listed before %s", got[i-1].Name, f.Name)
		}
		if f.Presence == v1beta1.FellowGone && f.Reason == "NodeSilent" {
			gone++
		}
		if !f.Since.Time.Equal(start) {
			t.Errorf("%s is so since %s", f.Name, f.Since)
		}
	}
	if gone != 10 {
		t.Errorf("of 10 that are gone %d are listed", gone)
	}
}

func TestFellowsInTheStatus(t *testing.T) {
	w := newWorld(t)
	w.says("node2")
	w.says("node3", "stage=leaving")
	w.says("node4", "stage=restarting")
	w.says("node5")
	w.died("node5", false)
	w.see()
	s := w.object.status()
	var got []string
	for _, f := range s.Fellows {
		got = append(got, f.Name+" "+string(f.Presence))
	}
	if fmt.Sprint(got) != "[node2 Present node3 Leaving node4 Held node5 Gone]" || s.Members != 4 {
		t.Errorf("got %v and %d members", got, s.Members)
	}
}

func TestStagesInTheStatus(t *testing.T) {
	w := newWorld(t)
	for stage, want := range map[announcement.Stage]v1beta1.SpeakerStage{
		announcement.StageStarting: v1beta1.StageStarting, announcement.StageReady: v1beta1.StageReady,
		announcement.StageRestarting: v1beta1.StageRestarting, announcement.StageLeaving: v1beta1.StageLeaving,
	} {
		w.stage = stage
		if got := w.object.status().Stage; got != want {
			t.Errorf("%s is told as %s", stage, got)
		}
		if got := members.ParseObject(&v1beta1.Speaker{Status: v1beta1.SpeakerStatus{Stage: want}}, "node9").State.Stage; got != stage {
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
		{"it starts", func(w *world) { w.state.settled = notify.NewLatch() }, v1beta1.ReasonStarting, v1beta1.ReasonNoConflicts, ""},
		{"there is a conflict", func(w *world) { w.hears("192.0.2.10", "eth0", 9, false, 0) },
			v1beta1.ReasonAnnouncing, v1beta1.ReasonConflicts, "Another host (02:00:00:00:00:09) claims 192.0.2.10"},
		{"there are many", func(w *world) {
			for i := range 300 {
				w.hears(numbered(i).String(), "eth0", 9, false, 0)
			}
		}, v1beta1.ReasonAnnouncing, v1beta1.ReasonConflicts, "And 290 more"},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t)
			test.change(w)
			status := w.object.status()
			ready := meta.FindStatusCondition(status.Conditions, v1beta1.ConditionReady)
			if ready.Reason != string(test.ready) || (ready.Status == metav1.ConditionTrue) != (test.ready == v1beta1.ReasonAnnouncing) {
				t.Errorf("Ready is %+v", ready)
			}
			clean := meta.FindStatusCondition(status.Conditions, v1beta1.ConditionAddressesClear)
			if clean.Reason != string(test.clear) || (clean.Status == metav1.ConditionTrue) != (test.clear == v1beta1.ReasonNoConflicts) ||
				!strings.Contains(clean.Message, test.says) {
				t.Errorf("AddressesClear is %+v", clean)
			}
			if n := status.Layer2.ConflictCount; int(n) != len(w.heard) || len(status.Layer2.Conflicts) != min(len(w.heard), v1beta1.MaxSpeakerAnnouncements) {
				t.Errorf("%d conflicts are counted, %d listed", n, len(status.Layer2.Conflicts))
			}
		})
	}
}

// TestStandInIsToldOf: whose address this node answers for.
func TestStandInIsToldOf(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
	w.says("node2", "claim/192.0.2.10=7", "stage=restarting")
	w.look()
	got := w.object.status().Layer2.Announcements
	if len(got) != 1 || got[0].StandInFor != "node2" || got[0].Generation != 0 {
		t.Errorf("got %+v", got)
	}
	if o := members.ParseObject(&v1beta1.Speaker{Status: w.object.status()}, "node9"); len(o.State.Claims) > 0 {
		t.Errorf("fellows take it for the claim %v", o.State.Claims)
	}
}

// TestObjectIsReadAsItIsWritten: what a fellow reads is what this speaker does.
func TestObjectIsReadAsItIsWritten(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"))...)
	w.look()
	o := members.ParseObject(&v1beta1.Speaker{Status: w.object.status()}, "node9")
	if o.State.Stage != announcement.StageReady || o.Peer.String() != "192.0.2.1:7947" || !o.Renewal.IsZero() || !o.Renewed.IsZero() {
		t.Errorf("got %+v", o)
	}
	if claim := o.State.Claims[address]; len(o.State.Claims) != 1 || claim != (announcement.Claim{Generation: 1}) {
		t.Errorf("claims are %v", o.State.Claims)
	}
	if len(o.State.Links) != 1 || !o.State.Links[0].Equal(fellowLink("node1")) {
		t.Errorf("links are %+v", o.State.Links)
	}
}

// TestRenewal is written each time although nothing else changes; that is what
// it is for.
func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, node("node1"))
		if err := w.object.write(t.Context(), w.object.status()); err != nil || w.speaker().Status.RenewTime != nil {
			t.Fatalf("%v; renewed %s", err, w.speaker().Status.RenewTime)
		}
		for range 2 {
			time.Sleep(renewInterval)
			if err := w.object.renew(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := w.speaker().Status.RenewTime; got == nil || !got.Equal(new(metav1.NowMicro())) {
				t.Errorf("renewed %s", got)
			}
		}
		if !w.object.Reachable(t.Context()) {
			t.Error("the API server is there")
		}
		w.object.live = fake.NewClientBuilder().WithScheme(kube.Scheme()).WithInterceptorFuncs(away()).Build()
		if w.object.Reachable(t.Context()) {
			t.Error("the API server is away")
		}
	})
}

// away is an API server that does not answer in time.
func away() interceptor.Funcs {
	return interceptor.Funcs{
		Get: func(ctx context.Context, _ client.WithWatch, _ client.ObjectKey, _ client.Object, _ ...client.GetOption) error {
			<-ctx.Done()
			return ctx.Err()
		},
	}
}
