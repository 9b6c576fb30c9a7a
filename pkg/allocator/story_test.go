package allocator

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go4.org/netipx"
	"pgregory.net/rapid"
)

// after is the time s seconds later than now.
func after(s int) time.Time { return now.Add(time.Duration(s) * time.Second) }

// story is an allocator in the middle of a test.
type story struct {
	*testing.T
	*Allocator
}

// hold has holder hold addrs at a time, and fails the test when it may not.
func (s story) hold(at time.Time, holder Holder, terms Terms, addrs ...string) {
	s.Helper()
	var as []netip.Addr
	for _, a := range addrs {
		as = append(as, ip(a))
	}
	if err := s.Assign(holder, as, terms, at); err != nil {
		s.Fatalf("%s cannot hold %v: %v", holder, addrs, err)
	}
}

// lowest checks which IPv4 address of pool p is chosen next; "" for none.
func (s story) lowest(at time.Time, want string) {
	s.Helper()
	got := ""
	if addr, ok := s.Lowest("p", false, at); ok {
		got = addr.String()
	}
	if got != want {
		s.Errorf("at %s the lowest is %q, want %q", at.Sub(now), got, want)
	}
}

// counts checks what pool p counts of IPv4.
func (s story) counts(at time.Time, want Counts) {
	s.Helper()
	if diff := cmp.Diff(want, s.Counts("p", at)); diff != "" {
		s.Errorf("at %s counts (-want +got):\n%s", at.Sub(now), diff)
	}
}

// former checks which IPv4 address of pool p holder may have back.
func (s story) former(at time.Time, holder Holder, want string) {
	s.Helper()
	got := ""
	if addr, ok := s.Former("p", false, holder, at); ok {
		got = addr.String()
	}
	if got != want {
		s.Errorf("at %s the former of %s is %q, want %q", at.Sub(now), holder, got, want)
	}
}

func TestReuseDelay(t *testing.T) {
	pool := Pool{Name: "p", Ranges: ranges("192.0.2.1-192.0.2.3"), ReuseDelay: 10 * time.Second}
	shares := func(port uint16) Terms { return Terms{SharingKey: "k", Ports: []Port{{"TCP", port}}} }
	for _, test := range []struct {
		story string
		tell  func(s story)
	}{
		{"a freed address rests for the delay, and not a moment longer", func(s story) {
			s.hold(now, "a", Terms{}, "192.0.2.1")
			s.Release("a", now)
			s.lowest(now, "192.0.2.2")
			s.counts(after(9), Counts{Resting4: 1, Available4: 2})
			s.lowest(after(10).Add(-time.Nanosecond), "192.0.2.2")
			s.lowest(after(10), "192.0.2.1")
			s.counts(after(10), Counts{Available4: 3})
			if _, rests := s.Rested("p"); rests {
				s.Error("something rests still")
			}
		}},
		{"when every address is held or rests, it is known until when", func(s story) {
			s.hold(now, "a", Terms{}, "192.0.2.1")
			s.hold(now, "b", Terms{}, "192.0.2.2")
			s.hold(now, "c", Terms{}, "192.0.2.3")
			s.Release("b", after(5))
			s.Release("a", after(2))
			s.lowest(after(6), "")
			s.counts(after(6), Counts{Assigned4: 1, Resting4: 2})
			if at, ok := s.Rested("p"); !ok || !at.Equal(after(12)) {
				s.Errorf("rested at %v %v", at, ok)
			}
			if at, ok := s.FirstRested("p", false); !ok || !at.Equal(after(12)) {
				s.Errorf("IPv4 rested at %v %v", at, ok)
			}
			if at, ok := s.FirstRested("p", true); ok {
				s.Errorf("IPv6 rested at %v", at)
			}
			s.lowest(after(12), "192.0.2.1")
			s.lowest(after(15), "192.0.2.1")
		}},
		{"its former holder need not wait, others have to", func(s story) {
			s.hold(now, "a", Terms{}, "192.0.2.2")
			s.Release("a", now)
			s.former(after(1), "a", "192.0.2.2")
			s.former(after(1), "b", "")
			s.hold(after(1), "a", Terms{}, "192.0.2.2")
			s.former(after(1), "a", "")
			s.counts(after(1), Counts{Assigned4: 1, Available4: 2})
		}},
		{"after its rest it is nobody's", func(s story) {
			s.hold(now, "a", Terms{}, "192.0.2.2")
			s.Release("a", now)
			s.former(after(10), "a", "")
		}},
		{"of several the former holder gets the lowest", func(s story) {
			s.hold(now, "a", Terms{}, "192.0.2.3")
			s.hold(now, "a", Terms{}, "192.0.2.2")
			s.Release("a", now)
			s.former(after(1), "a", "192.0.2.2")
		}},
		{"one asked for by name does not wait, whoever asks", func(s story) {
			s.hold(now, "a", Terms{}, "192.0.2.1")
			s.Release("a", now)
			if err := s.Check(ip("192.0.2.1"), "b", Terms{}); err != nil {
				s.Error(err)
			}
			s.hold(after(1), "b", Terms{}, "192.0.2.1")
			s.former(after(1), "a", "")
			s.counts(after(20), Counts{Assigned4: 1, Available4: 2})
		}},
		{"what a holder gives up by moving rests too", func(s story) {
			s.hold(now, "a", Terms{}, "192.0.2.1")
			s.hold(now, "a", Terms{}, "192.0.2.2")
			s.lowest(after(1), "192.0.2.3")
			s.former(after(1), "a", "192.0.2.1")
		}},
		{"what a holder keeps does not", func(s story) {
			s.hold(now, "a", Terms{}, "192.0.2.1")
			s.hold(after(1), "a", shares(80), "192.0.2.1")
			s.counts(after(1), Counts{Assigned4: 1, Available4: 2})
		}},
		{"it rests through an edit of the pools", func(s story) {
			s.hold(now, "a", Terms{}, "192.0.2.1")
			s.Release("a", now)
			s.SetPools([]Pool{{Name: "p", Ranges: ranges("192.0.2.1-192.0.2.2")}})
			s.lowest(after(1), "192.0.2.2")
			s.former(after(1), "a", "192.0.2.1")
			s.lowest(after(10), "192.0.2.1")
		}},
		{"it rests on in a pool that was deleted and created again", func(s story) {
			s.hold(now, "a", Terms{}, "192.0.2.1")
			s.Release("a", now)
			s.SetPools(nil)
			s.lowest(after(1), "")
			s.SetPools([]Pool{pool})
			s.lowest(after(1), "192.0.2.2")
			s.former(after(1), "a", "192.0.2.1")
		}},
		{"a shared address rests when its last holder goes", func(s story) {
			s.hold(now, "a", shares(80), "192.0.2.1")
			s.hold(now, "b", shares(443), "192.0.2.1")
			s.Release("a", now)
			s.counts(now, Counts{Assigned4: 1, Available4: 2})
			s.former(now, "a", "")
			s.Release("b", after(5))
			s.counts(after(14), Counts{Resting4: 1, Available4: 2})
			s.former(after(14), "b", "192.0.2.1")
			s.counts(after(15), Counts{Available4: 3})
		}},
		{"nobody joins an address that rests", func(s story) {
			s.hold(now, "a", shares(80), "192.0.2.1")
			s.Release("a", now)
			if addr, ok := s.Shareable("p", false, "b", shares(443), false); ok {
				s.Errorf("%s can be joined", addr)
			}
		}},
		{"one that avoidBuggy keeps back does not rest: it is never chosen", func(s story) {
			s.SetPools([]Pool{{
				Name:       "p",
				Ranges:     ranges("192.0.2.254-192.0.2.255"),
				AvoidBuggy: true,
				ReuseDelay: time.Second,
			}})
			s.hold(now, "a", Terms{}, "192.0.2.255")
			s.counts(now, Counts{Assigned4: 1, Available4: 1})
			s.Release("a", now)
			s.counts(now, Counts{KeptBack4: 1, Available4: 1})
			s.former(now, "a", "")
			s.hold(after(5), "b", Terms{}, "192.0.2.254")
			s.lowest(after(5), "")
		}},
		{"avoidBuggy that comes while it rests keeps it back for good", func(s story) {
			s.SetPools([]Pool{{
				Name:       "p",
				Ranges:     ranges("192.0.2.254-192.0.2.255"),
				ReuseDelay: 10 * time.Second,
			}})
			s.hold(now, "a", Terms{}, "192.0.2.255")
			s.Release("a", now)
			s.SetPools([]Pool{{
				Name:       "p",
				Ranges:     ranges("192.0.2.254-192.0.2.255"),
				ReuseDelay: 10 * time.Second,
				AvoidBuggy: true,
			}})
			s.counts(after(1), Counts{KeptBack4: 1, Available4: 1})
			s.former(after(1), "a", "")
			s.counts(after(20), Counts{KeptBack4: 1, Available4: 1})
		}},
		{"no delay, no rest", func(s story) {
			s.SetPools([]Pool{{Name: "p", Ranges: ranges("192.0.2.1/32")}})
			s.hold(now, "a", Terms{}, "192.0.2.1")
			s.Release("a", now)
			s.lowest(now, "192.0.2.1")
		}},
	} {
		t.Run(test.story, func(t *testing.T) { test.tell(story{t, withPools(pool)}) })
	}
}

func TestEveryFamilyRestsByItself(t *testing.T) {
	a := withPools(Pool{
		Name:       "p",
		Ranges:     ranges("192.0.2.1/32", "2001:db8::1/128"),
		ReuseDelay: 10 * time.Second,
	})
	s := story{t, a}
	s.hold(now, "a", Terms{}, "192.0.2.1", "2001:db8::1")
	s.hold(after(3), "a", Terms{}, "192.0.2.1")
	s.counts(after(4), Counts{Assigned4: 1, Resting6: 1})
	if at, ok := a.FirstRested("p", true); !ok || !at.Equal(after(13)) {
		t.Errorf("IPv6 has rested at %v %v", at, ok)
	}
	if at, ok := a.FirstRested("p", false); ok {
		t.Errorf("IPv4 has rested at %v although none rests", at)
	}
	if addr, ok := a.Former("p", true, "a", after(4)); !ok || addr != ip("2001:db8::1") {
		t.Errorf("former IPv6 is %v %v", addr, ok)
	}
}

func TestUsed(t *testing.T) {
	in := func(group, key string, port uint16) Terms {
		return Terms{Group: group, SharingKey: key, Ports: []Port{{"TCP", port}}}
	}
	for _, test := range []struct {
		story string
		tell  func(s story)
		has   []string // what "me" is to hold
		want  int
	}{
		{"nobody holds anything", func(story) {}, nil, 0},
		{"what others of the group hold", func(s story) {
			s.hold(now, "a", in("g", "", 1), "192.0.2.1")
			s.hold(now, "b", in("g", "", 1), "192.0.2.2", "2001:db8::1")
		}, nil, 3},
		{"another group has its own quota",
			func(s story) { s.hold(now, "a", in("h", "", 1), "192.0.2.1") }, nil, 0},
		{"what somebody else gave counts for nobody", func(s story) {
			s.hold(now, "a", Terms{Group: "g", Foreign: true}, "192.0.2.1")
		}, nil, 0},
		{"another pool too", func(s story) { s.hold(now, "a", in("g", "", 1), "198.51.100.1") }, nil, 0},
		{"a shared address counts once", func(s story) {
			s.hold(now, "a", in("g", "k", 1), "192.0.2.1")
			s.hold(now, "b", in("g", "k", 2), "192.0.2.1")
		}, nil, 1},
		{"what only the holder holds does not count unless it keeps it",
			func(s story) { s.hold(now, "me", in("g", "", 1), "192.0.2.1") }, nil, 0},
		{"what it keeps does",
			func(s story) { s.hold(now, "me", in("g", "", 1), "192.0.2.1") }, []string{"192.0.2.1"}, 1},
		{"what it is to get does", func(story) {}, []string{"192.0.2.1", "2001:db8::1", "198.51.100.1"}, 2},
		{"what it shares with its group counts without it", func(s story) {
			s.hold(now, "me", in("g", "k", 1), "192.0.2.1")
			s.hold(now, "a", in("g", "k", 2), "192.0.2.1")
		}, nil, 1},
		{"and not twice with it", func(s story) {
			s.hold(now, "me", in("g", "k", 1), "192.0.2.1")
			s.hold(now, "a", in("g", "k", 2), "192.0.2.1")
		}, []string{"192.0.2.1", "192.0.2.2"}, 2},
		{"what it shares with another group counts for both", func(s story) {
			s.hold(now, "me", in("g", "k", 1), "192.0.2.1")
			s.hold(now, "a", in("h", "k", 2), "192.0.2.1")
		}, []string{"192.0.2.1"}, 1},
		{"what was given back does not count", func(s story) {
			s.hold(now, "a", in("g", "", 1), "192.0.2.1")
			s.Release("a", now)
		}, nil, 0},
		{"an edit of the pools changes no count", func(s story) {
			s.hold(now, "a", in("g", "k", 1), "192.0.2.1")
			s.hold(now, "b", in("g", "k", 2), "192.0.2.1")
			s.SetPools([]Pool{{Name: "p", Ranges: ranges("192.0.2.0/25"), Quota: 3}})
		}, nil, 1},
		{"an address that the pool keeps outside counts", func(s story) {
			s.hold(now, "a", in("g", "", 1), "192.0.2.1")
			s.SetPools([]Pool{{Name: "p", Ranges: ranges("192.0.2.128/25"), KeepOutside: true, Quota: 3}})
		}, nil, 1},
	} {
		t.Run(test.story, func(t *testing.T) {
			a := withPools(Pool{Name: "p", Ranges: ranges("192.0.2.0/24", "2001:db8::/64"), Quota: 3},
				Pool{Name: "q", Ranges: ranges("198.51.100.0/24")})
			test.tell(story{t, a})
			var has []netip.Addr
			for _, addr := range test.has {
				has = append(has, ip(addr))
			}
			if used, quota := a.Used("p", "g", "me", has); used != test.want || quota != 3 {
				t.Errorf("used = %d of %d, want %d of 3", used, quota, test.want)
			}
		})
	}
	if used, quota := New().Used("nowhere", "g", "me", nil); used != 0 || quota != 0 {
		t.Errorf("of an unknown pool: %d of %d", used, quota)
	}
}

func TestShrinking(t *testing.T) {
	whole := Pool{Name: "p", Ranges: ranges("192.0.2.0/30"), KeepOutside: true}
	half := Pool{Name: "p", Ranges: ranges("192.0.2.0/31"), KeepOutside: true}
	moves := Pool{Name: "p", Ranges: ranges("192.0.2.0/31")}
	other := Pool{Name: "q", Ranges: ranges("192.0.2.2/31")}
	for _, test := range []struct {
		story    string
		tell     func(s story)
		pool     string   // that 192.0.2.3 belongs to then
		outside  []string // of pool p
		expelled bool     // is 192.0.2.3
	}{
		{"a held address stays with the pool that shrinks",
			func(s story) { s.SetPools([]Pool{half}) }, "p", []string{"192.0.2.3"}, false},
		{"it stays through further edits", func(s story) {
			s.SetPools([]Pool{half})
			s.SetPools([]Pool{{Name: "p", KeepOutside: true}})
			s.SetPools([]Pool{half})
		}, "p", []string{"192.0.2.3"}, false},
		{"it stays when its holder is looked at again, and when its terms change", func(s story) {
			s.SetPools([]Pool{half})
			s.hold(now, "a", Terms{}, "192.0.2.3")
			s.hold(now, "a", Terms{SharingKey: "k"}, "192.0.2.3", "192.0.2.1")
		}, "p", []string{"192.0.2.3"}, false},
		{"it is in range again when the pool grows back", func(s story) {
			s.SetPools([]Pool{half})
			s.SetPools([]Pool{whole})
			s.counts(now, Counts{Assigned4: 1, Available4: 3})
		}, "p", nil, false},
		{"it is not counted while it is outside", func(s story) {
			s.SetPools([]Pool{half})
			s.counts(now, Counts{Available4: 2})
		}, "p", []string{"192.0.2.3"}, false},
		{"given back, it is gone for good", func(s story) {
			s.SetPools([]Pool{half})
			s.Release("a", now)
			s.counts(now, Counts{Available4: 2})
			s.former(now, "a", "")
		}, "", nil, false},
		{"given back by one of two who share it, it stays", func(s story) {
			s.hold(now, "a", Terms{SharingKey: "k"}, "192.0.2.3")
			s.hold(now, "b", Terms{SharingKey: "k", Ports: []Port{{"TCP", 1}}}, "192.0.2.3")
			s.SetPools([]Pool{half})
			s.Release("a", now)
		}, "p", []string{"192.0.2.3"}, false},
		{"nobody joins one that is outside", func(s story) {
			s.hold(now, "a", Terms{SharingKey: "k"}, "192.0.2.3")
			s.SetPools([]Pool{half})
			if addr, ok := s.Shareable("p", false, "b", Terms{SharingKey: "k"}, false); ok {
				s.Errorf("%s can be joined", addr)
			}
		}, "p", []string{"192.0.2.3"}, false},
		{"a pool that has it moved expels it", func(s story) { s.SetPools([]Pool{moves}) }, "", nil, true},
		{"so it does when that is said later", func(s story) {
			s.SetPools([]Pool{half})
			s.SetPools([]Pool{moves})
		}, "", nil, true},
		{"expelled, it stays so when its holder is looked at again", func(s story) {
			s.SetPools([]Pool{moves})
			s.hold(now, "a", Terms{}, "192.0.2.3")
		}, "", nil, true},
		{"a deleted pool expels it", func(s story) { s.SetPools(nil) }, "", nil, true},
		{"another pool that contains it takes it over",
			func(s story) { s.SetPools([]Pool{half, other}) }, "q", nil, false},
		{"and keeps it from then on", func(s story) {
			s.SetPools([]Pool{half, other})
			s.SetPools([]Pool{whole})
			s.SetPools([]Pool{half})
		}, "p", []string{"192.0.2.3"}, false},
		{"deleted and back before anybody noticed: in range", func(s story) {
			s.SetPools(nil)
			s.SetPools([]Pool{whole})
		}, "p", nil, false},
	} {
		t.Run(test.story, func(t *testing.T) {
			a := withPools(whole)
			s := story{t, a}
			s.hold(now, "a", Terms{}, "192.0.2.3")
			test.tell(s)
			if name, _ := a.PoolOf(ip("192.0.2.3")); name != test.pool {
				t.Errorf("pool is %q, want %q", name, test.pool)
			}
			var outside []string
			for _, addr := range a.Outside("p") {
				outside = append(outside, addr.String())
			}
			if !slices.Equal(outside, test.outside) {
				t.Errorf("outside are %v, want %v", outside, test.outside)
			}
			if got := a.Expelled(ip("192.0.2.3")); got != test.expelled {
				t.Errorf("expelled is %v", got)
			}
		})
	}
}

// TestAdoptedAddressesStayWithTheirPool: pools were edited while nobody knew who
// holds what.
func TestAdoptedAddressesStayWithTheirPool(t *testing.T) {
	whole := Pool{Name: "p", Ranges: ranges("192.0.2.0/30"), KeepOutside: true}
	half := Pool{Name: "p", Ranges: ranges("192.0.2.0/31"), KeepOutside: true}
	moves := Pool{Name: "p", Ranges: ranges("192.0.2.0/31")}
	other := Pool{Name: "q", Ranges: ranges("192.0.2.2/31")}
	for _, test := range []struct {
		story    string
		pools    []Pool // at the adoption
		from     string // the pool that the holder's word names
		then     func(s story)
		pool     string // that 192.0.2.3 belongs to then
		known    string // where it is known to be from
		expelled bool
	}{
		{"the pool was not edited", []Pool{whole}, "p", nil, "p", "p", false},
		{"the pool has shrunk", []Pool{half}, "p", nil, "p", "p", false},
		{"it has shrunk, and has such addresses moved", []Pool{moves}, "p", nil, "", "p", true},
		{"another pool has taken the address over", []Pool{half, other}, "p", nil, "q", "q", false},
		{"the pool is gone: it may come back", nil, "p", nil, "", "p", false},
		{"it comes back, smaller", nil, "p", func(s story) { s.SetPools([]Pool{half}) }, "p", "p", false},
		{"it comes back, smaller, and has such addresses moved",
			nil, "p", func(s story) { s.SetPools([]Pool{moves}) }, "", "p", true},
		{"it is gone for good",
			nil, "p", func(s story) { s.SetPools([]Pool{other}); s.SetPools(nil) }, "", "q", true},
		{"to be moved, it stays when that is taken back",
			[]Pool{moves}, "p", func(s story) { s.SetPools([]Pool{half}) }, "p", "p", false},
		{"nobody knows where it is from", []Pool{half}, "", nil, "", "", false},
		{"given back, it is forgotten", []Pool{half}, "p", func(s story) {
			s.Release("a", now)
			s.hold(now, "a", Terms{}, "192.0.2.3")
		}, "", "", false},
		{"of two who share it, the first one's word counts",
			[]Pool{half, {Name: "q", KeepOutside: true}}, "p", func(s story) {
				key := Terms{SharingKey: "k", Ports: []Port{{"TCP", 1}}}
				err := s.Adopt("b", []netip.Addr{ip("192.0.2.3")}, key,
					map[netip.Addr]string{ip("192.0.2.3"): "q"}, now)
				if err != nil {
					s.Fatal(err)
				}
			}, "p", "p", false},
		{"of two who share it, only the second knows", []Pool{half}, "", func(s story) {
			key := Terms{SharingKey: "k", Ports: []Port{{"TCP", 1}}}
			err := s.Adopt("b", []netip.Addr{ip("192.0.2.3")}, key,
				map[netip.Addr]string{ip("192.0.2.3"): "p"}, now)
			if err != nil {
				s.Fatal(err)
			}
		}, "p", "p", false},
	} {
		t.Run(test.story, func(t *testing.T) {
			addr, from := ip("192.0.2.3"), map[netip.Addr]string{}
			if test.from != "" {
				from[addr] = test.from
			}
			a := withPools(test.pools...)
			if err := a.Adopt("a", []netip.Addr{addr}, Terms{SharingKey: "k"}, from, now); err != nil {
				t.Fatal(err)
			}
			if test.then != nil {
				test.then(story{t, a})
			}
			if name, _ := a.PoolOf(addr); name != test.pool {
				t.Errorf("pool is %q, want %q", name, test.pool)
			}
			if got := a.From(addr); got != test.known {
				t.Errorf("it is known to be from %q, want %q", got, test.known)
			}
			if got := a.Expelled(addr); got != test.expelled {
				t.Errorf("expelled is %v", got)
			}
			outside := test.pool == "p" && !a.pools["p"].contains(addr)
			if got := a.Outside("p"); slices.Contains(got, addr) != outside {
				t.Errorf("outside are %v", got)
			}
		})
	}
}

func TestAdoptionCountsForTheQuota(t *testing.T) {
	a := withPools(Pool{Name: "p", Ranges: ranges("192.0.2.0/31"), KeepOutside: true, Quota: 3})
	shared := func(port uint16) Terms {
		return Terms{SharingKey: "k", Group: "g", Ports: []Port{{"TCP", port}}}
	}
	from := map[netip.Addr]string{ip("192.0.2.3"): "p"}
	for i, names := range []map[netip.Addr]string{nil, from, from} {
		err := a.Adopt(Holder(fmt.Sprint("s", i)), []netip.Addr{ip("192.0.2.3")},
			shared(uint16(i+1)), names, now)
		if err != nil {
			t.Fatal(err)
		}
	}
	if used, _ := a.Used("p", "g", "me", nil); used != 1 {
		t.Errorf("the group uses %d", used)
	}
	for i := range 3 {
		a.Release(Holder(fmt.Sprint("s", i)), now)
	}
	if used, _ := a.Used("p", "g", "me", nil); used != 0 {
		t.Errorf("when all is given back the group uses %d", used)
	}
}

func TestOutsideRanges(t *testing.T) {
	for _, test := range []struct {
		story  string
		kept   []string // held outside of pool p
		others []string // held by somebody, of no pool
		most   int
		want   []string
	}{
		{"nothing is outside", nil, nil, 4, nil},
		{"neighbours are one range", []string{"192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.9"}, nil,
			4, []string{"192.0.2.3-192.0.2.5", "192.0.2.9-192.0.2.9"}},
		{"as many as there may be are exact", []string{"192.0.2.1", "192.0.2.5", "192.0.2.7"}, nil, 3,
			[]string{"192.0.2.1-192.0.2.1", "192.0.2.5-192.0.2.5", "192.0.2.7-192.0.2.7"}},
		{"of more, the closest are joined", []string{"192.0.2.1", "192.0.2.5", "192.0.2.7"}, nil,
			2, []string{"192.0.2.1-192.0.2.1", "192.0.2.5-192.0.2.7"}},
		{"but not across one that is another's",
			[]string{"192.0.2.1", "192.0.2.5", "192.0.2.7"}, []string{"192.0.2.6"}, 2,
			[]string{"192.0.2.1-192.0.2.5", "192.0.2.7-192.0.2.7"}},
		{"unless nothing else fits", []string{"192.0.2.1", "192.0.2.3", "192.0.2.5", "192.0.2.7"},
			[]string{"192.0.2.2", "192.0.2.4", "192.0.2.6"}, 2,
			[]string{"192.0.2.1-192.0.2.5", "192.0.2.7-192.0.2.7"}},
		{"families are not joined",
			[]string{"192.0.2.1", "192.0.2.9", "2001:db8::1", "2001:db8::ffff:1"}, nil, 2,
			[]string{"192.0.2.1-192.0.2.9", "2001:db8::1-2001:db8::ffff:1"}},
		{"the ends of the families do not touch",
			[]string{"255.255.255.255", "::"}, nil, 2, []string{"255.255.255.255-255.255.255.255", "::-::"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			a := withPools(Pool{Name: "p", KeepOutside: true})
			for _, addr := range test.kept {
				err := a.Adopt(Holder(addr), []netip.Addr{ip(addr)}, Terms{},
					map[netip.Addr]string{ip(addr): "p"}, now)
				if err != nil {
					t.Fatal(err)
				}
			}
			for _, addr := range test.others {
				story{t, a}.hold(now, Holder(addr), Terms{}, addr)
			}
			var got []string
			for _, r := range a.OutsideRanges("p", test.most) {
				got = append(got, r.String())
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// TestOutsideRangesContainEverything: however many there are and whoever else
// holds what, no address that a pool keeps is left out, and what is another's is
// only taken in when there is no other way.
func TestOutsideRangesContainEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := New()
		a.SetPools([]Pool{
			{Name: "p", KeepOutside: true},
			{Name: "q", KeepOutside: true},
			{Name: "r", Ranges: ranges("192.0.2.64/28")},
		})
		address := rapid.Custom(func(t *rapid.T) netip.Addr {
			families := []netip.Addr{ip("192.0.2.0"), ip("2001:db8::")}
			base := rapid.SampledFrom(families).Draw(t, "family").AsSlice()
			base[len(base)-1] = byte(rapid.IntRange(0, 127).Draw(t, "address"))
			addr, _ := netip.AddrFromSlice(base)
			return addr
		})
		for i, addr := range rapid.SliceOfNDistinct(address, 0, 60, rapid.ID).Draw(t, "addresses") {
			from := rapid.SampledFrom([]string{"p", "p", "p", "q", ""}).Draw(t, "from")
			err := a.Adopt(Holder(fmt.Sprint(i)), []netip.Addr{addr}, Terms{},
				map[netip.Addr]string{addr: from}, now)
			if err != nil {
				t.Fatal(err)
			}
		}
		most := rapid.IntRange(2, 12).Draw(t, "most")
		got, exact := a.OutsideRanges("p", most), a.OutsideRanges("p", 1000)
		if len(got) > most {
			t.Fatalf("%d ranges of at most %d", len(got), most)
		}
		if len(exact) <= most && !slices.Equal(got, exact) {
			t.Fatalf("got %v, though %v fit", got, exact)
		}
		in := func(addr netip.Addr) bool {
			return slices.ContainsFunc(got, func(r netipx.IPRange) bool { return r.Contains(addr) })
		}
		alien := 0 // gaps that another's address is in
		for i, r := range got {
			if i > 0 && !got[i-1].To().Less(r.From()) {
				t.Fatalf("not sorted: %v", got)
			}
		}
		for _, addr := range a.Outside("p") {
			if !in(addr) {
				t.Fatalf("%s is in none of %v", addr, got)
			}
		}
		for i := 1; i < len(exact); i++ {
			if exact[i-1].To().Is4() != exact[i].From().Is4() {
				alien++
				continue
			}
			for addr := exact[i-1].To().Next(); addr != exact[i].From(); addr = addr.Next() {
				if pool, _ := a.PoolOf(addr); len(a.Holders(addr)) > 0 && pool != "r" {
					alien++
					break
				}
			}
		}
		if alien+1 > most {
			return
		}
		for _, addr := range append(a.Outside("q"), a.unknown()...) {
			if in(addr) {
				t.Fatalf("%s is not of the pool, but in %v", addr, got)
			}
		}
	})
}

// unknown returns the held addresses of no pool.
func (a *Allocator) unknown() []netip.Addr {
	var out []netip.Addr
	for addr := range a.holders {
		if a.poolOf(addr) == nil {
			out = append(out, addr)
		}
	}
	return out
}

func TestAConflictChangesNothing(t *testing.T) {
	a := withPools(Pool{Name: "p", Ranges: ranges("192.0.2.0/29")})
	s := story{t, a}
	s.hold(now, "a", Terms{}, "192.0.2.1")
	s.hold(now, "b", Terms{}, "192.0.2.2")
	err := a.Assign("b", []netip.Addr{ip("192.0.2.3"), ip("192.0.2.1")}, Terms{}, now)
	var conflict *ConflictError
	const want = "192.0.2.1 is held by a: both must carry the same sharing key to share an address"
	if !errors.As(err, &conflict) || conflict.Error() != want {
		t.Errorf("err = %v", err)
	}
	if h, _ := a.Held("b"); !slices.Equal(h.Addresses, []netip.Addr{ip("192.0.2.2")}) {
		t.Errorf("b holds %v", h.Addresses)
	}
	s.counts(now, Counts{Assigned4: 2, Available4: 6})
}

func TestPoolsAndFamilies(t *testing.T) {
	a := withPools(Pool{Name: "b", Ranges: ranges("192.0.2.0/24")},
		Pool{Name: "a", Ranges: ranges("2001:db8::/64")}, Pool{Name: "empty"})
	if got := a.Pools(); !slices.Equal(got, []string{"a", "b", "empty"}) {
		t.Errorf("pools are %v", got)
	}
	for _, test := range []struct {
		pool      string
		four, six bool
	}{{"a", false, true}, {"b", true, false}, {"empty", false, false}, {"nowhere", false, false}} {
		if a.Has(test.pool, false) != test.four || a.Has(test.pool, true) != test.six {
			t.Errorf("pool %s has IPv4 %v, IPv6 %v",
				test.pool, a.Has(test.pool, false), a.Has(test.pool, true))
		}
	}
	if c := a.Counts("nowhere", now); c != (Counts{}) {
		t.Errorf("counts of no pool are %+v", c)
	}
}
