package gobgp

import "time"

const (
	// steady is that of all retries; less in tests.
	steady = time.Minute
	// freeFlaps is how many shorter ones in a row are not damped: somebody who
	// works at a router does as much.
	freeFlaps = 3
	// maxDamping is the longest wait after a session that was short.
	maxDamping = time.Minute
)

// A router that was there a moment ago is tried again soon: most are back soon. The
// longer it is away, the longer an attempt waits: a sixteenth of that time, at
// least soonest, and connectTime at most. So a router that was away for up to 16 s
// has its routes within a second of its return, and whoever is away for long is
// tried no more often than connectTime says.
const (
	soonest    = 200 * time.Millisecond
	awayShares = 16
)

// retry decides when a session is tried again. It is pure.
type retry struct {
	// steady is how long a session has to last to count as one that works.
	steady time.Duration
	// flaps is how many sessions in a row have been short.
	flaps int
	// unhurried is set while there is no reason to hurry: before the first session,
	// and after one that was damped.
	unhurried bool
}

func newRetry(steady time.Duration) retry { return retry{steady: steady, unhurried: true} }

// after returns how long to wait after a session that has lasted, of a peer that
// is tried every connect, and whether that is damping (RFC 4271, 8.1.1,
// DampPeerOscillations): the wait doubles with each short session.
func (r *retry) after(lasted, connect time.Duration) (wait time.Duration, damped bool) {
	r.unhurried = false
	if lasted >= r.steady {
		r.flaps = 0
		return 0, false
	}
	r.flaps++
	if r.flaps <= freeFlaps {
		return max(0, minPause-lasted), false
	}
	r.unhurried = true
	return max(connect, min(maxDamping, minPause<<min(r.flaps-freeFlaps, 10))), true
}

// failed returns how long to wait after an attempt that has failed, when there has
// been no session for the time away. A router that has answered is there, and the
// two sides do not agree.
func (r *retry) failed(away, connect time.Duration, answered bool) time.Duration {
	if r.unhurried || answered {
		return connect
	}
	return min(connect, max(soonest, away/awayShares))
}
