package membership

import "time"

// Profile is a named Timing.
type Profile string

// The profiles. The times are from the death of a member until all others know it,
// median and longest, measured with 3 to 10 members on one machine with two cores.
const (
	// Fast notices a death after 0.5 s, at most 0.8 s. A member that is stalled for 300 ms
	// passes, one that is for 600 ms is declared dead.
	Fast Profile = "fast"
	// Balanced notices a death after 1.3 to 1.4 s, at most 2.0 s. A member that is stalled
	// for 600 ms passes, one that is for 1.2 s is mostly declared dead.
	Balanced Profile = "balanced"
	// Quiet notices a death after 5.4 to 6.4 s, at most 7.2 s. A member that is stalled for
	// 1.2 s passes.
	Quiet Profile = "quiet"
)

// Profiles returns all profiles, the fastest first.
func Profiles() []Profile { return []Profile{Fast, Balanced, Quiet} }

// Timing returns what the profile stands for; for an unknown one, what Balanced
// stands for.
func (p Profile) Timing() Timing {
	t := DefaultTiming()
	switch p {
	case Fast:
		t.ProbeInterval, t.ProbeTimeout = 100*time.Millisecond, 50*time.Millisecond
		t.SuspicionMult, t.SuspicionMaxTimeoutMult = 3, 2
		t.GossipInterval = 20 * time.Millisecond
	case Quiet:
		t.ProbeInterval, t.ProbeTimeout = time.Second, 500*time.Millisecond
		t.SuspicionMult, t.SuspicionMaxTimeoutMult = 4, 6
		t.GossipInterval = 200 * time.Millisecond
	}
	return t
}

// Timing is the trade between detecting a dead member soon and taking a busy one for dead.
// A member that dies silently is probed within ProbeInterval, is suspected one more later,
// and declared dead after another
//
//	SuspicionMult * max(1, log10(members)) * ProbeInterval
//
// when enough others confirm, and up to SuspicionMaxTimeoutMult times that when
// they do not. A member that leaves in order is known to have left at once,
// whatever the timing: within some ms.
//
// The zero value of each field means its default.
type Timing struct {
	// ProbeInterval is how often each member probes one other. Half of it detects
	// twice as fast and costs twice the packets. Default 250 ms.
	ProbeInterval time.Duration
	// ProbeTimeout is how long a probe waits for its answer before third members
	// are asked; longer than nearly every round trip, scheduling delays included,
	// and shorter than ProbeInterval. A longer one forgives busier members and
	// leaves less time for the third ones. Default 125 ms.
	ProbeTimeout time.Duration
	// SuspicionMult is how many probe intervals, times max(1, log10(members)), a
	// member is suspected before it is declared dead, in which it can refute. More
	// is calmer and slower in proportion. Default 3.
	SuspicionMult int
	// SuspicionMaxTimeoutMult stretches the suspicion while no other member
	// confirms it, as happens when it is this one that has a problem; at least 1.
	// More is calmer when half of the network is cut off. Default 2.
	SuspicionMaxTimeoutMult int
	// GossipInterval is how often news are passed on that found no probe to ride
	// on. A shorter one spreads news sooner and costs packets while there are
	// news. Default 50 ms.
	GossipInterval time.Duration
	// GossipNodes is how many members the news are passed on to each time. More
	// spreads faster. Default 3.
	GossipNodes int
	// PushPullInterval is how often the whole state is exchanged with one member
	// over TCP, to repair what gossip lost. Shorter repairs sooner and costs a
	// connection, some 100 bytes for each member and some 15 for each entry.
	// Default 15 s.
	PushPullInterval time.Duration
	// StreamTimeout bounds one TCP exchange, so also how long a join waits for an
	// address where nobody answers, and how long Run may take to end. Default 2 s.
	StreamTimeout time.Duration
}

// DefaultTiming returns the defaults of each field.
func DefaultTiming() Timing {
	return Timing{
		ProbeInterval:           250 * time.Millisecond,
		ProbeTimeout:            125 * time.Millisecond,
		SuspicionMult:           3,
		SuspicionMaxTimeoutMult: 2,
		GossipInterval:          50 * time.Millisecond,
		GossipNodes:             3,
		PushPullInterval:        15 * time.Second,
		StreamTimeout:           2 * time.Second,
	}
}
