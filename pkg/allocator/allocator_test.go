package allocator

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go4.org/netipx"
)

// now is the time in tests that are not about time.
var now = time.Unix(1e9, 0)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func ranges(texts ...string) []netipx.IPRange {
	var out []netipx.IPRange
	for _, t := range texts {
		if p, err := netip.ParsePrefix(t); err == nil {
			out = append(out, netipx.RangeOfPrefix(p))
			continue
		}
		out = append(out, netipx.MustParseIPRange(t))
	}
	return out
}

func withPools(pools ...Pool) *Allocator {
	a := New()
	a.SetPools(pools)
	return a
}

// next takes the lowest free address of a pool's IPv4.
func next(t *testing.T, a *Allocator, pool string, holder Holder) netip.Addr {
	t.Helper()
	addr, ok := a.Lowest(pool, false, now)
	if !ok {
		return netip.Addr{}
	}
	if err := a.Assign(holder, []netip.Addr{addr}, Terms{}, now); err != nil {
		t.Fatalf("%s is lowest but %v", addr, err)
	}
	return addr
}

func TestTheLowestFreeAddressIsNext(t *testing.T) {
	a := withPools(Pool{Name: "p", Ranges: ranges("192.0.2.9-192.0.2.10", "192.0.2.2-192.0.2.3")})
	var got []string
	for i := range 5 {
		got = append(got, next(t, a, "p", Holder(fmt.Sprint("s", i))).String())
	}
	want := []string{"192.0.2.2", "192.0.2.3", "192.0.2.9", "192.0.2.10", "invalid IP"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("addresses in order (-want +got):\n%s", diff)
	}
	a.Release("s1", now)
	if got := next(t, a, "p", "s9"); got != ip("192.0.2.3") {
		t.Errorf("after 192.0.2.3 was freed, next is %s", got)
	}
}

func TestBuggyAddressesAreNotChosenButCanBeHeld(t *testing.T) {
	a := withPools(Pool{Name: "p", Ranges: ranges("192.0.2.254-192.0.3.1"), AvoidBuggy: true})
	if c := a.Counts("p", now); c.Available4 != 2 {
		t.Errorf("available = %d, want 2: two of four are buggy", c.Available4)
	}
	if err := a.Assign("asked", []netip.Addr{ip("192.0.3.0")}, Terms{}, now); err != nil {
		t.Fatal(err)
	}
	if c := a.Counts("p", now); c.Available4 != 2 || c.Assigned4 != 1 {
		t.Errorf("with a buggy one held: %+v", c)
	}
	got := []netip.Addr{next(t, a, "p", "s1"), next(t, a, "p", "s2"), next(t, a, "p", "s3")}
	if !slices.Equal(got, []netip.Addr{ip("192.0.2.254"), ip("192.0.3.1"), {}}) {
		t.Errorf("chosen: %v", got)
	}
	a.Release("asked", now)
	if addr, ok := a.Lowest("p", false, now); ok {
		t.Errorf("a freed buggy address is chosen: %s", addr)
	}
}

func TestSharing(t *testing.T) {
	web := Terms{SharingKey: "k", Ports: []Port{{"TCP", 80}}}
	vip := []netip.Addr{ip("192.0.2.1")}
	for _, test := range []struct {
		story string
		terms Terms
		why   string // "" when shared
	}{
		{"another port of the same key", Terms{SharingKey: "k", Ports: []Port{{"TCP", 443}}}, ""},
		{"the same number of another protocol", Terms{SharingKey: "k", Ports: []Port{{"UDP", 80}}}, ""},
		{"the same port", web, "both use port TCP/80"},
		{"another key",
			Terms{SharingKey: "x", Ports: []Port{{"TCP", 443}}}, `its sharing key is "k", not "x"`},
		{"no key",
			Terms{Ports: []Port{{"TCP", 443}}}, "both must carry the same sharing key to share an address"},
		{"other pods with traffic policy Local",
			Terms{SharingKey: "k", Backends: "pods", Ports: []Port{{"TCP", 443}}},
			"with externalTrafficPolicy Local only Services of the same pods can share an address"},
	} {
		t.Run(test.story, func(t *testing.T) {
			a := withPools(Pool{Name: "p", Ranges: ranges("192.0.2.0/24")})
			if err := a.Assign("first", vip, web, now); err != nil {
				t.Fatal(err)
			}
			err := a.Assign("second", vip, test.terms, now)
			var conflict *ConflictError
			switch {
			case test.why == "" && err != nil:
				t.Errorf("not shared: %v", err)
			case test.why != "" &&
				(!errors.As(err, &conflict) || conflict.Why != test.why || conflict.Holder != "first"):
				t.Errorf("got %v, want a conflict with first: %s", err, test.why)
			}
		})
	}
}

func TestASharedAddressIsFreeWhenTheLastHolderGoes(t *testing.T) {
	a := withPools(Pool{Name: "p", Ranges: ranges("192.0.2.1/32")})
	vip := []netip.Addr{ip("192.0.2.1")}
	for i, h := range []Holder{"s1", "s2"} {
		err := a.Assign(h, vip, Terms{SharingKey: "k", Ports: []Port{{"TCP", uint16(i)}}}, now)
		if err != nil {
			t.Fatal(err)
		}
	}
	if addr, ok := a.Shareable("p", false, "s3", Terms{SharingKey: "k"}, false); !ok || addr != vip[0] {
		t.Errorf("shareable = %v %v", addr, ok)
	}
	a.Release("s1", now)
	if _, free := a.Lowest("p", false, now); free {
		t.Error("free although s2 still holds it")
	}
	a.Release("s2", now)
	if _, free := a.Lowest("p", false, now); !free {
		t.Error("not free although nobody holds it")
	}
	if _, ok := a.Shareable("p", false, "s3", Terms{SharingKey: "k"}, false); ok {
		t.Error("shareable although nobody holds it")
	}
}

func TestHoldingsOutliveTheirPool(t *testing.T) {
	a := withPools(Pool{Name: "p", Ranges: ranges("192.0.2.0/30")})
	if err := a.Assign("s", []netip.Addr{ip("192.0.2.0")}, Terms{}, now); err != nil {
		t.Fatal(err)
	}
	a.SetPools(nil)
	if err := a.Check(ip("192.0.2.0"), "s", Terms{}); !errors.Is(err, ErrNotInPool) {
		t.Errorf("Check without pools: %v", err)
	}
	a.SetPools([]Pool{{Name: "again", Ranges: ranges("192.0.2.0/30")}})
	if addr, _ := a.Lowest("again", false, now); addr != ip("192.0.2.1") {
		t.Errorf("lowest of the pool that came back is %s, want the one after the held address", addr)
	}
}

func TestCountsOfHugePools(t *testing.T) {
	for _, test := range []struct {
		pool                   string
		available4, available6 int64
	}{
		{"10.0.0.0/8", 1 << 24, 0},
		{"0.0.0.0/0", 1 << 32, 0},
		{"2001:db8::/112", 0, 1 << 16},
		{"2001:db8::/66", 0, 1 << 62},
		{"2001:db8::/65", 0, math.MaxInt64},
		{"2001:db8::/64", 0, math.MaxInt64},
		{"::/0", 0, math.MaxInt64},
	} {
		a := withPools(Pool{Name: "p", Ranges: ranges(test.pool)})
		if c := a.Counts("p", now); c.Available4 != test.available4 || c.Available6 != test.available6 {
			t.Errorf("%s: %+v, want %d and %d", test.pool, c, test.available4, test.available6)
		}
	}
}
