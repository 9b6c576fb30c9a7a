package main

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2"
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
	w.local = []layer2.Link{link("eth1", "198.51.100.7/24", "192.0.2.7/24", "192.0.2.8/24"), link("eth0"), link("veth1a2b", "10.1.0.1/24")}
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
	if len(s.Links) != 2 || s.Links[0].Name != "eth0" || fmt.Sprint(s.Links[1].Prefixes) != "[198.51.100.7/24 192.0.2.7/24 192.0.2.8/24]" {
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
}

func TestStatusBeforeTheFellowsAreKnown(t *testing.T) {
	w := newWorld(t)
	w.state.settled = make(chan struct{})
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
