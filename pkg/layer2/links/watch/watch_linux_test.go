package watch

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/berth-lb/berth/internal/netnstest"
	"github.com/berth-lb/berth/pkg/layer2/internal/layer2test"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// start starts a watcher and ends it with the test, leaving nothing behind.
func start(t *testing.T) *Watcher {
	t.Helper()
	before := goleak.IgnoreCurrent()
	w := New(slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("watcher: %v", err)
		}
		goleak.VerifyNone(t, before)
	})
	return w
}

// TestPortsOfWhichDevices: a port of a bridge or bond is no link of its own, one in a
// VRF is. A machine without these kernel parts cannot make the devices, so they are
// given as netlink returns them.
func TestPortsOfWhichDevices(t *testing.T) {
	attrs := func(index, master int, name string) netlink.LinkAttrs {
		return netlink.LinkAttrs{
			Index:        index,
			Name:         name,
			MasterIndex:  master,
			HardwareAddr: net.HardwareAddr{0x02, 0, 0, 0, 0, 1},
			OperState:    netlink.OperUp,
			RawFlags:     unix.IFF_UP | unix.IFF_LOWER_UP | unix.IFF_BROADCAST,
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
	want := []string{"eth0", "alb0", "backup0", "br0", "eth3"}
	if !slices.Equal(usable, want) || !slices.Equal(balance, []string{"alb0"}) {
		t.Errorf("usable are %v, want %v; %v balance", usable, want, balance)
	}
}

// TestASubnetFromRoutes: the addresses of a node are single ones, and its routes say
// who is on its LAN.
func TestASubnetFromRoutes(t *testing.T) {
	netnstest.Require(t)
	l := netnstest.NewLAN(t)
	l.Attach(netnstest.Local(), "eth0", "192.0.2.7/32", "2001:db8::7/128")
	w := start(t)
	eth0 := func() links.Link {
		all := w.Links()
		at := slices.IndexFunc(all, func(l links.Link) bool { return l.Name == "eth0" })
		if at < 0 {
			return links.Link{}
		}
		return all[at]
	}
	layer2test.Until(t, "the addresses are known", func() bool { return eth0().Alone() })
	for _, subnet := range []string{"192.0.2.0/24", "2001:db8::/64"} {
		netnstest.Local().Run(t, "ip", "route", "add", subnet, "dev", "eth0")
	}
	// No event tells of routes; another address has the links looked at at once.
	netnstest.Local().Run(t, "ip", "address", "add", "198.51.100.7/32", "dev", "eth0")
	for _, addr := range []netip.Addr{layer2test.VIP4, layer2test.VIP6} {
		layer2test.Until(t, "the subnet of "+addr.String()+" is known", func() bool {
			return eth0().Holds(addr)
		})
		if _, why := links.Choose(addr, w.Links(), links.Selection{}); why != links.LinksBySubnet {
			t.Errorf("%s: %s", addr, why)
		}
	}
}

func TestWatcher(t *testing.T) {
	netnstest.Require(t)
	w := start(t)
	ip := func(args ...string) { netnstest.Local().Run(t, "ip", args...) }
	seen := func(name string) (links.Link, bool) {
		all := w.Links()
		i := slices.IndexFunc(all, func(l links.Link) bool { return l.Name == name })
		if i < 0 {
			return links.Link{}, false
		}
		return all[i], true
	}
	expect := func(story, name string, ok func(links.Link) bool) {
		t.Helper()
		layer2test.Until(t, story, func() bool { l, found := seen(name); return found && ok(l) })
	}
	expect("the loopback link", "lo", func(l links.Link) bool {
		return l.Loopback && l.Up && !l.Usable() && l.Prefixes[0] == netip.MustParsePrefix("127.0.0.1/8")
	})
	ip("link", "add", "one", "address", "02:00:00:00:00:01", "type", "veth", "peer", "name", "two")
	t.Cleanup(func() { _, _ = netnstest.Local().Try("ip", "link", "del", "two") })
	expect("a link that is down", "one", func(l links.Link) bool {
		return !l.Up && l.Broadcast && !l.NoARP && l.Master == 0 &&
			l.HardwareAddr.String() == "02:00:00:00:00:01"
	})
	ip("link", "set", "one", "up")
	expect("no carrier yet", "one", func(l links.Link) bool { return !l.Up })
	ip("link", "set", "two", "up")
	expect("carrier", "one", func(l links.Link) bool { return l.Up && l.Usable() })
	ip("address", "add", "192.0.2.7/24", "dev", "one")
	ip("address", "add", "2001:db8::7/64", "dev", "one")
	expect("addresses with their host part", "one", func(l links.Link) bool {
		return slices.Contains(l.Prefixes, netip.MustParsePrefix("192.0.2.7/24")) &&
			slices.Contains(l.Prefixes, netip.MustParsePrefix("2001:db8::7/64")) &&
			l.Holds(layer2test.VIP4) && l.Holds(layer2test.VIP6)
	})
	ip("address", "del", "192.0.2.7/24", "dev", "one")
	expect("an address that went", "one", func(l links.Link) bool { return !l.Holds(layer2test.VIP4) })
	ip("link", "set", "one", "address", "02:00:00:00:00:05")
	expect("another Ethernet address", "one", func(l links.Link) bool {
		return l.HardwareAddr.String() == "02:00:00:00:00:05"
	})
	ip("link", "set", "one", "arp", "off")
	expect("no ARP", "one", func(l links.Link) bool { return l.NoARP && !l.Usable() })
	ip("link", "add", "bridge0", "type", "bridge")
	ip("link", "set", "one", "arp", "on", "master", "bridge0")
	expect("a port of a bridge", "one", func(l links.Link) bool { return l.Master != 0 && !l.Usable() })
	ip("link", "del", "bridge0")
	ip("link", "set", "one", "name", "uno")
	expect("another name", "uno", func(links.Link) bool { return true })
	ip("link", "del", "uno")
	layer2test.Until(t, "a link that went", func() bool { _, found := seen("uno"); return !found })
}

func TestWatcherSurvivesAStorm(t *testing.T) {
	netnstest.Require(t)
	w := start(t)
	const count = 100
	var add, del strings.Builder
	for i := range count {
		fmt.Fprintf(&add, "link add storm%d type veth peer name gale%d\n", i, i)
		fmt.Fprintf(&del, "link del storm%d\n", i)
	}
	netnstest.Local().Run(t, "sh", "-c", "printf '"+add.String()+"' | ip -batch -")
	layer2test.Until(t, "all links are known", func() bool { return len(w.Links()) >= 2*count })
	netnstest.Local().Run(t, "sh", "-c", "printf '"+del.String()+"' | ip -batch -")
	layer2test.Until(t, "all links are gone", func() bool { return len(w.Links()) < count })
}
