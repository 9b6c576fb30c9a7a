package presence

import (
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
)

// RenewalTrust is how long a renewal seen proves that its writer works.
const RenewalTrust = 20 * time.Second

// contactReturns is how long a speaker whose contact was lost gives all others to be
// heard again, once it is back: to be joined, or to renew their Speaker objects.
const contactReturns = RenewalTrust

// Where contact was lost for less than contactBlip, perhaps because one answer was
// late, blipReturns is enough: membership joins those that it has lost meanwhile.
const (
	contactBlip = 3 * time.Second
	blipReturns = 6 * time.Second
)

// Contact is one connection to the rest of the cluster, and when it was last known to
// work.
type Contact struct {
	// Last is when it was found to work last. Trusted is the same, but for the time
	// after it was lost: then what comes by it is not complete yet.
	Last, Trusted time.Time
	// lost is since when it does not work, zero while it does; back since when it
	// works again.
	lost, back time.Time
}

// Working returns a contact that works and has not been lost.
func Working(now time.Time) Contact { return Contact{Last: now, Trusted: now} }

// Note returns the contact after it was found to work or not.
func (c Contact) Note(works bool, now time.Time) Contact {
	if !works {
		c.back = time.Time{}
		if c.lost.IsZero() {
			c.lost = now
		}
		return c
	}
	c.Last = now
	if c.back.IsZero() {
		c.back = now
	}
	grace := contactReturns
	if c.back.Sub(c.lost) < contactBlip {
		grace = blipReturns
	}
	if c.lost.IsZero() || now.Sub(c.back) >= grace {
		return Working(now)
	}
	return c
}

// Doubt is how badly a speaker needs to know whether it is itself that hears nothing.
type Doubt int

const (
	// NoDoubt: all members are heard, or their nodes are dead.
	NoDoubt Doubt = iota
	// LastingDoubt: some are not heard, and that is nothing new.
	LastingDoubt
	// FreshDoubt: some have just fallen silent, or nothing is known of them.
	FreshDoubt
)

// Doubt returns how badly this speaker needs to know whether it is itself that hears
// nothing. It also returns the members that membership sees alive, and whether the API
// server is to be asked too: where there are none, or where it has told of others.
func (s Snapshot) Doubt() (out Doubt, alive []string, askAPI bool) {
	for name, m := range s.Members {
		switch {
		case m.Heard:
			alive = append(alive, name)
		case m.Reason == v1beta1.ReasonNodeAssumed:
			out, askAPI = FreshDoubt, true
		case m.Presence == announcement.Held && !m.Expected:
			out = FreshDoubt
		case m.Reason == v1beta1.ReasonNodeHeard:
			out, askAPI = max(out, LastingDoubt), true
		}
	}
	if len(alive) == 0 && len(s.Members) > 0 {
		out, askAPI = max(out, LastingDoubt), true
	}
	return out, alive, askAPI
}
