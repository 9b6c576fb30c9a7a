package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestBroken(t *testing.T) {
	lost := []result{{Run: 2, Dropped: 70}}
	back := []result{{Run: 1, BackDropped: 80}}
	for _, test := range []struct {
		story   string
		sc      scenario
		results []result
		want    string
	}{
		{"a loss that has a cause", scenario{}, lost, ""},
		{"a loss without one", scenario{lossless: true}, lost, "run 2: an address was lost for 70 ms in the fault"},
		{"within what the client takes to notice", scenario{lossless: true, but: 70 * time.Millisecond}, lost, ""},
		{"a loss while it returns", scenario{lossless: true}, back, "run 1: an address was lost for 80 ms when it was mended"},
		{"nothing lost, only late", scenario{lossless: true}, []result{{Loss4: []int64{500}, Dropped: 50}}, ""},
	} {
		t.Run(test.story, func(t *testing.T) {
			err := broken(test.sc, test.results, 50)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestScenariosAreComplete(t *testing.T) {
	names := map[string]bool{}
	for _, sc := range cases() {
		if names[sc.name] {
			t.Errorf("two are called %s", sc.name)
		}
		names[sc.name] = true
		if sc.title == "" || sc.fault == nil || sc.restore == nil || sc.window == 0 || len(sc.sets) == 0 {
			t.Errorf("%s lacks something", sc.name)
		}
	}
	bfd := 0
	for _, sc := range scenarios([]bool{false, true}) {
		if sc.terms.bfd {
			bfd++
		}
	}
	if both := len(scenarios([]bool{false, true})); bfd == 0 || both != len(cases())+bfd {
		t.Errorf("%d scenarios, %d of them with BFD, of %d", both, bfd, len(cases()))
	}
}

func TestRouteWatch(t *testing.T) {
	w := &routeWatch{nodes: 2, seen: map[netip.Addr]arrival{}}
	for _, line := range []string{
		"[2026-01-02T15:04:05.100000] Deleted 198.51.100.2 via 10.77.0.11 dev eth0 proto bgp",
		"[2026-01-02T15:04:05.100000] 198.51.100.1 nhid 8 via 10.77.0.11 dev eth0 proto bgp metric 20 ",
		`[2026-01-02T15:04:05.250000] 198.51.100.1 nhid 9 proto bgp metric 20 \	nexthop via 10.77.0.11 dev eth0 weight 1 \	nexthop via 10.77.0.12 dev eth0 weight 1 `,
		"[2026-01-02T15:04:05.300000] 198.51.100.1 nhid 8 via 10.77.0.11 dev eth0 proto bgp metric 20 ",
		"nothing of this kind",
	} {
		w.note(line)
	}
	if len(w.seen) != 1 {
		t.Errorf("seen %v", w.seen)
	}
	a := w.seen[netip.MustParseAddr("198.51.100.1")]
	if got := a.full.Sub(a.first); got != 150*time.Millisecond {
		t.Errorf("all next hops %s after the first, want 150ms", got)
	}
}
