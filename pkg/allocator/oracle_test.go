package allocator

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// oracle is the slow, obvious allocator: every question is answered by
// looking at every address.
type oracle struct {
	pools    []Pool
	holdings map[Holder]Holding
}

func (o *oracle) addresses(pool string, is6 bool) []netip.Addr {
	var out []netip.Addr
	for _, p := range o.pools {
		if p.Name != pool {
			continue
		}
		for _, r := range p.Ranges {
			for a := r.From(); r.Contains(a); a = a.Next() {
				if a.Is6() == is6 {
					out = append(out, a)
				}
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

func (o *oracle) avoids(pool string) bool {
	return slices.ContainsFunc(o.pools, func(p Pool) bool { return p.Name == pool && p.AvoidBuggy })
}

func (o *oracle) holders(addr netip.Addr) []Holder {
	var out []Holder
	for h, holding := range o.holdings {
		if slices.Contains(holding.Addresses, addr) {
			out = append(out, h)
		}
	}
	slices.Sort(out)
	return out
}

func (o *oracle) mayHave(addr netip.Addr, holder Holder, terms Terms) bool {
	for _, other := range o.holders(addr) {
		if other == holder {
			continue
		}
		theirs := o.holdings[other].Terms
		if terms.SharingKey == "" || terms.SharingKey != theirs.SharingKey || terms.Backends != theirs.Backends {
			return false
		}
		for _, p := range terms.Ports {
			if slices.Contains(theirs.Ports, p) {
				return false
			}
		}
	}
	return true
}

func (o *oracle) lowest(pool string, is6 bool) (netip.Addr, bool) {
	for _, a := range o.addresses(pool, is6) {
		if len(o.holders(a)) == 0 && !(o.avoids(pool) && buggy(a)) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func (o *oracle) counts(pool string) Counts {
	var c Counts
	for _, is6 := range []bool{false, true} {
		for _, a := range o.addresses(pool, is6) {
			held := len(o.holders(a)) > 0
			switch {
			case held && is6:
				c.Assigned6++
			case held:
				c.Assigned4++
			case is6:
				c.Available6++
			case !(o.avoids(pool) && buggy(a)):
				c.Available4++
			}
		}
	}
	return c
}

// plans are sets of pools that random runs change between.
var plans = [][]Pool{
	{{Name: "a", Ranges: ranges("192.0.2.250-192.0.3.4")}, {Name: "b", Ranges: ranges("2001:db8::/125", "198.51.100.0/30")}},
	{{Name: "a", Ranges: ranges("192.0.2.252-192.0.3.2"), AvoidBuggy: true}, {Name: "b", Ranges: ranges("198.51.100.2/31")}},
	{{Name: "b", Ranges: ranges("192.0.2.250-192.0.2.255", "192.0.3.1-192.0.3.3", "2001:db8::2/127")}},
	{},
}

func TestAgainstTheOracle(t *testing.T) {
	var everything []netip.Addr
	for _, plan := range plans {
		o := oracle{pools: plan}
		for _, p := range plan {
			everything = append(append(everything, o.addresses(p.Name, false)...), o.addresses(p.Name, true)...)
		}
	}
	slices.SortFunc(everything, netip.Addr.Compare)
	everything = slices.Compact(everything)

	rapid.Check(t, func(t *rapid.T) {
		a := New()
		o := &oracle{holdings: map[Holder]Holding{}}
		holder := rapid.Custom(func(t *rapid.T) Holder { return Holder(fmt.Sprint("s", rapid.IntRange(0, 7).Draw(t, "n"))) })
		terms := rapid.Custom(func(t *rapid.T) Terms {
			return Terms{
				SharingKey: rapid.SampledFrom([]string{"", "k", "l"}).Draw(t, "key"),
				Backends:   rapid.SampledFrom([]string{"", "", "pods"}).Draw(t, "backends"),
				Ports:      []Port{{"TCP", uint16(rapid.IntRange(1, 3).Draw(t, "port"))}},
			}
		})
		t.Repeat(map[string]func(*rapid.T){
			"pools": func(t *rapid.T) {
				o.pools = rapid.SampledFrom(plans).Draw(t, "plan")
				a.SetPools(o.pools)
			},
			"assign": func(t *rapid.T) {
				h, want := holder.Draw(t, "holder"), terms.Draw(t, "terms")
				addrs := rapid.SliceOfNDistinct(rapid.SampledFrom(everything), 0, 2, rapid.ID).Draw(t, "addresses")
				err := a.Assign(h, addrs, want)
				legal := !slices.ContainsFunc(addrs, func(x netip.Addr) bool { return !o.mayHave(x, h, want) })
				if legal != (err == nil) {
					t.Fatalf("assign %v to %s: %v, but legal is %v", addrs, h, err, legal)
				}
				if legal {
					delete(o.holdings, h)
					if len(addrs) > 0 {
						o.holdings[h] = Holding{addrs, want}
					}
				}
			},
			"assign lowest": func(t *rapid.T) {
				h, is6 := holder.Draw(t, "holder"), rapid.Bool().Draw(t, "is6")
				if addr, ok := a.Lowest("a", is6); ok {
					if err := a.Assign(h, []netip.Addr{addr}, Terms{}); err != nil {
						t.Fatalf("lowest %s cannot be assigned: %v", addr, err)
					}
					o.holdings[h] = Holding{Addresses: []netip.Addr{addr}}
				}
			},
			"release": func(t *rapid.T) {
				h := holder.Draw(t, "holder")
				a.Release(h)
				delete(o.holdings, h)
			},
			"": func(t *rapid.T) { compare(t, a, o, everything) },
		})
	})
}

func compare(t *rapid.T, a *Allocator, o *oracle, everything []netip.Addr) {
	for _, pool := range []string{"a", "b"} {
		for _, is6 := range []bool{false, true} {
			got, ok := a.Lowest(pool, is6)
			want, wantOK := o.lowest(pool, is6)
			if got != want || ok != wantOK {
				t.Fatalf("lowest of %s (IPv6 %v) is %v %v, want %v %v", pool, is6, got, ok, want, wantOK)
			}
		}
		if got, want := a.Counts(pool), o.counts(pool); got != want {
			t.Fatalf("counts of %s are %+v, want %+v", pool, got, want)
		}
	}
	for _, addr := range everything {
		if got, want := a.Holders(addr), o.holders(addr); !slices.Equal(got, want) {
			t.Fatalf("holders of %s are %v, want %v", addr, got, want)
		}
	}
}
