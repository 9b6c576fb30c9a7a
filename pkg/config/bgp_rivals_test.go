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
)

// inRack selects nodes by a label.
func inRack(racks ...string) []metav1.LabelSelector {
	var out []metav1.LabelSelector
	for _, rack := range racks {
		out = append(out, metav1.LabelSelector{MatchLabels: map[string]string{"rack": rack}})
	}
	return out
}

// TestTwoPeersOfOneRouter: a router has one session for each pair of addresses,
// and the older peer has it.
func TestTwoPeersOfOneRouter(t *testing.T) {
	type spec = func(*v1beta1.BGPPeerSpec)
	racks := func(names ...string) spec {
		return func(s *v1beta1.BGPPeerSpec) { s.NodeSelectors = inRack(names...) }
	}
	perNode := func(s *v1beta1.BGPPeerSpec) {
		s.PeerAddress, s.PerNode = "", &v1beta1.PerNodeValues{PeerAddress: &v1beta1.NodeValue{Label: "tor"}}
	}
	link := func(name string) spec {
		return func(s *v1beta1.BGPPeerSpec) { s.PeerAddress, s.Interface = "", name }
	}
	secret := func(s *v1beta1.BGPPeerSpec) { s.PasswordSecret = &v1beta1.SecretReference{Name: "away"} }
	nodes := map[string]Node{
		"rack 1": {Name: "n1", Labels: labels.Set{"rack": "1", "tor": "192.0.2.1"}},
		"rack 2": {Name: "n2", Labels: labels.Set{"rack": "2", "tor": "192.0.2.2"}},
		"bare":   {Name: "n3"},
	}
	for _, test := range []struct {
		story          string
		older, younger spec
		certain        bool   // so the younger's condition says it
		on             string // the nodes on which the younger is not in force, sorted
	}{
		{"copied and pasted", nil, nil, true, "bare, rack 1, rack 2"},
		{"other routers", nil, func(s *v1beta1.BGPPeerSpec) { s.PeerAddress = "192.0.2.2" }, false, ""},
		{"other terms do not make another session", nil,
			func(s *v1beta1.BGPPeerSpec) { s.PeerASN, s.EBGPMultiHop = 64514, true }, true,
			"bare, rack 1, rack 2"},
		{"from other addresses", func(s *v1beta1.BGPPeerSpec) { s.SourceAddress = "192.0.2.7" },
			func(s *v1beta1.BGPPeerSpec) { s.SourceAddress = "192.0.2.8" }, false, ""},
		{"in other VRFs", nil, func(s *v1beta1.BGPPeerSpec) { s.VRF = "red" }, false, ""},
		{"other ports, so other programs", nil,
			func(s *v1beta1.BGPPeerSpec) { s.PeerPort = 1179 }, false, ""},
		{"one waits for the router, the other connects",
			func(s *v1beta1.BGPPeerSpec) { s.Passive, s.PeerPort = true, 1179 }, nil, true,
			"bare, rack 1, rack 2"},
		{"the younger selects fewer nodes", nil, racks("1"), true, "rack 1"},
		{"the same nodes, written in another order", racks("1", "2"), racks("2", "1"), true,
			"rack 1, rack 2"},
		{"other nodes", racks("1"), racks("2"), false, ""},
		{"the younger selects more nodes", racks("1"), nil, false, "rack 1"},
		{"on some nodes the same router", perNode, nil, false, "rack 1"},
		{"on each node the same router", perNode, perNode, true, "rack 1, rack 2"},
		{"one link", link("eth0"), link("eth0"), true, "bare, rack 1, rack 2"},
		{"two links", link("eth0"), link("eth1"), false, ""},
		{"the older one lacks its password", secret, nil, true, "bare, rack 1, rack 2"},
	} {
		t.Run(test.story, func(t *testing.T) {
			a, b := peer("b-older", test.older), peer("a-younger", test.younger)
			b.CreationTimestamp = object("", 1).CreationTimestamp
			c, problems := Parse(Objects{
				BGPPeers: []v1beta1.BGPPeer{b, a},
				BGPAdvertisements: []v1beta1.BGPAdvertisement{{ObjectMeta: object("ad", 0),
					Spec: v1beta1.BGPAdvertisementSpec{Peers: []string{"a-younger"}}}},
			}, Config{}, start)
			told := slices.ContainsFunc(problems, func(p Problem) bool {
				return p.Name == "a-younger" && p.Reason == v1beta1.ReasonConflicting &&
					strings.Contains(p.Message, "b-older")
			})
			inVain := slices.ContainsFunc(problems,
				func(p Problem) bool { return p.Name == "ad" && p.Reason == v1beta1.ReasonPeerNotFound })
			if told != test.certain || inVain != test.certain {
				t.Errorf("problems are %+v, want one of the younger: %v", problems, test.certain)
			}
			var on []string
			for name, n := range nodes {
				for _, p := range c.PeersOn(n) {
					if p.Rival == nil {
						continue
					}
					on = append(on, name)
					if p.Name != "a-younger" || p.Rival.Name != "b-older" {
						t.Errorf("on %s %s gives way to %s", name, p.Name, p.Rival.Name)
					}
				}
			}
			slices.Sort(on)
			if got := strings.Join(on, ", "); got != test.on {
				t.Errorf("it is not in force on %q, want %q", got, test.on)
			}
		})
	}
}

// TestWhoGivesWay: whatever peers there are, no two of them have one session on a
// node, the oldest of each session always has it, who has a rival has an older one
// with the same session, and what is certain for all nodes is so on each.
func TestWhoGivesWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var peers []v1beta1.BGPPeer
		for i := range rapid.IntRange(1, 6).Draw(t, "peers") {
			p := peer(fmt.Sprintf("p%d", i), func(s *v1beta1.BGPPeerSpec) {
				s.PeerAddress = rapid.SampledFrom([]string{"192.0.2.1", "192.0.2.2"}).Draw(t, "router")
				s.SourceAddress = rapid.SampledFrom([]string{"", "192.0.2.7"}).Draw(t, "source")
				s.Passive = rapid.Bool().Draw(t, "passive")
				s.PeerPort = rapid.SampledFrom([]int32{0, 1179}).Draw(t, "port")
				if racks := rapid.SliceOfN(rapid.SampledFrom([]string{"1", "2"}), 0, 2).Draw(t,
					"racks"); len(racks) > 0 {
					s.NodeSelectors = inRack(racks...)
				}
			})
			p.CreationTimestamp = object("", rapid.IntRange(0, 2).Draw(t, "age")).CreationTimestamp
			peers = append(peers, p)
		}
		c, _ := Parse(Objects{BGPPeers: peers}, Config{}, start)
		for _, rack := range []string{"1", "2", "3"} {
			on := c.PeersOn(Node{Name: "n", Labels: labels.Set{"rack": rack}})
			for i, p := range on {
				if p.Err != nil {
					t.Fatalf("%s: %v", p.Name, p.Err)
				}
				same := func(o PeerOn) bool { return endsOf(o.Peer) == endsOf(p.Peer) }
				rivals := slices.IndexFunc(on,
					func(o PeerOn) bool { return o.Name != p.Name && o.Rival == nil && same(o) })
				if (p.Rival != nil) != (rivals >= 0) {
					t.Fatalf("%s has the rival %v, and the session is had by %v", p.Name, p.Rival, rivals)
				}
				if p.Rival != nil && compareAge(p.Rival, p.BGPPeer) >= 0 {
					t.Fatalf("%s gives way to %s, which is younger", p.Name, p.Rival.Name)
				}
				if p.BGPPeer.rival != nil && p.Rival == nil {
					t.Fatalf("%s is certain to give way, and does not on node %d", p.Name, i)
				}
			}
		}
	})
}
