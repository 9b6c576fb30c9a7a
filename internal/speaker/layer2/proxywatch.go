package layer2

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/berth-lb/berth/internal/notify"
)

const (
	// proxyAskInterval is the time between two questions to the service proxy.
	proxyAskInterval = time.Second
	// proxyMisses is how many questions in a row the proxy fails before it counts as failed.
	proxyMisses = 3
)

// proxyWatch knows whether the service proxy of this node works, while this node lingers:
// what others send here because they know it would be lost otherwise. At all other times it
// asks nothing. A proxy that has never answered may have no health check port, and counts
// as one that works.
type proxyWatch struct {
	// healthy asks the proxy; nil when it is not to be asked.
	healthy func(context.Context) bool
	memory  *memory
	queue   Requeuer
	log     *slog.Logger
	wake    notify.Signal // set when this node begins to linger
	failed  atomic.Bool
}

// run watches until ctx ends.
func (p *proxyWatch) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake.C():
		}
		if p.healthy != nil {
			p.watch(ctx)
		}
	}
}

// watch asks until this node lingers no longer.
func (p *proxyWatch) watch(ctx context.Context) {
	ticker := time.NewTicker(proxyAskInterval)
	defer ticker.Stop()
	worked, misses := false, 0
	for {
		lingering := p.memory.lingering()
		if len(lingering) == 0 {
			p.failed.Store(false)
			return
		}
		misses++
		if p.healthy(ctx) {
			worked, misses = true, 0
		}
		if worked && misses == proxyMisses {
			p.failed.Store(true)
			p.log.Warn("the service proxy of this node no longer works; not lingering",
				"count", len(lingering))
			for _, addr := range lingering {
				p.queue.Requeue(addr)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
