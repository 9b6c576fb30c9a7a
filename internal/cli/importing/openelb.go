package importing

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

const openELBGroup = "network.kubesphere.io"

// openELBAsks are the annotations of Services of OpenELB.
var openELBAsks = asks{
	pool:      []string{"eip.openelb.kubesphere.io/v1alpha2"},
	addresses: []string{"eip.openelb.kubesphere.io/v1alpha1"},
	prefixes:  []string{"eip.openelb.kubesphere.io/", "protocol.openelb.kubesphere.io/", "lb.kubesphere.io/"},
	known:     []string{openELBMark, "protocol.openelb.kubesphere.io/v1alpha1"},
}

// openELBMark is the annotation of Services that OpenELB handles.
const openELBMark = "lb.kubesphere.io/v1alpha1"

// openELBRack is the label of nodes by which OpenELB chooses an AS number.
const openELBRack = "openelb.kubesphere.io/rack"

// openELB is OpenELB, earlier called PorterLB.
var openELB = Source{
	Name:      "openelb",
	Title:     "OpenELB",
	Namespace: "openelb-system",
	Kinds:     custom(openELBGroup, false, "v1alpha2", "Eip", "BgpConf", "BgpPeer"),
	convert:   func(c *conversion) { (&openELBConversion{conversion: c}).convert() },
	service:   openELBAsks.service,
	classes:   []string{"", "lb.kubesphere.io/openelb"},
	marks:     openELBMark,
	noTakeOver: "the command does not know how its programs are started and ended. " +
		"Berth announces beside it all the same: see docs/install.md.",
}

// openELBConversion converts OpenELB's objects.
type openELBConversion struct {
	*conversion
	bgpPools []string // that are announced by BGP
	bgpFrom  v1alpha1.Ref
}

func (c *openELBConversion) convert() {
	c.each(openELBGroup, "Eip", c.eip)
	c.peers()
	if len(c.bgpPools) > 0 {
		c.addBGP(c.bgpFrom, "openelb", v1beta1.BGPAdvertisementSpec{IPAddressPools: c.bgpPools})
	}
	c.noteAll(v1alpha1.ImportDiffers, "OpenELB handles only Services with the annotation "+openELBMark+
		". Berth handles all without a loadBalancerClass, or those of the class that it is given.")
}

func (c *openELBConversion) eip(o *unstructured.Unstructured) {
	c.count(o)
	var in struct {
		Spec struct {
			Address           string            `json:"address"`
			Protocol          string            `json:"protocol"`
			Interface         string            `json:"interface"`
			Disable           bool              `json:"disable"`
			UsingKnownIPs     bool              `json:"usingKnownIPs"`
			Priority          int32             `json:"priority"`
			Namespaces        []string          `json:"namespaces"`
			NamespaceSelector map[string]string `json:"namespaceSelector"`
		} `json:"spec"`
	}
	if !c.decode(o, &in) {
		return
	}
	from := ref(o)
	spec := v1beta1.IPAddressPoolSpec{Drain: in.Spec.Disable}
	bound := len(in.Spec.Namespaces)+len(in.Spec.NamespaceSelector) > 0
	if bound {
		a := &v1beta1.ServiceAllocation{
			Namespaces: unique(in.Spec.Namespaces),
			Priority:   max(in.Spec.Priority, 0) + 1, // with OpenELB 0 is the first
		}
		if len(in.Spec.NamespaceSelector) > 0 {
			a.NamespaceSelectors = []metav1.LabelSelector{{MatchLabels: in.Spec.NamespaceSelector}}
		}
		spec.ServiceAllocation = a
		c.note(v1alpha1.ImportDiffers, from, "spec.namespaces", "With OpenELB a Service of another "+
			"namespace gets an address of the Eip if it names it. A pool of Berth's serves only the "+
			"namespaces it selects.")
	}
	if o.GetAnnotations()["eip.openelb.kubesphere.io/is-default-eip"] != "true" && !bound {
		spec.AutoAssign = new(bool) // only for Services that name it
	}
	if in.Spec.UsingKnownIPs {
		c.note(v1alpha1.ImportNoEquivalent, from, "spec.usingKnownIPs", "Berth announces all addresses of a "+
			"pool.")
	}
	names := c.addPool(pool{
		from:      from,
		name:      o.GetName(),
		labels:    o.GetLabels(),
		field:     "spec.address",
		addresses: []string{in.Spec.Address},
		spec:      spec,
	})
	if len(names) == 0 {
		return
	}
	switch in.Spec.Protocol {
	case "layer2":
		l2 := v1beta1.L2AdvertisementSpec{IPAddressPools: names}
		if name, reach := strings.CutPrefix(in.Spec.Interface, "can_reach:"); reach {
			c.note(v1alpha1.ImportDiffers, from, "spec.interface", fmt.Sprintf("Berth announces on the "+
				"network interfaces whose subnet has the address, and does not ask by which %s is "+
				"reached.", name))
		} else if name != "" {
			l2.Interfaces = []string{name}
		}
		c.addL2(from, o.GetName(), l2)
	case "", "bgp":
		c.bgpPools, c.bgpFrom = append(c.bgpPools, names...), from
	case "vip":
		c.note(v1alpha1.ImportDiffers, from, "spec.protocol", "OpenELB has keepalived hold the addresses by "+
			"VRRP. Berth answers for them by ARP and NDP.")
		c.addL2(from, o.GetName(), v1beta1.L2AdvertisementSpec{IPAddressPools: names})
	default:
		c.note(v1alpha1.ImportRefused, from, "spec.protocol", fmt.Sprintf("%q is neither layer2, bgp nor "+
			"vip: nothing announces the pool.", in.Spec.Protocol))
	}
}

// openELBConf is BgpConf.
type openELBConf struct {
	Spec struct {
		AS               int64                  `json:"as"`
		ASPerRack        map[string]int64       `json:"asPerRack"`
		RouterID         string                 `json:"routerId"`
		ListenPort       int32                  `json:"listenPort"`
		ListenAddresses  ignored                `json:"listenAddresses"`
		Families         ignored                `json:"families"`
		UseMultiplePaths ignored                `json:"useMultiplePaths"`
		GracefulRestart  openELBGracefulRestart `json:"gracefulRestart"`
		Policy           string                 `json:"policy"`
	} `json:"spec"`
}

type openELBGracefulRestart struct {
	Enabled             bool    `json:"enabled"`
	RestartTime         int32   `json:"restartTime"`
	LonglivedEnabled    bool    `json:"longlivedEnabled"`
	HelperOnly          bool    `json:"helperOnly"`
	DeferralTime        ignored `json:"deferralTime"`
	NotificationEnabled ignored `json:"notificationEnabled"`
	StaleRoutesTime     ignored `json:"staleRoutesTime"`
	PeerRestartTime     ignored `json:"peerRestartTime"`
	PeerRestarting      ignored `json:"peerRestarting"`
	LocalRestarting     ignored `json:"localRestarting"`
	Mode                ignored `json:"mode"`
}

// openELBPeer is BgpPeer, in the shape of gobgp's.
type openELBPeer struct {
	Spec struct {
		Conf struct {
			AuthPassword      string  `json:"authPassword"`
			Description       ignored `json:"description"`
			LocalAS           int64   `json:"localAs"`
			NeighborAddress   string  `json:"neighborAddress"`
			PeerAS            int64   `json:"peerAs"`
			PeerGroup         string  `json:"peerGroup"`
			PeerType          ignored `json:"peerType"`
			RemovePrivateAS   string  `json:"removePrivateAs"`
			RouteFlapDamping  ignored `json:"routeFlapDamping"`
			SendCommunity     ignored `json:"sendCommunity"`
			NeighborInterface string  `json:"neighborInterface"`
			VRF               string  `json:"vrf"`
			AllowOwnAS        ignored `json:"allowOwnAs"`
			ReplacePeerAS     bool    `json:"replacePeerAs"`
			AdminDown         bool    `json:"adminDown"`
		} `json:"conf"`
		EBGPMultihop struct {
			Enabled     bool    `json:"enabled"`
			MultihopTTL ignored `json:"multihopTtl"`
		} `json:"ebgpMultihop"`
		Timers struct {
			Config struct {
				ConnectRetry                 string  `json:"connectRetry"`
				HoldTime                     string  `json:"holdTime"`
				KeepaliveInterval            string  `json:"keepaliveInterval"`
				MinimumAdvertisementInterval ignored `json:"minimumAdvertisementInterval"`
			} `json:"config"`
		} `json:"timers"`
		Transport struct {
			MTUDiscovery  ignored `json:"mtuDiscovery"`
			PassiveMode   bool    `json:"passiveMode"`
			RemoteAddress ignored `json:"remoteAddress"`
			RemotePort    int32   `json:"remotePort"`
			TCPMSS        ignored `json:"tcpMss"`
		} `json:"transport"`
		GracefulRestart openELBGracefulRestart `json:"gracefulRestart"`
		AfiSafis        []struct {
			MPGracefulRestart ignored `json:"mpGracefulRestart"`
			AddPaths          ignored `json:"addPaths"`
			Config            struct {
				Enabled bool `json:"enabled"`
				Family  struct {
					AFI  string `json:"afi"`
					SAFI string `json:"safi"`
				} `json:"family"`
			} `json:"config"`
		} `json:"afiSafis"`
		NodeSelector *metav1.LabelSelector `json:"nodeSelector"`
	} `json:"spec"`
}

// peers converts each BgpPeer with what BgpConf says of this side.
func (c *openELBConversion) peers() {
	var conf openELBConf
	c.each(openELBGroup, "BgpConf", func(o *unstructured.Unstructured) {
		c.count(o)
		if o.GetName() != "default" {
			c.note(v1alpha1.ImportRewritten, ref(o), "", "It is left out: OpenELB reads only the BgpConf "+
				"default.")
			return
		}
		if !c.decode(o, &conf) {
			return
		}
		if conf.Spec.Policy != "" {
			c.note(v1alpha1.ImportNoEquivalent, ref(o), "spec.policy", "Berth has no policies of BGP: see "+
				"BGPAdvertisement for what it sets of routes.")
		}
		if conf.Spec.ListenPort != 0 {
			c.note(v1alpha1.ImportDiffers, ref(o), "spec.listenPort", "Berth connects to routers and does "+
				"not listen. For a peer with passive: true it listens on port 179.")
		}
	})
	c.each(openELBGroup, "BgpPeer", func(o *unstructured.Unstructured) {
		c.count(o)
		var in openELBPeer
		if c.decode(o, &in) {
			c.peer(o, conf, in)
		}
	})
}

func (c *openELBConversion) peer(o *unstructured.Unstructured, conf openELBConf, in openELBPeer) {
	from := ref(o)
	p := in.Spec
	if p.Conf.AdminDown {
		c.note(v1alpha1.ImportRewritten, from, "spec.conf.adminDown", "The peer is down, and left out.")
		return
	}
	spec := v1beta1.BGPPeerSpec{
		MyASN:         p.Conf.LocalAS,
		PeerASN:       p.Conf.PeerAS,
		PeerAddress:   p.Conf.NeighborAddress,
		Interface:     p.Conf.NeighborInterface,
		VRF:           p.Conf.VRF,
		Password:      p.Conf.AuthPassword,
		PeerPort:      p.Transport.RemotePort,
		Passive:       p.Transport.PassiveMode,
		EBGPMultiHop:  p.EBGPMultihop.Enabled,
		RouterID:      conf.Spec.RouterID,
		NodeSelectors: selectors(p.NodeSelector),
	}
	if spec.Interface != "" {
		spec.PeerAddress = ""
	}
	c.restart(from, &spec, p.GracefulRestart)
	spec.ConnectTime = c.seconds(from, "spec.timers.config.connectRetry", p.Timers.Config.ConnectRetry)
	spec.HoldTime = c.seconds(from, "spec.timers.config.holdTime", p.Timers.Config.HoldTime)
	spec.KeepaliveTime = c.seconds(from, "spec.timers.config.keepaliveInterval",
		p.Timers.Config.KeepaliveInterval)
	if spec.Passive {
		spec.ConnectTime = nil
	}
	c.timers(from, &spec, false)
	without := map[string]string{}
	if p.Conf.PeerGroup != "" {
		without["spec.conf.peerGroup"] = "Berth has no peer groups."
	}
	if p.Conf.RemovePrivateAS != "" {
		without["spec.conf.removePrivateAs"] = "Berth's routes begin in its own AS: there is nothing to " +
			"remove."
	}
	families := map[string]bool{}
	for _, f := range p.AfiSafis {
		family := strings.ToLower(strings.TrimPrefix(f.Config.Family.AFI, "AFI_"))
		if f.Config.Enabled {
			families[family] = true
		}
		if family != "ip" && family != "ip6" {
			without["spec.afiSafis"] = fmt.Sprintf("Berth announces IPv4 and IPv6 unicast routes, not "+
				"%s.", family)
		}
	}
	spec.DualStackAddressFamily = families["ip"] && families["ip6"]
	c.noEquivalent(from, without)
	c.racks(o, conf, spec)
}

// restart converts graceful restart.
func (c *openELBConversion) restart(
	from v1alpha1.Ref, spec *v1beta1.BGPPeerSpec, in openELBGracefulRestart,
) {
	if !in.Enabled {
		return
	}
	if in.HelperOnly {
		c.note(v1alpha1.ImportRewritten, from, "spec.gracefulRestart.helperOnly", "Berth learns no routes, "+
			"so it has none to keep: graceful restart is left out.")
		return
	}
	spec.EnableGracefulRestart = true
	if in.RestartTime > 0 {
		spec.GracefulRestartTime = &metav1.Duration{Duration: time.Duration(in.RestartTime) * time.Second}
	}
	if in.LonglivedEnabled {
		c.note(v1alpha1.ImportNoEquivalent, from, "spec.gracefulRestart.longlivedEnabled", "OpenELB says no "+
			"time for it: set spec.longLivedStaleTime of the BGPPeer.")
	}
}

// seconds reads a number of seconds that stands in a text; "" and 0 are none.
func (c *openELBConversion) seconds(from v1alpha1.Ref, field, text string) *metav1.Duration {
	text = strings.TrimSuffix(text, "s")
	if text == "" || text == "0" {
		return nil
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		c.note(v1alpha1.ImportRefused, from, field, fmt.Sprintf("%q is no number of seconds, and left "+
			"out.", text))
		return nil
	}
	return &metav1.Duration{Duration: time.Duration(n) * time.Second}
}

// racks adds a peer, or one for each rack if racks have AS numbers of their own.
func (c *openELBConversion) racks(o *unstructured.Unstructured, conf openELBConf, spec v1beta1.BGPPeerSpec) {
	from := ref(o)
	if spec.MyASN != 0 || len(conf.Spec.ASPerRack) == 0 {
		if spec.MyASN == 0 {
			spec.MyASN = conf.Spec.AS
		}
		if spec.MyASN == 0 {
			c.note(v1alpha1.ImportRefused, from, "", "There is no BgpConf default that gives the AS number "+
				"of this side: the peer is left out.")
			return
		}
		c.addPeer(from, o.GetName(), spec)
		return
	}
	for _, rack := range slices.Sorted(maps.Keys(conf.Spec.ASPerRack)) {
		one := *spec.DeepCopy()
		one.MyASN = conf.Spec.ASPerRack[rack]
		if len(one.NodeSelectors) == 0 {
			one.NodeSelectors = []metav1.LabelSelector{{}}
		}
		for i := range one.NodeSelectors {
			if one.NodeSelectors[i].MatchLabels == nil {
				one.NodeSelectors[i].MatchLabels = map[string]string{}
			}
			one.NodeSelectors[i].MatchLabels[openELBRack] = rack
		}
		c.addPeer(from, o.GetName()+"-"+rack, one)
	}
	c.note(v1alpha1.ImportRewritten, from, "", "Racks have AS numbers of their own: there is a BGPPeer for "+
		"each.")
}
