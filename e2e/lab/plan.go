package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// The hosts that every lab has, besides its nodes.
const (
	HostSwitch       = "sw"     // the switch of the LAN: a bridge whose ports carry the names of the hosts
	HostControlPlane = "cp"     // etcd, API server, controller manager, scheduler
	HostRouter       = "router" // the LAN's gateway; eth1 leads to ext
	HostClient       = "client" // a machine on the LAN
	HostExt          = "ext"    // a machine behind the routers
	// HostStranger is a machine on the LAN that belongs to nobody of the cluster, to attack it from.
	HostStranger = "stranger"
	// HostRouter2 is a second gateway, whose eth1 leads to eth1 of ext. It is there once it was started, see
	// Router.Start.
	HostRouter2 = "router2"
)

// MaxNodes is the largest number of nodes of a lab: the address plan has one digit for it.
const MaxNodes = 9

const (
	clusterCIDR4 = "10.244.0.0/16"
	clusterCIDR6 = "fd44::/48"
	serviceCIDR4 = "10.96.0.0/16"
	serviceCIDR6 = "fd96::/112"
	apiPort      = 6443
)

// Addresses are a host's two addresses on its eth0. In a lab of one family it has only that of this family,
// see Options.Families.
type Addresses struct{ V4, V6 netip.Addr }

// LinkLocal is the IPv6 link-local address of the host's eth0, which the kernel makes of the hardware address
// (RFC 4291, appendix A).
func (a Addresses) LinkLocal() netip.Addr {
	b := a.V4.As4()
	// The bit that says "given by the administrator" is inverted.
	return netip.AddrFrom16([16]byte{
		0xfe, 0x80,
		8: 0, 9: 0, 10: b[0], 11: 0xff,
		12: 0xfe, 13: b[1], 14: b[2], 15: b[3],
	})
}

// The addresses of the hosts, the same in every lab. ClientAddresses and its neighbours are on the LAN,
// 10.77.0.0/24 and fd77::/64, and OnServiceLAN tells what they have on the service LAN; ExtAddresses are on
// the network behind the router, 10.88.0.0/24 and fd88::/64. Behind router2, ext has others in 10.89.0.0/24
// and fd89::/64.
var (
	RouterAddresses       = LANAddresses(1)
	ControlPlaneAddresses = LANAddresses(2)
	Router2Addresses      = LANAddresses(3)
	ClientAddresses       = LANAddresses(100)
	StrangerAddresses     = LANAddresses(66)
	ExtAddresses          = Addresses{netip.MustParseAddr("10.88.0.100"), netip.MustParseAddr("fd88::100")}

	routerFarAddresses  = Addresses{netip.MustParseAddr("10.88.0.1"), netip.MustParseAddr("fd88::1")}
	router2FarAddresses = Addresses{netip.MustParseAddr("10.89.0.1"), netip.MustParseAddr("fd89::1")}
	ext2Addresses       = Addresses{netip.MustParseAddr("10.89.0.100"), netip.MustParseAddr("fd89::100")}
)

// NodeAddresses returns the addresses of node i, counted from 1: 10.77.0.1i and fd77::1i.
func NodeAddresses(i int) Addresses { return LANAddresses(10 + i) }

// NodeName returns the name of node i, counted from 1.
func NodeName(i int) string { return "node" + strconv.Itoa(i) }

// LANAddresses returns the addresses on the LAN of eth0 that end in this number. Both are written with the
// same decimal digits, 10.77.0.150 and fd77::150, so that a person sees they belong together.
func LANAddresses(host int) Addresses {
	return Addresses{
		V4: netip.MustParseAddr(fmt.Sprintf("10.77.0.%d", host)),
		V6: netip.MustParseAddr(fmt.Sprintf("fd77::%d", host)),
	}
}

// podSubnets returns the networks of the pods of node i.
func podSubnets(i int) (v4, v6 netip.Prefix) {
	return netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", i)),
		netip.MustParsePrefix(fmt.Sprintf("fd44:0:0:%d::/64", i))
}

// mac derives a host's hardware address from its IPv4 address, so that a restarted node keeps the one it had.
func mac(v4 netip.Addr) string {
	b := v4.As4()
	return fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
}

// nodeIndex returns the number in a node's name, or 0 if name is not a node of a lab with that many nodes.
func nodeIndex(name string, nodes int) int {
	digits, ok := strings.CutPrefix(name, "node")
	if !ok {
		return 0
	}
	i, err := strconv.Atoi(digits)
	if err != nil || i < 1 || i > nodes || NodeName(i) != name {
		return 0
	}
	return i
}

// fixedHosts lists the hosts that every lab has, besides its nodes.
func fixedHosts() []string {
	return []string{HostSwitch, HostControlPlane, HostRouter, HostClient, HostExt, HostRouter2, HostStranger}
}

// hostNames lists the hosts of a lab: the fixed ones first, then the nodes in order.
func hostNames(nodes int) []string {
	names := fixedHosts()
	for i := range nodes {
		names = append(names, NodeName(i+1))
	}
	return slices.Clip(names)
}
