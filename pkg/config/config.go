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
	// Secrets are those of Namespace, Berth's own, that BGPPeers may name.
	Secrets   []corev1.Secret
	Namespace string
	// SecretsUnread is set by who may not read Secrets: passwords count as
	// found, and are empty.
	SecretsUnread bool
	// NodeLabels are the labels of each node. They are asked only whether
	// selectors meet any, and those of two advertisements the same; without them
	// Parse tells of fewer problems.
	NodeLabels map[string]map[string]string

	// NodeAddresses are the addresses that nodes have, with the name of the
	// node. No pool gives them out.
	NodeAddresses map[netip.Addr]string
}

// ReplaceGrace is how long a pool that was deleted still holds the addresses
// it gave: tools that replace an object delete it and create it again.
const ReplaceGrace = 30 * time.Second

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
	// when the grace of a deleted pool ends. Zero for never.
	Recheck time.Time

	spans   []span // ranges of all pools, sorted, for PoolOf
	nodes   map[netip.Addr]string
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
	// Drain is set when it is to give nothing new, Gone when it was deleted.
	Drain bool
	Gone  time.Time
	// ReuseDelay is how long a freed address rests; 0 for not at all.
	ReuseDelay time.Duration
	// Quota is how many addresses a namespace may hold; 0 for any number.
	Quota int
	// KeepOutside lets Services keep addresses that the pool no longer
	// contains. Those they are known to keep are in Outside, which is sorted;
	// not everything in it need be held, or of this pool.
	KeepOutside bool
	Outside     []netipx.IPRange
	// Excluded4 and Excluded6 count the addresses that spec.exclude and nodes
	// take from Ranges.
	Excluded4, Excluded6 int64

	AutoAssign    bool
	AvoidBuggyIPs bool
	// Allocation restricts who may use the pool; nil means everybody.
	Allocation *Allocation

	set     *netipx.IPSet // Ranges before older pools took theirs
	exclude *netipx.IPSet // of these, spec.exclude
	before  *netipx.IPSet // Ranges before an edit that is not judged yet
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
// before an edit which the controller has not judged yet.
func (c *Config) PoolOf(addr netip.Addr) *Pool {
	i, found := slices.BinarySearchFunc(c.spans, addr, func(s span, t netip.Addr) int { return s.From().Compare(t) })
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
		if p.before != nil && p.before.Contains(addr) {
			return p
		}
	}
	return nil
}

// KeptBy returns the pool that keeps an address although it does not contain it,
// by what the controller wrote last, or nil. Where ranges of two pools contain it,
// the one that lies within the other is the more exact.
func (c *Config) KeptBy(addr netip.Addr) *Pool {
	var best *Pool
	var by netipx.IPRange
	for _, p := range c.Pools {
		i, found := slices.BinarySearchFunc(p.Outside, addr, func(r netipx.IPRange, t netip.Addr) int { return r.From().Compare(t) })
		if !found {
			i--
		}
		if i < 0 || !p.Outside[i].Contains(addr) {
			continue
		}
		if r := p.Outside[i]; best == nil || r.From().Compare(by.From()) >= 0 && r.To().Compare(by.To()) <= 0 {
			best, by = p, r
		}
	}
	return best
}

// Withheld says why no pool gives out an address that one of them lists; ""
// when that is not so.
func (c *Config) Withheld(addr netip.Addr) string {
	for _, p := range c.Pools {
		switch {
		case !p.set.Contains(addr):
		case c.nodes[addr] != "":
			return fmt.Sprintf("node %s has it", c.nodes[addr])
		case p.exclude.Contains(addr):
			return fmt.Sprintf("pool %s excludes it", p.Name)
		}
	}
	return ""
}

// Pool returns the pool of a name, or nil.
func (c *Config) Pool(name string) *Pool {
	i, found := slices.BinarySearchFunc(c.Pools, name, func(p *Pool, n string) int { return cmp.Compare(p.Name, n) })
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
