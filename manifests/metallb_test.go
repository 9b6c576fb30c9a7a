package manifests

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/bgp"
	"github.com/berth-lb/berth/pkg/config"
)

// metalLB is what a user of MetalLB may have: every field of its BGP kinds that
// does not exclude another, with fields in the order of its own documentation.
const metalLB = `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: production, namespace: metallb-system, labels: {zone: east}}
spec:
  addresses: [198.51.100.0/24, "2001:db8:100::/64"]
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: rack-1, namespace: metallb-system}
spec:
  myASN: 64512
  peerASN: 64513
  peerAddress: 10.0.0.1
  sourceAddress: 10.0.0.11
  peerPort: 1179
  holdTime: 30s
  keepaliveTime: 10s
  connectTime: 7s
  routerID: 10.0.0.11
  nodeSelectors:
  - matchLabels: {rack: "1"}
  - matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [a, b]}]
  passwordSecret: {name: tor}
  bfdProfile: full
  enableGracefulRestart: true
  ebgpMultiHop: true
  vrf: red
  disableMP: false
  dualStackAddressFamily: true
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: unnumbered, namespace: metallb-system}
spec:
  myASN: 64512
  localASN: 64600
  dynamicASN: external
  interface: eth1
  password: plain
---
apiVersion: metallb.io/v1beta1
kind: BFDProfile
metadata: {name: full, namespace: metallb-system}
spec:
  receiveInterval: 200
  transmitInterval: 250
  detectMultiplier: 5
  echoInterval: 60
  echoMode: false
  passiveMode: true
  minimumTtl: 200
---
apiVersion: metallb.io/v1beta1
kind: Community
metadata: {name: communities, namespace: metallb-system}
spec:
  communities:
  - {name: vpn-only, value: "1234:1"}
  - {name: large, value: "large:1:2:3"}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: wide, namespace: metallb-system}
spec:
  aggregationLength: 24
  aggregationLengthV6: 64
  localPref: 100
  communities: [vpn-only, "65535:65282", large]
  ipAddressPools: [production]
  ipAddressPoolSelectors:
  - matchLabels: {zone: east}
  nodeSelectors:
  - matchLabels: {rack: "1"}
  peers: [rack-1]
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: public, namespace: metallb-system}
spec:
  serviceSelectors:
  - matchLabels: {public: "true"}
---
apiVersion: v1
kind: Secret
metadata: {name: tor, namespace: berth-system}
type: kubernetes.io/basic-auth
stringData: {password: geheim}
`

// fromMetalLB is what is in force of it when nothing but the group and version
// is changed. Namespaces of our own kinds mean nothing: the API server drops
// them.
func fromMetalLB(t *testing.T) (config.Config, []config.Problem) {
	t.Helper()
	text := strings.NewReplacer(
		"metallb.io/v1beta1", "berth.io/v1beta1",
		"metallb.io/v1beta2", "berth.io/v1beta1",
	).Replace(metalLB)
	return config.Parse(configObjects(t, split(t, "MetalLB", []byte(text))), config.Config{}, time.Time{})
}

func TestMetalLBManifestsAreInForce(t *testing.T) {
	_, problems := fromMetalLB(t)
	for _, p := range problems {
		t.Errorf("%s %s: %s: %s", p.Kind, p.Name, p.Reason, p.Message)
	}
}

func TestMetalLBPeersMeanTheSame(t *testing.T) {
	c, _ := fromMetalLB(t)
	p := c.BGPPeer("rack-1")
	if !p.SelectsNode(labels.Set{"rack": "1"}) || !p.SelectsNode(labels.Set{"kubernetes.io/hostname": "b"}) ||
		p.SelectsNode(labels.Set{"rack": "2"}) {
		t.Error("nodes are selected otherwise")
	}
	ip := netip.MustParseAddr
	node := config.Node{Name: "a", Addresses: []netip.Addr{ip("10.0.0.11"), ip("fd00::11")}}
	got, err := p.For(node)
	want := bgp.Peer{
		Name:            "rack-1",
		LocalASN:        64512,
		PeerASN:         64513,
		RouterID:        ip("10.0.0.11"),
		Address:         ip("10.0.0.1"),
		Port:            1179,
		Source:          ip("10.0.0.11"),
		VRF:             "red",
		Multihop:        true,
		Password:        bgp.NewPassword("geheim"),
		Hold:            30 * time.Second,
		Keepalive:       10 * time.Second,
		Connect:         7 * time.Second,
		Families:        bgp.DualStack,
		NextHop4:        ip("10.0.0.11"),
		NextHop6:        ip("fd00::11"),
		Offer:           bgp.Offer{ExtendedMessage: true},
		GracefulRestart: config.DefaultRestartTime,
	}
	if err != nil || got != want {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	b := p.BFD
	if b == nil || b.Receive != 200*time.Millisecond || b.Transmit != 250*time.Millisecond ||
		b.Multiplier != 5 || b.Echo != 0 || !b.Passive || b.MinimumTTL != 200 {
		t.Errorf("BFD is %+v", b)
	}

	got, err = c.BGPPeer("unnumbered").For(node)
	want = bgp.Peer{
		Name:      "unnumbered",
		LocalASN:  64600,
		RouterID:  ip("10.0.0.11"),
		Interface: "eth1",
		Port:      179,
		Password:  bgp.NewPassword("plain"),
		Hold:      90 * time.Second,
		Keepalive: 30 * time.Second,
		Connect:   config.DefaultConnectTime,
		Families:  bgp.DualStack,
		NextHop4:  ip("10.0.0.11"),
		NextHop6:  ip("fd00::11"),
		Offer:     bgp.Offer{ExtendedMessage: true},
	}
	if err != nil || got != want {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
}

func TestMetalLBAdvertisementsMeanTheSame(t *testing.T) {
	c, _ := fromMetalLB(t)
	pool := c.Pool("production")
	names := func(service, node labels.Set) []string {
		var out []string
		for _, a := range c.BGPAdvertisementsFor(netip.MustParseAddr("198.51.100.7"), pool,
			[]labels.Set{service}, node) {
			out = append(out, a.Name)
		}
		return out
	}
	got := names(labels.Set{"public": "true"}, labels.Set{"rack": "1"})
	if !slices.Equal(got, []string{"public", "wide"}) {
		t.Errorf("a public Service is announced by %v", got)
	}
	if got := names(nil, labels.Set{"rack": "1"}); !slices.Equal(got, []string{"wide"}) {
		t.Errorf("another Service is announced by %v", got)
	}
	if got := names(labels.Set{"public": "true"}, nil); !slices.Equal(got, []string{"public"}) {
		t.Errorf("on another node a public Service is announced by %v", got)
	}
	wide := c.BGPAdvertisementsFor(netip.MustParseAddr("198.51.100.7"), pool, []labels.Set{nil},
		labels.Set{"rack": "1"})[0]
	if wide.Length4 != 24 || wide.Length6 != 64 || wide.LocalPref != 100 ||
		!slices.Equal(wide.Peers, []string{"rack-1"}) {
		t.Errorf("got %+v", wide)
	}
	var communities []string
	for _, c := range wide.Communities {
		communities = append(communities, c.String())
	}
	if !slices.Equal(communities, []string{"1234:1", "65535:65282", "large:1:2:3"}) {
		t.Errorf("communities are %v", communities)
	}
}

// configObjects returns the configuration objects among documents.
func configObjects(t *testing.T, list []document) config.Objects {
	t.Helper()
	objects := config.Objects{Namespace: "berth-system"}
	for _, p := range decoded[*v1beta1.IPAddressPool](t, list) {
		objects.Pools = append(objects.Pools, *p)
	}
	for _, a := range decoded[*v1beta1.L2Advertisement](t, list) {
		objects.L2Advertisements = append(objects.L2Advertisements, *a)
	}
	for _, p := range decoded[*v1beta1.BGPPeer](t, list) {
		objects.BGPPeers = append(objects.BGPPeers, *p)
	}
	for _, a := range decoded[*v1beta1.BGPAdvertisement](t, list) {
		objects.BGPAdvertisements = append(objects.BGPAdvertisements, *a)
	}
	for _, c := range decoded[*v1beta1.Community](t, list) {
		objects.Communities = append(objects.Communities, *c)
	}
	for _, p := range decoded[*v1beta1.BFDProfile](t, list) {
		objects.BFDProfiles = append(objects.BFDProfiles, *p)
	}
	for _, s := range decoded[*corev1.Secret](t, list) {
		// What the API server does with stringData.
		s.Data = map[string][]byte{}
		for key, text := range s.StringData {
			s.Data[key] = []byte(text)
		}
		objects.Secrets = append(objects.Secrets, *s)
	}
	return objects
}
