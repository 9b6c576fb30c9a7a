package gobgp

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/pkg/bfd"
	"github.com/berth-lb/berth/pkg/bgp"
)

// follows has BFD tell a peer's session what becomes of its way, until the test
// ends.
func follows(t *testing.T, s *Speaker, name string) {
	t.Helper()
	watched, err := bfd.New(bfd.Config{})
	if err != nil {
		t.Fatal(err)
	}
	config := bfd.SessionConfig{
		ReceiveInterval:  100 * time.Millisecond,
		TransmitInterval: 100 * time.Millisecond,
		DetectMultiplier: 10,
	}
	key := bfd.Key{Peer: netip.MustParseAddr(router4)}
	if err := watched.Set(map[bfd.Key]bfd.SessionConfig{key: config}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- watched.Run(ctx) }()
	go func() {
		for {
			for _, one := range watched.State() {
				path := bgp.LivenessPending
				switch silent := one.RemoteDiscriminator == 0; {
				case one.State == bfd.Up:
					path = bgp.LivenessUp
				case one.Failed() && silent:
					path = bgp.LivenessLost
				case one.Failed():
					path = bgp.LivenessFailed
				case silent:
					path = bgp.LivenessSilent
				}
				s.SetLiveness(map[string]bgp.Liveness{name: path})
			}
			select {
			case <-ctx.Done():
				done <- nil
				return
			case <-watched.Changed():
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestStrictSessionsWithDynamicNeighbours: a router that begins BFD only when BGP
// connects gets its session, and again after it was away.
func TestStrictSessionsWithDynamicNeighbours(t *testing.T) {
	each(t, func(t *testing.T, r router) {
		r.start(t, network(t), wanted{asn: 64513, peerASN: 64512, peer: node4, bfd: true, dynamic: true})
		s, _ := speak(t, Config{}, to(tor(func(p *bgp.Peer) { p.Strict = true }), route("192.0.2.1/32", nil)))
		follows(t, s, "tor")
		since := up(t, s, "tor").Since
		eventually(t, "the route is there", func() bool { return r.count(t, false) == 1 })
		r.restart(t, 200*time.Millisecond)
		eventually(t, "there is a new session", func() bool {
			now := sessionOf(s, "tor")
			return now.State == bgp.SessionEstablished && now.Since.After(since)
		})
		eventually(t, "the route is there again", func() bool { return r.count(t, false) == 1 })
	})
}

// TestARouterThatIsAwayForAMoment prints how soon after its return a router has
// the routes. None waits for connectTime.
func TestARouterThatIsAwayForAMoment(t *testing.T) {
	each(t, func(t *testing.T, r router) {
		r.start(t, network(t), wanted{asn: 64513, peerASN: 64512, peer: node4})
		patient := tor(func(p *bgp.Peer) { p.Connect = time.Hour })
		s, _ := speak(t, Config{}, to(patient, route("192.0.2.1/32", nil)))
		for _, away := range []time.Duration{200 * time.Millisecond, 3 * time.Second} {
			since := up(t, s, "tor").Since
			eventually(t, "the route is there", func() bool { return r.count(t, false) == 1 })
			time.Sleep(minPause)
			r.restart(t, away)
			back := time.Now()
			eventually(t, "the route is there again", func() bool { return r.count(t, false) == 1 })
			t.Logf("away for %s: the routes are there %s after it answers", away, time.Since(back).Round(10*time.Millisecond))
			if got := up(t, s, "tor"); !got.Since.After(since) {
				t.Errorf("it had no new session: %+v", got)
			}
		}
	})
}

// TestWhyARouterEndsASession: what it says is told for as long as it says nothing
// else, whatever attempts fail with afterwards.
func TestWhyARouterEndsASession(t *testing.T) {
	for _, test := range []struct {
		story  string
		router wanted
		does   func(t *testing.T, r router)
		says   string
	}{
		{"its operator shuts it down", wanted{}, func(t *testing.T, r router) { r.shutDown(t, "till noon") },
			`cease: administrative shutdown ("till noon")`},
		{"too many prefixes", wanted{limit: 1}, func(*testing.T, router) {}, "cease: maximum number of prefixes reached"},
	} {
		t.Run(test.story, func(t *testing.T) {
			each(t, func(t *testing.T, r router) {
				w := test.router
				w.asn, w.peerASN, w.peer = 64513, 64512, node4
				r.start(t, network(t), w)
				one, many := route("192.0.2.1/32", nil), manyRoutes(5, 0)
				s, _ := speak(t, Config{}, to(tor(nil), one))
				up(t, s, "tor")
				eventually(t, "the route is there", func() bool { return r.count(t, false) == 1 })
				test.does(t, r)
				s.Set(to(tor(nil), append(many, one)...), true)
				is := func() bool { return strings.HasPrefix(sessionOf(s, "tor").Notification, test.says) }
				eventually(t, "it is told why", is)
				eventually(t, "attempts fail in another way", func() bool {
					got := sessionOf(s, "tor")
					return got.LastErrorAt.After(got.EndedAt) && !strings.Contains(got.LastError, "cease: ")
				})
				t.Logf("%+v", sessionOf(s, "tor"))
				if !is() {
					t.Errorf("the state is %+v", sessionOf(s, "tor"))
				}
			})
		})
	}
}
