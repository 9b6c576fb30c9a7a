package config

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
)

// reporting is a Node whose status names addresses.
func reporting(name string, addrs ...string) corev1.Node {
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, a := range addrs {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{
			Type:    corev1.NodeInternalIP,
			Address: a,
		})
	}
	return n
}

// listing is the Speaker of a node with one link that has these prefixes.
func listing(name, link string, prefixes ...string) v1beta1.Speaker {
	return v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1beta1.SpeakerStatus{
		Links: []v1beta1.SpeakerLink{{Name: link, Prefixes: prefixes}},
	}}
}

func TestWhatIsKnownOfTheAddressesOfNodes(t *testing.T) {
	nodes := []corev1.Node{
		reporting("a", "10.0.0.1", "192.168.1.240", "a.example"),
		reporting("b", "10.0.0.2", "::ffff:10.0.0.22", "2001:db8::2"),
		reporting("c", "192.168.1.12", "192.168.1.240", "192.168.1.11", "fd00::12"),
	}
	speakers := []v1beta1.Speaker{
		listing("a", "eth0", "10.0.0.1/24"),
		listing("c", "eth1", "192.168.1.11/24", "nonsense", "2001:db8::11/64"),
		listing("gone", "eth0", "10.0.0.9/32"),
		{ObjectMeta: metav1.ObjectMeta{Name: "b"}}, // has not told of its links yet
	}
	want := map[string]string{
		"10.0.0.1":      "node a has it on eth0",
		"10.0.0.2":      "node b has it", // of whose links nothing is known
		"10.0.0.22":     "node b has it",
		"2001:db8::2":   "node b has it",
		"10.0.0.9":      "node gone has it on eth0", // its Speaker is still there
		"192.168.1.12":  "node c has it",            // of a subnet in which its Speaker lists another
		"fd00::12":      "node c has it",
		"192.168.1.11":  "node c has it on eth1",
		"2001:db8::11":  "node c has it on eth1",
		"192.168.1.240": "node a reports it as its own",
	}
	for _, reverse := range []bool{false, true} {
		if reverse {
			slices.Reverse(nodes)
			slices.Reverse(speakers)
		}
		got := map[string]string{}
		for addr, a := range NodeAddresses(nodes, speakers) {
			got[addr.String()] = a.String()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("in the reverse order: %v (-want +got):\n%s", reverse, diff)
		}
	}
}

func TestAPoolOfNothingButAddressesOfNodesSaysSo(t *testing.T) {
	nodes := map[netip.Addr]NodeAddress{
		ip("203.0.113.7"): {Node: "main"},
		ip("203.0.113.8"): {Node: "other", Link: "eth1"},
		ip("2001:db8::7"): {Node: "main"},
		ip("203.0.113.9"): {Node: "main", Reported: true},
	}
	const advice = " List addresses that no node has; or set allowNodeAddresses to have them given out and " +
		"announced by nobody, " +
		"as a cluster of one node may want."
	for _, test := range []struct {
		story   string
		pool    v1beta1.IPAddressPool
		want    string // the message; "" for no problem
		ofNodes []string
	}{
		{"its one address", pool("p", 0, "203.0.113.7/32"),
			"Nodes have every IPv4 address of the pool, so none is given out: 203.0.113.7 (node main)." +
				advice, []string{"203.0.113.7"}},
		{"all of both families", pool("p", 0, "203.0.113.7-203.0.113.8", "2001:db8::7/128"),
			"Nodes have every IPv4 and IPv6 address of the pool, so none is given out: " +
				"203.0.113.7 (node main), 203.0.113.8 (node other, eth1), " +
				"2001:db8::7 (node main)." + advice, []string{"203.0.113.7", "203.0.113.8", "2001:db8::7"}},
		{"all of one family", pool("p", 0, "203.0.113.0/24", "2001:db8::7/128"),
			"Nodes have every IPv6 address of the pool, so none is given out: " +
				"2001:db8::7 (node main)." + advice,
			[]string{"203.0.113.7", "203.0.113.8", "203.0.113.9", "2001:db8::7"}},
		{"all that it does not exclude", excluding(pool("p", 0, "203.0.113.6/31"), "203.0.113.6"),
			"Nodes have every IPv4 address of the pool, so none is given out: 203.0.113.7 (node main)." +
				advice, []string{"203.0.113.7"}},
		{"some", pool("p", 0, "203.0.113.0/24"), "", []string{"203.0.113.7", "203.0.113.8", "203.0.113.9"}},
		{"one that a node only reports", pool("p", 0, "203.0.113.9/32"), "", []string{"203.0.113.9"}},
		{"its one address, and it gives that out",
			allowing(pool("p", 0, "203.0.113.7/32")), "", []string{"203.0.113.7"}},
		{"none", pool("p", 0, "198.51.100.0/24"), "", nil},
	} {
		t.Run(test.story, func(t *testing.T) {
			objects := Objects{Pools: []v1beta1.IPAddressPool{test.pool}, NodeAddresses: nodes}
			c, problems := Parse(objects, Config{}, start)
			var got string
			for _, p := range problems {
				if p.Reason != v1beta1.ReasonNodeAddresses {
					t.Errorf("reason is %s", p.Reason)
				}
				got += p.Message
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			var ofNodes []string
			for _, addr := range c.Pools[0].OfNodes {
				ofNodes = append(ofNodes, addr.String())
			}
			if diff := cmp.Diff(test.ofNodes, ofNodes); diff != "" {
				t.Errorf("of nodes are (-want +got):\n%s", diff)
			}
		})
	}
}

// A node that only reports an address does not keep it from who asks for it.
func TestWhatANodeOnlyReportsIsGivenOnRequest(t *testing.T) {
	c, _ := Parse(Objects{Pools: []v1beta1.IPAddressPool{
		pool("p", 0, "203.0.113.0/24"),
		allowing(pool("q", 0, "198.51.100.1/32")),
	},
		NodeAddresses: map[netip.Addr]NodeAddress{
			ip("203.0.113.7"):  {Node: "a"},
			ip("203.0.113.9"):  {Node: "a", Reported: true},
			ip("198.51.100.1"): {Node: "a"},
			ip("192.0.2.1"):    {Node: "a"},
		}}, Config{}, start)
	got := map[string]bool{}
	for addr, w := range c.Withheld() {
		got[addr.String()] = w.OnRequest
	}
	if diff := cmp.Diff(map[string]bool{"203.0.113.7": false, "203.0.113.9": true}, got); diff != "" {
		t.Errorf("withheld, and given on request (-want +got):\n%s", diff)
	}
}
