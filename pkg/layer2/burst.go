package layer2

import (
	"container/heap"
	"net/netip"
	"time"
)

// burstKey is one address on one port.
type burstKey struct {
	port portKey
	addr netip.Addr
}

// bursts are the announcements that are still to be sent, earliest first. It is
// pure: the caller has the clock.
type bursts struct {
	count    int
	interval time.Duration
	queue    burstQueue
	index    map[burstKey]*burst
}

// burst is the rest of one burst.
type burst struct {
	burstKey
	due      time.Time
	left     int
	position int
}

func newBursts(count int, interval time.Duration) *bursts {
	return &bursts{count: count, interval: interval, index: make(map[burstKey]*burst)}
}

// start schedules a whole burst with its first announcement now, in place of
// what is left of an earlier one.
func (b *bursts) start(key burstKey, now time.Time) {
	b.stop(key)
	item := &burst{burstKey: key, due: now, left: b.count}
	heap.Push(&b.queue, item)
	b.index[key] = item
}

// stop drops what is left of a burst.
func (b *bursts) stop(key burstKey) {
	if item, ok := b.index[key]; ok {
		heap.Remove(&b.queue, item.position)
		delete(b.index, key)
	}
}

// next returns when the earliest announcement is due, and false when none is left.
func (b *bursts) next() (time.Time, bool) {
	if len(b.queue) == 0 {
		return time.Time{}, false
	}
	return b.queue[0].due, true
}

// take returns the earliest announcement that is due and schedules the next one
// of its burst, an interval from now. First announcements of later bursts
// therefore come before repetitions of earlier ones, however many wait.
func (b *bursts) take(now time.Time) (burstKey, bool) {
	if len(b.queue) == 0 || b.queue[0].due.After(now) {
		return burstKey{}, false
	}
	item := b.queue[0]
	item.left--
	if item.left == 0 {
		heap.Pop(&b.queue)
		delete(b.index, item.burstKey)
		return item.burstKey, true
	}
	item.due = now.Add(b.interval)
	heap.Fix(&b.queue, 0)
	return item.burstKey, true
}

// burstQueue is a heap by due time, then by address so that the order is stated.
type burstQueue []*burst

func (q burstQueue) Len() int { return len(q) }

func (q burstQueue) Less(i, j int) bool {
	if !q[i].due.Equal(q[j].due) {
		return q[i].due.Before(q[j].due)
	}
	return q[i].addr.Less(q[j].addr)
}

func (q burstQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].position, q[j].position = i, j
}

// Push implements heap.Interface.
func (q *burstQueue) Push(x any) {
	item := x.(*burst)
	item.position = len(*q)
	*q = append(*q, item)
}

// Pop implements heap.Interface.
func (q *burstQueue) Pop() any {
	old := *q
	item := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return item
}
