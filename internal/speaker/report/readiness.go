package report

import (
	"sync"

	"github.com/berth-lb/berth/internal/notify"
)

// Readiness is what the speaker waits for before it announces anything by layer 2: the
// configuration, and to know which other speakers are alive. It is safe for concurrent use.
type Readiness struct {
	configured notify.Latch
	settled    notify.Latch

	mu sync.Mutex
	// unsettled is why the speaker has not settled yet, "" for no reason in particular.
	unsettled string
}

// NewReadiness returns a Readiness that waits; configured is set once there is a
// configuration.
func NewReadiness(configured notify.Latch) *Readiness {
	return &Readiness{configured: configured, settled: notify.NewLatch()}
}

// Settled returns the latch that is set once the speaker knows which others are alive.
func (r *Readiness) Settled() notify.Latch { return r.settled }

// Missing returns what the speaker waits for; "" if it announces.
func (r *Readiness) Missing() string {
	switch {
	case !r.configured.IsSet():
		return "the configuration is not read yet"
	case !r.settled.IsSet():
		const missing = "it is not known yet which other speakers are alive"
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.unsettled != "" {
			return missing + ": " + r.unsettled
		}
		return missing
	}
	return ""
}

// Explain records why the speaker has not settled yet, "" for no reason in particular, and
// reports whether that has changed.
func (r *Readiness) Explain(why string) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	news = r.unsettled != why
	r.unsettled = why
	return news
}
