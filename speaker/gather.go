package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/config"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// Cache indexes.
const (
	byAddress = "address" // Services by the addresses in their status
	byService = "service" // EndpointSlices by namespace/name of their Service
)

// addIndexes prepares the cache for gather.
func addIndexes(ctx context.Context, c cache.Cache, class string) error {
	err := c.IndexField(ctx, &corev1.Service{}, byAddress, func(o client.Object) []string {
		var out []string
		for _, addr := range servedAddresses(o.(*corev1.Service), class) {
			out = append(out, addr.String())
		}
		return out
	})
	if err != nil {
		return fmt.Errorf("index Services: %w", err)
	}
	err = c.IndexField(ctx, &discoveryv1.EndpointSlice{}, byService, func(o client.Object) []string {
		return []string{o.GetNamespace() + "/" + o.GetLabels()[discoveryv1.LabelServiceName]}
	})
	if err != nil {
		return fmt.Errorf("index EndpointSlices: %w", err)
	}
	return nil
}

// servedAddresses are the addresses of a Service that Berth serves.
func servedAddresses(s *corev1.Service, class string) []netip.Addr {
	if !assignment.Serves(s, class) {
		return nil
	}
	return assignment.StatusAddresses(s)
}

// view reads what decisions depend on: caches, links, the fellows, and what is
// remembered.
type view struct {
	cached  client.Reader
	state   *state
	fellows interface{ current() picture }
	links   interface {
		Links() []links.Link
	}
	claims interface{ isFull() bool }
	// others are Secrets that BGPPeers may name by mistake.
	others *otherSecrets
	// local are the links of this node that may carry announcements, as
	// lookAtLinks found them.
	local atomic.Pointer[[]links.Link]
	node  string
	// member is the address at which this speaker is a member; onLAN is set once a
	// link had a subnet with it, and cutOff while none has that is up, or while no
	// link is left at all.
	member        netip.Addr
	onLAN, cutOff atomic.Bool
	proxies       *proxies
	excludeLinks  []*regexp.Regexp
	ignoreExclude bool
	ignoreCordon  bool
	// probes is false when addresses are announced without being probed first,
	// handOver how long another may take to take an address over.
	probes   bool
	handOver time.Duration
	// leaving is set when this speaker hands over all it owns, isolated while it
	// has lost everybody for long; yielded is what it leaves to others then.
	// returning counts the returns of a
	// link, after there was none, of which the fellows are still asked what has
	// become of the addresses meanwhile.
	leaving   atomic.Bool
	isolated  atomic.Bool
	yielded   yielded
	returning atomic.Int32
	// joining is why this speaker does not take part in the membership; nil when it
	// does, or is about to.
	joining atomic.Pointer[problem]
	// writeFailures counts writes of the Speaker object that failed.
	writeFailures atomic.Uint64
}

// surroundings are what the decisions for all addresses depend on at one moment.
type surroundings struct {
	config   *config.Config
	nodes    []announcement.Node
	speakers map[string]announcement.Speaker
	picture  picture
	now      time.Time

	returning bool
}

func (v *view) surroundings(ctx context.Context) (surroundings, error) {
	nodes, err := v.nodes(ctx)
	if err != nil {
		return surroundings{}, err
	}
	c := v.state.configuration()
	// The order counts: whoever sees links that are back sees that the node is
	// returning, or a picture that was made since it has asked.
	own := v.self()
	returning := v.returning.Load() > 0
	out := surroundings{
		config: &c, nodes: nodes, picture: v.fellows.current(), now: time.Now(), returning: returning,
		speakers: map[string]announcement.Speaker{v.node: own},
	}
	for name, f := range out.picture.fellows {
		out.speakers[name] = f.Speaker
	}
	own.SilentLinks = out.picture.silent
	out.speakers[v.node] = own
	return out, nil
}

// gather reads what the decision for one address depends on.
func (v *view) gather(ctx context.Context, addr netip.Addr, around surroundings) (announcement.Input, error) {
	services, err := v.services(ctx, addr)
	if err != nil {
		return announcement.Input{}, err
	}
	r := v.state.memory(addr)
	in := announcement.Input{
		Address:     addr,
		Services:    services,
		Config:      around.config,
		Nodes:       around.nodes,
		Speakers:    around.speakers,
		Claims:      map[string]announcement.Claim{},
		Highest:     r.highest,
		Node:        v.node,
		Minority:    around.picture.minority,
		YieldedTo:   v.yieldedTo(addr, around.picture),
		Returning:   around.returning,
		Probe:       r.probe,
		Dispute:     r.Dispute,
		Announcing:  r.Announce && r.StandInFor == "",
		HandingOver: r.handingOver,
		HandOver:    v.handOver,
		Now:         around.now,
	}
	if !v.probes {
		in.Probe = announcement.Probe{State: announcement.ProbeFree}
	}
	maps.Copy(in.Claims, around.picture.claims[addr])
	if r.Claim != nil {
		in.Claims[v.node] = *r.Claim
	}
	return in, nil
}

// yieldedTo is the node to which an address is left because this speaker knows
// nothing of the others; "" for none, or for one that is gone since.
func (v *view) yieldedTo(addr netip.Addr, p picture) string {
	node := v.yielded.node(addr)
	if node != "" && p.fellows[node].Presence == announcement.Gone {
		return ""
	}
	return node
}

// bgpInput is what DecideBGP wants of what Decide wants.
func (v *view) bgpInput(in announcement.Input) announcement.BGPInput {
	var unproxied map[string]bool
	if len(in.Config.BGPPeers) > 0 {
		unproxied = v.proxies.unready(in.Address, in.Services)
	}
	return announcement.BGPInput{
		Address: in.Address, Services: in.Services, Config: in.Config, Nodes: in.Nodes, Speakers: in.Speakers, Node: in.Node,
		Settled: isClosed(v.state.settled), Unproxied: unproxied, Before: v.state.route(in.Address), Now: in.Now,
	}
}

// self is this node's own speaker.
func (v *view) self() announcement.Speaker {
	s := announcement.Speaker{
		Presence:       announcement.Present,
		Reason:         v1beta1.ReasonNodePresent,
		Links:          v.ownLinks(),
		Heard:          true,
		Worked:         isClosed(v.state.settled),
		IgnoresExclude: v.ignoreExclude,
		IgnoresCordon:  v.ignoreCordon,
		Full:           v.claims.isFull(),
	}
	if v.leaving.Load() {
		s.Presence, s.Reason = announcement.Leaving, v1beta1.ReasonNodeLeaving
	}
	return s
}

// ownLinks are the links of this node that may carry announcements, as its fellows
// know them. They are not to be changed.
func (v *view) ownLinks() []links.Link {
	if links := v.local.Load(); links != nil {
		return *links
	}
	return nil
}

// lookAtLinks looks which links of this node may carry announcements: those
// that are eligible, and those that an advertisement names. It reports whether
// they changed, and whether this node is back on the LAN of its fellows, which it
// had lost: then it is returning, until the caller has asked them and counts that
// back. It may have kept other links all the while. Links of pods come and go all
// the time and are none of them.
func (v *view) lookAtLinks() (moved, back bool) {
	all := v.links.Links()
	if all == nil {
		return false, false // they are not known yet
	}
	c := v.state.configuration()
	out := []links.Link{}
	for _, l := range all {
		named := slices.ContainsFunc(c.L2Advertisements, func(a *config.L2Advertisement) bool { return a.NamesInterface(l.Name) })
		l.Excluded = links.IsExcluded(l.Name, v.excludeLinks)
		if l.Usable() && (named || !l.Excluded) {
			out = append(out, l)
		}
	}
	out = asSaid(out)
	before := v.local.Load()
	cutOff := len(out) == 0 || v.offLAN(all)
	if back = v.cutOff.Swap(cutOff) && !cutOff && before != nil; back {
		v.returning.Add(1) // before anybody sees the links
	}
	v.local.Store(&out)
	return before == nil || !slices.EqualFunc(*before, out, links.Link.Equal), back
}

// offLAN reports whether this node has lost the LAN over which it is a member.
func (v *view) offLAN(all []links.Link) bool {
	on := func(l links.Link) bool { return v.member.IsValid() && l.Holds(v.member) }
	if slices.ContainsFunc(all, func(l links.Link) bool { return on(l) && l.Up }) {
		v.onLAN.Store(true)
		return false
	}
	return v.onLAN.Load()
}

// nodeOf names the node that has a link with this hardware address, "" for a
// stranger's.
func (v *view) nodeOf(mac net.HardwareAddr) string {
	has := func(l links.Link) bool { return bytes.Equal(l.HardwareAddr, mac) }
	if slices.ContainsFunc(v.ownLinks(), has) {
		return v.node
	}
	for name, f := range v.fellows.current().fellows {
		if slices.ContainsFunc(f.Links, has) {
			return name
		}
	}
	return ""
}

// linkWith names the interface of this node that has the address, "" for none. Berth
// puts addresses on none, but service proxies and other programs do.
func (v *view) linkWith(addr netip.Addr) string {
	for _, l := range v.links.Links() {
		if slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool { return p.Addr() == addr }) {
			return l.Name
		}
	}
	return ""
}

// services are those that have an address, by name.
func (v *view) services(ctx context.Context, addr netip.Addr) ([]announcement.Service, error) {
	var list corev1.ServiceList
	if err := v.cached.List(ctx, &list, client.MatchingFields{byAddress: addr.String()}); err != nil {
		return nil, fmt.Errorf("list Services with %s: %w", addr, err)
	}
	var out []announcement.Service
	for i := range list.Items {
		s := &list.Items[i]
		var endpoints discoveryv1.EndpointSliceList
		if err := v.cached.List(ctx, &endpoints, client.MatchingFields{byService: s.Namespace + "/" + s.Name}); err != nil {
			return nil, fmt.Errorf("list EndpointSlices of %s/%s: %w", s.Namespace, s.Name, err)
		}
		out = append(out, announcement.ParseService(s, endpoints.Items, addr))
	}
	slices.SortFunc(out, func(a, b announcement.Service) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// nodes are all nodes, by name.
func (v *view) nodes(ctx context.Context) ([]announcement.Node, error) {
	var list corev1.NodeList
	if err := v.cached.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("list Nodes: %w", err)
	}
	var out []announcement.Node
	for i := range list.Items {
		out = append(out, announcement.ParseNode(&list.Items[i]))
	}
	slices.SortFunc(out, func(a, b announcement.Node) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// ownAddresses are those of this node, as the cluster knows it; none when it does
// not.
func (v *view) ownAddresses(ctx context.Context) []netip.Addr {
	var node corev1.Node
	if v.cached.Get(ctx, types.NamespacedName{Name: v.node}, &node) != nil {
		return nil
	}
	return parseBGPNode(&node).Addresses
}

// configObjects are those of the configuration, with the Secrets in Berth's own
// namespace.
func (v *view) configObjects(ctx context.Context, namespace string) (config.Objects, error) {
	objects, err := kube.ConfigObjects(ctx, v.cached)
	if err != nil {
		return config.Objects{}, err
	}
	var secrets corev1.SecretList
	if err := v.cached.List(ctx, &secrets, client.InNamespace(namespace)); err != nil {
		return config.Objects{}, fmt.Errorf("list Secrets: %w", err)
	}
	objects.Secrets, objects.Namespace = slices.Concat(secrets.Items, v.others.list()), namespace
	return objects, nil
}

// urgentFirst sorts addresses so that those come first whose owner, as it was
// last decided, is not present any more: their clients wait.
func (v *view) urgentFirst(list []netip.Addr) []netip.Addr {
	fellows := v.fellows.current().fellows
	urgent := func(addr netip.Addr) bool {
		owner := v.state.memory(addr).Owner
		return owner != "" && owner != v.node && fellows[owner].Presence != announcement.Present
	}
	var first, rest []netip.Addr
	for _, addr := range list {
		if urgent(addr) {
			first = append(first, addr)
		} else {
			rest = append(rest, addr)
		}
	}
	return append(first, rest...)
}

// addresses are all that there may be something to decide about: those that
// Services have, and those that decisions are remembered for.
func (v *view) addresses(ctx context.Context, class string) ([]netip.Addr, error) {
	var list corev1.ServiceList
	if err := v.cached.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("list Services: %w", err)
	}
	all := sets.New(v.state.known()...)
	for i := range list.Items {
		all.Insert(servedAddresses(&list.Items[i], class)...)
	}
	return slices.SortedFunc(maps.Keys(all), netip.Addr.Compare), nil
}
