// Package allocator knows which addresses are free and who holds which. It
// knows nothing of Kubernetes: holders are names, addresses are net/netip.
//
// The cost of finding, taking and giving back an address grows with the
// logarithm of the number of gaps between held addresses, never with the size
// of a pool or with how many addresses are held.
package allocator

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"go4.org/netipx"
)

// ErrNotInPool says that no pool contains an address.
var ErrNotInPool = errors.New("no pool contains the address")

// Holder names who holds addresses; Berth uses namespace/name of a Service.
type Holder string

// Port is what two holders of one address must not have in common.
type Port struct {
	Protocol string // TCP, UDP or SCTP
	Number   uint16
}

// Terms are the conditions on which a holder shares its addresses.
type Terms struct {
	// SharingKey permits sharing with holders of the same, non-empty key.
	SharingKey string
	// Backends tells apart holders that must not share because their traffic
	// would have to go to different nodes. Equal values may share.
	Backends string
	// Ports that the holder uses. Holders of one address have none in common.
	Ports []Port
}

// Holding is what one holder has.
type Holding struct {
	Addresses []netip.Addr
	Terms     Terms
}

// ConflictError says that an address is held by somebody with whom it cannot
// be shared.
type ConflictError struct {
	Address netip.Addr
	Holder  Holder // who has it
	Why     string // why it cannot be shared
}

// Error tells who has the address and why it cannot be shared.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s is held by %s: %s", e.Address, e.Holder, e.Why)
}

// Pool is a named set of addresses. Pools given to one Allocator must not
// overlap.
type Pool struct {
	Name   string
	Ranges []netipx.IPRange // valid, in any order
	// AvoidBuggy keeps IPv4 addresses ending in .0 and .255 from being
	// chosen. They can still be asked for by Assign.
	AvoidBuggy bool
}

// Counts are numbers of addresses, capped at math.MaxInt64.
type Counts struct {
	Assigned4, Assigned6   int64
	Available4, Available6 int64
}

// Allocator is the record of pools and holdings. It is not safe for
// concurrent use: its owner guards it.
type Allocator struct {
	pools    map[string]*pool
	order    []span // ranges of all pools, sorted, for PoolOf
	holdings map[Holder]Holding
	holders  map[netip.Addr][]Holder // sorted
}

// span is one range of one pool.
type span struct {
	netipx.IPRange
	pool *pool
}

// New returns an Allocator without pools or holdings.
func New() *Allocator {
	return &Allocator{
		pools:    map[string]*pool{},
		holdings: map[Holder]Holding{},
		holders:  map[netip.Addr][]Holder{},
	}
}

// SetPools replaces all pools. Holdings stay, also those that no pool
// contains any more. The cost is in proportion to the ranges and to the
// addresses held.
func (a *Allocator) SetPools(pools []Pool) {
	a.pools = make(map[string]*pool, len(pools))
	a.order = nil
	for _, p := range pools {
		np := newPool(p)
		a.pools[p.Name] = np
		for _, r := range np.ranges {
			a.order = append(a.order, span{r, np})
		}
	}
	slices.SortFunc(a.order, func(x, y span) int { return x.From().Compare(y.From()) })
	for _, h := range a.holdings {
		a.mark(h)
	}
}

// mark tells the pools what a holding has of them.
func (a *Allocator) mark(h Holding) {
	for _, addr := range h.Addresses {
		if p := a.poolOf(addr); p != nil {
			p.take(addr)
			p.share(h.Terms.SharingKey, addr)
		}
	}
}

// PoolOf names the pool that contains an address.
func (a *Allocator) PoolOf(addr netip.Addr) (name string, ok bool) {
	if p := a.poolOf(addr); p != nil {
		return p.name, true
	}
	return "", false
}

func (a *Allocator) poolOf(addr netip.Addr) *pool {
	i, found := slices.BinarySearchFunc(a.order, addr, func(s span, t netip.Addr) int { return s.From().Compare(t) })
	if !found {
		i--
	}
	if i < 0 || !a.order[i].Contains(addr) {
		return nil
	}
	return a.order[i].pool
}

// Lowest returns the lowest free address of a pool's family. It does not take
// it.
func (a *Allocator) Lowest(pool string, is6 bool) (netip.Addr, bool) {
	p := a.pools[pool]
	if p == nil {
		return netip.Addr{}, false
	}
	return p.lowest(is6)
}

// Shareable returns the lowest held address of a pool's family that holder
// may join on the given terms. Without a sharing key there is none.
func (a *Allocator) Shareable(pool string, is6 bool, holder Holder, terms Terms) (netip.Addr, bool) {
	p := a.pools[pool]
	if p == nil || terms.SharingKey == "" {
		return netip.Addr{}, false
	}
	for _, addr := range slices.SortedFunc(maps.Keys(p.shared[terms.SharingKey]), netip.Addr.Compare) {
		if addr.Is6() == is6 && a.Check(addr, holder, terms) == nil {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

// Has tells whether a pool has any address of a family, free or not.
func (a *Allocator) Has(pool string, is6 bool) bool {
	p := a.pools[pool]
	return p != nil && slices.ContainsFunc(p.ranges, func(r netipx.IPRange) bool { return r.From().Is6() == is6 })
}

// Check tells whether holder may have addr on the given terms. The error is a
// *ConflictError when somebody else holds it with whom it cannot be shared,
// else ErrNotInPool when no pool contains it.
func (a *Allocator) Check(addr netip.Addr, holder Holder, terms Terms) error {
	if err := a.conflict(addr, holder, terms); err != nil {
		return err
	}
	if a.poolOf(addr) == nil {
		return fmt.Errorf("%s: %w", addr, ErrNotInPool)
	}
	return nil
}

// conflict is a *ConflictError for the first holder of addr with whom holder
// cannot share it.
func (a *Allocator) conflict(addr netip.Addr, holder Holder, terms Terms) error {
	for _, other := range a.holders[addr] {
		if other == holder {
			continue
		}
		if why := unshareable(terms, a.holdings[other].Terms); why != "" {
			return &ConflictError{Address: addr, Holder: other, Why: why}
		}
	}
	return nil
}

// unshareable says why two holders cannot share an address, or "".
func unshareable(a, b Terms) string {
	switch {
	case a.SharingKey == "" || b.SharingKey == "":
		return "both must carry the same sharing key to share an address"
	case a.SharingKey != b.SharingKey:
		return fmt.Sprintf("its sharing key is %q, not %q", b.SharingKey, a.SharingKey)
	case a.Backends != b.Backends:
		return "with externalTrafficPolicy Local only Services of the same pods can share an address"
	}
	for _, p := range a.Ports {
		if slices.Contains(b.Ports, p) {
			return fmt.Sprintf("both use port %s/%d", p.Protocol, p.Number)
		}
	}
	return ""
}

// Assign makes holder hold exactly addrs on the given terms, in place of what
// it held before. The error is a *ConflictError for one of the addresses, and
// then nothing changes. Addresses outside every pool can be held too: a pool
// that comes later then finds them taken.
func (a *Allocator) Assign(holder Holder, addrs []netip.Addr, terms Terms) error {
	for _, addr := range addrs {
		if err := a.conflict(addr, holder, terms); err != nil {
			return err
		}
	}
	a.Release(holder)
	if len(addrs) == 0 {
		return nil
	}
	h := Holding{Addresses: slices.Clone(addrs), Terms: terms}
	a.holdings[holder] = h
	for _, addr := range h.Addresses {
		hs := a.holders[addr]
		i, _ := slices.BinarySearch(hs, holder)
		a.holders[addr] = slices.Insert(hs, i, holder)
	}
	a.mark(h)
	return nil
}

// Release takes everything from holder and returns what it held.
func (a *Allocator) Release(holder Holder) []netip.Addr {
	h, ok := a.holdings[holder]
	if !ok {
		return nil
	}
	delete(a.holdings, holder)
	for _, addr := range h.Addresses {
		hs := slices.DeleteFunc(a.holders[addr], func(o Holder) bool { return o == holder })
		if len(hs) > 0 {
			a.holders[addr] = hs
			continue
		}
		delete(a.holders, addr)
		if p := a.poolOf(addr); p != nil {
			p.give(addr)
			p.unshare(h.Terms.SharingKey, addr)
		}
	}
	return h.Addresses
}

// Held returns what holder has. The caller must not change it.
func (a *Allocator) Held(holder Holder) (Holding, bool) {
	h, ok := a.holdings[holder]
	return h, ok
}

// Holders returns who holds an address, sorted. The caller must not change
// it.
func (a *Allocator) Holders(addr netip.Addr) []Holder { return a.holders[addr] }

// Counts tells how full a pool is; zero for an unknown pool.
func (a *Allocator) Counts(pool string) Counts {
	if p := a.pools[pool]; p != nil {
		return p.counts()
	}
	return Counts{}
}

// Pools returns the names of all pools, sorted.
func (a *Allocator) Pools() []string {
	return slices.SortedFunc(maps.Keys(a.pools), cmp.Compare[string])
}
