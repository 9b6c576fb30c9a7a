package allocator

import (
	"fmt"
	"net/netip"
	"testing"
)

func holders(n int) []Holder {
	out := make([]Holder, n)
	for i := range out {
		out[i] = Holder(fmt.Sprintf("default/service-%d", i))
	}
	return out
}

// fill gives an address to each holder.
func fill(b *testing.B, a *Allocator, is6 bool, names []Holder) {
	for _, name := range names {
		addr, ok := a.Lowest("p", is6)
		if !ok {
			b.Fatal("full too early")
		}
		if err := a.Assign(name, []netip.Addr{addr}, Terms{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFill16 fills a whole /16 from empty in each iteration.
func BenchmarkFill16(b *testing.B) {
	names := holders(65534)
	b.ReportAllocs()
	for b.Loop() {
		a := withPools(Pool{Name: "p", Ranges: ranges("10.0.0.1-10.0.255.254")})
		fill(b, a, false, names)
	}
	b.ReportMetric(float64(b.N*len(names))/b.Elapsed().Seconds(), "assignments/s")
}

// BenchmarkAssign99PercentFull gives one address and takes it back while 99 %
// of a /16 are held, with gaps all over it.
func BenchmarkAssign99PercentFull(b *testing.B) {
	names := holders(65534)
	a := withPools(Pool{Name: "p", Ranges: ranges("10.0.0.1-10.0.255.254")})
	fill(b, a, false, names)
	for i := 0; i < len(names); i += 100 {
		a.Release(names[i])
	}
	b.ReportAllocs()
	for b.Loop() {
		fill(b, a, false, []Holder{"default/one-more"})
		a.Release("default/one-more")
	}
}
