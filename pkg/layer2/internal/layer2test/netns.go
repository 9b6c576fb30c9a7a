package layer2test

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-lb/berth/internal/netnstest"
)

// Patience is how long a test waits for something that should happen at once.
const Patience = 10 * time.Second

// The own addresses of the client in Stage.
var (
	ClientOwn4 = netip.MustParseAddr("192.0.2.9")
	ClientOwn6 = netip.MustParseAddr("2001:db8::9")
)

// Stage returns a LAN with the node on it as eth0, and one client.
func Stage(t testing.TB) (*netnstest.LAN, *netnstest.Host) {
	t.Helper()
	l := netnstest.NewLAN(t)
	l.Attach(netnstest.Local(), "eth0", "192.0.2.7/24", "2001:db8::7/64")
	client := l.Attach(netnstest.NewHost(t, "client"), "eth0", "192.0.2.9/24", "2001:db8::9/64")
	return l, client
}

// Suppressed is a Stage on which the client is behind a port that suppresses ARP and
// NDP, as the port to another leaf of a fabric does.
func Suppressed(t testing.TB) (*netnstest.LAN, *netnstest.Host) {
	t.Helper()
	netnstest.Require(t, "bridge", "ndisc6")
	l, client := Stage(t)
	out, err := l.Switch().Try("bridge", "link", "set", "dev", "port1", "neigh_suppress", "on")
	if err != nil {
		t.Skipf("the kernel's bridge suppresses nothing: %v: %s", err, out)
	}
	return l, client
}

// Until waits for a condition.
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// Pause lets fake time pass and everything come to rest.
func Pause(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// Interface returns a link of this namespace.
func Interface(t testing.TB, name string) *net.Interface {
	t.Helper()
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return ifi
}

// MACOf returns the Ethernet address of a link of this namespace.
func MACOf(t testing.TB, name string) string {
	t.Helper()
	return Interface(t, name).HardwareAddr.String()
}

// HardwareAddr returns the Ethernet address of a host's eth0.
func HardwareAddr(t testing.TB, h *netnstest.Host) net.HardwareAddr {
	t.Helper()
	mac, err := net.ParseMAC(strings.TrimSpace(h.Run(t, "cat", "/sys/class/net/eth0/address")))
	if err != nil {
		t.Fatal(err)
	}
	return mac
}

// Neighbour returns the client's cache entry for an address.
func Neighbour(t testing.TB, client *netnstest.Host, addr netip.Addr) string {
	t.Helper()
	return strings.ToLower(client.Run(t, "ip", "neigh", "show", addr.String(), "dev", "eth0"))
}
