package importing

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

const (
	ciliumGroup = "cilium.io"
	// Keys of selectors that are no labels of a Service.
	ciliumNamespace = "io.kubernetes.service.namespace"
	ciliumName      = "io.kubernetes.service.name"
)

// ciliumAsks are the annotations of Services of Cilium.
var ciliumAsks = asks{
	addresses: []string{"lbipam.cilium.io/ips", "io.cilium/lb-ipam-ips"},
	sharing:   []string{"lbipam.cilium.io/sharing-key", "io.cilium/lb-ipam-sharing-key"},
	prefixes:  []string{"lbipam.cilium.io/", "io.cilium/lb-ipam-"},
	known: []string{
		// Berth lets Services of any namespace share, unless the pool says otherwise.
		"lbipam.cilium.io/sharing-cross-namespace", "io.cilium/lb-ipam-sharing-cross-namespace",
	},
}

// cilium is Cilium's LB IPAM with its L2 announcements and its BGP control plane.
var cilium = Source{
	Name:      "cilium",
	Title:     "Cilium",
	Namespace: "kube-system",
	Kinds: slices.Concat(
		[]snapshot.Foreign{{
			Group:    ciliumGroup,
			Versions: []string{"v2", "v2alpha1"},
			Resource: "ciliumloadbalancerippools",
			Kind:     "CiliumLoadBalancerIPPool",
		}, {
			Group:    ciliumGroup,
			Versions: []string{"v2alpha1"},
			Resource: "ciliuml2announcementpolicies",
			Kind:     "CiliumL2AnnouncementPolicy",
		}, {
			Group:    ciliumGroup,
			Versions: []string{"v2alpha1"},
			Resource: "ciliumbgppeeringpolicies",
			Kind:     "CiliumBGPPeeringPolicy",
		}},
		both(custom(ciliumGroup, false, "v2", "CiliumBGPClusterConfig", "CiliumBGPPeerConfig",
			"CiliumBGPAdvertisement", "CiliumBGPNodeConfigOverride"), "v2alpha1"),
	),
	convert:    func(c *conversion) { (&ciliumConversion{conversion: c}).convert() },
	service:    ciliumAsks.service,
	classes:    []string{"", "io.cilium/bgp-control-plane", "io.cilium/l2-announcer"},
	noTakeOver: "its agents, which announce, also carry the traffic, and go on. See docs/install.md.",
}

// both returns kinds that may be of one more version.
func both(kinds []snapshot.Foreign, version string) []snapshot.Foreign {
	for i := range kinds {
		kinds[i].Versions = append(kinds[i].Versions, version)
	}
	return kinds
}

// ciliumConversion converts Cilium's objects.
type ciliumConversion struct {
	*conversion
	peerConfigs    map[string]ciliumPeerConfig
	advertisements []ciliumAdvertisements
	// peersOf are the peers that are told what a CiliumBGPAdvertisement says, by its name, and
	// familiesOf the families for which they are.
	peersOf    map[string][]string
	familiesOf map[string]map[string]bool
}

func (c *ciliumConversion) convert() {
	c.each(ciliumGroup, "CiliumLoadBalancerIPPool", c.pool)
	c.each(ciliumGroup, "CiliumL2AnnouncementPolicy", c.l2)
	c.bgp()
	c.each(ciliumGroup, "CiliumBGPPeeringPolicy", c.peeringPolicy)
	if len(c.out.Pools) > 0 {
		c.noteAll(v1alpha1.ImportToDo, "Cilium's LB IPAM gives addresses as long as it has pools: delete "+
			"them when Berth's are there. Cilium goes on carrying the traffic; nothing else of it changes.",
			"kubectl delete ciliumloadbalancerippools --all")
	}
}

func (c *ciliumConversion) pool(o *unstructured.Unstructured) {
	c.count(o)
	type block struct {
		CIDR  string `json:"cidr"`
		Start string `json:"start"`
		Stop  string `json:"stop"`
	}
	var in struct {
		Spec struct {
			ServiceSelector   *metav1.LabelSelector `json:"serviceSelector"`
			AllowFirstLastIPs string                `json:"allowFirstLastIPs"`
			Blocks            []block               `json:"blocks"`
			CIDRs             []block               `json:"cidrs"` // what blocks were called
			Disabled          bool                  `json:"disabled"`
		} `json:"spec"`
	}
	if !c.decode(o, &in) {
		return
	}
	p := pool{
		from:   ref(o),
		name:   o.GetName(),
		labels: o.GetLabels(),
		field:  "spec.blocks",
		spec:   v1beta1.IPAddressPoolSpec{Drain: in.Spec.Disabled},
	}
	var cidrs []string
	for _, b := range slices.Concat(in.Spec.Blocks, in.Spec.CIDRs) {
		switch {
		case b.CIDR != "":
			p.addresses, cidrs = append(p.addresses, b.CIDR), append(cidrs, b.CIDR)
		case b.Stop == "":
			p.addresses = append(p.addresses, b.Start)
		default:
			p.addresses = append(p.addresses, b.Start+"-"+b.Stop)
		}
	}
	if in.Spec.AllowFirstLastIPs == "No" {
		p.exclude = ends(cidrs, false)
	}
	s, selected := c.selected(ref(o), "spec.serviceSelector", in.Spec.ServiceSelector)
	if selected {
		p.spec.ServiceAllocation = &v1beta1.ServiceAllocation{
			Namespaces:       s.namespaces,
			ServiceSelectors: selectors(s.labels),
		}
		if s.partly {
			p.spec.AutoAssign = new(bool)
		}
	}
	c.addPool(p)
}

// ciliumSelected is what a selector of Services says.
type ciliumSelected struct {
	labels     *metav1.LabelSelector // nil for all
	namespaces []string              // empty for all
	// partly is set if it says more that Berth cannot.
	partly bool
}

// selected reads a selector of Services, in which some keys are no labels. It returns false if
// all Services are selected.
func (c *ciliumConversion) selected(
	from v1alpha1.Ref, field string, in *metav1.LabelSelector,
) (out ciliumSelected, selected bool) {
	if in == nil {
		return out, false
	}
	labels := &metav1.LabelSelector{MatchLabels: map[string]string{}}
	for key, value := range in.MatchLabels {
		switch ciliumKey(key) {
		case ciliumNamespace:
			out.namespaces = append(out.namespaces, value)
		case ciliumName:
			out.partly = true
		default:
			labels.MatchLabels[key] = value
		}
	}
	for _, e := range in.MatchExpressions {
		switch key := ciliumKey(e.Key); {
		case key == ciliumNamespace && e.Operator == metav1.LabelSelectorOpIn:
			out.namespaces = append(out.namespaces, e.Values...)
		case key == ciliumNamespace || key == ciliumName:
			out.partly = true
		default:
			labels.MatchExpressions = append(labels.MatchExpressions, e)
		}
	}
	if len(labels.MatchLabels) == 0 {
		labels.MatchLabels = nil
	}
	if len(labels.MatchLabels)+len(labels.MatchExpressions) > 0 {
		out.labels = labels
	}
	out.namespaces = unique(out.namespaces)
	if out.partly {
		c.note(v1alpha1.ImportNoEquivalent, from, field, "Berth selects Services by label and by namespace, "+
			"not by name nor by other than these namespaces: give the Services a label.")
	}
	return out, out.partly || out.labels != nil || len(out.namespaces) > 0
}

// ciliumKey returns a key without the source that Cilium may have before it.
func ciliumKey(key string) string { return strings.TrimPrefix(key, "k8s:") }

func (c *ciliumConversion) l2(o *unstructured.Unstructured) {
	c.count(o)
	var in struct {
		Spec struct {
			NodeSelector    *metav1.LabelSelector `json:"nodeSelector"`
			ServiceSelector *metav1.LabelSelector `json:"serviceSelector"`
			LoadBalancerIPs bool                  `json:"loadBalancerIPs"`
			ExternalIPs     bool                  `json:"externalIPs"`
			Interfaces      []string              `json:"interfaces"`
		} `json:"spec"`
	}
	if !c.decode(o, &in) {
		return
	}
	from := ref(o)
	if in.Spec.ExternalIPs {
		c.note(v1alpha1.ImportNoEquivalent, from, "spec.externalIPs", "Berth announces the addresses of "+
			"Services of type LoadBalancer, not spec.externalIPs.")
	}
	if !in.Spec.LoadBalancerIPs {
		c.note(v1alpha1.ImportRewritten, from, "spec.loadBalancerIPs", "It announces no addresses of load "+
			"balancers, and is left out.")
		return
	}
	s, _ := c.selected(from, "spec.serviceSelector", in.Spec.ServiceSelector)
	if len(s.namespaces) > 0 {
		c.note(v1alpha1.ImportNoEquivalent, from, "spec.serviceSelector", "An L2Advertisement selects "+
			"Services by label and pools by name, not namespaces: it announces those of other namespaces "+
			"too. Name the pools in spec.ipAddressPools.")
	}
	spec := v1beta1.L2AdvertisementSpec{
		NodeSelectors:    selectors(in.Spec.NodeSelector),
		ServiceSelectors: selectors(s.labels),
	}
	for _, expression := range in.Spec.Interfaces {
		spec.InterfacePatterns = append(spec.InterfacePatterns, wholeName(expression))
	}
	if len(in.Spec.Interfaces) == 0 {
		c.note(v1alpha1.ImportDiffers, from, "spec.interfaces", "Cilium announces on all network "+
			"interfaces, Berth on those whose subnet has the address, or on all if there is none.")
	}
	c.addL2(from, o.GetName(), spec)
}

// wellKnownCommunity returns one of Cilium's well-known communities as Berth takes it.
func wellKnownCommunity(name string) (string, error) {
	switch name {
	case "no-export", "no-advertise", "no-export-subconfed", "no-peer", "blackhole":
		return name, nil
	}
	if value := ciliumWellKnown[name]; value != "" {
		return value, nil
	}
	return "", fmt.Errorf("%q is no well-known community", name)
}

// ciliumWellKnown are the values of communities that Berth has no name for.
var ciliumWellKnown = map[string]string{
	"internet":                   "0:0",
	"planned-shut":               "65535:0",
	"accept-own":                 "65535:1",
	"route-filter-translated-v4": "65535:2",
	"route-filter-v4":            "65535:3",
	"route-filter-translated-v6": "65535:4",
	"route-filter-v6":            "65535:5",
	"llgr-stale":                 "65535:6",
	"no-llgr":                    "65535:7",
}
