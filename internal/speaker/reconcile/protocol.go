// Package reconcile passes addresses to the protocols that announce them, whenever the
// inputs of a decision may have changed. It knows neither ARP nor BGP: a protocol is a
// [Protocol], and all its inputs are in [Inputs] and [Address].
package reconcile

import (
	"net/netip"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/config"
)

// A Protocol announces addresses in one way.
type Protocol interface {
	// NeedsMembers reports whether the protocol can decide nothing before the speaker knows
	// which others are alive: whether an address has one owner among them.
	NeedsMembers() bool
	// Reconcile decides what this node does with an address, and does it. It is called
	// by one goroutine at a time.
	Reconcile(Inputs, Address) Outcome
	// Flush is called after some addresses have been reconciled with the same Inputs:
	// what concerns several of them can be done at once.
	Flush()
	// Known returns the addresses of which the protocol remembers anything. The Loop
	// reconciles them even if no Service has them any longer.
	Known() []netip.Addr
}

// Inputs are what all decisions of one moment have in common.
type Inputs struct {
	Node     string // this one
	Config   *config.Config
	Revision uint64 // of Config
	Nodes    []announcement.Node
	Speakers map[string]announcement.Speaker // by node, this node's own among them
	// Basis is that of Config, Nodes and Speakers.
	Basis *announcement.Basis
	// Unheard are the nodes of whose pods the API server does not know whether they are ready.
	Unheard announcement.Unheard
	// Settled is false until the speaker knows which others are alive.
	Settled bool
	Now     time.Time

	// Only protocols with one owner for each address need the fields below.

	// Claims are the claims of other speakers, by address and node. They must not be
	// changed.
	Claims map[netip.Addr]map[string]announcement.Claim
	// Minority is set while fewer than half of the speakers are seen alive.
	Minority bool
	// Returning is set while this node is back on the LAN and has not heard yet what
	// became of its addresses meanwhile.
	Returning bool

	// reporter is what Reporter returns, which a Loop finds out once for many addresses.
	reporter string
}

// Reporter returns the node that reports what concerns all nodes: the first by name whose
// speaker is present; "" if there is none.
func (in Inputs) Reporter() string {
	if in.reporter != "" {
		return in.reporter
	}
	out := ""
	for name, s := range in.Speakers {
		if s.Presence == announcement.Present && (out == "" || name < out) {
			out = name
		}
	}
	return out
}

// Address is one address to be reconciled.
type Address struct {
	Addr     netip.Addr
	Services []announcement.Service // that have it, by name
	// Elsewhere is set if a protocol before this one is concerned with the address. Then it
	// is not worth a report that this one is not.
	Elsewhere bool
}

// Outcome is what a protocol does with an address, and why.
type Outcome struct {
	// Reason is "" if the protocol is not concerned with the address.
	Reason  v1beta1.Reason
	Message string // why, as a sentence
	// Services are those that have the address, as namespace/name.
	Services []string
	Announce bool
	// Warn is set if this node has to warn the Services that nobody announces the address.
	Warn bool
	// Recheck is when to reconcile the address again although nothing has changed; zero for
	// never.
	Recheck time.Time
}
