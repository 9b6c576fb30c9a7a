package main

import (
	"maps"
	"net/netip"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/util/sets"
)

// due are the addresses that are to be looked at, each once, whoever found that
// out and how often. It is safe for concurrent use.
type due struct {
	mu sync.Mutex
	// some are those of which something changed; rest are what is left of all of
	// them, in their order; all is set when that is to begin anew.
	some map[netip.Addr]struct{}
	rest []netip.Addr
	all  bool
	news chan struct{} // of one: there is something to take
}

func newDue() *due {
	return &due{some: map[netip.Addr]struct{}{}, news: make(chan struct{}, 1)}
}

// add has an address looked at.
func (d *due) add(addr netip.Addr) {
	d.mu.Lock()
	d.some[addr] = struct{}{}
	d.mu.Unlock()
	d.tell()
}

// addAll has every address looked at.
func (d *due) addAll() {
	d.mu.Lock()
	d.all = true
	d.mu.Unlock()
	d.tell()
}

func (d *due) tell() {
	select {
	case d.news <- struct{}{}:
	default:
	}
}

// isAll reports, once, whether every address is to be looked at: then setRest
// says which these are.
func (d *due) isAll() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.all
	d.all = false
	return all
}

// waitingFirst sorts all addresses so that those come first that still wait from
// the last time: however often all are due, each gets its turn.
func (d *due) waitingFirst(all []netip.Addr) []netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	waiting := sets.New(d.rest...)
	there := sets.New(all...)
	var out []netip.Addr
	for _, addr := range d.rest {
		if there.Has(addr) {
			out = append(out, addr)
		}
	}
	for _, addr := range all {
		if !waiting.Has(addr) {
			out = append(out, addr)
		}
	}
	return out
}

// setRest has addresses looked at in this order, after those that are added
// meanwhile.
func (d *due) setRest(rest []netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rest = rest
}

// take returns the next addresses to look at, at most so many; none when there
// is nothing to do. What is added from now on is to be looked at another time.
func (d *due) take(most int) []netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := slices.SortedFunc(maps.Keys(d.some), netip.Addr.Compare)
	out = out[:min(len(out), most)]
	for _, addr := range out {
		delete(d.some, addr)
	}
	n := min(len(d.rest), most-len(out))
	out = append(out, d.rest[:n]...)
	d.rest = d.rest[n:]
	return out
}
