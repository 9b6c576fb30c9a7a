package reconcile

import (
	"net/netip"

	"github.com/berth-lb/berth/api/v1beta1"
)

// NoLayer2 stands for layer 2 in a speaker that does not announce by it: it tells Services
// that wait for it in vain. It is a [Protocol].
type NoLayer2 struct{}

// NeedsMembers implements [Protocol]: the node that reports for all depends on the others.
func (NoLayer2) NeedsMembers() bool { return true }

// Reconcile warns the Services with an address that no protocol before is concerned with.
func (NoLayer2) Reconcile(in Inputs, a Address) Outcome {
	if a.Elsewhere || len(a.Services) == 0 {
		return Outcome{}
	}
	out := Outcome{
		Reason: v1beta1.ReasonNoAdvertisement,
		Message: "No BGPAdvertisement selects its pool, and the speakers do not announce by layer 2 " +
			"(--layer2=false): create a BGPAdvertisement, or let them.",
		Warn: in.Node == in.Reporter(),
	}
	for _, s := range a.Services {
		out.Services = append(out.Services, s.Name)
	}
	return out
}

// Flush implements [Protocol].
func (NoLayer2) Flush() {}

// Known implements [Protocol]: it remembers nothing.
func (NoLayer2) Known() []netip.Addr { return nil }
