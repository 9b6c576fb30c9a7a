package members

import (
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"github.com/berth-lb/berth/internal/cluster/clustertest"
)

func TestAddressesAmongSpeakers(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"192.0.2.1", "[192.0.2.1]"},
		{"192.0.2.1,2001:db8::1", "[192.0.2.1 2001:db8::1]"},
		{" 2001:db8::1, 192.0.2.1 ", "[2001:db8::1 192.0.2.1]"},
		{"192.0.2.1,192.0.2.2,2001:db8::1", "[192.0.2.1 2001:db8::1]"},
		{"::ffff:192.0.2.1", "[192.0.2.1]"},
		{"", "an IP address of this node is required"},
		{",", "an IP address of this node is required"},
		{"192.0.2.1,node1", `"node1" is no IP address of a node`},
		{"192.0.2.1,::", `"::" is no IP address of a node`},
		{"fe80::1%eth0", `"fe80::1%eth0" is no IP address of a node`},
	} {
		got, err := ParseAddresses(test.text)
		text := fmt.Sprint(got)
		if err != nil {
			text = err.Error()
		}
		if text != test.want {
			t.Errorf("of %q it reads %s, want %s", test.text, text, test.want)
		}
	}
}

// dual are the addresses of a node: "4", "6", or both in the order in which it lists
// them.
func dual(name, has string) []netip.Addr {
	n := strings.TrimPrefix(name, "n")
	var out []netip.Addr
	for _, family := range has {
		text := map[rune]string{'4': "192.0.2." + n, '6': "2001:db8::" + n}[family]
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

// fleet is what nodes have, and what their speakers use: "" for no speaker yet.
type fleet struct{ has, uses map[string]string }

// start has the speaker of a node choose.
func (c fleet) start(name string) string {
	o := others{nodes: map[string]families{}, running: map[string]netip.Addr{}}
	for n, has := range c.has {
		o.nodes[n], _ = familiesOf(dual(n, has))
		if c.uses[n] != "" {
			o.running[n] = dual(n, c.uses[n])[0]
		}
	}
	return strings.TrimPrefix(familyName(chooseFamily(dual(name, c.has[name]), name, o)), "IPv")
}

func TestChooseFamily(t *testing.T) {
	for _, test := range []struct {
		story string
		// nodes are n1, which starts, and the others: what each has, and what its
		// speaker uses.
		nodes string
		want  string
	}{
		{"one family", "6", "6"},
		{"alone, IPv4 first", "46", "4"},
		{"alone, IPv6 first", "64", "6"},
		{"alone again, it goes on", "46/6", "6"},
		{"all name the same first", "64 64 64", "6"},
		{"most do", "64 46 64", "6"},
		{"half do", "64 46", "4"},
		{"one has no IPv4", "46 46 6", "6"},
		{"the speakers that there are count more than what nodes name first", "64/6 64/4 64/4", "4"},
		{"as many use either: what nodes name first", "64/4 64/6 64/6 46/4", "6"},
		{"a node without a speaker, such as one of another system, splits nobody", "64/6 64/6 4", "6"},
		{"but before there is any, it cannot be told from others", "64 64 4", "4"},
		{"one that has joined has only the other family: who starts anew goes to what all have",
			"46/4 46/4 6/6", "6"},
		{"nothing is common: with most speakers", "46/4 4/4 6/6", "4"},
		{"nothing is common and nobody is there: as most name it", "64 4 6", "6"},
	} {
		t.Run(test.story, func(t *testing.T) {
			c := fleet{map[string]string{}, map[string]string{}}
			for i, text := range strings.Fields(test.nodes) {
				name := fmt.Sprint("n", i+1)
				c.has[name], c.uses[name], _ = strings.Cut(text, "/")
			}
			if got := c.start("n1"); got != test.want {
				t.Errorf("it chooses IPv%s, want IPv%s", got, test.want)
			}
		})
	}
}

// TestSpeakersAgreeOnAFamily: where nodes have a family in common, all speakers use the
// same once each was started anew, in any order, also several at the same time; and who
// uses the same as all others, and can go on with it, does.
func TestSpeakersAgreeOnAFamily(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := fleet{map[string]string{}, map[string]string{}}
		installed := rapid.Bool().Draw(t, "installed before")
		common4, common6 := true, true
		for i := range rapid.IntRange(1, 7).Draw(t, "nodes") {
			name := fmt.Sprint("n", i+1)
			has := rapid.SampledFrom([]string{"46", "64", "46", "64", "4", "6"}).Draw(t, "has")
			c.has[name] = has
			common4, common6 = common4 && strings.Contains(has, "4"), common6 && strings.Contains(has, "6")
			if installed { // by a version that takes what its node names first
				c.uses[name] = has[:1]
			}
		}
		before := slices.Compact(slices.Sorted(maps.Values(c.uses)))
		left := slices.Sorted(maps.Keys(c.has))
		for len(left) > 0 {
			left = rapid.Permutation(left).Draw(t, "order")
			together := rapid.IntRange(1, len(left)).Draw(t, "together")
			chosen := map[string]string{}
			for _, name := range left[:together] {
				chosen[name] = c.start(name)
			}
			maps.Copy(c.uses, chosen)
			left = left[together:]
		}
		after := slices.Compact(slices.Sorted(maps.Values(c.uses)))
		if (common4 || common6) && len(after) != 1 {
			t.Fatalf("the nodes have %v, and the speakers use %v", c.has, c.uses)
		}
		if installed && len(before) == 1 && (before[0] == "4" && common4 || before[0] == "6" && common6) &&
			after[0] != before[0] {
			t.Fatalf("all used IPv%s, and now IPv%s", before[0], after[0])
		}
	})
}

func TestMemberAddressAsksTheCluster(t *testing.T) {
	withAddresses := func(name string, addresses ...string) *corev1.Node {
		n := node(name)
		n.Status.Addresses = []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: name},
			{Type: corev1.NodeExternalIP, Address: "198.51.100.1"},
		}
		for _, a := range addresses {
			n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{
				Type:    corev1.NodeInternalIP,
				Address: a,
			})
		}
		return n
	}
	api := clustertest.New(t,
		withAddresses("node1", "192.0.2.1", "2001:db8::1"),
		withAddresses("node2", "2001:db8::2"),
		node("node3"),
	)
	both := dual("n1", "46")
	got, err := ChooseAddress(t.Context(), api, "node1", both, slog.New(slog.DiscardHandler))
	if err != nil || got != netip.MustParseAddr("2001:db8::1") {
		t.Errorf("it takes %s, %v", got, err)
	}
	if got, err := ChooseAddress(t.Context(), nil, "node1", both[:1], nil); err != nil ||
		got != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("of one it takes %s, %v", got, err)
	}
}
