package config

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/bgp"
)

func object(name string, age int) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:              name,
		UID:               types.UID("uid-" + name),
		CreationTimestamp: metav1.NewTime(time.Unix(0, 0).Add(time.Duration(age) * time.Hour)),
	}
}

// peer is a BGPPeer with an AS number and an address, changed.
func peer(name string, change func(*v1beta1.BGPPeerSpec)) v1beta1.BGPPeer {
	o := v1beta1.BGPPeer{ObjectMeta: object(name, 0),
		Spec: v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: 64513, PeerAddress: "192.0.2.1"}}
	if change != nil {
		change(&o.Spec)
	}
	return o
}

func secret(name string, kind corev1.SecretType, password string) corev1.Secret {
	return corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Type:       kind,
		Data:       map[string][]byte{"password": []byte(password)},
	}
}

func seconds(n int) *metav1.Duration {
	return &metav1.Duration{Duration: time.Duration(n) * time.Second}
}

// lines returns problems as "Kind name Reason".
func lines(problems []Problem) []string {
	var out []string
	for _, p := range problems {
		out = append(out, fmt.Sprintf("%s %s %s", p.Kind, p.Name, p.Reason))
	}
	return out
}

func TestPeers(t *testing.T) {
	node := Node{
		Name: "n1",
		Labels: labels.Set{"rack": "7", "asn": "4200000007", "id": "10.0.0.7",
			"word": "seven"},
		Annotations: map[string]string{"tor": " 2001:db8::7 ", "src": "2001:db8::1", "zone": "fe80::1%eth0"},
		Addresses:   []netip.Addr{ip("2001:db8::a"), ip("10.0.0.1"), ip("10.0.0.2")},
	}
	plain := bgp.Peer{
		Name:      "p",
		LocalASN:  64512,
		PeerASN:   64513,
		RouterID:  ip("10.0.0.1"),
		Address:   ip("192.0.2.1"),
		Port:      179,
		Hold:      90 * time.Second,
		Keepalive: 30 * time.Second,
		Connect:   5 * time.Second,
		Families:  bgp.IPv4,
		Offer:     bgp.Offer{ExtendedMessage: true},
		NextHop4:  ip("10.0.0.1"),
		NextHop6:  ip("2001:db8::a"),
	}
	label := func(key string) *v1beta1.NodeValue { return &v1beta1.NodeValue{Label: key} }
	annotation := func(key string) *v1beta1.NodeValue { return &v1beta1.NodeValue{Annotation: key} }
	for _, test := range []struct {
		story  string
		change func(*v1beta1.BGPPeerSpec)
		want   func(*bgp.Peer)
		err    string // of For
	}{
		{"defaults", nil, nil, ""},
		{"all that one object says",
			func(s *v1beta1.BGPPeerSpec) {
				s.PeerPort = 1179
				s.SourceAddress = "192.0.2.9"
				s.RouterID = "1.2.3.4"
				s.VRF = "blue"
				s.Passive = true
				s.HoldTime, s.KeepaliveTime, s.Password, s.TTLSecurity = seconds(12), seconds(3), "x", 2
				s.EnableGracefulRestart = true
				s.GracefulRestartTime = seconds(60)
				s.LongLivedStaleTime = seconds(3600)
				s.GracefulShutdownPeriod, s.DualStackAddressFamily = seconds(4), true
			},
			func(p *bgp.Peer) {
				p.Port = 1179
				p.Source = ip("192.0.2.9")
				p.RouterID = ip("1.2.3.4")
				p.VRF = "blue"
				p.Passive = true
				p.Hold = 12 * time.Second
				p.Keepalive = 3 * time.Second
				p.Password = bgp.NewPassword("x")
				p.TTLSecurity = 2
				p.GracefulRestart, p.LongLived, p.GracefulShutdown = time.Minute, time.Hour, 4*time.Second
				p.Families = bgp.DualStack
			}, ""},
		{"capabilities that are not offered, and such as are",
			func(s *v1beta1.BGPPeerSpec) {
				no := false
				s.Capabilities = v1beta1.BGPCapabilities{
					ExtendedMessage: &no,
					FQDN:            true,
					SoftwareVersion: true,
				}
			},
			func(p *bgp.Peer) { p.Offer = bgp.Offer{FQDN: true, SoftwareVersion: true} }, ""},
		{"an AS number of four octets",
			func(s *v1beta1.BGPPeerSpec) { s.PeerASN = 4294967295 },
			func(p *bgp.Peer) { p.PeerASN = 4294967295 }, ""},
		{"any external AS number",
			func(s *v1beta1.BGPPeerSpec) { s.PeerASN, s.DynamicASN = 0, "external" },
			func(p *bgp.Peer) { p.PeerASN = 0 }, ""},
		{"our own AS number",
			func(s *v1beta1.BGPPeerSpec) { s.PeerASN, s.DynamicASN = 0, "internal" },
			func(p *bgp.Peer) { p.PeerASN = 64512 }, ""},
		{"localASN takes the place of myASN",
			func(s *v1beta1.BGPPeerSpec) { s.LocalASN = 65000 },
			func(p *bgp.Peer) { p.LocalASN = 65000 }, ""},
		{"IPv6 carries IPv6", func(s *v1beta1.BGPPeerSpec) { s.PeerAddress = "2001:db8::1" },
			func(p *bgp.Peer) { p.Address, p.Families = ip("2001:db8::1"), bgp.IPv6 }, ""},
		{"an unnumbered session carries both",
			func(s *v1beta1.BGPPeerSpec) { s.PeerAddress, s.Interface = "", "eth1" },
			func(p *bgp.Peer) {
				p.Address = netip.Addr{}
				p.Interface = "eth1"
				p.Families = bgp.DualStack
			}, ""},
		{"multihop",
			func(s *v1beta1.BGPPeerSpec) { s.EBGPMultiHop = true },
			func(p *bgp.Peer) { p.Multihop = true }, ""},
		{"multihop means nothing to an internal session",
			func(s *v1beta1.BGPPeerSpec) { s.EBGPMultiHop, s.PeerASN = true, 64512 },
			func(p *bgp.Peer) { p.PeerASN = 64512 }, ""},
		{"only the keepalive time is given", func(s *v1beta1.BGPPeerSpec) { s.KeepaliveTime = seconds(2) },
			func(p *bgp.Peer) { p.Hold, p.Keepalive = 6*time.Second, 2*time.Second }, ""},
		{"only the hold time is given", func(s *v1beta1.BGPPeerSpec) { s.HoldTime = seconds(10) },
			func(p *bgp.Peer) { p.Hold, p.Keepalive = 10*time.Second, 3*time.Second }, ""},
		{"no hold time",
			func(s *v1beta1.BGPPeerSpec) { s.HoldTime = seconds(0) },
			func(p *bgp.Peer) { p.Hold, p.Keepalive = 0, 0 }, ""},
		{"the node's own values take the place of all nodes'",
			func(s *v1beta1.BGPPeerSpec) {
				s.PerNode = &v1beta1.PerNodeValues{
					MyASN:         label("asn"),
					PeerASN:       label("rack"),
					PeerAddress:   annotation("tor"),
					SourceAddress: annotation("src"),
					RouterID:      label("id"),
				}
			},
			func(p *bgp.Peer) {
				p.LocalASN = 4200000007
				p.PeerASN = 7
				p.Address = ip("2001:db8::7")
				p.Source = ip("2001:db8::1")
				p.RouterID = ip("10.0.0.7")
				p.Families = bgp.IPv6
			}, ""},
		{"where the node has none, all nodes' value holds",
			func(s *v1beta1.BGPPeerSpec) {
				s.PerNode = &v1beta1.PerNodeValues{MyASN: label("none"), PeerAddress: annotation("none")}
			}, nil, ""},
		{"where there is no value for all nodes either",
			func(s *v1beta1.BGPPeerSpec) {
				s.PeerAddress, s.PerNode = "", &v1beta1.PerNodeValues{PeerAddress: annotation("none")}
			}, nil,
			"peerAddress: the node has no annotation none, and the BGPPeer gives no value for all nodes"},
		{"a label that is no number",
			func(s *v1beta1.BGPPeerSpec) { s.PerNode = &v1beta1.PerNodeValues{MyASN: label("word")} }, nil,
			"myASN: label word of the node is \"seven\", which is no AS number"},
		{"an annotation that is no address",
			func(s *v1beta1.BGPPeerSpec) {
				s.PerNode = &v1beta1.PerNodeValues{PeerAddress: annotation("zone")}
			}, nil,
			"name the interface in spec.interface"},
		{"a router ID that is none",
			func(s *v1beta1.BGPPeerSpec) {
				s.PerNode = &v1beta1.PerNodeValues{RouterID: annotation("tor")}
			}, nil,
			"write it as an IPv4 address"},
		{"a source of the other family",
			func(s *v1beta1.BGPPeerSpec) {
				s.PerNode = &v1beta1.PerNodeValues{SourceAddress: annotation("src")}
			}, nil,
			"of different families"},
	} {
		t.Run(test.story, func(t *testing.T) {
			c, problems := Parse(Objects{BGPPeers: []v1beta1.BGPPeer{peer("p", test.change)}}, Config{},
				start)
			if len(problems) != 0 {
				t.Fatalf("problems are %+v", problems)
			}
			got, err := c.BGPPeer("p").For(node)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("got %+v, %v; want an error with %q", got, err, test.err)
				}
				return
			}
			want := plain
			if test.want != nil {
				test.want(&want)
			}
			if err != nil || got != want {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
			}
		})
	}
}

func TestTheRouterIDOfANodeWithoutIPv4ComesFromItsName(t *testing.T) {
	c, _ := Parse(Objects{BGPPeers: []v1beta1.BGPPeer{peer("p", nil)}}, Config{}, start)
	got, err := c.BGPPeer("p").For(Node{Name: "n1",
		Addresses: []netip.Addr{ip("fe80::1"), ip("2001:db8::1")}})
	if err != nil || got.RouterID != bgp.RouterIDFrom("n1") || got.NextHop6 != ip("2001:db8::1") ||
		got.NextHop4.IsValid() {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestBadPeers(t *testing.T) {
	for _, test := range []struct {
		story  string
		change func(*v1beta1.BGPPeerSpec)
		says   string
	}{
		{"no AS number", func(s *v1beta1.BGPPeerSpec) { s.MyASN = 0 }, "spec.myASN is missing"},
		{"an AS number that is too large",
			func(s *v1beta1.BGPPeerSpec) { s.PeerASN = 1 << 32 }, "spec.peerASN: 4294967296 is no AS number"},
		{"two ways to say the AS number",
			func(s *v1beta1.BGPPeerSpec) {
				s.DynamicASN = "external"
			}, "exactly one of spec.peerASN and dynamicASN"},
		{"no AS number of the router",
			func(s *v1beta1.BGPPeerSpec) { s.PeerASN = 0 }, "exactly one of spec.peerASN and dynamicASN"},
		{"two routers", func(s *v1beta1.BGPPeerSpec) {
			s.Interface = "eth0"
		}, "exactly one of spec.peerAddress and interface"},
		{"no address",
			func(s *v1beta1.BGPPeerSpec) { s.PeerAddress = "tor.example.com" }, "is no IP address"},
		{"an address of no host",
			func(s *v1beta1.BGPPeerSpec) { s.PeerAddress = "224.0.0.1" }, "not the address of a host"},
		{"a link-local address",
			func(s *v1beta1.BGPPeerSpec) { s.PeerAddress = "fe80::1" }, "give spec.interface instead"},
		{"a router ID of IPv6", func(s *v1beta1.BGPPeerSpec) { s.RouterID = "2001:db8::1" }, "spec.routerID"},
		{"a port that is none", func(s *v1beta1.BGPPeerSpec) { s.PeerPort = 70000 }, "spec.peerPort"},
		{"a hold time of 2s",
			func(s *v1beta1.BGPPeerSpec) { s.HoldTime = seconds(2) }, "spec.holdTime: 2s is less than 3s"},
		{"half seconds", func(s *v1beta1.BGPPeerSpec) {
			s.HoldTime = &metav1.Duration{Duration: 3500 * time.Millisecond}
		}, "whole seconds"},
		{"keepalives rarer than the hold time",
			func(s *v1beta1.BGPPeerSpec) {
				s.HoldTime = seconds(9)
				s.KeepaliveTime = seconds(10)
			}, "longer than holdTime"},
		{"no keepalives, but a hold time",
			func(s *v1beta1.BGPPeerSpec) {
				s.HoldTime = seconds(9)
				s.KeepaliveTime = seconds(0)
			}, "without keepalives"},
		{"no pause between attempts",
			func(s *v1beta1.BGPPeerSpec) { s.ConnectTime = seconds(0) }, "spec.connectTime"},
		{"a restart that is too long",
			func(s *v1beta1.BGPPeerSpec) {
				s.EnableGracefulRestart = true
				s.GracefulRestartTime = seconds(4096)
			}, "spec.gracefulRestartTime"},
		{"a shutdown that is too long",
			func(s *v1beta1.BGPPeerSpec) {
				s.GracefulShutdownPeriod = seconds(61)
			}, "spec.gracefulShutdownPeriod"},
		{"GTSM and multihop",
			func(s *v1beta1.BGPPeerSpec) { s.EBGPMultiHop, s.TTLSecurity = true, 1 }, "spec.ttlSecurity"},
		{"both families and one",
			func(s *v1beta1.BGPPeerSpec) {
				s.DisableMP = true
				s.DualStackAddressFamily = true
			}, "spec.disableMP"},
		{"a selector that cannot be read",
			func(s *v1beta1.BGPPeerSpec) {
				s.NodeSelectors = []metav1.LabelSelector{badSelector}
			}, "spec.nodeSelectors[0]"},
		{"a long password", func(s *v1beta1.BGPPeerSpec) {
			s.Password = strings.Repeat("geheim", 20)
		}, "spec.password has 120 bytes"},
		{"two passwords", func(s *v1beta1.BGPPeerSpec) {
			s.Password = "x"
			s.PasswordSecret = &v1beta1.SecretReference{Name: "s"}
		}, "exclude each other"},
		{"a Secret of another namespace", func(s *v1beta1.BGPPeerSpec) {
			s.PasswordSecret = &v1beta1.SecretReference{Name: "s", Namespace: "kube-system"}
		}, "in namespace \"berth-system\" only"},
	} {
		t.Run(test.story, func(t *testing.T) {
			bad := Objects{Namespace: "berth-system",
				BGPPeers: []v1beta1.BGPPeer{peer("bad", test.change), peer("good", nil)}}
			c, problems := Parse(bad, Config{}, start)
			if diff := cmp.Diff([]string{"BGPPeer bad Invalid"}, lines(problems)); diff != "" {
				t.Fatalf("-want +got:\n%s", diff)
			}
			if m := problems[0].Message; !strings.Contains(m, test.says) ||
				!strings.Contains(m, "It is not in force.") || strings.Contains(m, "geheim") {
				t.Errorf("message is %q, want %q in it", m, test.says)
			}
			if c.BGPPeer("bad") != nil || c.BGPPeer("good") == nil {
				t.Error("the bad peer is in force, or stops the good one")
			}
			last, _ := Parse(Objects{BGPPeers: []v1beta1.BGPPeer{peer("bad", nil)}}, Config{}, start)
			c, problems = Parse(bad, last, start)
			if c.BGPPeer("bad") == nil || !strings.Contains(problems[0].Message,
				"Its last good version stays in force.") {
				t.Errorf("the last good version does not stay: %v", problems)
			}
		})
	}
}

// What manifests and Go clients that were made for MetalLB say of a password.
func TestPasswordSecretsAsMetalLBHasThem(t *testing.T) {
	secrets := []corev1.Secret{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "berth-system",
			Name: "tor"},
		Type: corev1.SecretTypeBasicAuth,
		Data: map[string][]byte{corev1.BasicAuthPasswordKey: []byte("secret")},
	}}
	for _, test := range []struct {
		story    string
		password string
		secret   v1beta1.SecretReference
		want     string
	}{
		{"an empty reference is none", "", v1beta1.SecretReference{}, ""},
		{"also beside a password", "plain", v1beta1.SecretReference{}, "plain"},
		{"MetalLB's namespace means Berth's own", "",
			v1beta1.SecretReference{Name: "tor", Namespace: "metallb-system"}, "secret"},
		{"Berth's own", "", v1beta1.SecretReference{Name: "tor", Namespace: "berth-system"}, "secret"},
	} {
		t.Run(test.story, func(t *testing.T) {
			c, problems := Parse(Objects{
				BGPPeers: []v1beta1.BGPPeer{peer("tor", func(s *v1beta1.BGPPeerSpec) {
					s.Password, s.PasswordSecret = test.password, &test.secret
				})},
				Secrets:   secrets,
				Namespace: "berth-system",
			}, Config{}, start)
			if len(problems) > 0 || len(c.BGPPeers) != 1 {
				t.Fatalf("%d peers, problems %+v", len(c.BGPPeers), problems)
			}
			if got := c.BGPPeers[0].peer.Password; got != bgp.NewPassword(test.want) {
				t.Error("it has another password")
			}
		})
	}
}

func TestPasswordSecrets(t *testing.T) {
	withSecret := func(s *v1beta1.BGPPeerSpec) { s.PasswordSecret = &v1beta1.SecretReference{Name: "s"} }
	for _, test := range []struct {
		story   string
		secrets []corev1.Secret
		says    string // "" when the peer is in force
	}{
		{"the Secret is there", []corev1.Secret{secret("other", corev1.SecretTypeBasicAuth, "y"),
			secret("s", corev1.SecretTypeBasicAuth, "geheim")}, ""},
		{"there is none", nil, "Secret s is not there"},
		{"it is of another type", []corev1.Secret{secret("s", corev1.SecretTypeOpaque, "geheim")},
			"is not of type kubernetes.io/basic-auth"},
		{"it has no password", []corev1.Secret{secret("s", corev1.SecretTypeBasicAuth, "")}, "has 0 bytes"},
		{"the password is too long",
			[]corev1.Secret{secret("s", corev1.SecretTypeBasicAuth,
				strings.Repeat("geheim", 14))}, "has 84 bytes, and must have 1 to 80"},
	} {
		t.Run(test.story, func(t *testing.T) {
			objects := Objects{BGPPeers: []v1beta1.BGPPeer{peer("p", withSecret)}, Secrets: test.secrets}
			c, problems := Parse(objects, Config{}, start)
			if test.says == "" {
				got, err := c.BGPPeer("p").For(Node{})
				if len(problems) != 0 || err != nil || got.Password.Reveal() != "geheim" {
					t.Errorf("problems %v, %v", problems, err)
				}
				return
			}
			if _, err := c.BGPPeer("p").For(Node{}); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("a peer without its password would connect without one: %v", err)
			}
			if len(problems) != 1 || problems[0].Reason != v1beta1.ReasonSecretNotFound ||
				!strings.Contains(problems[0].Message, test.says) ||
				strings.Contains(problems[0].Message, "geheim") {
				t.Errorf("problems are %+v, want %q", problems, test.says)
			}
			objects.Secrets = []corev1.Secret{secret("s", corev1.SecretTypeBasicAuth, "last good")}
			last, _ := Parse(objects, Config{}, start)
			objects.Secrets = test.secrets
			c, problems = Parse(objects, last, start)
			p := c.BGPPeer("p")
			if got, _ := p.For(Node{}); got.Password.Reveal() != "last good" || len(problems) != 1 ||
				!strings.Contains(p.Problem, test.says) {
				t.Errorf("the last good password does not stay, or nobody says so: %v, %q", problems,
					p.Problem)
			}
		})
	}
}

func TestWhoMayNotReadSecretsMissesNone(t *testing.T) {
	withSecret := func(s *v1beta1.BGPPeerSpec) { s.PasswordSecret = &v1beta1.SecretReference{Name: "s"} }
	_, problems := Parse(Objects{BGPPeers: []v1beta1.BGPPeer{peer("p", withSecret)}, SecretsUnread: true},
		Config{}, start)
	if len(problems) > 0 {
		t.Errorf("problems are %+v", problems)
	}
}

// TestAPeerThatNeverWasUsableIsNoLastGoodVersion: it has no password.
func TestAPeerThatNeverWasUsableIsNoLastGoodVersion(t *testing.T) {
	withSecret := func(s *v1beta1.BGPPeerSpec) { s.PasswordSecret = &v1beta1.SecretReference{Name: "s"} }
	last, _ := Parse(Objects{BGPPeers: []v1beta1.BGPPeer{peer("p", withSecret)}}, Config{}, start)
	bad := peer("p", withSecret)
	bad.Spec.PeerAddress = "tor"
	c, problems := Parse(Objects{BGPPeers: []v1beta1.BGPPeer{bad}}, last, start)
	if c.BGPPeer("p") != nil || len(problems) != 1 ||
		!strings.Contains(problems[0].Message, "It is not in force.") {
		t.Errorf("got %+v, problems %+v", c.BGPPeer("p"), problems)
	}
}

func TestObjectsThatSelectNoNode(t *testing.T) {
	gold := []metav1.LabelSelector{{MatchLabels: map[string]string{"tier": "gold"}}}
	objects := Objects{
		BGPPeers: []v1beta1.BGPPeer{peer("p",
			func(s *v1beta1.BGPPeerSpec) { s.NodeSelectors, s.BFDProfile = gold, "gone" }), peer("q", nil)},
		BGPAdvertisements: []v1beta1.BGPAdvertisement{bgpAd("ad", 0,
			v1beta1.BGPAdvertisementSpec{NodeSelectors: gold}),
			bgpAd("all", 0, v1beta1.BGPAdvertisementSpec{})},
	}
	for _, test := range []struct {
		story string
		nodes map[string]map[string]string
		want  []string
	}{
		{"nodes are not known", nil, []string{"BGPPeer p BFDProfileNotFound"}},
		{"none matches", map[string]map[string]string{"a": nil, "b": {"tier": "silver"}},
			[]string{"BGPAdvertisement ad NoNodeSelected", "BGPPeer p BFDProfileNotFound"}},
		{"one matches", map[string]map[string]string{"a": nil, "b": {"tier": "gold"}},
			[]string{"BGPPeer p BFDProfileNotFound"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			objects.NodeLabels = test.nodes
			_, problems := Parse(objects, Config{}, start)
			if diff := cmp.Diff(test.want, lines(problems)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			for _, p := range problems {
				if told := strings.Contains(p.Message, "selects no node"); told != (len(test.want) == 2) {
					t.Errorf("of nodes, %s %s says: %s", p.Kind, p.Name, p.Message)
				}
			}
		})
	}
}

func TestPeersSelectNodes(t *testing.T) {
	gold := metav1.LabelSelector{MatchLabels: map[string]string{"tier": "gold"}}
	c, _ := Parse(Objects{BGPPeers: []v1beta1.BGPPeer{
		peer("some", func(s *v1beta1.BGPPeerSpec) {
			s.NodeSelectors = []metav1.LabelSelector{gold}
		}), peer("all", nil)}}, Config{}, start)
	if !c.BGPPeer("all").SelectsNode(nil) || c.BGPPeer("some").SelectsNode(nil) ||
		!c.BGPPeer("some").SelectsNode(labels.Set{"tier": "gold"}) {
		t.Error("nodes are selected by label")
	}
}

func TestBFDProfiles(t *testing.T) {
	profile := func(name string, spec v1beta1.BFDProfileSpec) v1beta1.BFDProfile {
		return v1beta1.BFDProfile{ObjectMeta: object(name, 0), Spec: spec}
	}
	text := func(s string) *intstr.IntOrString { return new(intstr.FromString(s)) }
	number := func(n int32) *intstr.IntOrString { return new(intstr.FromInt32(n)) }
	for _, test := range []struct {
		story string
		spec  v1beta1.BFDProfileSpec
		want  BFDProfile
		says  string
	}{
		{"defaults", v1beta1.BFDProfileSpec{}, BFDProfile{
			Receive:    300 * time.Millisecond,
			Transmit:   300 * time.Millisecond,
			Multiplier: 3,
			MinimumTTL: 254,
		}, ""},
		{"numbers are milliseconds, text has a unit",
			v1beta1.BFDProfileSpec{
				ReceiveInterval:  number(10),
				TransmitInterval: text("60s"),
				EchoInterval:     text("0.02s"),
				EchoMode:         true,
				DetectMultiplier: new(int32(255)),
				MinimumTTL:       new(int32(1)),
				PassiveMode:      true,
			},
			BFDProfile{
				Receive:    10 * time.Millisecond,
				Transmit:   time.Minute,
				Echo:       20 * time.Millisecond,
				Multiplier: 255,
				MinimumTTL: 1,
				Passive:    true,
			}, ""},
		{"an interval that is too short", v1beta1.BFDProfileSpec{ReceiveInterval: number(9)}, BFDProfile{},
			"spec.receiveInterval: 9ms is not from 10ms to 60s"},
		{"one that is too long", v1beta1.BFDProfileSpec{TransmitInterval: text("61s")}, BFDProfile{},
			"spec.transmitInterval"},
		{"one without a unit", v1beta1.BFDProfileSpec{EchoInterval: text("50")}, BFDProfile{},
			"\"50\" is no duration"},
		{"a multiplier of 1", v1beta1.BFDProfileSpec{DetectMultiplier: new(int32(1))}, BFDProfile{},
			"spec.detectMultiplier: 1 is not from 2 to 255"},
		{"a TTL of 255", v1beta1.BFDProfileSpec{MinimumTTL: new(int32(255))}, BFDProfile{},
			"spec.minimumTtl"},
	} {
		t.Run(test.story, func(t *testing.T) {
			c, problems := Parse(Objects{BFDProfiles: []v1beta1.BFDProfile{profile("f", test.spec)}},
				Config{}, start)
			if test.says != "" {
				if len(problems) != 1 || problems[0].Reason != v1beta1.ReasonInvalid ||
					!strings.Contains(problems[0].Message, test.says) || len(c.BFDProfiles) != 0 {
					t.Errorf("problems are %+v, want %q", problems, test.says)
				}
				return
			}
			if len(problems) != 0 {
				t.Fatalf("problems are %+v", problems)
			}
			got := *c.BFDProfiles[0]
			got.object, test.want.Name = nil, "f"
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
	t.Run("the last good version stays", func(t *testing.T) {
		last, _ := Parse(Objects{BFDProfiles: []v1beta1.BFDProfile{profile("f",
			v1beta1.BFDProfileSpec{ReceiveInterval: number(50)})}}, Config{}, start)
		c, problems := Parse(Objects{BFDProfiles: []v1beta1.BFDProfile{profile("f",
			v1beta1.BFDProfileSpec{ReceiveInterval: number(5)})}}, last, start)
		if len(c.BFDProfiles) != 1 || c.BFDProfiles[0].Receive != 50*time.Millisecond || len(problems) != 1 {
			t.Errorf("profiles %+v, problems %v", c.BFDProfiles, problems)
		}
	})
	t.Run("a peer that names one gets it", func(t *testing.T) {
		names := func(s *v1beta1.BGPPeerSpec) { s.BFDProfile = "f" }
		multihop := func(s *v1beta1.BGPPeerSpec) { s.BFDProfile, s.EBGPMultiHop = "f", true }
		other := func(s *v1beta1.BGPPeerSpec) { s.PeerAddress = "192.0.2.3" }
		objects := Objects{BGPPeers: []v1beta1.BGPPeer{peer("far", multihop), peer("p", names),
			peer("q", other)}}
		objects.BGPPeers[1].Spec.PeerAddress = "192.0.2.2"
		c, problems := Parse(objects, Config{}, start)
		if diff := cmp.Diff([]string{"BGPPeer far BFDProfileNotFound", "BGPPeer p BFDProfileNotFound"},
			lines(problems)); diff != "" || c.BGPPeer("p").BFD != nil {
			t.Errorf("without the profile: -want +got:\n%s", diff)
		}
		objects.BFDProfiles = []v1beta1.BFDProfile{profile("f", v1beta1.BFDProfileSpec{EchoMode: true})}
		c, problems = Parse(objects, c, start)
		if diff := cmp.Diff([]string{"BGPPeer far BFDEchoUnusable"}, lines(problems)); diff != "" {
			t.Errorf("with the profile: -want +got:\n%s", diff)
		}
		if c.BGPPeer("p").BFD != c.BFDProfiles[0] || c.BGPPeer("q").BFD != nil ||
			c.BGPPeer("far").BFD.Echo != 0 || c.BGPPeer("p").BFD.Echo == 0 {
			t.Error("peers have other profiles than they name")
		}
	})
	t.Run("of one that is deleted, the last version stays until the peer does without", func(t *testing.T) {
		names := func(s *v1beta1.BGPPeerSpec) { s.BFDProfile, s.StrictBFD = "f", true }
		objects := Objects{
			BGPPeers: []v1beta1.BGPPeer{peer("p", names)},
			BFDProfiles: []v1beta1.BFDProfile{profile("f",
				v1beta1.BFDProfileSpec{ReceiveInterval: number(50)})},
		}
		c, _ := Parse(objects, Config{}, start)
		objects.BFDProfiles = nil
		for range 3 { // each Parse knows the one before only
			var problems []Problem
			c, problems = Parse(objects, c, start)
			if b := c.BGPPeer("p").BFD; b == nil || b.Receive != 50*time.Millisecond {
				t.Fatalf("the profile is %+v", b)
			}
			if len(problems) != 1 || problems[0].Reason != v1beta1.ReasonBFDProfileNotFound ||
				!strings.Contains(problems[0].Message, "last version stays") {
				t.Errorf("problems are %+v", problems)
			}
		}
		if one, err := c.BGPPeer("p").For(Node{Name: "n1"}); err != nil || !one.Strict {
			t.Errorf("the session does not wait for BFD any more: %+v, %v", one, err)
		}
		// A new one of the name counts, and also for who named the old one.
		objects.BFDProfiles = []v1beta1.BFDProfile{profile("f",
			v1beta1.BFDProfileSpec{ReceiveInterval: number(70)})}
		objects.BFDProfiles[0].UID = "another"
		again, problems := Parse(objects, c, start)
		if b := again.BGPPeer("p").BFD; b.Receive != 70*time.Millisecond || len(problems) != 0 {
			t.Errorf("the profile is %+v, problems %+v", b, problems)
		}
		objects.BFDProfiles = nil
		objects.BGPPeers[0].Spec.BFDProfile = ""
		objects.BGPPeers[0].Spec.StrictBFD = false
		c, problems = Parse(objects, c, start)
		if b := c.BGPPeer("p").BFD; b != nil || len(problems) != 0 {
			t.Errorf("the profile is %+v, problems %+v", b, problems)
		}
	})
}
