package main

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/membership"
)

// for how long has things happen.
func (w *town) goOn(how time.Duration) {
	for until := time.Now().Add(how); time.Now().Before(until); {
		w.happen()
		if got := w.has(); w.owners != nil && !maps.Equal(got, w.owners) {
			w.happened("owned are %v", got)
			w.t.Fatalf("owned are %v, were %v:\n%s", got, w.owners, strings.Join(w.story, "\n"))
		}
	}
}

// TestNoOutageOfOthersMovesAnything: the API server goes away, the port of speakers is
// blocked, in whatever order, for however long, and both come back. No address moves,
// no address goes, and none has two owners, not for a moment.
func TestNoOutageOfOthersMovesAnything(t *testing.T) {
	runs := 5
	if testing.Short() {
		runs = 1
	}
	for seed := range uint64(runs) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTown(t, seed, 2+int(seed%3), 6)
				w.calm()
				w.owners = w.has()
				w.rejected = seed%4 == 1
				switches := []func(){
					func() { w.apiAway = !w.apiAway; w.happened("the API server is away: %t", w.apiAway) },
					func() { w.blocked = !w.blocked; w.happened("the port is blocked: %t", w.blocked) },
				}
				first := w.random.IntN(2)
				for _, at := range []int{first, 1 - first, w.random.IntN(2)} {
					switches[at]()
					w.goOn(time.Duration(w.random.IntN(15_000)) * time.Millisecond)
				}
				for w.apiAway || w.blocked {
					switches[w.random.IntN(2)]()
					w.goOn(time.Duration(w.random.IntN(15_000)) * time.Millisecond)
				}
				w.goOn(30 * time.Second)
			})
		})
	}
}

// TestNodeDiesWhileNobodyIsHeard: without the API server and the port of speakers, the
// kernel of a node is still a witness. Its addresses go to the others, each to one.
func TestNodeDiesWhileNobodyIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 7, 4, 8)
		w.calm()
		w.owners = w.has()
		w.blocked = true
		w.goOn(30 * time.Second)
		w.apiAway = true
		w.goOn(time.Minute)
		before := w.owners
		w.owners = nil
		dead := w.shells["node2"]
		dead.dead = true
		dead.end(true)
		w.goOn(10 * time.Second)
		after := w.has()
		for addr, owner := range before {
			if now := after[addr]; owner == "node2" && (now == "" || len(now) != len("node1")) ||
				owner != "node2" && now != owner {
				t.Errorf("%s was owned by %s and is by %q", addr, owner, now)
			}
		}
		for addr := range after {
			before[addr] = after[addr]
		}
		w.owners = before
		w.goOn(time.Minute)
	})
}

// TestAnnouncingWaitsForNoWrite: the API server can be read and takes no writes. A
// speaker that starts has its addresses again all the same, as soon as it has tried for
// long enough; one that the others could not find waits.
func TestAnnouncingWaitsForNoWrite(t *testing.T) {
	for _, test := range []struct {
		story string
		// object is what is in the Speaker object of node1, nil for no object.
		object func(*v1beta1.SpeakerStatus)
		nodes  int
		met    bool
		ready  bool
	}{
		{"its object tells where it is, from before", func(*v1beta1.SpeakerStatus) {}, 2, false, true},
		{"its object tells another address",
			func(s *v1beta1.SpeakerStatus) { s.MemberAddress = "192.0.2.77:7947" }, 2, false, false},
		{"the same, and it has met another",
			func(s *v1beta1.SpeakerStatus) { s.MemberAddress = "192.0.2.77:7947" }, 2, true, true},
		{"it has no object", nil, 2, false, false},
		{"it has no object, and there is no other node", nil, 1, false, true},
	} {
		t.Run(test.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTown(t, 1, test.nodes, 2)
				s := w.shells["node1"]
				if test.object == nil {
					if err := w.api.Delete(t.Context(), written("node1")); err != nil {
						t.Fatal(err)
					}
				} else {
					w.change("node1", test.object)
				}
				w.readOnly = true
				s.begin()
				s.seesLinks, s.listens = true, true
				if test.met {
					s.people["node2"] = membership.Member{
						Name:  "node2",
						State: membership.Alive,
						Since: time.Now(),
					}
				}
				begin := time.Now()
				for !s.introduced(still()) && time.Since(begin) < time.Minute {
					if missing := s.speaker.ready.Missing(); !strings.Contains(missing, "cannot be written") {
						t.Fatalf("it waits for: %s", missing)
					}
					time.Sleep(settleInterval)
				}
				took := time.Since(begin)
				if ready := took < time.Minute; ready != test.ready {
					t.Errorf("it goes on is %t, after %s", ready, took)
				}
				limit := s.settings.Member.SettleTimeout
				if test.ready && (took < limit || took > limit+2*time.Second) {
					t.Errorf("it went on after %s", took)
				}
				if failedWrites(t, s.object) == 0 {
					t.Error("no failure is counted")
				}
			})
		})
	}
}

// failedWrites is what the metric of a Speaker object counts.
func failedWrites(t *testing.T, object prometheus.Collector) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(object)
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("%v: %v", families, err)
	}
	return families[0].GetMetric()[0].GetCounter().GetValue()
}

// change writes into the Speaker object of a node.
func (w *town) change(name string, how func(*v1beta1.SpeakerStatus)) {
	w.t.Helper()
	object := written(name)
	if err := w.api.Get(w.t.Context(), clientKey(name), object); err != nil {
		w.t.Fatal(err)
	}
	how(&object.Status)
	if err := w.api.Status().Update(w.t.Context(), object); err != nil {
		w.t.Fatal(err)
	}
}
