package speakertest

import (
	"context"

	"github.com/berth-lb/berth/pkg/layer2/prober"
)

// NoProber asks nobody.
type NoProber struct{}

// Ask returns an error.
func (NoProber) Ask(context.Context, prober.Question) (prober.Found, error) {
	return prober.Found{}, ErrDown
}

// Stats returns counters that are zero.
func (NoProber) Stats() prober.Stats { return prober.Stats{} }
