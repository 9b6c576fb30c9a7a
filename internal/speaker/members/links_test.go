package members

import (
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/speaker/presence"
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

// TestANodeJudgesItselfByWhatItPublishes: whatever links a node has, what it thinks
// of them is what every other node thinks of them, heard as a member or read in
// its Speaker object.
func TestANodeJudgesItselfByWhatItPublishes(outer *testing.T) {
	rapid.Check(outer, func(t *rapid.T) {
		w := newWorld(outer, func(c *Config) { c.Links = fixedLinks(randomLinks(t)) })
		w.named = []string{"cni0"}
		w.tracker.refreshLinks()
		own := w.tracker.Around().Speakers["node1"].Links
		said := encodeLinks(own)
		for key, value := range said {
			if len(key) > membership.MaxKey || len(value) > membership.MaxValue {
				t.Fatalf("%q: %d bytes", key, len(value))
			}
		}
		heard := decodeState(said).Links
		var object v1beta1.Speaker
		object.Status.MemberAddress, object.Status.Links = "192.0.2.1:7947", rowsOf(own)
		read := presence.ParseObject(&object, "node2").State.Links
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
				t.Fatalf("%s: this node chooses %v (%s), others for it %v (%s)",
					addr, mine, why, theirs, because)
			}
		}
	})
}

// fixedLinks are links that do not change.
type fixedLinks []links.Link

// Changed implements [LinkSource].
func (fixedLinks) Changed() <-chan struct{} { return nil }

// Links implements [LinkSource].
func (l fixedLinks) Links() []links.Link { return l }

func TestOneAddressOfEachSubnetIsPublished(t *testing.T) {
	prefixes := func(texts ...string) []netip.Prefix {
		var out []netip.Prefix
		for _, text := range texts {
			out = append(out, netip.MustParsePrefix(text))
		}
		return out
	}
	many := link("eth0")
	for n := range 100 {
		prefix := fmt.Sprintf("2001:db8:%x:ffff:ffff:ffff:ffff:ffff/64", n)
		many.Prefixes = append(many.Prefixes, netip.MustParsePrefix(prefix))
	}
	for _, test := range []struct {
		story string
		link  links.Link
		want  []netip.Prefix
	}{
		{"of several in a subnet the first",
			link("eth0", "192.0.2.7/24", "192.0.2.8/24"), prefixes("192.0.2.7/24")},
		{"subnets first", link("eth0", "10.0.0.1/32", "10.0.0.2/32", "192.0.2.7/24", "2001:db8::7/64"),
			prefixes("192.0.2.7/24", "2001:db8::7/64", "10.0.0.1/32", "10.0.0.2/32")},
		{"an IPv4 link-local subnet is one like others",
			link("eth0", "169.254.3.4/16"), prefixes("169.254.3.4/16")},
		{"an IPv6 one is on every LAN",
			link("eth0", "fe80::1/64", "2001:db8::7/64"), prefixes("2001:db8::7/64")},
		{"a hundred subnets take more than one value", many, many.Prefixes},
	} {
		t.Run(test.story, func(t *testing.T) {
			got := asPublished([]links.Link{test.link})
			if len(got) != 1 || !slices.Equal(got[0].Prefixes, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// FuzzDecodeLinks: what is read of links is published so that it reads the same.
func FuzzDecodeLinks(f *testing.F) {
	for _, seed := range []string{
		"",
		"02:00:00:00:00:01",
		"02:00:00:00:00:01 192.0.2.1/24 2001:db8::1/64",
		"02:00:00:00:00:01 only-named fe80::1/64",
		"0200.0000.0001",
		"eth0",
		"02:00:00:00:00:01 balance-alb 192.0.2.1/24",
		"02:00:00:00:00:01 ~192.0.2.0/24 192.0.2.1/24 mtu=1500",
	} {
		f.Add(seed, "192.0.2.77/32")
	}
	f.Fuzz(func(t *testing.T, value, more string) {
		list := decodeLinks(map[string][]byte{"link/eth0": []byte(value), "link/eth0/1": []byte(more)})
		once := asPublished(list)
		if again := asPublished(once); !slices.EqualFunc(once, again, links.Link.Equal) {
			t.Errorf("%q, %q are %+v, then %+v", value, more, once, again)
		}
		for _, l := range list {
			if len(l.HardwareAddr) == 0 || len(l.Prefixes) > maxPrefixes || strings.Contains(l.Name, "/") {
				t.Errorf("%q, %q: %+v", value, more, l)
			}
		}
	})
}
