package importing

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// ciliumCluster is a CiliumBGPClusterConfig.
type ciliumCluster struct {
	Spec struct {
		NodeSelector *metav1.LabelSelector `json:"nodeSelector"`
		BGPInstances []struct {
			Name      string `json:"name"`
			LocalASN  int64  `json:"localASN"`
			LocalPort int32  `json:"localPort"`
			Peers     []struct {
				Name          string `json:"name"`
				PeerAddress   string `json:"peerAddress"`
				PeerASN       int64  `json:"peerASN"`
				AutoDiscovery *struct {
					Mode           string  `json:"mode"`
					DefaultGateway present `json:"defaultGateway"`
					Unnumbered     struct {
						Interface string `json:"interface"`
					} `json:"unnumbered"`
				} `json:"autoDiscovery"`
				PeerConfigRef struct {
					Group ignored `json:"group"` // of v2alpha1, as the next
					Kind  ignored `json:"kind"`
					Name  string  `json:"name"`
				} `json:"peerConfigRef"`
			} `json:"peers"`
		} `json:"bgpInstances"`
	} `json:"spec"`
}

// ciliumPeerConfig is a CiliumBGPPeerConfig.
type ciliumPeerConfig struct {
	Spec struct {
		Transport struct {
			PeerPort int32 `json:"peerPort"`
		} `json:"transport"`
		Timers struct {
			ConnectRetry int64 `json:"connectRetryTimeSeconds"`
			Hold         int64 `json:"holdTimeSeconds"`
			Keepalive    int64 `json:"keepAliveTimeSeconds"`
		} `json:"timers"`
		AuthSecretRef   string        `json:"authSecretRef"`
		GracefulRestart ciliumRestart `json:"gracefulRestart"`
		EBGPMultihop    int32         `json:"ebgpMultihop"`
		Families        []struct {
			AFI            string                `json:"afi"`
			SAFI           string                `json:"safi"`
			Advertisements *metav1.LabelSelector `json:"advertisements"`
		} `json:"families"`
	} `json:"spec"`
	from v1alpha1.Ref
}

type ciliumRestart struct {
	Enabled     bool  `json:"enabled"`
	RestartTime int64 `json:"restartTimeSeconds"`
}

// ciliumAdvertisements is a CiliumBGPAdvertisement.
type ciliumAdvertisements struct {
	Spec struct {
		Advertisements []ciliumAdvertisement `json:"advertisements"`
	} `json:"spec"`
	from   v1alpha1.Ref
	labels labels.Set
}

type ciliumAdvertisement struct {
	Type    string `json:"advertisementType"`
	Service struct {
		Addresses []string `json:"addresses"`
		Length4   *int32   `json:"aggregationLengthIPv4"`
		Length6   *int32   `json:"aggregationLengthIPv6"`
	} `json:"service"`
	Selector   *metav1.LabelSelector `json:"selector"`
	Attributes struct {
		LocalPreference int64 `json:"localPreference"`
		Communities     struct {
			Standard  []string `json:"standard"`
			WellKnown []string `json:"wellKnown"`
			Large     []string `json:"large"`
		} `json:"communities"`
	} `json:"attributes"`
}

// bgp converts the objects of the BGP control plane.
func (c *ciliumConversion) bgp() {
	c.peerConfigs = map[string]ciliumPeerConfig{}
	c.peersOf, c.familiesOf = map[string][]string{}, map[string]map[string]bool{}
	c.each(ciliumGroup, "CiliumBGPPeerConfig", func(o *unstructured.Unstructured) {
		c.count(o)
		in := ciliumPeerConfig{from: ref(o)}
		if c.decode(o, &in) {
			c.peerConfigs[o.GetName()] = in
		}
	})
	c.each(ciliumGroup, "CiliumBGPAdvertisement", func(o *unstructured.Unstructured) {
		c.count(o)
		in := ciliumAdvertisements{from: ref(o), labels: o.GetLabels()}
		if c.decode(o, &in) {
			c.advertisements = append(c.advertisements, in)
		}
	})
	c.each(ciliumGroup, "CiliumBGPClusterConfig", c.cluster)
	c.each(ciliumGroup, "CiliumBGPNodeConfigOverride", func(o *unstructured.Unstructured) {
		c.count(o)
		c.note(v1alpha1.ImportNoEquivalent, ref(o), "", "What differs from node to node is read from labels "+
			"or annotations of the Node: see spec.perNode of the BGPPeer.")
	})
	for _, a := range c.advertisements {
		if len(c.peersOf[a.from.Name]) == 0 {
			c.note(v1alpha1.ImportRewritten, a.from, "", "No peer is told of it: it is left out.")
			continue
		}
		for i, one := range a.Spec.Advertisements {
			c.advertisement(a.from, fmt.Sprintf("spec.advertisements[%d]", i), one)
		}
	}
}

func (c *ciliumConversion) cluster(o *unstructured.Unstructured) {
	c.count(o)
	var in ciliumCluster
	if !c.decode(o, &in) {
		return
	}
	from := ref(o)
	for i, instance := range in.Spec.BGPInstances {
		field := fmt.Sprintf("spec.bgpInstances[%d]", i)
		if instance.LocalASN == 0 {
			c.note(v1alpha1.ImportRefused, from, field+".localASN", "It is missing: the instance is left "+
				"out. See spec.perNode.myASN of the BGPPeer if nodes have AS numbers of their own.")
			continue
		}
		if instance.LocalPort != 0 {
			c.note(v1alpha1.ImportDiffers, from, field+".localPort", "Berth connects to routers and does "+
				"not listen. For a peer with passive: true it listens on port 179.")
		}
		for _, p := range instance.Peers {
			spec := v1beta1.BGPPeerSpec{
				MyASN:         instance.LocalASN,
				PeerASN:       p.PeerASN,
				PeerAddress:   p.PeerAddress,
				NodeSelectors: selectors(in.Spec.NodeSelector),
			}
			at := field + ".peers." + p.Name
			if d := p.AutoDiscovery; d != nil && d.Mode == "Unnumbered" {
				spec.Interface, spec.PeerAddress = d.Unnumbered.Interface, ""
			} else if d != nil || p.PeerAddress == "" {
				c.note(v1alpha1.ImportNoEquivalent, from, at, "Berth does not take the default gateway for "+
					"a peer: write a BGPPeer with its address. The peer is left out.")
				continue
			}
			if spec.PeerASN == 0 {
				spec.DynamicASN = v1beta1.DynamicASNExternal
				c.note(v1alpha1.ImportDiffers, from, at+".peerASN", "None is given: Berth takes any but its "+
					"own.")
			}
			c.peer(from, at, p.PeerConfigRef.Name, instance.Name+"-"+p.Name, spec)
		}
	}
}

// peer adds a peer with what its configuration says.
func (c *ciliumConversion) peer(
	from v1alpha1.Ref, field, configName, wanted string, spec v1beta1.BGPPeerSpec,
) {
	in, found := c.peerConfigs[configName]
	if configName != "" && !found {
		c.note(v1alpha1.ImportDiffers, from, field+".peerConfigRef", fmt.Sprintf("There is no "+
			"CiliumBGPPeerConfig %s: the defaults count.", configName))
	}
	spec.PeerPort = in.Spec.Transport.PeerPort
	spec.HoldTime, spec.KeepaliveTime = secondsOf(in.Spec.Timers.Hold), secondsOf(in.Spec.Timers.Keepalive)
	spec.ConnectTime = secondsOf(min(in.Spec.Timers.ConnectRetry, 65535))
	c.timers(in.from, &spec, false)
	spec.EBGPMultiHop = in.Spec.EBGPMultihop > 1 && spec.PeerASN != spec.MyASN
	if in.Spec.GracefulRestart.Enabled {
		spec.EnableGracefulRestart = true
		spec.GracefulRestartTime = secondsOf(in.Spec.GracefulRestart.RestartTime)
	}
	if name := in.Spec.AuthSecretRef; name != "" {
		c.copySecret(in.from, "spec.authSecretRef", c.in.Namespace, name, "password")
		spec.PasswordSecret = &v1beta1.SecretReference{Name: name}
	}
	unicast := map[string]bool{}
	for _, f := range in.Spec.Families {
		if f.SAFI != "unicast" || f.AFI != "ipv4" && f.AFI != "ipv6" {
			c.note(v1alpha1.ImportNoEquivalent, in.from, "spec.families", fmt.Sprintf("Berth announces IPv4 "+
				"and IPv6 unicast routes, not %s/%s.", f.AFI, f.SAFI))
			continue
		}
		unicast[f.AFI] = true
	}
	spec.DualStackAddressFamily = len(in.Spec.Families) == 0 || unicast["ipv4"] && unicast["ipv6"]
	name := c.addPeer(from, wanted, spec)
	for _, f := range in.Spec.Families {
		c.tells(in.from, name, f.AFI, f.Advertisements)
	}
}

// tells records which advertisements a peer is told of in a family.
func (c *ciliumConversion) tells(from v1alpha1.Ref, peer, family string, in *metav1.LabelSelector) {
	if in == nil {
		return
	}
	selector, err := metav1.LabelSelectorAsSelector(in)
	if err != nil {
		c.note(v1alpha1.ImportRefused, from, "spec.families", "A selector cannot be read: "+err.Error()+".")
		return
	}
	for _, a := range c.advertisements {
		if selector.Matches(a.labels) {
			name := a.from.Name
			c.peersOf[name] = append(c.peersOf[name], peer)
			if c.familiesOf[name] == nil {
				c.familiesOf[name] = map[string]bool{}
			}
			c.familiesOf[name][family] = true
		}
	}
}

// advertisement converts one entry of a CiliumBGPAdvertisement.
func (c *ciliumConversion) advertisement(from v1alpha1.Ref, field string, in ciliumAdvertisement) {
	loadBalancers := false
	for _, a := range in.Service.Addresses {
		if a == "LoadBalancerIP" {
			loadBalancers = true
		} else {
			c.note(v1alpha1.ImportNoEquivalent, from, field+".service.addresses", fmt.Sprintf("Berth "+
				"announces the addresses of load balancers, not %s.", a))
		}
	}
	switch {
	case in.Type != "Service":
		c.note(v1alpha1.ImportNoEquivalent, from, field, fmt.Sprintf("Berth announces the addresses of load "+
			"balancers, not %s: leave that to Cilium.", in.Type))
		return
	case !loadBalancers:
		return
	case in.Selector == nil:
		c.note(v1alpha1.ImportRewritten, from, field+".selector", "Without a selector it announces nothing: "+
			"it is left out.")
		return
	}
	s, _ := c.selected(from, field+".selector", in.Selector)
	if len(s.namespaces) > 0 {
		c.note(v1alpha1.ImportNoEquivalent, from, field+".selector", "A BGPAdvertisement selects Services "+
			"by label and pools by name, not namespaces: it announces those of other namespaces too. Name "+
			"the pools in spec.ipAddressPools.")
	}
	spec := v1beta1.BGPAdvertisementSpec{
		LocalPref:           in.Attributes.LocalPreference,
		AggregationLength:   in.Service.Length4,
		AggregationLengthV6: in.Service.Length6,
		ServiceSelectors:    selectors(s.labels),
		Peers:               c.peersOf[from.Name],
		Communities:         c.communities(from, field, in),
	}
	if len(spec.ServiceSelectors) > 0 && (spec.AggregationLength != nil || spec.AggregationLengthV6 != nil) {
		spec.AggregationLength, spec.AggregationLengthV6 = nil, nil
		c.note(v1alpha1.ImportDiffers, from, field+".service", "Berth does not aggregate for selected "+
			"Services, as the prefix would bring traffic for others too: each address is announced.")
	}
	if f := c.familiesOf[from.Name]; !f["ipv4"] || !f["ipv6"] {
		c.note(v1alpha1.ImportDiffers, from, "", "Its peers are told of it in one family. Berth tells them "+
			"in each that the session carries.")
	}
	c.addBGP(from, from.Name, spec)
}

// communities returns those of an advertisement.
func (c *ciliumConversion) communities(from v1alpha1.Ref, field string, in ciliumAdvertisement) []string {
	var out []string
	for _, text := range in.Attributes.Communities.Standard {
		if n, err := strconv.ParseUint(text, 10, 32); err == nil {
			text = fmt.Sprintf("%d:%d", n>>16, n&0xffff)
		}
		out = append(out, text)
	}
	for _, name := range in.Attributes.Communities.WellKnown {
		text, err := wellKnownCommunity(name)
		if err != nil {
			c.note(v1alpha1.ImportRefused, from, field+".attributes.communities", err.Error()+": it is left "+
				"out.")
			continue
		}
		out = append(out, text)
	}
	for _, text := range in.Attributes.Communities.Large {
		out = append(out, "large:"+text)
	}
	return out
}

// peeringPolicy converts a CiliumBGPPeeringPolicy, of the first BGP control plane.
func (c *ciliumConversion) peeringPolicy(o *unstructured.Unstructured) {
	c.count(o)
	var in struct {
		Spec struct {
			NodeSelector   *metav1.LabelSelector `json:"nodeSelector"`
			VirtualRouters []struct {
				LocalASN        int64                 `json:"localASN"`
				ExportPodCIDR   bool                  `json:"exportPodCIDR"`
				PodIPPool       present               `json:"podIPPoolSelector"`
				ServiceSelector *metav1.LabelSelector `json:"serviceSelector"`
				Advertisements  []string              `json:"serviceAdvertisements"`
				Neighbors       []ciliumNeighbor      `json:"neighbors"`
			} `json:"virtualRouters"`
		} `json:"spec"`
	}
	if !c.decode(o, &in) {
		return
	}
	from := ref(o)
	for i, r := range in.Spec.VirtualRouters {
		field := fmt.Sprintf("spec.virtualRouters[%d]", i)
		if r.ExportPodCIDR || r.PodIPPool != nil {
			c.note(v1alpha1.ImportNoEquivalent, from, field+".exportPodCIDR", "Berth announces the "+
				"addresses of load balancers, not those of pods: leave that to Cilium.")
		}
		var peers []string
		for _, n := range r.Neighbors {
			spec := v1beta1.BGPPeerSpec{MyASN: r.LocalASN, NodeSelectors: selectors(in.Spec.NodeSelector)}
			if name := c.neighbor(o, field, n, spec); name != "" {
				peers = append(peers, name)
			}
		}
		if r.ServiceSelector == nil || len(peers) == 0 {
			continue
		}
		s, _ := c.selected(from, field+".serviceSelector", r.ServiceSelector)
		if len(s.namespaces) > 0 {
			c.note(v1alpha1.ImportNoEquivalent, from, field+".serviceSelector", "A BGPAdvertisement selects "+
				"Services by label and pools by name, not namespaces: name the pools in spec.ipAddressPools.")
		}
		c.addBGP(from, o.GetName(), v1beta1.BGPAdvertisementSpec{
			ServiceSelectors: selectors(s.labels),
			Peers:            peers,
		})
	}
}

// ciliumNeighbor is a neighbor of a CiliumBGPPeeringPolicy.
type ciliumNeighbor struct {
	PeerAddress     string        `json:"peerAddress"` // a CIDR of full length
	PeerPort        int32         `json:"peerPort"`
	PeerASN         int64         `json:"peerASN"`
	AuthSecretRef   string        `json:"authSecretRef"`
	EBGPMultihopTTL int32         `json:"eBGPMultihopTTL"`
	ConnectRetry    int64         `json:"connectRetryTimeSeconds"`
	Hold            int64         `json:"holdTimeSeconds"`
	Keepalive       int64         `json:"keepAliveTimeSeconds"`
	GracefulRestart ciliumRestart `json:"gracefulRestart"`
	Families        []struct {
		AFI  string `json:"afi"`
		SAFI string `json:"safi"`
	} `json:"families"`
	Attributes []present `json:"advertisedPathAttributes"`
}

// neighbor adds a peer, and returns its name, "" if there is none.
func (c *ciliumConversion) neighbor(
	o *unstructured.Unstructured, field string, in ciliumNeighbor, spec v1beta1.BGPPeerSpec,
) string {
	from := ref(o)
	address, _, _ := strings.Cut(in.PeerAddress, "/")
	if _, err := netip.ParseAddr(address); err != nil {
		c.note(v1alpha1.ImportRefused, from, field+".neighbors", fmt.Sprintf("%q is no address: the peer is "+
			"left out.",
			in.PeerAddress))
		return ""
	}
	spec.PeerAddress, spec.PeerASN, spec.PeerPort = address, in.PeerASN, in.PeerPort
	spec.HoldTime, spec.KeepaliveTime = secondsOf(in.Hold), secondsOf(in.Keepalive)
	spec.ConnectTime = secondsOf(min(in.ConnectRetry, 65535))
	c.timers(from, &spec, false)
	spec.EBGPMultiHop = in.EBGPMultihopTTL > 1 && spec.PeerASN != spec.MyASN
	if in.GracefulRestart.Enabled {
		spec.EnableGracefulRestart = true
		spec.GracefulRestartTime = secondsOf(in.GracefulRestart.RestartTime)
	}
	if in.AuthSecretRef != "" {
		c.copySecret(from, field+".neighbors.authSecretRef", c.in.Namespace, in.AuthSecretRef, "password")
		spec.PasswordSecret = &v1beta1.SecretReference{Name: in.AuthSecretRef}
	}
	if len(in.Attributes) > 0 {
		c.note(v1alpha1.ImportNoEquivalent, from, field+".neighbors.advertisedPathAttributes", "Berth takes "+
			"communities and local preference from a BGPAdvertisement: set them there.")
	}
	unicast := map[string]bool{}
	for _, f := range in.Families {
		unicast[f.AFI+"/"+f.SAFI] = true
	}
	spec.DualStackAddressFamily = len(in.Families) == 0 || unicast["ipv4/unicast"] && unicast["ipv6/unicast"]
	return c.addPeer(from, address, spec)
}
