package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/bgp"
)

// TestFamiliesThatReachNobody: an advertisement of addresses of a family that no
// session with its peers carries says so, and what to set.
func TestFamiliesThatReachNobody(t *testing.T) {
	four, dual := pool("four", 0, "192.0.2.0/24"), pool("dual", 1, "198.51.100.0/24", "2001:db8::/64")
	six := pool("six", 2, "2001:db8:1::/64")
	type pools = []v1beta1.IPAddressPool
	type peers = []v1beta1.BGPPeer
	type spec = v1beta1.BGPAdvertisementSpec
	tor := peer("tor", nil)
	over6 := peer("tor6", func(s *v1beta1.BGPPeerSpec) { s.PeerAddress = "2001:db8:2::1" })
	by := func(value v1beta1.NodeValue) v1beta1.BGPPeer {
		return peer("tor", func(s *v1beta1.BGPPeerSpec) {
			s.PeerAddress, s.PerNode = "", &v1beta1.PerNodeValues{PeerAddress: &value}
		})
	}
	inRack1 := peer("tor",
		func(s *v1beta1.BGPPeerSpec) { s.NodeSelectors, s.DualStackAddressFamily = inRack("1"), true })
	racks := map[string]map[string]string{"n1": {"rack": "1", "tor": "10.0.0.1"}, "n2": {"rack": "2"}}
	for _, test := range []struct {
		story string
		pools pools
		peers peers
		spec  spec
		nodes map[string]map[string]string
		want  v1beta1.Reason // "" for no problem
		says  []string
	}{
		{"IPv4 over IPv4", pools{four}, peers{tor}, spec{}, nil, "", nil},
		{"both families, a session for one", pools{four, dual}, peers{tor}, spec{}, nil,
			v1beta1.ReasonNoPeerForFamily,
			[]string{"IPv6 addresses (dual)", "(tor)", "Set dualStackAddressFamily to true"}},
		{"a session for both", pools{dual}, peers{peer("tor", dualStack)}, spec{}, nil, "", nil},
		{"a session for each", pools{dual}, peers{tor, over6}, spec{}, nil, "", nil},
		{"the peer for IPv6 is not asked", pools{dual}, peers{tor, over6}, spec{Peers: []string{"tor"}}, nil,
			v1beta1.ReasonNoPeerForFamily,
			[]string{"(tor) carries IPv6"}},
		{"the pool with IPv6 is not announced", pools{four, dual}, peers{tor},
			spec{IPAddressPools: []string{"four"}}, nil, "", nil},
		{"IPv6 only, to a router over IPv4", pools{six}, peers{tor}, spec{}, nil,
			v1beta1.ReasonNoPeerForFamily, []string{"(six)"}},
		{"IPv4 only, to a router over IPv6", pools{four}, peers{over6}, spec{}, nil,
			v1beta1.ReasonNoPeerForFamily, []string{"Pools have IPv4 addresses (four)"}},
		{"by interface", pools{dual},
			peers{peer("tor", func(s *v1beta1.BGPPeerSpec) {
				s.PeerAddress = ""
				s.Interface = "eth0"
			})}, spec{}, nil, "", nil},
		{"addresses from a label, which has no IPv6", pools{dual}, peers{by(v1beta1.NodeValue{Label: "tor"})},
			spec{}, racks,
			v1beta1.ReasonNoPeerForFamily, []string{"IPv6"}},
		{"addresses from an annotation may be any", pools{dual},
			peers{by(v1beta1.NodeValue{Annotation: "tor"})}, spec{}, racks, "", nil},
		{"and so they are where no nodes are known", pools{dual}, peers{by(v1beta1.NodeValue{Label: "tor"})},
			spec{}, nil, "", nil},
		{"the nodes have no session with the peer", pools{four}, peers{inRack1},
			spec{NodeSelectors: inRack("2")}, racks,
			v1beta1.ReasonPeerNotFound, []string{"(tor)", "spec.nodeSelectors"}},
		{"the nodes with the peer for IPv6 are not selected", pools{dual}, peers{
			peer("tor6", func(s *v1beta1.BGPPeerSpec) {
				s.NodeSelectors = inRack("1")
				s.PeerAddress = "2001:db8:2::1"
			}), tor,
		}, spec{NodeSelectors: inRack("2")}, racks, v1beta1.ReasonNoPeerForFamily, []string{"IPv6"}},
		{"some node is enough", pools{dual}, peers{inRack1}, spec{}, racks, "", nil},
	} {
		t.Run(test.story, func(t *testing.T) {
			_, problems := Parse(Objects{
				Pools:             test.pools,
				BGPPeers:          test.peers,
				NodeLabels:        test.nodes,
				BGPAdvertisements: []v1beta1.BGPAdvertisement{bgpAd("ad", 0, test.spec)},
			}, Config{}, start)
			if len(problems) > 1 || len(problems) == 1 && problems[0].Reason != test.want ||
				(len(problems) == 0) != (test.want == "") {
				t.Fatalf("problems are %+v, want %q", problems, test.want)
			}
			for _, text := range test.says {
				if !strings.Contains(problems[0].Message, text) {
					t.Errorf("the message is %q, want %q in it", problems[0].Message, text)
				}
			}
		})
	}
}

// TestADeletedPoolReachesNobody: what rests of it is no reason to complain.
func TestADeletedPoolReachesNobody(t *testing.T) {
	objects := Objects{
		Pools: []v1beta1.IPAddressPool{pool("six", 0, "2001:db8::/64"),
			pool("four", 1, "192.0.2.0/24")},
		BGPPeers:          []v1beta1.BGPPeer{peer("tor", nil)},
		BGPAdvertisements: []v1beta1.BGPAdvertisement{bgpAd("ad", 0, v1beta1.BGPAdvertisementSpec{})},
	}
	c, problems := Parse(objects, Config{}, start)
	if len(problems) != 1 {
		t.Fatalf("problems are %+v", problems)
	}
	objects.Pools = objects.Pools[1:]
	if _, problems = Parse(objects, c, start); len(problems) > 0 {
		t.Errorf("problems are %+v", problems)
	}
}

// TestFamiliesAreThoseOfSessions: what is said of a peer's families from the labels
// of nodes is what sessions of these nodes have.
func TestFamiliesAreThoseOfSessions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		routers := []string{"", "192.0.2.1", "2001:db8::1", "tor"}
		p := peer("tor", func(s *v1beta1.BGPPeerSpec) {
			s.PeerAddress = rapid.SampledFrom(routers[:3]).Draw(t, "peerAddress")
			s.DualStackAddressFamily = rapid.Bool().Draw(t, "dual stack")
			if s.PeerAddress == "" || rapid.Bool().Draw(t, "per node") {
				s.PerNode = &v1beta1.PerNodeValues{PeerAddress: &v1beta1.NodeValue{Label: "tor"}}
			}
			if racks := rapid.SliceOfN(rapid.SampledFrom([]string{"1", "2"}), 0, 2).Draw(t,
				"racks"); len(racks) > 0 {
				s.NodeSelectors = inRack(racks...)
			}
		})
		ad := bgpAd("ad", 0, v1beta1.BGPAdvertisementSpec{})
		if rapid.Bool().Draw(t, "some nodes") {
			ad.Spec.NodeSelectors = inRack("1")
		}
		nodes := map[string]map[string]string{}
		for i := range rapid.IntRange(1, 3).Draw(t, "nodes") {
			set := map[string]string{"rack": rapid.SampledFrom([]string{"1", "2"}).Draw(t, "rack")}
			if router := rapid.SampledFrom(routers).Draw(t, "router"); router != "" {
				set["tor"] = router
			}
			nodes[fmt.Sprint("n", i)] = set
		}
		c, problems := Parse(Objects{
			BGPPeers:          []v1beta1.BGPPeer{p},
			BGPAdvertisements: []v1beta1.BGPAdvertisement{ad},
			NodeLabels:        nodes,
		}, Config{}, start)
		if len(c.BGPPeers) == 0 {
			t.Fatalf("problems are %+v", problems)
		}
		var all bgp.Families
		for name, set := range nodes {
			var want bgp.Families
			if of, err := c.BGPPeers[0].For(Node{Name: name, Labels: set}); err == nil {
				want = of.Families
			}
			got := c.BGPPeers[0].Families(set)
			if want != 0 && got != want {
				t.Fatalf("on a node with %v a session carries %s, and %s is said", set, want, got)
			}
			reached, families := c.Reached(c.BGPAdvertisements, labels.Set(set))
			selected := c.BGPPeers[0].SelectsNode(set) && c.BGPAdvertisements[0].SelectsNode(set)
			if reached != selected || selected && families != got || !selected && families != 0 {
				t.Fatalf("a node with %v reaches %v, %s", set, reached, families)
			}
			all |= families
		}
		if got := c.BGPAdvertisements[0].Carried; got != all {
			t.Fatalf("the advertisement is carried in %s, and nodes have %s", got, all)
		}
	})
}

// TestSameRouterIDs: a BGP identifier is one node's.
func TestSameRouterIDs(t *testing.T) {
	id := func(id string) func(*v1beta1.BGPPeerSpec) {
		return func(s *v1beta1.BGPPeerSpec) { s.RouterID = id }
	}
	of := func(name string, id string, selectors []metav1.LabelSelector) v1beta1.BGPPeer {
		return peer(name, func(s *v1beta1.BGPPeerSpec) {
			s.RouterID, s.NodeSelectors = id, selectors
			s.SourceAddress = map[string]string{"b": "10.0.0.7"}[name] // not the session of another
		})
	}
	perNode := func(plain string, value v1beta1.NodeValue) func(*v1beta1.BGPPeerSpec) {
		return func(s *v1beta1.BGPPeerSpec) {
			s.RouterID = plain
			s.PerNode = &v1beta1.PerNodeValues{RouterID: &value}
		}
	}
	asn := func(annotation, label string) func(*v1beta1.BGPPeerSpec) {
		return func(s *v1beta1.BGPPeerSpec) {
			value := v1beta1.NodeValue{Annotation: annotation, Label: label}
			s.RouterID, s.PerNode = "10.0.0.9", &v1beta1.PerNodeValues{MyASN: &value}
		}
	}
	nodes := map[string]map[string]string{
		"n1": {"rack": "1", "zone": "7", "id": "10.0.0.1", "same": "10.9.9.9"},
		"n2": {"rack": "2", "zone": "8", "id": "10.0.0.2", "same": "10.9.9.9"},
		"n3": {"rack": "3", "zone": "7"},
	}
	for _, test := range []struct {
		story string
		peers []v1beta1.BGPPeer
		told  []string // names of peers
		says  string
	}{
		{"each node its own, by default", []v1beta1.BGPPeer{peer("a", nil)}, nil, ""},
		{"one for all nodes", []v1beta1.BGPPeer{peer("a", id("10.0.0.9"))}, []string{"a"},
			"10.0.0.9 is that of n1, n2, n3"},
		{"one for one node", []v1beta1.BGPPeer{of("a", "10.0.0.9", inRack("1"))}, nil, ""},
		{"by label, all others", []v1beta1.BGPPeer{peer("a", perNode("", v1beta1.NodeValue{Label: "id"}))},
			nil, ""},
		{"by label, one twice", []v1beta1.BGPPeer{peer("a", perNode("", v1beta1.NodeValue{Label: "same"}))},
			[]string{"a"}, "10.9.9.9 is that of n1, n2"},
		{"by label, and the rest have one",
			[]v1beta1.BGPPeer{peer("a", perNode("10.0.0.2", v1beta1.NodeValue{Label: "id"}))},
			[]string{"a"}, "10.0.0.2 is that of n2, n3"},
		{"by annotation, which nobody knows here",
			[]v1beta1.BGPPeer{peer("a", perNode("10.0.0.9", v1beta1.NodeValue{Annotation: "id"}))}, nil, ""},
		{"two peers of one router, other nodes", []v1beta1.BGPPeer{of("a", "10.0.0.9", inRack("1")),
			of("b", "10.0.0.9", inRack("2"))},
			[]string{"a", "b"}, "10.0.0.9 is that of n1, n2"},
		{"one for all nodes, each of which is an AS of its own",
			[]v1beta1.BGPPeer{peer("a", asn("", "rack"))}, nil, ""},
		{"and some of which are in one", []v1beta1.BGPPeer{peer("a", asn("", "zone"))},
			[]string{"a"}, "10.0.0.9 is that of n1, n3"},
		{"that call themselves the same AS", []v1beta1.BGPPeer{peer("a", func(s *v1beta1.BGPPeerSpec) {
			asn("", "rack")(s)
			s.LocalASN = 64999
		})}, []string{"a"}, "10.0.0.9 is that of n1, n2, n3"},
		{"in an AS that nobody knows here", []v1beta1.BGPPeer{peer("a", asn("asn", ""))}, nil, ""},
		{"two peers of one router, one node", []v1beta1.BGPPeer{of("a", "10.0.0.9", inRack("1")),
			of("b", "10.0.0.9", inRack("1"))}, nil, ""},
		{"two routers, other nodes", []v1beta1.BGPPeer{of("a", "10.0.0.9", inRack("1")),
			peer("b", func(s *v1beta1.BGPPeerSpec) {
				s.RouterID, s.PeerAddress, s.NodeSelectors = "10.0.0.9", "192.0.2.2", inRack("2")
			})}, nil, ""},
	} {
		t.Run(test.story, func(t *testing.T) {
			_, problems := Parse(Objects{BGPPeers: test.peers, NodeLabels: nodes}, Config{}, start)
			var told []string
			for _, p := range problems {
				if p.Reason != v1beta1.ReasonSameRouterID || !strings.Contains(p.Message, test.says) {
					t.Errorf("a problem is %+v", p)
				}
				told = append(told, p.Name)
			}
			slices.Sort(told)
			if !slices.Equal(told, test.told) {
				t.Errorf("told of %q, want %q", told, test.told)
			}
		})
	}
}
