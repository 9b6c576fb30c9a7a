package importing

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// pureLBBGP is PureLB's BGPConfiguration, in the shape of gobgp's.
type pureLBBGP struct {
	Spec struct {
		Global struct {
			ASN                   int64          `json:"asn"`
			RouterID              string         `json:"routerID"`
			RouterIDPool          ignored        `json:"routerIDPool"`
			ListenPort            ignored        `json:"listenPort"`
			ListenAddresses       ignored        `json:"listenAddresses"`
			Families              ignored        `json:"families"`
			UseMultiplePaths      ignored        `json:"useMultiplePaths"`
			RouteSelectionOptions ignored        `json:"routeSelectionOptions"`
			DefaultRouteDistance  ignored        `json:"defaultRouteDistance"`
			Confederation         present        `json:"confederation"`
			GracefulRestart       *pureLBRestart `json:"gracefulRestart"`
			ApplyPolicy           present        `json:"applyPolicy"`
			BindToDevice          ignored        `json:"bindToDevice"`
			NodeStatus            ignored        `json:"nodeStatus"`
		} `json:"global"`
		Neighbors         []pureLBNeighbor `json:"neighbors"`
		PeerGroups        []pureLBNeighbor `json:"peerGroups"`
		DynamicNeighbors  []present        `json:"dynamicNeighbors"`
		VRFs              []present        `json:"vrfs"`
		PolicyDefinitions []present        `json:"policyDefinitions"`
		DefinedSets       ignored          `json:"definedSets"`
		NetlinkImport     ignored          `json:"netlinkImport"`
		NetlinkExport     struct {
			Enabled           bool    `json:"enabled"`
			DampeningInterval ignored `json:"dampeningInterval"`
			RouteProtocol     ignored `json:"routeProtocol"`
			Rules             ignored `json:"rules"`
		} `json:"netlinkExport"`
	} `json:"spec"`
}

type pureLBRestart struct {
	Enabled     bool  `json:"enabled"`
	RestartTime int32 `json:"restartTime"`
	HelperOnly  bool  `json:"helperOnly"`
}

// pureLBNeighbor is a neighbor, or a group of which neighbors are.
type pureLBNeighbor struct {
	Config struct {
		PeerGroupName         string                    `json:"peerGroupName"`
		AuthPassword          string                    `json:"authPassword"`
		AuthPasswordSecretRef *corev1.SecretKeySelector `json:"authPasswordSecretRef"`
		Description           ignored                   `json:"description"`
		LocalASN              int64                     `json:"localAsn"`
		NeighborAddress       string                    `json:"neighborAddress"`
		PeerASN               int64                     `json:"peerAsn"`
		PeerGroup             string                    `json:"peerGroup"`
		AdminDown             bool                      `json:"adminDown"`
		NeighborInterface     string                    `json:"neighborInterface"`
		VRF                   string                    `json:"vrf"`
		AllowOwnASN           ignored                   `json:"allowOwnAsn"`
		ReplacePeerASN        ignored                   `json:"replacePeerAsn"`
		AllowAspathLoopLocal  ignored                   `json:"allowAspathLoopLocal"`
		SendCommunity         ignored                   `json:"sendCommunity"`
		RemovePrivate         ignored                   `json:"removePrivate"`
		RouteFlapDamping      ignored                   `json:"routeFlapDamping"`
		SendSoftwareVersion   bool                      `json:"sendSoftwareVersion"`
	} `json:"config"`
	NodeSelector *metav1.LabelSelector `json:"nodeSelector"`
	AfiSafis     []struct {
		Family      string  `json:"family"`
		Enabled     bool    `json:"enabled"`
		PrefixLimit ignored `json:"prefixLimit"`
		AddPaths    ignored `json:"addPaths"`
	} `json:"afiSafis"`
	ApplyPolicy present `json:"applyPolicy"`
	Timers      *struct {
		Config struct {
			ConnectRetry                 int64   `json:"connectRetry"`
			HoldTime                     int64   `json:"holdTime"`
			KeepaliveInterval            int64   `json:"keepaliveInterval"`
			MinimumAdvertisementInterval ignored `json:"minimumAdvertisementInterval"`
		} `json:"config"`
	} `json:"timers"`
	Transport *struct {
		LocalAddress  string  `json:"localAddress"`
		PassiveMode   bool    `json:"passiveMode"`
		BindInterface ignored `json:"bindInterface"`
		IPTOS         ignored `json:"ipTos"`
	} `json:"transport"`
	GracefulRestart *pureLBRestart `json:"gracefulRestart"`
	RouteReflector  present        `json:"routeReflector"`
	EBGPMultihop    *struct {
		Enabled     bool    `json:"enabled"`
		MultihopTTL ignored `json:"multihopTtl"`
	} `json:"ebgpMultihop"`
	BFD *struct {
		Enabled    *bool   `json:"enabled"`
		Port       ignored `json:"port"`
		Transmit   int32   `json:"desiredMinimumTxInterval"` // microseconds, as the next
		Receive    int32   `json:"requiredMinimumReceive"`
		Multiplier int32   `json:"detectionMultiplier"`
	} `json:"bfd"`
}

// within returns a neighbor with what its group says where it says nothing.
func (n pureLBNeighbor) within(g pureLBNeighbor) pureLBNeighbor {
	n.Config.PeerASN = cmp.Or(n.Config.PeerASN, g.Config.PeerASN)
	n.Config.LocalASN = cmp.Or(n.Config.LocalASN, g.Config.LocalASN)
	n.Config.AuthPassword = cmp.Or(n.Config.AuthPassword, g.Config.AuthPassword)
	n.Config.AuthPasswordSecretRef = cmp.Or(n.Config.AuthPasswordSecretRef, g.Config.AuthPasswordSecretRef)
	n.NodeSelector = cmp.Or(n.NodeSelector, g.NodeSelector)
	n.Timers, n.Transport = cmp.Or(n.Timers, g.Timers), cmp.Or(n.Transport, g.Transport)
	n.BFD = cmp.Or(n.BFD, g.BFD)
	if len(n.AfiSafis) == 0 {
		n.AfiSafis = g.AfiSafis
	}
	return n
}

// bgp converts a BGPConfiguration.
func (c *pureLBConversion) bgp(o *unstructured.Unstructured) {
	c.count(o)
	var in pureLBBGP
	if !c.decode(o, &in) {
		return
	}
	from, spec := ref(o), in.Spec
	without := map[string]string{}
	for field, set := range map[string]bool{
		"spec.dynamicNeighbors":     len(spec.DynamicNeighbors) > 0,
		"spec.vrfs":                 len(spec.VRFs) > 0,
		"spec.policyDefinitions":    len(spec.PolicyDefinitions) > 0,
		"spec.netlinkExport":        spec.NetlinkExport.Enabled,
		"spec.global.applyPolicy":   spec.Global.ApplyPolicy != nil,
		"spec.global.confederation": spec.Global.Confederation != nil,
	} {
		if set {
			without[field] = "Berth announces routes to the peers that are named, and learns none: it has " +
				"no policies."
		}
	}
	c.noEquivalent(from, without)
	groups := map[string]pureLBNeighbor{}
	for _, g := range spec.PeerGroups {
		groups[g.Config.PeerGroupName] = g
	}
	for i, n := range spec.Neighbors {
		field := fmt.Sprintf("spec.neighbors[%d]", i)
		if n.Config.PeerGroup != "" {
			n = n.within(groups[n.Config.PeerGroup])
		}
		c.neighbor(o, field, in, n)
	}
}

// neighbor converts one neighbor.
func (c *pureLBConversion) neighbor(
	o *unstructured.Unstructured, field string, in pureLBBGP, n pureLBNeighbor,
) {
	from := ref(o)
	if n.Config.AdminDown {
		c.note(v1alpha1.ImportRewritten, from, field+".config.adminDown", "The peer is down, and left out.")
		return
	}
	name := cmp.Or(n.Config.NeighborInterface, n.Config.NeighborAddress)
	spec := v1beta1.BGPPeerSpec{
		MyASN:         cmp.Or(n.Config.LocalASN, in.Spec.Global.ASN),
		PeerASN:       n.Config.PeerASN,
		PeerAddress:   n.Config.NeighborAddress,
		Interface:     n.Config.NeighborInterface,
		VRF:           n.Config.VRF,
		NodeSelectors: selectors(n.NodeSelector),
		RouterID:      in.Spec.Global.RouterID,
		Capabilities:  v1beta1.BGPCapabilities{SoftwareVersion: n.Config.SendSoftwareVersion},
	}
	if address, zone, scoped := strings.Cut(n.Config.NeighborAddress, "%"); scoped && spec.Interface == "" {
		spec.Interface = zone
		c.note(v1alpha1.ImportDiffers, from, field+".config.neighborAddress", fmt.Sprintf("The router %s is "+
			"found on the interface %s, where it must be the only one.", address, zone))
	}
	if spec.Interface != "" {
		spec.PeerAddress = ""
	}
	if strings.Contains(spec.RouterID, "${") {
		spec.RouterID = ""
		c.note(v1alpha1.ImportDiffers, from, "spec.global.routerID", "It is made from the node: Berth takes "+
			"the node's first IPv4 address, or what spec.perNode.routerID of the BGPPeer names.")
	}
	c.password(o, field, &spec, n)
	c.session(from, field, &spec, n)
	c.restartOf(from, field, &spec, cmp.Or(n.GracefulRestart, in.Spec.Global.GracefulRestart))
	if b := n.BFD; b != nil && (b.Enabled == nil || *b.Enabled) {
		spec.BFDProfile = c.addBFD(from, name, v1beta1.BFDProfileSpec{
			TransmitInterval: new(intstr.FromInt32(cmp.Or(b.Transmit, 1_000_000) / 1000)),
			ReceiveInterval:  new(intstr.FromInt32(cmp.Or(b.Receive, 1_000_000) / 1000)),
			DetectMultiplier: new(cmp.Or(b.Multiplier, 3)),
		})
	}
	if n.ApplyPolicy != nil || n.RouteReflector != nil {
		c.note(v1alpha1.ImportNoEquivalent, from, field+".applyPolicy", "Berth has no policies, and "+
			"reflects no routes.")
	}
	c.addPeer(from, name, spec)
}

// password converts the password of a neighbor.
func (c *pureLBConversion) password(
	o *unstructured.Unstructured, field string, spec *v1beta1.BGPPeerSpec, n pureLBNeighbor,
) {
	if s := n.Config.AuthPasswordSecretRef; s != nil && s.Name != "" {
		c.copySecret(ref(o), field+".config.authPasswordSecretRef", o.GetNamespace(), s.Name,
			cmp.Or(s.Key, "password"))
		spec.PasswordSecret = &v1beta1.SecretReference{Name: s.Name}
		return
	}
	spec.Password = n.Config.AuthPassword
}

// session converts timers, transport and families.
func (c *pureLBConversion) session(
	from v1alpha1.Ref, field string, spec *v1beta1.BGPPeerSpec, n pureLBNeighbor,
) {
	if n.EBGPMultihop != nil {
		spec.EBGPMultiHop = n.EBGPMultihop.Enabled
	}
	if t := n.Transport; t != nil {
		spec.SourceAddress, spec.Passive = t.LocalAddress, t.PassiveMode
	}
	if t := n.Timers; t != nil {
		spec.HoldTime = secondsOf(t.Config.HoldTime)
		spec.KeepaliveTime = secondsOf(t.Config.KeepaliveInterval)
		if !spec.Passive {
			spec.ConnectTime = secondsOf(t.Config.ConnectRetry)
		}
		c.timers(from, spec, false)
	}
	families := map[string]bool{}
	for _, f := range n.AfiSafis {
		if !f.Enabled {
			continue
		}
		families[f.Family] = true
		if f.Family != "ipv4-unicast" && f.Family != "ipv6-unicast" {
			c.note(v1alpha1.ImportNoEquivalent, from, field+".afiSafis", fmt.Sprintf("Berth announces IPv4 "+
				"and IPv6 unicast routes, not %s.", f.Family))
		}
	}
	spec.DualStackAddressFamily = families["ipv4-unicast"] && families["ipv6-unicast"]
}

// restartOf converts graceful restart.
func (c *pureLBConversion) restartOf(
	from v1alpha1.Ref, field string, spec *v1beta1.BGPPeerSpec, in *pureLBRestart,
) {
	switch {
	case in == nil || !in.Enabled:
	case in.HelperOnly:
		c.note(v1alpha1.ImportRewritten, from, field+".gracefulRestart", "Berth learns no routes, so it has "+
			"none to keep: graceful restart is left out.")
	default:
		spec.EnableGracefulRestart = true
		spec.GracefulRestartTime = secondsOf(int64(in.RestartTime))
	}
}

// secondsOf returns a time, nil for 0.
func secondsOf(n int64) *metav1.Duration {
	if n <= 0 {
		return nil
	}
	return &metav1.Duration{Duration: time.Duration(n) * time.Second}
}
