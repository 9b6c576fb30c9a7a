package importing

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// metalLBFile is the configuration of MetalLB 0.12 and before, under the key config of a
// ConfigMap.
type metalLBFile struct {
	Peers       []metalLBPeer     `json:"peers"`
	Communities map[string]string `json:"bgp-communities"`
	Pools       []metalLBPool     `json:"address-pools"`
	BFDProfiles []metalLBBFD      `json:"bfd-profiles"`
}

type metalLBPeer struct {
	MyASN         int64             `json:"my-asn"`
	PeerASN       int64             `json:"peer-asn"`
	PeerAddress   string            `json:"peer-address"`
	SourceAddress string            `json:"source-address"`
	PeerPort      int32             `json:"peer-port"`
	HoldTime      string            `json:"hold-time"`
	KeepaliveTime string            `json:"keepalive-time"`
	RouterID      string            `json:"router-id"`
	NodeSelectors []metalLBSelector `json:"node-selectors"`
	Password      string            `json:"password"`
	BFDProfile    string            `json:"bfd-profile"`
	EBGPMultiHop  bool              `json:"ebgp-multihop"`
}

type metalLBSelector struct {
	MatchLabels      map[string]string                 `json:"match-labels"`
	MatchExpressions []metav1.LabelSelectorRequirement `json:"match-expressions"`
}

type metalLBPool struct {
	Protocol       string                 `json:"protocol"`
	Name           string                 `json:"name"`
	Addresses      []string               `json:"addresses"`
	AutoAssign     *bool                  `json:"auto-assign"`
	AvoidBuggyIPs  *bool                  `json:"avoid-buggy-ips"`
	Advertisements []metalLBAdvertisement `json:"bgp-advertisements"`
}

type metalLBAdvertisement struct {
	AggregationLength   *int32   `json:"aggregation-length"`
	AggregationLengthV6 *int32   `json:"aggregation-length-v6"`
	LocalPref           int64    `json:"localpref"`
	Communities         []string `json:"communities"`
}

type metalLBBFD struct {
	Name             string `json:"name"`
	ReceiveInterval  *int32 `json:"receive-interval"`
	TransmitInterval *int32 `json:"transmit-interval"`
	DetectMultiplier *int32 `json:"detect-multiplier"`
	EchoInterval     *int32 `json:"echo-interval"`
	EchoMode         bool   `json:"echo-mode"`
	PassiveMode      bool   `json:"passive-mode"`
	MinimumTTL       *int32 `json:"minimum-ttl"`
}

// parseMetalLBFile reads a configuration of MetalLB 0.12 or before, and returns the paths of
// the fields that are not known.
func parseMetalLBFile(text string) (file metalLBFile, unknown []string, err error) {
	value := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		return metalLBFile{}, nil, fmt.Errorf("it is no YAML: %w", err)
	}
	unknown, err = decodeStrict(value, &file)
	return file, unknown, err
}

// configMaps converts the ConfigMaps of MetalLB.
func (c *metalLBConversion) configMaps() {
	newer := c.found["IPAddressPool"]+c.found["AddressPool"]+c.found["BGPPeer"] > 0
	c.each("", "ConfigMap", func(o *unstructured.Unstructured) {
		data, _, err := unstructured.NestedStringMap(o.Object, "data")
		if err != nil {
			return // it has no texts, so it is not MetalLB's
		}
		if text := data["config"]; text != "" {
			c.configFile(o, text, newer)
		}
		if data["extras"] != "" && o.GetName() == "bgpextras" {
			c.note(v1alpha1.ImportNoEquivalent, ref(o), "data.extras", "Berth configures no FRR: these "+
				"lines have no equivalent.")
		}
		if text := data["excludel2.yaml"]; text != "" {
			c.excludedInterfaces(o, text)
		}
	})
}

func (c *metalLBConversion) configFile(o *unstructured.Unstructured, text string, newer bool) {
	file, unknown, err := parseMetalLBFile(text)
	isFile := len(file.Pools)+len(file.Peers) > 0
	if err != nil && o.GetName() != "config" || err == nil && !isFile {
		return // another's
	}
	from := ref(o)
	if newer {
		c.note(v1alpha1.ImportRewritten, from, "", "It is left out: MetalLB 0.13 and later, whose objects "+
			"are there, read no ConfigMap.")
		return
	}
	c.count(o)
	if err != nil {
		c.note(v1alpha1.ImportRefused, from, "data.config", "It cannot be read: "+err.Error()+".")
		return
	}
	for _, field := range unknown {
		c.note(v1alpha1.ImportUnknownField, from, "data.config: "+field,
			"This program does not know the field, and leaves it out.")
	}
	c.file(from, file)
}

// file converts what stands in a ConfigMap.
func (c *metalLBConversion) file(from v1alpha1.Ref, file metalLBFile) {
	c.speaks = "native" // by far the most did
	if len(file.BFDProfiles) > 0 {
		c.speaks = "frr"
	}
	profiles := map[string]string{}
	for _, b := range file.BFDProfiles {
		spec := v1beta1.BFDProfileSpec{
			ReceiveInterval:  milliseconds(b.ReceiveInterval),
			TransmitInterval: milliseconds(b.TransmitInterval),
			DetectMultiplier: b.DetectMultiplier,
			EchoInterval:     milliseconds(b.EchoInterval),
			EchoMode:         b.EchoMode,
			PassiveMode:      b.PassiveMode,
			MinimumTTL:       b.MinimumTTL,
		}
		profiles[b.Name] = c.addBFD(from, b.Name, spec)
		c.echoDiffers(from, spec)
	}
	var aliases []v1beta1.CommunityAlias
	for _, name := range slices.Sorted(maps.Keys(file.Communities)) {
		aliases = append(aliases, v1beta1.CommunityAlias{Name: name, Value: file.Communities[name]})
	}
	c.addCommunities(from, "communities", aliases)
	for i, p := range file.Peers {
		c.filePeer(from, i, p, profiles)
	}
	for i, p := range file.Pools {
		c.filePool(from, i, p)
	}
}

func milliseconds(n *int32) *intstr.IntOrString {
	if n == nil {
		return nil
	}
	return &intstr.IntOrString{Type: intstr.Int, IntVal: *n}
}

func (c *metalLBConversion) filePool(from v1alpha1.Ref, i int, p metalLBPool) {
	out := protocolPool{
		pool: pool{
			from:      from,
			name:      p.Name,
			field:     fmt.Sprintf("data.config: address-pools[%d]", i),
			addresses: p.Addresses,
			spec: v1beta1.IPAddressPoolSpec{
				AutoAssign:    p.AutoAssign,
				AvoidBuggyIPs: p.AvoidBuggyIPs != nil && *p.AvoidBuggyIPs,
			},
		},
		protocol: p.Protocol,
	}
	for _, a := range p.Advertisements {
		out.bgp = append(out.bgp, v1beta1.BGPAdvertisementSpec{
			AggregationLength:   a.AggregationLength,
			AggregationLengthV6: a.AggregationLengthV6,
			LocalPref:           a.LocalPref,
			Communities:         a.Communities,
		})
	}
	c.protocolPool(out)
}

func (c *metalLBConversion) filePeer(from v1alpha1.Ref, i int, p metalLBPeer, profiles map[string]string) {
	field := fmt.Sprintf("data.config: peers[%d]", i)
	spec := v1beta1.BGPPeerSpec{
		MyASN:         p.MyASN,
		PeerASN:       p.PeerASN,
		PeerAddress:   p.PeerAddress,
		SourceAddress: p.SourceAddress,
		PeerPort:      p.PeerPort,
		RouterID:      p.RouterID,
		Password:      p.Password,
		EBGPMultiHop:  p.EBGPMultiHop,
	}
	if p.BFDProfile != "" {
		spec.BFDProfile = profiles[p.BFDProfile]
	}
	for _, s := range p.NodeSelectors {
		spec.NodeSelectors = append(spec.NodeSelectors,
			metav1.LabelSelector{MatchLabels: s.MatchLabels, MatchExpressions: s.MatchExpressions})
	}
	for _, t := range []struct {
		text string
		into **metav1.Duration
		name string
	}{{p.HoldTime, &spec.HoldTime, "hold-time"}, {p.KeepaliveTime, &spec.KeepaliveTime, "keepalive-time"}} {
		if t.text == "" {
			continue
		}
		d, err := time.ParseDuration(t.text)
		if err != nil {
			c.note(v1alpha1.ImportRefused, from, field+"."+t.name,
				fmt.Sprintf("%q is no time, and left out.", t.text))
			continue
		}
		*t.into = &metav1.Duration{Duration: d}
	}
	c.timers(from, &spec, false)
	c.unheeded(from, spec)
	c.addPeer(from, fmt.Sprintf("peer%d", i+1), spec)
}

// metalLBExcluded are the network interfaces that MetalLB excludes by default.
var metalLBExcluded = []string{
	"^docker.*", "^cbr.*", "^dummy.*", "^virbr.*", "^lxcbr.*", "^veth.*", "^lo$", "^cali.*", "^tunl.*",
	"^flannel.*", "^kube-ipvs.*", "^cni.*", "^nodelocaldns.*", "^lxc.*",
}

// excludedInterfaces tells of expressions that MetalLB's user has added.
func (c *metalLBConversion) excludedInterfaces(o *unstructured.Unstructured, text string) {
	var file struct {
		Excluded []string `json:"announcedInterfacesToExclude"`
	}
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		c.note(v1alpha1.ImportRefused, ref(o), "data", "It cannot be read: "+err.Error()+".")
		return
	}
	usual := func(expression string) bool { return slices.Contains(metalLBExcluded, expression) }
	added := slices.DeleteFunc(file.Excluded, usual)
	if len(added) > 0 {
		c.note(v1alpha1.ImportToDo, ref(o), "announcedInterfacesToExclude", "Network interfaces are "+
			"excluded beyond MetalLB's default: "+strings.Join(added, ", ")+". Berth's speaker has a "+
			"default of its own, and --exclude-interfaces replaces it.")
	}
}
