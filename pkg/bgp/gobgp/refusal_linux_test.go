package gobgp

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-lb/berth/pkg/bgp"
)

// TestRoutersThatRefuseCapabilities: each gets a session with what it takes, and
// the state tells what was left out. The next session begins with all again.
func TestRoutersThatRefuseCapabilities(t *testing.T) {
	all := func(p *bgp.Peer) {
		p.Offer = bgp.Offer{ExtendedMessage: true, FQDN: true, SoftwareVersion: true}
		p.GracefulRestart, p.LongLived = time.Minute, time.Hour
	}
	// refusesAll has a router refuse the capabilities of some numbers, all that it is
	// offered at once.
	refusesAll := func(codes ...byte) func([]capability) []byte {
		return func(offered []capability) []byte {
			var named []capability
			for _, c := range offered {
				if strings.Contains(string(codes), string([]byte{c.code})) {
					named = append(named, c)
				}
			}
			if len(named) == 0 {
				return nil
			}
			return refuses(named...)
		}
	}
	for _, test := range []struct {
		story string
		// answers is what the router says to an OPEN, without a header; nil when it
		// takes it.
		answers func(offered []capability) []byte
		mine    []capability // the router's own
		omitted string
		restart bool
		attempt int // that gets the session, counted from 1
	}{
		{"none", func([]capability) []byte { return nil }, []capability{multi4, restarts}, "", true, 1},
		{"the name of the host", refusesAll(capFQDN), []capability{multi4, restarts}, "FQDN", true, 2},
		{"long messages and versions", refusesAll(capExtendedMessage, capSoftwareVersion),
			[]capability{multi4, longMessages, restarts},
			"Extended Message, Software Version", true, 2},
		{"graceful restart", refusesAll(capGracefulRestart), []capability{multi4, restarts},
			"Graceful Restart, Long-Lived Graceful Restart", false, 2},
		{"four-octet AS numbers", refusesAll(capFourOctetAS), []capability{multi4, restarts},
			"Four-octet AS Number", true, 2},
		{"the multiprotocol capability", refusesAll(capMultiprotocol), nil, "Multiprotocol IPv4 unicast",
			false, 2},
		{"one after the other", func(offered []capability) []byte {
			if len(offered) > 4 {
				return refuses(offered[len(offered)-1])
			}
			return nil
		}, []capability{multi4}, "Four-octet AS Number, Graceful Restart, Long-Lived Graceful Restart, " +
			"Extended Next Hop Encoding, " +
			"Software Version", false, 6},
		{"all parameters, as one that knows RFC 1771", func(offered []capability) []byte {
			if len(offered) > 0 {
				return []byte{codeOpen, openParameter}
			}
			return nil
		}, nil, "Route Refresh, FQDN, Extended Message, Multiprotocol IPv4 unicast, Four-octet AS Number, " +
			"Graceful Restart, " +
			"Long-Lived Graceful Restart, Extended Next Hop Encoding, Software Version", false, 2},
	} {
		t.Run(test.story, func(t *testing.T) {
			h := newHandmade(t, "127.9.0.1")
			patient := h.peer("tor",
				func(p *bgp.Peer) { all(p); p.Connect = time.Hour }) // who waits for it waits too long
			s, _ := speakPatiently(t, Config{Software: "Berth/1"}, to(patient, manyRoutes(3, 0)...))
			session := func() (net.Conn, int) {
				for attempt := 1; ; attempt++ {
					c := h.accept()
					offered := h.offered(c)
					if says := test.answers(offered); says != nil {
						_, _ = c.Write(message(typeNotification, says))
						_ = c.Close()
						continue
					}
					_, _ = c.Write(append(ordinaryOpen(t, test.mine...), keepalive()...))
					return c, attempt
				}
			}
			for range 2 {
				c, attempt := session()
				ofRouter := listen(c)
				view := up(t, s, "tor")
				if view.Omitted != test.omitted || view.GracefulRestart != test.restart ||
					attempt != test.attempt ||
					view.Families != bgp.IPv4 {
					t.Errorf("attempt %d: the state is %+v", attempt, view)
				}
				if attempt > 1 != strings.Contains(view.Notification, "OPEN error: unsupported") {
					t.Errorf("the router has said %q", view.Notification)
				}
				eventually(t, "the routes are sent", func() bool { return ofRouter.of(typeUpdate) > 0 })
				_, _ = c.Write(notification(codeCease, 4, "again"))
				_ = c.Close()
				eventually(t, "it is told why", func() bool {
					return strings.Contains(sessionOf(s, "tor").Notification, "again")
				})
			}
		})
	}
}

// offered reads the speaker's OPEN.
func (h *handmade) offered(c net.Conn) []capability {
	h.t.Helper()
	_, m, _, err := readMessage(c, make([]byte, maxLength), false, false)
	if err != nil {
		h.t.Fatal(err)
	}
	list, err := capabilitiesOf(m)
	if err != nil {
		h.t.Fatal(err)
	}
	return list
}

// TestWhatARouterWantsIsTold: a router that wants what it is not offered is not
// tried again at once.
func TestWhatARouterWantsIsTold(t *testing.T) {
	h := newHandmade(t, "127.9.0.1")
	s, _ := speakPatiently(t, Config{}, to(h.peer("tor", nil)))
	start := time.Now()
	for range 3 {
		c := h.accept()
		_ = h.offered(c)
		_, _ = c.Write(message(typeNotification, refuses(multi6)))
		_ = c.Close()
		const want = "the router says: OPEN error: unsupported capability (Multiprotocol IPv6 unicast)"
		eventually(t, "it is told",
			func() bool { return strings.Contains(sessionOf(s, "tor").LastError, want) })
	}
	if took := time.Since(start); took < time.Second {
		t.Errorf("three attempts in %s", took)
	}
}

// TestARouterThatRefusesEverythingIsLoggedOnce: what it refuses is left out, one after
// the other, until nothing can be; then all begins again, for as long as nobody
// changes the router.
func TestARouterThatRefusesEverythingIsLoggedOnce(t *testing.T) {
	h := newHandmade(t, "127.9.0.1")
	logged := &lines{t: t}
	hasty := h.peer("tor", func(p *bgp.Peer) { p.Connect = 10 * time.Millisecond })
	_, stop := speakPatiently(t, Config{Logger: slog.New(slog.NewTextHandler(logged, nil))}, to(hasty))
	var before, full int
	for rounds := 0; rounds < 4; {
		c := h.accept()
		offered := h.offered(c)
		if len(offered) >= full {
			full = len(offered)
			if rounds++; rounds == 2 {
				before = logged.count()
			}
		}
		_, _ = c.Write(message(typeNotification, refuses(offered[max(0, len(offered)-1):]...)))
		_ = c.Close()
	}
	stop()
	if after := logged.count(); before < 3 || after != before {
		t.Errorf("%d lines were logged in the first round, and %d more in the next ones", before,
			after-before)
	}
}

// lines counts log lines.
type lines struct {
	t  *testing.T
	mu sync.Mutex
	n  int
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	return testWriter{l.t}.Write(b)
}

func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// TestWhatARouterSaidIsKept: also where attempts fail in other ways afterwards, and
// where the connection fails while the router speaks.
func TestWhatARouterSaidIsKept(t *testing.T) {
	h := newHandmade(t, "127.9.0.1")
	s, _ := speakPatiently(t, Config{}, to(h.peer("tor", nil), manyRoutes(3, 0)...))
	said := func(want string) time.Time {
		t.Helper()
		eventually(t, "the state tells what the router said: "+want, func() bool {
			return sessionOf(s, "tor").Notification == want
		})
		return sessionOf(s, "tor").NotificationAt
	}
	// Each word ends an OPEN, before a session.
	for _, word := range []struct {
		body []byte
		want string
	}{
		{[]byte{codeOpen, openBadPeerAS}, "OPEN error: bad peer AS"},
		{append([]byte{codeCease, ceaseShutdown, 9}, "till noon"...),
			`cease: administrative shutdown ("till noon")`},
		{append([]byte{codeCease, ceaseShutdown, 200}, strings.Repeat("\x1b", 200)...),
			fmt.Sprintf("cease: administrative shutdown (%q)", strings.Repeat(".", 128)+"…")},
		{[]byte{codeCease, ceasePrefixes, 0, 1, 1, 0, 0, 0, 3},
			"cease: maximum number of prefixes reached (3 for Multiprotocol IPv4 unicast)"},
	} {
		c := h.accept()
		_, _ = c.Write(message(typeNotification, word.body))
		// What this side has sent is unread: the connection is reset.
		_ = c.Close()
		said(word.want)
	}

	// A session ends with a word, and then nobody listens.
	c := h.establish(30)
	up(t, s, "tor")
	_, _ = c.Write(notification(codeCease, 4, "new code"))
	_, _ = h.listener.Close(), c.Close()
	at := said(`cease: administrative reset ("new code")`)
	eventually(t, "attempts fail",
		func() bool { return strings.Contains(sessionOf(s, "tor").LastError, "refused") })
	if again := said(`cease: administrative reset ("new code")`); !again.Equal(at) {
		t.Errorf("it was said at %s, and then at %s", at, again)
	}
}

// TestOpensOfAllKinds: which OPENs of a router lead to a session.
func TestOpensOfAllKinds(t *testing.T) {
	shortHold := func(hold byte) []byte {
		m := ordinaryOpen(t, multi4)
		m[headerLength+4] = hold
		return m
	}
	as0 := ordinaryOpen(t, multi4)
	as0[headerLength+1], as0[headerLength+2] = 0, 0
	long := []capability{multi4, multi6}
	for range 15 {
		long = append(long, capability{200, make([]byte, 250)})
	}
	for _, test := range []struct {
		story  string
		open   []byte
		change func(*bgp.Peer)
		says   string // "" when there is a session
	}{
		{"the extended form", extendedOpen(t, multi4, fourOctets), nil, ""},
		{"the extended form, with 3,900 octets", extendedOpen(t, long...), nil, ""},
		{"AS 0, where any external AS will do", as0,
			func(p *bgp.Peer) { p.PeerASN = 0 }, "AS 0, which nobody may have"},
		{"a hold time of 1 s", shortHold(1), nil, "unacceptable hold time (it is 1 s, and 3 s is the least)"},
		{"a hold time of 2 s, where this side has none", shortHold(2),
			func(p *bgp.Peer) { p.Hold, p.Keepalive = 0, 0 },
			"unacceptable hold time (it is 2 s, and 3 s is the least)"},
		{"a hold time of 3 s", shortHold(3), nil, ""},
		{"another family", ordinaryOpen(t, multi6), nil,
			"the session is to carry IPv4, and the router carries IPv6"},
		{"families that nobody knows", ordinaryOpen(t, evpn), nil,
			"the session is to carry IPv4, and the router carries none"},
		{"no families, where IPv6 is wanted", ordinaryOpen(t), func(p *bgp.Peer) { p.Families = bgp.IPv6 },
			"the session is to carry IPv6, and the router carries IPv4"},
	} {
		t.Run(test.story, func(t *testing.T) {
			h := newHandmade(t, "127.9.0.1")
			s, _ := speakPatiently(t, Config{}, to(h.peer("tor", test.change), manyRoutes(3, 0)...))
			c := h.accept()
			_, _ = c.Write(append(test.open, keepalive()...))
			ofRouter := listen(c)
			if test.says == "" {
				up(t, s, "tor")
				eventually(t, "the routes are sent", func() bool { return ofRouter.of(typeUpdate) > 0 })
				return
			}
			eventually(t, "the failure is told: "+test.says, func() bool {
				return strings.Contains(sessionOf(s, "tor").LastError, test.says)
			})
			eventually(t, "the router is told",
				func() bool { said, over := ofRouter.ended(); return over && said != "" })
		})
	}
}

// TestTheNameOfTheHostStaysHere: also on an internal session, to which gobgp tells
// its version, unless the peer says so.
func TestTheNameOfTheHostStaysHere(t *testing.T) {
	for _, test := range []struct {
		offer bgp.Offer
		want  string
	}{
		{bgp.Offer{}, ""},
		{bgp.Offer{ExtendedMessage: true, FQDN: true, SoftwareVersion: true},
			"FQDN, Extended Message, Software Version"},
	} {
		h := newHandmade(t, "127.9.0.1")
		internal := h.peer("tor", func(p *bgp.Peer) { p.PeerASN, p.Offer = p.LocalASN, test.offer })
		_, stop := speakPatiently(t, Config{Software: "Berth/1"}, to(internal))
		var got []string
		for _, c := range h.offered(h.accept()) {
			if c.code == capFQDN || c.code == capSoftwareVersion || c.code == capExtendedMessage {
				got = append(got, c.String())
			}
		}
		if all := strings.Join(got, ", "); all != test.want {
			t.Errorf("%+v: offered is %q", test.offer, all)
		}
		stop()
	}
}

// TestAStrictSessionWithASilentRouter: where BFD hears nothing, there is a session,
// on which nothing is announced before BFD is up.
func TestAStrictSessionWithASilentRouter(t *testing.T) {
	h := newHandmade(t, "127.9.0.1")
	strict := h.peer("tor", func(p *bgp.Peer) { p.Strict = true })
	s, _ := speakPatiently(t, Config{}, to(strict, manyRoutes(3, 0)...))
	s.SetLiveness(map[string]bgp.Liveness{"tor": bgp.LivenessSilent})
	for round := range 2 {
		ofRouter := listen(h.establish(30))
		time.Sleep(300 * time.Millisecond) // in which routes would come
		if got := sessionOf(s, "tor"); got.State != bgp.SessionAwaitingBFD || got.Advertised4 != 0 ||
			ofRouter.of(typeUpdate) > 0 {
			t.Errorf("round %d: %d UPDATEs, the state is %+v", round, ofRouter.of(typeUpdate), got)
		}
		s.SetLiveness(map[string]bgp.Liveness{"tor": bgp.LivenessPending}) // the router is heard
		s.SetLiveness(map[string]bgp.Liveness{"tor": bgp.LivenessUp})
		up(t, s, "tor")
		eventually(t, "the routes are sent",
			func() bool { return ofRouter.of(typeUpdate) > 0 && sessionOf(s, "tor").Advertised4 == 3 })
		s.SetLiveness(map[string]bgp.Liveness{"tor": bgp.LivenessLost})
		eventually(t, "the session ends with BFD", func() bool {
			return strings.Contains(sessionOf(s, "tor").Ended, "the session with the router went down")
		})
	}
	// Who is strict no more waits no more.
	ofRouter := listen(h.establish(30))
	strict.Strict = false
	s.Set(to(strict, manyRoutes(3, 0)...), true)
	up(t, s, "tor")
	eventually(t, "the routes are sent", func() bool { return ofRouter.of(typeUpdate) > 0 })
}
