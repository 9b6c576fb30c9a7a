package presence

import (
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
)

// RenewalTrust is how long a renewal proves that its writer works.
const RenewalTrust = 20 * time.Second

// How long a speaker waits, once a lost contact is back, until it trusts the contact again.
// In MembersReturn all others are joined. In APIReturn all others renew their Speaker
// objects: they reach the API server through the service proxy of their node, and that one
// may take a minute longer than others until it watches the API server again (client-go's
// reflector.go: defaultBackoffMax and its jitter).
const (
	MembersReturn = RenewalTrust
	APIReturn     = time.Minute + RenewalTrust
)

// If contact was lost for less than contactBlip, perhaps because one answer was late,
// blipReturns is enough: membership rejoins those that it has lost meanwhile.
const (
	contactBlip = 3 * time.Second
	blipReturns = 6 * time.Second
)

// Contact is one connection to the rest of the cluster, and when it was last known to
// work.
type Contact struct {
	// Last is when it last worked. Trusted is when it last delivered complete news: after a
	// loss, that takes a while.
	Last, Trusted time.Time
	// lost is when it stopped to work, zero while it works; back is when it began to work
	// again.
	lost, back time.Time
}

// Working returns a contact that works and has not been lost.
func Working(now time.Time) Contact { return Contact{Last: now, Trusted: now} }

// Note returns the contact after one more observation of whether it works. A contact that
// was lost is trusted when it has worked for the time that all others may need: MembersReturn
// or APIReturn.
func (c Contact) Note(works bool, others time.Duration, now time.Time) Contact {
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
	grace := others
	if c.back.Sub(c.lost) < contactBlip {
		grace = blipReturns
	}
	if c.lost.IsZero() || now.Sub(c.back) >= grace {
		return Working(now)
	}
	return c
}

// Missing says whether a speaker misses members, and so how badly it needs to know whether
// it is itself that is cut off.
type Missing int

// The values of Missing, in rising order of urgency.
const (
	// NoneMissing: all members are heard, or their nodes are dead.
	NoneMissing Missing = iota
	// StillMissing: some are not heard, and that is nothing new.
	StillMissing
	// NewlyMissing: some have just fallen silent, or nothing is known of them.
	NewlyMissing
)

// Missing reports whether this speaker misses members. It also returns the members that
// membership sees alive, and whether to ask the API server too: if no member is alive, or
// if the API server has reported others that membership does not see.
func (s Snapshot) Missing() (out Missing, alive []string, askAPI bool) {
	for name, m := range s.Members {
		switch {
		case m.Heard:
			alive = append(alive, name)
		case m.Reason == v1beta1.ReasonNodeAssumed:
			out, askAPI = NewlyMissing, true
		case m.Presence == announcement.Held && !m.Expected:
			out = NewlyMissing
		case m.Reason == v1beta1.ReasonNodeRenewing:
			out, askAPI = max(out, StillMissing), true
		}
	}
	if len(alive) == 0 && len(s.Members) > 0 {
		out, askAPI = max(out, StillMissing), true
	}
	return out, alive, askAPI
}
