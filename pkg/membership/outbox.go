package membership

// ref names a statement; what it says is looked up when it is sent, so it is
// always the newest.
type ref struct{ member, key string }

// outbox holds what is to be gossiped: each statement a number of times, those
// sent the fewest times first. It does what memberlist.TransmitLimitedQueue does,
// but for statements that share a message, whose size depends on their
// neighbours in it.
type outbox struct {
	// tiers are the statements by how often they were sent, in order of arrival.
	tiers [][]queued
	// latest tells which one of several for the same statement counts.
	latest map[ref]uint64
	number uint64
}

type queued struct {
	ref
	number uint64
}

// add queues a statement from the beginning, instead of an older one.
func (o *outbox) add(r ref) {
	if o.latest == nil {
		o.latest = make(map[ref]uint64)
	}
	o.number++
	o.latest[r] = o.number
	o.push(0, queued{r, o.number})
}

// push appends to a tier. What is said over and over, or with nobody to send to,
// would pile up: when most of a tier is out of date, it is cleaned.
func (o *outbox) push(tier int, q queued) {
	if tier == len(o.tiers) {
		o.tiers = append(o.tiers, nil)
	}
	o.tiers[tier] = append(o.tiers[tier], q)
	if len(o.tiers[tier]) > 2*len(o.latest)+64 {
		o.tiers[tier] = o.compact(o.tiers[tier])
	}
}

func (o *outbox) compact(tier []queued) []queued {
	kept := make([]queued, 0, len(o.latest))
	for _, q := range tier {
		if o.latest[q.ref] == q.number {
			kept = append(kept, q)
		}
	}
	return kept
}

// placing is what became of a statement offered for a message.
type placing int

const (
	placed   placing = iota
	full             // it does not fit
	vanished         // there is no such statement any more
)

// fill offers statements until one does not fit. Those placed count as sent once
// more, and after the given number of times they are done.
func (o *outbox) fill(times int, place func(ref) placing) {
	// What was sent goes up a tier only in the end, not to be offered twice.
	sent := make([][]queued, len(o.tiers))
offers:
	for t := range o.tiers {
		for len(o.tiers[t]) > 0 {
			q := o.tiers[t][0]
			if o.latest[q.ref] == q.number {
				switch place(q.ref) {
				case full:
					break offers
				case vanished:
					delete(o.latest, q.ref)
				case placed:
					sent[t] = append(sent[t], q)
				}
			}
			o.tiers[t] = o.tiers[t][1:]
		}
		o.tiers[t] = nil
	}
	for t, list := range sent {
		for _, q := range list {
			if t+1 >= times {
				delete(o.latest, q.ref)
				continue
			}
			o.push(t+1, q)
		}
	}
}
