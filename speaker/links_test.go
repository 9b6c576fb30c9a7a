package main

import (
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/config"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/membership"
)

// randomLinks are links as the kernel may have them: with any number of addresses,
// of which many are in one subnet, none in one, or link-local.
func randomLinks(t *rapid.T) []links.Link {
	var out []links.Link
	for i := range rapid.IntRange(0, 4).Draw(t, "links") {
		l := link(fmt.Sprint("eth", i))
		l.Index, l.HardwareAddr = i+1, net.HardwareAddr{2, 0, 0, 0, 1, byte(i)}
		l.Up = rapid.IntRange(0, 9).Draw(t, "down") > 0
		l.Balances = rapid.IntRange(0, 3).Draw(t, "balances") == 0
		l.VRF = rapid.IntRange(0, 2).Draw(t, "VRF")
		if rapid.Bool().Draw(t, "runtime") {
			l.Name = fmt.Sprint("cni", i)
		}
		for range rapid.IntRange(0, 400).Draw(t, "addresses") {
			net := rapid.IntRange(0, 30).Draw(t, "net")
			host := rapid.IntRange(1, 250).Draw(t, "host")
			bits := rapid.SampledFrom([]int{24, 24, 24, 25, 32}).Draw(t, "bits")
			text := fmt.Sprintf("192.0.%d.%d/%d", net, host, bits)
			switch rapid.IntRange(0, 3).Draw(t, "family") {
			case 0:
				text = fmt.Sprintf("169.254.%d.%d/16", net, host)
			case 1:
				text = fmt.Sprintf("2001:db8:%x::%x:%x/%d", net, host, i, 2*bits+64-2*24)
			case 2:
				text = fmt.Sprintf("fe80::%x:%x/64", net, host)
			}
			l.Prefixes = append(l.Prefixes, netip.MustParsePrefix(text))
		}
		if len(l.Prefixes) > 0 && rapid.IntRange(0, 3).Draw(t, "shadow") == 0 {
			l.Shadowed = append(l.Shadowed, l.Prefixes[0].Masked())
		}
		out = append(out, l)
	}
	return out
}

// TestANodeJudgesItselfByWhatItHasSaid: whatever links a node has, what it thinks
// of them is what every other node thinks of them, heard as a member or read in
// its Speaker object.
func TestANodeJudgesItselfByWhatItHasSaid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newState(notify.NewLatch())
		c := cluster.NewConfig()
		c.Set(config.Objects{L2Advertisements: []v1beta1.L2Advertisement{{
			ObjectMeta: metav1.ObjectMeta{Name: "named"},
			Spec:       v1beta1.L2AdvertisementSpec{Interfaces: []string{"cni0"}},
		}}}, time.Unix(0, 0))
		v := &view{config: c, state: s, claims: newClaims(nil, maxBlocks, nil), links: fixedLinks(randomLinks(t)), node: "node1", excludeLinks: links.DefaultExclude()}
		v.lookAtLinks()
		own := v.self().Links
		said := linkValues(own)
		for key, value := range said {
			if len(key) > membership.MaxKey || len(value) > membership.MaxValue {
				t.Fatalf("%q: %d bytes", key, len(value))
			}
		}
		heard := readWord(membership.Member{Name: "node1", Said: said}).links
		var object v1beta1.Speaker
		object.Status.MemberAddress, object.Status.Links = "192.0.2.1:7947", linkStatus(own)
		read := parseSpeaker(&object, "node2").links
		for _, others := range [][]links.Link{heard, read} {
			if !slices.EqualFunc(own, others, links.Link.Equal) {
				t.Fatalf("this node has  %+v\nothers know    %+v", own, others)
			}
		}
		for range 20 {
			addr := netip.AddrFrom4([4]byte{192, 0, byte(rapid.IntRange(0, 30).Draw(t, "pool")), 77})
			mine, why := links.Choose(addr, own, links.Selection{})
			theirs, because := links.Choose(addr, heard, links.Selection{})
			if why != because || !reflect.DeepEqual(mine, theirs) {
				t.Fatalf("%s: this node chooses %v (%s), others for it %v (%s)", addr, mine, why, theirs, because)
			}
		}
	})
}

// fixedLinks are links that do not change.
type fixedLinks []links.Link

func (l fixedLinks) Links() []links.Link { return l }

func TestOneAddressOfEachSubnetIsSaid(t *testing.T) {
	prefixes := func(texts ...string) []netip.Prefix {
		var out []netip.Prefix
		for _, text := range texts {
			out = append(out, netip.MustParsePrefix(text))
		}
		return out
	}
	many := link("eth0")
	for n := range 100 {
		many.Prefixes = append(many.Prefixes, netip.MustParsePrefix(fmt.Sprintf("2001:db8:%x:ffff:ffff:ffff:ffff:ffff/64", n)))
	}
	for _, test := range []struct {
		story string
		link  links.Link
		want  []netip.Prefix
	}{
		{"of several in a subnet the first", link("eth0", "192.0.2.7/24", "192.0.2.8/24"), prefixes("192.0.2.7/24")},
		{"subnets first", link("eth0", "10.0.0.1/32", "10.0.0.2/32", "192.0.2.7/24", "2001:db8::7/64"),
			prefixes("192.0.2.7/24", "2001:db8::7/64", "10.0.0.1/32", "10.0.0.2/32")},
		{"an IPv4 link-local subnet is one like others", link("eth0", "169.254.3.4/16"), prefixes("169.254.3.4/16")},
		{"an IPv6 one is on every LAN", link("eth0", "fe80::1/64", "2001:db8::7/64"), prefixes("2001:db8::7/64")},
		{"a hundred subnets take more than one value", many, many.Prefixes},
	} {
		t.Run(test.story, func(t *testing.T) {
			got := asSaid([]links.Link{test.link})
			if len(got) != 1 || !slices.Equal(got[0].Prefixes, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// TestProblemsOfLinks: the Speaker object says what of a link is in the way.
func TestProblemsOfLinks(t *testing.T) {
	for _, test := range []struct {
		story string
		link  links.Link
		says  string // "" for no problem
	}{
		{"an ordinary link", link("eth0", "192.0.2.7/24", "2001:db8::7/64"), ""},
		{"a trunk without addresses", link("eth0"), ""},
		{"a single address beside a subnet", link("eth0", "192.0.2.7/24", "2001:db8::7/128"), ""},
		{"single addresses only", link("eth0", "192.0.2.7/32", "2001:db8::7/128", "fe80::7/64"), "in no subnet"},
		{"a bond that balances", links.Link{Name: "bond0", HardwareAddr: net6(1), Up: true, Broadcast: true, Balances: true}, "balance-alb"},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t, node("node1"))
			w.local = []links.Link{test.link}
			w.see()
			links := w.object.status().Links
			if len(links) != 1 || (links[0].Problem == "") != (test.says == "") || !strings.Contains(links[0].Problem, test.says) {
				t.Errorf("%+v", links)
			}
		})
	}
}

// TestManyAddressesOnEachNode: each of three nodes has eight more addresses on its
// link, which sort before the subnet of the pool. They agree on one owner.
func TestManyAddressesOnEachNode(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
	extra := func(n byte) links.Link {
		l := fellowLink(fmt.Sprint("node", n))
		var more []netip.Prefix
		for i := range byte(8) {
			more = append(more, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, n, i}), 32))
		}
		l.Prefixes = append(more, l.Prefixes...)
		return l
	}
	w.local = []links.Link{extra(1)}
	w.says("node2", "claim/192.0.2.10=40")
	for key, value := range linkValues([]links.Link{extra(2)}) {
		w.members["node2"].Said[key] = value
	}
	w.look()
	if w.reason() != v1beta1.ReasonNotOwner {
		t.Errorf("the reason is %s", w.reason())
	}
	w.claims("")
}

// FuzzReadLinks: what is read of links is said so that it reads the same.
func FuzzReadLinks(f *testing.F) {
	for _, seed := range []string{
		"", "02:00:00:00:00:01", "02:00:00:00:00:01 192.0.2.1/24 2001:db8::1/64", "02:00:00:00:00:01 only-named fe80::1/64",
		"0200.0000.0001", "eth0", "02:00:00:00:00:01 balance-alb 192.0.2.1/24", "02:00:00:00:00:01 ~192.0.2.0/24 192.0.2.1/24 mtu=1500",
	} {
		f.Add(seed, "192.0.2.77/32")
	}
	f.Fuzz(func(t *testing.T, value, more string) {
		read := readLinks(map[string][]byte{"link/eth0": []byte(value), "link/eth0/1": []byte(more)})
		once := asSaid(read)
		if again := asSaid(once); !slices.EqualFunc(once, again, links.Link.Equal) {
			t.Errorf("%q, %q are %+v, then %+v", value, more, once, again)
		}
		for _, l := range read {
			if len(l.HardwareAddr) == 0 || len(l.Prefixes) > maxSaidPrefixes || strings.Contains(l.Name, "/") {
				t.Errorf("%q, %q: %+v", value, more, l)
			}
		}
	})
}
