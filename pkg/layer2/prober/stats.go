package prober

import (
	"cmp"
	"slices"
	"sync/atomic"
)

// Counters count since the prober was made.
type Counters struct {
	// Probes counts the probes of targets that were sent.
	Probes uint64
	// Answers counts the answers of targets. There may be more than probes: what
	// a target answers to the kernel of this node proves as much.
	Answers uint64
	// Misses counts the probes that were not answered in time.
	Misses uint64
	// Unsent counts the probes and questions that could not be sent.
	Unsent uint64
	// Asks counts the questions of Ask, Questions the frames sent for them.
	Asks, Questions uint64
	// Malformed counts the received frames that were not understood.
	Malformed uint64
	// Lost counts the frames that the kernel dropped because they were not read
	// soon enough.
	Lost uint64
	// Opened counts how often a socket was opened.
	Opened uint64
	// Failures counts how often a socket could not be opened, or failed later.
	Failures uint64
}

// LinkStats are the counters of one protocol on one link.
type LinkStats struct {
	// Link is the name of the link.
	Link string
	// Protocol is "arp" or "ndp".
	Protocol string
	Counters
}

// Stats are the counters of a prober.
type Stats struct {
	// Links are sorted by name and protocol. A link that was used once stays.
	Links []LinkStats
}

// counters are the live counters; they outlive the sockets.
type counters struct {
	probes, answers, misses, unsent   atomic.Uint64
	asks, questions                   atomic.Uint64
	malformed, lost, opened, failures atomic.Uint64
}

func (c *counters) snapshot() Counters {
	return Counters{
		Probes:    c.probes.Load(),
		Answers:   c.answers.Load(),
		Misses:    c.misses.Load(),
		Unsent:    c.unsent.Load(),
		Asks:      c.asks.Load(),
		Questions: c.questions.Load(),
		Malformed: c.malformed.Load(),
		Lost:      c.lost.Load(),
		Opened:    c.opened.Load(),
		Failures:  c.failures.Load(),
	}
}

// Stats returns the counters as they are now. It may be called at any time.
func (p *Prober) Stats() Stats {
	var out Stats
	p.mu.Lock()
	for key, c := range p.counters {
		out.Links = append(out.Links, LinkStats{key.link, key.protocol.String(), c.snapshot()})
	}
	p.mu.Unlock()
	slices.SortFunc(out.Links, func(x, y LinkStats) int {
		return cmp.Or(cmp.Compare(x.Link, y.Link), cmp.Compare(x.Protocol, y.Protocol))
	})
	return out
}

// counterLocked returns the counters of a key, made on first use.
func (p *Prober) counterLocked(key portKey) *counters {
	c := p.counters[key]
	if c == nil {
		c = new(counters)
		p.counters[key] = c
	}
	return c
}
