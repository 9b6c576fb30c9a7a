package watch

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// A Probe is one datagram. Sent and Answered count from the start of the Traffic; Answered is 0 while there
// is no answer.
type Probe struct{ Sent, Answered time.Duration }

// lateAfter is how long after it was sent a probe counts as lost, even if an answer comes. A kernel that
// looks for a neighbour keeps what is to be sent there, and sends it all when it has found one; for whoever
// waits, that is too late.
const lateAfter = 250 * time.Millisecond

// An Outage is what one address lost in a time.
type Outage struct {
	// Longest is how long the address was not to be reached: the time between two probes in a row that were
	// answered, less the interval at which probes are sent. It is 0 when nothing was lost.
	Longest time.Duration
	// Lost and Sent count probes. Late are those of the lost ones that were answered after all.
	Lost, Late, Sent int
	// Dropped is as Longest, but what is answered late counts as answered. It tells what the network lost
	// from what hosts did that had no processor.
	Dropped time.Duration
	// Last is how long after the beginning the last lost probe was sent. Where one of several ways is dead,
	// some probes are answered all the time, and this tells when the way was given up.
	Last time.Duration
	// Pause is the longest time between two probes in a row. When it is much more than the interval, the
	// sender did not get to it, and what was lost meanwhile is not known.
	Pause time.Duration
	// Slowest is the longest time until an answer.
	Slowest time.Duration
}

// OutageOf judges the probes sent from from on and before to, in the order in which they were sent. The last
// answered one before from is where the first outage may begin. An outage that has not ended by to is as long
// as it has lasted then.
func OutageOf(probes []Probe, from, to, interval time.Duration) Outage {
	var out Outage
	lost, dropped := spell{from: from, interval: interval}, spell{from: from, interval: interval}
	before := from
	for _, p := range probes {
		if p.Sent >= to {
			break
		}
		answered := p.Answered > 0
		good := answered && p.Answered-p.Sent <= lateAfter
		lost.next(p.Sent, good)
		dropped.next(p.Sent, answered)
		if p.Sent < from {
			continue
		}
		out.Sent++
		out.Pause = max(out.Pause, p.Sent-before)
		out.Slowest = max(out.Slowest, p.Answered-p.Sent)
		before = p.Sent
		if !good {
			out.Lost++
			out.Last = p.Sent - from
		}
		if answered && !good {
			out.Late++
		}
	}
	out.Longest, out.Dropped = lost.end(to), dropped.end(to)
	return out
}

// A spell finds the longest time without a good probe.
type spell struct {
	from, interval time.Duration
	// whether there was a good probe, or the time from which on it counts; whether the last was missed
	known, missed bool
	lastGood      time.Duration
	longest       time.Duration
}

func (s *spell) next(sent time.Duration, good bool) {
	inside := sent >= s.from
	switch {
	case good:
		if inside {
			s.end(sent)
		}
		s.known, s.missed, s.lastGood = true, false, sent
	case inside:
		if !s.known { // never good before
			s.known, s.lastGood = true, s.from
		}
		s.missed = true
	}
}

// end tells the longest when the one that goes on, if one does, ends at that time.
func (s *spell) end(at time.Duration) time.Duration {
	if s.missed && s.known {
		s.longest = max(s.longest, at-s.lastGood-s.interval)
	}
	return s.longest
}

// A Summary describes many durations. The percentiles are by nearest rank: each is a value that occurred.
type Summary struct {
	Count                 int
	Min, Median, P99, Max time.Duration
}

// SummaryOf summarises values, whose order does not matter.
func SummaryOf(values []time.Duration) Summary {
	if len(values) == 0 {
		return Summary{}
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := func(share float64) time.Duration {
		return sorted[max(0, int(math.Ceil(share*float64(len(sorted))))-1)]
	}
	return Summary{len(sorted), sorted[0], rank(0.5), rank(0.99), sorted[len(sorted)-1]}
}

func (s Summary) String() string {
	return fmt.Sprintf("min %d, median %d, p99 %d, max %d ms (of %d)",
		s.Min.Milliseconds(), s.Median.Milliseconds(), s.P99.Milliseconds(), s.Max.Milliseconds(), s.Count)
}
