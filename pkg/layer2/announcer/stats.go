package announcer

import (
	"cmp"
	"slices"
	"sync/atomic"
)

// Counters count since the announcer was made.
type Counters struct {
	// Verdicts counts the received frames that passed the kernel's filter.
	Verdicts map[Verdict]uint64
	// Requests counts those of them that were good requests, whether for an
	// announced address or not, and whether answered or not.
	Requests uint64
	// Replies counts the answers that were sent.
	Replies uint64
	// Bursts counts the bursts that began, Refreshes the announcements after
	// bursts, and Defences those against foreign claims.
	Bursts, Refreshes, Defences uint64
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
	// Stalls counts how often this process was stalled and the announcer
	// suspended itself for it.
	Stalls uint64
}

// linkCounters are the live counters of one port key; they outlive the port.
type linkCounters struct {
	verdicts   [verdictCount]atomic.Uint64
	replies    atomic.Uint64
	bursts     atomic.Uint64
	refreshes  atomic.Uint64
	defences   atomic.Uint64
	gratuitous atomic.Uint64
	sendErrors atomic.Uint64
	opened     atomic.Uint64
	failures   atomic.Uint64
}

func (c *linkCounters) snapshot() Counters {
	out := Counters{
		Verdicts:   make(map[Verdict]uint64, verdictCount),
		Replies:    c.replies.Load(),
		Bursts:     c.bursts.Load(),
		Refreshes:  c.refreshes.Load(),
		Defences:   c.defences.Load(),
		Gratuitous: c.gratuitous.Load(),
		SendErrors: c.sendErrors.Load(),
		Opened:     c.opened.Load(),
		Failures:   c.failures.Load(),
	}
	for verdict := range c.verdicts {
		out.Verdicts[Verdict(verdict)] = c.verdicts[verdict].Load()
	}
	out.Requests = out.Verdicts[NotAnnounced] + out.Verdicts[Stalled] + out.Verdicts[Answered]
	return out
}

// count counts one announcement.
func (c *linkCounters) count(why occasion) {
	switch why {
	case burstBegins:
		c.bursts.Add(1)
	case refreshes:
		c.refreshes.Add(1)
	case defends:
		c.defences.Add(1)
	}
}

// Stats returns the counters as they are now. It may be called at any time.
func (a *Announcer) Stats() Stats {
	out := Stats{Stalls: a.guard.count()}
	a.mu.RLock()
	for key, c := range a.counters {
		out.Links = append(out.Links, LinkStats{
			Link:     key.link,
			Protocol: key.protocol.String(),
			Counters: c.snapshot(),
		})
	}
	a.mu.RUnlock()
	slices.SortFunc(out.Links, func(x, y LinkStats) int {
		return cmp.Or(cmp.Compare(x.Link, y.Link), cmp.Compare(x.Protocol, y.Protocol))
	})
	return out
}
