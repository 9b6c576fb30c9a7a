package layer2

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/speakertest"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/announcer"
)

func TestAnnouncementIsReportedOnTransitionsOnly(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
	w.look()
	w.Did("192.0.2.10 eth0", true, "web Normal Announcing")
	w.look()
	w.look()
	w.Did("192.0.2.10 eth0", false)

	// A second link in the same subnet: more is announced, and nobody takes
	// over.
	w.Local = append(w.Local, link("eth1", "192.0.2.2/24"))
	w.look()
	w.Did("192.0.2.10 eth0,eth1", true)

	// node2 is there now and takes the address: its claim came later.
	w.Publishes("node2", "claim/192.0.2.10=2")
	w.look()
	w.Did("192.0.2.10", true, "web Normal Withdrawn")
	w.look()
	w.Did("192.0.2.10", false)

	w.died("node2", false)
	w.look()
	w.Did("192.0.2.10 eth0,eth1", true, "web Normal Announcing")
}

func TestEveryServiceOfTheAddressGetsAnEvent(t *testing.T) {
	w := newWorld(t, slices.Concat(service("web"), service("dns"), append(service("mail"), node("node1")))...)
	w.look()
	w.Did("192.0.2.10 eth0", true, "dns Normal Announcing", "mail Normal Announcing", "web Normal Announcing")
	w.look()
	w.Did("192.0.2.10 eth0", false)
}

func TestWithdrawal(t *testing.T) {
	for _, test := range []struct {
		story  string
		change func(*world)
		reason v1beta1.Reason
		events []string
	}{
		{"no endpoint is ready", func(w *world) { w.ready("web", false) }, v1beta1.ReasonNoEndpoint,
			[]string{"web Normal Withdrawn", "web Warning NoEndpoint"}},
		{"the same, and another speaker comes first by name: it warns the Service",
			func(w *world) {
				w.ready("web", false)
				w.Publishes("node0")
			}, v1beta1.ReasonNoEndpoint, []string{"web Normal Withdrawn"}},
		{"the same, and the other one is not present",
			func(w *world) {
				w.ready("web", false)
				w.Publishes("node0", "stage=restarting")
			}, v1beta1.ReasonNoEndpoint,
			[]string{"web Normal Withdrawn", "web Warning NoEndpoint"}},
		{"the link goes down", func(w *world) { w.Local[0].Up = false }, v1beta1.ReasonNoCandidate,
			[]string{"web Normal Withdrawn", "web Warning NoCandidate"}},
		{"it leaves, and nobody can take over",
			func(w *world) { w.tracker.SetStage(announcement.StageLeaving) }, v1beta1.ReasonNoCandidate,
			[]string{"web Normal Withdrawn"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t, append(service("web"), node("node1"))...)
			w.look()
			w.Did("192.0.2.10 eth0", true, "web Normal Announcing")
			test.change(w)
			w.look()
			w.Did("192.0.2.10", true, test.events...)
			w.look()
			w.Did("192.0.2.10", false)
			if got := w.reason(); got != test.reason {
				t.Errorf("the reason is %s, want %s", got, test.reason)
			}
			if len(w.memory.announced()) > 0 {
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
	w.Given, w.Emitted = nil, nil
	w.IsStale()
	w.look()
	w.Did("192.0.2.10", true)
	w.claims("")
	if known := w.memory.known(); len(known) > 0 {
		t.Errorf("%v is remembered for ever", known)
	}
}

func TestNothingIsAnnouncedBeforeTheMembersAreKnown(t *testing.T) {
	w := unsettledWorld(t, func(*members.Config) {}, append(service("web"), node("node1"))...)
	w.look()
	if len(w.Given) > 0 || len(w.Emitted) > 0 {
		t.Errorf("the announcer was given %q, and %q was emitted", w.Given, w.Emitted)
	}
	w.settled.Set() // and all is looked at again
	w.look()
	w.Did("192.0.2.10 eth0", true, "web Normal Announcing")
}

// TestClaimsArePublishedAndWithdrawn: an address goes from node1 to node2 and back.
// The generation counts up, and node1 says each thing once.
func TestClaimsArePublishedAndWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
		w.look()
		w.look()
		w.Did("192.0.2.10 eth0", true, "web Normal Announcing")
		w.claims("1")
		if got := w.Requests[address]; got.Generation != 1 || got.As != nil {
			t.Errorf("the announcer was asked for %+v", got)
		}

		w.Publishes("node2", "claim/192.0.2.10=2")
		w.look()
		w.look()
		w.Did("192.0.2.10", true, "web Normal Withdrawn")
		w.claims("")
		if w.ClaimsPublished != 2 || w.reason() != v1beta1.ReasonNotOwner {
			t.Errorf("said something %d times; the reason is %s", w.ClaimsPublished, w.reason())
		}

		w.died("node2", false)
		w.look()
		w.Did("192.0.2.10 eth0", true, "web Normal Announcing")
		w.claims("3")
		if got := w.Requests[address].Generation; got != 2 {
			t.Errorf("the announcer was asked for generation %d: it would not announce anew", got)
		}
		if got, ok := w.memory.took(address); !ok || got.cause != v1beta1.CauseNodeGone ||
			got.from.After(time.Now()) || got.from.IsZero() {
			t.Errorf("taken: %+v, %t", got, ok)
		}

		// node2 is back and still claims what it had, which is over.
		w.Publishes("node2", "claim/192.0.2.10=2")
		w.look()
		w.Did("192.0.2.10 eth0", false)
		w.Publishes("node2")
		w.look()
		w.Did("192.0.2.10 eth0", false)
		w.claims("3")
		if got := w.Requests[address].Generation; got != 3 {
			t.Errorf("the announcer was asked for generation %d: hosts that heard node2 would stay there",
				got)
		}
	})
}

// TestAddressIsHandedOver: the node is drained. node1 goes on until node2 says
// that it has the address, and looks again when that takes too long.
func TestAddressIsHandedOver(t *testing.T) {
	for _, test := range []struct {
		story string
		take  bool
		after time.Duration
	}{
		{"the other takes it soon", true, 20 * time.Millisecond},
		{"the other never does", false, 3 * time.Second},
	} {
		t.Run(test.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
				w.look()
				w.Did("192.0.2.10 eth0", true, "web Normal Announcing")
				w.Publishes("node2")
				w.tracker.SetStage(announcement.StageLeaving)
				if got := w.look(); got != 3*time.Second {
					t.Errorf("it is looked at again after %s", got)
				}
				w.Did("192.0.2.10 eth0", true)
				w.claims("1")
				if w.reason() != v1beta1.ReasonHandingOver {
					t.Errorf("the reason is %s", w.reason())
				}
				time.Sleep(time.Millisecond)
				if got := w.look(); got != 3*time.Second-time.Millisecond {
					t.Errorf("then after %s: its time starts anew", got)
				}
				w.Did("192.0.2.10 eth0", false)

				time.Sleep(test.after - time.Millisecond)
				if test.take {
					w.Publishes("node2", "claim/192.0.2.10=2")
				}
				if got := w.look(); got != 0 {
					t.Errorf("and after %s once more", got)
				}
				w.Did("192.0.2.10", true, "web Normal Withdrawn")
				w.claims("")
				if w.memory.owns() {
					t.Error("the speaker waits for ever before it stops")
				}
			})
		})
	}
}

// TestClaimIsPublishedWhenItIsAnswered: node2 goes on answering until it hears that node1 has the address, so
// node1 answers before it says so. Where nobody answers there is nobody to wait for.
func TestClaimIsPublishedWhenItIsAnswered(t *testing.T) {
	for _, test := range []struct {
		story string
		owner func(w *world)
		waits []int
	}{
		{"from a node that is drained", func(w *world) { w.reads(written("node2")) }, []int{0}},
		{"from a node that died", func(w *world) { w.died("node2", false) }, nil},
	} {
		t.Run(test.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cordoned := node("node2")
				cordoned.Spec.Unschedulable = true
				w := newWorld(t, append(service("web"), node("node1"), cordoned)...)
				w.Publishes("node2", "claim/192.0.2.10=1")
				test.owner(w)
				w.look()
				w.Did("192.0.2.10 eth0", true, "web Normal Announcing")
				w.claims("2")
				if !slices.Equal(w.Awaited, test.waits) || w.ClaimsPublished != 1 {
					t.Errorf("claims were published %d times, and waited for the announcer after %v",
						w.ClaimsPublished, w.Awaited)
				}
				w.look()
				if !slices.Equal(w.Awaited, test.waits) {
					t.Error("it waits again for what it has")
				}
			})
		})
	}
}

// TestStandIn: the speaker of node2 restarts, so node1 answers with the
// hardware address of node2 and claims nothing.
func TestStandIn(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
	w.Publishes("node2", "claim/192.0.2.10=7", "stage=restarting")
	w.look()
	w.Did("192.0.2.10 eth0", true)
	w.claims("")
	if got := w.Requests[address]; got.As["eth0"].String() != net6(2).String() || got.Generation != 0 {
		t.Errorf("the announcer was asked for %+v", got)
	}
	if w.reason() != v1beta1.ReasonStandIn || w.memory.owns() {
		t.Errorf("the reason is %s", w.reason())
	}
	if _, ok := w.memory.took(address); ok {
		t.Error("to stand in is measured as taking the address")
	}

	w.Publishes("node2", "claim/192.0.2.10=7")
	w.look()
	w.Did("192.0.2.10", true)

	// It restarts once more and then dies: now it is node1's.
	w.Publishes("node2", "claim/192.0.2.10=7", "stage=restarting")
	w.look()
	w.Did("192.0.2.10 eth0", true)
	w.died("node2", false)
	w.look()
	w.Did("192.0.2.10 eth0", true, "web Normal Announcing")
	w.claims("8")
	if got := w.Requests[address]; got.As != nil || got.Generation != 1 {
		t.Errorf("the announcer was asked for %+v", got)
	}
}

// TestMinorityClaimsWeakly: node1 sees one of three only. When the others are
// back, their claim counts.
func TestMinorityClaimsWeakly(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"), node("node2"), node("node3"))...)
	w.reads(written("node2"), written("node3"))
	w.look()
	w.claims("1w")
	w.Did("192.0.2.10 eth0", true, "web Normal Announcing")
	w.Publishes("node2", "claim/192.0.2.10=1")
	w.Publishes("node3")
	w.look()
	w.Did("192.0.2.10 eth0", true)
	if w.reason() != v1beta1.ReasonHandingOver {
		t.Errorf("the reason is %s", w.reason())
	}
	w.Publishes("node2", "claim/192.0.2.10=2")
	w.look()
	w.claims("")
	w.Did("192.0.2.10", true, "web Normal Withdrawn")
}

// TestPolicyIsGivenToTheAnnouncer as the advertisement has it.
func TestPolicyIsGivenToTheAnnouncer(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"))...)
	objects := speakertest.Everything()
	objects.L2Advertisements[0].Spec.Announcement = &v1beta1.AnnouncementPolicy{
		Count:           7,
		Interval:        &metav1.Duration{Duration: 20 * time.Millisecond},
		RefreshInterval: &metav1.Duration{Duration: time.Hour},
	}
	objects.L2Advertisements[0].Spec.Promiscuous = true
	w.config.Set(objects, time.Now())
	w.look()
	if !w.Requests[address].Promiscuous {
		t.Error("the links do not take all frames")
	}
	want := announcer.Policy{Count: 7, Interval: 20 * time.Millisecond, Refresh: time.Hour}
	if got := w.Requests[address].Policy; got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestLANIsAskedBeforeTheFirstAnnouncement, and not again while it is.
func TestLANIsAskedBeforeTheFirstAnnouncement(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"))...)
	w.c.view.probes = true
	w.look()
	w.Did("192.0.2.10", true)
	if len(w.asked) != 1 || w.asked[0] != "192.0.2.10 eth0" || w.reason() != v1beta1.ReasonProbing {
		t.Errorf("asked for %q; the reason is %s", w.asked, w.reason())
	}
	answered(w.memory, address, announcement.ProbeAsking, nil)
	w.look()
	w.Did("192.0.2.10", false)

	answered(w.memory, address, announcement.ProbeTaken, net6(9))
	w.look()
	w.Did("192.0.2.10", true, "web Warning Conflict")
	w.look()
	w.Did("192.0.2.10", false)
	w.claims("")

	answered(w.memory, address, announcement.ProbeFree, nil)
	w.look()
	w.Did("192.0.2.10 eth0", true, "web Normal Announcing")
	if len(w.asked) != 1 {
		t.Errorf("asked for %q", w.asked)
	}
	if got, _ := w.memory.took(address); got.cause != v1beta1.CauseConflictOver {
		t.Errorf("the cause is %q", got.cause)
	}

	// It has been announced before, so nobody is asked when it comes back.
	w.ready("web", false)
	w.look()
	w.ready("web", true)
	w.look()
	if w.reason() != v1beta1.ReasonOwner || len(w.asked) != 1 {
		t.Errorf("the reason is %s; asked for %q", w.reason(), w.asked)
	}
	w.claims("2")
}
