package announcer

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

func TestBursts(t *testing.T) {
	key := func(n byte) burstKey {
		return burstKey{portKey{neighbor.ARP, "eth0"}, netip.AddrFrom4([4]byte{192, 0, 2, n})}
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	after := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	drain := func(b *bursts, now time.Time) (out []byte) {
		for {
			k, ok := b.take(now)
			if !ok {
				return out
			}
			out = append(out, k.addr.As4()[3])
		}
	}
	b := newBursts(jitter)
	policy := Policy{Count: 3, Interval: 100 * time.Millisecond, Refresh: -1}
	expect := func(story string, ms int, want ...byte) {
		t.Helper()
		if got := drain(b, after(ms)); !slices.Equal(got, want) {
			t.Errorf("%s: at %d ms %v, want %v", story, ms, got, want)
		}
	}
	expect("nothing was started", 0)
	b.start(key(2), policy, start)
	b.start(key(1), policy, start)
	expect("both at once, in order of address", 0, 1, 2)
	expect("too early for the second", 99)
	b.start(key(3), policy, after(100))
	expect("first of the third, then second of both", 100, 3, 1, 2)
	b.stop(key(2))
	b.stop(key(9))
	expect("the withdrawn one is not repeated", 200, 1, 3)
	b.start(key(3), policy, after(250))
	expect("announced again from the start", 250, 3)
	expect("one is done, a late look does not send twice", 1000, 3)
	expect("last", 1100, 3)
	expect("all done", 5000)
	if due, ok := b.next(); ok {
		t.Errorf("next is %s", due)
	}
}
