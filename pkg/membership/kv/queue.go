package kv

// Ref names an entry; its value is looked up when it is sent, so it is always the
// newest.
type Ref struct{ Member, Key string }

// BroadcastQueue holds what is to be gossiped: each entry a number of times, those sent
// the fewest times first. It does what memberlist.TransmitLimitedQueue does, but for
// entries that share a message, whose size depends on their neighbours in it. The zero
// value is an empty queue.
type BroadcastQueue struct {
	// tiers are the entries by how often they were sent, in order of arrival.
	tiers [][]queued
	// latest says which of several for the same entry counts.
	latest map[Ref]uint64
	number uint64
}

type queued struct {
	Ref
	number uint64
}

// Add queues an entry from the beginning, in place of an earlier one for the same key.
func (q *BroadcastQueue) Add(r Ref) {
	if q.latest == nil {
		q.latest = make(map[Ref]uint64)
	}
	q.number++
	q.latest[r] = q.number
	q.push(0, queued{r, q.number})
}

// Empty reports whether there is nothing to send.
func (q *BroadcastQueue) Empty() bool { return len(q.latest) == 0 }

// Of returns the keys of a member that are queued, in no order.
func (q *BroadcastQueue) Of(member string) []string {
	var keys []string
	for r := range q.latest {
		if r.Member == member {
			keys = append(keys, r.Key)
		}
	}
	return keys
}

// push appends to a tier. Entries that are written over and over, or with nobody to send
// to, would pile up: when most of a tier is out of date, it is cleaned.
func (q *BroadcastQueue) push(tier int, x queued) {
	if tier == len(q.tiers) {
		q.tiers = append(q.tiers, nil)
	}
	q.tiers[tier] = append(q.tiers[tier], x)
	if len(q.tiers[tier]) > 2*len(q.latest)+64 {
		q.tiers[tier] = q.compact(q.tiers[tier])
	}
}

func (q *BroadcastQueue) compact(tier []queued) []queued {
	current := make([]queued, 0, len(q.latest))
	for _, x := range tier {
		if q.latest[x.Ref] == x.number {
			current = append(current, x)
		}
	}
	return current
}

// Placement is what became of an entry offered for a message.
type Placement int

// The placements.
const (
	// Placed is an entry that is in the message.
	Placed Placement = iota
	// Full: it does not fit.
	Full
	// Vanished: there is no longer such an entry.
	Vanished
)

// Fill offers entries until one does not fit. Those placed count as sent once more, and
// after the given number of times they are done.
func (q *BroadcastQueue) Fill(times int, place func(Ref) Placement) {
	// An entry that was sent goes up a tier only in the end, so that it is not offered
	// twice.
	sent := make([][]queued, len(q.tiers))
offers:
	for t := range q.tiers {
		for len(q.tiers[t]) > 0 {
			x := q.tiers[t][0]
			if q.latest[x.Ref] == x.number {
				switch place(x.Ref) {
				case Full:
					break offers
				case Vanished:
					delete(q.latest, x.Ref)
				case Placed:
					sent[t] = append(sent[t], x)
				}
			}
			q.tiers[t] = q.tiers[t][1:]
		}
		q.tiers[t] = nil
	}
	for t, list := range sent {
		for _, x := range list {
			if t+1 >= times {
				delete(q.latest, x.Ref)
				continue
			}
			q.push(t+1, x)
		}
	}
}
