package assignment

import (
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/allocator"
	"github.com/berth-lb/berth/pkg/config"
)

// Random runs are many unless the command line says otherwise, and leave no
// files behind: the seed that a failure prints is enough to repeat it.
func init() {
	for name, value := range map[string]string{
		"rapid.checks":     "400",
		"rapid.steps":      "60",
		"rapid.nofailfile": "true",
	} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
}

// cluster is a world with Services that change at random.
type cluster struct {
	*world
	pools    []v1beta1.IPAddressPool
	services map[string]Service // as the cache shows them
	stale    map[string]Service // as it showed them once
	// looked are the Services that were looked at since their spec changed.
	looked map[string]bool
}

func (c *cluster) names() []string {
	var out []string
	for name := range c.services {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// holdings are what every Service holds, but for one.
func (c *cluster) holdings(but string) map[string]string {
	out := map[string]string{}
	for name, s := range c.services {
		if h, ok := c.record.Held(s.Holder); ok && name != but {
			out[name] = fmt.Sprint(h.Addresses)
		}
	}
	return out
}

// rightful tells, in other words than Decide, whether nothing but another
// Service could be a reason to take an address away.
func (c *cluster) rightful(s Service, addr netip.Addr) bool {
	pool, inPool := c.record.PoolOf(addr)
	if !inPool || s.RequestedPool != "" && s.RequestedPool != pool ||
		!slices.Contains(s.Families, FamilyOf(addr)) {
		return false
	}
	for _, asked := range s.RequestedAddresses {
		if asked.Is4() == addr.Is4() && asked != addr {
			return false
		}
	}
	return true
}

// lookAt has one Service decided about, as the controller does, and checks
// what must be true of any decision.
func (c *cluster) lookAt(t *rapid.T, name string, stale bool) {
	s := c.services[name]
	held, holds := c.record.Held(s.Holder)
	before := slices.Clone(held.Addresses)
	others := c.holdings(name)
	sharers := map[netip.Addr][]allocator.Holder{}
	for _, other := range c.names() {
		if h, _ := c.record.Held(c.services[other].Holder); other != name {
			for _, addr := range h.Addresses {
				sharers[addr] = append(sharers[addr], c.services[other].Holder)
			}
		}
	}
	seen := s
	if stale && holds {
		was := c.stale[name]
		seen.Status, seen.Lost, seen.Wrote, seen.From = was.Status, was.Lost, was.Wrote, was.From
	}
	decide := func(s Service, has []netip.Addr) Decision {
		return Decide(Input{Service: s, Held: has, Config: &c.config, Addresses: c.record, Now: c.now})
	}
	d := decide(seen, held.Addresses)
	if again := decide(seen, held.Addresses); fmt.Sprint(again) != fmt.Sprint(d) {
		t.Fatalf("of the same, two decisions:\n%+v\n%+v", d, again)
	}
	if err := c.record.Assign(s.Holder, d.Addresses, s.Terms, c.now); err != nil {
		t.Fatalf("the decision for %s cannot be recorded: %v", name, err)
	}
	if after := c.holdings(name); fmt.Sprint(after) != fmt.Sprint(others) {
		t.Fatalf("looking at %s changes others: %v, before %v", name, after, others)
	}
	for _, addr := range before {
		if c.looked[name] && c.rightful(s, addr) && !slices.Contains(d.Addresses, addr) {
			t.Fatalf("%s loses %s without cause: %+v", name, addr, d)
		}
	}
	for _, addr := range d.Addresses {
		if !slices.Contains(before, addr) && (holds || !slices.Contains(s.Status, addr)) {
			c.mayBeGiven(t, s, addr, sharers[addr])
		}
	}
	c.wellFormed(t, s, d)
	c.stale[name] = s
	c.services[name], c.looked[name] = written(s, d), true

	// Read back and looked at again, nothing changes.
	now, _ := c.record.Held(s.Holder)
	again := decide(c.services[name], now.Addresses)
	if fmt.Sprint(again) != fmt.Sprint(d) {
		t.Fatalf("looked at again, %s gets another decision:\n%+v\nbefore\n%+v", name, again, d)
	}
}

// incomplete are the reasons for which a Service may keep all addresses that it needs
// without being Assigned.
var incomplete = []v1beta1.Reason{
	v1beta1.ReasonPoolMissing,
	v1beta1.ReasonPoolNotFoundForService,
	v1beta1.ReasonAddressNotInPool,
	v1beta1.ReasonNoEligiblePool, // it asks for an address of a deleted pool
}

// mayBeGiven checks, in other words than Decide, that nothing forbids to give a
// Service an address that others share.
func (c *cluster) mayBeGiven(t *rapid.T, s Service, addr netip.Addr, sharers []allocator.Holder) {
	name, _ := c.record.PoolOf(addr)
	p := c.config.Pool(name)
	asked := slices.Contains(s.RequestedAddresses, addr)
	node, ofNode := c.nodes[addr]
	if ofNode && !p.AllowNodeAddresses && !(node.Reported && (asked || len(sharers) > 0)) {
		t.Fatalf("%s gets %s, and %s", s.Holder, addr, node)
	}
	for _, namer := range c.external.namers[addr] {
		if namer.Service != s.Holder || !asked && len(sharers) == 0 {
			t.Fatalf("%s gets %s, which %s names", s.Holder, addr, namer.Service)
		}
	}
	for _, other := range sharers {
		if p.ShareInNamespace && !strings.HasPrefix(string(other), s.Namespace+"/") {
			t.Fatalf("%s shares %s of pool %s with %s", s.Holder, addr, name, other)
		}
	}
}

// wellFormed checks what a decision says.
func (c *cluster) wellFormed(t *rapid.T, s Service, d Decision) {
	if d.Reason == "" || !strings.HasSuffix(d.Message, ".") || strings.Contains(d.Message, "%!") ||
		strings.Contains(d.Message, "  ") {
		t.Fatalf("%s is told %q, %q", s.Holder, d.Reason, d.Message)
	}
	all := len(d.Addresses) == len(s.Families)
	lacks := slices.Contains(incomplete, d.Reason) // it may keep all that it has
	if d.Assigned() && !all || !d.Assigned() && all && !lacks {
		t.Fatalf("%s wants %v and is %s with %v", s.Holder, s.Families, d.Reason, d.Addresses)
	}
	for i, addr := range d.Addresses {
		if slices.ContainsFunc(d.Addresses[:i], func(a netip.Addr) bool { return a.Is4() == addr.Is4() }) {
			t.Fatalf("%s has two of a family: %v", s.Holder, d.Addresses)
		}
		if _, ok := c.record.PoolOf(addr); !ok && (d.Assigned() || c.record.Expelled(addr)) {
			t.Fatalf("%s is %s and has %s, which is in no pool", s.Holder, d.Reason, addr)
		}
	}
	if d.Assigned() {
		return
	}
	for _, r := range d.Rejections {
		if !strings.Contains(d.Message, fmt.Sprintf("pool %s: %s (%s)", r.Pool, r.Message, r.Reason)) {
			t.Fatalf("%s is not told why not pool %s: %s", s.Holder, r.Pool, d.Message)
		}
	}
	pools := 0
	for _, p := range c.config.Pools {
		if p.Gone.IsZero() || p.Name == s.RequestedPool {
			pools++
		}
	}
	if len(d.Rejections) > 0 && len(d.Rejections) != pools {
		t.Fatalf("of %d pools %d are told: %s", pools, len(d.Rejections), d.Message)
	}
	if len(d.Rejections) == 0 && len(s.RequestedAddresses) == 0 && s.RequestedPool == "" &&
		pools > 0 && !lacks {
		t.Fatalf("%s asks for nothing and is not told of the pools: %s", s.Holder, d.Message)
	}
}

// lawful checks that nobody holds what another has, unless they may share.
func (c *cluster) lawful(t *rapid.T) {
	owners := map[netip.Addr][]string{}
	for _, name := range c.names() {
		h, _ := c.record.Held(c.services[name].Holder)
		for _, addr := range h.Addresses {
			for _, other := range owners[addr] {
				theirs, _ := c.record.Held(c.services[other].Holder)
				a, b := h.Terms, theirs.Terms
				if a.SharingKey == "" || a.SharingKey != b.SharingKey || a.Backends != b.Backends ||
					slices.ContainsFunc(a.Ports, func(p allocator.Port) bool {
						return slices.Contains(b.Ports, p)
					}) {
					t.Fatalf("%s is held by %s and %s, on terms %+v and %+v", addr, name, other, a, b)
				}
			}
			owners[addr] = append(owners[addr], name)
		}
	}
	for _, p := range c.config.Pools {
		four, six := allocator.Size(p.Ranges)
		n := c.record.Counts(p.Name, c.now)
		if n.Assigned4+n.Resting4+n.KeptBack4+n.Available4 != four ||
			n.Assigned6+n.Resting6+n.KeptBack6+n.Available6 != six {
			t.Fatalf("pool %s of %d and %d counts %+v", p.Name, four, six, n)
		}
	}
}

func aPool(t *rapid.T, name string, age int) v1beta1.IPAddressPool {
	var own, more []v1beta1.AddressRange
	switch name {
	case "a":
		own = []v1beta1.AddressRange{"192.0.2.0/30"}
		more = []v1beta1.AddressRange{"192.0.2.4/30", "2001:db8::/126"}
	case "b":
		own = []v1beta1.AddressRange{"192.0.2.8/30", "2001:db8::10/126"}
		more = []v1beta1.AddressRange{"192.0.2.0/28"}
	default:
		own, more = []v1beta1.AddressRange{"2001:db8::20/126"}, []v1beta1.AddressRange{"198.51.100.0/31"}
	}
	p := pool(name, addresses(own...))
	p.UID, p.CreationTimestamp.Time = "uid-"+p.UID, time.Unix(int64(age), 0)
	if rapid.Bool().Draw(t, "grown") {
		p.Spec.Addresses = append(p.Spec.Addresses, more...)
	}
	if rapid.IntRange(0, 3).Draw(t, "shrunk") == 0 {
		p.Spec.Exclude = []v1beta1.ExcludedRange{"192.0.2.1", "192.0.2.9-192.0.2.10", "2001:db8::10"}
	}
	p.Spec.Drain = rapid.IntRange(0, 5).Draw(t, "drain") == 0
	if rapid.IntRange(0, 3).Draw(t, "by hand") == 0 {
		p.Spec = byHand(p.Spec)
	}
	if rapid.IntRange(0, 3).Draw(t, "moves") == 0 {
		p.Spec.OnShrink = v1beta1.OnShrinkMove
	}
	if rapid.IntRange(0, 2).Draw(t, "rests") == 0 {
		reuseDelay(20 * time.Second)(&p.Spec)
	}
	p.Spec.AllowNodeAddresses = rapid.IntRange(0, 4).Draw(t, "gives out addresses of nodes") == 0
	p.Spec.Sharing = rapid.SampledFrom([]v1beta1.Sharing{
		"", v1beta1.SharingCluster, v1beta1.SharingNamespace,
	}).Draw(t, "sharing")
	p.Spec.QuotaPerNamespace = rapid.SampledFrom([]int32{0, 0, 2, 3}).Draw(t, "quota")
	if rapid.IntRange(0, 3).Draw(t, "pinned") == 0 {
		p.Spec = pinned(p.Spec, v1beta1.ServiceAllocation{
			Priority:   rapid.Int32Range(0, 2).Draw(t, "priority"),
			Namespaces: []string{"shop"},
		})
	}
	return p
}

// ofPools are some addresses of the pools.
var ofPools = []netip.Addr{
	ip("192.0.2.0"),
	ip("192.0.2.1"),
	ip("192.0.2.2"),
	ip("192.0.2.3"),
	ip("192.0.2.9"),
	ip("198.51.100.1"),
	ip("2001:db8::1"),
	ip("2001:db8::11"),
}

// someOfNodes are addresses of nodes.
func someOfNodes(t *rapid.T) map[netip.Addr]config.NodeAddress {
	out := map[netip.Addr]config.NodeAddress{}
	for _, addr := range rapid.SliceOfNDistinct(rapid.SampledFrom(ofPools), 0, 4,
		rapid.ID).Draw(t, "of nodes") {
		out[addr] = config.NodeAddress{Node: "n", Reported: rapid.Bool().Draw(t, "only reported")}
	}
	return out
}

func aService(t *rapid.T, name string) Service {
	s := of(map[bool]string{true: "shop", false: "yard"}[name < "s4"], name)
	switch rapid.SampledFrom([]string{
		"four", "four", "six", "prefer", "require", "reversed",
	}).Draw(t, "families") {
	case "six":
		s.Families = []Family{IPv6}
	case "prefer":
		s = dual(s, true)
	case "require":
		s = dual(s, false)
	case "reversed":
		s = dual(s, true, IPv6, IPv4)
	}
	s = sharing(s, rapid.SampledFrom([]string{"", "", "k", "l"}).Draw(t, "key"),
		uint16(rapid.IntRange(1, 4).Draw(t, "port")))
	if s.Terms.SharingKey != "" && rapid.IntRange(0, 3).Draw(t, "local") == 0 {
		s.Terms.Backends = s.Namespace
	}
	if rapid.IntRange(0, 4).Draw(t, "asks for a pool") == 0 {
		s.RequestedPool = rapid.SampledFrom([]string{"a", "b", "c", "nowhere"}).Draw(t, "pool")
	}
	if rapid.IntRange(0, 4).Draw(t, "asks for an address") == 0 {
		addr := ip(rapid.SampledFrom([]string{
			"192.0.2.1", "192.0.2.2", "192.0.2.9", "198.51.100.1", "203.0.113.1",
		}).Draw(t, "address"))
		if s.Families[0] == IPv6 {
			addr = ip(rapid.SampledFrom([]string{
				"2001:db8::1", "2001:db8::11", "2001:db8::99",
			}).Draw(t, "address"))
		}
		s.RequestedAddresses = []netip.Addr{addr}
	}
	return s
}

// Whatever happens, in whatever order: nothing moves without cause, no two
// have the same, and who waits is told why.
func TestAnythingGoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &cluster{
			world:    newWorld(),
			services: map[string]Service{},
			stale:    map[string]Service{},
			looked:   map[string]bool{},
		}
		anyOne := func(t *rapid.T) (string, bool) {
			if len(c.services) == 0 {
				return "", false
			}
			return rapid.SampledFrom(c.names()).Draw(t, "service"), true
		}
		setPools := func() {
			before := c.holdings("")
			c.setPools(c.pools...)
			if after := c.holdings(""); fmt.Sprint(after) != fmt.Sprint(before) {
				panic("an edit of pools changes holdings")
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"create or edit a Service": func(t *rapid.T) {
				name := rapid.SampledFrom([]string{
					"s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7",
				}).Draw(t, "service")
				s, old := aService(t, name), c.services[name]
				s.Status = old.Status
				s.Given = old.Given
				s.Lost = old.Lost
				s.Wrote = old.Wrote
				s.From = old.From
				c.services[name], c.looked[name] = s, false
				c.lookAt(t, name, rapid.Bool().Draw(t, "stale"))
			},
			"look": func(t *rapid.T) {
				if name, ok := anyOne(t); ok {
					c.lookAt(t, name, rapid.Bool().Draw(t, "stale"))
				}
			},
			"look at all": func(t *rapid.T) {
				for _, name := range rapid.Permutation(c.names()).Draw(t, "order") {
					c.lookAt(t, name, false)
				}
			},
			"delete a Service": func(t *rapid.T) {
				if name, ok := anyOne(t); ok {
					others := c.holdings(name)
					c.release(c.services[name])
					delete(c.services, name)
					delete(c.stale, name)
					delete(c.looked, name)
					if after := c.holdings(""); fmt.Sprint(after) != fmt.Sprint(others) {
						t.Fatalf("deleting %s changes others: %v, before %v", name, after, others)
					}
				}
			},
			"edit, create or delete pools": func(t *rapid.T) {
				c.pools = nil
				for i, name := range []string{"a", "b", "c"} {
					if rapid.IntRange(0, 4).Draw(t, "there") > 0 {
						c.pools = append(c.pools, aPool(t, name, i))
					}
				}
				setPools()
			},
			"replace pools": func(*rapid.T) { // deleted and created again at once
				if c.now.Equal(c.config.Recheck) {
					return
				}
				kept := c.pools
				c.pools = nil
				setPools()
				c.pools = kept
				setPools()
			},
			"nodes get and lose addresses": func(t *rapid.T) {
				c.nodes = someOfNodes(t)
				setPools()
			},
			"a Service names external IPs": func(t *rapid.T) {
				before := c.holdings("")
				name := allocator.Holder(rapid.SampledFrom([]string{
					"shop/s0", "yard/s5", "yard/other", "yard/more",
				}).Draw(t, "service"))
				addrs := rapid.SliceOfNDistinct(rapid.SampledFrom(ofPools), 0, 3,
					rapid.ID).Draw(t, "addresses")
				c.external.Set(Namer{Service: name}, addrs)
				c.withhold()
				if after := c.holdings(""); fmt.Sprint(after) != fmt.Sprint(before) {
					t.Fatalf("external IPs change holdings: %v, before %v", after, before)
				}
			},
			"time passes": func(t *rapid.T) {
				c.pass(time.Duration(rapid.IntRange(1, 40).Draw(t, "seconds")) * time.Second)
				if r := c.config.Recheck; !r.IsZero() && !r.After(c.now) {
					setPools()
				}
			},
			"restart": func(t *rapid.T) {
				for _, name := range c.names() { // the old leader has written all it decided
					if !c.looked[name] {
						c.lookAt(t, name, false)
					}
				}
				before := c.holdings("")
				setPools()
				ghosts := len(c.config.Pools) > len(c.pools)
				c.world = &world{record: allocator.New(), now: c.now, nodes: c.nodes, external: c.external}
				c.setPools(c.pools...)
				for _, name := range rapid.Permutation(c.names()).Draw(t, "order") {
					s := c.services[name]
					if err := c.record.Adopt(s.Holder, s.Status, s.Terms, s.From, c.now); err != nil {
						t.Fatalf("what %s has cannot be adopted: %v", name, err)
					}
				}
				if after := c.holdings(""); fmt.Sprint(after) != fmt.Sprint(before) {
					t.Fatalf("after the restart: %v, before %v", after, before)
				}
				if ghosts { // the new leader never saw those go: another test's
					return
				}
				for _, name := range c.names() {
					h, _ := c.record.Held(c.services[name].Holder)
					c.lookAt(t, name, false)
					now, _ := c.record.Held(c.services[name].Holder)
					for _, addr := range h.Addresses {
						if c.rightful(c.services[name], addr) && !slices.Contains(now.Addresses, addr) {
							t.Fatalf("%s loses %s by the restart", name, addr)
						}
					}
				}
			},
			"": func(t *rapid.T) { c.lawful(t) },
		})
	})
}

// Pools are edited, with a controller that leads or with none. In both histories
// every Service has the same addresses afterwards.
func TestARestartBetweenAnEditAndItsEffectChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var services []Service
		for i := range rapid.IntRange(1, 8).Draw(t, "services") {
			services = append(services, aService(t, fmt.Sprint("s", i)))
		}
		draw := func(label string, always bool) []v1beta1.IPAddressPool {
			var out []v1beta1.IPAddressPool
			for i, name := range []string{"a", "b", "c"} {
				if !always && rapid.IntRange(0, 4).Draw(t, label) == 0 {
					continue
				}
				p := aPool(t, name, i)
				p.Spec.ReuseDelay = nil // that an address rests is forgotten
				out = append(out, p)
			}
			return out
		}
		before := draw("there before", true)
		between := draw("there between", true)
		after := draw("there after", rapid.Bool().Draw(t, "none is deleted"))
		order := rapid.Permutation(services).Draw(t, "order of adoption")
		nodesBefore, nodesAfter := someOfNodes(t), someOfNodes(t)
		deleted := len(after) < len(between)

		history := func(restart bool) (had, soon, late map[string][]netip.Addr) {
			w := newWorld(before...)
			w.nodes = nodesBefore
			now := map[string]Service{}
			look := func() map[string][]netip.Addr {
				out := map[string][]netip.Addr{}
				for _, s := range services {
					if was, ok := now[string(s.Holder)]; ok {
						s = was
					}
					held, _ := w.record.Held(s.Holder)
					d := Decide(Input{
						Service:   s,
						Held:      held.Addresses,
						Config:    &w.config,
						Addresses: w.record,
						Now:       w.now,
					})
					if err := w.record.Assign(s.Holder, d.Addresses, s.Terms, w.now); err != nil {
						t.Fatal(err)
					}
					now[string(s.Holder)], out[string(s.Holder)] = written(s, d), d.Addresses
				}
				return out
			}
			look()
			w.setPools(between...)
			had = look()
			w.nodes = nodesAfter
			if restart {
				w = &world{record: allocator.New(), now: w.now, nodes: nodesAfter}
				w.setPools(after...)
				for _, s := range order {
					s := now[string(s.Holder)]
					if err := w.record.Adopt(s.Holder, s.Status, s.Terms, s.From, w.now); err != nil {
						t.Fatal(err)
					}
				}
			} else {
				w.setPools(after...)
			}
			look()
			soon = look()
			w.pass(config.ReplaceGrace)
			w.setPools(after...)
			look()
			return had, soon, look()
		}
		had, soon, late := history(false)
		_, soonToo, lateToo := history(true)
		if !deleted {
			if fmt.Sprint(soon) != fmt.Sprint(soonToo) || fmt.Sprint(late) != fmt.Sprint(lateToo) {
				t.Fatalf("had %v\nwithout a restart %v, then %v\nwith one %v, then %v",
					had, soon, late, soonToo, lateToo)
			}
			return
		}
		// Of a deleted pool another pool may get what was free in it, later or
		// sooner. What Services had they keep or lose all the same, but for what no
		// pool contains and nobody saw go: that they keep.
		there, _ := config.Parse(config.Objects{Pools: after}, config.Config{}, time.Unix(1e9, 0))
		for name, addrs := range had {
			for _, addr := range addrs {
				kept, keptToo := slices.Contains(late[name], addr), slices.Contains(lateToo[name], addr)
				if kept != keptToo && (kept || there.PoolOf(addr) != nil) {
					t.Fatalf("%s keeps %s without a restart: %v, with one: %v\nhad %v\nwithout a restart "+
						"%v, then %v\nwith one %v, then %v", name, addr, kept, keptToo,
						had, soon, late, soonToo, lateToo)
				}
			}
		}
	})
}

// Requests that do not compete have the same outcome in any order.
func TestTheOrderOfRequestsThatDoNotCompeteDoesNotMatter(t *testing.T) {
	w := func() *world {
		return newWorld(
			pool("auto", addresses("192.0.2.0/28", "2001:db8::/120")),
			pool("one", byHand(addresses("198.51.100.1/32"))),
			pool("two", byHand(addresses("198.51.100.2/32", "2001:db8:2::2/128"))),
			pool("shop", pinned(addresses("203.0.113.0/32"),
				v1beta1.ServiceAllocation{Namespaces: []string{"shop"}})),
			pool("rest", spec(draining, "10.0.0.0/24")),
		)
	}
	requests := []Service{
		asking(of("a", "addr-0"), "", "192.0.2.0"),
		asking(of("a", "addr-7"), "",
			"192.0.2.7"),
		asking(dual(of("a", "addr-both"), false), "", "192.0.2.9", "2001:db8::9"),
		asking(of("b", "pool-one"), "one"),
		asking(dual(of("b", "pool-two"), true), "two"),
		of("shop", "pinned"),
		asking(of("c", "drained"), "rest"),
		asking(of("c", "nowhere"), "nowhere"),
		asking(of("c", "no-address"), "", "10.9.9.9"),
		sharing(asking(of("d", "share-1"), "", "192.0.2.5"), "k", 1),
		sharing(asking(of("d", "share-2"), "", "192.0.2.5"), "k", 2),
	}
	outcome := func(requests []Service) map[string]string {
		w, out := w(), map[string]string{}
		for _, s := range requests {
			held, _ := w.record.Held(s.Holder)
			d := Decide(Input{
				Service:   s,
				Held:      held.Addresses,
				Config:    &w.config,
				Addresses: w.record,
				Now:       w.now,
			})
			if err := w.record.Assign(s.Holder, d.Addresses, s.Terms, w.now); err != nil {
				panic(err)
			}
			out[string(s.Holder)] = fmt.Sprint(d.Addresses, d.Reason, d.Message)
		}
		return out
	}
	first := fmt.Sprint(outcome(requests))
	if !strings.Contains(first, "198.51.100.2 2001:db8:2::2") ||
		!strings.Contains(first, "203.0.113.0 from pool shop") {
		t.Fatalf("outcome is %s", first)
	}
	rapid.Check(t, func(t *rapid.T) {
		order := rapid.Permutation(requests).Draw(t, "order")
		if got := fmt.Sprint(outcome(order)); got != first {
			t.Fatalf("outcome is\n%s\nwant\n%s", got, first)
		}
	})
}

// A Service that waits gets in when what it waits for comes, and it is the
// only one that changes.
func TestWhatFreesCapacityServesThoseThatWait(t *testing.T) {
	full := pool("p", addresses("192.0.2.1-192.0.2.2"))
	for story, free := range map[string]func(w *world){
		"an address is given back": func(w *world) { w.release(service("a")) },
		"the pool grows": func(w *world) {
			w.setPools(pool("p", addresses("192.0.2.1-192.0.2.3")))
		},
		"a pool comes": func(w *world) { w.setPools(full, pool("q", addresses("198.51.100.0/30"))) },
		"a pool is not drained any more": func(w *world) {
			w.setPools(full, pool("q", spec(draining, "198.51.100.0/30")))
			d := Decide(Input{Service: service("waits"), Config: &w.config, Addresses: w.record, Now: w.now})
			if d.Assigned() {
				panic("a drained pool gives " + d.Message)
			}
			w.setPools(full, pool("q", addresses("198.51.100.0/30")))
		},
	} {
		t.Run(story, func(t *testing.T) {
			w := newWorld(full)
			gives(t, w.look(t, service("a")), "192.0.2.1")
			gives(t, w.look(t, service("b")), "192.0.2.2")
			want(t, w.look(t, service("waits")), v1beta1.ReasonPoolsExhausted)
			free(w)
			if d := w.look(t, service("waits")); !d.Assigned() {
				t.Errorf("still %s: %s", d.Reason, d.Message)
			}
			gives(t, w.look(t, service("b")), "192.0.2.2")
		})
	}
}
