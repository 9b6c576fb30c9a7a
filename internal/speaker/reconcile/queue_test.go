package reconcile

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// addrs are addresses of tests.
func addrs(n int) []netip.Addr {
	var out []netip.Addr
	for i := range n {
		out = append(out, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	return out
}

func TestQueue(t *testing.T) {
	q := NewQueue()
	a := addrs(6)
	takes := func(want ...netip.Addr) {
		t.Helper()
		if got := q.take(3); !slices.Equal(got, want) {
			t.Errorf("took %v, want %v", got, want)
		}
	}
	takes()
	q.Requeue(a[1])
	q.Requeue(a[0])
	q.Requeue(a[1])
	<-q.news.C()
	takes(a[0], a[1])
	takes()

	if q.takeAll() {
		t.Error("nobody requeued all")
	}
	q.RequeueAll()
	q.RequeueAll()
	<-q.news.C()
	if !q.takeAll() || q.takeAll() {
		t.Error("all are requeued once")
	}
	// What changes meanwhile comes before the rest, whose order stays.
	q.begin([]netip.Addr{a[5], a[4], a[3], a[2], a[1], a[0]})
	takes(a[5], a[4], a[3])
	q.Requeue(a[5])
	takes(a[5], a[2], a[1])
	// One that waits already is not put off when all begin again.
	q.begin(q.backlogFirst([]netip.Addr{a[1], a[2], a[3], a[0]}))
	takes(a[0], a[1], a[2])
	q.begin(q.backlogFirst([]netip.Addr{a[1], a[2]})) // a[3] is gone
	takes(a[1], a[2])
	takes()
}

// TestAddressIsReconciledAtTheEarlierTime: an address that is to be reconciled twice
// later is so once, at the earlier time.
func TestAddressIsReconciledAtTheEarlierTime(t *testing.T) {
	for _, waits := range [][]time.Duration{
		{time.Second},
		{time.Second, time.Minute},
		{time.Minute, time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			q := NewQueue()
			a := addrs(1)[0]
			for _, wait := range waits {
				q.RequeueAfter(a, wait)
			}
			time.Sleep(time.Second - 1)
			if got := q.take(1); len(got) > 0 {
				t.Error("it is reconciled too early")
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			if got := q.take(1); len(got) != 1 {
				t.Error("it is not reconciled in time")
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			if got := q.take(1); len(got) > 0 {
				t.Error("it is reconciled twice")
			}
		})
	}
}

// TestSweeps: a sweep has ended only when every address has been reconciled since it was
// asked for, and it ends however often all are requeued meanwhile.
func TestSweeps(t *testing.T) {
	all := addrs(9)
	rapid.Check(t, func(t *rapid.T) {
		q := NewQueue()
		reconciled := map[netip.Addr]int{} // when, by a clock of steps
		asked := []int{0}                  // when each sweep was asked for
		present := all
		part := func(clock int) {
			if q.takeAll() {
				q.begin(q.backlogFirst(present))
			}
			next := q.take(2)
			for _, addr := range next {
				reconciled[addr] = clock
			}
			q.done(next)
		}
		check := func(clock int) {
			for _, addr := range present {
				if n := q.Swept(); reconciled[addr] < asked[n] {
					t.Fatalf("at %d, sweep %d of %d has ended and %s was reconciled at %d",
						clock, n, asked[n], addr, reconciled[addr])
				}
			}
		}
		clock := 0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			clock++
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 5: // it has been reconciled past the queue, and nothing is left of it
				gone := rapid.SampledFrom(all).Draw(t, "gone")
				present = slices.DeleteFunc(slices.Clone(present), func(a netip.Addr) bool {
					return a == gone
				})
			case 0:
				if n := q.RequeueAll(); int(n) != len(asked) {
					t.Fatalf("sweep %d follows %d", n, len(asked)-1)
				}
				asked = append(asked, clock)
			case 1:
				q.Requeue(rapid.SampledFrom(all).Draw(t, "address"))
			default:
				part(clock)
			}
			check(clock)
		}
		wanted := q.RequeueAll()
		asked = append(asked, clock)
		for range 2 * len(all) {
			clock++
			asked = append(asked, clock)
			q.RequeueAll() // all the time
			part(clock)
			check(clock)
		}
		if q.Swept() < wanted {
			t.Fatalf("sweep %d never ends, only %d", wanted, q.Swept())
		}
	})
}

// TestSweepDoesNotWaitForWhatIsGone: an address that was reconciled past the queue, and of
// which nothing is left, is not taken when all begin again. A sweep that waited for it
// would never end, and BGP peers would be told nothing any more.
func TestSweepDoesNotWaitForWhatIsGone(t *testing.T) {
	q := NewQueue()
	a := addrs(3)
	wanted := q.RequeueAll()
	q.takeAll()
	q.begin(a)
	q.done(q.take(1))
	q.RequeueAll()
	q.takeAll()
	q.begin(q.backlogFirst(a[:2])) // the last is gone
	for next := q.take(1); len(next) > 0; next = q.take(1) {
		q.done(next)
	}
	if q.Swept() < wanted {
		t.Error("the sweep never ends")
	}
}

// TestSweepOfNothingEnds, and says so.
func TestSweepOfNothingEnds(t *testing.T) {
	q := NewQueue()
	wanted := q.RequeueAll()
	if !q.takeAll() || q.Swept() == wanted {
		t.Fatal("it has ended before it began")
	}
	q.begin(nil)
	<-q.SweepEnded()
	if q.Swept() != wanted {
		t.Errorf("sweep %d has ended, not %d", q.Swept(), wanted)
	}
}
