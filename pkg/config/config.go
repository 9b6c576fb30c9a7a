// Package config turns the API objects that users write into values that the
// rest of Berth works with: text is parsed once, and what Parse returns holds
// nothing invalid.
//
// Problems are per object. An object that cannot be understood keeps the
// version that was last understood, and never stops another.
package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/allocator"
)

// Kinds of the objects that a Problem can be about.
const (
	KindIPAddressPool    = "IPAddressPool"
	KindL2Advertisement  = "L2Advertisement"
	KindBGPAdvertisement = "BGPAdvertisement"
	KindBGPPeer          = "BGPPeer"
	KindBFDProfile       = "BFDProfile"
	KindCommunity        = "Community"
)

// Objects are the API objects of one cluster.
type Objects struct {
	Pools            []v1beta1.IPAddressPool
	L2Advertisements []v1beta1.L2Advertisement

	BGPAdvertisements []v1beta1.BGPAdvertisement
	BGPPeers          []v1beta1.BGPPeer
	BFDProfiles       []v1beta1.BFDProfile
	Communities       []v1beta1.Community
	// Secrets are those of Namespace, Berth's own, that BGPPeers may name. Those of
	// another type than passwords have may be without their type and data.
	Secrets   []corev1.Secret
	Namespace string
	// SecretsUnread is set by who may not read Secrets: passwords count as
	// found, and are empty.
	SecretsUnread bool
	// NodeLabels are the labels of each node. They are asked only whether
	// selectors meet any, and those of two advertisements the same; without them
	// Parse tells of fewer problems.
	NodeLabels map[string]map[string]string

	// NodeAddresses are the addresses that nodes have. A pool gives them out only
	// if it says so.
	NodeAddresses map[netip.Addr]NodeAddress
}

// NodeAddress is what is known of an address that a node has.
type NodeAddress struct {
	Node string
	// Link is the network interface of the node that has it; "" where that is not
	// known.
	Link string
	// Reported is set when the node's status names the address, and by nothing else
	// is it known that it is the node's own, although its network interfaces are
	// known. It may as well be one that Berth has given: programs that find it on an
	// interface of a service proxy, or answered by a node, report it as the node's.
	Reported bool
}

// String says for a person whose the address is.
func (a NodeAddress) String() string {
	switch {
	case a.Link != "":
		return fmt.Sprintf("node %s has it on %s", a.Node, a.Link)
	case a.Reported:
		return fmt.Sprintf("node %s reports it as its own", a.Node)
	}
	return fmt.Sprintf("node %s has it", a.Node)
}

// before orders what is known of one address by how sure it is, then by name.
func (a NodeAddress) before(b NodeAddress) bool {
	rank := func(n NodeAddress) int {
		switch {
		case n.Link != "":
			return 0
		case n.Reported:
			return 2
		}
		return 1
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Link, b.Link)) < 0
}

// AddressesOf returns the addresses that a Node's status names.
func AddressesOf(n *corev1.Node) []netip.Addr {
	var out []netip.Addr
	for _, a := range n.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil {
			out = append(out, addr.Unmap())
		}
	}
	return out
}

// NodeAddresses says which addresses nodes have: those that their status names, and
// those that their Speakers list on links. The first internal address of each family
// is a node's for sure: it is by this that the cluster knows it, and a link whose
// Speaker lists another of the same subnet may have it. Of a link whose list is as
// long as it can be, and of a node whose speaker tells of no link, the rest is not
// known.
func NodeAddresses(nodes []corev1.Node, speakers []v1beta1.Speaker) map[netip.Addr]NodeAddress {
	out := map[netip.Addr]NodeAddress{}
	add := func(addr netip.Addr, a NodeAddress) {
		if have, ok := out[addr]; !ok || a.before(have) {
			out[addr] = a
		}
	}
	known := map[string]bool{} // the nodes of whose links all is known that speakers tell
	for _, s := range speakers {
		known[s.Name] = len(s.Status.Links) > 0 && len(s.Status.Links) < v1beta1.MaxSpeakerAnnouncements
		for _, l := range s.Status.Links {
			known[s.Name] = known[s.Name] && len(l.Prefixes) < v1beta1.MaxLinkPrefixes
			for _, text := range l.Prefixes {
				if p, err := netip.ParsePrefix(text); err == nil {
					add(p.Addr().Unmap(), NodeAddress{Node: s.Name, Link: l.Name})
				}
			}
		}
	}
	for i := range nodes {
		first := map[bool]netip.Addr{} // by family
		for _, a := range nodes[i].Status.Addresses {
			addr, err := netip.ParseAddr(a.Address)
			if err != nil {
				continue
			}
			addr = addr.Unmap()
			if a.Type == corev1.NodeInternalIP && !first[addr.Is6()].IsValid() {
				first[addr.Is6()] = addr
			}
			add(addr, NodeAddress{
				Node:     nodes[i].Name,
				Reported: known[nodes[i].Name] && addr != first[addr.Is6()],
			})
		}
	}
	return out
}

// ReplaceGrace is how long a pool that was deleted still holds the addresses
// it gave, unless another pool contains them: tools that replace an object delete
// it and create it again.
const ReplaceGrace = 30 * time.Second

// ReplaceQuiet is how long a pool must have been deleted before anybody is told
// what will become of its addresses: by then most tools have created it again.
const ReplaceQuiet = 5 * time.Second

// Problem says what of one object is not in force, and what to do about it.
type Problem struct {
	Kind    string
	Name    string
	Reason  v1beta1.Reason
	Message string // whole sentences, for a person
}

// Config is what the objects say. It is never changed after Parse returns it.
type Config struct {
	Pools            []*Pool            // by name
	L2Advertisements []*L2Advertisement // by name

	BGPPeers          []*BGPPeer          // by name
	BGPAdvertisements []*BGPAdvertisement // by name
	BFDProfiles       []*BFDProfile       // by name

	// Recheck is when Parse would say something else of the same objects:
	// when the deletion of a pool is to be told, and when its grace ends. Zero for
	// never.
	Recheck time.Time

	spans   []span // ranges of all pools, sorted, for PoolOf
	nodes   map[netip.Addr]NodeAddress
	aliases map[string]alias // of communities
}

// Pool is a parsed IPAddressPool.
type Pool struct {
	Name   string
	Labels labels.Set
	// Ranges are sorted and overlap neither each other nor another pool's.
	// They are empty when older pools hold all of them, or none can be read.
	Ranges []netipx.IPRange
	// Closed is set when it cannot be read whom the pool is for. Services keep
	// what they have of it, and it gives nothing new.
	Closed bool
	// Drain is set when it is to give nothing new, Gone is when it was deleted, and
	// Told is set when that was ReplaceQuiet ago.
	Drain bool
	Gone  time.Time
	Told  bool
	// ReuseDelay is how long a freed address rests; 0 for not at all.
	ReuseDelay time.Duration
	// Quota is how many addresses a namespace may hold; 0 for any number.
	Quota int
	// KeepOutside lets Services keep addresses that the pool no longer
	// contains. Those they are known to keep are in Outside, which is sorted;
	// not everything in it need be held, or of this pool.
	KeepOutside bool
	Outside     []netipx.IPRange
	// Excluded4 and Excluded6 count the addresses that spec.exclude takes from
	// Ranges.
	Excluded4, Excluded6 int64
	// OfNodes are the addresses of Ranges that nodes have, sorted, and
	// AllowNodeAddresses whether they are given out all the same.
	OfNodes            []netip.Addr
	AllowNodeAddresses bool
	// ShareInNamespace has addresses shared only among Services of one namespace.
	ShareInNamespace bool

	AutoAssign    bool
	AvoidBuggyIPs bool
	// Allocation restricts who may use the pool; nil means everybody.
	Allocation *Allocation

	set     *netipx.IPSet // Ranges before older pools took theirs
	exclude *netipx.IPSet // of these, spec.exclude
	before  *netipx.IPSet // Ranges before an edit that is not judged yet
	had     *netipx.IPSet // of a deleted pool: what it had then
	partial bool          // not all of the object could be understood
	object  *v1beta1.IPAddressPool
}

// Allocation says which Services a pool is pinned to.
type Allocation struct {
	Priority           int32 // lower first; 0 last
	Namespaces         sets.Set[string]
	NamespaceSelectors []labels.Selector
	ServiceSelectors   []labels.Selector
}

// L2Advertisement is a parsed L2Advertisement.
type L2Advertisement struct {
	Name          string
	Pools         sets.Set[string]
	PoolSelectors []labels.Selector
	Nodes         []labels.Selector
	// Interfaces are sorted names, InterfacePatterns match whole names. Both
	// empty means that links are chosen by subnet.
	Interfaces        []string
	InterfacePatterns []*regexp.Regexp
	Services          []labels.Selector
	PreferredNodes    []PreferredNodes
	// FailbackImmediate has the first node by rank take an address from the
	// one that announces it now.
	FailbackImmediate bool
	Announcement      AnnouncementPolicy
	// LingerPeriod is how long a node that is there goes on answering those that know it
	// after another has taken an address, 0 to 1 hour.
	LingerPeriod time.Duration
	// Promiscuous has the links on which addresses are announced take all frames.
	Promiscuous bool

	object *v1beta1.L2Advertisement
}

// AnnouncementPolicy is how the network is told, unasked, where an address is.
// What is zero was not said.
type AnnouncementPolicy struct {
	// Count is the length of a burst, 1 to 100, and Interval the time between
	// two of it, 10 ms to 1 minute.
	Count    int
	Interval time.Duration
	// Refresh is about how far apart single announcements follow the burst,
	// 10 s to 24 h; negative for never.
	Refresh time.Duration
}

// PreferredNodes adds Weight (1 to 100) to the nodes it selects.
type PreferredNodes struct {
	Weight int64
	Nodes  labels.Selector
}

type span struct {
	netipx.IPRange
	pool *Pool
}

// PoolOf returns the pool that an address belongs to, or nil: the one that
// contains it, or that keeps it although it does not, or that contained it
// before an edit which the controller has not judged yet. A pool that exists comes
// before one that was deleted.
func (c *Config) PoolOf(addr netip.Addr) *Pool {
	i, found := slices.BinarySearchFunc(c.spans, addr, func(s span, t netip.Addr) int {
		return s.From().Compare(t)
	})
	if !found {
		i--
	}
	if i >= 0 && c.spans[i].Contains(addr) {
		return c.spans[i].pool
	}
	if p := c.KeptBy(addr); p != nil {
		return p
	}
	for _, p := range c.Pools {
		if p.Exists() && p.before != nil && p.before.Contains(addr) {
			return p
		}
	}
	if p := keptBy(c.Pools, false, addr); p != nil {
		return p
	}
	for _, p := range c.Pools {
		if p.lately(addr) {
			return p
		}
	}
	return nil
}

// Exists tells whether there is such an object: a pool that was deleted stays for
// ReplaceGrace.
func (p *Pool) Exists() bool { return p.Gone.IsZero() }

// GraceEnds is when a deleted pool loses what it had.
func (p *Pool) GraceEnds() time.Time { return p.Gone.Add(ReplaceGrace) }

// lately tells whether the pool was deleted, and had an address then.
func (p *Pool) lately(addr netip.Addr) bool { return p.had != nil && p.had.Contains(addr) }

// Predecessors returns the deleted pools, in the order of their names, that had an
// address which pool has now: what announced their addresses goes on doing so
// until their grace ends. There are none of a pool that was deleted itself.
func (c *Config) Predecessors(pool *Pool, addr netip.Addr) []*Pool {
	if !pool.Exists() {
		return nil
	}
	var out []*Pool
	for _, p := range c.Pools {
		if p.lately(addr) {
			out = append(out, p)
		}
	}
	return out
}

// KeptBy returns the pool that keeps an address although it does not contain it,
// by what the controller wrote last, or nil. Where ranges of two pools contain it,
// the one that lies within the other is the more exact. Deleted pools do not count.
func (c *Config) KeptBy(addr netip.Addr) *Pool { return keptBy(c.Pools, true, addr) }

// keptBy does what KeptBy does, among the pools that exist or the deleted ones.
func keptBy(pools []*Pool, exist bool, addr netip.Addr) *Pool {
	var best *Pool
	var by netipx.IPRange
	for _, p := range pools {
		if p.Exists() != exist {
			continue
		}
		i, found := slices.BinarySearchFunc(p.Outside, addr, func(r netipx.IPRange, t netip.Addr) int {
			return r.From().Compare(t)
		})
		if !found {
			i--
		}
		if i < 0 || !p.Outside[i].Contains(addr) {
			continue
		}
		r := p.Outside[i]
		if best == nil || r.From().Compare(by.From()) >= 0 && r.To().Compare(by.To()) <= 0 {
			best, by = p, r
		}
	}
	return best
}

// Excluded says why no pool contains an address that one of them lists; "" when
// that is not so.
func (c *Config) Excluded(addr netip.Addr) string {
	for _, p := range c.Pools {
		switch {
		case !p.set.Contains(addr):
		case p.exclude.Contains(addr):
			return fmt.Sprintf("pool %s excludes it", p.Name)
		}
	}
	return ""
}

// OfNode tells which node has an address, as far as is known.
func (c *Config) OfNode(addr netip.Addr) (NodeAddress, bool) {
	a, ok := c.nodes[addr]
	return a, ok
}

// Withheld returns the addresses in pools that are not given out because nodes have
// them. One that a node only reports is given to who asks for it.
func (c *Config) Withheld() map[netip.Addr]allocator.Withholding {
	out := map[netip.Addr]allocator.Withholding{}
	for _, p := range c.Pools {
		if p.AllowNodeAddresses {
			continue
		}
		for _, addr := range p.OfNodes {
			a := c.nodes[addr]
			out[addr] = allocator.Withholding{
				Reason:    string(v1beta1.ReasonNodeAddress),
				Why:       a.String(),
				OnRequest: a.Reported,
			}
		}
	}
	return out
}

// maxTold is how many addresses of nodes a message names.
const maxTold = 5

// TellNodes names addresses that nodes have and whose they are, at most five.
func (c *Config) TellNodes(addrs []netip.Addr) string {
	var out []string
	for i, addr := range addrs {
		if i == maxTold {
			out = append(out, fmt.Sprintf("and %d more", len(addrs)-i))
			break
		}
		a := c.nodes[addr]
		switch {
		case a.Link != "":
			out = append(out, fmt.Sprintf("%s (node %s, %s)", addr, a.Node, a.Link))
		case a.Reported:
			out = append(out, fmt.Sprintf("%s (node %s, by its status)", addr, a.Node))
		default:
			out = append(out, fmt.Sprintf("%s (node %s)", addr, a.Node))
		}
	}
	return strings.Join(out, ", ")
}

// Pool returns the pool of a name, or nil.
func (c *Config) Pool(name string) *Pool {
	i, found := slices.BinarySearchFunc(c.Pools, name, func(p *Pool, n string) int {
		return cmp.Compare(p.Name, n)
	})
	if !found {
		return nil
	}
	return c.Pools[i]
}

// Contains tells whether an address is in the pool's ranges.
func (p *Pool) Contains(addr netip.Addr) bool {
	return slices.ContainsFunc(p.Ranges, func(r netipx.IPRange) bool { return r.Contains(addr) })
}

// Allocatable is the pool as the allocator wants it.
func (p *Pool) Allocatable() allocator.Pool {
	return allocator.Pool{
		Name:        p.Name,
		Ranges:      p.Ranges,
		AvoidBuggy:  p.AvoidBuggyIPs,
		ReuseDelay:  p.ReuseDelay,
		Quota:       p.Quota,
		KeepOutside: p.KeepOutside,

		ShareInGroup: p.ShareInNamespace,
	}
}

// SelectsNamespace tells whether Services of a namespace may use the pool.
func (a *Allocation) SelectsNamespace(name string, nsLabels labels.Set) bool {
	if len(a.Namespaces) == 0 && len(a.NamespaceSelectors) == 0 {
		return true
	}
	return a.Namespaces.Has(name) || matchesOne(a.NamespaceSelectors, nsLabels)
}

// SelectsService tells whether a Service with these labels may use the pool.
func (a *Allocation) SelectsService(serviceLabels labels.Set) bool {
	return len(a.ServiceSelectors) == 0 || matchesOne(a.ServiceSelectors, serviceLabels)
}

// SelectsPool tells whether addresses of a pool are announced.
func (a *L2Advertisement) SelectsPool(p *Pool) bool {
	if len(a.Pools) == 0 && len(a.PoolSelectors) == 0 {
		return true
	}
	return a.Pools.Has(p.Name) || matchesOne(a.PoolSelectors, p.Labels)
}

// SelectsNode tells whether a node with these labels may announce.
func (a *L2Advertisement) SelectsNode(nodeLabels labels.Set) bool {
	return len(a.Nodes) == 0 || matchesOne(a.Nodes, nodeLabels)
}

// NamesInterface tells whether the advertisement names a network interface, by
// its name or by a pattern that matches all of it.
func (a *L2Advertisement) NamesInterface(name string) bool {
	return slices.Contains(a.Interfaces, name) ||
		slices.ContainsFunc(a.InterfacePatterns, func(p *regexp.Regexp) bool { return p.MatchString(name) })
}

// SelectsService tells whether a Service with these labels is announced.
func (a *L2Advertisement) SelectsService(serviceLabels labels.Set) bool {
	return len(a.Services) == 0 || matchesOne(a.Services, serviceLabels)
}

// Weight adds up the weights that the advertisement gives to a node.
func (a *L2Advertisement) Weight(nodeLabels labels.Set) int64 {
	var sum int64
	for _, p := range a.PreferredNodes {
		if p.Nodes.Matches(nodeLabels) {
			sum += p.Weight
		}
	}
	return sum
}

func matchesOne(selectors []labels.Selector, set labels.Set) bool {
	return slices.ContainsFunc(selectors, func(s labels.Selector) bool { return s.Matches(set) })
}
