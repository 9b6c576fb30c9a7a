package allocator

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Random runs are many unless the command line says otherwise, and leave no
// files behind: the seed that a failure prints is enough to repeat it.
func init() {
	checks := "2000"
	if raceEnabled {
		checks = "500"
	}
	for name, value := range map[string]string{
		"rapid.checks":     checks,
		"rapid.steps":      "50",
		"rapid.nofailfile": "true",
	} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
}

// oracle is the slow, obvious allocator: every question is answered by
// looking at every address and every holder.
type oracle struct {
	now      time.Time
	pools    []Pool
	holdings map[Holder]Holding
	rests    map[netip.Addr]rest
	outside  map[netip.Addr]string // no range contains it, but the pool keeps it
	had      map[netip.Addr]bool   // held while it was in a pool
	from     map[netip.Addr]string // of the held: the pool, or the last one
	withheld map[netip.Addr]Withholding
}

func newOracle() *oracle {
	return &oracle{
		now:      now,
		holdings: map[Holder]Holding{},
		rests:    map[netip.Addr]rest{},
		outside:  map[netip.Addr]string{},
		had:      map[netip.Addr]bool{},
		from:     map[netip.Addr]string{},
		withheld: map[netip.Addr]Withholding{},
	}
}

func (o *oracle) pool(name string) Pool {
	for _, p := range o.pools {
		if p.Name == name {
			return p
		}
	}
	return Pool{}
}

func (o *oracle) addresses(pool string, is6 bool) []netip.Addr {
	var out []netip.Addr
	for _, r := range o.pool(pool).Ranges {
		for a := r.From(); r.Contains(a); a = a.Next() {
			if a.Is6() == is6 {
				out = append(out, a)
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// inRange names the pool whose ranges contain an address, or "".
func (o *oracle) inRange(addr netip.Addr) string {
	for _, p := range o.pools {
		for _, r := range p.Ranges {
			if r.Contains(addr) {
				return p.Name
			}
		}
	}
	return ""
}

func (o *oracle) poolOf(addr netip.Addr) string {
	if name := o.inRange(addr); name != "" {
		return name
	}
	return o.outside[addr]
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

// kind is what an address of a pool's ranges is.
type kind int

const (
	assigned kind = iota
	keptBack
	resting
	available
)

func (o *oracle) kind(addr netip.Addr) kind {
	switch {
	case len(o.holders(addr)) > 0:
		return assigned
	case o.pool(o.inRange(addr)).AvoidBuggy && buggy(addr), o.isWithheld(addr):
		return keptBack
	case o.rests[addr].until.After(o.now):
		return resting
	}
	return available
}

func (o *oracle) isWithheld(addr netip.Addr) bool {
	_, ok := o.withheld[addr]
	return ok
}

// withhold has an address not be given out. What rested is forgotten.
func (o *oracle) withhold(addr netip.Addr, w Withholding) {
	if !o.isWithheld(addr) {
		delete(o.rests, addr)
	}
	o.withheld[addr] = w
}

// outsider is the first of another group who has an address.
func (o *oracle) outsider(addr netip.Addr, holder Holder, group string) Holder {
	for _, other := range o.holders(addr) {
		t := o.holdings[other].Terms
		if other != holder && t.Group != group && t.key() != "" && o.pool(o.poolOf(addr)).ShareInGroup {
			return other
		}
	}
	return ""
}

// elsewhere tells whether another group holds addresses of a pool under a key.
func (o *oracle) elsewhere(pool, key, group string) bool {
	for _, h := range o.holdings {
		for _, addr := range h.Addresses {
			if key != "" && h.Terms.key() == key && h.Terms.Group != group && o.inRange(addr) == pool &&
				o.pool(pool).ShareInGroup {
				return true
			}
		}
	}
	return false
}

// mayJoin tells whether an address that others have is given to one more.
func (o *oracle) mayJoin(addr netip.Addr, holder Holder, terms Terms, counted bool) bool {
	if w := o.withheld[addr]; o.isWithheld(addr) && !w.OnRequest && w.For != holder {
		return false
	}
	others, sameGroup := 0, 0
	for _, other := range o.holders(addr) {
		if other == holder {
			continue
		}
		others++
		if o.holdings[other].Terms.Group == terms.Group {
			sameGroup++
		}
	}
	if others == 0 || counted && sameGroup == 0 ||
		o.pool(o.inRange(addr)).ShareInGroup && sameGroup < others {
		return false
	}
	return terms.key() != "" && o.mayHave(addr, holder, terms)
}

func (o *oracle) mayHave(addr netip.Addr, holder Holder, terms Terms) bool {
	for _, other := range o.holders(addr) {
		if other == holder {
			continue
		}
		if !compatibleTerms(terms, o.holdings[other].Terms) {
			return false
		}
	}
	return true
}

// rival is the first address that holder may not have, and the first with whom it
// may not share it.
func (o *oracle) rival(addrs []netip.Addr, holder Holder, terms Terms) (netip.Addr, Holder) {
	for _, addr := range addrs {
		for _, other := range o.holders(addr) {
			if other != holder && !compatibleTerms(terms, o.holdings[other].Terms) {
				return addr, other
			}
		}
	}
	return netip.Addr{}, ""
}

// compatibleTerms tells whether two holders may share an address.
func compatibleTerms(a, b Terms) bool {
	return !a.Foreign && !b.Foreign && a.SharingKey != "" && a.SharingKey == b.SharingKey &&
		a.Backends == b.Backends &&
		!slices.ContainsFunc(a.Ports, func(p Port) bool { return slices.Contains(b.Ports, p) })
}

func (o *oracle) lowest(pool string, is6 bool) (netip.Addr, bool) {
	for _, a := range o.addresses(pool, is6) {
		if o.kind(a) == available {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func (o *oracle) former(pool string, is6 bool, holder Holder) (netip.Addr, bool) {
	for _, a := range o.addresses(pool, is6) {
		if o.kind(a) == resting && o.rests[a].former == holder {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func (o *oracle) rested(pool string, families ...bool) (first time.Time, ok bool) {
	for _, is6 := range families {
		for _, a := range o.addresses(pool, is6) {
			if until := o.rests[a].until; o.kind(a) == resting && (!ok || until.Before(first)) {
				first, ok = until, true
			}
		}
	}
	return first, ok
}

func (o *oracle) shareable(
	pool string, is6 bool, holder Holder, terms Terms, counted bool,
) (netip.Addr, bool) {
	for _, a := range o.addresses(pool, is6) {
		if o.mayJoin(a, holder, terms, counted) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// used counts the addresses that a group would hold if holder held has.
func (o *oracle) used(pool, group string, holder Holder, has []netip.Addr) int {
	if o.pool(pool).Quota == 0 {
		return 0
	}
	counted := map[netip.Addr]bool{}
	for _, addr := range has {
		counted[addr] = o.poolOf(addr) == pool
	}
	for h, holding := range o.holdings {
		for _, addr := range holding.Addresses {
			if h != holder && holding.Terms.Group == group && !holding.Terms.Foreign &&
				o.poolOf(addr) == pool {
				counted[addr] = true
			}
		}
	}
	n := 0
	for _, is := range counted {
		if is {
			n++
		}
	}
	return n
}

func (o *oracle) counts(pool string) Counts {
	var c Counts
	for _, addr := range o.addresses(pool, false) {
		*map[kind]*int64{
			assigned:  &c.Assigned4,
			keptBack:  &c.KeptBack4,
			resting:   &c.Resting4,
			available: &c.Available4,
		}[o.kind(addr)]++
	}
	for _, addr := range o.addresses(pool, true) {
		*map[kind]*int64{
			assigned:  &c.Assigned6,
			keptBack:  &c.KeptBack6,
			resting:   &c.Resting6,
			available: &c.Available6,
		}[o.kind(addr)]++
	}
	return c
}

func (o *oracle) assign(holder Holder, addrs []netip.Addr, terms Terms) {
	before := o.holdings[holder]
	delete(o.holdings, holder)
	if len(addrs) > 0 {
		o.holdings[holder] = Holding{slices.Clone(addrs), terms}
	}
	for _, addr := range before.Addresses {
		if len(o.holders(addr)) > 0 {
			continue
		}
		p := o.pool(o.inRange(addr))
		if p.ReuseDelay > 0 && !(p.AvoidBuggy && buggy(addr)) && !o.isWithheld(addr) {
			o.rests[addr] = rest{o.now.Add(p.ReuseDelay), holder}
		}
		delete(o.outside, addr)
		delete(o.had, addr)
		delete(o.from, addr)
	}
	for _, addr := range addrs {
		delete(o.rests, addr)
		if name := o.poolOf(addr); name != "" {
			o.had[addr], o.from[addr] = true, name
		}
	}
}

// there tells whether there is a pool of a name.
func (o *oracle) there(name string) bool {
	return slices.ContainsFunc(o.pools, func(p Pool) bool { return p.Name == name })
}

// adopt is assign by one who knows where the addresses are from.
func (o *oracle) adopt(holder Holder, addrs []netip.Addr, terms Terms, from map[netip.Addr]string) {
	for _, addr := range addrs {
		if name := from[addr]; name != "" && o.from[addr] == "" && o.inRange(addr) == "" {
			o.from[addr] = name
			if o.pool(name).KeepOutside {
				o.outside[addr] = name
			}
			o.had[addr] = o.there(name)
		}
	}
	o.assign(holder, addrs, terms)
}

func (o *oracle) setPools(pools []Pool) {
	o.pools, o.outside = pools, map[netip.Addr]string{}
	for _, h := range o.holdings {
		for _, addr := range h.Addresses {
			if name := o.inRange(addr); name != "" {
				o.from[addr] = name
			} else if o.pool(o.from[addr]).KeepOutside {
				o.outside[addr] = o.from[addr]
			}
			if o.there(o.from[addr]) {
				o.had[addr] = true
			}
		}
	}
}

// plans are sets of pools that random runs change between: they grow, shrink,
// exclude, change hands, come and go.
var plans = [][]Pool{
	{
		{Name: "a", Ranges: ranges("192.0.2.250-192.0.3.4")},
		{Name: "b", Ranges: ranges("2001:db8::/125", "198.51.100.0/30")},
	},
	{
		{
			Name:        "a",
			Ranges:      ranges("192.0.2.250-192.0.3.4"),
			ReuseDelay:  3 * time.Second,
			KeepOutside: true,
		},
		{
			Name:        "b",
			Ranges:      ranges("2001:db8::/125", "198.51.100.0/30"),
			ReuseDelay:  10 * time.Second,
			KeepOutside: true,
			Quota:       3,
		},
	},
	{
		{
			Name:       "a",
			Ranges:     ranges("192.0.2.252-192.0.3.2"),
			AvoidBuggy: true,
			ReuseDelay: 5 * time.Second,
		},
		{
			Name:        "b",
			Ranges:      ranges("198.51.100.2/31"),
			KeepOutside: true,
		},
	},
	{
		{
			Name:        "a",
			Ranges:      ranges("192.0.2.250-192.0.2.252", "192.0.2.254-192.0.3.1", "192.0.3.3-192.0.3.4"),
			KeepOutside: true,
			Quota:       2,
		},
		{
			Name:        "b",
			Ranges:      ranges("2001:db8::/127", "2001:db8::4/126"),
			ReuseDelay:  2 * time.Second,
			KeepOutside: true,
		},
	},
	{
		{
			Name:         "a",
			Ranges:       ranges("192.0.2.250-192.0.3.4"),
			ShareInGroup: true,
			ReuseDelay:   4 * time.Second,
			KeepOutside:  true,
		},
		{
			Name:         "b",
			Ranges:       ranges("2001:db8::/125", "198.51.100.0/30"),
			ShareInGroup: true,
			AvoidBuggy:   true,
		},
	},
	{
		{
			Name:        "b",
			Ranges:      ranges("192.0.2.250-192.0.2.255", "192.0.3.1-192.0.3.3", "2001:db8::2/127"),
			KeepOutside: true,
		},
	},
	{
		{Name: "a", KeepOutside: true},
		{Name: "b", Ranges: ranges("198.51.100.0/31", "2001:db8::/125"), AvoidBuggy: true},
	},
	{},
}

// allOf returns all addresses of all plans, sorted.
func allOf(plans [][]Pool) []netip.Addr {
	var out []netip.Addr
	for _, plan := range plans {
		o := oracle{pools: plan}
		for _, p := range plan {
			out = append(append(out, o.addresses(p.Name, false)...), o.addresses(p.Name, true)...)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

func TestAgainstTheOracle(t *testing.T) {
	everything := allOf(plans)
	holder := rapid.Custom(func(t *rapid.T) Holder {
		return Holder(fmt.Sprint("s", rapid.IntRange(0, 7).Draw(t, "n")))
	})
	port := rapid.Custom(func(t *rapid.T) Port {
		return Port{"TCP", uint16(rapid.IntRange(1, 7).Draw(t, "port"))}
	})
	termsOf := func(t *rapid.T) Terms {
		return Terms{
			SharingKey: rapid.SampledFrom([]string{"", "k", "k", "l"}).Draw(t, "key"),
			Backends:   rapid.SampledFrom([]string{"", "", "", "pods"}).Draw(t, "backends"),
			Ports:      rapid.SliceOfN(port, 1, 3).Draw(t, "ports"),
			Group:      rapid.SampledFrom([]string{"g", "g", "h"}).Draw(t, "group"),
			Foreign:    rapid.IntRange(0, 7).Draw(t, "foreign") == 0,
		}
	}
	addressesOf := rapid.SliceOfNDistinct(rapid.SampledFrom(everything), 0, 2, rapid.ID)

	rapid.Check(t, func(t *rapid.T) {
		a, o := New(), newOracle()
		assign := func(t *rapid.T, h Holder, addrs []netip.Addr, terms Terms) {
			err := a.Assign(h, addrs, terms, o.now)
			legal := !slices.ContainsFunc(addrs, func(x netip.Addr) bool { return !o.mayHave(x, h, terms) })
			if legal != (err == nil) {
				t.Fatalf("assign %v to %s: %v, but legal is %v", addrs, h, err, legal)
			}
			if !legal {
				var conflict *ConflictError
				addr, with := o.rival(addrs, h, terms)
				if !errors.As(err, &conflict) || conflict.Address != addr || conflict.Holder != with ||
					conflict.Why == "" ||
					conflict.Foreign != o.holdings[with].Terms.Foreign {
					t.Fatalf("assign %v to %s: %v, want to hear of %s and %s", addrs, h, err, addr, with)
				}
			}
			if legal {
				o.assign(h, addrs, terms)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"pools": func(t *rapid.T) {
				plan := rapid.SampledFrom(plans).Draw(t, "plan")
				a.SetPools(plan)
				o.setPools(plan)
			},
			"assign": func(t *rapid.T) {
				h := holder.Draw(t, "holder")
				assign(t, h, addressesOf.Draw(t, "addresses"), termsOf(t))
			},
			"assign the same again": func(t *rapid.T) {
				h := holder.Draw(t, "holder")
				assign(t, h, o.holdings[h].Addresses, termsOf(t))
			},
			"assign lowest": func(t *rapid.T) {
				h := holder.Draw(t, "holder")
				pool := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "pool")
				is6 := rapid.Bool().Draw(t, "is6")
				if addr, ok := a.Lowest(pool, is6, o.now); ok {
					assign(t, h, []netip.Addr{addr}, termsOf(t))
				}
			},
			"share": func(t *rapid.T) {
				h := holder.Draw(t, "holder")
				terms := termsOf(t)
				pool := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "pool")
				is6 := rapid.Bool().Draw(t, "is6")
				counted := rapid.IntRange(0, 3).Draw(t, "counted") == 0
				addr, ok := a.Shareable(pool, is6, h, terms, counted)
				if want, wantOK := o.shareable(pool, is6, h, terms, counted); addr != want || ok != wantOK {
					t.Fatalf("%s may share %v %v of %s, want %v %v", h, addr, ok, pool, want, wantOK)
				}
				if ok {
					assign(t, h, []netip.Addr{addr}, terms)
				}
			},
			"withhold": func(t *rapid.T) {
				addr := rapid.SampledFrom(everything).Draw(t, "address")
				w := Withholding{
					Reason:    "Word",
					Why:       "somebody has it",
					OnRequest: rapid.Bool().Draw(t, "on request"),
				}
				if rapid.Bool().Draw(t, "but for one") {
					w.For = holder.Draw(t, "holder")
				}
				a.Withhold(addr, w)
				o.withhold(addr, w)
			},
			"permit": func(t *rapid.T) {
				if len(o.withheld) == 0 {
					return
				}
				all := slices.SortedFunc(maps.Keys(o.withheld), netip.Addr.Compare)
				addr := rapid.SampledFrom(all).Draw(t, "address")
				a.Permit(addr)
				delete(o.withheld, addr)
			},
			"release": func(t *rapid.T) {
				h := holder.Draw(t, "holder")
				a.Release(h, o.now)
				o.assign(h, nil, Terms{})
			},
			"time passes": func(t *rapid.T) {
				o.now = o.now.Add(time.Duration(rapid.IntRange(1, 4).Draw(t, "seconds")) * time.Second)
			},
			"restart with a stale view": func(t *rapid.T) {
				// What survives are the objects, and the statuses of some of
				// the holders, in any order. They tell of some addresses where
				// these are from.
				names := rapid.Permutation(slices.Sorted(keys(o.holdings))).Draw(t, "order")
				names = names[:rapid.IntRange(0, len(names)).Draw(t, "survivors")]
				old, plan, at := *o, o.pools, o.now
				if rapid.Bool().Draw(t, "pools were edited meanwhile") {
					plan = rapid.SampledFrom(plans).Draw(t, "plan")
				}
				a, o = New(), newOracle()
				o.now = at
				withhold := func() {
					for addr, w := range old.withheld {
						a.Withhold(addr, w)
						o.withhold(addr, w)
					}
				}
				early := rapid.Bool().Draw(t, "what is withheld is known before the pools")
				if early {
					withhold()
				}
				a.SetPools(plan)
				o.setPools(plan)
				if !early {
					withhold()
				}
				for _, name := range names {
					h, from := old.holdings[name], map[netip.Addr]string{}
					for _, addr := range h.Addresses {
						if was := old.from[addr]; was != "" && rapid.IntRange(0, 3).Draw(t, "told") > 0 {
							from[addr] = was
						}
					}
					if err := a.Adopt(name, h.Addresses, h.Terms, from, o.now); err != nil {
						t.Fatalf("what %s has cannot be adopted: %v", name, err)
					}
					o.adopt(name, h.Addresses, h.Terms, from)
				}
			},
			"": func(t *rapid.T) {
				compare(t, a, o, everything)
				invariants(t, a, o, everything)
			},
		})
	})
}

// keys iterates over the keys of a map, in any order.
func keys[V any](m map[Holder]V) func(func(Holder) bool) {
	return func(yield func(Holder) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// compare asks both the same questions.
func compare(t *rapid.T, a *Allocator, o *oracle, everything []netip.Addr) {
	for _, pool := range []string{"a", "b"} {
		for _, is6 := range []bool{false, true} {
			got, ok := a.Lowest(pool, is6, o.now)
			if want, wantOK := o.lowest(pool, is6); got != want || ok != wantOK {
				t.Fatalf("lowest of %s (IPv6 %v) is %v %v, want %v %v", pool, is6, got, ok, want, wantOK)
			}
			for _, h := range []Holder{"s0", "s1", "s2"} {
				got, ok := a.Former(pool, is6, h, o.now)
				if want, wantOK := o.former(pool, is6, h); got != want || ok != wantOK {
					t.Fatalf("former of %s (IPv6 %v) for %s is %v %v, want %v %v",
						pool, is6, h, got, ok, want, wantOK)
				}
			}
		}
		if got, want := a.Counts(pool, o.now), o.counts(pool); got != want {
			t.Fatalf("counts of %s are %+v, want %+v", pool, got, want)
		}
		for _, is6 := range []bool{false, true} {
			got, ok := a.FirstRested(pool, is6)
			if want, wantOK := o.rested(pool, is6); !got.Equal(want) || ok != wantOK {
				t.Fatalf("the first of %s (IPv6 %v) has rested at %v %v, want %v %v",
					pool, is6, got, ok, want, wantOK)
			}
		}
		got, ok := a.Rested(pool)
		if want, wantOK := o.rested(pool, false, true); !got.Equal(want) || ok != wantOK {
			t.Fatalf("the first of %s has rested at %v %v, want %v %v", pool, got, ok, want, wantOK)
		}
		for _, h := range []Holder{"s0", "s1", "s9"} {
			for _, has := range [][]netip.Addr{
				nil,
				o.holdings[h].Addresses,
				{ip("192.0.2.254"), ip("2001:db8::4")},
			} {
				used, quota := a.Used(pool, "g", h, has)
				if want := o.used(pool, "g", h, has); used != want || quota != o.pool(pool).Quota {
					t.Fatalf("with %v for %s its group uses %d of %s, of %d, want %d of %d",
						has, h, used, pool, quota, want, o.pool(pool).Quota)
				}
			}
		}
		for _, is6 := range []bool{false, true} {
			var withheld []netip.Addr
			for _, addr := range o.addresses(pool, is6) {
				if o.isWithheld(addr) && len(o.holders(addr)) == 0 {
					withheld = append(withheld, addr)
				}
			}
			lowest, n := a.WithheldOf(pool, is6)
			if n != len(withheld) || n > 0 && lowest != withheld[0] {
				t.Fatalf("of %s (IPv6 %v) %d are withheld, the lowest %s; want %v",
					pool, is6, n, lowest, withheld)
			}
		}
		for _, group := range []string{"g", "h"} {
			for _, key := range []string{"", "k", "l"} {
				got, want := a.HeldElsewhere(pool, key, group), o.elsewhere(pool, key, group)
				if got != want {
					t.Fatalf("of %s others than %s hold addresses under %q: %v, want %v",
						pool, group, key, got, want)
				}
			}
		}
		var outside []netip.Addr
		for _, addr := range everything {
			if o.outside[addr] == pool && len(o.holders(addr)) > 0 {
				outside = append(outside, addr)
			}
		}
		if got := a.Outside(pool); !slices.Equal(got, outside) {
			t.Fatalf("outside of %s are %v, want %v", pool, got, outside)
		}
	}
	for _, addr := range everything {
		if got, want := a.Holders(addr), o.holders(addr); !slices.Equal(got, want) {
			t.Fatalf("holders of %s are %v, want %v", addr, got, want)
		}
		if got, _ := a.PoolOf(addr); got != o.poolOf(addr) {
			t.Fatalf("pool of %s is %q, want %q", addr, got, o.poolOf(addr))
		}
		if got := a.From(addr); got != o.from[addr] {
			t.Fatalf("%s is from %q, want %q", addr, got, o.from[addr])
		}
		for _, h := range []Holder{"s0", "s1", "s9"} {
			if got, want := a.Outsider(addr, h, "g"), o.outsider(addr, h, "g"); got != want {
				t.Fatalf("the first of others than g that keeps %s from %s is %q, want %q",
					h, addr, got, want)
			}
		}
		if got, ok := a.Withheld(addr); ok != o.isWithheld(addr) || got != o.withheld[addr] {
			t.Fatalf("%s is withheld %v %+v, want %+v", addr, ok, got, o.withheld[addr])
		}
		got, want := a.Expelled(addr), o.had[addr] && o.poolOf(addr) == ""
		if len(o.holders(addr)) > 0 && got != want {
			t.Fatalf("expelled %s is %v, want %v", addr, got, want)
		}
	}
}

// invariants checks what must be true whatever the oracle says.
func invariants(t *rapid.T, a *Allocator, o *oracle, everything []netip.Addr) {
	for _, addr := range everything {
		hs := a.Holders(addr)
		for i, h := range hs {
			held, ok := a.Held(h)
			if !ok || !slices.Contains(held.Addresses, addr) {
				t.Fatalf("%s counts as a holder of %s but holds %v", h, addr, held.Addresses)
			}
			for _, other := range hs[:i] {
				theirs, _ := a.Held(other)
				if !compatibleTerms(held.Terms, theirs.Terms) {
					t.Fatalf("%s and %s hold %s on terms %+v and %+v",
						h, other, addr, held.Terms, theirs.Terms)
				}
			}
		}
	}
	for _, p := range o.pools {
		size4, size6 := Size(newPool(p).ranges)
		c := a.Counts(p.Name, o.now)
		if sum := c.Assigned4 + c.Resting4 + c.KeptBack4 + c.Available4; sum != size4 {
			t.Fatalf("%s has %d IPv4 addresses, counted are %+v", p.Name, size4, c)
		}
		if sum := c.Assigned6 + c.Resting6 + c.KeptBack6 + c.Available6; sum != size6 {
			t.Fatalf("%s has %d IPv6 addresses, counted are %+v", p.Name, size6, c)
		}
		if c.Assigned4 < 0 || c.Assigned6 < 0 || c.Resting4 < 0 || c.Resting6 < 0 ||
			c.KeptBack4 < 0 || c.KeptBack6 < 0 || c.Available4 < 0 || c.Available6 < 0 {
			t.Fatalf("%s: a count is negative: %+v", p.Name, c)
		}
	}
}
