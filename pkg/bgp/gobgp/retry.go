package gobgp

import "time"

const (
	// steady is how long a session has to last to count as one that works.
	steady = time.Minute
	// freeFlaps is how many shorter ones in a row are not damped: somebody who
	// works at a router does as much.
	freeFlaps = 3
	// maxDamping is the longest wait after a session that was short.
	maxDamping = time.Minute
)

// soon is when a router is tried again that was there a moment ago: most are back
// soon. After that, it is tried every connectTime.
var soon = []time.Duration{0, 300 * time.Millisecond, time.Second, 2 * time.Second}

// retry decides when a session is tried again. It is pure.
type retry struct {
	// flaps is how many sessions in a row have been short.
	flaps int
	// attempts is how many have failed since the last session; many before the
	// first.
	attempts int
}

func newRetry() retry { return retry{attempts: len(soon)} }

// after returns how long to wait after a session that has lasted, of a peer that
// is tried every connect, and whether that is damping (RFC 4271, 8.1.1,
// DampPeerOscillations): the wait doubles with each short session.
func (r *retry) after(lasted, connect time.Duration) (wait time.Duration, damped bool) {
	r.attempts = 0
	if lasted >= steady {
		r.flaps = 0
		return soon[0], false
	}
	r.flaps++
	if r.flaps <= freeFlaps {
		return max(0, minPause-lasted), false
	}
	r.attempts = len(soon)
	return max(connect, min(maxDamping, minPause<<min(r.flaps-freeFlaps, 10))), true
}

// failed returns how long to wait after an attempt that has failed.
func (r *retry) failed(connect time.Duration) time.Duration {
	r.attempts++
	if r.attempts < len(soon) {
		return min(connect, soon[r.attempts])
	}
	return connect
}
