// Package cluster is what the API server says of the cluster, as far as announcing
// addresses depends on it: Services with their endpoints, Nodes, and the objects of the
// configuration. It reads a cache that follows the API server, or a [Snapshot] of
// objects.
package cluster

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/config"
)

// Indexes of the objects that a Reader reads.
const (
	byAddress = "address" // Services by the addresses in their status
	byService = "service" // EndpointSlices by namespace/name of their Service
)

// AddIndexes gives a cache the indexes that a [Reader] of Services of the class uses.
func AddIndexes(ctx context.Context, to client.FieldIndexer, class string) error {
	err := to.IndexField(ctx, &corev1.Service{}, byAddress, func(o client.Object) []string {
		return addressTexts(o.(*corev1.Service), class)
	})
	if err != nil {
		return fmt.Errorf("index Services: %w", err)
	}
	err = to.IndexField(ctx, &discoveryv1.EndpointSlice{}, byService, func(o client.Object) []string {
		return []string{serviceOf(o.(*discoveryv1.EndpointSlice)).String()}
	})
	if err != nil {
		return fmt.Errorf("index EndpointSlices: %w", err)
	}
	return nil
}

func addressTexts(s *corev1.Service, class string) []string {
	var out []string
	for _, addr := range ServedAddresses(s, class) {
		out = append(out, addr.String())
	}
	return out
}

// serviceOf returns the name of the Service that a slice has endpoints of.
func serviceOf(slice *discoveryv1.EndpointSlice) types.NamespacedName {
	return types.NamespacedName{Namespace: slice.Namespace, Name: slice.Labels[discoveryv1.LabelServiceName]}
}

// ServedAddresses returns the addresses in the status of a Service; none when Berth
// does not serve it with this spec.loadBalancerClass.
func ServedAddresses(s *corev1.Service, class string) []netip.Addr {
	if !assignment.Serves(s, class) {
		return nil
	}
	return assignment.StatusAddresses(s)
}

// A Reader reads what announcing addresses depends on. It is safe for concurrent use.
type Reader struct {
	from      client.Reader
	class     string
	namespace string
	others    *OtherSecrets
	protocols kube.Protocols

	mu    sync.Mutex
	nodes parsedNodes
}

// parsedNodes are Nodes with the versions of the objects from which they were read, by name.
type parsedNodes struct {
	versions []nodeVersion
	nodes    []announcement.Node
}

// nodeVersion tells versions of all Nodes apart.
type nodeVersion struct {
	name    string
	uid     types.UID
	version string
}

// asStored has objects listed as the cache holds them, not copies. They must not be changed.
const asStored = client.UnsafeDisableDeepCopy

// NewReader returns a Reader of a cache with the indexes of [AddIndexes], or of a
// [Snapshot]. Services of the class are Berth's; namespace is Berth's own, which has the
// passwords of BGP peers. others may be nil.
func NewReader(from client.Reader, class, namespace string, others *OtherSecrets) *Reader {
	return &Reader{
		from:      from,
		class:     class,
		namespace: namespace,
		others:    others,
		protocols: kube.Protocols{Layer2: true, BGP: true},
	}
}

// Of returns a Reader that reads only what configures these protocols: no Secrets without
// BGP.
func (r *Reader) Of(p kube.Protocols) *Reader {
	out := NewReader(r.from, r.class, r.namespace, r.others)
	out.protocols = p
	return out
}

// Get reads one object.
func (r *Reader) Get(
	ctx context.Context, key client.ObjectKey, into client.Object, opts ...client.GetOption,
) error {
	return r.from.Get(ctx, key, into, opts...)
}

// Services returns the Services that have an address, with their endpoints, by name.
func (r *Reader) Services(ctx context.Context, addr netip.Addr) ([]announcement.Service, error) {
	var list corev1.ServiceList
	if err := r.from.List(ctx, &list, client.MatchingFields{byAddress: addr.String()}, asStored); err != nil {
		return nil, fmt.Errorf("list Services with %s: %w", addr, err)
	}

	var out []announcement.Service
	for i := range list.Items {
		s := &list.Items[i]
		var slices discoveryv1.EndpointSliceList
		err := r.from.List(ctx, &slices,
			client.MatchingFields{byService: client.ObjectKeyFromObject(s).String()}, asStored)
		if err != nil {
			return nil, fmt.Errorf("list EndpointSlices of %s/%s: %w", s.Namespace, s.Name, err)
		}
		out = append(out, announcement.ParseService(s, slices.Items, addr))
	}
	slices.SortFunc(out, func(a, b announcement.Service) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// AddressesOf returns the addresses of the Service that an EndpointSlice has endpoints
// of; none when Berth does not serve it.
func (r *Reader) AddressesOf(ctx context.Context, slice *discoveryv1.EndpointSlice) []netip.Addr {
	var service corev1.Service
	if err := r.from.Get(ctx, serviceOf(slice), &service); err != nil {
		return nil // not of type LoadBalancer, or gone
	}
	return ServedAddresses(&service, r.class)
}

// Addresses returns the addresses of all Services that Berth serves, sorted.
func (r *Reader) Addresses(ctx context.Context) ([]netip.Addr, error) {
	var list corev1.ServiceList
	if err := r.from.List(ctx, &list, asStored); err != nil {
		return nil, fmt.Errorf("list Services: %w", err)
	}
	all := sets.New[netip.Addr]()
	for i := range list.Items {
		all.Insert(ServedAddresses(&list.Items[i], r.class)...)
	}
	return slices.SortedFunc(maps.Keys(all), netip.Addr.Compare), nil
}

// Nodes returns all Nodes, by name: the same slice as before while none has changed. It must
// not be changed.
func (r *Reader) Nodes(ctx context.Context) ([]announcement.Node, error) {
	var list corev1.NodeList
	if err := r.from.List(ctx, &list, asStored); err != nil {
		return nil, fmt.Errorf("list Nodes: %w", err)
	}
	objects := make([]*corev1.Node, len(list.Items))
	for i := range list.Items {
		objects[i] = &list.Items[i]
	}
	slices.SortFunc(objects, func(a, b *corev1.Node) int { return cmp.Compare(a.Name, b.Name) })

	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.nodes.areOf(objects) {
		r.nodes = parseNodes(objects)
	}
	return r.nodes.nodes, nil
}

// areOf reports whether the nodes were read from these objects. Objects without a version, which
// come from no API server, are read again.
func (p parsedNodes) areOf(objects []*corev1.Node) bool {
	return p.nodes != nil && slices.EqualFunc(p.versions, objects, func(v nodeVersion, o *corev1.Node) bool {
		return v.version != "" && v == versionOf(o)
	})
}

func parseNodes(objects []*corev1.Node) parsedNodes {
	out := parsedNodes{
		versions: make([]nodeVersion, len(objects)),
		nodes:    make([]announcement.Node, len(objects)),
	}
	for i, o := range objects {
		out.versions[i], out.nodes[i] = versionOf(o), announcement.ParseNode(o)
	}
	return out
}

func versionOf(n *corev1.Node) nodeVersion { return nodeVersion{n.Name, n.UID, n.ResourceVersion} }

// Node returns one Node as BGP peers know it, and whether it is cordoned.
func (r *Reader) Node(ctx context.Context, name string) (node config.Node, cordoned bool, err error) {
	var object corev1.Node
	if err := r.from.Get(ctx, types.NamespacedName{Name: name}, &object); err != nil {
		return config.Node{}, false, fmt.Errorf("read Node %s: %w", name, err)
	}
	return ParseNode(&object), object.Spec.Unschedulable, nil
}

// NodeAddresses returns the InternalIP addresses of a Node in their order; none when
// the Node cannot be read.
func (r *Reader) NodeAddresses(ctx context.Context, name string) []netip.Addr {
	node, _, err := r.Node(ctx, name)
	if err != nil {
		return nil
	}
	return node.Addresses
}

// ParseNode reads what BGP peers take from a Node. Its addresses are those by which the
// cluster knows it: the InternalIPs.
func ParseNode(n *corev1.Node) config.Node {
	out := config.Node{Name: n.Name, Labels: n.Labels, Annotations: n.Annotations}
	for _, a := range n.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
			out.Addresses = append(out.Addresses, addr.Unmap())
		}
	}
	return out
}

// ConfigObjects returns the objects of the configuration, with the Secrets in Berth's
// own namespace that BGPPeers may name.
func (r *Reader) ConfigObjects(ctx context.Context) (config.Objects, error) {
	objects, err := r.protocols.ConfigObjects(ctx, r.from)
	if err != nil || !r.protocols.BGP {
		return objects, err
	}
	var secrets corev1.SecretList
	if err := r.from.List(ctx, &secrets, client.InNamespace(r.namespace)); err != nil {
		return config.Objects{}, fmt.Errorf("list Secrets: %w", err)
	}
	objects.Secrets, objects.Namespace = slices.Concat(secrets.Items, r.others.list()), r.namespace
	return objects, nil
}
