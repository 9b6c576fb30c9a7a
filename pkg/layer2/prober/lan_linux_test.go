package prober

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/berth-lb/berth/internal/netnstest"
)

// TestALANThatIsLostWithItsCarrierUp: a node's port at the switch is put elsewhere,
// and its link stays up. It is silent there, and others are not; who is put
// elsewhere itself says nothing of them.
func TestALANThatIsLostWithItsCarrierUp(t *testing.T) {
	netnstest.Require(t)
	l := netnstest.NewLAN(t)
	l.Attach(netnstest.Local(), "eth0", "192.0.2.1/24", "2001:db8::1/64")
	two := l.Attach(netnstest.NewHost(t, "two"), "eth0", "192.0.2.2/24", "2001:db8::2/64")
	three := l.Attach(netnstest.NewHost(t, "three"), "eth0", "192.0.2.3/24", "2001:db8::3/64")
	p := startProber(t, Config{Interval: 50 * time.Millisecond})
	p.SetTargets([]Target{
		{
			Node: "two",
			Link: "eth0",
			On:   "svc0",
			Addr: netip.MustParseAddr("192.0.2.2"),
			MAC:  hardwareAddr(t, two),
		},
		{
			Node: "two",
			Link: "eth0",
			On:   "svc0",
			Addr: netip.MustParseAddr("2001:db8::2"),
			MAC:  hardwareAddr(t, two),
		},
		{
			Node: "three",
			Link: "eth0",
			On:   "svc0",
			Addr: netip.MustParseAddr("192.0.2.3"),
			MAC:  hardwareAddr(t, three),
		},
	})
	port := func(n string, master ...string) {
		l.Switch().Run(t, "ip", append([]string{"link", "set", n}, master...)...)
	}
	expect := func(story string, silent []string, suspect bool) {
		t.Helper()
		until(t, story, func() bool {
			r := p.LinkReach()
			return slices.Equal(r.Silent["two"], silent) && len(r.Silent["three"]) == 0 &&
				(len(r.Suspect) > 0) == suspect
		})
	}
	until(t, "both answer", func() bool { return len(p.LinkReach().Answers) == 2 })
	port("port1", "nomaster")
	expect("two has lost the LAN", []string{"svc0"}, true)
	port("port1", "master", "br0")
	expect("two is back", nil, false)
	port("port0", "nomaster")
	until(t, "this node hears nobody", func() bool {
		return p.Reach()["two"].State == Silent && p.Reach()["three"].State == Silent
	})
	expect("this node has lost the LAN", nil, true)
	port("port0", "master", "br0")
	expect("this node is back", nil, false)
}

// TestAskAsHostBehindSuppression: who is behind the port hears a host that asks,
// and no probe.
func TestAskAsHostBehindSuppression(t *testing.T) {
	_, client := suppressed(t)
	p := startProber(t, Config{})
	p.waitLink(t)
	for _, addr := range []netip.Addr{clientOwn4, clientOwn6} {
		probe := Question{Addr: addr, Link: "eth0", Count: 2, Interval: 100 * ms}
		asHost := probe
		asHost.AsHost = true
		if found, err := p.Ask(t.Context(), probe); err != nil || len(found.Holders) > 0 {
			t.Errorf("a probe for %s: %+v, %v", addr, found, err)
		}
		found, err := p.Ask(t.Context(), asHost)
		if err != nil || found.Unsourced || len(found.Holders) != 1 ||
			found.Holders[0].String() != hardwareAddr(t, client).String() {
			t.Errorf("asked as a host for %s: %+v, %v", addr, found, err)
		}
	}
	// The link has no address in this subnet.
	elsewhere := Question{
		Addr:     netip.MustParseAddr("198.51.100.9"),
		Link:     "eth0",
		Count:    1,
		Interval: 10 * ms,
		AsHost:   true,
	}
	if found, err := p.Ask(t.Context(), elsewhere); err != nil || !found.Unsourced {
		t.Errorf("asked where the link has no address: %+v, %v", found, err)
	}
}
