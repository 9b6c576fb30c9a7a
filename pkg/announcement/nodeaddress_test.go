package announcement

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
)

// giving is a configuration whose pool gives out addresses of nodes, if allowed, and
// with which everything is announced, by layer 2 and BGP.
func giving(allowed bool) *config.Config {
	objects := config.Objects{
		Pools: []v1beta1.IPAddressPool{{Spec: v1beta1.IPAddressPoolSpec{
			Addresses: []v1beta1.AddressRange{"192.0.2.0/24"}, AllowNodeAddresses: allowed,
		}}},
		L2Advertisements:  []v1beta1.L2Advertisement{{}},
		BGPAdvertisements: []v1beta1.BGPAdvertisement{{}},
		BGPPeers: []v1beta1.BGPPeer{{Spec: v1beta1.BGPPeerSpec{
			MyASN:       64512,
			PeerASN:     64513,
			PeerAddress: "10.0.0.1",
		}}},
	}
	objects.Pools[0].Name = "lan"
	objects.L2Advertisements[0].Name = "l2"
	objects.BGPAdvertisements[0].Name = "bgp"
	objects.BGPPeers[0].Name = "tor"
	c, _ := config.Parse(objects, config.Config{}, now)
	return &c
}

// What is a node's own is announced by nobody, by layer 2 or BGP, and every node
// comes to the same decision.
func TestANodesOwnAddress(t *testing.T) {
	own := "The address is node n2's own: nobody announces it, and that node's service proxy serves it."
	for _, test := range []struct {
		story       string
		address     string
		allowed     bool
		named       string // address in the status of n2
		announced   bool
		linkUnknown bool // n2 says nothing of its links
	}{
		{"of no node", "192.0.2.1", true, "10.0.0.2", true, false},
		{"n2 has it on a link, and its status names it", "192.0.2.12", false, "192.0.2.12", false, false},
		{"n2 has it on a link only", "192.0.2.12", false, "10.0.0.2", true, false},
		{"its status only names it: it may be what Berth gave", "192.0.2.1", false, "192.0.2.1", true, false},
		{"the pool gives out addresses of nodes: the link is enough",
			"192.0.2.12", true, "10.0.0.2", false, false},
		{"and so is the status", "192.0.2.1", true, "192.0.2.1", false, false},
		{"also while nothing is known of the node's links", "192.0.2.12", true, "192.0.2.12", false, true},
		{"another address of the subnet", "192.0.2.99", true, "192.0.2.12", true, false},
	} {
		t.Run(test.story, func(t *testing.T) {
			in := lan()
			in.Address, in.Config = netip.MustParseAddr(test.address), giving(test.allowed)
			in.Nodes[1].Addresses = []netip.Addr{netip.MustParseAddr(test.named)}
			if test.linkUnknown {
				in.Speakers["n2"] = Speaker{Presence: Gone, Reason: v1beta1.ReasonSpeakerNotAlive}
			}
			for _, node := range []string{"n1", "n2", "n3"} {
				in.Node = node
				d := Decide(in)
				if owned := d.Owner != ""; owned != test.announced {
					t.Errorf("%s decides %s (%s), owner %q", node, d.Reason, d.Message, d.Owner)
				}
				routes := DecideBGP(BGPInput{
					Address:  in.Address,
					Services: in.Services,
					Config:   in.Config,
					Nodes:    in.Nodes,
					Speakers: in.Speakers,
					Node:     node,
					Settled:  true,
					Now:      now,
					Before:   BGPDecision{Announce: true},
				})
				if routes.Announce != test.announced {
					t.Errorf("%s decides by BGP %s (%s)", node, routes.Reason, routes.Message)
				}
				if test.announced {
					continue
				}
				for _, got := range []struct {
					reason  v1beta1.Reason
					message string
				}{{d.Reason, d.Message}, {routes.Reason, routes.Message}} {
					if got.reason != v1beta1.ReasonNodeAddress || got.message != own {
						t.Errorf("%s says %s: %s", node, got.reason, got.message)
					}
				}
				if d.Announce || d.Claim != nil || len(d.Ask) > 0 {
					t.Errorf("%s announces %v, claims %v, asks on %v", node, d.Announce, d.Claim, d.Ask)
				}
			}
		})
	}
}

// A node that gets an address is another node to every decision.
func TestAddressesTellNodesApart(t *testing.T) {
	n := &corev1.Node{}
	before := ParseNode(n)
	n.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeHostName, Address: "n1"},
		{Type: corev1.NodeExternalIP, Address: "::ffff:192.0.2.1"},
	}
	after := ParseNode(n)
	if before.Equal(after) || !after.Equal(ParseNode(n)) || len(after.Addresses) != 1 ||
		after.Addresses[0] != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("before %+v, after %+v", before, after)
	}
}
