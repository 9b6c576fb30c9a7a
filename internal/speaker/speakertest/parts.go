package speakertest

import (
	"context"
	"net/netip"

	"github.com/berth-lb/berth/internal/speaker/reconcile"
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

// NoProtocol is a [reconcile.Protocol] that announces nothing.
type NoProtocol struct{}

// Reconcile decides nothing.
func (NoProtocol) Reconcile(reconcile.Inputs, reconcile.Address) reconcile.Outcome {
	return reconcile.Outcome{}
}

// Flush does nothing.
func (NoProtocol) Flush() {}

// Known returns no addresses.
func (NoProtocol) Known() []netip.Addr { return nil }
