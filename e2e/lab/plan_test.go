package lab

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestAddressPlan(t *testing.T) {
	lan4, lan6 := netip.MustParsePrefix("10.77.0.0/24"), netip.MustParsePrefix("fd77::/64")
	used := map[netip.Addr]string{}
	take := func(host string, a Addresses) {
		for _, address := range []netip.Addr{a.V4, a.V6} {
			if !lan4.Contains(address) && !lan6.Contains(address) {
				t.Errorf("%s: %s is not on the LAN", host, address)
			}
			if other, taken := used[address]; taken {
				t.Errorf("%s and %s share %s", host, other, address)
			}
			used[address] = host
		}
	}
	take("router", RouterAddresses)
	take("router2", Router2Addresses)
	take("cp", ControlPlaneAddresses)
	take("client", ClientAddresses)
	take("stranger", StrangerAddresses)
	for i := 1; i <= MaxNodes; i++ {
		take(NodeName(i), NodeAddresses(i))
		v4, v6 := podSubnets(i)
		if !netip.MustParsePrefix(clusterCIDR4).Overlaps(v4) ||
			!netip.MustParsePrefix(clusterCIDR6).Overlaps(v6) {
			t.Errorf("node%d: pods in %s and %s, outside the cluster's networks %s and %s",
				i, v4, v6, clusterCIDR4, clusterCIDR6)
		}
	}
	if got := NodeAddresses(3); got.V4.String() != "10.77.0.13" || got.V6.String() != "fd77::13" {
		t.Errorf("node3 has %v", got)
	}
	if got := mac(NodeAddresses(1).V4); got != "02:00:0a:4d:00:0b" {
		t.Errorf("node1 has %s", got)
	}
	if got := NodeAddresses(1).LinkLocal().String(); got != "fe80::aff:fe4d:b" {
		t.Errorf("node1 has %s", got)
	}
}

// TestFamilies: what each choice of families makes of a cluster's addresses.
func TestFamilies(t *testing.T) {
	for _, test := range []struct {
		families            Families
		api, services, node string
		links               int // lines that bring a link up
	}{
		{DualStack, "https://10.77.0.2:6443", "10.96.0.0/16,fd96::/112", "10.77.0.11 fd77::11", 3},
		{DualStackIPv6First, "https://[fd77::2]:6443", "fd96::/112,10.96.0.0/16", "fd77::11 10.77.0.11", 3},
		{IPv4Only, "https://10.77.0.2:6443", "10.96.0.0/16", "10.77.0.11", 2},
		{IPv6Only, "https://[fd77::2]:6443", "fd96::/112", "fd77::11", 2},
	} {
		t.Run(string(test.families), func(t *testing.T) {
			options, err := Options{Families: test.families}.withDefaults()
			if err != nil {
				t.Fatal(err)
			}
			f := options.Families
			node := strings.Trim(fmt.Sprint(f.Of(NodeAddresses(1))), "[]")
			if f.apiURL() != test.api || f.serviceCIDRs() != test.services || node != test.node {
				t.Errorf("the API server is at %s, Services are in %s, node1 has %s",
					f.apiURL(), f.serviceCIDRs(), node)
			}
			if lines := f.interfaceLines("eth0", NodeAddresses(1)); len(lines) != test.links {
				t.Errorf("a link is brought up by %q", lines)
			}
		})
	}
	for _, families := range []Families{"ipv4,ipv4", "ipv5", "IPv6", "ipv6,"} {
		if _, err := (Options{Families: families}).withDefaults(); err == nil {
			t.Errorf("%q is taken", families)
		}
	}
}

func TestServiceLAN(t *testing.T) {
	on := OnServiceLAN(NodeAddresses(3))
	if on.V4.String() != "10.78.0.13" || on.V6.String() != "fd78::13" || mac(on.V4) != "02:00:0a:4e:00:0d" {
		t.Errorf("node3 has %v and %s there", on, mac(on.V4))
	}
	for _, test := range []struct {
		host, link, port string
		lan              LAN
	}{
		{"node1", "eth0", "node1", ManagementLAN},
		{"node1", "svc0", "svc0-node1", ServiceLAN},
		{"node1", "svc1", "svc1-node1", ServiceLAN},
		{"client", "svc0", "svc0-client", ServiceLAN},
		{"node1", "eth9", "eth9-node1", ManagementLAN},
	} {
		port := portName(test.host, test.link)
		if lan, is := LANOfPort(port); port != test.port || lan != test.lan || !is {
			t.Errorf("%s of %s is port %s on the %s LAN, %t", test.link, test.host, port, lan, is)
		}
	}
	for _, lan := range []LAN{ManagementLAN, ServiceLAN} {
		if _, is := LANOfPort(lan.bridge()); is {
			t.Errorf("%s is a port", lan.bridge())
		}
	}
}

func TestNodeIndex(t *testing.T) {
	for name, want := range map[string]int{
		"node1": 1, "node3": 3, "node4": 0, "node0": 0, "node01": 0, "node": 0, "node-1": 0, "cp": 0, "1": 0,
	} {
		if got := nodeIndex(name, 3); got != want {
			t.Errorf("nodeIndex(%q) = %d, want %d", name, got, want)
		}
	}
}

func TestOptions(t *testing.T) {
	o, err := Options{}.withDefaults()
	if err != nil || o.Name != "berth" || o.Nodes != 3 || o.ProxyMode != ProxyNFTables ||
		o.NodeGrace != 8*time.Second {
		t.Errorf("defaults %+v, %v", o, err)
	}
	for want, o := range map[string]Options{
		"lab name":   {Name: "../x"},
		"lower-case": {Name: strings.Repeat("x", 21)},
		"nodes":      {Nodes: 10},
		"proxy mode": {ProxyMode: "ebpf"},
		"node grace": {NodeGrace: time.Second},
	} {
		if _, err := o.withDefaults(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want one that tells of %q", o, err, want)
		}
	}
}
