package layer2

import (
	"context"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/speaker/speakertest"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/announcer"
)

const tenMinutes = 10 * time.Minute

// lingering returns a world in which owners linger for ten minutes, with another node.
func lingering(t *testing.T, other *corev1.Node) *world {
	t.Helper()
	w := newWorld(t, append(service("web"), node("node1"), other)...)
	objects := speakertest.Everything()
	objects.L2Advertisements[0].Spec.HandOver = &v1beta1.HandOverPolicy{
		LingerPeriod: &metav1.Duration{Duration: tenMinutes},
	}
	w.config.Set(objects, time.Now())
	return w
}

// manner checks how the announcer was asked to announce the address last.
func (w *world) manner(want announcer.Manner) {
	w.t.Helper()
	if got := w.Requests[address]; got.Manner != want || len(got.Links) == 0 {
		w.t.Errorf("announced on %v in manner %d, want %d", got.Links, got.Manner, want)
	}
}

// TestLingersForAQuietOwner: node1 loses its address to node2, which is quiet, and lingers until node2
// announces it, or the time is over.
func TestLingersForAQuietOwner(t *testing.T) {
	for _, test := range []struct {
		story  string
		change func(*world)
		lasts  bool
	}{
		{"nothing happens", func(*world) {}, true},
		{"node2 announces", func(w *world) { w.Publishes("node2", "claim/192.0.2.10=2") }, false},
		{"node2's speaker restarts",
			func(w *world) { w.Publishes("node2", "stage=leaving", "claim/192.0.2.10=2q") }, false},
		{"this speaker leaves", func(w *world) { w.tracker.SetStage(announcement.StageLeaving) }, false},
		{"its link goes down", func(w *world) { w.Local[0].Up = false }, false},
		{"the option is taken away",
			func(w *world) { w.config.Set(speakertest.Everything(), time.Now()) }, false},
	} {
		t.Run(test.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := lingering(t, node("node2"))
				w.look()
				w.Did("192.0.2.10 eth0", true, "web Normal Announcing")
				w.manner(announcer.Openly)

				w.Publishes("node2", "claim/192.0.2.10=2q")
				if again := w.look(); again != tenMinutes {
					t.Errorf("it is looked at again after %s", again)
				}
				w.Did("192.0.2.10 eth0", true, "web Normal Lingering")
				w.claims("1l")
				w.manner(announcer.Lingering)
				if w.c.Owns() {
					t.Error("who lingers owns nothing, and has nothing to hand over")
				}
				row := w.object().Layer2.Announcements[0]
				if row.LingersFor != "node2" || row.Until.IsZero() || row.Generation != 0 {
					t.Errorf("the object says %+v", row)
				}
				if got := w.object().Layer2; len(claimsOf(got)) > 0 || got.Owned != 0 || got.Count != 1 {
					t.Errorf("the object claims %v of %+v", claimsOf(got), got)
				}

				time.Sleep(time.Minute)
				w.Given = nil
				test.change(w)
				w.look()
				if test.lasts {
					w.claims("1l")
					w.manner(announcer.Lingering)
					time.Sleep(tenMinutes - time.Minute)
					w.look()
				}
				if got := w.Requests[address]; len(got.Links) > 0 && got.Manner == announcer.Lingering {
					t.Errorf("it still lingers: %+v", got)
				}
				if got := speakertest.ClaimIn(w.Published, address); strings.HasSuffix(got, "l") {
					t.Errorf("it still claims %q", got)
				}
			})
		})
	}
}

// TestTakesQuietly: node1 takes the address of node2, which is cordoned, and announces it when
// node2 no longer lingers.
func TestTakesQuietly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cordoned := node("node2")
		cordoned.Spec.Unschedulable = true
		w := lingering(t, cordoned)
		w.Publishes("node2", "claim/192.0.2.10=4")
		if again := w.look(); again != 3*time.Second {
			t.Errorf("it is looked at again after %s, want as long as a hand-over takes", again)
		}
		w.claims("5q")
		w.manner(announcer.Quietly)
		if len(w.Emitted) != 1 || w.object().Layer2.Announcements[0].Former != "node2" {
			t.Errorf("Events %q, object %+v", w.Emitted, w.object().Layer2.Announcements)
		}

		w.Publishes("node2", "claim/192.0.2.10=4l")
		time.Sleep(3 * time.Second)
		if again := w.look(); again != tenMinutes-3*time.Second {
			t.Errorf("it is looked at again after %s", again)
		}
		w.claims("5q")
		if got := w.conflicts.list(); len(got) > 0 {
			t.Errorf("conflicts %v", got)
		}

		w.Publishes("node2")
		w.look()
		w.claims("5")
		w.manner(announcer.Openly)
	})
}

// TestWhatLingeredIsNotAdopted: a speaker that lingered, and was restarted, has no claim to the address.
func TestWhatLingeredIsNotAdopted(t *testing.T) {
	m := newMemory()
	m.adopt(map[netip.Addr]announcement.Claim{address: {Generation: 3, Lingers: true}}, nil)
	if m.owns() || m.of(address).Claim != nil || m.of(address).highest != 3 {
		t.Errorf("adopted %+v", m.of(address))
	}
	m.adopt(map[netip.Addr]announcement.Claim{address: {Generation: 3, Quiet: true}}, nil)
	if !m.owns() {
		t.Error("what it owned quietly is not adopted")
	}
}

// TestProxyIsAskedWhileLingering: the service proxy is asked while this node lingers, and only then. When it
// worked and does so no longer, the node ceases to.
func TestProxyIsAskedWhileLingering(t *testing.T) {
	for _, test := range []struct {
		story string
		// works says what the proxy answers to each question; the last holds for all that follow.
		works  []bool
		ceases bool
	}{
		{"it works", []bool{true}, false},
		{"it fails", []bool{true, false}, true},
		{"it misses two questions", []bool{true, false, false, true}, false},
		{"it has never answered: perhaps it has no such port", []bool{false}, false},
	} {
		t.Run(test.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := lingering(t, node("node2"))
				var asked atomic.Int64
				w.c.view.proxy.healthy = func(context.Context) bool {
					at := int(asked.Add(1)) - 1
					return test.works[min(at, len(test.works)-1)]
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- w.c.view.proxy.run(ctx) }()
				w.look()
				time.Sleep(time.Minute)
				if asked.Load() > 0 {
					t.Error("the proxy is asked by an owner")
				}
				w.Publishes("node2", "claim/192.0.2.10=2q")
				w.look()
				time.Sleep(10*time.Second + time.Millisecond)
				w.look()
				if got := w.reason() != v1beta1.ReasonLingering; got != test.ceases {
					t.Errorf("after %d questions it is %s", asked.Load(), w.reason())
				}
				w.Publishes("node2", "claim/192.0.2.10=2")
				w.look()
				time.Sleep(2 * time.Second)
				before := asked.Load()
				time.Sleep(time.Minute)
				if asked.Load() > before {
					t.Error("the proxy is asked for ever")
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
