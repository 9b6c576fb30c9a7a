package allocator

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// slots is an oracle for 256 addresses that is fast enough for millions of
// operations: arrays, searched from the beginning.
type slots struct {
	pool   string
	first  netip.Addr
	delay  int64 // seconds that a freed address rests
	avoid  bool  // the first and the last are kept back
	owner  [256]int
	until  [256]int64
	former [256]int
	addrs  [256]netip.Addr
}

const nobody = -1

func newSlots(pool, first string, delay int64, avoid bool) *slots {
	s := &slots{pool: pool, first: ip(first), delay: delay, avoid: avoid}
	for i, addr := 0, s.first; i < 256; i, addr = i+1, addr.Next() {
		s.owner[i], s.former[i], s.addrs[i] = nobody, nobody, addr
	}
	return s
}

func (s *slots) keptBack(i int) bool { return s.avoid && (i == 0 || i == 255) }

func (s *slots) lowest(now int64) int {
	for i := range s.owner {
		if s.owner[i] == nobody && s.until[i] <= now && !s.keptBack(i) {
			return i
		}
	}
	return nobody
}

func (s *slots) formerOf(holder int, now int64) int {
	for i := range s.owner {
		if s.owner[i] == nobody && s.until[i] > now && s.former[i] == holder {
			return i
		}
	}
	return nobody
}

func (s *slots) free(i int, now int64) {
	if s.delay > 0 && !s.keptBack(i) {
		s.until[i], s.former[i] = now+s.delay, s.owner[i]
	}
	s.owner[i] = nobody
}

func (s *slots) counts(now int64) (c Counts) {
	for i := range s.owner {
		switch {
		case s.owner[i] != nobody:
			c.Assigned4++
		case s.keptBack(i):
			c.KeptBack4++
		case s.until[i] > now:
			c.Resting4++
		default:
			c.Available4++
		}
	}
	if s.first.Is6() {
		c.Assigned6, c.Resting6, c.Available6 = c.Assigned4, c.Resting4, c.Available4
		c.Assigned4, c.Resting4, c.Available4 = 0, 0, 0
	}
	return c
}

// TestAMillionOperations compares every answer of an allocator that is nearly
// full most of the time with what arrays say.
func TestAMillionOperations(t *testing.T) {
	operations := 4_000_000
	if testing.Short() || raceEnabled {
		operations = 300_000
	}
	const seed = 20
	rnd := rand.New(rand.NewPCG(seed, seed))
	a := withPools(
		Pool{Name: "four", Ranges: ranges("192.0.2.0/24")},
		Pool{Name: "six", Ranges: ranges("2001:db8::/120")},
		Pool{
			Name:       "rests",
			Ranges:     ranges("198.51.100.0/24"),
			ReuseDelay: 500 * time.Second,
			AvoidBuggy: true,
		},
	)
	blocks := []*slots{
		newSlots("four", "192.0.2.0", 0, false),
		newSlots("six", "2001:db8::", 0, false),
		newSlots("rests", "198.51.100.0", 500, true),
	}
	var names [3 * 270]Holder
	var block, slot [len(names)]int // what each holds
	for i := range names {
		names[i], block[i] = Holder(fmt.Sprint("s", i)), nobody
	}
	drop := func(h int, now int64) {
		if block[h] != nobody {
			blocks[block[h]].free(slot[h], now)
			block[h] = nobody
		}
	}
	take := func(h, b, i int, now int64) {
		drop(h, now)
		s := blocks[b]
		s.owner[i], s.until[i], s.former[i], block[h], slot[h] = h, 0, nobody, b, i
	}
	start := now
	for n := range operations {
		seconds := int64(n)
		at := start.Add(time.Duration(seconds) * time.Second)
		h, b := rnd.IntN(len(names)), rnd.IntN(len(blocks))
		s, is6 := blocks[b], blocks[b].first.Is6()
		switch roll := rnd.IntN(100); {
		case roll < 60: // the lowest, or the one it had
			want := s.formerOf(h, seconds)
			got, ok := a.Former(s.pool, is6, names[h], at)
			lowest, lowestOK := a.Lowest(s.pool, is6, at)
			if want == nobody {
				want, got, ok = s.lowest(seconds), lowest, lowestOK
			}
			if ok != (want != nobody) || ok && got != s.addrs[want] {
				t.Fatalf("operation %d: %s of %s gets %v %v, want number %d",
					n, names[h], s.pool, got, ok, want)
			}
			if !ok {
				continue
			}
			if err := a.Assign(names[h], []netip.Addr{got}, Terms{}, at); err != nil {
				t.Fatalf("operation %d: %v", n, err)
			}
			take(h, b, want, seconds)
		case roll < 75: // one by name, resting, kept back or not
			i := rnd.IntN(256)
			err := a.Assign(names[h], []netip.Addr{s.addrs[i]}, Terms{}, at)
			if legal := s.owner[i] == nobody || s.owner[i] == h; legal != (err == nil) {
				t.Fatalf("operation %d: %s asks for %s: %v, legal is %v", n, names[h], s.addrs[i], err, legal)
			}
			if err == nil {
				take(h, b, i, seconds)
			}
		default:
			freed := a.Release(names[h], at)
			if (len(freed) > 0) != (block[h] != nobody) {
				t.Fatalf("operation %d: %s gives back %v", n, names[h], freed)
			}
			drop(h, seconds)
		}
		if n%64 == 0 {
			if got, want := a.Counts(s.pool, at), s.counts(seconds); got != want {
				t.Fatalf("operation %d: counts of %s are %+v, want %+v", n, s.pool, got, want)
			}
		}
	}
}
