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

// occasion is why an address is announced unasked.
type occasion uint8

const (
	burstBegins occasion = iota
	burstRepeats
	refreshes
	defends
)

// bursts are the announcements that are still to be sent. It is pure: the caller
// has the clock and the dice.
type bursts struct {
	// jitter shifts the time of a refresh.
	jitter func(time.Duration) time.Duration
	// running are bursts that are not over, earliest first; resting are those
	// that are, by the time of their next refresh.
	running, resting burstQueue
	defences         []burstKey
	index            map[burstKey]*burst
}

// burst is the rest of one burst, and then its refreshes.
type burst struct {
	burstKey
	policy   Policy
	due      time.Time
	sent     int
	queue    *burstQueue
	position int
}

func newBursts(jitter func(time.Duration) time.Duration) *bursts {
	return &bursts{jitter: jitter, index: make(map[burstKey]*burst)}
}

// start schedules a whole burst with its first announcement now, in place of
// what is left of an earlier one.
func (b *bursts) start(key burstKey, policy Policy, now time.Time) {
	b.stop(key)
	b.enqueue(&b.running, &burst{burstKey: key, policy: policy, due: now})
}

// adjust gives what is left of a burst another policy.
func (b *bursts) adjust(key burstKey, policy Policy, now time.Time) {
	item, ok := b.index[key]
	if !ok {
		// It was over and never to be refreshed.
		item = &burst{burstKey: key, sent: policy.Count}
	}
	b.stop(key)
	item.policy = policy
	if item.sent == 0 || item.queue == &b.running && item.sent < policy.Count {
		b.enqueue(&b.running, item)
		return
	}
	b.rest(item, now)
}

// defend schedules one announcement at once, beside the burst.
func (b *bursts) defend(key burstKey) { b.defences = append(b.defences, key) }

// stop drops what is left of a burst, and its refreshes.
func (b *bursts) stop(key burstKey) {
	if item, ok := b.index[key]; ok {
		heap.Remove(item.queue, item.position)
		delete(b.index, key)
	}
}

// next returns when the earliest announcement is due, and false when none is left.
func (b *bursts) next() (time.Time, bool) {
	switch {
	case len(b.defences) > 0:
		return time.Time{}, true
	case len(b.running) == 0 && len(b.resting) == 0:
		return time.Time{}, false
	case len(b.running) == 0:
		return b.resting[0].due, true
	case len(b.resting) == 0 || b.running[0].due.Before(b.resting[0].due):
		return b.running[0].due, true
	default:
		return b.resting[0].due, true
	}
}

// take returns the announcement that is due and goes first, and schedules the
// next one of its kind. Defences go first: there is at most one in ten seconds
// for an address. First announcements of later bursts come before repetitions of
// earlier ones, however many wait, for a repetition is due an interval after the
// last was sent. Refreshes go last.
func (b *bursts) take(now time.Time) (burstKey, occasion, bool) {
	if len(b.defences) > 0 {
		key := b.defences[0]
		b.defences = b.defences[1:]
		return key, defends, true
	}
	if len(b.running) > 0 && !b.running[0].due.After(now) {
		item := b.running[0]
		why := burstRepeats
		if item.sent == 0 {
			why = burstBegins
		}
		item.sent++
		if item.sent < item.policy.Count {
			item.due = now.Add(item.policy.Interval)
			heap.Fix(&b.running, 0)
			return item.burstKey, why, true
		}
		b.stop(item.burstKey)
		b.rest(item, now)
		return item.burstKey, why, true
	}
	if len(b.resting) > 0 && !b.resting[0].due.After(now) {
		item := b.resting[0]
		item.due = now.Add(b.jitter(item.policy.Refresh))
		heap.Fix(&b.resting, 0)
		return item.burstKey, refreshes, true
	}
	return burstKey{}, 0, false
}

// rest schedules the first refresh of a burst that is over and in no queue.
func (b *bursts) rest(item *burst, now time.Time) {
	if item.policy.Refresh > 0 {
		item.due = now.Add(b.jitter(item.policy.Refresh))
		b.enqueue(&b.resting, item)
	}
}

func (b *bursts) enqueue(queue *burstQueue, item *burst) {
	item.queue = queue
	heap.Push(queue, item)
	b.index[item.burstKey] = item
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
