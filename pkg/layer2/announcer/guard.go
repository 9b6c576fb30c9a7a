package announcer

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// beatInterval is the time between two beats of the guard.
const beatInterval = 50 * time.Millisecond

// guard notices that this process was stalled. It beats, and when two beats, or a beat
// and a frame that is about to be sent, are further apart than stall, it suspends until
// it is told to resume. Time is that since the machine booted, in
// which a sleeping machine's sleep counts.
type guard struct {
	stall time.Duration // negative: the guard is off
	clock func() time.Duration
	// stalled is called with how long each stall took.
	stalled func(time.Duration)

	// lastBeat and suspended are written under mu only. When a beat comes too
	// late, suspended is written before lastBeat, and open reads them the other
	// way round: who sees the new beat sees the suspension as well.
	lastBeat  atomic.Int64
	suspended atomic.Bool

	mu sync.Mutex
	// noted is the beat before the last stall, so that each is counted once.
	noted int64
	// stalls counts them; reported is how many isSuspended has reported.
	stalls, reported uint64
}

func newGuard(stall time.Duration, clock func() time.Duration, stalled func(time.Duration)) *guard {
	return &guard{stall: stall, clock: clock, stalled: stalled, noted: -1}
}

// start beats for the first time, before anything is sent.
func (g *guard) start() { g.lastBeat.Store(int64(g.clock())) }

// run beats until ctx ends.
func (g *guard) run(ctx context.Context) {
	if g.stall < 0 {
		return
	}
	ticker := time.NewTicker(beatInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			g.beat()
		}
	}
}

// beat gives one sign of life.
func (g *guard) beat() {
	g.mu.Lock()
	took, news := g.beatLocked()
	g.mu.Unlock()
	if news {
		g.stalled(took)
	}
}

// beatLocked returns the time since the last beat, and whether it is news that it
// was too long.
func (g *guard) beatLocked() (took time.Duration, news bool) {
	now, last := g.clock(), g.lastBeat.Load()
	took = now - time.Duration(last)
	if took > g.stall {
		news = g.noteLocked(last)
	}
	g.lastBeat.Store(int64(now))
	return took, news
}

// noteLocked suspends, and counts the stall that began after a beat once.
func (g *guard) noteLocked(last int64) (news bool) {
	g.suspended.Store(true)
	if g.noted == last {
		return false
	}
	g.noted = last
	g.stalls++
	return true
}

// open reports whether a frame may be sent now. It is cheap, for it is asked
// before each one.
func (g *guard) open() bool {
	if g.stall < 0 {
		return true
	}
	last := g.lastBeat.Load()
	if g.suspended.Load() {
		return false
	}
	took := g.clock() - time.Duration(last)
	if took <= g.stall {
		return true
	}
	g.mu.Lock()
	// If there was a beat meanwhile, it has noted the stall.
	news := g.lastBeat.Load() == last && g.noteLocked(last)
	g.mu.Unlock()
	if news {
		g.stalled(took)
	}
	return false
}

// isSuspended reports whether the guard is suspended, and remembers which stalls
// it has reported.
func (g *guard) isSuspended() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reported = g.stalls
	return g.suspended.Load()
}

// resume ends a suspension unless there was a stall that isSuspended has not
// reported, and reports whether it did.
func (g *guard) resume() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.suspended.Load() {
		return false
	}
	g.beatLocked()
	if g.stalls != g.reported {
		return false
	}
	g.suspended.Store(false)
	return true
}

// count returns how often the guard noticed a stall.
func (g *guard) count() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stalls
}
