package layer2

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/internal/netnstest"
)

// TestTwoLinksInOneSubnet: a node has two ports on one switch. Who asks for an
// address gets one answer, of the link that the node's route leads out of.
func TestTwoLinksInOneSubnet(t *testing.T) {
	netnstest.Require(t, "arping")
	l := netnstest.NewLAN(t)
	l.Attach(netnstest.Local(), "eth0", "192.0.2.7/24", "2001:db8::7/64")
	l.Attach(netnstest.Local(), "eth1", "192.0.2.8/24", "2001:db8::8/64")
	client := l.Attach(netnstest.NewHost(t, "client"), "eth0", "192.0.2.9/24", "2001:db8::9/64")
	n := startNode(t, Config{})
	ip := func(args ...string) { netnstest.Local().Run(t, "ip", args...) }
	chosen := func(addr netip.Addr) string {
		links, why := Choose(addr, n.watcher.Links(), Selection{})
		if why != LinksBySubnet {
			return string(why)
		}
		var names []string
		for _, l := range links {
			names = append(names, l.Name)
		}
		return strings.Join(names, " ")
	}
	for _, step := range []struct {
		story string
		do    func()
		want  string
	}{
		{"the kernel's first route counts", func() {}, "eth0"},
		{"routes with a lower metric come first", func() {
			for _, r := range []string{"192.0.2.0/24", "2001:db8::/64"} {
				ip("route", "del", r, "dev", "eth0")
				ip("route", "add", r, "dev", "eth0", "metric", "300")
			}
			// What a DHCP client does next: news of an address.
			ip("address", "add", "198.51.100.8/32", "dev", "eth1")
		}, "eth1"},
		{"the link with the route has lost its carrier", func() { l.Cut(1) }, "eth0"},
	} {
		step.do()
		for _, addr := range []netip.Addr{vip4, vip6} {
			until(t, step.story, func() bool { return chosen(addr) == step.want })
		}
		n.announce(t, step.want, vip4)
		out, err := client.Try("arping", "-c2", "-w3", "-I", "eth0", vip4.String())
		answers := map[string]bool{}
		for _, line := range strings.Split(strings.ToLower(out), "\n") {
			if _, mac, found := strings.Cut(line, "["); found {
				answers[strings.SplitN(mac, "]", 2)[0]] = true
			}
		}
		if err != nil || len(answers) != 1 || !answers[macOf(t, step.want)] {
			t.Errorf("%s: %s answers as %v, want %s alone (%v)\n%s", step.story, vip4, answers, macOf(t, step.want), err, out)
		}
	}
}

// TestALANThatIsLostWithItsCarrierUp: a node's port at the switch is put elsewhere,
// and its link stays up. It is silent there, and others are not; who is put
// elsewhere itself says nothing of them.
func TestALANThatIsLostWithItsCarrierUp(t *testing.T) {
	netnstest.Require(t)
	l := netnstest.NewLAN(t)
	l.Attach(netnstest.Local(), "eth0", "192.0.2.1/24", "2001:db8::1/64")
	two := l.Attach(netnstest.NewHost(t, "two"), "eth0", "192.0.2.2/24", "2001:db8::2/64")
	three := l.Attach(netnstest.NewHost(t, "three"), "eth0", "192.0.2.3/24", "2001:db8::3/64")
	p := startProber(t, ProberConfig{Interval: 50 * time.Millisecond})
	p.SetTargets([]Target{
		{Node: "two", Link: "eth0", On: "svc0", Addr: netip.MustParseAddr("192.0.2.2"), MAC: hardwareAddr(t, two)},
		{Node: "two", Link: "eth0", On: "svc0", Addr: netip.MustParseAddr("2001:db8::2"), MAC: hardwareAddr(t, two)},
		{Node: "three", Link: "eth0", On: "svc0", Addr: netip.MustParseAddr("192.0.2.3"), MAC: hardwareAddr(t, three)},
	})
	port := func(n string, master ...string) {
		l.Switch().Run(t, "ip", append([]string{"link", "set", n}, master...)...)
	}
	expect := func(story string, silent []string, doubtful bool) {
		t.Helper()
		until(t, story, func() bool {
			r := p.LinkReach()
			return slices.Equal(r.Silent["two"], silent) && len(r.Silent["three"]) == 0 && (len(r.Doubtful) > 0) == doubtful
		})
	}
	until(t, "both answer", func() bool { return len(p.LinkReach().Answers) == 2 })
	port("port1", "nomaster")
	expect("two has lost the LAN", []string{"svc0"}, true)
	port("port1", "master", "br0")
	expect("two is back", nil, false)
	port("port0", "nomaster")
	until(t, "this node hears nobody", func() bool { return p.Reach()["two"].State == Silent && p.Reach()["three"].State == Silent })
	expect("this node has lost the LAN", nil, true)
	port("port0", "master", "br0")
	expect("this node is back", nil, false)
}
