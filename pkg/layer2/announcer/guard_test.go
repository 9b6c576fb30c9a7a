package announcer

import (
	"testing"
	"time"

	"github.com/berth-lb/berth/pkg/layer2/links"
)

// sleep makes the machine's clock jump, as it does for a process that was stopped.
func (s *segment) sleep(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slept += d
}

// hasNews reports whether Changed has a value, and takes it.
func hasNews(a *Announcer) bool {
	select {
	case <-a.Changed():
		return true
	default:
		return false
	}
}

func TestAfterAStallNothingIsAnsweredUntilResumed(t *testing.T) {
	bubble(t, Config{BurstCount: 1}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0")})
		a.Set(vip4, on("eth0"))
		pause(time.Second)
		hasNews(a)
		sock := s.opened(t)
		s.sleep(250 * ms)
		if !sock.ask(arpRequest(t, client4, vip4)) || a.Suspended() {
			t.Error("a short stall suspends")
		}
		pause(time.Second)
		s.sleep(301 * ms)
		if sock.ask(arpRequest(t, client4, vip4)) {
			t.Error("a request that waited is answered")
		}
		if !hasNews(a) || !a.Suspended() {
			t.Error("not suspended, or nobody was told")
		}
		pause(10 * time.Second)
		if sock.ask(arpRequest(t, client4, vip4)) {
			t.Error("answered although nobody resumed")
		}
		a.Resume()
		if a.Suspended() || !hasNews(a) || !sock.ask(arpRequest(t, client4, vip4)) {
			t.Error("not resumed")
		}
		got := a.Stats()
		if got.Stalls != 1 || total(got).Verdicts[Stalled] != 2 || total(got).Verdicts[Answered] != 2 ||
			total(got).Replies != 2 || total(got).Requests != 4 {
			t.Errorf("%+v", got)
		}
	})
}

func TestAStallIsNoticedWithoutAnyFrame(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, a *Announcer, s *segment) {
		hasNews(a)
		s.sleep(time.Hour)
		pause(50 * ms)
		if !hasNews(a) || !a.Suspended() {
			t.Error("the beats did not notice")
		}
	})
}

func TestBurstsWaitForTheEndOfASuspension(t *testing.T) {
	bubble(t, Config{BurstCount: 2, RefreshInterval: -1}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0")})
		a.Set(vip4, on("eth0"))
		pause(100 * ms)
		s.frames()
		s.sleep(time.Second)
		pause(100 * ms)
		a.Set(foreign4, on("eth0"))
		a.Set(vip6, on("eth0"))
		pause(10 * time.Second)
		if got := s.times(); len(got) > 0 {
			t.Fatalf("sent at %v while suspended", got)
		}
		for _, got := range a.State() {
			if (got.Addr == vip4) == got.Announced.IsZero() {
				t.Errorf("state %+v", got)
			}
		}
		a.Set(vip6, Request{})
		if !a.Suspended() {
			t.Fatal("not suspended")
		}
		a.Resume()
		pause(10 * time.Second)
		if got := s.frames(); len(got) != 2*1+2*2 {
			t.Errorf("%d frames, want the second announcement of one address and both of another", len(got))
		}
	})
}

func TestResumeDoesNotHideAStallThatNobodySaw(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, a *Announcer, s *segment) {
		s.sleep(time.Second)
		pause(100 * ms)
		if !a.Suspended() {
			t.Fatal("not suspended")
		}
		// The user makes sure of the cluster, is stalled once more, and resumes.
		s.sleep(time.Second)
		hasNews(a)
		a.Resume()
		if !hasNews(a) || !a.Suspended() {
			t.Error("resumed")
		}
		a.Resume()
		if a.Suspended() || a.Stats().Stalls != 2 {
			t.Error("not resumed in the end")
		}
		a.Resume() // without need
		if a.Suspended() {
			t.Error("suspended again")
		}
	})
}

func TestTheGuardCanBeOff(t *testing.T) {
	bubble(t, Config{Stall: -1, BurstCount: 1}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0")})
		a.Set(vip4, on("eth0"))
		pause(time.Second)
		s.sleep(time.Hour)
		pause(time.Second)
		if !s.opened(t).ask(arpRequest(t, client4, vip4)) || a.Suspended() {
			t.Error("suspended")
		}
		a.Resume()
	})
}

// TestBeatAndFrameRace has a beat and a frame notice the same stall at once: a
// frame must never slip through, and it is one stall.
func TestBeatAndFrameRace(t *testing.T) {
	for range 2000 {
		g := newGuard(300*ms, func() time.Duration { return time.Hour }, func(time.Duration) {})
		g.lastBeat.Store(int64(time.Minute))
		done := make(chan struct{})
		go func() { defer close(done); g.beat() }()
		if g.open() {
			t.Fatal("open after a stall")
		}
		<-done
		if g.open() || g.count() != 1 {
			t.Fatalf("open or %d stalls", g.count())
		}
	}
}

func TestTheRealClockMoves(t *testing.T) {
	before := sinceBoot()
	if before <= 0 {
		t.Skip("no clock on this system")
	}
	for range 1_000_000 {
		if sinceBoot() > before {
			return
		}
	}
	t.Error("it is stalled")
}
