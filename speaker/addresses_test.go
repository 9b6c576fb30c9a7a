package main

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/layer2"
)

func TestAnnouncementIsToldOnTransitionsOnly(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
	w.look()
	w.did("192.0.2.10 eth0", true, "web Normal Announcing")
	w.look()
	w.look()
	w.did("192.0.2.10 eth0", false)

	// A second link in the same subnet: more is announced, and nobody takes
	// over.
	w.local = append(w.local, link("eth1", "192.0.2.2/24"))
	w.look()
	w.did("192.0.2.10 eth0,eth1", true)

	// node2 is there now and takes the address: its claim came later.
	w.says("node2", "claim/192.0.2.10=2")
	w.look()
	w.did("192.0.2.10", true, "web Normal Withdrawn")
	w.look()
	w.did("192.0.2.10", false)

	w.died("node2", false)
	w.look()
	w.did("192.0.2.10 eth0,eth1", true, "web Normal Announcing")
}

func TestEveryServiceOfTheAddressIsTold(t *testing.T) {
	w := newWorld(t, slices.Concat(service("web"), service("dns"), append(service("mail"), node("node1")))...)
	w.look()
	w.did("192.0.2.10 eth0", true, "dns Normal Announcing", "mail Normal Announcing", "web Normal Announcing")
	w.look()
	w.did("192.0.2.10 eth0", false)
}

func TestWithdrawal(t *testing.T) {
	for _, test := range []struct {
		story  string
		change func(*world)
		reason v1beta1.Reason
		told   []string // Events
	}{
		{"no endpoint is ready", func(w *world) { w.ready("web", false) }, v1beta1.ReasonNoEndpoint,
			[]string{"web Normal Withdrawn", "web Warning NoEndpoint"}},
		{"the same, and another speaker comes first by name: it tells the Service",
			func(w *world) { w.ready("web", false); w.says("node0") }, v1beta1.ReasonNoEndpoint, []string{"web Normal Withdrawn"}},
		{"the same, and the other one is not present",
			func(w *world) { w.ready("web", false); w.says("node0", "stage=restarting") }, v1beta1.ReasonNoEndpoint,
			[]string{"web Normal Withdrawn", "web Warning NoEndpoint"}},
		{"the link goes down", func(w *world) { w.local[0].Up = false }, v1beta1.ReasonNoCandidate,
			[]string{"web Normal Withdrawn", "web Warning NoCandidate"}},
		{"the speaker has lost everybody for too long", func(w *world) { w.view.isolated.Store(true) }, v1beta1.ReasonIsolated,
			[]string{"web Normal Withdrawn", "web Warning Isolated"}},
		{"it leaves, and nobody can take over", func(w *world) { w.view.leaving.Store(true) }, v1beta1.ReasonNoCandidate,
			[]string{"web Normal Withdrawn"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t, append(service("web"), node("node1"))...)
			w.look()
			w.did("192.0.2.10 eth0", true, "web Normal Announcing")
			test.change(w)
			w.look()
			w.did("192.0.2.10", true, test.told...)
			w.look()
			w.did("192.0.2.10", false)
			if got := w.reason(); got != test.reason {
				t.Errorf("the reason is %s, want %s", got, test.reason)
			}
			if len(w.state.announced()) > 0 {
				t.Error("the address still counts as announced")
			}
			w.claims("")
		})
	}
}

func TestServiceIsDeleted(t *testing.T) {
	objects := service("web")
	w := newWorld(t, append(objects, node("node1"))...)
	w.look()
	if err := w.api.Delete(t.Context(), objects[0]); err != nil {
		t.Fatal(err)
	}
	w.set, w.events, w.told = nil, nil, 0
	w.look()
	w.did("192.0.2.10", true)
	w.claims("")
	if known := w.state.known(); len(known) > 0 {
		t.Errorf("%v is remembered for ever", known)
	}
}

func TestNothingIsAnnouncedBeforeTheFellowsAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, append(service("web"), node("node1"))...)
		w.state.settled = make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.look()
		}()
		synctest.Wait()
		if len(w.set) > 0 {
			t.Errorf("the announcer was given %q", w.set)
		}
		close(w.state.settled)
		<-done
		w.did("192.0.2.10 eth0", true, "web Normal Announcing")
	})
}

func TestAddressesToLookAt(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"))...)
	w.look()
	w.local = []layer2.Link{}
	got, err := w.view.addresses(t.Context(), "")
	if err != nil || len(got) != 1 || got[0] != address {
		t.Errorf("got %v, %v", got, err)
	}
	if got, _ := w.view.addresses(t.Context(), "example.com/other"); len(got) != 1 {
		t.Errorf("got %v, want the address that is still announced", got)
	}
}
