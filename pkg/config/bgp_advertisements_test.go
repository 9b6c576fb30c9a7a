package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/berth-lb/berth/api/v1beta1"
)

func bgpAd(name string, age int, spec v1beta1.BGPAdvertisementSpec) v1beta1.BGPAdvertisement {
	return v1beta1.BGPAdvertisement{ObjectMeta: object(name, age), Spec: spec}
}

func aliases(name string, age int, pairs ...string) v1beta1.Community {
	o := v1beta1.Community{ObjectMeta: object(name, age)}
	for i := 0; i < len(pairs); i += 2 {
		o.Spec.Communities = append(o.Spec.Communities,
			v1beta1.CommunityAlias{Name: pairs[i], Value: pairs[i+1]})
	}
	return o
}

func TestCommunities(t *testing.T) {
	for _, test := range []struct {
		story   string
		objects []v1beta1.Community
		asked   []string
		want    string // the communities of the advertisement
		told    []string
		says    string
	}{
		{"as written", nil, []string{"65000:1", "large:1:2:3", "rt:65000:9"},
			"[65000:1 rt:65000:9 large:1:2:3]", nil, ""},
		{"well-known", nil, []string{"no-export"}, "[65535:65281]", nil, ""},
		{"by alias", []v1beta1.Community{aliases("c", 0, "vpn", "65000:7")}, []string{"vpn"}, "[65000:7]",
			nil, ""},
		{"an alias goes before a well-known name",
			[]v1beta1.Community{aliases("c", 0, "blackhole",
				"65000:666")}, []string{"blackhole"}, "[65000:666]", nil, ""},
		{"two ways to say the same", []v1beta1.Community{aliases("c", 0, "vpn", "65000:7")},
			[]string{"vpn", "65000:7"}, "[65000:7]", nil, ""},
		{"the older of two aliases counts", []v1beta1.Community{aliases("a", 1, "x", "1:1", "y", "1:2"),
			aliases("b", 0, "x", "2:2")},
			[]string{"x", "y"}, "[1:2 2:2]", []string{"Community a DuplicateAlias"}, "x is given by b"},
		{"of the same age the name decides", []v1beta1.Community{aliases("b", 0, "x", "2:2"),
			aliases("a", 0, "x", "1:1")},
			[]string{"x"}, "[1:1]", []string{"Community b DuplicateAlias"}, "x is given by a"},
		{"one bad alias stops no other", []v1beta1.Community{aliases("c", 0, "x", "1:70000", "y", "1:2")},
			[]string{"y"}, "[1:2]", []string{"Community c Invalid"}, "spec.communities[0].value"},
		{"a missing alias: announcing without it could leak routes", nil, []string{"65000:1", "vpn"}, "",
			[]string{"BGPAdvertisement ad CommunityNotFound"},
			"no such community or alias: vpn. Correct it, or add the alias"},
		{"a community that cannot be read", nil, []string{"65536:1"}, "",
			[]string{"BGPAdvertisement ad Invalid"}, "spec.communities[0]"},
	} {
		t.Run(test.story, func(t *testing.T) {
			ads := []v1beta1.BGPAdvertisement{bgpAd("ad", 0,
				v1beta1.BGPAdvertisementSpec{Communities: test.asked})}
			c, problems := Parse(Objects{
				Communities:       test.objects,
				BGPPeers:          []v1beta1.BGPPeer{peer("tor", nil)},
				BGPAdvertisements: ads,
			}, Config{}, start)
			if diff := cmp.Diff(test.told, lines(problems)); diff != "" {
				t.Errorf("problems: -want +got:\n%s", diff)
			}
			if len(problems) > 0 && !strings.Contains(problems[0].Message, test.says) {
				t.Errorf("message is %q, want %q in it", problems[0].Message, test.says)
			}
			got := ""
			if len(c.BGPAdvertisements) > 0 {
				got = fmt.Sprint(c.BGPAdvertisements[0].value.Communities)
			}
			if got != test.want {
				t.Errorf("communities are %q, want %q", got, test.want)
			}
		})
	}
}

func TestLastGoodAliasesStay(t *testing.T) {
	asks := []v1beta1.BGPAdvertisement{bgpAd("ad", 0,
		v1beta1.BGPAdvertisementSpec{Communities: []string{"x"}})}
	peers := []v1beta1.BGPPeer{peer("tor", nil)}
	last, _ := Parse(Objects{
		Communities:       []v1beta1.Community{aliases("c", 0, "x", "1:1")},
		BGPPeers:          peers,
		BGPAdvertisements: asks,
	}, Config{}, start)
	c, problems := Parse(Objects{
		Communities:       []v1beta1.Community{aliases("c", 0, "x", "1:70000")},
		BGPPeers:          peers,
		BGPAdvertisements: asks,
	}, last, start)
	if diff := cmp.Diff([]string{"Community c Invalid"}, lines(problems)); diff != "" ||
		!strings.Contains(problems[0].Message, "last good values") {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := fmt.Sprint(c.BGPAdvertisements[0].value.Communities); got != "[1:1]" {
		t.Errorf("communities are %s", got)
	}
	c, problems = Parse(Objects{BGPAdvertisements: asks}, last, start)
	if diff := cmp.Diff([]string{"BGPAdvertisement ad CommunityNotFound"}, lines(problems)); diff != "" ||
		len(c.BGPAdvertisements) != 1 ||
		!strings.Contains(problems[0].Message, "Its last good version stays in force.") {
		t.Errorf("without the Community: -want +got:\n%s", diff)
	}
}

func TestBadBGPAdvertisements(t *testing.T) {
	some := []metav1.LabelSelector{{MatchLabels: map[string]string{"a": "b"}}}
	for _, test := range []struct {
		story string
		spec  v1beta1.BGPAdvertisementSpec
		says  string
	}{
		{"a length of 0", v1beta1.BGPAdvertisementSpec{AggregationLength: new(int32(0))},
			"spec.aggregationLength: 0"},
		{"a length of 33", v1beta1.BGPAdvertisementSpec{AggregationLength: new(int32(33))},
			"spec.aggregationLength: 33"},
		{"a length of 129", v1beta1.BGPAdvertisementSpec{AggregationLengthV6: new(int32(129))},
			"spec.aggregationLengthV6: 129"},
		{"some Services, aggregated", v1beta1.BGPAdvertisementSpec{AggregationLength: new(int32(24)),
			ServiceSelectors: some}, "cannot be combined"},
		{"a preference below 0", v1beta1.BGPAdvertisementSpec{LocalPref: -1}, "spec.localPref"},
		{"a MED of five octets", v1beta1.BGPAdvertisementSpec{MED: new(int64(1 << 32))}, "spec.med"},
		{"a path that is too long", v1beta1.BGPAdvertisementSpec{ASPathPrepend: 33}, "spec.asPathPrepend"},
		{"a pool selector",
			v1beta1.BGPAdvertisementSpec{IPAddressPoolSelectors: []metav1.LabelSelector{badSelector}},
			"spec.ipAddressPoolSelectors[0]"},
		{"a node selector", v1beta1.BGPAdvertisementSpec{NodeSelectors: []metav1.LabelSelector{badSelector}},
			"spec.nodeSelectors[0]"},
		{"a Service selector",
			v1beta1.BGPAdvertisementSpec{ServiceSelectors: []metav1.LabelSelector{badSelector}},
			"spec.serviceSelectors[0]"},
	} {
		t.Run(test.story, func(t *testing.T) {
			good := v1beta1.BGPAdvertisementSpec{LocalPref: 7}
			peers := []v1beta1.BGPPeer{peer("tor", nil)}
			last, _ := Parse(Objects{BGPPeers: peers,
				BGPAdvertisements: []v1beta1.BGPAdvertisement{bgpAd("bad", 0, good)}}, Config{}, start)
			bad := Objects{BGPPeers: peers,
				BGPAdvertisements: []v1beta1.BGPAdvertisement{bgpAd("bad", 0, test.spec),
					bgpAd("other", 0, v1beta1.BGPAdvertisementSpec{})}}
			c, problems := Parse(bad, Config{}, start)
			if len(problems) != 1 || problems[0].Reason != v1beta1.ReasonInvalid ||
				!strings.Contains(problems[0].Message, test.says) {
				t.Errorf("problems are %+v, want %q", problems, test.says)
			}
			if len(c.BGPAdvertisements) != 1 || c.BGPAdvertisements[0].Name != "other" {
				t.Error("the bad advertisement is in force, or stops the other")
			}
			if c, _ := Parse(bad, last, start); len(c.BGPAdvertisements) != 2 ||
				c.BGPAdvertisements[0].value.LocalPref != 7 {
				t.Error("the last good version does not stay")
			}
		})
	}
}

// An advertisement without anybody to tell is most likely one half of what
// somebody meant to write.
func TestAnAdvertisementWithoutPeers(t *testing.T) {
	objects := Objects{BGPAdvertisements: []v1beta1.BGPAdvertisement{bgpAd("ad", 0,
		v1beta1.BGPAdvertisementSpec{})}}
	c, problems := Parse(objects, Config{}, start)
	if diff := cmp.Diff([]string{"BGPAdvertisement ad PeerNotFound"}, lines(problems)); diff != "" ||
		len(c.BGPAdvertisements) != 1 {
		t.Errorf("-want +got:\n%s", diff)
	}
	objects.BGPPeers = []v1beta1.BGPPeer{peer("tor", nil)}
	if _, problems := Parse(objects, Config{}, start); len(problems) > 0 {
		t.Errorf("with a peer, problems are %+v", problems)
	}
}

func TestBGPAdvertisementsNameWhatIsThere(t *testing.T) {
	objects := Objects{
		Pools: []v1beta1.IPAddressPool{pool("there", 0, "192.0.2.0/24")},
		BGPPeers: []v1beta1.BGPPeer{peer("tor", nil),
			peer("bad", func(s *v1beta1.BGPPeerSpec) { s.MyASN = 0 })},
		BGPAdvertisements: []v1beta1.BGPAdvertisement{bgpAd("ad", 0, v1beta1.BGPAdvertisementSpec{
			IPAddressPools: []string{"there", "nowhere"}, Peers: []string{"tor", "nobody", "bad"}})},
	}
	c, problems := Parse(objects, Config{}, start)
	if diff := cmp.Diff([]string{"BGPAdvertisement ad PoolNotFound", "BGPPeer bad Invalid"},
		lines(problems)); diff != "" {
		t.Fatalf("-want +got:\n%s", diff)
	}
	want := "spec.ipAddressPools names what is not there or not valid: nowhere. " +
		"The other pools are announced. Create the pool or correct the name. " +
		"spec.peers names what is not there or not in force: bad, nobody. The other peers are served. " +
		"Create the peer or correct the name."
	if problems[0].Message != want {
		t.Errorf("message is %s\nwant %s", problems[0].Message, want)
	}
	if !c.BGPAdvertisements[0].SelectsPool(c.Pool("there")) {
		t.Error("the pool that is there is not announced")
	}
}

func TestAggregation(t *testing.T) {
	for _, test := range []struct {
		story     string
		addresses []v1beta1.AddressRange
		v4, v6    int32
		want      [2]int // the lengths in force
		says      string
	}{
		{"one prefix for each address", []v1beta1.AddressRange{"192.0.2.0/28", "2001:db8::/120"}, 32, 128,
			[2]int{32, 128}, ""},
		{"as wide as the pool", []v1beta1.AddressRange{"192.0.2.0/24"}, 24, 128, [2]int{24, 128}, ""},
		{"smaller than the pool", []v1beta1.AddressRange{"192.0.2.0/24", "2001:db8::/64"}, 26, 96,
			[2]int{26, 96}, ""},
		{"wider than the pool", []v1beta1.AddressRange{"192.0.2.0/28"}, 24, 128, [2]int{32, 128},
			"192.0.2.0/28 of pool p in a /24"},
		{"one family only", []v1beta1.AddressRange{"192.0.2.0/24", "2001:db8::/120"}, 24, 64, [2]int{24, 128},
			"2001:db8::/120 of pool p in a /64"},
		{"one entry of two is too small", []v1beta1.AddressRange{"192.0.2.0/24", "198.51.100.0/29"}, 24, 128,
			[2]int{32, 128}, "198.51.100.0/29 of pool p"},
		{"a range counts by its widest prefix", []v1beta1.AddressRange{"192.0.2.1-192.0.2.14"}, 30, 128,
			[2]int{30, 128}, ""},
		{"which may be too small", []v1beta1.AddressRange{"192.0.2.1-192.0.2.14"}, 29, 128, [2]int{32, 128},
			"192.0.2.1-192.0.2.14 of pool p in a /29"},
		{"neighbouring entries are one", []v1beta1.AddressRange{"192.0.2.0/25", "192.0.2.128/25"}, 24, 128,
			[2]int{24, 128}, ""},
	} {
		t.Run(test.story, func(t *testing.T) {
			c, problems := Parse(Objects{
				Pools: []v1beta1.IPAddressPool{pool("p", 0, test.addresses...),
					pool("large", 1, "10.0.0.0/8", "2001:db8:1::/48")},
				BGPPeers: []v1beta1.BGPPeer{peer("tor", dualStack)},
				BGPAdvertisements: []v1beta1.BGPAdvertisement{bgpAd("ad", 0,
					v1beta1.BGPAdvertisementSpec{AggregationLength: &test.v4,
						AggregationLengthV6: &test.v6})},
			}, Config{}, start)
			a := c.BGPAdvertisements[0]
			if v := a.Value(c.Pool("p")); [2]int{v.Length4, v.Length6} != test.want {
				t.Errorf("lengths are %d and %d, want %v", v.Length4, v.Length6, test.want)
			}
			if v := a.Value(c.Pool("large")); v.Length4 != int(test.v4) || v.Length6 != int(test.v6) {
				t.Error("another pool is not aggregated as the object says")
			}
			if (len(problems) == 0) != (test.says == "") ||
				len(problems) > 0 && (problems[0].Reason != v1beta1.ReasonAggregationTooWide ||
					!strings.Contains(problems[0].Message, test.says)) {
				t.Errorf("problems are %+v, want %q", problems, test.says)
			}
		})
	}
}

// dualStack has a peer's sessions carry both families.
func dualStack(s *v1beta1.BGPPeerSpec) { s.DualStackAddressFamily = true }

func TestConflictsAreTold(t *testing.T) {
	gold := []metav1.LabelSelector{{MatchLabels: map[string]string{"tier": "gold"}}}
	red := []metav1.LabelSelector{{MatchLabels: map[string]string{"colour": "red"}}}
	internal := peer("int", func(s *v1beta1.BGPPeerSpec) {
		s.PeerASN, s.PeerAddress, s.DualStackAddressFamily = 64512, "192.0.2.2", true
	})
	external := peer("ext", dualStack)
	type spec = v1beta1.BGPAdvertisementSpec
	for _, test := range []struct {
		story        string
		older, young spec
		peers        []v1beta1.BGPPeer
		nodes        map[string]map[string]string
		says         string // "" for no conflict
	}{
		{"two preferences", spec{LocalPref: 100}, spec{LocalPref: 200}, []v1beta1.BGPPeer{internal, external},
			nil, "localPref of old"},
		{"the same preference", spec{LocalPref: 100}, spec{LocalPref: 100}, []v1beta1.BGPPeer{internal}, nil,
			""},
		{"one says nothing", spec{}, spec{LocalPref: 100}, []v1beta1.BGPPeer{internal}, nil, ""},
		{"external peers are told none", spec{LocalPref: 100}, spec{LocalPref: 200},
			[]v1beta1.BGPPeer{external}, nil, ""},
		{"all that can differ", spec{LocalPref: 100, MED: new(int64(0)), ASPathPrepend: 1},
			spec{LocalPref: 200, MED: new(int64(1)), ASPathPrepend: 2},
			[]v1beta1.BGPPeer{internal, external}, nil, "localPref and med and asPathPrepend of old"},
		{"other peers", spec{MED: new(int64(0)), Peers: []string{"int"}},
			spec{MED: new(int64(1)), Peers: []string{"ext"}}, []v1beta1.BGPPeer{internal, external}, nil, ""},
		{"one peer in common", spec{MED: new(int64(0)), Peers: []string{"int"}},
			spec{MED: new(int64(1)), Peers: []string{"ext", "int"}},
			[]v1beta1.BGPPeer{internal, external}, nil, "med of old"},
		{"other lengths", spec{MED: new(int64(0))},
			spec{MED: new(int64(1)), AggregationLength: new(int32(24)), AggregationLengthV6: new(int32(64))},
			[]v1beta1.BGPPeer{external}, nil, ""},
		{"other pools", spec{MED: new(int64(0)), IPAddressPools: []string{"p"}},
			spec{MED: new(int64(1)), IPAddressPools: []string{"q"}}, []v1beta1.BGPPeer{external}, nil, ""},
		{"nodes that are known to be others", spec{MED: new(int64(0)), NodeSelectors: gold},
			spec{MED: new(int64(1)), NodeSelectors: red},
			[]v1beta1.BGPPeer{external}, map[string]map[string]string{"n1": {"tier": "gold"},
				"n2": {"colour": "red"}}, ""},
		{"a node of both", spec{MED: new(int64(0)), NodeSelectors: gold},
			spec{MED: new(int64(1)), NodeSelectors: red},
			[]v1beta1.BGPPeer{external}, map[string]map[string]string{"n1": {"tier": "gold",
				"colour": "red"}}, "med of old"},
		{"Services that may be others", spec{MED: new(int64(0)), ServiceSelectors: gold},
			spec{MED: new(int64(1)), ServiceSelectors: red}, []v1beta1.BGPPeer{external}, nil, ""},
		{"the same Services", spec{MED: new(int64(0)), ServiceSelectors: gold},
			spec{MED: new(int64(1)), ServiceSelectors: gold}, []v1beta1.BGPPeer{external}, nil, "med of old"},
		{"a peer that is internal on some nodes", spec{LocalPref: 100}, spec{LocalPref: 200},
			[]v1beta1.BGPPeer{peer("p", func(s *v1beta1.BGPPeerSpec) {
				s.PerNode = &v1beta1.PerNodeValues{MyASN: &v1beta1.NodeValue{Label: "asn"}}
				s.DualStackAddressFamily = true
			})}, nil, "localPref of old"},
		{"a peer that is always external", spec{LocalPref: 100}, spec{LocalPref: 200},
			[]v1beta1.BGPPeer{peer("p", func(s *v1beta1.BGPPeerSpec) {
				s.PeerASN, s.DynamicASN, s.DualStackAddressFamily = 0, v1beta1.DynamicASNExternal, true
			})}, nil, ""},
	} {
		t.Run(test.story, func(t *testing.T) {
			_, problems := Parse(Objects{
				Pools: []v1beta1.IPAddressPool{pool("p", 0, "192.0.2.0/24", "2001:db8::/64"),
					pool("q", 0, "198.51.100.0/24")},
				BGPPeers:   test.peers,
				NodeLabels: test.nodes,
				BGPAdvertisements: []v1beta1.BGPAdvertisement{bgpAd("a", 1, test.young),
					bgpAd("old", 0, test.older)},
			}, Config{}, start)
			switch {
			case test.says == "" && len(problems) > 0:
				t.Errorf("problems are %+v", problems)
			case test.says != "" && (len(problems) != 1 || problems[0].Name != "a" ||
				problems[0].Reason != v1beta1.ReasonConflicting ||
				!strings.Contains(problems[0].Message, test.says)):
				t.Errorf("problems are %+v, want one of the younger with %q", problems, test.says)
			}
		})
	}
}

// An aggregate brings traffic for all its addresses, so it is made only where the pool
// has all of them.
func TestNoAggregateHoldsAddressesOfOthers(t *testing.T) {
	for _, test := range []struct {
		addresses []v1beta1.AddressRange
		length    int32
		aggregate []string
		single    []string
	}{
		{[]v1beta1.AddressRange{"203.0.112.0-203.0.113.9"}, 24, []string{"203.0.112.0", "203.0.112.255"},
			[]string{"203.0.113.0", "203.0.113.9"}},
		{[]v1beta1.AddressRange{"192.0.2.1-192.0.2.254"}, 26, []string{"192.0.2.64", "192.0.2.191"},
			[]string{"192.0.2.1", "192.0.2.63", "192.0.2.192"}},
		{[]v1beta1.AddressRange{"192.0.2.1-192.0.2.127", "192.0.2.128/25"}, 25, []string{"192.0.2.128"}, nil},
		{[]v1beta1.AddressRange{"2001:db8::-2001:db8:0:1::9"}, 64, []string{"2001:db8::1"},
			[]string{"2001:db8:0:1::1"}},
		{[]v1beta1.AddressRange{"192.0.2.0/25"}, 24, nil, []string{"192.0.2.1"}},
	} {
		c, _ := Parse(Objects{
			Pools:    []v1beta1.IPAddressPool{pool("p", 0, test.addresses...)},
			BGPPeers: []v1beta1.BGPPeer{peer("tor", nil)},
			BGPAdvertisements: []v1beta1.BGPAdvertisement{bgpAd("ad", 0, v1beta1.BGPAdvertisementSpec{
				AggregationLength: new(min(test.length, 32)), AggregationLengthV6: &test.length})},
		}, Config{}, start)
		lengthOf := func(text string) int {
			addr := ip(text)
			v := c.BGPAdvertisementsFor(addr, c.Pool("p"), []labels.Set{nil}, nil)[0]
			if addr.Is6() {
				return v.Length6
			}
			return v.Length4
		}
		for _, addr := range test.aggregate {
			if got := lengthOf(addr); got != int(test.length) {
				t.Errorf("%v: %s is announced in a /%d, want /%d", test.addresses, addr, got, test.length)
			}
		}
		for _, addr := range test.single {
			if got := lengthOf(addr); got != ip(addr).BitLen() {
				t.Errorf("%v: %s is announced in a /%d, want by itself", test.addresses, addr, got)
			}
		}
	}

	// What the pool does not contain any more, and a Service keeps, is none of its aggregates.
	length := int32(24)
	c, _ := Parse(Objects{
		Pools: []v1beta1.IPAddressPool{keeping(pool("p", 0, "192.0.2.0/24"), "198.51.100.7")},
		BGPAdvertisements: []v1beta1.BGPAdvertisement{bgpAd("ad", 0,
			v1beta1.BGPAdvertisementSpec{AggregationLength: &length})},
		BGPPeers: []v1beta1.BGPPeer{peer("tor", nil)},
	}, Config{}, start)
	kept := ip("198.51.100.7")
	if v := c.BGPAdvertisementsFor(kept, c.PoolOf(kept), []labels.Set{nil}, nil)[0]; v.Length4 != 32 {
		t.Errorf("an address outside of the pool is announced in a /%d", v.Length4)
	}
}

// keeping is a pool of which Services keep an address that it does not contain.
func keeping(p v1beta1.IPAddressPool, outside string) v1beta1.IPAddressPool {
	p.Status.OutOfRange = []string{outside}
	return p
}

func TestBGPAdvertisementsForAnAddress(t *testing.T) {
	gold := []metav1.LabelSelector{{MatchLabels: map[string]string{"tier": "gold"}}}
	c, _ := Parse(Objects{
		Pools: []v1beta1.IPAddressPool{pool("p", 0, "192.0.2.0/24"), pool("q", 0, "198.51.100.0/24")},
		BGPAdvertisements: []v1beta1.BGPAdvertisement{
			bgpAd("services", 0, v1beta1.BGPAdvertisementSpec{ServiceSelectors: gold}),
			bgpAd("nodes", 0, v1beta1.BGPAdvertisementSpec{NodeSelectors: gold}),
			bgpAd("pools", 0, v1beta1.BGPAdvertisementSpec{IPAddressPools: []string{"q"}}),
			bgpAd("all", 0, v1beta1.BGPAdvertisementSpec{}),
		},
	}, Config{}, start)
	for _, test := range []struct {
		pool     string
		services []labels.Set
		node     labels.Set
		want     string
	}{
		{"p", []labels.Set{nil}, nil, "all"},
		{"p", nil, nil, ""},
		{"p", []labels.Set{nil, {"tier": "gold"}}, nil, "all services"},
		{"q", []labels.Set{nil}, labels.Set{"tier": "gold"}, "all nodes pools"},
	} {
		var got []string
		for _, a := range c.BGPAdvertisementsFor(c.Pool(test.pool).Ranges[0].From(), c.Pool(test.pool),
			test.services, test.node) {
			got = append(got, a.Name)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("pool %s, Services %v, node %v: %v, want %s", test.pool, test.services, test.node, got,
				test.want)
		}
	}
}
