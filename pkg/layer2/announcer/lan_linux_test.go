package announcer

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-lb/berth/internal/netnstest"
	"github.com/berth-lb/berth/pkg/layer2/links"
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
		chosen, why := links.Choose(addr, n.watcher.Links(), links.Selection{})
		if why != links.LinksBySubnet {
			return string(why)
		}
		var names []string
		for _, l := range chosen {
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
			t.Errorf("%s: %s answers as %v, want %s alone (%v)\n%s",
				step.story, vip4, answers, macOf(t, step.want), err, out)
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
			return strings.Contains(
				netnstest.Local().Run(t, "ip", "-d", "link", "show", "eth0"),
				"promiscuity "+want+" ",
			)
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
