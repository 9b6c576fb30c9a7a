package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster/clustertest"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/announcement"
)

// source is where a loop of a test reads.
type source struct {
	mu      sync.Mutex
	settled bool
	broken  bool
	addrs   []netip.Addr
	service announcement.Service // that has each address
	unheard announcement.Unheard
	inputs  int // how often they were gathered
}

// Inputs implements Source.
func (s *source) Inputs(context.Context) (Inputs, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inputs++
	if s.broken {
		return Inputs{}, errors.New("no cache")
	}
	return Inputs{Node: "node1", Settled: s.settled, Unheard: s.unheard, Now: time.Now()}, nil
}

// Services implements Source.
func (s *source) Services(context.Context, netip.Addr) ([]announcement.Service, error) {
	return []announcement.Service{s.service}, nil
}

// Addresses implements Source.
func (s *source) Addresses(context.Context) ([]netip.Addr, error) { return s.addrs, nil }

// UrgentFirst implements Source.
func (*source) UrgentFirst(all []netip.Addr) []netip.Addr {
	slices.Reverse(all)
	return all
}

// protocol remembers what it was asked to do.
type protocol struct {
	name    string
	did     *[]string
	outcome Outcome
	known   []netip.Addr
	owns    bool   // an address has one owner
	ready   []bool // whether the Service of an address was, each time
}

// Reconcile implements Protocol.
func (p *protocol) Reconcile(_ Inputs, a Address) Outcome {
	line := fmt.Sprintf("%s %s", p.name, a.Addr)
	if a.Elsewhere {
		line += " elsewhere"
	}
	*p.did = append(*p.did, line)
	p.ready = append(p.ready, a.Services[0].Ready)
	return p.outcome
}

// Flush implements Protocol.
func (p *protocol) Flush() { *p.did = append(*p.did, p.name+" flush") }

// NeedsMembers implements Protocol.
func (p *protocol) NeedsMembers() bool { return p.owns }

// Known implements Protocol.
func (p *protocol) Known() []netip.Addr { return p.known }

// rig is a loop with two protocols.
type rig struct {
	*Loop
	source      *source
	queue       *Queue
	configured  notify.Latch
	did         []string
	layer2, bgp *protocol
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{source: &source{settled: true}, queue: NewQueue(), configured: notify.NewLatch()}
	r.layer2, r.bgp = &protocol{name: "layer2", did: &r.did, owns: true}, &protocol{name: "bgp", did: &r.did}
	r.Loop = NewLoop(LoopConfig{
		Queue:      r.queue,
		Source:     r.source,
		Protocols:  []Protocol{r.bgp, r.layer2},
		Warnings:   NewWarnings(NewServiceEvents(clustertest.New(t), &clustertest.Events{T: t})),
		Configured: r.configured,
		Loops:      &kube.Loops{},
		Logger:     slog.New(slog.DiscardHandler),
	})
	return r
}

func TestWhoReconciles(t *testing.T) {
	a := addrs(3)
	for _, test := range []struct {
		story string
		given func(*rig)
		want  []string
	}{
		{"both protocols do", func(r *rig) { r.queue.Requeue(a[0]) },
			[]string{"bgp 192.0.2.0", "layer2 192.0.2.0", "layer2 flush", "bgp flush"}},
		{"layer 2 waits until it is known who is alive", func(r *rig) {
			r.source.settled = false
			r.queue.Requeue(a[0])
		}, []string{"bgp 192.0.2.0", "layer2 flush", "bgp flush"}},
		{"layer 2 knows that BGP has to do with the address", func(r *rig) {
			r.bgp.outcome.Reason = v1beta1.ReasonAnnounced
			r.queue.Requeue(a[0])
		}, []string{"bgp 192.0.2.0", "layer2 192.0.2.0 elsewhere", "layer2 flush", "bgp flush"}},
		{"all are those of Services and those that are remembered, the urgent ones first", func(r *rig) {
			r.source.settled = false
			r.source.addrs, r.layer2.known, r.bgp.known = a[:1], a[1:2], a
			r.queue.RequeueAll()
		}, []string{"bgp 192.0.2.2", "bgp 192.0.2.1", "bgp 192.0.2.0", "layer2 flush", "bgp flush"}},
		{"nothing is to be done", func(*rig) {}, nil},
	} {
		t.Run(test.story, func(t *testing.T) {
			r := newRig(t)
			test.given(r)
			for r.Next(t.Context()) {
			}
			if !slices.Equal(r.did, test.want) {
				t.Errorf("it did %q, want %q", r.did, test.want)
			}
		})
	}
}

// TestWhatCannotBeReadIsReadAgain: addresses are reconciled when there is a configuration,
// again when what they depend on could not be read, and a sweep does not end before.
func TestWhatCannotBeReadIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		r := newRig(t)
		r.source.addrs, r.source.broken = addrs(2), true
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		wanted := r.queue.RequeueAll()
		synctest.Wait()
		if r.source.inputs > 0 {
			t.Fatal("addresses are reconciled without a configuration")
		}
		r.configured.Set()
		time.Sleep(retry / 2)
		synctest.Wait()
		if len(r.did) > 0 || r.queue.Swept() >= wanted {
			t.Fatalf("without knowing the nodes it did %q; sweep %d has ended", r.did, r.queue.Swept())
		}
		r.source.mu.Lock()
		r.source.broken = false
		r.source.mu.Unlock()
		time.Sleep(retry)
		synctest.Wait()
		// Whether both wake the loop before it takes the first does not matter.
		did := slices.DeleteFunc(slices.Sorted(slices.Values(r.did)), func(s string) bool {
			return strings.HasSuffix(s, "flush")
		})
		want := []string{"bgp 192.0.2.0", "bgp 192.0.2.1", "layer2 192.0.2.0", "layer2 192.0.2.1"}
		if !slices.Equal(did, want) {
			t.Errorf("it did %q, want %q", did, want)
		}
		if r.queue.Swept() != wanted {
			t.Errorf("sweep %d has ended, want %d", r.queue.Swept(), wanted)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestAnAddressIsRecheckedInTime, at the earlier of the times that protocols want.
func TestAnAddressIsRecheckedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		start := time.Now()
		r.layer2.outcome.Recheck, r.bgp.outcome.Recheck = start.Add(2*time.Second), start.Add(time.Second)
		if err := r.Reconcile(t.Context(), addrs(1)); err != nil {
			t.Fatal(err)
		}
		<-r.queue.news.C()
		if took := time.Since(start); took != time.Second {
			t.Errorf("it is reconciled again after %s", took)
		}
	})
}

// TestEndpointsOfUnheardNodesAreAssumed, by all protocols, and no longer than they may be.
func TestEndpointsOfUnheardNodesAreAssumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.source.service.NotReady = map[string]int{"node2": 1}
		start := time.Now()
		r.source.unheard = announcement.Unheard{"node2": start.Add(-time.Second)}
		if err := r.Reconcile(t.Context(), addrs(1)); err != nil {
			t.Fatal(err)
		}
		if want := []bool{true}; !slices.Equal(r.layer2.ready, want) || !slices.Equal(r.bgp.ready, want) {
			t.Errorf("the Service is ready to layer 2: %v, to BGP: %v", r.layer2.ready, r.bgp.ready)
		}
		<-r.queue.news.C()
		if took := time.Since(start); took != announcement.KubeletReturn-time.Second {
			t.Errorf("it is reconciled again after %s", took)
		}
	})
}

// TestManyAddressesAreReconciledInParts, each with inputs of its own moment.
func TestManyAddressesAreReconciledInParts(t *testing.T) {
	r := newRig(t)
	if err := r.Reconcile(t.Context(), addrs(2*PartSize+1)); err != nil || r.source.inputs != 3 {
		t.Errorf("inputs were gathered %d times (%v)", r.source.inputs, err)
	}
}

// TestResume: a speaker that is about to say that it is ready decides about everything,
// whoever asks otherwise until it has said so.
func TestResume(t *testing.T) {
	r := newRig(t)
	a := addrs(2)
	r.source.settled, r.source.addrs, r.layer2.known = false, a[:1], a[1:]
	if err := r.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"bgp 192.0.2.0", "layer2 192.0.2.0", "bgp 192.0.2.1", "layer2 192.0.2.1", "layer2 flush", "bgp flush",
	}
	if !slices.Equal(r.did, want) {
		t.Errorf("it did %q, want %q", r.did, want)
	}
	r.did = nil
	if err := r.Reconcile(t.Context(), a[:1]); err != nil {
		t.Fatal(err)
	}
	if want := []string{"bgp 192.0.2.0", "layer2 flush", "bgp flush"}; !slices.Equal(r.did, want) {
		t.Errorf("before it has settled it did %q, want %q", r.did, want)
	}
}
