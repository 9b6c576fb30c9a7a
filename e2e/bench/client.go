package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/berth-lb/berth/e2e/watch"
)

// How a client is looked at.
const (
	// ProbeInterval is the time between two datagrams to an address.
	ProbeInterval = 10 * time.Millisecond
	// Lead is how long before the fault the measurement begins.
	Lead = 300 * time.Millisecond
	// Calm is how long all must be answered before it counts as over.
	Calm = 500 * time.Millisecond
	// OnTheWay is how long a probe and its answer may take.
	OnTheWay = 100 * time.Millisecond
	// CalmLimit is how long it may take until all is calm.
	CalmLimit = time.Minute
)

// Served waits until a client has lost nothing for a moment.
func Served(ctx context.Context, traffic *watch.Traffic, limit time.Duration) error {
	return Poll(ctx, limit, "the client is served at all addresses", func() error {
		// What was sent in the last moment may still be on its way.
		to := time.Now().Add(-OnTheWay)
		if steady, silent := traffic.Steady(to.Add(-Calm), to); !steady {
			return fmt.Errorf("%d are silent, among them %s", len(silent), silent[0])
		}
		return nil
	})
}

// Milliseconds reads what results keep.
func Milliseconds(values []int64) []time.Duration {
	out := make([]time.Duration, len(values))
	for i, v := range values {
		out[i] = time.Duration(v) * time.Millisecond
	}
	return out
}
