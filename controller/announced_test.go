package main

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
)

// TestServiceSaysWhatBecomesOfItByBGP, in a condition, with one write and one Event
// for each change; and nothing where BGP has no part.
func TestServiceSaysWhatBecomesOfItByBGP(t *testing.T) {
	all := bgpAdvertisement("all", nil)
	n1 := node("True", time.Time{})
	n1.Name = "n1"
	speaker := speakerThat("n1", "tor")
	speaker.Status.BGP.Sessions[0].Families = []v1beta1.BGPFamily{v1beta1.BGPFamilyIPv4}
	w := newWorld(t, lan("192.0.2.0/24"), service("web", 0), n1, speaker, &all, bgpPeer("tor", nil))
	condition := func() string {
		c := meta.FindStatusCondition(w.get("web").Status.Conditions, v1beta1.ConditionBGPAnnounced)
		if c == nil {
			return ""
		}
		return string(c.Status) + " " + c.Reason
	}
	now := birth
	// later looks at everything after some seconds, and at the Services that are due.
	later := func(seconds int) {
		t.Helper()
		now = now.Add(time.Duration(seconds) * time.Second)
		if _, err := w.bgp.Evaluate(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		for _, name := range w.woken {
			w.look(name)
		}
		w.woken = nil
	}
	is := func(want string) {
		t.Helper()
		if got := condition(); got != want {
			t.Errorf("the condition is %q, want %q", got, want)
		}
	}
	w.look("web")
	w.did([]string{"web"}, []string{"web Normal Assigned"})
	later(0)
	is("")
	announce := func(ranges ...string) {
		t.Helper()
		var s v1beta1.Speaker
		if err := w.api.Get(t.Context(), client.ObjectKey{Name: "n1"}, &s); err != nil {
			t.Fatal(err)
		}
		s.Status.BGP.Addresses = ranges
		if err := w.api.Update(t.Context(), &s); err != nil {
			t.Fatal(err)
		}
	}
	announce("192.0.2.0")
	later(1)
	is("True Announced")
	w.did([]string{"web"}, []string{"web Normal Announced"})
	later(60)
	w.didNothing()

	announce()
	later(1)
	w.didNothing() // it may be back soon
	later(5)
	is("False NoNodeAnnounces")
	w.did([]string{"web"}, []string{"web Warning NoNodeAnnounces"})

	// A new leader takes over what it finds.
	w.restart()
	w.look("web")
	later(1)
	later(60)
	is("False NoNodeAnnounces")
	w.didNothing()

	announce("192.0.2.0")
	later(1)
	w.did([]string{"web"}, []string{"web Normal Announced"})
	if err := w.api.Delete(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	w.configure()
	w.forget()
	later(1)
	is("")
	w.did([]string{"web"}, nil)
}
