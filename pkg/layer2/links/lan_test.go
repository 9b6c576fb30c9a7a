package links

import (
	"net/netip"
	"slices"
	"testing"
)

func TestShadow(t *testing.T) {
	subnet, other := netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64")
	eth0 := lan(2, "eth0", "192.0.2.7/24", "2001:db8::7/64")
	eth1 := lan(3, "eth1", "192.0.2.8/24", "2001:db8::8/64")
	for _, tt := range []struct {
		story  string
		links  []Link
		routes []Route
		want   map[string][]netip.Prefix
	}{
		{
			story: "links in subnets of their own cast no shadow",
			links: []Link{
				eth0,
				lan(3, "eth1", "198.51.100.7/24", "fe80::1/64"),
				lan(4, "eth2", "fe80::2/64"),
			},
		},
		{
			story:  "the lower metric counts, in each family by itself",
			links:  []Link{eth0, eth1},
			routes: []Route{{subnet, 2, 101}, {subnet, 3, 100}, {other, 2, 256}, {other, 3, 1024}},
			want:   map[string][]netip.Prefix{"eth0": {subnet}, "eth1": {other}},
		},
		{
			story:  "of routes that are alike the kernel uses the first",
			links:  []Link{eth0, eth1},
			routes: []Route{{subnet, 3, 0}, {subnet, 2, 0}, {other, 2, 256}, {other, 3, 256}},
			want:   map[string][]netip.Prefix{"eth0": {subnet}, "eth1": {other}},
		},
		{
			story: "without routes the first link has the subnet",
			links: []Link{eth0, eth1},
			want:  map[string][]netip.Prefix{"eth1": {subnet, other}},
		},
		{
			story: "a port of a bridge is no link of its own",
			links: []Link{eth0.but(func(l *Link) { l.Master = 9 }), eth1},
		},
		{
			story: "a link that is down neither",
			links: []Link{eth0.but(func(l *Link) { l.Up = false }), eth1},
		},
		{
			story: "the same address twice on a link is no second link",
			links: []Link{lan(2, "eth0", "192.0.2.7/24", "192.0.2.9/24")},
		},
		{
			story: "the same subnet in another VRF is another LAN",
			links: []Link{eth0.but(func(l *Link) { l.VRF = 9 }), eth1},
		},
		{
			story: "and in the same VRF the same one",
			links: []Link{eth0.but(func(l *Link) { l.VRF = 9 }), eth1.but(func(l *Link) { l.VRF = 9 })},
			want:  map[string][]netip.Prefix{"eth1": {subnet, other}},
		},
	} {
		links := Clone(tt.links)
		shadow(links, tt.routes)
		for _, l := range links {
			if !slices.Equal(l.Shadowed, tt.want[l.Name]) {
				t.Errorf("%s: %s is shadowed for %v, want %v", tt.story, l.Name, l.Shadowed, tt.want[l.Name])
			}
		}
	}
}

// TestWiden: an address without a subnet is in that to which a route leads out of its
// link.
func TestWiden(t *testing.T) {
	routes := func(texts ...string) []Route {
		var out []Route
		for _, text := range texts {
			out = append(out, Route{Subnet: netip.MustParsePrefix(text), Link: 2})
		}
		return out
	}
	for _, tt := range []struct {
		story  string
		link   Link
		routes []Route
		want   []string
		alone  bool
	}{
		{"DHCPv6 gives an address, the router's advertisement a subnet",
			lan(2, "eth0", "2001:db8::7/128", "fe80::7/64"),
			routes("2001:db8::/64"), []string{"2001:db8::7/64", "fe80::7/64"}, false},
		{"a provider's single address",
			lan(2, "eth0", "192.0.2.7/32"), routes("192.0.2.1/32"), []string{"192.0.2.7/32"}, true},
		{"no route at all", lan(2, "eth0", "192.0.2.7/32"), nil, []string{"192.0.2.7/32"}, true},
		{"the longest route counts", lan(2, "eth0", "192.0.2.7/32"),
			routes("192.0.0.0/16", "192.0.2.0/24", "192.0.2.128/25"), []string{"192.0.2.7/24"}, false},
		{"the default route is no subnet",
			lan(2, "eth0", "192.0.2.7/32"), routes("0.0.0.0/0"), []string{"192.0.2.7/32"}, true},
		{"a route out of another link",
			lan(3, "eth1", "192.0.2.7/32"), routes("192.0.2.0/24"), []string{"192.0.2.7/32"}, true},
		{"an address in a subnet of the link needs none", lan(2, "eth0", "192.0.2.7/24", "192.0.2.240/32"),
			routes("192.0.2.0/24", "192.0.2.192/26"), []string{"192.0.2.7/24", "192.0.2.240/32"}, false},
		{"a link that is down", lan(2, "eth0", "192.0.2.7/32").but(func(l *Link) { l.Up = false }),
			routes("192.0.2.0/24"), []string{"192.0.2.7/32"}, true},
		{"a link without addresses is not alone",
			lan(2, "eth0", "fe80::7/64"), nil, []string{"fe80::7/64"}, false},
	} {
		links := []Link{tt.link.Clone()}
		widen(links, tt.routes)
		var got []string
		for _, p := range links[0].Prefixes {
			got = append(got, p.String())
		}
		if !slices.Equal(got, tt.want) || links[0].Alone() != tt.alone {
			t.Errorf("%s: %v, alone: %t; want %v", tt.story, got, links[0].Alone(), tt.want)
		}
	}
}
