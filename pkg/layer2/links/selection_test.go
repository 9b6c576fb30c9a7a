package links

import (
	"net"
	"net/netip"
	"slices"
	"testing"
)

var testMAC = net.HardwareAddr{0x02, 0, 0, 0, 0, 1}

// lan is an ordinary link with the given prefixes.
func lan(index int, name string, prefixes ...string) Link {
	l := Link{Index: index, Name: name, HardwareAddr: testMAC, Up: true, Broadcast: true}
	for _, p := range prefixes {
		l.Prefixes = append(l.Prefixes, netip.MustParsePrefix(p))
	}
	return l
}

// but returns a changed link.
func (l Link) but(change func(*Link)) Link {
	change(&l)
	return l
}

// shadowed is a link of whose subnets some are another's.
func shadowed(l Link, subnets ...string) Link {
	for _, s := range subnets {
		l.Shadowed = append(l.Shadowed, netip.MustParsePrefix(s))
	}
	return l
}

func TestChoose(t *testing.T) {
	eth0 := lan(2, "eth0", "192.0.2.7/24", "2001:db8::7/64")
	eth1 := lan(3, "eth1", "198.51.100.7/24")
	cni0 := lan(4, "cni0", "192.0.2.129/25").but(func(l *Link) { l.Excluded = true })
	tests := []struct {
		story  string
		addr   string
		links  []Link
		names  []string
		want   []string
		reason Reason
	}{
		{
			story:  "the link whose subnet holds the address",
			addr:   "192.0.2.10",
			links:  []Link{eth0, eth1},
			want:   []string{"eth0"},
			reason: LinksBySubnet,
		},
		{
			story:  "the same for IPv6",
			addr:   "2001:db8::10",
			links:  []Link{eth0, eth1},
			want:   []string{"eth0"},
			reason: LinksBySubnet,
		},
		{
			story:  "of two links in the subnet the one with the route carries it",
			addr:   "192.0.2.10",
			links:  []Link{shadowed(eth0, "192.0.2.0/24"), lan(9, "eth9", "192.0.2.8/24")},
			want:   []string{"eth9"},
			reason: LinksBySubnet,
		},
		{
			story:  "also when the user names both",
			addr:   "192.0.2.10",
			links:  []Link{eth0, shadowed(lan(9, "eth9", "192.0.2.8/24"), "192.0.2.0/24")},
			names:  []string{"eth0", "eth9"},
			want:   []string{"eth0"},
			reason: LinksNamed,
		},
		{
			story:  "and when the address is in neither's subnet",
			addr:   "203.0.113.1",
			links:  []Link{eth0, shadowed(lan(9, "eth9", "192.0.2.8/24"), "192.0.2.0/24"), eth1},
			want:   []string{"eth0", "eth1"},
			reason: AllEligibleLinks,
		},
		{
			story:  "one without the route carries it when it alone is named",
			addr:   "192.0.2.10",
			links:  []Link{eth0, shadowed(lan(9, "eth9", "192.0.2.8/24"), "192.0.2.0/24")},
			names:  []string{"eth9"},
			want:   []string{"eth9"},
			reason: LinksNamed,
		},
		{
			story: "two links with two subnets in common, each with one of the routes, carry what is theirs",
			addr:  "192.0.2.10",
			links: []Link{
				shadowed(lan(8, "eth8", "192.0.2.7/24", "198.51.100.7/24"), "198.51.100.0/24"),
				shadowed(lan(9, "eth9", "192.0.2.8/24", "198.51.100.8/24"), "192.0.2.0/24"),
			},
			want:   []string{"eth8"},
			reason: LinksBySubnet,
		},
		{
			story: "and what is nobody's goes out of one of them",
			addr:  "203.0.113.1",
			links: []Link{
				shadowed(lan(8, "eth8", "192.0.2.7/24", "198.51.100.7/24"), "198.51.100.0/24"),
				shadowed(lan(9, "eth9", "192.0.2.8/24", "198.51.100.8/24"), "192.0.2.0/24"),
			},
			want:   []string{"eth9"},
			reason: AllEligibleLinks,
		},
		{
			story:  "an address of no subnet goes everywhere",
			addr:   "203.0.113.1",
			links:  []Link{eth0, eth1},
			want:   []string{"eth0", "eth1"},
			reason: AllEligibleLinks,
		},
		{
			story:  "the pod bridge does not carry it though its subnet does",
			addr:   "192.0.2.130",
			links:  []Link{eth1, cni0},
			want:   []string{"eth1"},
			reason: AllEligibleLinks,
		},
		{
			story:  "unless the user names it",
			addr:   "192.0.2.130",
			links:  []Link{eth0, cni0},
			names:  []string{"cni0"},
			want:   []string{"cni0"},
			reason: LinksNamed,
		},
		{
			story:  "a named link need not have the subnet",
			addr:   "192.0.2.10",
			links:  []Link{eth0, eth1},
			names:  []string{"eth1", "eth7"},
			want:   []string{"eth1"},
			reason: LinksNamed,
		},
		{
			story:  "this node has no link of that name",
			addr:   "192.0.2.10",
			links:  []Link{eth0},
			names:  []string{"bond0"},
			reason: NoNamedLink,
		},
		{
			story:  "a named link without carrier does not help",
			addr:   "192.0.2.10",
			links:  []Link{eth0.but(func(l *Link) { l.Up = false })},
			names:  []string{"eth0"},
			reason: NoNamedLink,
		},
		{
			story:  "the subnet's link is down, so the others have to do",
			addr:   "192.0.2.10",
			links:  []Link{eth0.but(func(l *Link) { l.Up = false }), eth1},
			want:   []string{"eth1"},
			reason: AllEligibleLinks,
		},
		{
			story:  "the address itself on a link makes no subnet",
			addr:   "203.0.113.1",
			links:  []Link{lan(2, "eth0", "203.0.113.1/32"), eth1},
			want:   []string{"eth0", "eth1"},
			reason: AllEligibleLinks,
		},
		{
			story:  "a port of a bond is not used, the bond is",
			addr:   "192.0.2.10",
			links:  []Link{eth0.but(func(l *Link) { l.Master = 5 }), lan(5, "bond0", "192.0.2.7/24")},
			want:   []string{"bond0"},
			reason: LinksBySubnet,
		},
		{
			story: "loopback, tunnels without ARP and links that cannot broadcast are no links",
			addr:  "127.0.0.5",
			links: []Link{
				lan(1, "lo", "127.0.0.1/8").but(func(l *Link) { l.Loopback = true }),
				lan(6, "gw", "127.0.0.1/8").but(func(l *Link) { l.NoARP = true }),
				lan(7, "pt", "127.0.0.1/8").but(func(l *Link) { l.Broadcast = false }),
				lan(8, "ib0", "127.0.0.1/8").but(func(l *Link) {
					l.HardwareAddr = make(net.HardwareAddr, 20)
				}),
			},
			reason: NoEligibleLink,
		},
		{story: "no links at all", addr: "192.0.2.10", reason: NoEligibleLink},
	}
	for _, tt := range tests {
		chosen, reason := Choose(netip.MustParseAddr(tt.addr), tt.links, Selection{Names: tt.names})
		var got []string
		for _, l := range chosen {
			got = append(got, l.Name)
		}
		if !slices.Equal(got, tt.want) || reason != tt.reason {
			t.Errorf("%s: Choose(%s) = %v, %s; want %v, %s",
				tt.story, tt.addr, got, reason, tt.want, tt.reason)
		}
	}
}

func TestDefaultExclude(t *testing.T) {
	excluded := []string{
		"lo",
		"dummy0", "docker0", "br-0123456789ab", "virbr0", "lxcbr0", "vethd1ab2c3", "vnet3", "cbr0", "cni0",
		"cali1234",
		"tunl0", "vxlan.calico", "cilium_host", "lxc12ab", "flannel.1", "weave", "kube-bridge", "antrea-gw0",
		"ovs-system", "ovn-k8s-mp0", "br-int", "genev_sys_6081", "vxlan0", "kube-ipvs0", "nodelocaldns",
		"tun0", "wg0", "tailscale0", "sit0", "ip6tnl0", "gre0", "gretap0",
	}
	kept := []string{
		"eth0", "ens3", "enp1s0f0", "eno1", "bond0", "team0", "br0", "br-lan", "br-ex", "vlan100", "eth0.100",
		"wlan0", "uplink", "local0", "green0", "site0",
	}
	for _, name := range excluded {
		if !IsExcluded(name, DefaultExclude()) {
			t.Errorf("%s is not excluded", name)
		}
	}
	for _, name := range kept {
		if IsExcluded(name, DefaultExclude()) {
			t.Errorf("%s is excluded", name)
		}
	}
}
