package bgp

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
)

// decision is what this node does with one address.
type decision struct {
	announcement.BGPDecision
	since time.Time // when this node began to announce it; zero when it does not
}

// decisions remembers the last decision for each address. It is safe for concurrent use.
type decisions struct {
	mu    sync.Mutex
	known map[netip.Addr]decision
}

func newDecisions() *decisions { return &decisions{known: map[netip.Addr]decision{}} }

// get returns the last decision for an address, the zero one for none.
func (d *decisions) get(addr netip.Addr) announcement.BGPDecision {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known[addr].BGPDecision
}

// record remembers a decision. Addresses that BGP is not concerned with are forgotten.
func (d *decisions) record(addr netip.Addr, now time.Time, made announcement.BGPDecision) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if made.Reason == "" || made.Reason == v1beta1.ReasonNoService {
		delete(d.known, addr)
		return
	}
	before := d.known[addr]
	after := decision{BGPDecision: made, since: before.since}
	switch {
	case !made.Announce:
		after.since = time.Time{}
	case !before.Announce:
		after.since = now
	}
	d.known[addr] = after
}

// all returns a copy of what is remembered, by address.
func (d *decisions) all() map[netip.Addr]decision {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.known)
}

// addresses returns the addresses of which anything is remembered, sorted.
func (d *decisions) addresses() []netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.SortedFunc(maps.Keys(d.known), netip.Addr.Compare)
}
