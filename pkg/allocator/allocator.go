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
	"iter"
	"maps"
	"net/netip"
	"slices"
	"time"

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
	// Group is whom the addresses count for in Pool.Quota; Berth uses the
	// namespace.
	Group string
	// Foreign says that the owner of the Allocator did not give the holder its
	// addresses: somebody else did. They are taken all the same, and neither shared nor
	// counted for a group.
	Foreign bool
}

// key returns the sharing key, "" for a holder that shares nothing.
func (t Terms) key() string {
	if t.Foreign {
		return ""
	}
	return t.SharingKey
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
	Foreign bool   // whether the terms of the Holder are
	Why     string // why it cannot be shared
}

// Error says who has the address and why it cannot be shared.
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
	// ReuseDelay is how long a freed address rests before it is chosen again;
	// 0 for not at all. It can still be asked for by Assign.
	ReuseDelay time.Duration
	// Quota is how many addresses of the pool one group may hold; 0 for any
	// number. Assign does not enforce it: see Used.
	Quota int
	// KeepOutside has addresses that the pool's ranges no longer contain stay
	// with the pool as long as somebody holds them.
	KeepOutside bool
	// ShareInGroup has addresses shared only among holders of one group. Assign
	// does not enforce it: see Shareable and Outsider.
	ShareInGroup bool
}

// Withholding is why an address is not given out, whoever holds it.
type Withholding struct {
	Reason string // one word for it
	Why    string // for a person, such as "node a has it"
	// OnRequest has who asks for the address get it all the same, and who may share
	// it join: it is only not chosen among the free.
	OnRequest bool
	// For may have it all the same, on request; "" for nobody.
	For Holder
}

// Counts are numbers of addresses, capped at math.MaxInt64. Of the addresses
// in a pool's ranges, each is assigned, resting, kept back or available.
type Counts struct {
	Assigned4, Assigned6   int64
	Resting4, Resting6     int64 // freed, and not chosen again yet
	KeptBack4, KeptBack6   int64 // by AvoidBuggy or Withhold, and not assigned
	Available4, Available6 int64
}

// Allocator is the record of pools and holdings. It is not safe for
// concurrent use: its owner guards it.
type Allocator struct {
	pools    map[string]*pool
	order    []span                  // ranges of all pools, sorted, for PoolOf
	outside  map[netip.Addr]*pool    // held, in no range, but still with a pool
	expelled map[netip.Addr]struct{} // held, and in no pool any more
	from     map[netip.Addr]string   // the pool that a held address is in, or was in last
	holdings map[Holder]Holding
	holders  map[netip.Addr][]Holder            // sorted
	resting  map[netip.Addr]rest                // of all pools; some may be over
	had      map[Holder]map[netip.Addr]struct{} // of the resting, by former holder
	crowds   map[netip.Addr]*crowd              // of addresses that are held under a sharing key
	withheld map[netip.Addr]Withholding
}

// rest is why a free address is not chosen.
type rest struct {
	until  time.Time
	former Holder // may have it back at once
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
		outside:  map[netip.Addr]*pool{},
		expelled: map[netip.Addr]struct{}{},
		from:     map[netip.Addr]string{},
		holdings: map[Holder]Holding{},
		holders:  map[netip.Addr][]Holder{},
		resting:  map[netip.Addr]rest{},
		had:      map[Holder]map[netip.Addr]struct{}{},
		crowds:   map[netip.Addr]*crowd{},
		withheld: map[netip.Addr]Withholding{},
	}
}

// SetPools replaces all pools. Holdings stay, also those that no pool
// contains any more. The cost is in proportion to the ranges and to the
// addresses held and resting.
func (a *Allocator) SetPools(pools []Pool) {
	had := map[netip.Addr]struct{}{} // held, and in a pool until now
	for addr := range a.holders {
		if a.poolOf(addr) != nil {
			had[addr] = struct{}{}
		}
	}
	a.pools = make(map[string]*pool, len(pools))
	a.order, a.outside = nil, map[netip.Addr]*pool{}
	for _, p := range pools {
		np := newPool(p)
		a.pools[p.Name] = np
		for _, r := range np.ranges {
			a.order = append(a.order, span{r, np})
		}
	}
	slices.SortFunc(a.order, func(x, y span) int { return x.From().Compare(y.From()) })
	for addr := range a.withheld {
		if p := a.inRange(addr); p != nil {
			p.withhold(addr)
		}
	}
	for addr := range a.holders {
		_, was := had[addr]
		a.place(addr, was)
	}
	for addr, r := range a.resting {
		if p := a.poolOf(addr); p != nil {
			p.rest(addr, r.until)
		}
	}
	for _, h := range a.holdings {
		a.mark(h)
	}
}

// place sorts a held address into one of: in a pool's ranges, outside, expelled.
// What no pool contains, and a pool had that is not there, is expelled only if
// it was in a pool until now: an adopted one waits for its pool.
func (a *Allocator) place(addr netip.Addr, was bool) {
	if p := a.inRange(addr); p != nil {
		a.from[addr] = p.name
		delete(a.expelled, addr)
		return
	}
	switch p := a.pools[a.from[addr]]; {
	case p != nil && p.keepOutside:
		a.outside[addr] = p
		delete(a.expelled, addr)
	case p != nil || was:
		a.expelled[addr] = struct{}{}
	}
}

// mark records in the pools what a holding has of them.
func (a *Allocator) mark(h Holding) {
	for _, addr := range h.Addresses {
		a.wakened(addr)
		if p := a.poolOf(addr); p != nil {
			a.from[addr] = p.name
			p.take(addr)
			if p.contains(addr) { // nobody joins one that is outside
				p.enter(addr, h.Terms)
			}
			p.count(h.Terms, addr, 1)
		}
	}
}

// PoolOf names the pool that an address belongs to: the one whose ranges
// contain it, or that keeps it although they do not.
func (a *Allocator) PoolOf(addr netip.Addr) (name string, ok bool) {
	if p := a.poolOf(addr); p != nil {
		return p.name, true
	}
	return "", false
}

func (a *Allocator) poolOf(addr netip.Addr) *pool {
	if p := a.inRange(addr); p != nil {
		return p
	}
	return a.outside[addr]
}

// inRange returns the pool whose ranges contain an address, or nil.
func (a *Allocator) inRange(addr netip.Addr) *pool {
	i, found := slices.BinarySearchFunc(a.order, addr,
		func(s span, t netip.Addr) int { return s.From().Compare(t) })
	if !found {
		i--
	}
	if i < 0 || !a.order[i].Contains(addr) {
		return nil
	}
	return a.order[i].pool
}

// From names the pool that a held address is in, or was in last: "" when it was
// in none as far as is known.
func (a *Allocator) From(addr netip.Addr) string { return a.from[addr] }

// Expelled reports whether a held address was in a pool once and is in none any
// more. One that was never in a pool is not expelled.
func (a *Allocator) Expelled(addr netip.Addr) bool {
	_, ok := a.expelled[addr]
	return ok && a.poolOf(addr) == nil
}

// Outside returns the held addresses that a pool keeps although its ranges do
// not contain them, sorted.
func (a *Allocator) Outside(pool string) []netip.Addr {
	var out []netip.Addr
	for addr, p := range a.outside {
		if p.name == pool && len(a.holders[addr]) > 0 {
			out = append(out, addr)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// Keeping names the pools that keep addresses outside their ranges, sorted.
func (a *Allocator) Keeping() []string {
	names := map[string]struct{}{}
	for addr, p := range a.outside {
		if len(a.holders[addr]) > 0 {
			names[p.name] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// OutsideRanges returns what Outside does as ranges that do not touch, sorted,
// at most so many (two or more). Where there would be more, those that are
// closest to each other are joined. The ranges then contain more than what is
// outside: addresses that nobody holds, or that are in the ranges of a pool.
// Those that are held and belong to no pool, or outside to another, come between
// two ranges as long as the number permits it.
func (a *Allocator) OutsideRanges(pool string, most int) []netipx.IPRange {
	var out []netipx.IPRange
	for _, addr := range a.Outside(pool) {
		if last := len(out) - 1; last >= 0 && out[last].To().Next() == addr {
			out[last] = netipx.IPRangeFrom(out[last].From(), addr)
			continue
		}
		out = append(out, netipx.IPRangeFrom(addr, addr))
	}
	if len(out) <= most {
		return out
	}
	var others []netip.Addr
	for addr := range a.holders {
		if p := a.poolOf(addr); p == nil || p.name != pool && !p.contains(addr) {
			others = append(others, addr)
		}
	}
	slices.SortFunc(others, netip.Addr.Compare)
	return join(out, others, most)
}

// Lowest returns the lowest address of a pool's family that is free and does
// not rest at the time now. It does not take it.
func (a *Allocator) Lowest(pool string, is6 bool, now time.Time) (netip.Addr, bool) {
	p := a.pools[pool]
	if p == nil {
		return netip.Addr{}, false
	}
	a.wake(p, now)
	return p.lowest(is6)
}

// wake ends the rests of a pool that are over.
func (a *Allocator) wake(p *pool, now time.Time) {
	for _, addr := range p.wake(now) {
		a.wakened(addr)
	}
}

// rested remembers that an address rests, wakened that it does so no more.
func (a *Allocator) rested(addr netip.Addr, r rest) {
	a.resting[addr] = r
	if a.had[r.former] == nil {
		a.had[r.former] = map[netip.Addr]struct{}{}
	}
	a.had[r.former][addr] = struct{}{}
}

func (a *Allocator) wakened(addr netip.Addr) {
	r, ok := a.resting[addr]
	if !ok {
		return
	}
	delete(a.resting, addr)
	delete(a.had[r.former], addr)
	if len(a.had[r.former]) == 0 {
		delete(a.had, r.former)
	}
}

// Former returns the lowest address of a pool's family that rests at the time
// now, that holder had before, and may have back.
func (a *Allocator) Former(pool string, is6 bool, holder Holder, now time.Time) (netip.Addr, bool) {
	var best netip.Addr
	if p := a.pools[pool]; p != nil {
		a.wake(p, now)
		for addr := range a.had[holder] {
			_, rests := p.restAt[addr]
			if rests && addr.Is6() == is6 && (!best.IsValid() || addr.Less(best)) {
				best = addr
			}
		}
	}
	return best, best.IsValid()
}

// FirstRested reports when the first of a pool's resting addresses of a family
// can be chosen again; ok is false when none rests.
func (a *Allocator) FirstRested(pool string, is6 bool) (at time.Time, ok bool) {
	if p := a.pools[pool]; p != nil {
		p.rests.Ascend(func(r restUntil) bool {
			at, ok = r.until, r.addr.Is6() == is6
			return !ok
		})
	}
	if !ok {
		return time.Time{}, false
	}
	return at, true
}

// Rested reports when the first of a pool's resting addresses can be chosen
// again; ok is false when none rests.
func (a *Allocator) Rested(pool string) (at time.Time, ok bool) {
	p := a.pools[pool]
	if p == nil {
		return time.Time{}, false
	}
	first, ok := p.rests.Min()
	return first.until, ok
}

// Used returns how many addresses of a pool a group would hold if holder held
// has, and how many it may. Both are 0 for a pool without a quota: nothing is
// counted for it.
func (a *Allocator) Used(pool, group string, holder Holder, has []netip.Addr) (used, quota int) {
	p := a.pools[pool]
	if p == nil || p.quota == 0 {
		return 0, 0
	}
	used = len(p.groups[group])
	own := a.holdings[holder]
	for _, addr := range own.Addresses {
		counted := own.Terms.Group == group && !own.Terms.Foreign && a.poolOf(addr) == p
		if counted && p.groups[group][addr] == 1 && !slices.Contains(has, addr) {
			used--
		}
	}
	for _, addr := range has {
		if p.groups[group][addr] == 0 && a.poolOf(addr) == p {
			used++
		}
	}
	return used, p.quota
}

// Has reports whether a pool has any address of a family, free or not.
func (a *Allocator) Has(pool string, is6 bool) bool {
	p := a.pools[pool]
	return p != nil && slices.ContainsFunc(p.ranges,
		func(r netipx.IPRange) bool { return r.From().Is6() == is6 })
}

// Check reports whether holder may have addr on the given terms. The error is a
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

// conflict returns a *ConflictError for the first holder of addr with whom holder
// cannot share it.
func (a *Allocator) conflict(addr netip.Addr, holder Holder, terms Terms) error {
	if r := a.rival(addr, holder, terms); r.why != compatible {
		return &ConflictError{
			Address: addr,
			Holder:  r.with,
			Foreign: a.holdings[r.with].Terms.Foreign,
			Why:     r.explain(terms),
		}
	}
	return nil
}

// Adopt does what Assign does, for what holder was given by an Allocator before this one. from
// names the pool that an address was of, as far as that is known: an address that
// its ranges no longer contain stays with it, or is expelled, as if it had been
// held when they were changed.
func (a *Allocator) Adopt(
	holder Holder, addrs []netip.Addr, terms Terms, from map[netip.Addr]string, now time.Time,
) error {
	for _, addr := range addrs {
		if err := a.conflict(addr, holder, terms); err != nil {
			return err
		}
	}
	for _, addr := range addrs {
		name, known := from[addr], a.from[addr] != ""
		if name == "" || known || a.inRange(addr) != nil {
			continue
		}
		a.from[addr] = name
		a.place(addr, false)
		for _, other := range a.holders[addr] { // who holds it though no pool was known
			if p := a.outside[addr]; p != nil && other != holder {
				p.count(a.holdings[other].Terms, addr, 1)
			}
		}
	}
	return a.Assign(holder, addrs, terms, now)
}

// Assign makes holder hold exactly addrs on the given terms, in place of what
// it held before. The error is a *ConflictError for one of the addresses, and
// then nothing changes. Addresses outside every pool can be held too: a pool
// that comes later then finds them taken. What holder gives up rests from now
// on.
func (a *Allocator) Assign(holder Holder, addrs []netip.Addr, terms Terms, now time.Time) error {
	for _, addr := range addrs {
		if err := a.conflict(addr, holder, terms); err != nil {
			return err
		}
	}
	a.giveUp(holder, addrs, now)
	if len(addrs) == 0 {
		return nil
	}
	h := Holding{Addresses: slices.Clone(addrs), Terms: terms}
	a.holdings[holder] = h
	for _, addr := range h.Addresses {
		hs := a.holders[addr]
		i, _ := slices.BinarySearch(hs, holder)
		a.holders[addr] = slices.Insert(hs, i, holder)
		a.gather(addr, holder, terms)
	}
	a.mark(h)
	return nil
}

// Release takes everything from holder and returns what it held. What nobody
// else holds rests from now on, if its pool says so.
func (a *Allocator) Release(holder Holder, now time.Time) []netip.Addr {
	return a.giveUp(holder, nil, now)
}

// giveUp takes everything from holder, who is about to get addresses again:
// of these it is not forgotten whose they are.
func (a *Allocator) giveUp(holder Holder, again []netip.Addr, now time.Time) []netip.Addr {
	h, ok := a.holdings[holder]
	if !ok {
		return nil
	}
	delete(a.holdings, holder)
	for _, addr := range h.Addresses {
		p := a.poolOf(addr)
		if p != nil {
			p.count(h.Terms, addr, -1)
		}
		hs := a.holders[addr]
		if i, found := slices.BinarySearch(hs, holder); found {
			hs = slices.Delete(hs, i, i+1)
		}
		last := a.scatter(addr, holder, h.Terms)
		if p != nil && p.contains(addr) {
			p.leave(addr, h.Terms, len(hs) == 0 || p.shareInGroup && last)
		}
		if len(hs) > 0 {
			a.holders[addr] = hs
			continue
		}
		delete(a.holders, addr)
		if !slices.Contains(again, addr) {
			delete(a.outside, addr)
			delete(a.expelled, addr)
			delete(a.from, addr)
		}
		if p == nil {
			continue
		}
		if until := p.give(addr, now); until.After(now) {
			a.rested(addr, rest{until, holder})
		}
	}
	return h.Addresses
}

// Withhold has an address not be given out from now on, whichever pool comes to
// contain it. Its holders keep it. Assign does not enforce it: see Withheld.
func (a *Allocator) Withhold(addr netip.Addr, w Withholding) {
	if _, already := a.withheld[addr]; !already {
		a.wakened(addr)
		if p := a.inRange(addr); p != nil {
			p.withhold(addr)
		}
	}
	a.withheld[addr] = w
}

// Permit ends what Withhold began. An address that rested before does not rest any
// more.
func (a *Allocator) Permit(addr netip.Addr) {
	if _, ok := a.withheld[addr]; !ok {
		return
	}
	delete(a.withheld, addr)
	if p := a.inRange(addr); p != nil {
		p.permit(addr)
	}
}

// Withheld reports whether an address is withheld, and why.
func (a *Allocator) Withheld(addr netip.Addr) (Withholding, bool) {
	w, ok := a.withheld[addr]
	return w, ok
}

// WithheldOf returns how many addresses of a pool's family nobody has because they are
// withheld, and which is the lowest of them.
func (a *Allocator) WithheldOf(pool string, is6 bool) (lowest netip.Addr, n int) {
	p := a.pools[pool]
	if p == nil {
		return netip.Addr{}, 0
	}
	for addr := range p.withheld {
		if _, taken := p.taken[addr]; taken || addr.Is6() != is6 {
			continue
		}
		n++
		if !lowest.IsValid() || addr.Less(lowest) {
			lowest = addr
		}
	}
	return lowest, n
}

// Held returns what holder has. The caller must not change it.
func (a *Allocator) Held(holder Holder) (Holding, bool) {
	h, ok := a.holdings[holder]
	return h, ok
}

// Holdings yields every holder and what it has, in no order. What it yields must not be
// changed, nor the Allocator meanwhile.
func (a *Allocator) Holdings() iter.Seq2[Holder, Holding] { return maps.All(a.holdings) }

// Holders returns who holds an address, sorted. The caller must not change
// it.
func (a *Allocator) Holders(addr netip.Addr) []Holder { return a.holders[addr] }

// Counts returns how full a pool is at the time now; zero for an unknown pool.
func (a *Allocator) Counts(pool string, now time.Time) Counts {
	if p := a.pools[pool]; p != nil {
		a.wake(p, now)
		return p.counts()
	}
	return Counts{}
}

// Pools returns the names of all pools, sorted.
func (a *Allocator) Pools() []string {
	return slices.SortedFunc(maps.Keys(a.pools), cmp.Compare[string])
}
