package gobgp

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/berth-lb/berth/internal/netnstest"
	"github.com/berth-lb/berth/pkg/bgp"
)

// Addresses of the tests' network: the speaker's node, and the router.
const (
	node4, node6     = "10.9.0.1", "2001:db8:9::1"
	router4, router6 = "10.9.0.2", "2001:db8:9::2"
)

func network(t *testing.T) *netnstest.Host {
	t.Helper()
	lan := netnstest.NewLAN(t)
	lan.Attach(netnstest.Local(), "eth0", node4+"/24", node6+"/64")
	return lan.Attach(netnstest.NewHost(t, "router"), "eth0", router4+"/24", router6+"/64")
}

// tor is the router as the speaker's peer.
func tor(change func(*bgp.Peer)) bgp.Peer {
	p := bgp.Peer{
		Name:      "tor",
		LocalASN:  64512,
		PeerASN:   64513,
		RouterID:  netip.MustParseAddr("1.1.1.1"),
		Address:   netip.MustParseAddr(router4),
		Port:      179,
		Hold:      9 * time.Second,
		Keepalive: 3 * time.Second,
		Connect:   time.Second,
		Families:  bgp.IPv4,
		Offer:     bgp.Offer{ExtendedMessage: true},
	}
	if change != nil {
		change(&p)
	}
	return p
}

// route makes a route from a prefix and communities.
func route(prefix string, change func(*bgp.Attributes), communities ...string) bgp.Route {
	r := bgp.Route{Prefix: netip.MustParsePrefix(prefix)}
	for _, text := range communities {
		c, err := bgp.ParseCommunity(text)
		if err != nil {
			panic(err)
		}
		r.Communities = append(r.Communities, c)
	}
	r.Communities = bgp.Unite(r.Communities)
	if change != nil {
		change(&r.Attributes)
	}
	return r
}

// to is a state with one peer.
func to(p bgp.Peer, routes ...bgp.Route) []bgp.Desired {
	return []bgp.Desired{{Peer: p, Routes: routes}}
}

// speak runs a Speaker until the test ends or stop is called. Its attempts give up
// soon, so that a router that is not ready yet is tried again soon.
func speak(t *testing.T, c Config, desired []bgp.Desired) (s *Speaker, stop func()) {
	t.Helper()
	return speakWithin(t, c, desired, time.Second)
}

// speakPatiently is speak for a router of the test, which is always ready: however
// busy the machine is, no attempt at a session gives up.
func speakPatiently(t *testing.T, c Config, desired []bgp.Desired) (s *Speaker, stop func()) {
	t.Helper()
	return speakWithin(t, c, desired, time.Minute)
}

func speakWithin(
	t *testing.T, c Config, desired []bgp.Desired, most time.Duration,
) (s *Speaker, stop func()) {
	t.Helper()
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	}
	s = New(c)
	s.shared.connecting, s.shared.opening = most, most
	s.Set(desired, true)
	return s, runUntilTheEnd(t, s)
}

// runUntilTheEnd runs a Speaker until the test ends or stop is called.
func runUntilTheEnd(t *testing.T, s *Speaker) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// testWriter shows log lines with the test.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// session is the state of one peer's session.
func sessionOf(s *Speaker, name string) bgp.Session {
	for _, one := range s.State() {
		if one.Peer == name {
			return one
		}
	}
	return bgp.Session{}
}

func up(t *testing.T, s *Speaker, name string) bgp.Session {
	t.Helper()
	eventually(t, "the session is established",
		func() bool { return sessionOf(s, name).State == bgp.SessionEstablished })
	return sessionOf(s, name)
}

// sees waits until the router has a route as wanted.
func sees(t *testing.T, r router, prefix string, want seen) {
	t.Helper()
	var got seen
	var diff string
	deadline := time.Now().Add(15 * time.Second)
	for {
		var there bool
		got, there = r.route(t, prefix)
		slices.Sort(got.communities)
		slices.Sort(want.communities)
		diff = cmp.Diff(want, got, cmp.AllowUnexported(seen{}))
		if there && diff == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s (there: %v): -want +got:\n%s", prefix, there, diff)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func gone(t *testing.T, r router, prefix string) {
	t.Helper()
	eventually(t, prefix+" is withdrawn", func() bool { _, there := r.route(t, prefix); return !there })
}

func TestAttributesAndBothFamilies(t *testing.T) {
	each(t, func(t *testing.T, r router) {
		r.start(t, network(t), wanted{asn: 64513, peerASN: 64512, peer: node4})
		p := tor(func(p *bgp.Peer) { p.Families = bgp.DualStack })
		full := func(a *bgp.Attributes) { a.MED, a.HasMED, a.Prepend = 50, true, 2 }
		s, _ := speak(t, Config{}, to(p,
			route("192.0.2.1/32", full, "65000:100", "large:64512:1:2", "rt:64512:7", "no-export"),
			route("198.51.100.0/24", nil),
			route("2001:db8::1/128", nil, "65000:1")))
		up(t, s, "tor")
		eventually(t, "the routes are counted", func() bool { return sessionOf(s, "tor").Advertised6 == 1 })
		view := sessionOf(s, "tor")
		if view.Families != bgp.DualStack || view.Hold != 9*time.Second || view.PeerASN != 64513 ||
			view.Advertised4 != 2 || view.MD5 {
			t.Errorf("the state is %+v", view)
		}
		pref := 100 // what BIRD assumes of external routes
		names := []string{"65000:100", "65535:65281", "64512:1:2", "rt:64512:7"}
		if isFRR(r) {
			names, pref = []string{"65000:100", "no-export", "64512:1:2", "RT:64512:7"}, -1
		}
		sees(t, r, "192.0.2.1/32", seen{
			hop:         node4,
			path:        "64512 64512 64512",
			pref:        pref,
			med:         50,
			communities: names,
		})
		sees(t, r, "198.51.100.0/24", seen{hop: node4, path: "64512", pref: pref, med: -1})
		sees(t, r, "2001:db8::1/128", seen{
			hop:         node6,
			path:        "64512",
			pref:        pref,
			med:         -1,
			communities: []string{"65000:1"},
		})
		s.Set(to(p, route("198.51.100.0/24", nil, "65000:2"), route("203.0.113.9/32", nil)), true)
		sees(t, r, "203.0.113.9/32", seen{hop: node4, path: "64512", pref: pref, med: -1})
		sees(t, r, "198.51.100.0/24", seen{
			hop:         node4,
			path:        "64512",
			pref:        pref,
			med:         -1,
			communities: []string{"65000:2"},
		})
		gone(t, r, "192.0.2.1/32")
		gone(t, r, "2001:db8::1/128")
	})
}

func TestInternalPeers(t *testing.T) {
	each(t, func(t *testing.T, r router) {
		r.start(t, network(t), wanted{asn: 4200000001, peerASN: 4200000001, peer: node4})
		p := tor(func(p *bgp.Peer) { p.LocalASN, p.PeerASN = 4200000001, 4200000001 })
		s, _ := speak(t, Config{}, to(p,
			route("192.0.2.1/32",
				func(a *bgp.Attributes) { a.LocalPref, a.Prepend, a.MED, a.HasMED = 300, 3, 0, true }),
			route("192.0.2.2/32", nil)))
		up(t, s, "tor")
		sees(t, r, "192.0.2.1/32", seen{hop: node4, pref: 300, med: 0})
		sees(t, r, "192.0.2.2/32", seen{hop: node4, pref: 100, med: -1})
	})
}

func TestBothFamiliesOverIPv6(t *testing.T) {
	each(t, func(t *testing.T, r router) {
		r.start(t, network(t), wanted{asn: 64513, peerASN: 64512, peer: node6, plain4: true})
		s, _ := speak(t, Config{},
			to(tor(func(p *bgp.Peer) { p.Address, p.Families = netip.MustParseAddr(router6), bgp.DualStack }),
				route("192.0.2.1/32", nil), route("2001:db8::1/128", nil)))
		up(t, s, "tor")
		pref := 100
		if isFRR(r) {
			pref = -1
		}
		// The link has an IPv4 address, which also routers take that know no other.
		sees(t, r, "192.0.2.1/32", seen{hop: node4, path: "64512", pref: pref, med: -1})
		sees(t, r, "2001:db8::1/128", seen{hop: node6, path: "64512", pref: pref, med: -1})
	})
}

// agreement is terms of a session, and what becomes of it.
type agreement struct {
	story  string
	router wanted
	change func(*bgp.Peer)
	says   string // "" when there is a session
}

func TestWhoIsWho(t *testing.T) {
	agree(t, []agreement{
		{"AS numbers of four octets", wanted{asn: 4200000002, peerASN: 4200000001, peer: node4},
			func(p *bgp.Peer) { p.LocalASN, p.PeerASN = 4200000001, 4200000002 }, ""},
		{"any external AS number", wanted{asn: 4200000002, peerASN: 64512, peer: node4},
			func(p *bgp.Peer) { p.PeerASN = 0 }, ""},
		{"our own is not external", wanted{asn: 64512, peerASN: 64512, peer: node4},
			func(p *bgp.Peer) { p.PeerASN = 0 }, "bad peer AS"},
		{"another AS number than wanted", wanted{asn: 64514, peerASN: 64512, peer: node4}, nil,
			"told the router: OPEN error: bad peer AS (it is AS 64514, and the peer is to be AS 64513)"},
		{"the router wants another", wanted{asn: 64513, peerASN: 64999, peer: node4}, nil,
			"the router says: OPEN error: bad peer AS"},
		{"from another address, several hops away",
			wanted{asn: 64513, peerASN: 64512, peer: "10.9.0.77", multihop: true},
			func(p *bgp.Peer) { p.Source, p.Multihop = netip.MustParseAddr("10.9.0.77"), true }, ""},
		{"a router that holds no session for ever", wanted{asn: 64513, peerASN: 64512, peer: node4, hold: 9},
			func(p *bgp.Peer) { p.Hold, p.Keepalive = 0, 0 }, ""},
	})
}

func TestWhoConnectsAndHow(t *testing.T) {
	agree(t, []agreement{
		{"a router that connects", wanted{asn: 64513, peerASN: 64512, peer: node4, passive: true},
			func(p *bgp.Peer) { p.Passive = true }, ""},
		{"one with a password", wanted{asn: 64513, peerASN: 64512, peer: node4, passive: true, password: "x"},
			func(p *bgp.Peer) { p.Passive, p.Password = true, bgp.NewPassword("x") }, ""},
		{"GTSM on both sides", wanted{asn: 64513, peerASN: 64512, peer: node4, gtsm: true},
			func(p *bgp.Peer) { p.TTLSecurity = 1 }, ""},
		{"GTSM on both sides, passive", wanted{
			asn:     64513,
			peerASN: 64512,
			peer:    node4,
			gtsm:    true,
			passive: true,
		},
			func(p *bgp.Peer) { p.TTLSecurity, p.Passive = 1, true }, ""},
		{"GTSM on this side only", wanted{asn: 64513, peerASN: 64512, peer: node4},
			func(p *bgp.Peer) { p.TTLSecurity = 1 }, "has not opened a session"},
	})
}

// agree tries which terms lead to a session.
func agree(t *testing.T, terms []agreement) {
	t.Helper()
	for _, test := range terms {
		t.Run(test.story, func(t *testing.T) {
			each(t, func(t *testing.T, r router) {
				h := network(t)
				netnstest.Local().Run(t, "ip", "address", "add", "10.9.0.77/24", "dev", "eth0")
				r.start(t, h, test.router)
				p := tor(test.change)
				s, _ := speak(t, Config{}, to(p, route("192.0.2.1/32", nil)))
				if test.says != "" {
					eventually(t, "the failure is told in words: "+test.says,
						func() bool { return strings.Contains(sessionOf(s, "tor").LastError, test.says) })
					if r.established(t) {
						t.Error("there is a session")
					}
					return
				}
				view := up(t, s, "tor")
				eventually(t, "the route is there",
					func() bool { _, there := r.route(t, "192.0.2.1/32"); return there })
				if p.Hold == 0 && view.Hold != 0 || view.MD5 != p.Password.Set() ||
					view.PeerASN != test.router.asn || view.Local.String() != test.router.peer {
					t.Errorf("the state is %+v", view)
				}
			})
		})
	}
}

func TestPasswords(t *testing.T) {
	each(t, func(t *testing.T, r router) {
		const right, wrong = "geheim-right", "geheim-wrong"
		r.start(t, network(t), wanted{asn: 64513, peerASN: 64512, peer: node4, password: right})
		var logged strings.Builder
		s := New(Config{Logger: slog.New(slog.NewJSONHandler(&logged,
			&slog.HandlerOptions{Level: slog.LevelDebug}))})
		with := func(password string) []bgp.Desired {
			return to(tor(func(p *bgp.Peer) {
				p.Password = bgp.NewPassword(password)
			}), route("192.0.2.1/32", nil))
		}
		s.shared.connecting = time.Second
		s.Set(with(wrong), true)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()
		told := ""
		eventually(t, "the failure is told",
			func() bool { told = sessionOf(s, "tor").LastError; return told != "" })
		if !strings.Contains(told, "has it the same password?") || r.established(t) {
			t.Errorf("with the wrong password: %q", told)
		}
		s.Set(with(right), true)
		if view := up(t, s, "tor"); !view.MD5 {
			t.Error("the connection is not authenticated")
		}
		eventually(t, "the route is there",
			func() bool { _, there := r.route(t, "192.0.2.1/32"); return there })
		cancel()
		<-done
		if strings.Contains(logged.String()+told, "geheim") {
			t.Errorf("a password is told: %s %s", told, logged.String())
		}
	})
}

func TestUnnumbered(t *testing.T) {
	each(t, func(t *testing.T, r router) {
		lan := netnstest.NewLAN(t)
		// The switch would be a host on the link, too.
		lan.Switch().Run(t, "sh", "-c",
			"for c in all default; do echo 1 > /proc/sys/net/ipv6/conf/$c/disable_ipv6; done")
		lan.Attach(netnstest.Local(), "eth0")
		h := lan.Attach(netnstest.NewHost(t, "router"), "eth0")
		r.start(t, h, wanted{asn: 64513, peerASN: 64512, peer: "eth0"})
		s, _ := speak(t, Config{}, to(tor(func(p *bgp.Peer) {
			p.Address, p.Interface, p.Families = netip.Addr{}, "eth0", bgp.DualStack
		}), route("192.0.2.1/32", nil), route("2001:db8::1/128", nil)))
		up(t, s, "tor")
		eventually(t, "the routes are counted", func() bool { return sessionOf(s, "tor").Advertised6 == 1 })
		if view := sessionOf(s, "tor"); view.Advertised4 != 1 || view.Advertised6 != 1 ||
			view.Withheld != "" {
			t.Errorf("the state is %+v", view)
		}
		own := linkLocal(t, netnstest.Local(), "eth0")
		for _, prefix := range []string{"192.0.2.1/32", "2001:db8::1/128"} {
			eventually(t, prefix+" has the link-local next hop "+own,
				func() bool { got, there := r.route(t, prefix); return there && got.hop == own })
		}
	})
}

func TestARouterWithoutIPv6NextHops(t *testing.T) {
	all := routers(t)
	if all["BIRD"] == nil {
		t.Skip("needs Debian package bird2")
	}
	lan := netnstest.NewLAN(t)
	lan.Attach(netnstest.Local(), "eth0", node6+"/64")
	h := lan.Attach(netnstest.NewHost(t, "router"), "eth0", router6+"/64")
	r := all["BIRD"]()
	r.start(t, h, wanted{asn: 64513, peerASN: 64512, peer: node6, plain4: true})
	s, _ := speak(t, Config{},
		to(tor(func(p *bgp.Peer) { p.Address, p.Families = netip.MustParseAddr(router6), bgp.DualStack }),
			route("192.0.2.1/32", nil), route("2001:db8::1/128", nil)))
	up(t, s, "tor")
	eventually(t, "the routes are counted", func() bool { return sessionOf(s, "tor").Advertised6 == 1 })
	if view := sessionOf(s, "tor"); view.Advertised4 != 0 || view.Advertised6 != 1 ||
		!strings.Contains(view.Withheld, "RFC 8950") {
		t.Errorf("the state is %+v", view)
	}
	sees(t, r, "2001:db8::1/128", seen{hop: node6, path: "64512", pref: 100, med: -1})
}

// TestNextHopsOfTheNode: where the link has no IPv6 address, IPv6 routes of an
// IPv4 session have the node's, also when that changes.
func TestNextHopsOfTheNode(t *testing.T) {
	each(t, func(t *testing.T, r router) {
		lan := netnstest.NewLAN(t)
		lan.Attach(netnstest.Local(), "eth0", node4+"/24")
		r.start(t, lan.Attach(netnstest.NewHost(t, "router"), "eth0", router4+"/24", router6+"/64"),
			wanted{asn: 64513, peerASN: 64512, peer: node4})
		with := func(hop netip.Addr) []bgp.Desired {
			return to(tor(func(p *bgp.Peer) {
				p.Families = bgp.DualStack
				p.NextHop6 = hop
			}), route("2001:db8::1/128", nil), route("192.0.2.1/32", nil))
		}
		s, _ := speak(t, Config{}, with(netip.Addr{}))
		up(t, s, "tor")
		eventually(t, "it is told that routes are withheld",
			func() bool { return strings.Contains(sessionOf(s, "tor").Withheld, "no IPv6 address") })
		for _, hop := range []string{"2001:db8:9::8", "2001:db8:9::9"} {
			s.Set(with(netip.MustParseAddr(hop)), true)
			eventually(t, "the next hop is "+hop,
				func() bool { got, there := r.route(t, "2001:db8::1/128"); return there && got.hop == hop })
		}
		s.Set(with(netip.Addr{}), true)
		gone(t, r, "2001:db8::1/128")
		if _, there := r.route(t, "192.0.2.1/32"); !there {
			t.Error("the other route went too")
		}
	})
}

func TestGracefulRestart(t *testing.T) {
	each(t, func(t *testing.T, r router) {
		r.start(t, network(t), wanted{
			asn:       64513,
			peerASN:   64512,
			peer:      node4,
			restart:   true,
			longLived: true,
		})
		p := tor(func(p *bgp.Peer) { p.GracefulRestart, p.LongLived = time.Minute, time.Hour })
		both := to(p, route("192.0.2.1/32", nil), route("192.0.2.2/32", nil))
		s, stop := speak(t, Config{}, both)
		if view := up(t, s, "tor"); !view.GracefulRestart {
			t.Errorf("the state is %+v", view)
		}
		eventually(t, "both routes are there", func() bool { return r.count(t, false) == 2 })
		stop()
		eventually(t, "the router keeps the routes", func() bool { return r.keeps(t) })

		again := New(Config{Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil)), Restarting: true})
		again.Set(to(p), false)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); again.Run(ctx) }()
		defer func() { cancel(); <-done }()
		eventually(t, "the session waits for the rest",
			func() bool { return sessionOf(again, "tor").State == bgp.SessionHeld })
		again.Set(to(p, route("192.0.2.1/32", nil)), false)
		if n := r.count(t, false); n != 2 || !r.keeps(t) {
			t.Errorf("%d routes are there before all is known", n)
		}
		again.Set(to(p, route("192.0.2.1/32", nil)), true)
		lost := false
		eventually(t, "what is not announced again goes", func() bool {
			if _, there := r.route(t, "192.0.2.1/32"); !there {
				lost = true
			}
			return r.count(t, false) == 1
		})
		up(t, again, "tor")
		if lost || r.keeps(t) {
			t.Errorf(
				"the route that was announced again was lost in between: %v, routes are still only kept: %v",
				lost, r.keeps(t),
			)
		}

		// The connection is lost, and no speaker has restarted. Forwarding goes on.
		since := sessionOf(again, "tor").Since
		r.reconnect(t)
		eventually(t, "there is a new session", func() bool {
			v := sessionOf(again, "tor")
			return v.State == bgp.SessionEstablished && v.Since.After(since) && r.established(t)
		})
		eventually(t, "the route is there", func() bool { return r.count(t, false) == 1 })
	})
}

func TestLeaving(t *testing.T) {
	each(t, func(t *testing.T, r router) {
		r.start(t, network(t), wanted{asn: 64513, peerASN: 64512, peer: node4, restart: true})
		p := tor(func(p *bgp.Peer) { p.GracefulShutdown, p.GracefulRestart = 2*time.Second, time.Minute })
		before := goleak.IgnoreCurrent()
		s, stop := speak(t, Config{}, to(p, route("192.0.2.1/32", nil, "65000:1")))
		up(t, s, "tor")
		eventually(t, "the route is there", func() bool { return r.count(t, false) == 1 })
		left := make(chan struct{})
		go func() { defer close(left); s.Leave(t.Context()) }()
		eventually(t, "the router is asked to avoid the route", func() bool {
			got, _ := r.route(t, "192.0.2.1/32")
			return slices.Contains(got.communities, "graceful-shutdown") ||
				slices.Contains(got.communities, "65535:0")
		})
		if !r.established(t) {
			t.Error("the session ended before the time was over")
		}
		<-left
		eventually(t, "the route is withdrawn, and not kept", func() bool { return r.count(t, false) == 0 })
		eventually(t, "the router has heard why", func() bool {
			heard := strings.ToLower(r.heard(t))
			return strings.Contains(heard, "administrative shutdown") || strings.Contains(heard, "hard reset")
		})
		if len(s.State()) != 0 {
			t.Errorf("there are still sessions: %+v", s.State())
		}
		stop()
		goleak.VerifyNone(t, before)
	})
}

// TestLeavingOneAddress: a node that is drained leaves addresses one by one, and
// the session and the other routes stay as they are.
func TestLeavingOneAddress(t *testing.T) {
	each(t, func(t *testing.T, r router) {
		r.start(t, network(t), wanted{asn: 64512, peerASN: 64512, peer: node4})
		peers := []bgp.Peer{tor(func(p *bgp.Peer) { p.PeerASN, p.GracefulShutdown = 64512, time.Minute })}
		ads := []*bgp.Advertisement{{Name: "a", Length4: 32, Length6: 128, LocalPref: 200}}
		one := bgp.Address{Address: netip.MustParseAddr("192.0.2.1"), Advertisements: ads}
		two := bgp.Address{Address: netip.MustParseAddr("192.0.2.2"), Advertisements: ads}
		now := time.Now()
		s, _ := speak(t, Config{}, bgp.Plan(now, peers, []bgp.Address{one, two}).Desired)
		since := up(t, s, "tor").Since
		handed := func(serial uint64) {
			t.Helper()
			eventually(t, fmt.Sprintf("state %d is handed to the session", serial), func() bool {
				is := sessionOf(s, "tor")
				return is.Handed == serial && !is.HandedAt.Before(now)
			})
		}
		pref := func(prefix string) string {
			got, _ := r.route(t, prefix)
			return fmt.Sprint(got.pref, got.communities)
		}
		eventually(t, "both routes are there", func() bool { return r.count(t, false) == 2 })
		plain := pref("192.0.2.2/32")

		one.LeavingSince = now
		plan := bgp.Plan(now, peers, []bgp.Address{one, two})
		handed(s.Set(plan.Desired, true))
		eventually(t, "the router is asked to avoid the route", func() bool {
			got, _ := r.route(t, "192.0.2.1/32")
			return slices.Contains(got.communities, "graceful-shutdown") ||
				slices.Contains(got.communities, "65535:0")
		})
		if got := pref("192.0.2.2/32"); got != plain {
			t.Errorf("the other route is %s, and was %s", got, plain)
		}

		handed(s.Set(bgp.Plan(plan.Again, peers, []bgp.Address{one, two}).Desired, true))
		gone(t, r, "192.0.2.1/32")
		one.LeavingSince = time.Time{}
		s.Set(bgp.Plan(now, peers, []bgp.Address{one, two}).Desired, true)
		eventually(t, "the route is back as it was", func() bool { return pref("192.0.2.1/32") == plain })
		if is := sessionOf(s, "tor"); !is.Since.Equal(since) {
			t.Error("the session was reset")
		}
	})
}

func TestWeights(t *testing.T) {
	each(t, func(t *testing.T, r router) {
		r.start(t, network(t), wanted{asn: 64513, peerASN: 4200000001, peer: node4})
		p := tor(func(p *bgp.Peer) { p.LocalASN = 4200000001 })
		plan := bgp.Plan(time.Now(), []bgp.Peer{p},
			[]bgp.Address{{
				Address:   netip.MustParseAddr("192.0.2.1"),
				Endpoints: 3,
				Advertisements: []*bgp.Advertisement{{
					Name:    "a",
					Length4: 32,
					Length6: 128,
					Weight:  true,
				}},
			}}).Desired
		s, _ := speak(t, Config{}, plan)
		up(t, s, "tor")
		var got seen
		eventually(t, "the route is there",
			func() bool { var there bool; got, there = r.route(t, "192.0.2.1/32"); return there })
		// 3 endpoints of 10 MB/s each, of AS_TRANS.
		if text := strings.Join(got.communities, " "); !strings.Contains(text, "LB:23456:30000000") &&
			!strings.Contains(text, "0x4004:23456:1273291200") {
			t.Errorf("the weight does not arrive: %q", text)
		}
	})
}

// TestOnlyWhatChangedBeginsAnew: of two sessions only the one whose terms
// change is reset, and a router that does not answer delays nobody.
func TestOnlyWhatChangedBeginsAnew(t *testing.T) {
	each(t, func(t *testing.T, r router) {
		lan := netnstest.NewLAN(t)
		lan.Attach(netnstest.Local(), "eth0", node4+"/24")
		r.start(t, lan.Attach(netnstest.NewHost(t, "router"), "eth0", router4+"/24"),
			wanted{asn: 64513, peerASN: 64512, peer: node4})
		second := routers(t)[map[bool]string{true: "FRR", false: "BIRD"}[isFRR(r)]]()
		second.start(t, lan.Attach(netnstest.NewHost(t, "router2"), "eth0", "10.9.0.3/24"),
			wanted{asn: 64513, peerASN: 64512, peer: node4})
		dead := tor(func(p *bgp.Peer) { p.Name, p.Address = "dead", netip.MustParseAddr("10.9.0.9") })
		other := tor(func(p *bgp.Peer) { p.Name, p.Address = "other", netip.MustParseAddr("10.9.0.3") })
		routes := []bgp.Route{route("192.0.2.1/32", nil)}
		state := func(hold time.Duration) []bgp.Desired {
			return []bgp.Desired{{Peer: dead, Routes: routes}, {Peer: other, Routes: routes},
				{Peer: tor(func(p *bgp.Peer) { p.Hold = hold }), Routes: routes}}
		}
		s, _ := speak(t, Config{}, state(9*time.Second))
		before := map[string]bgp.Session{"tor": up(t, s, "tor"), "other": up(t, s, "other")}
		s.Set(state(12*time.Second), true)
		eventually(t, "the one whose hold time changed is reset", func() bool {
			v := sessionOf(s, "tor")
			return v.State == bgp.SessionEstablished && v.Hold == 12*time.Second
		})
		if v := sessionOf(s, "other"); v.Since != before["other"].Since || v.State != bgp.SessionEstablished {
			t.Errorf("the other one began anew too: %+v", v)
		}
		if v := sessionOf(s, "dead"); v.State != bgp.SessionConnecting {
			t.Errorf("the dead router: %+v", v)
		}
		s.Set(state(12 * time.Second)[:2], true)
		eventually(t, "a peer that is gone has no session",
			func() bool { return len(s.State()) == 2 && !r.established(t) })
	})
}

func isFRR(r router) bool { _, is := r.(*frr); return is }
