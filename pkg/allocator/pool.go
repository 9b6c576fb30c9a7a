package allocator

import (
	"net/netip"
	"slices"
	"time"

	"github.com/google/btree"
	"go4.org/netipx"
)

// pool is the free and the taken of one Pool. An address of its ranges is in
// exactly one of: taken, resting, kept back (by avoidBuggy or withheld), a gap.
type pool struct {
	name         string
	ranges       []netipx.IPRange // sorted, not touching
	avoidBuggy   bool
	reuseDelay   time.Duration
	quota        int
	keepOutside  bool
	shareInGroup bool
	free4        *btree.BTreeG[netipx.IPRange] // gaps between taken addresses, not touching
	free6        *btree.BTreeG[netipx.IPRange]
	taken        map[netip.Addr]struct{}
	taken4       int64
	rests        *btree.BTreeG[restUntil] // the resting, first to end first
	restAt       map[netip.Addr]time.Time // their ends by address
	rests4       int64
	clubs        map[clubName]*club
	byKey        map[string]map[string]int     // sharing key -> group -> holdings; with shareInGroup
	groups       map[string]map[netip.Addr]int // group -> its addresses -> how often held
	capacity4    count                         // without those that avoidBuggy keeps back
	capacity6    count
	buggy        int64 // that avoidBuggy keeps back
	buggyTaken   int64 // of these
	withheld     map[netip.Addr]struct{}
	withheld4    int64 // of these, neither taken nor kept back by avoidBuggy
	withheld6    int64
}

// restUntil is a resting address.
type restUntil struct {
	until time.Time
	addr  netip.Addr
}

// degree of the trees of gaps: nodes of a few cache lines.
const degree = 16

func newPool(p Pool) *pool {
	var b netipx.IPSetBuilder
	for _, r := range p.Ranges {
		b.AddRange(r)
	}
	// The error names invalid ranges, which netipx leaves out.
	set, _ := b.IPSet()
	byStart := func(x, y netipx.IPRange) bool { return x.From().Less(y.From()) }
	byEnd := func(x, y restUntil) bool {
		if c := x.until.Compare(y.until); c != 0 {
			return c < 0
		}
		return x.addr.Less(y.addr)
	}
	np := &pool{
		name:         p.Name,
		ranges:       set.Ranges(),
		avoidBuggy:   p.AvoidBuggy,
		reuseDelay:   p.ReuseDelay,
		quota:        p.Quota,
		keepOutside:  p.KeepOutside,
		shareInGroup: p.ShareInGroup,
		free4:        btree.NewG(degree, byStart),
		free6:        btree.NewG(degree, byStart),
		taken:        map[netip.Addr]struct{}{},
		rests:        btree.NewG(degree, byEnd),
		restAt:       map[netip.Addr]time.Time{},
		clubs:        map[clubName]*club{},
		byKey:        map[string]map[string]int{},
		groups:       map[string]map[netip.Addr]int{},
		withheld:     map[netip.Addr]struct{}{},
	}
	for _, r := range np.ranges {
		np.free(r.From()).ReplaceOrInsert(r)
		if r.From().Is6() {
			np.capacity6 = np.capacity6.plus(size(r))
			continue
		}
		np.capacity4 = np.capacity4.plus(size(r))
		if np.avoidBuggy {
			np.capacity4 = np.capacity4.minus(buggyIn(r))
			np.buggy += buggyIn(r)
		}
	}
	return np
}

func (p *pool) free(addr netip.Addr) *btree.BTreeG[netipx.IPRange] {
	if addr.Is6() {
		return p.free6
	}
	return p.free4
}

// lowest returns the lowest free address of a family. Addresses that
// avoidBuggy keeps back are cut from the gaps they begin, so that no later
// search meets them again.
func (p *pool) lowest(is6 bool) (netip.Addr, bool) {
	tree := p.free4
	if is6 {
		tree = p.free6
	}
	for {
		gap, ok := tree.Min()
		if !ok {
			return netip.Addr{}, false
		}
		if !p.avoids(gap.From()) {
			return gap.From(), true
		}
		p.cut(gap.From())
	}
}

// contains reports whether an address is in the pool's ranges.
func (p *pool) contains(addr netip.Addr) bool {
	i, found := slices.BinarySearchFunc(p.ranges, addr,
		func(r netipx.IPRange, t netip.Addr) int { return r.From().Compare(t) })
	if !found {
		i--
	}
	return i >= 0 && p.ranges[i].Contains(addr)
}

// avoids reports whether avoidBuggy keeps an address from being chosen.
func (p *pool) avoids(addr netip.Addr) bool { return p.avoidBuggy && buggy(addr) }

// withholds reports whether only that it is withheld keeps an address from being
// chosen when nobody has it.
func (p *pool) withholds(addr netip.Addr) bool {
	_, ok := p.withheld[addr]
	return ok && !p.avoids(addr)
}

// withhold has an address of the pool's ranges not be chosen any more.
func (p *pool) withhold(addr netip.Addr) {
	p.withheld[addr] = struct{}{}
	if _, taken := p.taken[addr]; taken || p.avoids(addr) {
		return
	}
	p.unrest(addr)
	p.cut(addr)
	p.countWithheld(addr, 1)
}

// permit does the opposite of withhold.
func (p *pool) permit(addr netip.Addr) {
	delete(p.withheld, addr)
	if _, taken := p.taken[addr]; taken || p.avoids(addr) {
		return
	}
	p.countWithheld(addr, -1)
	p.join(addr)
}

func (p *pool) countWithheld(addr netip.Addr, n int64) {
	if addr.Is4() {
		p.withheld4 += n
		return
	}
	p.withheld6 += n
}

// take marks an address as held. One outside the pool's ranges is not counted.
func (p *pool) take(addr netip.Addr) {
	if _, ok := p.taken[addr]; ok || !p.contains(addr) {
		return
	}
	p.taken[addr] = struct{}{}
	if addr.Is4() {
		p.taken4++
		if p.avoids(addr) {
			p.buggyTaken++
		}
	}
	if p.withholds(addr) {
		p.countWithheld(addr, -1)
	}
	p.unrest(addr)
	p.cut(addr)
}

// cut removes an address from the gap that holds it, if one does.
func (p *pool) cut(addr netip.Addr) {
	tree := p.free(addr)
	var gap netipx.IPRange
	tree.DescendLessOrEqual(netipx.IPRangeFrom(addr, addr),
		func(g netipx.IPRange) bool { gap = g; return false })
	if !gap.IsValid() || !gap.Contains(addr) {
		return
	}
	tree.Delete(gap)
	if gap.From() != addr {
		tree.ReplaceOrInsert(netipx.IPRangeFrom(gap.From(), addr.Prev()))
	}
	if gap.To() != addr {
		tree.ReplaceOrInsert(netipx.IPRangeFrom(addr.Next(), gap.To()))
	}
}

// give marks a held address as free. It returns when the address can be
// chosen again.
func (p *pool) give(addr netip.Addr, now time.Time) time.Time {
	if _, ok := p.taken[addr]; !ok {
		return now
	}
	delete(p.taken, addr)
	if addr.Is4() {
		p.taken4--
	}
	switch {
	case p.avoids(addr):
		p.buggyTaken--
	case p.withholds(addr):
		p.countWithheld(addr, 1)
	case p.reuseDelay > 0:
		p.rest(addr, now.Add(p.reuseDelay))
		return now.Add(p.reuseDelay)
	default:
		p.join(addr)
	}
	return now
}

// rest keeps a free address from being chosen for a while.
func (p *pool) rest(addr netip.Addr, until time.Time) {
	if !p.contains(addr) || p.avoids(addr) || p.withholds(addr) {
		return
	}
	p.cut(addr)
	p.rests.ReplaceOrInsert(restUntil{until, addr})
	p.restAt[addr] = until
	if addr.Is4() {
		p.rests4++
	}
}

// unrest ends the rest of an address, if it rests.
func (p *pool) unrest(addr netip.Addr) {
	until, ok := p.restAt[addr]
	if !ok {
		return
	}
	delete(p.restAt, addr)
	p.rests.Delete(restUntil{until, addr})
	if addr.Is4() {
		p.rests4--
	}
}

// wake frees the addresses whose rest is over, and returns them.
func (p *pool) wake(now time.Time) []netip.Addr {
	var out []netip.Addr
	for {
		first, ok := p.rests.Min()
		if !ok || first.until.After(now) {
			return out
		}
		p.unrest(first.addr)
		p.join(first.addr)
		out = append(out, first.addr)
	}
}

// join adds an address to the gaps and merges it with those that it touches.
func (p *pool) join(addr netip.Addr) {
	tree, gap := p.free(addr), netipx.IPRangeFrom(addr, addr)
	tree.DescendLessOrEqual(gap, func(g netipx.IPRange) bool {
		if g.To().Next() == addr {
			gap = netipx.IPRangeFrom(g.From(), addr)
		}
		return false
	})
	if next, ok := tree.Get(netipx.IPRangeFrom(addr.Next(), addr.Next())); ok {
		tree.Delete(next)
		gap = netipx.IPRangeFrom(gap.From(), next.To())
	}
	tree.ReplaceOrInsert(gap)
}

// count adds n to how often the group of a holder with these terms holds an address,
// if there is a quota.
func (p *pool) count(terms Terms, addr netip.Addr, n int) {
	if p.quota == 0 || terms.Foreign {
		return
	}
	group := terms.Group
	if p.groups[group] == nil {
		p.groups[group] = map[netip.Addr]int{}
	}
	p.groups[group][addr] += n
	if p.groups[group][addr] <= 0 {
		delete(p.groups[group], addr)
	}
	if len(p.groups[group]) == 0 {
		delete(p.groups, group)
	}
}

func (p *pool) counts() Counts {
	rests6 := int64(len(p.restAt)) - p.rests4
	c := Counts{
		Assigned4: p.taken4,
		Assigned6: int64(len(p.taken)) - p.taken4,
		Resting4:  p.rests4,
		Resting6:  rests6,
		KeptBack4: p.buggy - p.buggyTaken + p.withheld4,
		KeptBack6: p.withheld6,
	}
	c.Available4 = p.capacity4.minus(c.Assigned4 - p.buggyTaken + c.Resting4 + p.withheld4).capped()
	c.Available6 = p.capacity6.minus(c.Assigned6 + c.Resting6 + p.withheld6).capped()
	return c
}
