package importing

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/pkg/config"
)

const (
	pureLBGroup    = "purelb.io"
	pureLBBGPGroup = "bgp.purelb.io"
	// pureLBDefault is the ServiceGroup of Services that name none.
	pureLBDefault = "default"
)

// pureLBAsks are the annotations of Services of PureLB.
var pureLBAsks = asks{
	pool:      []string{"purelb.io/service-group"},
	addresses: []string{"purelb.io/addresses"},
	sharing:   []string{"purelb.io/allow-shared-ip"},
	prefixes:  []string{"purelb.io/"},
	known: []string{
		"purelb.io/allocated-by", "purelb.io/allocated-from", "purelb.io/pool-type", "purelb.io/announcing",
		"purelb.io/announcing-IPv4", "purelb.io/announcing-IPv6", "purelb.io/announcing-unknown",
		"purelb.io/skip-ipv6-dad", "purelb.io/re-evaluate", "purelb.io/allow-local",
	},
	without: map[string]string{
		"purelb.io/multi-pool": "Berth gives a Service one address of each family, not one of each subnet.",
	},
}

// pureLB is PureLB, with its kinds of v1 and v2, and those of its BGP.
var pureLB = Source{
	Name:      "purelb",
	Title:     "PureLB",
	Namespace: "purelb-system",
	Kinds: []snapshot.Foreign{
		{
			Group:      pureLBGroup,
			Versions:   []string{"v2", "v1"},
			Resource:   "servicegroups",
			Kind:       "ServiceGroup",
			Namespaced: true,
		},
		{
			Group:      pureLBGroup,
			Versions:   []string{"v2", "v1"},
			Resource:   "lbnodeagents",
			Kind:       "LBNodeAgent",
			Namespaced: true,
		},
		{
			Group:      pureLBBGPGroup,
			Versions:   []string{"v1", "v1alpha1"},
			Resource:   "configs",
			Kind:       "BGPConfiguration",
			Namespaced: true,
		},
	},
	convert: func(c *conversion) { (&pureLBConversion{conversion: c}).convert() },
	service: pureLBAsks.service,
	classes: []string{"", "purelb.io/purelb"},
	noTakeOver: "it has the addresses on interfaces of the nodes, which keep them until it is ended. " +
		"See docs/install.md.",
}

// pureLBConversion converts PureLB's objects.
type pureLBConversion struct {
	*conversion
	local  []string     // pools that are announced on the LAN
	anyOf  v1alpha1.Ref // a ServiceGroup of these
	agents int
}

func (c *pureLBConversion) convert() {
	c.each(pureLBGroup, "ServiceGroup", c.serviceGroup)
	c.each(pureLBGroup, "LBNodeAgent", c.agent)
	if c.agents == 0 && len(c.local) > 0 {
		c.addL2(c.anyOf, "purelb", v1beta1.L2AdvertisementSpec{IPAddressPools: c.local})
	}
	c.each(pureLBBGPGroup, "BGPConfiguration", c.bgp)
}

// pureLBPool is a range of addresses of PureLB.
type pureLBPool struct {
	Pool        string `json:"pool"`
	Subnet      string `json:"subnet"`
	Aggregation string `json:"aggregation"`
}

// pureLBPools are the addresses of a ServiceGroup.
type pureLBPools struct {
	Pool         string       `json:"pool"` // of v1, as the two that follow
	Subnet       string       `json:"subnet"`
	Aggregation  string       `json:"aggregation"`
	V4Pool       *pureLBPool  `json:"v4pool"`
	V6Pool       *pureLBPool  `json:"v6pool"`
	V4Pools      []pureLBPool `json:"v4pools"`
	V6Pools      []pureLBPool `json:"v6pools"`
	SkipIPv6DAD  ignored      `json:"skipIPv6DAD"`
	MultiPool    bool         `json:"multiPool"`
	BalancePools bool         `json:"balancePools"`
}

// all returns all ranges.
func (p *pureLBPools) all() []pureLBPool {
	var out []pureLBPool
	if p.Pool != "" {
		out = append(out, pureLBPool{p.Pool, p.Subnet, p.Aggregation})
	}
	for _, one := range []*pureLBPool{p.V4Pool, p.V6Pool} {
		if one != nil {
			out = append(out, *one)
		}
	}
	return slices.Concat(out, p.V4Pools, p.V6Pools)
}

func (c *pureLBConversion) serviceGroup(o *unstructured.Unstructured) {
	c.count(o)
	var in struct {
		Spec struct {
			Local             *pureLBPools `json:"local"`
			Remote            *pureLBPools `json:"remote"`
			External          present      `json:"external"`
			Netbox            present      `json:"netbox"`
			Namespaces        []string     `json:"namespaces"`
			EnforceNamespaces bool         `json:"enforceNamespaces"`
			NamespaceDefault  bool         `json:"namespaceDefault"`
		} `json:"spec"`
	}
	if !c.decode(o, &in) {
		return
	}
	from := ref(o)
	if in.Spec.External != nil || in.Spec.Netbox != nil {
		c.note(v1alpha1.ImportNoEquivalent, from, "spec.external", "Berth asks no other program for "+
			"addresses: write a pool with those that Services have.")
		return
	}
	pools, remote := in.Spec.Local, false
	if pools == nil {
		pools, remote = in.Spec.Remote, true
	}
	if pools == nil {
		c.note(v1alpha1.ImportRefused, from, "", "It has neither local nor remote addresses.")
		return
	}
	if !remote && strings.HasSuffix(o.GetAPIVersion(), "/v1") {
		remote = c.isRemote(from, pools)
	}
	c.differs(from, pools)
	var spec v1beta1.IPAddressPoolSpec
	if len(in.Spec.Namespaces) > 0 {
		spec.ServiceAllocation = &v1beta1.ServiceAllocation{
			Namespaces: unique(in.Spec.Namespaces),
			Priority:   2,
		}
		if in.Spec.NamespaceDefault {
			spec.ServiceAllocation.Priority = 1
		}
		if !in.Spec.EnforceNamespaces {
			c.note(v1alpha1.ImportDiffers, from, "spec.enforceNamespaces", "With PureLB a Service of "+
				"another namespace gets an address if it names the group. A pool of Berth's serves only the "+
				"namespaces it selects.")
		}
	} else if o.GetName() != pureLBDefault {
		spec.AutoAssign = new(bool) // only for Services that name it
	}
	c.addGroup(o, pools, spec, remote)
}

// differs tells what a pool of Berth's does not do.
func (c *pureLBConversion) differs(from v1alpha1.Ref, pools *pureLBPools) {
	if pools.MultiPool {
		c.note(v1alpha1.ImportNoEquivalent, from, "multiPool", pureLBAsks.without["purelb.io/multi-pool"])
	}
	if pools.BalancePools {
		c.note(v1alpha1.ImportNoEquivalent, from, "balancePools", "Berth gives out the lowest free address, "+
			"and does not balance between ranges.")
	}
}

// addGroup adds the pools of a ServiceGroup and, if they are remote, what announces them.
func (c *pureLBConversion) addGroup(
	o *unstructured.Unstructured, pools *pureLBPools, spec v1beta1.IPAddressPoolSpec, remote bool,
) {
	from := ref(o)
	p := pool{from: from, name: o.GetName(), labels: o.GetLabels(), field: "pool", spec: spec}
	for _, one := range pools.all() {
		p.addresses = append(p.addresses, one.Pool)
	}
	names := c.addPool(p)
	if len(names) == 0 {
		return
	}
	if !remote {
		c.local, c.anyOf = append(c.local, names...), from
		return
	}
	bgp := v1beta1.BGPAdvertisementSpec{IPAddressPools: names}
	bgp.AggregationLength = c.aggregate(from, pools.all(), true)
	bgp.AggregationLengthV6 = c.aggregate(from, pools.all(), false)
	c.addBGP(from, o.GetName(), bgp)
}

// isRemote reports whether a ServiceGroup of v1 is announced by routing: no node is in its
// subnets.
func (c *pureLBConversion) isRemote(from v1alpha1.Ref, pools *pureLBPools) bool {
	for _, one := range pools.all() {
		subnet, err := netip.ParsePrefix(one.Subnet)
		if err != nil {
			continue
		}
		for i := range c.in.Nodes {
			for _, a := range c.in.Nodes[i].Status.Addresses {
				if addr, err := netip.ParseAddr(a.Address); err == nil && subnet.Contains(addr) {
					return false
				}
			}
		}
	}
	if len(c.in.Nodes) == 0 {
		c.note(v1alpha1.ImportDiffers, from, "", "Nodes could not be read: it is taken for a group whose "+
			"subnet nodes are in, and announced by ARP and NDP.")
		return false
	}
	return true
}

// aggregate returns the length of the prefixes that PureLB announces for the ranges of a
// family, nil for addresses. All have one length with Berth.
func (c *pureLBConversion) aggregate(from v1alpha1.Ref, pools []pureLBPool, v4 bool) *int32 {
	var out *int32
	for _, p := range pools {
		subnet, err := netip.ParsePrefix(p.Subnet)
		if err != nil || subnet.Addr().Is4() != v4 {
			continue
		}
		bits, err := aggregationOf(p, subnet)
		if err != nil {
			c.note(v1alpha1.ImportRefused, from, "aggregation", err.Error()+".")
			continue
		}
		switch whole := bits == subnet.Addr().BitLen(); {
		case !whole && !holds(p.Pool, bits):
			c.note(v1alpha1.ImportDiffers, from, "aggregation", fmt.Sprintf("PureLB announces prefixes of "+
				"length %d, which are wider than the pool %s. Berth announces each address.", bits, p.Pool))
			return nil
		case out != nil && int(*out) != bits || whole && len(pools) > 1 && out != nil:
			c.note(v1alpha1.ImportDiffers, from, "aggregation", "Ranges of the group have prefixes of "+
				"several lengths. Berth announces each address.")
			return nil
		case !whole:
			out = new(int32(bits))
		}
	}
	return out
}

// aggregationOf returns the length of the prefix that PureLB announces for an address.
func aggregationOf(p pureLBPool, subnet netip.Prefix) (int, error) {
	text, given := strings.CutPrefix(p.Aggregation, "/")
	if !given {
		return subnet.Bits(), nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > subnet.Addr().BitLen() {
		return 0, fmt.Errorf("%q is no prefix length", p.Aggregation)
	}
	return n, nil
}

// holds reports whether a range holds a whole prefix of a length where it begins.
func holds(text string, bits int) bool {
	entry, _ := entryOf(text)
	r, err := config.ParseRange(entry)
	if err != nil {
		return false
	}
	prefix := netip.PrefixFrom(r.From(), bits).Masked()
	return prefix.Addr() == r.From() && r.Contains(last(prefix))
}

// pureLBAgent is an LBNodeAgent.
type pureLBAgent struct {
	Spec struct {
		NodeSelector *metav1.LabelSelector `json:"nodeSelector"`
		Local        *struct {
			LocalInterface    string      `json:"localInterface"`
			LocalInt          string      `json:"localint"` // of v1, as the two that follow
			ExtLBInt          ignored     `json:"extlbint"`
			SendGARP          ignored     `json:"sendgarp"`
			DummyInterface    ignored     `json:"dummyInterface"`
			GARPConfig        *pureLBGARP `json:"garpConfig"`
			AddressConfig     ignored     `json:"addressConfig"`
			Interfaces        []string    `json:"interfaces"`
			AddressGuard      present     `json:"addressGuard"`
			SendGratuitousARP ignored     `json:"sendGratuitousARP"`
		} `json:"local"`
	} `json:"spec"`
}

type pureLBGARP struct {
	Enabled          *bool   `json:"enabled"`
	InitialDelay     ignored `json:"initialDelay"`
	Count            *int32  `json:"count"`
	Interval         string  `json:"interval"`
	VerifyBeforeSend ignored `json:"verifyBeforeSend"`
}

// agent converts an LBNodeAgent, which says how nodes announce the local pools.
func (c *pureLBConversion) agent(o *unstructured.Unstructured) {
	c.count(o)
	var in pureLBAgent
	if !c.decode(o, &in) || in.Spec.Local == nil {
		return
	}
	c.agents++
	from, local := ref(o), in.Spec.Local
	if c.agents == 2 {
		c.note(v1alpha1.ImportDiffers, from, "", "With PureLB one LBNodeAgent counts for a node, the most "+
			"specific. All L2Advertisements count that select a node.")
	}
	if local.AddressGuard != nil {
		c.note(v1alpha1.ImportNoEquivalent, from, "spec.local.addressGuard", "Berth filters no traffic: use "+
			"a firewall on the nodes.")
	}
	spec := v1beta1.L2AdvertisementSpec{
		IPAddressPools: c.local,
		NodeSelectors:  selectors(in.Spec.NodeSelector),
	}
	name := cmp.Or(local.LocalInterface, local.LocalInt)
	if name != "" && name != pureLBDefault {
		spec.InterfacePatterns = []string{wholeName(name)}
		spec.Interfaces = local.Interfaces
	} else {
		c.note(v1alpha1.ImportDiffers, from, "spec.local.localInterface", "PureLB announces on the "+
			"interface of the default route, Berth on those whose subnet has the address.")
	}
	if g := local.GARPConfig; g != nil {
		spec.Announcement = c.garp(from, g)
	}
	if len(c.local) > 0 {
		c.addL2(from, o.GetName(), spec)
	}
}

// garp converts how often gratuitous ARP is sent.
func (c *pureLBConversion) garp(from v1alpha1.Ref, g *pureLBGARP) *v1beta1.AnnouncementPolicy {
	if g.Enabled != nil && !*g.Enabled {
		c.note(v1alpha1.ImportDiffers, from, "spec.local.garpConfig.enabled", "Berth always announces an "+
			"address that has moved, or hosts would go on sending to the node before.")
		return nil
	}
	out := &v1beta1.AnnouncementPolicy{Count: 3}
	if g.Count != nil {
		out.Count = min(max(*g.Count, 1), 100)
	}
	if g.Interval != "" {
		d, err := time.ParseDuration(g.Interval)
		if err != nil || d < 10*time.Millisecond || d > time.Minute {
			c.note(v1alpha1.ImportRefused, from, "spec.local.garpConfig.interval",
				fmt.Sprintf("%q is left out: an interval is from 10ms to 1m.", g.Interval))
		} else {
			out.Interval = &metav1.Duration{Duration: d}
		}
	}
	return out
}
