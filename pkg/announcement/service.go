package announcement

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
)

// Service is what Decide needs to know of a Service that has the address.
type Service struct {
	Name   string // namespace/name
	Labels labels.Set
	// Local is set for externalTrafficPolicy Local: only a node with a usable
	// endpoint can take its traffic.
	Local bool
	// HealthCheckPort is where each node's service proxy tells whether it has
	// endpoints of a Local Service there; 0 for none.
	HealthCheckPort uint16
	// Ready is set when the Service has a usable endpoint anywhere, also one
	// that no node is named for.
	Ready bool
	// Endpoints are the nodes with usable endpoints, and how many each has. Only
	// those of the address's family count, here and in Ready: the service proxy
	// sends nothing from one family to the other.
	Endpoints map[string]int
	// NotReady are the nodes with endpoints of the family that are neither ready nor
	// terminating, and how many each has; nil while the Service is Ready.
	NotReady map[string]int
	// Assumed are those of NotReady that Endpoints has all the same; nil for none. See
	// [Unheard].
	Assumed map[string]int
}

// ParseService reads a Service, as one that has an address, and its EndpointSlices.
//
// An endpoint is usable when it is ready, which is also meant where the
// condition is missing. Where the Service has none that is ready, those are that
// are serving: pods that terminate but still answer (KEP-1669, KEP-1672). So
// traffic goes to other nodes while the pod that leaves one still answers.
func ParseService(s *corev1.Service, slices []discoveryv1.EndpointSlice, addr netip.Addr) Service {
	out := Service{
		Name:   s.Namespace + "/" + s.Name,
		Labels: s.Labels,
		Local:  s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,

		HealthCheckPort: uint16(s.Spec.HealthCheckNodePort),
	}
	family := discoveryv1.AddressTypeIPv4
	if addr.Is6() {
		family = discoveryv1.AddressTypeIPv6
	}
	out.Endpoints, out.Ready = count(slices, family, func(c discoveryv1.EndpointConditions) bool {
		return c.Ready == nil || *c.Ready
	})
	if !out.Ready {
		out.Endpoints, out.Ready = count(slices, family, func(c discoveryv1.EndpointConditions) bool {
			return c.Serving != nil && *c.Serving
		})
	}
	if !out.Ready {
		out.NotReady, _ = count(slices, family, func(c discoveryv1.EndpointConditions) bool {
			return c.Terminating == nil || !*c.Terminating
		})
	}
	return out
}

// count counts the endpoints of a family on each node that a function selects, and reports
// whether there are any at all.
func count(
	slices []discoveryv1.EndpointSlice, family discoveryv1.AddressType,
	selects func(discoveryv1.EndpointConditions) bool,
) (byNode map[string]int, found bool) {
	byNode = map[string]int{}
	for _, slice := range slices {
		if slice.AddressType != family {
			continue
		}
		for _, e := range slice.Endpoints {
			if !selects(e.Conditions) {
				continue
			}
			found = true
			if e.NodeName != nil {
				byNode[*e.NodeName]++
			}
		}
	}
	return byNode, found
}

// Node is what Decide needs to know of a node.
type Node struct {
	Name   string
	Labels labels.Set
	// Addresses are those that the node's status names.
	Addresses []netip.Addr
	// NetworkUnavailable is the condition of that name.
	NetworkUnavailable bool
	// Excluded is set when the node carries v1beta1.LabelExcludeNode, with
	// whatever value.
	Excluded bool
	// Cordoned is set when the node takes no new pods: it is being drained, or
	// about to be. Others own its addresses as long as there are others, unless its
	// speaker ignores that.
	Cordoned bool
	// Ready is the condition of that name; ShuttingDown is set when the kubelet
	// says in it that the node is being shut down (KEP-2000). Neither counts in
	// decisions: what they do to a node, its own speaker tells sooner.
	Ready        bool
	ShuttingDown bool
	// ReadyUnknown is set while the control plane does not hear the node's kubelet: what it
	// says of the node's pods is out of date.
	ReadyUnknown bool
}

// ParseNode reads a Node.
func ParseNode(n *corev1.Node) Node {
	_, labelled := n.Labels[v1beta1.LabelExcludeNode]
	out := Node{
		Name:      n.Name,
		Labels:    n.Labels,
		Excluded:  labelled,
		Cordoned:  n.Spec.Unschedulable,
		Addresses: config.AddressesOf(n),
	}
	for _, c := range n.Status.Conditions {
		switch c.Type {
		case corev1.NodeNetworkUnavailable:
			out.NetworkUnavailable = c.Status == corev1.ConditionTrue
		case corev1.NodeReady:
			out.Ready = c.Status == corev1.ConditionTrue
			out.ReadyUnknown = c.Status == corev1.ConditionUnknown
			out.ShuttingDown = strings.Contains(c.Message, "node is shutting down")
		}
	}
	return out
}

// Equal tells whether two nodes are the same to every decision.
func (n Node) Equal(o Node) bool {
	return n.Name == o.Name && n.NetworkUnavailable == o.NetworkUnavailable && n.Excluded == o.Excluded &&
		n.Cordoned == o.Cordoned && n.ReadyUnknown == o.ReadyUnknown &&
		maps.Equal(n.Labels, o.Labels) && slices.Equal(n.Addresses, o.Addresses)
}
