package allocator

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
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
		addr, ok := a.Lowest("p", is6, now)
		if !ok {
			b.Fatal("full too early")
		}
		if err := a.Assign(name, []netip.Addr{addr}, Terms{}, now); err != nil {
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
		a.Release(names[i], now)
	}
	b.ReportAllocs()
	for b.Loop() {
		fill(b, a, false, []Holder{"default/one-more"})
		a.Release("default/one-more", now)
	}
}

// BenchmarkAdopt50000 is a restart: 50,000 holders come with the address that
// they have.
func BenchmarkAdopt50000(b *testing.B) {
	names := holders(50_000)
	have := make([][]netip.Addr, len(names))
	addr := ip("10.0.0.1")
	for i := range have {
		have[i], addr = []netip.Addr{addr}, addr.Next()
	}
	b.ReportAllocs()
	for b.Loop() {
		a := withPools(Pool{Name: "p", Ranges: ranges("10.0.0.1-10.0.255.254")})
		for i, name := range names {
			if err := a.Assign(name, have[i], Terms{}, now); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N*len(names))/b.Elapsed().Seconds(), "adoptions/s")
}

// BenchmarkRelease10000 gives back 10,000 addresses of a /16 in use.
func BenchmarkRelease10000(b *testing.B) {
	names := holders(20_000)
	a := withPools(Pool{Name: "p", Ranges: ranges("10.0.0.1-10.0.255.254")})
	fill(b, a, false, names)
	b.ReportAllocs()
	for b.Loop() {
		for i := 0; i < len(names); i += 2 {
			a.Release(names[i], now)
		}
		b.StopTimer()
		for i := 0; i < len(names); i += 2 {
			fill(b, a, false, names[i:i+1])
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(b.N*len(names)/2)/b.Elapsed().Seconds(), "releases/s")
}

// BenchmarkReleaseAndRest10000 is the same of a pool with a reuseDelay, and
// has all of them wake together.
func BenchmarkReleaseAndRest10000(b *testing.B) {
	names, at := holders(10_000), now
	a := withPools(Pool{Name: "p", Ranges: ranges("10.0.0.1-10.0.255.254"), ReuseDelay: time.Hour})
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		fill(b, a, false, names)
		b.StartTimer()
		for _, name := range names {
			a.Release(name, at)
		}
		at = at.Add(2 * time.Hour)
		a.Lowest("p", false, at)
	}
}

// BenchmarkAssignWhile10000Rest gives one address and takes it back while
// 10,000 rest.
func BenchmarkAssignWhile10000Rest(b *testing.B) {
	names := holders(10_000)
	a := withPools(Pool{Name: "p", Ranges: ranges("10.0.0.1-10.0.255.254"), ReuseDelay: time.Hour})
	fill(b, a, false, names)
	for _, name := range names {
		a.Release(name, now)
	}
	b.ReportAllocs()
	for b.Loop() {
		addr, ok := a.Former("p", false, "default/one-more", now)
		if !ok {
			addr, _ = a.Lowest("p", false, now)
		}
		if err := a.Assign("default/one-more", []netip.Addr{addr}, Terms{}, now); err != nil {
			b.Fatal(err)
		}
		a.Release("default/one-more", now)
	}
}

// Benchmark64With100000Held gives one more address of a /64 and takes it back
// while 100,000 are held.
func Benchmark64With100000Held(b *testing.B) {
	a := withPools(Pool{Name: "p", Ranges: ranges("2001:db8::/64")})
	fill(b, a, true, holders(100_000))
	b.ReportAllocs()
	for b.Loop() {
		fill(b, a, true, []Holder{"default/one-more"})
		a.Release("default/one-more", now)
	}
}

// BenchmarkOneMore shows that the cost of one assignment and release does not
// grow with how many addresses are held.
func BenchmarkOneMore(b *testing.B) {
	for _, n := range []int{0, 100, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint("held=", n), func(b *testing.B) {
			a := withPools(Pool{Name: "p", Ranges: ranges("10.0.0.0/8")})
			fill(b, a, false, holders(n))
			b.ReportAllocs()
			for b.Loop() {
				fill(b, a, false, []Holder{"default/one-more"})
				a.Release("default/one-more", now)
			}
		})
	}
}

// BenchmarkSetPools replaces 50 pools of which 10,000 addresses are held.
func BenchmarkSetPools(b *testing.B) {
	pools := []Pool{{Name: "p", Ranges: ranges("10.0.0.0/16")}}
	for i := range 49 {
		pools = append(pools, Pool{
			Name:   fmt.Sprint("q", i),
			Ranges: ranges(fmt.Sprintf("10.%d.0.0/16", i+1)),
		})
	}
	a := withPools(pools...)
	fill(b, a, false, holders(10_000))
	b.ReportAllocs()
	for b.Loop() {
		a.SetPools(pools)
	}
}
