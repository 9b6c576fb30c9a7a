package layer2

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-lb/berth/internal/netnstest"
)

// TestPortsOfWhichDevices: a port of a bridge or bond is no link of its own, one in a
// VRF is. A machine without these kernel parts cannot make the devices, so they are
// given as netlink returns them.
func TestPortsOfWhichDevices(t *testing.T) {
	attrs := func(index, master int, name string) netlink.LinkAttrs {
		return netlink.LinkAttrs{
			Index: index, Name: name, MasterIndex: master, HardwareAddr: testMAC, OperState: netlink.OperUp,
			RawFlags: unix.IFF_UP | unix.IFF_LOWER_UP | unix.IFF_BROADCAST,
		}
	}
	vrf := &netlink.Vrf{LinkAttrs: attrs(10, 0, "red"), Table: 10}
	vrf.RawFlags |= unix.IFF_NOARP
	bond := func(mode netlink.BondMode, index int, name string) *netlink.Bond {
		b := netlink.NewLinkBond(attrs(index, 0, name))
		b.Mode = mode
		return b
	}
	var usable, balance []string
	for _, l := range linksOf([]netlink.Link{
		&netlink.Device{LinkAttrs: attrs(2, 10, "eth0")}, // the port before its VRF
		vrf,
		bond(netlink.BOND_MODE_BALANCE_ALB, 11, "alb0"),
		bond(netlink.BOND_MODE_ACTIVE_BACKUP, 12, "backup0"),
		&netlink.Device{LinkAttrs: attrs(3, 11, "eth1")},
		&netlink.Bridge{LinkAttrs: attrs(13, 0, "br0")},
		&netlink.Device{LinkAttrs: attrs(4, 13, "eth2")},
		&netlink.Device{LinkAttrs: attrs(5, 0, "eth3")},
	}) {
		if l.Usable() {
			usable = append(usable, l.Name)
		}
		if l.Balances {
			balance = append(balance, l.Name)
		}
		if (l.VRF == 10) != (l.Name == "eth0") {
			t.Errorf("%s is in VRF %d", l.Name, l.VRF)
		}
	}
	if want := []string{"eth0", "alb0", "backup0", "br0", "eth3"}; !slices.Equal(usable, want) || !slices.Equal(balance, []string{"alb0"}) {
		t.Errorf("usable are %v, want %v; %v balance", usable, want, balance)
	}
}

// TestASubnetFromRoutes: the addresses of a node are single ones, and its routes say
// who is on its LAN.
func TestASubnetFromRoutes(t *testing.T) {
	netnstest.Require(t)
	l := netnstest.NewLAN(t)
	l.Attach(netnstest.Local(), "eth0", "192.0.2.7/32", "2001:db8::7/128")
	n := startNode(t, Config{})
	eth0 := func() Link {
		links := n.watcher.Links()
		at := slices.IndexFunc(links, func(l Link) bool { return l.Name == "eth0" })
		if at < 0 {
			return Link{}
		}
		return links[at]
	}
	until(t, "the addresses are known", func() bool { return eth0().Alone() })
	for _, subnet := range []string{"192.0.2.0/24", "2001:db8::/64"} {
		netnstest.Local().Run(t, "ip", "route", "add", subnet, "dev", "eth0")
	}
	// No event tells of routes; another address has the links looked at at once.
	netnstest.Local().Run(t, "ip", "address", "add", "198.51.100.7/32", "dev", "eth0")
	for _, addr := range []netip.Addr{vip4, vip6} {
		until(t, "the subnet of "+addr.String()+" is known", func() bool { return eth0().Holds(addr) })
		if _, why := Choose(addr, n.watcher.Links(), Selection{}); why != LinksBySubnet {
			t.Errorf("%s: %s", addr, why)
		}
	}
}

// TestPromiscuousMode: the kernel counts who wants it of a link.
func TestPromiscuousMode(t *testing.T) {
	netnstest.Require(t, "arping")
	_, client := stage(t)
	n := startNode(t, Config{})
	is := func(story, want string) {
		t.Helper()
		until(t, story, func() bool {
			return strings.Contains(netnstest.Local().Run(t, "ip", "-d", "link", "show", "eth0"), "promiscuity "+want+" ")
		})
	}
	wants := on("eth0")
	wants.Promiscuous = true
	n.Set(vip4, wants)
	n.Set(vip6, on("eth0"))
	n.waitLive(t)
	is("one socket wants it", "1")
	if out, err := arping(client, vip4); err != nil {
		t.Errorf("not answered: %s", out)
	}
	n.Set(vip6, wants)
	is("both want it", "2")
	n.Set(vip4, on("eth0"))
	is("one is left", "1")
	n.Set(vip6, Request{})
	is("it ends with the socket", "0")
}
