package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/bgp"
)

// Node is what BGPPeers take from a node.
type Node struct {
	Name        string
	Labels      labels.Set
	Annotations map[string]string
	Addresses   []netip.Addr // its own, the preferred first
}

// BGPPeer is a parsed BGPPeer. For returns the peer as one node needs it.
type BGPPeer struct {
	Name  string
	Nodes []labels.Selector
	// BFD is nil when the sessions run without.
	BFD *BFDProfile
	// Problem is what is wrong with the Secret while the last good password stays in force,
	// "" when nothing is.
	Problem string

	peer     bgp.Peer          // without what differs from node to node
	local    uint32            // localASN, 0 for none
	dynamic  string            // dynamicASN
	both     bool              // dualStackAddressFamily
	perNode  map[string]source // by field
	bfd      string            // name of the profile
	profile  *BFDProfile       // as it is written
	rival    *BGPPeer          // an older one that certainly has the session
	strict   bool              // strictBFD
	multiHop bool
	unusable error // why no node can have a session
	object   *v1beta1.BGPPeer
}

// source is where a node has a value: its label or its annotation.
type source struct{ label, annotation string }

func (s source) String() string {
	if s.label != "" {
		return "label " + s.label
	}
	return "annotation " + s.annotation
}

// BFDProfile is a parsed BFDProfile.
type BFDProfile struct {
	Name string
	// Receive and Transmit are the intervals that this side can take and
	// wishes to send; Echo is 0 without echo mode. All 10ms to 60s.
	Receive, Transmit, Echo time.Duration
	Multiplier              int // 2 to 255
	Passive                 bool
	MinimumTTL              int // of multihop sessions, 1 to 254

	object *v1beta1.BFDProfile
}

// BGPAdvertisement is a parsed BGPAdvertisement.
type BGPAdvertisement struct {
	Name          string
	Pools         sets.Set[string]
	PoolSelectors []labels.Selector
	Nodes         []labels.Selector
	Services      []labels.Selector
	// Carried are the families in which its addresses can reach a router: those that a
	// session with one of its peers carries.
	Carried bgp.Families

	value *bgp.Advertisement
	// forPool has another value for each pool that is too small for the
	// aggregate: one prefix for each address.
	forPool map[string]*bgp.Advertisement
	// single is the value that makes no aggregates.
	single *bgp.Advertisement
	object *v1beta1.BGPAdvertisement
}

// BGPPeer returns the peer of a name, or nil.
func (c *Config) BGPPeer(name string) *BGPPeer {
	i, found := slices.BinarySearchFunc(c.BGPPeers, name, func(p *BGPPeer, n string) int {
		return cmp.Compare(p.Name, n)
	})
	if !found {
		return nil
	}
	return c.BGPPeers[i]
}

// BGPAdvertisementsFor returns the advertisements that have an address of a pool announced
// by BGP: those that select the pool or one of its Predecessors, at least
// one of the Services with the address, each given by its labels, and the node with
// nodeLabels. They are in the order of their names.
func (c *Config) BGPAdvertisementsFor(
	addr netip.Addr, pool *Pool, services []labels.Set, nodeLabels labels.Set,
) []*bgp.Advertisement {
	pools := append([]*Pool{pool}, c.Predecessors(pool, addr)...)
	var out []*bgp.Advertisement
	for _, a := range c.BGPAdvertisements {
		i := slices.IndexFunc(pools, a.SelectsPool)
		if i >= 0 && a.SelectsNode(nodeLabels) && slices.ContainsFunc(services, a.SelectsService) {
			out = append(out, a.valueFor(addr, pools[i]))
		}
	}
	return out
}

// Value returns how the advertisement announces addresses of a pool.
func (a *BGPAdvertisement) Value(pool *Pool) *bgp.Advertisement {
	return cmp.Or(a.forPool[pool.Name], a.value)
}

// valueFor returns how the advertisement announces one address of a pool: by itself where
// its aggregate would hold addresses that are not in the pool, as at the ends of a
// range that is wider elsewhere.
func (a *BGPAdvertisement) valueFor(addr netip.Addr, pool *Pool) *bgp.Advertisement {
	v := a.Value(pool)
	length := v.Length4
	if addr.Is6() {
		length = v.Length6
	}
	aggregate, err := addr.Prefix(length)
	if err != nil || length == addr.BitLen() || pool.set.ContainsPrefix(aggregate) {
		return v
	}
	return a.single
}

// SelectsPool reports whether addresses of a pool are announced.
func (a *BGPAdvertisement) SelectsPool(p *Pool) bool {
	if len(a.Pools) == 0 && len(a.PoolSelectors) == 0 {
		return true
	}
	return a.Pools.Has(p.Name) || matchesOne(a.PoolSelectors, p.Labels)
}

// SelectsNode reports whether a node with these labels announces.
func (a *BGPAdvertisement) SelectsNode(nodeLabels labels.Set) bool {
	return len(a.Nodes) == 0 || matchesOne(a.Nodes, nodeLabels)
}

// Reaches reports whether the peer of a name gets the routes.
func (a *BGPAdvertisement) Reaches(peer string) bool {
	return len(a.value.Peers) == 0 || slices.Contains(a.value.Peers, peer)
}

// SelectsService reports whether a Service with these labels is announced.
func (a *BGPAdvertisement) SelectsService(serviceLabels labels.Set) bool {
	return len(a.Services) == 0 || matchesOne(a.Services, serviceLabels)
}

// SelectsNode reports whether a node with these labels has a session.
func (p *BGPPeer) SelectsNode(nodeLabels labels.Set) bool {
	return len(p.Nodes) == 0 || matchesOne(p.Nodes, nodeLabels)
}

// For returns the peer as one node needs it. The error says, for a person, what the node
// lacks, or that the password is missing.
func (p *BGPPeer) For(n Node) (bgp.Peer, error) {
	if p.unusable != nil {
		return bgp.Peer{}, p.unusable
	}
	return p.on(n)
}

// on is For without regard to a missing password.
func (p *BGPPeer) on(n Node) (bgp.Peer, error) {
	out := p.peer
	var errs []error
	number := func(field string, plain uint32) uint32 {
		text, from, found := p.of(n, field)
		if !found {
			return plain
		}
		v, err := strconv.ParseUint(text, 10, 32)
		if err != nil || v == 0 {
			errs = append(errs, fmt.Errorf(
				"%s: %s of the node is %q, which is no AS number", field, from, text))
		}
		return uint32(v)
	}
	address := func(field string, plain netip.Addr) netip.Addr {
		text, from, found := p.of(n, field)
		if !found {
			return plain
		}
		v, err := parseHost(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %s of the node: %w", field, from, err))
		}
		return v
	}
	out.LocalASN = number("myASN", out.LocalASN)
	out.PeerASN = number("peerASN", out.PeerASN)
	out.Address = address("peerAddress", out.Address)
	out.Source = address("sourceAddress", out.Source)
	out.RouterID = address("routerID", out.RouterID)
	if err := errors.Join(errs...); err != nil {
		return bgp.Peer{}, err
	}
	p.complete(&out, n)
	return out, p.judge(out)
}

// of returns a node's own value of a field, and where the node has it.
func (p *BGPPeer) of(n Node, field string) (text string, from source, found bool) {
	from, asked := p.perNode[field]
	if !asked {
		return "", from, false
	}
	if from.label != "" {
		text, found = n.Labels[from.label]
	} else {
		text, found = n.Annotations[from.annotation]
	}
	return strings.TrimSpace(text), from, found
}

// complete fills in what follows from the rest and from the node.
func (p *BGPPeer) complete(out *bgp.Peer, n Node) {
	out.LocalASN = cmp.Or(p.local, out.LocalASN)
	if p.dynamic == string(v1beta1.DynamicASNInternal) {
		out.PeerASN = out.LocalASN
	}
	out.Multihop = p.multiHop && !out.Internal()
	out.Strict = p.strict && p.BFD != nil
	for _, addr := range n.Addresses {
		if addr.Is4() && !out.NextHop4.IsValid() {
			out.NextHop4 = addr
		}
		if addr.Is6() && !addr.IsLinkLocalUnicast() && !out.NextHop6.IsValid() {
			out.NextHop6 = addr
		}
	}
	if !out.RouterID.IsValid() {
		out.RouterID = cmp.Or(out.NextHop4, bgp.RouterIDFrom(n.Name))
	}
	switch {
	case p.both || out.Interface != "":
		out.Families = bgp.DualStack
	case out.Address.IsValid():
		out.Families = bgp.FamilyOf(out.Address)
	}
}

// judge returns what makes a session with a completed peer impossible.
func (p *BGPPeer) judge(out bgp.Peer) error {
	missing := func(field string) error {
		if from, asked := p.perNode[field]; asked {
			return fmt.Errorf("%s: the node has no %s, and the BGPPeer gives no value for all nodes",
				field, from)
		}
		return fmt.Errorf("%s is missing", field)
	}
	switch {
	case out.LocalASN == 0:
		return missing("myASN")
	case out.PeerASN == 0 && p.dynamic == "":
		return missing("peerASN")
	case !out.Address.IsValid() && out.Interface == "":
		return missing("peerAddress")
	case !out.RouterID.Is4() || out.RouterID.IsUnspecified():
		return fmt.Errorf("routerID: %s: write it as an IPv4 address other than 0.0.0.0", out.RouterID)
	case out.Source.IsValid() && out.Address.IsValid() && out.Source.Is4() != out.Address.Is4():
		return fmt.Errorf("sourceAddress: %s cannot reach %s: they are of different families",
			out.Source, out.Address)
	}
	return nil
}

// parseHost reads the address of one host.
func parseHost(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return netip.Addr{}, fmt.Errorf("%q is no IP address", text)
	case addr.Zone() != "":
		return netip.Addr{}, fmt.Errorf("%q has a zone: name the interface in spec.interface", text)
	case addr.IsUnspecified() || addr.IsMulticast():
		return netip.Addr{}, fmt.Errorf("%q is not the address of a host", text)
	}
	return addr.Unmap(), nil
}
