package layer2

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/speaker/reconcile"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/prober"
)

// TestConflictEndsWithItsService: what was found wrong with an address is forgotten when no Service
// has the address any more.
func TestConflictEndsWithItsService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		objects := service("web")
		w := newWorld(t, append(objects, node("node1"), node("node2"))...)
		w.Publishes("node2", "claim/192.0.2.10=5")
		w.look()
		c, _ := w.checks()
		c.round(t.Context())
		if len(w.conflicts.list()) != 1 {
			t.Fatal("no conflict")
		}
		if err := w.api.Delete(t.Context(), objects[0]); err != nil {
			t.Fatal(err)
		}
		w.look()
		for range 3 {
			c.round(t.Context())
		}
		if got := w.conflicts.list(); len(got) > 0 {
			t.Errorf("the Service is gone, and there are still %v", got)
		}
	})
}

// recorder is called for each Event.
type recorder func()

// Eventf implements events.EventRecorder.
func (r recorder) Eventf(runtime.Object, runtime.Object, string, string, string, string, ...any) { r() }

// TestConflictFoundByTwoIsReportedOnce: whoever reports a conflict first is the only one.
func TestConflictFoundByTwoIsReportedOnce(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"))...)
	w.look()
	w.Emitted = nil
	w.hears("192.0.2.10", "eth0", 9, false, 0)
	events, inside := 0, false
	w.conflicts.events = reconcile.NewServiceEvents(w.api, recorder(func() {
		events++
		if !inside {
			inside = true
			done := make(chan struct{})
			go func() { defer close(done); w.conflicts.report() }()
			<-done
		}
	}))
	w.conflicts.report()
	if events != 1 || w.conflicts.counted()[v1beta1.ConflictForeignHost] != 1 {
		t.Errorf("%d Events, counted %v", events, w.conflicts.counted())
	}
}

// TestOneAskerForAnAddress: an address that is wanted, and not, and wanted again is
// asked for no more often than one that is wanted all the time.
func TestOneAskerForAnAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, append(service("web"), node("node1"))...)
		_, lan := w.asks()
		lan.has(net6(9))
		w.look()
		lan.after(time.Second)
		for range 5 {
			w.ready("web", false)
			w.look()
			w.ready("web", true)
			w.look()
			lan.after(time.Second)
		}
		before := lan.questions()
		lan.after(61 * time.Second)
		if n := lan.questions() - before; n > 7 {
			t.Errorf("asked %d times in a minute", n)
		}
	})
}

// TestLinksOfNowAreAsked: the LAN is asked on the links that there are now.
func TestLinksOfNowAreAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, append(service("web"), node("node1"))...)
		_, lan := w.asks()
		lan.breaks(prober.ErrLinkUnusable)
		w.look()
		lan.after(time.Second)
		w.Local = []links.Link{link("bond0", "192.0.2.1/24")}
		w.look()
		lan.after(time.Minute)
		if w.reason() != v1beta1.ReasonOwner {
			t.Errorf("the reason is %s; last asked on %s", w.reason(), lan.asked[len(lan.asked)-1].Link)
		}
	})
}

// TestReturningNodeWarnsNobody: a node that asks the others first does not tell Services that
// nobody announces them.
func TestReturningNodeWarnsNobody(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
	w.Publishes("node2", "claim/192.0.2.10=5")
	w.look()
	w.Returns(w.tracker, func() {
		w.Given, w.Emitted = nil, nil
		if err := w.loop.Reconcile(t.Context(), []netip.Addr{address}); err != nil {
			t.Error(err)
		}
	})
	if got := w.reason(); got != v1beta1.ReasonReturning {
		t.Errorf("while it asks the reason is %s", got)
	}
	if len(w.Emitted) > 0 {
		t.Errorf("node2 announces it all the time: %q", w.Emitted)
	}
}
