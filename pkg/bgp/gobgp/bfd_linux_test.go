package gobgp

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/berth-lb/berth/pkg/bfd"
	"github.com/berth-lb/berth/pkg/bgp"
)

// watch keeps a BFD session with the router until the test ends.
func watch(t *testing.T) (*bfd.Speaker, bfd.Key) {
	t.Helper()
	s, err := bfd.New(bfd.Config{})
	if err != nil {
		t.Fatal(err)
	}
	key := bfd.Key{Peer: netip.MustParseAddr(router4)}
	config := bfd.SessionConfig{
		ReceiveInterval:  100 * time.Millisecond,
		TransmitInterval: 100 * time.Millisecond,
		DetectMultiplier: 30,
	}
	if err := s.Set(map[bfd.Key]bfd.SessionConfig{key: config}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	eventually(t, "BFD is up", func() bool { return stateOf(s) == bfd.Up })
	return s, key
}

func stateOf(s *bfd.Speaker) bfd.State {
	for _, one := range s.State() {
		return one.State
	}
	return bfd.AdminDown
}

// TestTheEndOfBFD: what ends a router's BGP session with it, and what does not.
// The speaker relies on it where a BGPPeer does without BFD from now on: it goes on
// answering until the router has ended BFD.
func TestTheEndOfBFD(t *testing.T) {
	for _, test := range []struct {
		story string
		does  func(t *testing.T, r router, s *bfd.Speaker)
		ends  bool // the BGP session at the router
	}{
		{"we end it, and say that this is on purpose", func(t *testing.T, _ router, s *bfd.Speaker) {
			if err := s.Set(nil); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"the router ends it, and then we do", func(t *testing.T, r router, s *bfd.Speaker) {
			r.withoutBFD(t)
			eventually(t, "BFD is down", func() bool { return stateOf(s) != bfd.Up })
			if err := s.Set(nil); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(test.story, func(t *testing.T) {
			each(t, func(t *testing.T, r router) {
				r.start(t, network(t), wanted{asn: 64513, peerASN: 64512, peer: node4, bfd: true, hold: 90})
				slow := tor(func(p *bgp.Peer) { p.Hold, p.Keepalive = 90*time.Second, 30*time.Second })
				s, _ := speak(t, Config{}, to(slow, route("192.0.2.1/32", nil)))
				up(t, s, "tor")
				watched, _ := watch(t)
				eventually(t, "the router has the route", func() bool { return r.count(t, false) == 1 })
				time.Sleep(time.Second) // the router's BGP hears of BFD
				since := sessionOf(s, "tor").Since
				test.does(t, r, watched)
				ended := false
				for deadline := time.Now().Add(3 * time.Second); !ended && time.Now().Before(deadline); {
					time.Sleep(100 * time.Millisecond)
					ended = !sessionOf(s, "tor").Since.Equal(since)
				}
				t.Logf("the BGP session has ended: %v (%s)", ended, sessionOf(s, "tor").Ended)
				if ended != test.ends {
					t.Errorf("the BGP session has ended: %v", ended)
				}
			})
		})
	}
}
