package layer2

import (
	"net/netip"
	"slices"
	"testing"
)

func TestShadow(t *testing.T) {
	subnet, other := netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64")
	eth0, eth1 := lan(2, "eth0", "192.0.2.7/24", "2001:db8::7/64"), lan(3, "eth1", "192.0.2.8/24", "2001:db8::8/64")
	for _, tt := range []struct {
		story  string
		links  []Link
		routes []subnetRoute
		want   map[string][]netip.Prefix
	}{
		{
			story: "links in subnets of their own cast no shadow",
			links: []Link{eth0, lan(3, "eth1", "198.51.100.7/24", "fe80::1/64"), lan(4, "eth2", "fe80::2/64")},
		},
		{
			story:  "the lower metric counts, in each family by itself",
			links:  []Link{eth0, eth1},
			routes: []subnetRoute{{subnet, 2, 101}, {subnet, 3, 100}, {other, 2, 256}, {other, 3, 1024}},
			want:   map[string][]netip.Prefix{"eth0": {subnet}, "eth1": {other}},
		},
		{
			story:  "of routes that are alike the kernel uses the first",
			links:  []Link{eth0, eth1},
			routes: []subnetRoute{{subnet, 3, 0}, {subnet, 2, 0}, {other, 2, 256}, {other, 3, 256}},
			want:   map[string][]netip.Prefix{"eth0": {subnet}, "eth1": {other}},
		},
		{
			story: "without routes the first link has the subnet",
			links: []Link{eth0, eth1}, want: map[string][]netip.Prefix{"eth1": {subnet, other}},
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
	} {
		links := cloneLinks(tt.links)
		shadow(links, tt.routes)
		for _, l := range links {
			if !slices.Equal(l.Shadowed, tt.want[l.Name]) {
				t.Errorf("%s: %s is shadowed for %v, want %v", tt.story, l.Name, l.Shadowed, tt.want[l.Name])
			}
		}
	}
}
