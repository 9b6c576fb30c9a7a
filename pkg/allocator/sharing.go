package allocator

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/btree"
)

// crowd is who has one address that is held under a sharing key. Any two of its
// holders may share with each other, so key and backends are of them all, and no
// port is of two.
type crowd struct {
	key, backends string
	ports         map[Port]Holder
	groups        map[string]int // how many holders are of each group
}

// clubName tells apart what may be joined by whom. The group is "" in a pool whose
// addresses are shared across groups.
type clubName struct {
	key, backends, group string
	is6                  bool
}

// club are addresses of one pool that are held on such terms, and on how many of
// them each port is in use by holders of these terms.
type club struct {
	addresses *btree.BTreeG[netip.Addr]
	used      map[Port]int
}

// clubOf names the club that holders of these terms are in.
func (p *pool) clubOf(terms Terms, is6 bool) clubName {
	name := clubName{key: terms.key(), backends: terms.Backends, is6: is6}
	if p.shareInGroup {
		name.group = terms.Group
	}
	return name
}

// enter notes that one more holder has an address, which the pool's ranges contain.
func (p *pool) enter(addr netip.Addr, terms Terms) {
	if terms.key() == "" {
		return
	}
	name := p.clubOf(terms, addr.Is6())
	c := p.clubs[name]
	if c == nil {
		c = &club{btree.NewG(degree, netip.Addr.Less), map[Port]int{}}
		p.clubs[name] = c
	}
	if p.shareInGroup {
		if p.byKey[name.key] == nil {
			p.byKey[name.key] = map[string]int{}
		}
		p.byKey[name.key][name.group]++
	}
	c.addresses.ReplaceOrInsert(addr)
	for i, port := range terms.Ports {
		if !slices.Contains(terms.Ports[:i], port) {
			c.used[port]++
		}
	}
}

// leave does the opposite of enter. last says that no holder of this club has the
// address any more.
func (p *pool) leave(addr netip.Addr, terms Terms, last bool) {
	name := p.clubOf(terms, addr.Is6())
	c := p.clubs[name]
	if c == nil {
		return
	}
	for i, port := range terms.Ports {
		if slices.Contains(terms.Ports[:i], port) {
			continue
		}
		if c.used[port]--; c.used[port] == 0 {
			delete(c.used, port)
		}
	}
	if last {
		c.addresses.Delete(addr)
	}
	if c.addresses.Len() == 0 {
		delete(p.clubs, name)
	}
	if !p.shareInGroup {
		return
	}
	if p.byKey[name.key][name.group]--; p.byKey[name.key][name.group] == 0 {
		delete(p.byKey[name.key], name.group)
	}
	if len(p.byKey[name.key]) == 0 {
		delete(p.byKey, name.key)
	}
}

// gather notes that holder has an address, among others it may share it with.
func (a *Allocator) gather(addr netip.Addr, holder Holder, terms Terms) {
	if terms.key() == "" {
		return
	}
	c := a.crowds[addr]
	if c == nil {
		c = &crowd{
			key:      terms.key(),
			backends: terms.Backends,
			ports:    map[Port]Holder{},
			groups:   map[string]int{},
		}
		a.crowds[addr] = c
	}
	for _, port := range terms.Ports {
		c.ports[port] = holder
	}
	c.groups[terms.Group]++
}

// scatter does the opposite of gather. It reports whether no other holder of the
// same group has the address.
func (a *Allocator) scatter(addr netip.Addr, holder Holder, terms Terms) (last bool) {
	c := a.crowds[addr]
	if c == nil {
		return true
	}
	for _, port := range terms.Ports {
		if c.ports[port] == holder {
			delete(c.ports, port)
		}
	}
	if c.groups[terms.Group]--; c.groups[terms.Group] == 0 {
		delete(c.groups, terms.Group)
		last = true
	}
	if len(c.groups) == 0 {
		delete(a.crowds, addr)
	}
	return last
}

// Shareable returns the lowest address of a pool's family that others hold and
// that holder may join on the given terms. Without a sharing key there is none, and
// of a pool with ShareInGroup none that a holder of another group has. With
// counted, it must be one that a holder of the same group has already, so that it
// makes no difference to Used.
//
// The cost grows with the number of addresses held under the key on which the ports
// are taken, and is small where they are taken on all.
func (a *Allocator) Shareable(
	pool string, is6 bool, holder Holder, terms Terms, counted bool,
) (netip.Addr, bool) {
	p := a.pools[pool]
	if p == nil || terms.key() == "" {
		return netip.Addr{}, false
	}
	name := p.clubOf(terms, is6)
	c := p.clubs[name]
	if c == nil || a.portTaken(p, c, name, holder, terms) {
		return netip.Addr{}, false
	}
	var found netip.Addr
	c.addresses.Ascend(func(addr netip.Addr) bool {
		w, withheld := a.withheld[addr]
		switch {
		case len(a.holders[addr]) == 1 && a.holders[addr][0] == holder:
		case withheld && !w.OnRequest && w.For != holder:
		case counted && !a.among(addr, holder, terms.Group):
		case p.shareInGroup && a.mixed(addr, holder, terms.Group):
		case a.rival(addr, holder, terms).why != compatible:
		default:
			found = addr
		}
		return !found.IsValid()
	})
	return found, found.IsValid()
}

// portTaken reports whether one port of terms is in use by others on every address of
// a club.
func (a *Allocator) portTaken(p *pool, c *club, name clubName, holder Holder, terms Terms) bool {
	own := a.holdings[holder]
	if p.clubOf(own.Terms, name.is6) != name {
		own = Holding{}
	}
	for _, port := range terms.Ports {
		used := c.used[port]
		for _, addr := range own.Addresses {
			if c.addresses.Has(addr) && slices.Contains(own.Terms.Ports, port) {
				used--
			}
		}
		if used == c.addresses.Len() {
			return true
		}
	}
	return false
}

// others counts the holders of an address that are of a group, and those of all
// groups, without one holder.
func (a *Allocator) others(addr netip.Addr, holder Holder, group string) (ofGroup, ofAll int) {
	ofGroup, ofAll = a.crowds[addr].groups[group], len(a.holders[addr])
	if own := a.holdings[holder]; slices.Contains(own.Addresses, addr) {
		ofAll--
		if own.Terms.Group == group {
			ofGroup--
		}
	}
	return ofGroup, ofAll
}

// among reports whether a holder of a group has an address, apart from one holder.
func (a *Allocator) among(addr netip.Addr, holder Holder, group string) bool {
	n, _ := a.others(addr, holder, group)
	return n > 0
}

// mixed reports whether a holder that is not of a group has an address, apart from
// one holder.
func (a *Allocator) mixed(addr netip.Addr, holder Holder, group string) bool {
	n, all := a.others(addr, holder, group)
	return n < all
}

// Outsider returns the first holder of another group with whom holder would share addr,
// or shares it, although its pool is shared only within groups; "" for none. Assign
// does not enforce that: who shared an address before may go on.
func (a *Allocator) Outsider(addr netip.Addr, holder Holder, group string) Holder {
	p := a.poolOf(addr)
	if p == nil || !p.shareInGroup || a.crowds[addr] == nil || !a.mixed(addr, holder, group) {
		return ""
	}
	for _, other := range a.holders[addr] {
		if other != holder && a.holdings[other].Terms.Group != group {
			return other
		}
	}
	return ""
}

// HeldElsewhere reports whether holders of other groups hold addresses of a pool
// under a sharing key, and the pool is shared only within groups.
func (a *Allocator) HeldElsewhere(pool, key, group string) bool {
	p := a.pools[pool]
	if p == nil {
		return false
	}
	groups := len(p.byKey[key])
	if p.byKey[key][group] > 0 {
		groups--
	}
	return groups > 0
}

// rivalry is why an address cannot be shared with one of its holders.
type rivalry struct {
	why  incompatibility
	with Holder
	key  string // its sharing key, where that is why
	port Port   // the port, where that is why
}

// incompatibility is one thing for which two holders cannot share an address.
type incompatibility int

const (
	compatible incompatibility = iota
	withoutKey
	otherKey
	otherBackends
	samePort
)

// rival returns the first holder of an address with whom holder cannot share it.
func (a *Allocator) rival(addr netip.Addr, holder Holder, terms Terms) rivalry {
	hs := a.holders[addr]
	if len(hs) > 0 && hs[0] == holder {
		hs = hs[1:]
	}
	if len(hs) == 0 {
		return rivalry{}
	}
	c := a.crowds[addr]
	switch {
	case c == nil || terms.key() == "":
		return rivalry{why: withoutKey, with: hs[0]}
	case c.key != terms.key():
		return rivalry{why: otherKey, with: hs[0], key: c.key}
	case c.backends != terms.Backends:
		return rivalry{why: otherBackends, with: hs[0]}
	}
	var out rivalry
	for _, port := range terms.Ports {
		if other := c.ports[port]; other != "" && other != holder && (out.with == "" || other < out.with) {
			out = rivalry{why: samePort, with: other, port: port}
		}
	}
	return out
}

// explain returns why in words, for a holder with these terms.
func (r rivalry) explain(terms Terms) string {
	switch r.why {
	case withoutKey:
		return "both must carry the same sharing key to share an address"
	case otherKey:
		return fmt.Sprintf("its sharing key is %q, not %q", r.key, terms.key())
	case otherBackends:
		return "with externalTrafficPolicy Local only Services of the same pods can share an address"
	case samePort:
		return fmt.Sprintf("both use port %s/%d", r.port.Protocol, r.port.Number)
	}
	return ""
}
