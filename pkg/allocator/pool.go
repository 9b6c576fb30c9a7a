package allocator

import (
	"net/netip"

	"github.com/google/btree"
	"go4.org/netipx"
)

// pool is the free and the taken of one Pool.
type pool struct {
	name       string
	ranges     []netipx.IPRange // sorted, not touching
	avoidBuggy bool
	free4      *btree.BTreeG[netipx.IPRange] // gaps between taken addresses, not touching
	free6      *btree.BTreeG[netipx.IPRange]
	taken      map[netip.Addr]struct{}
	taken4     int64
	shared     map[string]map[netip.Addr]struct{} // sharing key -> addresses held with it
	capacity4  count                              // without those that avoidBuggy keeps back
	capacity6  count
	buggyTaken int64 // taken although avoidBuggy keeps them back
}

// degree of the trees of gaps: nodes of a few cache lines.
const degree = 16

func newPool(p Pool) *pool {
	var b netipx.IPSetBuilder
	for _, r := range p.Ranges {
		b.AddRange(r)
	}
	// The error tells of invalid ranges, which netipx leaves out.
	set, _ := b.IPSet()
	byStart := func(x, y netipx.IPRange) bool { return x.From().Less(y.From()) }
	np := &pool{
		name:       p.Name,
		ranges:     set.Ranges(),
		avoidBuggy: p.AvoidBuggy,
		free4:      btree.NewG(degree, byStart),
		free6:      btree.NewG(degree, byStart),
		taken:      map[netip.Addr]struct{}{},
		shared:     map[string]map[netip.Addr]struct{}{},
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
		if !p.avoidBuggy || !buggy(gap.From()) {
			return gap.From(), true
		}
		p.cut(gap.From())
	}
}

// take marks an address of the pool as held.
func (p *pool) take(addr netip.Addr) {
	if _, ok := p.taken[addr]; ok {
		return
	}
	p.taken[addr] = struct{}{}
	if addr.Is4() {
		p.taken4++
		if p.avoidBuggy && buggy(addr) {
			p.buggyTaken++
		}
	}
	p.cut(addr)
}

// cut removes an address from the gap that holds it, if one does.
func (p *pool) cut(addr netip.Addr) {
	tree := p.free(addr)
	var gap netipx.IPRange
	tree.DescendLessOrEqual(netipx.IPRangeFrom(addr, addr), func(g netipx.IPRange) bool { gap = g; return false })
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

// give marks a held address of the pool as free.
func (p *pool) give(addr netip.Addr) {
	if _, ok := p.taken[addr]; !ok {
		return
	}
	delete(p.taken, addr)
	if addr.Is4() {
		p.taken4--
		if p.avoidBuggy && buggy(addr) {
			p.buggyTaken--
			return
		}
	}
	p.join(addr)
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

func (p *pool) share(key string, addr netip.Addr) {
	if key == "" {
		return
	}
	if p.shared[key] == nil {
		p.shared[key] = map[netip.Addr]struct{}{}
	}
	p.shared[key][addr] = struct{}{}
}

func (p *pool) unshare(key string, addr netip.Addr) {
	delete(p.shared[key], addr)
	if len(p.shared[key]) == 0 {
		delete(p.shared, key)
	}
}

func (p *pool) counts() Counts {
	c := Counts{Assigned4: p.taken4, Assigned6: int64(len(p.taken)) - p.taken4}
	c.Available4 = p.capacity4.minus(c.Assigned4 - p.buggyTaken).capped()
	c.Available6 = p.capacity6.minus(c.Assigned6).capped()
	return c
}
