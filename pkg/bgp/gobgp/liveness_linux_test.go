package gobgp

import (
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/pkg/bgp"
)

// TestPathFails: a session ends at once when BFD finds that its way has failed,
// the router hears why and keeps nothing, and a new session begins.
func TestPathFails(t *testing.T) {
	each(t, func(t *testing.T, r router) {
		r.start(t, network(t), wanted{asn: 64513, peerASN: 64512, peer: node4, restart: true})
		// While it is strict, there is time to ask the router what it has heard.
		p := tor(func(p *bgp.Peer) { p.GracefulRestart, p.Strict = time.Minute, true })
		s, _ := speak(t, Config{}, to(p, route("192.0.2.1/32", nil)))
		s.SetLiveness(map[string]bgp.Liveness{"tor": bgp.LivenessUp})
		since := up(t, s, "tor").Since
		eventually(t, "the route is there", func() bool { return r.count(t, false) == 1 })
		for _, path := range []bgp.Liveness{bgp.LivenessPending, bgp.LivenessUp, bgp.LivenessPending,
			bgp.LivenessUnmonitored, bgp.LivenessUp} {
			s.SetLiveness(map[string]bgp.Liveness{"tor": path})
		}
		s.SetLiveness(map[string]bgp.Liveness{"other": bgp.LivenessFailed})
		if got := sessionOf(s, "tor"); !got.Since.Equal(since) {
			t.Fatalf("nothing has failed, and the session is %+v", got)
		}

		s.SetLiveness(map[string]bgp.Liveness{"tor": bgp.LivenessFailed})
		eventually(t, "the session has ended", func() bool {
			return strings.Contains(sessionOf(s, "tor").LastError, "the session with the router went down")
		})
		if isFRR(r) { // BIRD 2.0 does not know the word yet: "unknown error 6.10"
			eventually(t, "the router has heard why", func() bool {
				heard := strings.ToLower(r.heard(t))
				return strings.Contains(heard, "bfd down") || strings.Contains(heard, "hard reset")
			})
		}
		// BFD may stay down where the router does not do it any more.
		p.Strict = false
		s.Set(to(p, route("192.0.2.1/32", nil)), true)
		eventually(t, "there is a new session", func() bool {
			now := sessionOf(s, "tor")
			return now.State == bgp.SessionEstablished && now.Since.After(since)
		})
		eventually(t, "the route is there again", func() bool { return r.count(t, false) == 1 })
	})
}

// TestStrictSessionWaitsForItsPath: it begins when BFD is up and not before, also
// after the path has failed.
func TestStrictSessionWaitsForItsPath(t *testing.T) {
	each(t, func(t *testing.T, r router) {
		r.start(t, network(t), wanted{asn: 64513, peerASN: 64512, peer: node4})
		p := tor(func(p *bgp.Peer) { p.Strict = true })
		s, _ := speak(t, Config{}, to(p, route("192.0.2.1/32", nil)))
		waits := func() bool { return sessionOf(s, "tor").State == bgp.SessionAwaitingBFD }
		eventually(t, "the session waits", waits)
		s.SetLiveness(map[string]bgp.Liveness{"tor": bgp.LivenessPending})
		time.Sleep(2 * p.Connect)
		if !waits() || r.established(t) {
			t.Errorf("it does not wait: %+v", sessionOf(s, "tor"))
		}
		s.SetLiveness(map[string]bgp.Liveness{"tor": bgp.LivenessUp})
		since := up(t, s, "tor").Since

		s.SetLiveness(map[string]bgp.Liveness{"tor": bgp.LivenessFailed})
		eventually(t, "it waits again", waits)
		s.SetLiveness(map[string]bgp.Liveness{"tor": bgp.LivenessUp})
		eventually(t, "it is there again", func() bool {
			now := sessionOf(s, "tor")
			return now.State == bgp.SessionEstablished && now.Since.After(since)
		})

		// A peer that is no longer strict is not reset for that.
		since = sessionOf(s, "tor").Since
		p.Strict = false
		s.Set(to(p, route("192.0.2.1/32", nil), route("192.0.2.2/32", nil)), true)
		eventually(t, "the other route is there", func() bool { return r.count(t, false) == 2 })
		if got := sessionOf(s, "tor"); !got.Since.Equal(since) {
			t.Errorf("the session was reset: %+v", got)
		}
	})
}
