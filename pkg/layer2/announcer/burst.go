package announcer

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
	// beginning are bursts of which nothing was sent, running those that are not
	// over, both earliest first; resting are those that are, by the time of their
	// next refresh.
	beginning, running, resting burstQueue
	defences                    []burstKey
	index                       map[burstKey]*burst
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
	b.enqueue(&b.beginning, &burst{burstKey: key, policy: policy, due: now})
}

// adjust gives what is left of a burst another policy.
func (b *bursts) adjust(key burstKey, policy Policy, now time.Time) {
	item, ok := b.index[key]
	if !ok {
		// It was over and never to be refreshed.
		item = &burst{burstKey: key, sent: policy.Count}
	}
	queue := item.queue
	b.stop(key)
	item.policy = policy
	if queue == &b.beginning || queue == &b.running && item.sent < policy.Count {
		b.enqueue(queue, item)
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
	if len(b.defences) > 0 {
		return time.Time{}, true
	}
	var earliest time.Time
	found := false
	for _, q := range []burstQueue{b.beginning, b.running, b.resting} {
		if len(q) > 0 && (!found || q[0].due.Before(earliest)) {
			earliest, found = q[0].due, true
		}
	}
	return earliest, found
}

// peek returns what take would return next, and false when nothing is due. Defences go
// first: there is at most one in ten seconds for an address. First announcements
// come before repetitions, however many of these wait, and refreshes go last.
func (b *bursts) peek(now time.Time) (occasion, bool) {
	isDue := func(q burstQueue) bool { return len(q) > 0 && !q[0].due.After(now) }
	switch {
	case len(b.defences) > 0:
		return defends, true
	case isDue(b.beginning):
		return burstBegins, true
	case isDue(b.running):
		return burstRepeats, true
	case isDue(b.resting):
		return refreshes, true
	}
	return 0, false
}

// take returns the announcement that is due and goes first, and schedules the
// next one of its kind.
func (b *bursts) take(now time.Time) (burstKey, bool) {
	why, ok := b.peek(now)
	if !ok {
		return burstKey{}, false
	}
	var item *burst
	switch why {
	case defends:
		key := b.defences[0]
		b.defences = b.defences[1:]
		return key, true
	case refreshes:
		item = b.resting[0]
		item.due = now.Add(b.jitter(item.policy.Refresh))
		heap.Fix(&b.resting, 0)
		return item.burstKey, true
	case burstBegins:
		item = b.beginning[0]
	default:
		item = b.running[0]
	}
	b.stop(item.burstKey)
	item.sent++
	if item.sent < item.policy.Count {
		item.due = now.Add(item.policy.Interval)
		b.enqueue(&b.running, item)
	} else {
		b.rest(item, now)
	}
	return item.burstKey, true
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
