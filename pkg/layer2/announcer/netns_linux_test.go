package announcer

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/berth-lb/berth/internal/netnstest"
	"github.com/berth-lb/berth/pkg/layer2/links/watch"
)

// node is the code under test as the speaker runs it: a watcher that feeds an
// announcer, in the test's own namespace.
type node struct {
	*Announcer
	watcher *watch.Watcher
}

// startNode starts a node and ends it with the test, leaving nothing behind.
func startNode(t testing.TB, config Config) node {
	t.Helper()
	before := goleak.IgnoreCurrent()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	config.Logger = log
	// A busy test machine may well be stalled; tests of the guard ask for it.
	config.Stall = cmp.Or(config.Stall, -1)
	announcer, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	n := node{announcer, watch.New(log)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 3)
	go func() { done <- n.Announcer.Run(ctx) }()
	go func() { done <- n.watcher.Run(ctx) }()
	go func() {
		defer func() { done <- nil }()
		for {
			select {
			case <-ctx.Done():
				return
			case <-n.watcher.Changed():
				n.SetLinks(n.watcher.Links())
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		for range 3 {
			if err := <-done; err != nil {
				t.Errorf("node: %v", err)
			}
		}
		goleak.VerifyNone(t, before)
	})
	return n
}

// quietNode starts an announcer on the links as they are now, and nothing else.
func quietNode(t testing.TB, config Config) (a *Announcer, stop func()) {
	t.Helper()
	config.Stall = cmp.Or(config.Stall, -1)
	a, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	links, err := watch.Read()
	if err != nil {
		t.Fatal(err)
	}
	a.SetLinks(links)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	return a, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// announce sets addresses and waits until they are announced.
func (n node) announce(t testing.TB, link string, addrs ...netip.Addr) {
	t.Helper()
	for _, addr := range addrs {
		n.Set(addr, on(link))
	}
	n.waitLive(t)
}

// waitLive waits until everything that is set is announced.
func (n node) waitLive(t testing.TB) {
	t.Helper()
	until(t, "all addresses are announced", func() bool {
		return !slices.ContainsFunc(n.State(), func(a Announcement) bool { return a.Problem != "" })
	})
}

// arping asks from the client, with arping of iputils.
func arping(client *netnstest.Host, addr netip.Addr, more ...string) (string, error) {
	return client.Try("arping", append(more, "-c1", "-w2", "-I", "eth0", addr.String())...)
}

// ndisc asks from the client, with ndisc6.
func ndisc(client *netnstest.Host, addr netip.Addr) (string, error) {
	return client.Try("ndisc6", "-1", "-r1", "-w1000", addr.String(), "eth0")
}

// ignored asks once for an address and fails when there is an answer. It waits for
// a second only, so counters should tell the same.
func ignored(t testing.TB, client *netnstest.Host, addr netip.Addr, story string) {
	t.Helper()
	ask := []string{"arping", "-c1", "-w1", "-I", "eth0", addr.String()}
	if addr.Is6() {
		ask = []string{"ndisc6", "-1", "-r1", "-w500", addr.String(), "eth0"}
	}
	if out, err := client.Try(ask[0], ask[1:]...); err == nil {
		t.Errorf("%s, and answered:\n%s", story, out)
	}
}

func TestFramesARP(t *testing.T) {
	netnstest.Require(t, "arping")
	_, client := stage(t)
	n := startNode(t, Config{})
	n.announce(t, "eth0", vip4)
	mac := macOf(t, "eth0")

	if out, err := arping(client, vip4); err != nil || !strings.Contains(strings.ToLower(out), mac) {
		t.Errorf("arping: %v, want an answer from %s\n%s", err, mac, out)
	}
	if out, err := arping(client, vip4, "-D"); err == nil {
		t.Errorf("a probe from 0.0.0.0 found the address free:\n%s", out)
	}
	ignored(t, client, foreign4, "not announced")
	client.Run(t, "ip", "neigh", "replace", vip4.String(), "lladdr", mac, "dev", "eth0", "nud", "probe")
	until(t, "the client's unicast probe is answered", func() bool {
		return strings.Contains(neighbour(t, client, vip4), "reachable")
	})
	n.Set(vip4, Request{})
	ignored(t, client, vip4, "withdrawn")
}

func TestFramesNDP(t *testing.T) {
	netnstest.Require(t, "ndisc6")
	_, client := stage(t)
	n := startNode(t, Config{})
	n.announce(t, "eth0", vip6)
	mac := macOf(t, "eth0")

	if out, err := ndisc(client, vip6); err != nil || !strings.Contains(strings.ToLower(out), mac) {
		t.Errorf("ndisc6: %v, want an answer from %s\n%s", err, mac, out)
	}
	ignored(t, client, foreign6, "not announced")
	client.Run(t, "ip", "neigh", "replace", vip6.String(), "lladdr", mac, "dev", "eth0", "nud", "probe")
	until(t, "the client's unicast probe is answered", func() bool {
		return strings.Contains(neighbour(t, client, vip6), "reachable")
	})
	client.Run(t, "sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/eth0/accept_dad")
	client.Run(t, "ip", "address", "add", vip6.String()+"/64", "dev", "eth0")
	until(t, "the client finds that the address is taken", func() bool {
		return strings.Contains(client.Run(t, "ip", "address", "show", "dev", "eth0"), "dadfailed")
	})
	client.Run(t, "ip", "address", "del", vip6.String()+"/64", "dev", "eth0")
	n.Set(vip6, Request{})
	client.Run(t, "ip", "neigh", "flush", "dev", "eth0")
	ignored(t, client, vip6, "withdrawn")
}

func TestTheBurstMovesTheNeighboursOver(t *testing.T) {
	netnstest.Require(t)
	_, client := stage(t)
	n := startNode(t, Config{})
	n.announce(t, "eth0", foreign4, foreign6) // the sockets are open
	for _, addr := range []netip.Addr{vip4, vip6} {
		client.Run(t, "ip", "neigh", "replace", addr.String(), "lladdr", "02:00:00:00:00:77", "dev",
			"eth0", "nud", "stale")
	}
	n.announce(t, "eth0", vip4, vip6)
	for _, addr := range []netip.Addr{vip4, vip6} {
		until(t, "the client's entry for "+addr.String()+" moves here", func() bool {
			return strings.Contains(neighbour(t, client, addr), macOf(t, "eth0"))
		})
	}
}

func TestForeignRequestsDoNotWakeTheSockets(t *testing.T) {
	netnstest.Require(t, "arping", "ndisc6")
	_, client := stage(t)
	n := startNode(t, Config{})
	n.announce(t, "eth0", vip4, vip6)
	for _, addr := range []string{"192.0.2.11", "192.0.2.200", "2001:db8::10:2"} {
		ignored(t, client, netip.MustParseAddr(addr), "nobody's")
	}
	// The kernel answers, and we may not see it.
	_, _ = arping(client, netip.MustParseAddr("192.0.2.7"))
	_, _ = ndisc(client, netip.MustParseAddr("2001:db8::7"))
	// Nor may we see who tells of addresses that are not ours.
	client.Run(t, "arping", "-U", "-c1", "-I", "eth0", "192.0.2.9")
	client.Run(t, "arping", "-A", "-c1", "-I", "eth0", "192.0.2.9")
	if _, err := arping(client, vip4); err != nil {
		t.Error(err)
	}
	if _, err := ndisc(client, vip6); err != nil {
		t.Error(err)
	}
	for v, got := range total(n.Stats()).Verdicts {
		if (v == Answered) != (got > 0) {
			t.Errorf("%d frames were %s", got, v)
		}
	}
}

func TestALinkThatIsMadeAgainAnswersAgain(t *testing.T) {
	netnstest.Require(t, "arping", "ndisc6")
	client := netnstest.NewHost(t, "client")
	pair := func(mac string) {
		netnstest.Local().Run(t, "ip", "link", "add", "eth0", "address", mac, "type", "veth", "peer", "name",
			"eth0", "netns", "client")
		client.Run(t, "ip", "address", "add", "192.0.2.9/24", "dev", "eth0")
		client.Run(t, "ip", "link", "set", "eth0", "up")
	}
	ip := func(args ...string) {
		netnstest.Local().Run(t, "ip", append([]string{"link", "set", "eth0"}, args...)...)
	}
	answered := func(story, mac string) {
		t.Helper()
		until(t, story, func() bool {
			four, err4 := arping(client, vip4)
			six, err6 := ndisc(client, vip6)
			return err4 == nil && err6 == nil && strings.Contains(strings.ToLower(four), mac) &&
				strings.Contains(strings.ToLower(six), mac)
		})
	}
	n := startNode(t, Config{})
	n.Set(vip4, on("eth0"))
	n.Set(vip6, on("eth0"))
	pair("02:00:00:00:00:01")
	ip("up")
	answered("a link that appeared after the address", "02:00:00:00:00:01")
	ip("down")
	until(t, "the loss is known", func() bool { return n.State()[0].Problem == ProblemLinkDown })
	ip("up")
	answered("a link that was down", "02:00:00:00:00:01")
	ip("address", "02:00:00:00:00:02")
	answered("a link with another Ethernet address", "02:00:00:00:00:02")
	netnstest.Local().Run(t, "ip", "link", "del", "eth0")
	until(t, "the loss is known", func() bool { return n.State()[0].Problem == ProblemLinkMissing })
	pair("02:00:00:00:00:03")
	ip("up")
	answered("a link that was made again", "02:00:00:00:00:03")
	netnstest.Local().Run(t, "ip", "link", "del", "eth0")
}

func TestALostCarrierIsNoticed(t *testing.T) {
	netnstest.Require(t)
	l, client := stage(t)
	n := startNode(t, Config{BurstCount: 1, RefreshInterval: -1})
	n.announce(t, "eth0", vip4, vip6)
	begin := time.Now()
	l.Cut(0)
	until(t, "the loss is known", func() bool { return n.State()[1].Problem == ProblemLinkDown })
	t.Logf("given up %s after the carrier was taken", time.Since(begin).Round(ms))
	for _, addr := range []netip.Addr{vip4, vip6} {
		client.Run(t, "ip", "neigh", "replace", addr.String(), "lladdr", "02:00:00:00:00:77", "dev",
			"eth0", "nud", "stale")
	}
	begin = time.Now()
	l.Mend(0)
	for _, addr := range []netip.Addr{vip4, vip6} {
		until(t, "the client's entry for "+addr.String()+" moves back", func() bool {
			return strings.Contains(neighbour(t, client, addr), macOf(t, "eth0"))
		})
	}
	t.Logf("a client has learnt %s after the carrier was given back", time.Since(begin).Round(ms))
}

// TestAFlapTooQuickToSee sets the link down and up again before a snapshot of the
// links can be taken: the sockets tell.
func TestAFlapTooQuickToSee(t *testing.T) {
	netnstest.Require(t, "ndisc6")
	_, client := stage(t)
	n := startNode(t, Config{BurstCount: 1, RefreshInterval: -1})
	n.announce(t, "eth0", vip4, vip6)
	netnstest.Local().Run(t, "sh", "-c", "printf 'link set eth0 down\nlink set eth0 up\n' | ip -batch -")
	until(t, "both are announced again", func() bool { return total(n.Stats()).Bursts == 4 })
	if out, err := ndisc(client, vip6); err != nil {
		t.Errorf("not answered: %s", out)
	}
}

func TestThousandsOfAddressesOnOneLink(t *testing.T) {
	netnstest.Require(t, "arping", "ndisc6")
	const count = 2000
	_, client := stage(t)
	n := startNode(t, Config{BurstCount: 1})
	four, six := netip.MustParseAddr("10.0.0.0"), netip.MustParseAddr("2001:db8:1::")
	begin := time.Now()
	for range count {
		n.Set(four, on("eth0"))
		n.Set(six, on("eth0"))
		// Every other address, so that no two are one range of the filter.
		four, six = four.Next().Next(), six.Next().Next()
	}
	n.waitLive(t)
	t.Logf("%d IPv4 and %d IPv6 addresses announced after %s",
		count, count, time.Since(begin).Round(time.Millisecond))
	for _, addr := range []string{"10.0.0.0", "10.0.15.158"} {
		if out, err := arping(client, netip.MustParseAddr(addr), "-D"); err == nil {
			t.Errorf("%s is not answered: %s", addr, out)
		}
	}
	for _, addr := range []string{"2001:db8:1::2", "2001:db8:1::f9e"} {
		if out, err := ndisc(client, netip.MustParseAddr(addr)); err != nil {
			t.Errorf("%s is not answered: %s", addr, out)
		}
	}
	joined := strings.Count(netnstest.Local().Run(t, "ip", "-6", "maddress", "show", "dev",
		"eth0"), "ff02::1:ff00:")
	if joined < count {
		t.Errorf("%d groups are joined, want %d at least", joined, count)
	}
}

func TestSmallOptionMemoryIsEnough(t *testing.T) {
	netnstest.Require(t)
	stage(t)
	if _, err := netnstest.Local().Try("sh", "-c", "echo 20480 > /proc/sys/net/core/optmem_max"); err != nil {
		t.Skip("net.core.optmem_max is not per namespace before Linux 6.9")
	}
	t.Cleanup(func() { netnstest.Local().Run(t, "sh", "-c", "echo 131072 > /proc/sys/net/core/optmem_max") })
	n := startNode(t, Config{BurstCount: 1})
	const maxRanges = 128 // of a filter, see package neighbor
	// The largest filter, twice, with the constants that take most space.
	for i := range 4 * maxRanges {
		n.Set(netip.AddrFrom4([4]byte{203, byte(i >> 7), byte(i << 1), 1}), on("eth0"))
		n.Set(
			netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 13: 0xf0, 14: byte(i >> 7), 15: byte(i << 1)}),
			on("eth0"),
		)
		if i == 2*maxRanges {
			n.waitLive(t)
		}
	}
	n.waitLive(t)
	if failures := total(n.Stats()).Failures; failures > 0 {
		t.Errorf("%d failures", failures)
	}
}
