package gobgp

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/pkg/bgp"
)

// resident is the memory of this process, in MB.
func resident(t *testing.T) float64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var kilobytes float64
	if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
		t.Fatal(err)
	}
	return kilobytes / 1024
}

// TestManyPrefixes prints how long it takes until a router has 10,000
// prefixes, from a cold start and added to a session, and how much memory the
// speaker then has. Built with -race, both are several times more.
func TestManyPrefixes(t *testing.T) {
	const n = 10000
	each(t, func(t *testing.T, r router) {
		r.start(t, network(t), wanted{asn: 64513, peerASN: 64512, peer: node4})
		var routes []bgp.Route
		for i := range n {
			addr := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
			routes = append(routes, bgp.Route{Prefix: netip.PrefixFrom(addr, 32)})
		}
		p := tor(nil)
		before := resident(t)
		start := time.Now()
		s, _ := speak(t, Config{}, to(p, routes...))
		until := func(count int) time.Duration {
			eventually(t, fmt.Sprint("the router has ", count, " routes"),
				func() bool { return r.count(t, false) == count })
			d := time.Since(start)
			start = time.Now()
			return d
		}
		cold := until(n)
		full := resident(t)
		s.Set(to(p), true)
		withdrawn := until(0)
		s.Set(to(p, routes...), true)
		added := until(n)
		t.Logf("%d prefixes: %.2fs from a cold start, withdrawn in %.2fs, added to a session in %.2fs; "+
			"resident %.0f MB before, %.0f MB with them",
			n, cold.Seconds(), withdrawn.Seconds(), added.Seconds(), before, full)
	})
}

// TestAFloodCostsNoMemory: what a router announces is thrown away.
func TestAFloodCostsNoMemory(t *testing.T) {
	const n = 50000
	all := routers(t)
	if all["BIRD"] == nil {
		t.Skip("needs Debian package bird2")
	}
	h := network(t)
	quiet, loud := all["BIRD"](), all["BIRD"]()
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	quiet.start(t, h, wanted{asn: 64513, peerASN: 64512, peer: node4})
	s, stop := speak(t, Config{}, to(tor(nil), route("192.0.2.1/32", nil)))
	up(t, s, "tor")
	before := heap()
	stop()
	quiet.(*bird).ask(t, "down")
	loud.start(t, h, wanted{asn: 64513, peerASN: 64512, peer: node4, flood: n})
	s, _ = speak(t, Config{}, to(tor(nil), route("192.0.2.1/32", nil)))
	up(t, s, "tor")
	eventually(t, "the router has announced all its routes", func() bool {
		return strings.Contains(loud.heard(t), fmt.Sprintf("%d exported", n))
	})
	eventually(t, "its messages have arrived", func() bool {
		s.Set(to(tor(nil), route("192.0.2.1/32", nil)), true)
		return sessionOf(s, "tor").Ignored > 10
	})
	eventually(t, "our route is there",
		func() bool { _, there := loud.route(t, "192.0.2.1/32"); return there })
	after := heap()
	t.Logf("%d routes of the router: heap %d KB before, %d KB after", n, before>>10, after>>10)
	if after > before+4<<20 {
		t.Errorf("the heap has grown from %d to %d bytes", before, after)
	}
}
