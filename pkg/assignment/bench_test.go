package assignment

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/berth-lb/berth/api/v1beta1"
)

// crowded is a world of 50 pools of which Services hold n addresses.
func crowded(b *testing.B, n int) *world {
	var pools []v1beta1.IPAddressPool
	for i := range 50 {
		subnet := v1beta1.AddressRange(fmt.Sprintf("10.%d.0.0/16", i))
		pools = append(pools, pool(fmt.Sprintf("p%02d", i), addresses(subnet)))
	}
	w := newWorld(pools...)
	addr := ip("10.0.0.0")
	for i := range n {
		err := w.record.Assign(service(fmt.Sprint("held-", i)).Holder, []netip.Addr{addr},
			service("x").Terms, w.now)
		if err != nil {
			b.Fatal(err)
		}
		addr = addr.Next()
	}
	return w
}

// BenchmarkDecideKeeps decides about a Service that keeps its address.
func BenchmarkDecideKeeps(b *testing.B) {
	w := crowded(b, 10_000)
	s := service("held-7777")
	held, _ := w.record.Held(s.Holder)
	in := Input{Service: s, Held: held.Addresses, Config: &w.config, Addresses: w.record, Now: w.now}
	b.ReportAllocs()
	for b.Loop() {
		if d := Decide(in); !d.Assigned() || d.Addresses[0] != held.Addresses[0] {
			b.Fatal(d)
		}
	}
}

// BenchmarkDecidePicks decides about a new Service.
func BenchmarkDecidePicks(b *testing.B) {
	for _, n := range []int{0, 10_000, 50_000} {
		b.Run(fmt.Sprint("held=", n), func(b *testing.B) {
			w := crowded(b, n)
			in := Input{Service: service("new"), Config: &w.config, Addresses: w.record, Now: w.now}
			b.ReportAllocs()
			for b.Loop() {
				if d := Decide(in); !d.Assigned() {
					b.Fatal(d)
				}
			}
		})
	}
}

// BenchmarkDecideRefuses decides about a Service for which none of 50 pools
// has an address.
func BenchmarkDecideRefuses(b *testing.B) {
	w := crowded(b, 10_000)
	in := Input{
		Service:   with(service("new"), func(s *Service) { s.Families = []Family{IPv6} }),
		Config:    &w.config,
		Addresses: w.record,
		Now:       w.now,
	}
	b.ReportAllocs()
	for b.Loop() {
		if d := Decide(in); d.Assigned() {
			b.Fatal(d)
		}
	}
}
