package layer2

import (
	"cmp"
	"slices"
	"sync/atomic"
)

// Counters count since the announcer was made.
type Counters struct {
	// Verdicts counts the received frames that passed the kernel's filter.
	Verdicts map[Verdict]uint64
	// Gratuitous counts the frames that were sent unasked, to announce.
	Gratuitous uint64
	// SendErrors counts the replies and announcements that could not be sent.
	SendErrors uint64
	// Opened counts how often a socket was opened: more than once means that the
	// link came back, or was changed or made again.
	Opened uint64
	// Failures counts how often a socket could not be opened, read or configured.
	Failures uint64
}

// add adds o to c.
func (c *Counters) add(o Counters) {
	if c.Verdicts == nil {
		c.Verdicts = make(map[Verdict]uint64, verdictCount)
	}
	for verdict, n := range o.Verdicts {
		c.Verdicts[verdict] += n
	}
	c.Gratuitous += o.Gratuitous
	c.SendErrors += o.SendErrors
	c.Opened += o.Opened
	c.Failures += o.Failures
}

// LinkStats are the counters of one protocol on one link.
type LinkStats struct {
	// Link is the name of the link.
	Link string
	// Protocol is "arp" or "ndp".
	Protocol string
	Counters
}

// Stats are the counters of an announcer.
type Stats struct {
	// Links are sorted by name and protocol. A link that was used once stays.
	Links []LinkStats
	// Total is the sum over Links.
	Total Counters
}

// linkCounters are the live counters of one port key; they outlive the port.
type linkCounters struct {
	verdicts   [verdictCount]atomic.Uint64
	gratuitous atomic.Uint64
	sendErrors atomic.Uint64
	opened     atomic.Uint64
	failures   atomic.Uint64
}

func (c *linkCounters) snapshot() Counters {
	out := Counters{
		Verdicts:   make(map[Verdict]uint64, verdictCount),
		Gratuitous: c.gratuitous.Load(),
		SendErrors: c.sendErrors.Load(),
		Opened:     c.opened.Load(),
		Failures:   c.failures.Load(),
	}
	for verdict := range c.verdicts {
		out.Verdicts[Verdict(verdict)] = c.verdicts[verdict].Load()
	}
	return out
}

// Stats returns the counters as they are now. It may be called at any time.
func (a *Announcer) Stats() Stats {
	var out Stats
	a.mu.RLock()
	for key, c := range a.counters {
		out.Links = append(out.Links, LinkStats{Link: key.link, Protocol: key.protocol.String(), Counters: c.snapshot()})
	}
	a.mu.RUnlock()
	slices.SortFunc(out.Links, func(x, y LinkStats) int {
		return cmp.Or(cmp.Compare(x.Link, y.Link), cmp.Compare(x.Protocol, y.Protocol))
	})
	out.Total.add(Counters{})
	for _, l := range out.Links {
		out.Total.add(l.Counters)
	}
	return out
}
