package main

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/e2e/bench"
	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
	"github.com/berth-lb/berth/e2e/watch"
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
		{"a loss without one",
			scenario{lossless: true}, lost, "run 2: an address was lost for 70 ms in the fault"},
		{"within what the client takes to notice",
			scenario{lossless: true, but: 70 * time.Millisecond}, lost, ""},
		{"a loss while it returns",
			scenario{lossless: true}, back, "run 1: an address was lost for 80 ms when it was mended"},
		{"routes that stay where they may", scenario{}, []result{{Run: 3, Still: 2}}, ""},
		{"routes that stay and must go",
			scenario{gone: true}, []result{{Run: 3, Node: "node1", Still: 2, RouteGone4: new(int64(250))}},
			"run 3: the router's kernel went on sending to node1, to 2 addresses until the end"},
		{"routes that went",
			scenario{gone: true}, []result{{RouteGone4: new(int64(250)), RouteGone6: new(int64(260))}}, ""},
		{"routes that went and must stay",
			scenario{kept: true}, []result{{Run: 1, NotKept: []string{"node3 was taken"}}},
			"run 1: the router's kernel did not keep all routes: node3 was taken"},
		{"a session that may go down",
			scenario{}, []result{{Run: 1, Down: []string{"BFD with fd77::11: went down 1 times"}}}, ""},
		{"a session that went down", scenario{steady: true},
			[]result{{Run: 1, Down: []string{"BFD with fd77::11: went down 1 times"}}},
			"run 1: BFD with fd77::11: went down 1 times"},
		{"nothing lost, only late",
			scenario{lossless: true}, []result{{Loss4: []int64{500}, Dropped: 50}}, ""},
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
	for _, sc := range cases(1) {
		if names[sc.name] {
			t.Errorf("two are called %s", sc.name)
		}
		names[sc.name] = true
		if sc.title == "" || sc.fault == nil || sc.restore == nil || sc.window == 0 || len(sc.sets) == 0 {
			t.Errorf("%s lacks something", sc.name)
		}
		if sc.steady && !sc.terms.bfd && !sc.withBFD {
			t.Errorf("%s says that BFD must not go down, and never has it", sc.name)
		}
	}
}

func TestScenariosWithBFD(t *testing.T) {
	type variant struct{ bfd, lossless, gone bool }
	without, with := variant{lossless: true}, variant{bfd: true, lossless: true}
	dead, deadWith := variant{gone: true}, variant{bfd: true, gone: true}
	for _, test := range []struct {
		name          string
		no, yes, both []variant
	}{
		{"nothing", []variant{without}, []variant{without}, []variant{without}},
		{"drain", []variant{without}, []variant{with}, []variant{without, with}},
		{"upgrade", []variant{without}, []variant{with}, []variant{without, with}},
		{"kill", []variant{without}, []variant{with}, []variant{without, with}},
		{"crash-restart", []variant{deadWith}, []variant{deadWith}, []variant{deadWith}},
		{"crash-hold-3", []variant{dead}, []variant{deadWith}, []variant{dead, deadWith}},
		{"crash-default", []variant{dead}, []variant{deadWith}, []variant{dead, deadWith}},
		{"cable", []variant{dead}, []variant{deadWith}, []variant{dead, deadWith}},
		{"saturated", []variant{{bfd: true}}, []variant{{bfd: true}}, []variant{{bfd: true}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, asked := range []struct {
				bfd  []bool
				want []variant
			}{{[]bool{false}, test.no}, {[]bool{true}, test.yes}, {[]bool{false, true}, test.both}} {
				var got []variant
				for _, sc := range scenarios(settings{Settings: bench.Settings{Minutes: 1}, bfd: asked.bfd}) {
					if sc.name == test.name {
						got = append(got, variant{sc.terms.bfd, sc.lossless, sc.gone})
					}
				}
				if !slices.Equal(got, asked.want) {
					t.Errorf("BFD %v: %+v, want %+v", asked.bfd, got, asked.want)
				}
			}
		})
	}
}

func TestJudgeRoutes(t *testing.T) {
	addresses := []netip.Addr{
		netip.MustParseAddr("198.51.100.1"),
		netip.MustParseAddr("198.51.100.2"),
		netip.MustParseAddr("2001:db8:100::1"),
	}
	dead, other := netip.MustParseAddr("10.77.0.11"), netip.MustParseAddr("10.77.0.12")
	r := result{At: time.Now()}
	event := func(after time.Duration, i int, hops ...netip.Addr) watch.RouteEvent {
		return watch.RouteEvent{
			At:     r.At.Add(after),
			Prefix: netip.PrefixFrom(addresses[i], addresses[i].BitLen()),
			Hops:   hops,
		}
	}
	still := r.judgeRoutes([]watch.RouteEvent{
		event(250*time.Millisecond, 0, other),
		event(260*time.Millisecond, 2, other, dead),
		event(300*time.Millisecond, 1, other),
	}, addresses, func(hop netip.Addr) bool { return hop == dead })
	if r.RouteGone4 == nil || *r.RouteGone4 != 300 {
		t.Errorf("IPv4: %v, want 300 ms", r.RouteGone4)
	}
	if r.RouteGone6 != nil || r.Still != 1 || !slices.Equal(still, addresses[2:]) {
		t.Errorf("IPv6: gone %v, %d still at %v", r.RouteGone6, r.Still, still)
	}
}

func TestJudgeKept(t *testing.T) {
	addresses := []netip.Addr{
		netip.MustParseAddr("198.51.100.1"),
		netip.MustParseAddr("198.51.100.2"),
		netip.MustParseAddr("2001:db8:100::1"),
	}
	node, other := netip.MustParseAddr("10.77.0.11"), netip.MustParseAddr("10.77.0.12")
	r := result{At: time.Now()}
	event := func(after time.Duration, i int, hops ...netip.Addr) watch.RouteEvent {
		return watch.RouteEvent{
			At:     r.At.Add(after),
			Prefix: netip.PrefixFrom(addresses[i], addresses[i].BitLen()),
			Hops:   hops,
		}
	}
	events := []watch.RouteEvent{
		event(300*time.Millisecond, 0, other),
		event(200*time.Millisecond, 1, other),
		event(900*time.Millisecond, 0, other, node),
		event(950*time.Millisecond, 1, other, node),
	}
	r.judgeKept(events, addresses, "node1", func(hop netip.Addr) bool { return hop == node })
	r.judgeKept(events, addresses, "node2", func(hop netip.Addr) bool { return hop == other })
	want := []string{"node1 was taken from the routes to 2 IPv4 addresses, " +
		"first that to 198.51.100.2 after 200 ms"}
	if !slices.Equal(r.NotKept, want) {
		t.Errorf("%q, want %q", r.NotKept, want)
	}
}

func TestComplete(t *testing.T) {
	router := peering.Router{Host: lab.HostRouter, Nodes: []string{"node1"}, BFD: true}
	downs := peering.Downs{
		"BGP with 10.77.0.11": {Up: true},
		"BGP with fd77::11":   {Up: true},
		"BFD with 10.77.0.11": {Up: true},
	}
	if err := complete(downs, router); err == nil {
		t.Error("a session is missing, and nobody says so")
	}
	downs["BFD with fd77::11"] = peering.Down{Count: 1}
	err := complete(downs, router)
	if err == nil || !strings.Contains(err.Error(), "BFD with fd77::11: not up") {
		t.Errorf("a session is not up: %v", err)
	}
	downs["BFD with fd77::11"] = peering.Down{Up: true, Count: 1}
	if err := complete(downs, router); err != nil {
		t.Errorf("all is well: %v", err)
	}
}

func TestRows(t *testing.T) {
	sc := scenario{title: "crash"}
	watched := sc
	watched.terms.bfd = true
	got := rows([]measured{
		{sc, []result{
			{
				Loss4:      []int64{0, 2500},
				Last4:      2900,
				Lost4:      40,
				Late4:      1,
				Sent4:      900,
				BackLost4:  2,
				RouteGone4: new(int64(2600)),
				Loss6:      []int64{7},
			},
			{
				Loss4:      []int64{2600, 2700},
				Last4:      2950,
				Lost4:      50,
				Late4:      2,
				Sent4:      900,
				RouteGone4: new(int64(2800)),
				Loss6:      []int64{8},
			},
		}},
		{watched, nil},
	})
	want := []string{
		"| crash | IPv4 | no | 2 | 4 | 90 | 3 | 1800 | 0 | 2500 | 2700 | 2700 | 2900 | 2950 | 2 | 2600 " +
			"| 2600 | 2800 |\n",
		"| crash | IPv4 | yes | 0 | | | | | | | | | | | | | | |\n",
		"| crash | IPv6 | no | 2 | 2 | 0 | 0 | 0 | 7 | 7 | 8 | 8 | 0 | 0 | 0 | – | – | – |\n",
		"| crash | IPv6 | yes | 0 | | | | | | | | | | | | | | |\n",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%swant\n%s", strings.Join(got, ""), strings.Join(want, ""))
	}
}

func TestInSlices(t *testing.T) {
	slice := func(endpoints ...discoveryv1.Endpoint) discoveryv1.EndpointSlice {
		return discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Name: "moving0000-x"},
			Endpoints:  endpoints,
		}
	}
	on := func(node string, ready bool) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{
			NodeName:   &node,
			Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		}
	}
	for _, test := range []struct {
		story string
		all   []discoveryv1.EndpointSlice
		want  string
	}{
		{"nothing is published", nil, "there is no EndpointSlice"},
		{"all is published", []discoveryv1.EndpointSlice{
			slice(on("node3", true), on("node1", true), on("node2", false)),
		}, ""},
		{"the second slice lacks a new pod", []discoveryv1.EndpointSlice{
			slice(on("node1", true), on("node3", true)),
			slice(on("node1", true), on("node3", false)),
		}, "EndpointSlice moving0000-x has ready endpoints on [node1], not on [node1 node3]"},
	} {
		t.Run(test.story, func(t *testing.T) {
			got := ""
			if err := inSlices(test.all, []string{"node3", "node1"}); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("inSlices() = %q, want %q", got, test.want)
			}
		})
	}
}
