package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/layer2"
	"github.com/berth-lb/berth/pkg/membership"
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

// view reads what decisions depend on from caches, links and members.
type view struct {
	cached  client.Reader
	state   *state
	members interface {
		Members() []membership.Member
	}
	links interface {
		Links() []layer2.Link
	}
	node          string
	excludeLinks  []*regexp.Regexp
	ignoreExclude bool
}

// gather reads everything that the decision for one address depends on.
func (v *view) gather(ctx context.Context, addr netip.Addr) (announcement.Input, error) {
	services, err := v.services(ctx, addr)
	if err != nil {
		return announcement.Input{}, err
	}
	nodes, err := v.nodes(ctx)
	if err != nil {
		return announcement.Input{}, err
	}
	alive := sets.New[string]()
	for _, m := range v.members.Members() {
		alive.Insert(m.Name)
	}
	c := v.state.configuration()
	return announcement.Input{
		Address:      addr,
		Services:     services,
		Config:       &c,
		Nodes:        nodes,
		Alive:        alive,
		Node:         v.node,
		Links:        v.links.Links(),
		ExcludeLinks: v.excludeLinks,
	}, nil
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
		out = append(out, announcement.ParseService(s, endpoints.Items))
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
		out = append(out, announcement.ParseNode(&list.Items[i], v.ignoreExclude))
	}
	slices.SortFunc(out, func(a, b announcement.Node) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
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
