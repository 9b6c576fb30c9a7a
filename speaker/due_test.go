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
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	d.add(b)
	d.add(a)
	d.add(b)
	<-d.news
	if got, all := d.take(); !slices.Equal(got, []netip.Addr{a, b}) || all {
		t.Errorf("took %v, all %t", got, all)
	}
	if got, all := d.take(); len(got) > 0 || all {
		t.Errorf("took %v another time, all %t", got, all)
	}
	d.addAll()
	<-d.news
	if got, all := d.take(); len(got) > 0 || !all {
		t.Errorf("took %v, all %t", got, all)
	}
	select {
	case <-d.news:
		t.Error("there is nothing to take, and it is told")
	default:
	}
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
