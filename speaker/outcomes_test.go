package main

import (
	"net/netip"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/speaker/layer2"
	"github.com/berth-lb/berth/internal/speaker/reconcile"
)

// outcomes is a protocol that remembers its last outcome for each address.
type outcomes struct {
	reconcile.Protocol
	last map[netip.Addr]reconcile.Outcome
}

func newOutcomes(of reconcile.Protocol) *outcomes {
	return &outcomes{Protocol: of, last: map[netip.Addr]reconcile.Outcome{}}
}

// Reconcile implements reconcile.Protocol.
func (o *outcomes) Reconcile(in reconcile.Inputs, a reconcile.Address) reconcile.Outcome {
	out := o.Protocol.Reconcile(in, a)
	o.last[a.Addr] = out
	return out
}

// layer2Status returns what the Speaker object says of layer 2.
func layer2Status(c *layer2.Controller) v1beta1.SpeakerLayer2 {
	var s v1beta1.SpeakerStatus
	c.Status(&s)
	return s.Layer2
}
