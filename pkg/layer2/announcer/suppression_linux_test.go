package announcer

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/internal/netnstest"
)

// TestATakeoverIsHeardBehindSuppression: the client's IPv4 entry moves, and its
// IPv6 one where it is the node's router.
func TestATakeoverIsHeardBehindSuppression(t *testing.T) {
	l, client := suppressed(t)
	// The fabric knows every host of the LAN, so it floods no request for one.
	bridge := l.Switch()
	bridge.Run(t, "ip", "address", "add", "192.0.2.1/24", "dev", "br0")
	bridge.Run(t, "ip", "address", "add", "2001:db8::1/64", "dev", "br0")
	for _, known := range []string{"192.0.2.7", "2001:db8::7"} {
		bridge.Run(t, "ip", "neigh", "replace", known, "lladdr", macOf(t, "eth0"), "dev", "br0",
			"nud", "permanent")
	}
	netnstest.Local().Run(t, "ip", "route", "add", "default", "via", clientOwn6.String(), "dev", "eth0")
	netnstest.Local().Run(t, "ndisc6", "-1", clientOwn6.String(), "eth0")
	netnstest.Local().Run(t, "ip", "neigh", "replace", clientOwn6.String(), "lladdr",
		hardwareAddr(t, client).String(), "dev", "eth0", "nud", "stale")
	n := startNode(t, Config{BurstInterval: 100 * ms})
	n.announce(t, "eth0", foreign4, foreign6) // the sockets are open
	for _, addr := range []netip.Addr{vip4, vip6} {
		client.Run(t, "ip", "neigh", "replace", addr.String(), "lladdr", "02:00:00:00:00:77", "dev",
			"eth0", "nud", "stale")
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
