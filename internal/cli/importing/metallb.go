package importing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/pkg/assignment"
)

const metalLBGroup = "metallb.io"

// metalLB is MetalLB, with its kinds of 0.13 and later, or its ConfigMap of 0.12 and before.
// The fields of its kinds are those of Berth's kinds of the same names.
var metalLB = Source{
	Name:      "metallb",
	Title:     "MetalLB",
	Namespace: "metallb-system",
	Kinds: slices.Concat(
		custom(metalLBGroup, true, "v1beta1",
			"IPAddressPool", "L2Advertisement", "BGPAdvertisement", "BFDProfile"),
		[]snapshot.Foreign{
			{
				Group:      metalLBGroup,
				Versions:   []string{"v1beta1"},
				Resource:   "communities",
				Kind:       "Community",
				Namespaced: true,
			},
			{
				Group:      metalLBGroup,
				Versions:   []string{"v1beta2", "v1beta1"},
				Resource:   "bgppeers",
				Kind:       "BGPPeer",
				Namespaced: true,
			},
			{
				Group:      metalLBGroup,
				Versions:   []string{"v1beta1", "v1alpha1"},
				Resource:   "addresspools",
				Kind:       "AddressPool",
				Namespaced: true,
			},
		},
		custom("frrk8s.metallb.io", true, "v1beta1", "FRRConfiguration"),
		programs, configMaps,
	),
	convert: func(c *conversion) { (&metalLBConversion{conversion: c}).convert() },
	service: metalLBService,
	classes: []string{""},
}

// programs are how a load balancer is started, in its own namespace.
var programs = []snapshot.Foreign{
	{Group: "apps", Versions: []string{"v1"}, Resource: "daemonsets", Kind: "DaemonSet", Own: true},
	{Group: "apps", Versions: []string{"v1"}, Resource: "deployments", Kind: "Deployment", Own: true},
}

// configMaps are those in the namespace of a load balancer.
var configMaps = []snapshot.Foreign{
	{Versions: []string{"v1"}, Resource: "configmaps", Kind: "ConfigMap", Own: true},
}

// custom returns kinds of one version whose resources are called as they are, in the plural.
func custom(group string, namespaced bool, version string, kinds ...string) []snapshot.Foreign {
	var out []snapshot.Foreign
	for _, kind := range kinds {
		out = append(out, snapshot.Foreign{
			Group:      group,
			Versions:   []string{version},
			Resource:   strings.ToLower(kind) + "s",
			Kind:       kind,
			Namespaced: namespaced,
		})
	}
	return out
}

// metalLBConversion converts MetalLB's objects.
type metalLBConversion struct {
	*conversion
	// speaks is by what MetalLB speaks BGP: native, frr or frr-k8s; "" if that is not known.
	speaks string
}

func (c *metalLBConversion) convert() {
	c.ownNamespace()
	c.programs()
	c.each(metalLBGroup, "IPAddressPool", c.pool)
	c.each(metalLBGroup, "AddressPool", c.addressPool)
	c.each(metalLBGroup, "BFDProfile", c.bfdProfile)
	c.each(metalLBGroup, "Community", c.community)
	c.each(metalLBGroup, "BGPPeer", c.peer)
	c.each(metalLBGroup, "L2Advertisement", c.l2Advertisement)
	c.each(metalLBGroup, "BGPAdvertisement", c.bgpAdvertisement)
	c.each("frrk8s.metallb.io", "FRRConfiguration", func(o *unstructured.Unstructured) {
		if strings.HasPrefix(o.GetName(), "metallb-") {
			return // MetalLB's own, made from its other objects
		}
		c.count(o)
		c.note(v1alpha1.ImportNoEquivalent, ref(o), "", "Berth configures no FRR: what of it peers do not "+
			"say, such as learning routes or raw configuration, has no equivalent.")
	})
	c.configMaps()
}

// ownNamespace leaves out objects of other namespaces than MetalLB's own: it reads only those.
func (c *metalLBConversion) ownNamespace() {
	var namespaces []string
	for i := range c.in.Objects {
		if o := &c.in.Objects[i]; o.GroupVersionKind().Group == metalLBGroup && o.GetNamespace() != "" {
			namespaces = append(namespaces, o.GetNamespace())
		}
	}
	namespaces = unique(namespaces)
	own := c.in.Namespace
	if len(namespaces) == 1 && namespaces[0] != own {
		own = namespaces[0]
		c.noteAll(v1alpha1.ImportToDo, fmt.Sprintf("MetalLB's objects are in the namespace %s: name it, so "+
			"that its flags and ConfigMaps are read too.", own),
			"kubectl berth import --from metallb --source-namespace "+own)
	}
	c.in.Objects = slices.DeleteFunc(c.in.Objects, func(o unstructured.Unstructured) bool {
		group, namespace := o.GroupVersionKind().Group, o.GetNamespace()
		if group != metalLBGroup || namespace == "" || namespace == own {
			return false
		}
		c.note(v1alpha1.ImportRewritten, ref(&o), "", "It is left out: MetalLB reads only objects in its "+
			"own namespace, "+own+".")
		return true
	})
}

// programs reads how MetalLB is started.
func (c *metalLBConversion) programs() {
	for _, p := range c.containers() {
		name := p.component()
		if name != "controller" && name != "speaker" {
			continue
		}
		if class := p.flag("lb-class"); class != "" {
			c.classes = []string{class}
			c.note(v1alpha1.ImportToDo, p.ref, "--lb-class", fmt.Sprintf("MetalLB handles Services of the "+
				"class %s: have Berth handle them, with BERTH_LOAD_BALANCER_CLASS=%s in its controller and "+
				"its speaker.", class, class))
		}
		if v := p.flag("ignore-exclude-lb"); v != "" && v != "false" {
			c.note(v1alpha1.ImportToDo, p.ref, "--ignore-exclude-lb", "MetalLB announces from nodes with "+
				"the exclude label: set BERTH_IGNORE_EXCLUDE_LABEL=true in Berth's speaker.")
		}
		if name == "speaker" {
			c.speaks = cmp.Or(p.env("METALLB_BGP_TYPE"), "native")
		}
	}
}

func (c *metalLBConversion) pool(o *unstructured.Unstructured) {
	c.count(o)
	var in struct {
		Spec v1beta1.IPAddressPoolSpec `json:"spec"`
	}
	if !c.decode(o, &in) {
		return
	}
	var addresses []string
	for _, a := range in.Spec.Addresses {
		addresses = append(addresses, string(a))
	}
	in.Spec.Addresses = nil
	if a := in.Spec.ServiceAllocation; a != nil {
		a.Namespaces, a.NamespaceSelectors = unique(a.Namespaces), unique(a.NamespaceSelectors)
		a.ServiceSelectors = unique(a.ServiceSelectors)
		if c.tooMany(ref(o), []bounded{
			{"serviceAllocation.namespaces", len(a.Namespaces), mostNames},
			{"serviceAllocation.namespaceSelectors", len(a.NamespaceSelectors), mostSelectors},
			{"serviceAllocation.serviceSelectors", len(a.ServiceSelectors), mostSelectors},
		}) {
			return
		}
	}
	c.addPool(pool{
		from:      ref(o),
		name:      o.GetName(),
		labels:    o.GetLabels(),
		field:     "spec.addresses",
		addresses: addresses,
		spec:      in.Spec,
	})
}

// addressPool converts a pool of MetalLB's operator, which says itself how it is announced.
func (c *metalLBConversion) addressPool(o *unstructured.Unstructured) {
	c.count(o)
	var in struct {
		Spec struct {
			Protocol       string   `json:"protocol"`
			Addresses      []string `json:"addresses"`
			AutoAssign     *bool    `json:"autoAssign"`
			AvoidBuggyIPs  bool     `json:"avoidBuggyIPs"`
			Advertisements []struct {
				AggregationLength   *int32   `json:"aggregationLength"`
				AggregationLengthV6 *int32   `json:"aggregationLengthV6"`
				LocalPref           int64    `json:"localPref"`
				Communities         []string `json:"communities"`
			} `json:"bgpAdvertisements"`
		} `json:"spec"`
	}
	if !c.decode(o, &in) {
		return
	}
	p := protocolPool{
		pool: pool{
			from:      ref(o),
			name:      o.GetName(),
			labels:    o.GetLabels(),
			field:     "spec.addresses",
			addresses: in.Spec.Addresses,
			spec: v1beta1.IPAddressPoolSpec{
				AutoAssign:    in.Spec.AutoAssign,
				AvoidBuggyIPs: in.Spec.AvoidBuggyIPs,
			},
		},
		protocol: in.Spec.Protocol,
		peers:    "every peer",
	}
	for _, a := range in.Spec.Advertisements {
		p.bgp = append(p.bgp, v1beta1.BGPAdvertisementSpec{
			AggregationLength:   a.AggregationLength,
			AggregationLengthV6: a.AggregationLengthV6,
			LocalPref:           a.LocalPref,
			Communities:         a.Communities,
		})
	}
	c.protocolPool(p)
}

// protocolPool is a pool that says itself how it is announced.
type protocolPool struct {
	pool
	protocol string
	bgp      []v1beta1.BGPAdvertisementSpec
	peers    string
}

// protocolPool adds a pool with what announces it.
func (c *metalLBConversion) protocolPool(p protocolPool) {
	names := c.addPool(p.pool)
	if len(names) == 0 {
		return
	}
	switch p.protocol {
	case "layer2":
		c.addL2(p.from, p.name, v1beta1.L2AdvertisementSpec{IPAddressPools: names})
		c.layer2Differs(p.from, nil)
	case "bgp":
		if len(p.bgp) == 0 {
			p.bgp = []v1beta1.BGPAdvertisementSpec{{}}
		}
		for _, a := range p.bgp {
			a.IPAddressPools = names
			c.addBGP(p.from, p.name, a)
		}
	default:
		c.note(v1alpha1.ImportRefused, p.from, "protocol",
			fmt.Sprintf("%q is neither layer2 nor bgp: nothing announces the pool.", p.protocol))
	}
}

// layer2Differs tells what an L2Advertisement does otherwise.
func (c *metalLBConversion) layer2Differs(from v1alpha1.Ref, interfaces []string) {
	c.note(v1alpha1.ImportDiffers, from, "failback", "With MetalLB a node that returns takes its addresses "+
		"back at once. With Berth they stay where they are; spec.failback: Immediate has them move back.")
	if len(interfaces) == 0 {
		c.note(v1alpha1.ImportDiffers, from, "interfaces", "MetalLB announces on all network interfaces, "+
			"Berth on those whose subnet has the address, or on all if there is none.")
	}
}

func (c *metalLBConversion) l2Advertisement(o *unstructured.Unstructured) {
	c.count(o)
	var in struct {
		Spec v1beta1.L2AdvertisementSpec `json:"spec"`
	}
	if !c.decode(o, &in) {
		return
	}
	in.Spec.IPAddressPools = c.poolNames(ref(o), in.Spec.IPAddressPools)
	c.addL2(ref(o), o.GetName(), in.Spec)
	c.layer2Differs(ref(o), in.Spec.Interfaces)
}

// poolNames returns what the pools that an advertisement names are called now.
func (c *metalLBConversion) poolNames(from v1alpha1.Ref, names []string) []string {
	var out []string
	for _, name := range names {
		if now := c.poolsOf[name]; len(now) > 0 {
			out = append(out, now...)
			continue
		}
		c.note(v1alpha1.ImportDiffers, from, "spec.ipAddressPools", fmt.Sprintf("There is no pool %s.", name))
		out = append(out, name)
	}
	return out
}

func (c *metalLBConversion) bgpAdvertisement(o *unstructured.Unstructured) {
	c.count(o)
	var in struct {
		Spec v1beta1.BGPAdvertisementSpec `json:"spec"`
	}
	if !c.decode(o, &in) {
		return
	}
	in.Spec.IPAddressPools = c.poolNames(ref(o), in.Spec.IPAddressPools)
	c.addBGP(ref(o), o.GetName(), in.Spec)
}

func (c *metalLBConversion) community(o *unstructured.Unstructured) {
	c.count(o)
	var in struct {
		Spec v1beta1.CommunitySpec `json:"spec"`
	}
	if c.decode(o, &in) {
		c.addCommunities(ref(o), o.GetName(), in.Spec.Communities)
	}
}

func (c *metalLBConversion) bfdProfile(o *unstructured.Unstructured) {
	c.count(o)
	var in struct {
		Spec v1beta1.BFDProfileSpec `json:"spec"`
	}
	if !c.decode(o, &in) {
		return
	}
	c.addBFD(ref(o), o.GetName(), in.Spec)
	c.echoDiffers(ref(o), in.Spec)
}

func (c *metalLBConversion) echoDiffers(from v1alpha1.Ref, spec v1beta1.BFDProfileSpec) {
	if spec.EchoMode {
		c.note(v1alpha1.ImportDiffers, from, "echoMode", "With MetalLB the node sends echo packets. Berth "+
			"returns those of the router and sends none.")
	}
}

func (c *metalLBConversion) peer(o *unstructured.Unstructured) {
	c.count(o)
	var in struct {
		Spec v1beta1.BGPPeerSpec `json:"spec"`
	}
	if !c.decode(o, &in) {
		return
	}
	from, spec := ref(o), in.Spec
	if s := spec.PasswordSecret; s != nil {
		namespace := s.Namespace
		if namespace == "" {
			namespace = o.GetNamespace()
		}
		spec.PasswordSecret = nil
		if s.Name != "" {
			c.copySecret(from, "spec.passwordSecret", namespace, s.Name, "password")
			spec.PasswordSecret = &v1beta1.SecretReference{Name: s.Name}
		}
	}
	c.timers(from, &spec, strings.HasSuffix(o.GetAPIVersion(), "/v1beta1"))
	if spec.DisableMP && spec.DualStackAddressFamily {
		spec.DisableMP = false
		c.note(v1alpha1.ImportRewritten, from, "spec.disableMP", "It contradicts dualStackAddressFamily, "+
			"which counts, and is left out.")
	}
	c.unheeded(from, spec)
	c.addPeer(from, o.GetName(), spec)
}

// timers has times carry over as Berth takes them. In objects of the older version an omitted
// time was written as 0s.
func (c *conversion) timers(from v1alpha1.Ref, spec *v1beta1.BGPPeerSpec, older bool) {
	for field, d := range map[string]*metav1.Duration{
		"spec.holdTime":      spec.HoldTime,
		"spec.keepaliveTime": spec.KeepaliveTime,
		"spec.connectTime":   spec.ConnectTime,
	} {
		if d != nil && d.Duration%time.Second != 0 {
			d.Duration = d.Truncate(time.Second)
			c.note(v1alpha1.ImportRewritten, from, field, "Times of BGP are whole seconds: it is rounded "+
				"down.")
		}
	}
	zero := func(d *metav1.Duration) bool { return d != nil && d.Duration == 0 }
	switch {
	case zero(spec.HoldTime) && older:
		spec.HoldTime = nil
		c.note(v1alpha1.ImportRewritten, from, "spec.holdTime", "0s is how v1beta1 writes that no time is "+
			"given.")
	case zero(spec.HoldTime) && (spec.KeepaliveTime == nil || zero(spec.KeepaliveTime)):
		c.note(v1alpha1.ImportDiffers, from, "spec.holdTime", "0s turns hold time and keepalives off. Older "+
			"versions of MetalLB wrote it where no time was given, and took it for 90s: if that is what is "+
			"meant, remove holdTime and keepaliveTime.")
	}
	switch hold, keepalive := spec.HoldTime, spec.KeepaliveTime; {
	case zero(keepalive) && !zero(hold):
		spec.KeepaliveTime = nil
		c.note(v1alpha1.ImportDiffers, from, "spec.keepaliveTime", "0s with a hold time means no "+
			"keepalives, and the peer would end the session. It is left out: keepalives are sent after a "+
			"third of the hold time.")
	case hold != nil && keepalive != nil && keepalive.Duration > hold.Duration:
		spec.KeepaliveTime = nil
		c.note(v1alpha1.ImportDiffers, from, "spec.keepaliveTime", "It is longer than the hold time, and "+
			"left out: keepalives are sent after a third of the hold time.")
	}
	if spec.HoldTime != nil && spec.HoldTime.Duration > 0 && spec.HoldTime.Duration < 3*time.Second {
		spec.HoldTime = nil
		c.note(v1alpha1.ImportDiffers, from, "spec.holdTime", "A hold time is 0s, or 3s and more (RFC "+
			"4271): it is left out, and 90s counts.")
	}
}

// unheeded tells what of a peer MetalLB may not have heeded, or takes another default for.
func (c *metalLBConversion) unheeded(from v1alpha1.Ref, spec v1beta1.BGPPeerSpec) {
	if spec.HoldTime == nil && spec.KeepaliveTime == nil && c.speaks != "native" {
		c.note(v1alpha1.ImportDiffers, from, "spec.holdTime", "None is given: Berth takes 90s, MetalLB with "+
			"FRR 180s. The lower of both sides' counts.")
	}
	for field, set := range map[string]bool{
		"spec.sourceAddress": spec.SourceAddress != "",
		"spec.localASN":      spec.LocalASN != 0,
	} {
		if set && (c.speaks == "" || c.speaks == "frr-k8s") {
			c.note(v1alpha1.ImportDiffers, from, field, "MetalLB's default way of BGP, frr-k8s, takes no "+
				"notice of it. Berth does: see whether the router accepts that.")
		}
	}
}

// metalLBService says what becomes of the annotations of a Service: Berth reads MetalLB's, with
// both prefixes.
func metalLBService(c *conversion, s *corev1.Service) {
	from := refOf(s, "service")
	if text := assignment.UnknownAnnotations(s.Annotations); text != "" {
		c.note(v1alpha1.ImportNoEquivalent, from, "", text)
	}
	for key, value := range s.Annotations {
		if strings.HasPrefix(key, v1beta1.LegacyAnnotationPrefix) {
			c.note(v1alpha1.ImportRewritten, from, "", "Annotations have the older prefix "+
				v1beta1.LegacyAnnotationPrefix+". Berth reads them as it reads its own.")
		}
		prefix, named := strings.CutSuffix(key, "address-pool")
		named = named && slices.Contains(v1beta1.AnnotationPrefixes[:], prefix)
		if now := c.poolsOf[value]; named && len(now) > 0 && now[0] != value {
			c.annotate(s, key, value, map[string]string{key: now[0]})
		}
	}
}
