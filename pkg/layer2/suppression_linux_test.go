package layer2

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/internal/netnstest"
)

// suppressed is a stage on which the client is behind a port that suppresses ARP
// and NDP, as the port to another leaf of a fabric does.
func suppressed(t testing.TB) (*netnstest.LAN, *netnstest.Host) {
	t.Helper()
	netnstest.Require(t, "bridge", "ndisc6")
	l, client := stage(t)
	if out, err := l.Switch().Try("bridge", "link", "set", "dev", "port1", "neigh_suppress", "on"); err != nil {
		t.Skipf("the kernel's bridge suppresses nothing: %v: %s", err, out)
	}
	return l, client
}

// TestATakeoverIsHeardBehindSuppression: the client's IPv4 entry moves, and its
// IPv6 one where it is the node's router.
func TestATakeoverIsHeardBehindSuppression(t *testing.T) {
	l, client := suppressed(t)
	// The fabric knows every host of the LAN, so it floods no request for one.
	bridge := l.Switch()
	bridge.Run(t, "ip", "address", "add", "192.0.2.1/24", "dev", "br0")
	bridge.Run(t, "ip", "address", "add", "2001:db8::1/64", "dev", "br0")
	for _, known := range []string{"192.0.2.7", "2001:db8::7"} {
		bridge.Run(t, "ip", "neigh", "replace", known, "lladdr", macOf(t, "eth0"), "dev", "br0", "nud", "permanent")
	}
	netnstest.Local().Run(t, "ip", "route", "add", "default", "via", clientOwn6.String(), "dev", "eth0")
	netnstest.Local().Run(t, "ndisc6", "-1", clientOwn6.String(), "eth0")
	netnstest.Local().Run(t, "ip", "neigh", "replace", clientOwn6.String(), "lladdr", hardwareAddr(t, client).String(), "dev", "eth0", "nud", "stale")
	n := startNode(t, Config{BurstInterval: 100 * ms})
	n.announce(t, "eth0", foreign4, foreign6) // the sockets are open
	for _, addr := range []netip.Addr{vip4, vip6} {
		client.Run(t, "ip", "neigh", "replace", addr.String(), "lladdr", "02:00:00:00:00:77", "dev", "eth0", "nud", "stale")
	}
	time.Sleep(1100 * ms) // a kernel takes no new place for an entry of the last second
	n.announce(t, "eth0", vip4, vip6)
	for _, addr := range []netip.Addr{vip4, vip6} {
		until(t, "the client's entry for "+addr.String()+" moves here", func() bool {
			return strings.Contains(neighbour(t, client, addr), macOf(t, "eth0"))
		})
	}
	if got := n.Conflicts(); len(got) > 0 {
		t.Errorf("conflicts %+v", got)
	}
}

// TestAskAsHostBehindSuppression: who is behind the port hears a host that asks,
// and no probe.
func TestAskAsHostBehindSuppression(t *testing.T) {
	_, client := suppressed(t)
	p := startProber(t, ProberConfig{})
	p.waitLink(t)
	for _, addr := range []netip.Addr{clientOwn4, clientOwn6} {
		probe := Question{Addr: addr, Link: "eth0", Count: 2, Interval: 100 * ms}
		asHost := probe
		asHost.AsHost = true
		if found, err := p.Ask(t.Context(), probe); err != nil || len(found.Holders) > 0 {
			t.Errorf("a probe for %s: %+v, %v", addr, found, err)
		}
		found, err := p.Ask(t.Context(), asHost)
		if err != nil || found.Unsourced || len(found.Holders) != 1 || found.Holders[0].String() != hardwareAddr(t, client).String() {
			t.Errorf("asked as a host for %s: %+v, %v", addr, found, err)
		}
	}
	// The link has no address in this subnet.
	elsewhere := Question{Addr: netip.MustParseAddr("198.51.100.9"), Link: "eth0", Count: 1, Interval: 10 * ms, AsHost: true}
	if found, err := p.Ask(t.Context(), elsewhere); err != nil || !found.Unsourced {
		t.Errorf("asked where the link has no address: %+v, %v", found, err)
	}
}
