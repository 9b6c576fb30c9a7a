package allocator

import (
	"fmt"
	"net/netip"
	"testing"
)

// share gives each holder an address by the way of one who asks to share: it joins
// where it may, else it gets one of its own.
func share(b *testing.B, a *Allocator, names []Holder, terms func(i int) Terms) {
	for i, name := range names {
		addr, ok := a.Shareable("p", false, name, terms(i), false)
		if !ok {
			addr, ok = a.Lowest("p", false, now)
		}
		if !ok {
			b.Fatal("full too early")
		}
		if err := a.Assign(name, []netip.Addr{addr}, terms(i), now); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkShare has n holders ask for the same sharing key: with a port of its own
// each they all share one address, with one port for all each has an address of its
// own in the end, and with ports of which each is asked for by ten they share ten.
func BenchmarkShare(b *testing.B) {
	for _, n := range []int{1000, 4000, 16_000} {
		names := holders(n)
		for _, test := range []struct {
			story string
			port  func(i int) uint16
		}{
			{"one address", func(i int) uint16 { return uint16(i + 1) }},
			{"one port", func(int) uint16 { return 80 }},
			{"ten addresses", func(i int) uint16 { return uint16(i/10 + 1) }},
		} {
			b.Run(fmt.Sprintf("%s/holders=%d", test.story, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					a := withPools(Pool{Name: "p", Ranges: ranges("10.0.0.0/16")})
					share(b, a, names, func(i int) Terms {
						return Terms{SharingKey: "k", Ports: []Port{{"TCP", test.port(i)}}}
					})
					for _, name := range names {
						a.Release(name, now)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/holder")
			})
		}
	}
}
