package main

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

func TestDue(t *testing.T) {
	d := newDue()
	var a [6]netip.Addr
	for i := range a {
		a[i] = netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
	}
	takes := func(want ...netip.Addr) {
		t.Helper()
		if got := d.take(3); !slices.Equal(got, want) {
			t.Errorf("took %v, want %v", got, want)
		}
	}
	takes()
	d.add(a[1])
	d.add(a[0])
	d.add(a[1])
	<-d.news
	takes(a[0], a[1])
	takes()

	if d.isAll() {
		t.Error("all are due")
	}
	d.addAll()
	d.addAll()
	<-d.news
	if !d.isAll() || d.isAll() {
		t.Error("all are due once")
	}
	// What changes meanwhile comes before the rest, whose order stays.
	d.setRest([]netip.Addr{a[5], a[4], a[3], a[2], a[1], a[0]})
	takes(a[5], a[4], a[3])
	d.add(a[5])
	takes(a[5], a[2], a[1])
	// One that waits already is not put off when all begin anew.
	d.setRest(d.waitingFirst([]netip.Addr{a[1], a[2], a[3], a[0]}))
	takes(a[0], a[1], a[2])
	d.setRest(d.waitingFirst([]netip.Addr{a[1], a[2]})) // a[3] is gone
	takes(a[1], a[2])
	takes()
}

// An address whose owner is gone is looked at before all others.
func TestUrgentFirst(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
	w.says("node2", "claim/192.0.2.10=2")
	w.look()
	others := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.3"), address}
	if got := w.view.urgentFirst(others); !slices.Equal(got, others) {
		t.Errorf("nothing is urgent: %v", got)
	}
	w.died("node2", false)
	w.see()
	if got := w.view.urgentFirst(others); got[0] != address || len(got) != 3 {
		t.Errorf("the order is %v", got)
	}
}

// What is due is looked at when the configuration is there, and again when what
// it depends on could not be read.
func TestAddressesAreLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		w := newWorld(t, append(service("web"), node("node1"))...)
		w.see()
		var broken atomic.Bool
		w.view.cached = interceptor.NewClient(w.api.(client.WithWatch), interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
				if _, nodes := list.(*corev1.NodeList); nodes && broken.Load() {
					return errors.New("no cache")
				}
				return c.List(ctx, list, options...)
			},
		})
		w.state.configured = make(chan struct{})
		w.addresses.later = func(addr netip.Addr, wait time.Duration) {
			time.AfterFunc(wait, func() { w.addresses.due.add(addr) })
		}
		go func() {
			if err := w.addresses.run(ctx); err != nil {
				t.Error(err)
			}
		}()
		broken.Store(true)
		w.addresses.due.addAll()
		synctest.Wait()
		if len(w.set) > 0 {
			t.Fatalf("without a configuration, the announcer was given %q", w.set)
		}
		close(w.state.configured)
		time.Sleep(lookRetry / 2)
		synctest.Wait()
		if len(w.set) > 0 {
			t.Fatalf("without knowing the nodes, the announcer was given %q", w.set)
		}
		broken.Store(false)
		time.Sleep(lookRetry)
		synctest.Wait()
		stop()
		synctest.Wait()
		w.did("192.0.2.10 eth0", true, "web Normal Announcing")
	})
}
