package announcer

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/berth-lb/berth/pkg/layer2/links"
)

// gaps returns the time from each to the next.
func gaps(times []time.Duration) (out []time.Duration) {
	for i := 1; i < len(times); i++ {
		out = append(out, times[i]-times[i-1])
	}
	return out
}

func TestAnAddressIsRefreshed(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0")})
		a.Set(vip4, on("eth0"))
		pause(3 * time.Second)
		s.frames()
		pause(2 * time.Hour)
		times := s.times()
		if len(times) < 64 || len(times) > 106 {
			t.Errorf("%d refreshes in two hours", len(times))
		}
		every := gaps(times)
		low, high := slices.Min(every), slices.Max(every)
		if low < 67*time.Second || high > 113*time.Second || high-low < 20*time.Second {
			t.Errorf("between refreshes %s to %s, want 90 s and a quarter more or less", low, high)
		}
		got := total(a.Stats())
		if got.Refreshes != uint64(len(times)) || got.Bursts != 1 || got.Gratuitous != 2*(5+got.Refreshes) {
			t.Errorf("%+v", got)
		}
		a.Set(vip4, Request{})
		pause(time.Hour)
		if got := s.frames(); len(got) > 0 {
			t.Errorf("%d frames after it was withdrawn", len(got))
		}
	})
}

func TestPoliciesDiffer(t *testing.T) {
	tests := []struct {
		story  string
		policy Policy
		within time.Duration
		want   []time.Duration
	}{
		{"the defaults",
			Policy{}, 60 * time.Second, []time.Duration{0, 500 * ms, 1000 * ms, 1500 * ms, 2000 * ms}},
		{"one only", Policy{Count: 1, Refresh: -1}, time.Hour, []time.Duration{0}},
		{"fewer and faster", Policy{Count: 3, Interval: 50 * ms, Refresh: -1}, time.Hour,
			[]time.Duration{0, 50 * ms, 100 * ms}},
		{"nonsense is as nothing", Policy{Count: -1, Interval: -1, Refresh: -1}, time.Hour,
			[]time.Duration{0, 500 * ms, 1000 * ms, 1500 * ms, 2000 * ms}},
	}
	for _, tt := range tests {
		t.Run(tt.story, func(t *testing.T) {
			bubble(t, Config{}, func(t *testing.T, a *Announcer, s *segment) {
				a.SetLinks([]links.Link{lan(2, "eth0")})
				pause(time.Second)
				s.start = time.Now()
				a.Set(vip6, Request{Links: []string{"eth0"}, Policy: tt.policy})
				pause(tt.within)
				if got := s.times(); !slices.Equal(got, tt.want) {
					t.Errorf("sent at %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestANewPolicyStartsNoBurst(t *testing.T) {
	bubble(t, Config{RefreshInterval: -1}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0")})
		a.Set(vip4, on("eth0"))
		pause(700 * ms)
		since := a.State()[0].Since
		s.frames()
		a.Set(vip4, Request{Links: []string{"eth0"}, Policy: Policy{Count: 2}})
		pause(time.Hour)
		if got := s.times(); len(got) > 0 {
			t.Errorf("announced at %v although two were sent", got)
		}
		a.Set(vip4, Request{Links: []string{"eth0"}, Policy: Policy{Refresh: time.Minute}})
		pause(59 * time.Minute)
		if got := s.times(); len(got) < 47 || len(got) > 79 {
			t.Errorf("%d refreshes in an hour, want one a minute or so", len(got))
		}
		a.Set(vip4, on("eth0"))
		pause(time.Hour)
		if got := s.times(); len(got) > 0 {
			t.Errorf("refreshed at %v", got)
		}
		if got := a.State(); !got[0].Since.Equal(since) {
			t.Errorf("announced since %s, want %s", got[0].Since, since)
		}
	})
}

func TestANewGenerationIsAnnouncedAnew(t *testing.T) {
	bubble(t, Config{BurstCount: 1, RefreshInterval: -1}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0")})
		a.Set(vip4, Request{Links: []string{"eth0"}, Generation: 7})
		pause(time.Second)
		if !hasNews(a) {
			t.Error("nobody was told of the first announcement")
		}
		first := a.State()[0]
		s.frames()
		a.Set(vip4, Request{Links: []string{"eth0"}, Generation: 8})
		// The new generation may have been announced before State is read, as the
		// sender runs beside this test; the time of the old one must not stand there.
		if got := a.State()[0]; got.Generation != 8 || got.Announced.Equal(first.Announced) {
			t.Errorf("with the new generation: %+v", got)
		}
		if !s.opened(t).ask(arpRequest(t, client4, vip4)) {
			t.Error("not answered meanwhile")
		}
		pause(time.Second)
		if got := s.frames(); len(got) != 1+2 {
			t.Errorf("%d frames, want a reply and an announcement", len(got))
		}
		got := a.State()[0]
		if !hasNews(a) || !got.Announced.After(first.Announced) || !got.Since.Equal(first.Since) {
			t.Errorf("state %+v, before %+v", got, first)
		}
		a.Set(vip4, Request{Links: []string{"eth0"}, Generation: 8})
		pause(time.Second)
		if len(s.frames()) > 0 || s.opened(t).filters > 0 {
			t.Error("the same generation is announced again, or the filter was set for nothing")
		}
	})
}

func TestAStandInSaysNothingUnasked(t *testing.T) {
	bubble(t, Config{BurstCount: 1}, func(t *testing.T, a *Announcer, s *segment) {
		standIn := Request{Links: []string{"eth0"}, As: map[string]net.HardwareAddr{"eth0": otherMAC}}
		a.SetLinks([]links.Link{lan(2, "eth0")})
		a.Set(vip4, standIn)
		pause(time.Hour)
		if got := s.frames(); len(got) > 0 {
			t.Fatalf("%d frames unasked", len(got))
		}
		sock := s.opened(t)
		answers := func(as net.HardwareAddr) {
			t.Helper()
			sock.ask(arpRequest(t, client4, vip4))
			got := s.frames()
			if len(got) != 1 || !bytes.Equal(got[0].frame[6:12], lanMAC) ||
				!bytes.Equal(got[0].frame[22:28], as) {
				t.Errorf("%d frames, want one that says %s", len(got), as)
			}
		}
		answers(otherMAC)
		sock.in <- at(arpRequest(t, vip4, vip4), 22, memberMAC...)
		pause(time.Second)
		if got := s.frames(); len(got) > 0 || len(a.Conflicts()) != 1 {
			t.Errorf("%d frames in defence of another's address", len(got))
		}
		got := a.State()[0]
		if !got.Announced.IsZero() || got.Since.IsZero() || !bytes.Equal(got.As, otherMAC) {
			t.Errorf("state %+v", got)
		}

		a.Set(vip4, on("eth0"))
		pause(time.Second)
		if got := s.frames(); len(got) != 2 || !bytes.Equal(got[0].frame[22:28], lanMAC) {
			t.Errorf("%d frames, want a burst of the new owner", len(got))
		}
		answers(lanMAC)
		a.Set(vip4, standIn)
		answers(otherMAC) // as soon as Set returns
		pause(time.Hour)
		if got := s.frames(); len(got) > 0 {
			t.Errorf("%d frames of a stand-in", len(got))
		}
		a.Set(vip4, Request{Links: []string{"eth0"}, As: map[string]net.HardwareAddr{"eth0": {1, 2, 3}}})
		pause(time.Second)
		s.frames()
		answers(lanMAC)
	})
}

func TestRefreshesDoNotDelayBursts(t *testing.T) {
	bubble(t, Config{BurstCount: 1, BurstRate: 1000}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0")})
		// Ten times as many as may be sent want to be refreshed all the time.
		for i := range 1000 {
			addr := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
			a.Set(addr, Request{Links: []string{"eth0"}, Policy: Policy{Refresh: 100 * ms}})
		}
		pause(10 * time.Second)
		s.frames()
		begin := time.Now()
		a.Set(vip6, on("eth0"))
		pause(100 * ms)
		for _, got := range a.State() {
			if got.Addr == vip6 && got.Announced.Sub(begin) > 20*ms {
				t.Errorf("first announced after %s", got.Announced.Sub(begin))
			}
		}
		a.Set(vip6, Request{})
	})
}
