package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/config"
	"github.com/berth-lb/berth/pkg/layer2"
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

// view reads what decisions depend on: caches, links, who is there, and what is
// remembered.
type view struct {
	cached  client.Reader
	state   *state
	tracker *members.Tracker
	joiner  *members.Joiner
	claims  interface{ IsFull() bool }
	links   interface {
		Links() []layer2.Link
	}
	// others are Secrets that BGPPeers may name by mistake.
	others  *otherSecrets
	node    string
	proxies *proxies
	// ignoreExclude and ignoreCordon are what this speaker makes of marks of nodes.
	ignoreExclude bool
	ignoreCordon  bool
	// probes is false when addresses are announced without being probed first,
	// handOver how long another may take to take an address over.
	probes   bool
	handOver time.Duration
	// writeFailures counts writes of the Speaker object that failed.
	writeFailures atomic.Uint64
}

// surroundings are what the decisions for all addresses depend on at one moment.
type surroundings struct {
	members.Around
	config *config.Config
	nodes  []announcement.Node
	now    time.Time
}

func (v *view) surroundings(ctx context.Context) (surroundings, error) {
	nodes, err := v.nodes(ctx)
	if err != nil {
		return surroundings{}, err
	}
	c := v.state.configuration()
	return surroundings{Around: v.tracker.Around(), config: &c, nodes: nodes, now: time.Now()}, nil
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
		Speakers:    around.Speakers,
		Claims:      map[string]announcement.Claim{},
		Highest:     r.highest,
		Node:        v.node,
		Minority:    around.Minority,
		YieldedTo:   v.tracker.YieldedTo(addr),
		Returning:   around.Returning,
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
	maps.Copy(in.Claims, around.Claims[addr])
	if r.Claim != nil {
		in.Claims[v.node] = *r.Claim
	}
	return in, nil
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
	others := v.tracker.Current().Members
	urgent := func(addr netip.Addr) bool {
		owner := v.state.memory(addr).Owner
		return owner != "" && owner != v.node && others[owner].Presence != announcement.Present
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
