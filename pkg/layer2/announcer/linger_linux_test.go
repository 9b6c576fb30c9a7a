package announcer

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-lb/berth/internal/netnstest"
)

// TestKernelsKeepToWhoLingers: a host whose kernel verifies what it knows every moment goes on sending to the
// node that lingers, and one that has forgotten goes to the owner, until the owner announces the address. The
// kernels are real, the two nodes are two links of one.
func TestKernelsKeepToWhoLingers(t *testing.T) {
	netnstest.Require(t, "ping")
	lan := netnstest.NewLAN(t)
	lan.Attach(netnstest.Local(), "eth0", "192.0.2.7/24", "2001:db8::7/64")
	lan.Attach(netnstest.Local(), "eth1", "192.0.2.8/24", "2001:db8::8/64")
	client := lan.Attach(netnstest.NewHost(t, "client"), "eth0", "192.0.2.9/24", "2001:db8::9/64")
	for _, family := range []string{"ipv4", "ipv6"} {
		client.Run(t, "sysctl", "-qw", "net."+family+".neigh.eth0.base_reachable_time_ms=200",
			"net."+family+".neigh.eth0.delay_first_probe_time=0")
	}
	former := startNode(t, Config{})
	second, stop := quietNode(t, Config{})
	defer stop()
	owner := node{Announcer: second}
	// sends has the client send for seconds; nobody answers a ping, but its kernel looks where to send it.
	sends := func(addr netip.Addr, seconds string) {
		_, _ = client.Try("ping", "-q", "-i", "0.1", "-w", seconds, addr.String())
	}
	at := func(addr netip.Addr) string {
		return client.Run(t, "ip", "neigh", "show", "to", addr.String(), "dev", "eth0")
	}
	replies := func(n node) (out uint64) {
		for _, l := range n.Stats().Links {
			out += l.Replies
		}
		return out
	}
	for _, addr := range []netip.Addr{
		netip.MustParseAddr("192.0.2.77"),
		netip.MustParseAddr("2001:db8::77"),
	} {
		former.Set(addr, on("eth0"))
		former.waitLive(t)
		until(t, "the client knows the first owner", func() bool {
			sends(addr, "1")
			return strings.Contains(at(addr), macOf(t, "eth0"))
		})
		owner.Set(addr, Request{Links: []string{"eth1"}, Manner: Quietly})
		owner.waitLive(t)
		former.Set(addr, Request{Links: []string{"eth0"}, Manner: Lingering})

		before, others := replies(former), replies(owner)
		sends(addr, "4")
		if got := at(addr); !strings.Contains(got, macOf(t, "eth0")) {
			t.Errorf("%s: while the first owner lingers the client has %q", addr, got)
		}
		if verified := replies(former) - before; verified < 2 || replies(owner) > others {
			t.Errorf("%s: the first owner answered %d times, and the new one %d times",
				addr, verified, replies(owner)-others)
		}

		client.Run(t, "ip", "neigh", "flush", "to", addr.String(), "dev", "eth0")
		sends(addr, "1")
		if got := at(addr); !strings.Contains(got, macOf(t, "eth1")) {
			t.Errorf("%s: the client that had forgotten has %q", addr, got)
		}

		client.Run(t, "ip", "neigh", "replace", addr.String(), "lladdr", macOf(t, "eth0"), "dev", "eth0",
			"nud", "reachable")
		owner.Set(addr, on("eth1"))
		until(t, "the client hears of the new owner", func() bool {
			return strings.Contains(at(addr), macOf(t, "eth1"))
		})
		former.Set(addr, Request{})
		owner.Set(addr, Request{})
	}
}
