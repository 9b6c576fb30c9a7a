package main

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
)

// due are the addresses that are to be looked at, each once, whoever found that
// out and how often. It is safe for concurrent use.
type due struct {
	mu        sync.Mutex
	all       bool
	addresses map[netip.Addr]struct{}
	news      chan struct{} // of one: there is something to take
}

func newDue() *due {
	return &due{addresses: map[netip.Addr]struct{}{}, news: make(chan struct{}, 1)}
}

// add has an address looked at.
func (d *due) add(addr netip.Addr) {
	d.mu.Lock()
	d.addresses[addr] = struct{}{}
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

// take returns what is to be looked at, sorted, and whether that is everything.
// What is added from now on is to be looked at another time.
func (d *due) take() (addresses []netip.Addr, all bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	addresses, all = slices.SortedFunc(maps.Keys(d.addresses), netip.Addr.Compare), d.all
	clear(d.addresses)
	d.all = false
	return addresses, all
}
