package announcer

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-lb/berth/pkg/layer2/links"
)

func TestContests(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	here := place{vip4, "eth0"}
	c := newContests()
	steps := []struct {
		story         string
		after         time.Duration
		at            place
		mac           net.HardwareAddr
		member, still bool
		fresh, defend bool
	}{
		{story: "a stranger claims", mac: otherMAC, at: here, fresh: true, defend: true},
		{story: "at once again", after: 1 * time.Second, mac: otherMAC, at: here},
		{
			story: "another stranger within ten seconds is told of later",
			after: 9 * time.Second,
			mac:   clientMAC,
			at:    here,
		},
		{
			story:  "ten seconds after the defence",
			after:  10 * time.Second,
			mac:    otherMAC,
			at:     here,
			fresh:  true,
			defend: true,
		},
		{story: "a member", after: 30 * time.Second, mac: memberMAC, at: here, member: true, fresh: true},
		{
			story:  "the same place on another link",
			after:  31 * time.Second,
			mac:    otherMAC,
			at:     place{vip4, "eth1"},
			fresh:  true,
			defend: true,
		},
		{
			story: "what we do not defend",
			after: 32 * time.Second,
			mac:   otherMAC,
			at:    place{vip6, "eth0"},
			still: true,
			fresh: true,
		},
	}
	for _, tt := range steps {
		got := c.note(foreignClaim{place: tt.at, mac: tt.mac, member: tt.member, defenders: !tt.still},
			start.Add(tt.after))
		if (got.news != nil) != tt.fresh || got.defend != tt.defend {
			t.Errorf("%s: %+v", tt.story, got)
		}
	}
	want := []Conflict{
		{
			Addr:  vip4,
			Link:  "eth0",
			MAC:   clientMAC,
			First: start.Add(9 * time.Second),
			Last:  start.Add(9 * time.Second),
			Count: 1,
		},
		{Addr: vip4, Link: "eth0", MAC: otherMAC, First: start, Last: start.Add(10 * time.Second), Count: 3},
		{
			Addr:   vip4,
			Link:   "eth0",
			MAC:    memberMAC,
			First:  start.Add(30 * time.Second),
			Last:   start.Add(30 * time.Second),
			Count:  1,
			Member: true,
		},
		{
			Addr:  vip4,
			Link:  "eth1",
			MAC:   otherMAC,
			First: start.Add(31 * time.Second),
			Last:  start.Add(31 * time.Second),
			Count: 1,
		},
		{
			Addr:  vip6,
			Link:  "eth0",
			MAC:   otherMAC,
			First: start.Add(32 * time.Second),
			Last:  start.Add(32 * time.Second),
			Count: 1,
		},
	}
	sameAddr := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if diff := cmp.Diff(want, c.list(), sameAddr); diff != "" {
		t.Error(diff)
	}
	if c.setMembers(macSet{[6]byte(memberMAC): {}}) || !c.setMembers(macSet{[6]byte(otherMAC): {}}) {
		t.Error("members are judged wrongly anew")
	}
	if forgot, _, next := c.expire(start.Add(10*time.Minute - 1)); forgot || next.IsZero() {
		t.Errorf("forgot too early, or will never: %s", next)
	}
	forgot, _, next := c.expire(start.Add(10*time.Minute + 9*time.Second))
	if !forgot || !next.Equal(start.Add(10*time.Minute+10*time.Second)) {
		t.Errorf("forgot %t, next %s", forgot, next)
	}
	if !c.forget(place{vip4, "eth1"}) || c.forget(place{vip4, "eth1"}) {
		t.Error("a withdrawn address is not forgotten once")
	}
	if forgot, _, next := c.expire(start.Add(time.Hour)); !forgot || !next.IsZero() || len(c.list()) > 0 {
		t.Errorf("forgot %t, next %s, left %v", forgot, next, c.list())
	}
}

func TestClaimantsAreBounded(t *testing.T) {
	now := time.Now()
	c := newContests()
	for i := range 1000 {
		c.note(foreignClaim{
			place: place{vip4, "eth0"},
			mac:   net.HardwareAddr{2, 0, 0, 0, byte(i >> 8), byte(i)},
		}, now.Add(time.Duration(i)))
	}
	got := c.list()
	if len(got) != maxClaimants || got[0].MAC[5] != 0xe0 {
		t.Errorf("%d claimants, the first %v; want the last %d", len(got), got[0], maxClaimants)
	}
}

// TestAFloodOfClaimsIsToldInFewLines: a host that makes up Ethernet addresses has
// one line in ten seconds, with the number of its claims, and nothing is lost of
// what it claimed last.
func TestAFloodOfClaimsIsToldInFewLines(t *testing.T) {
	start := time.Now()
	c := newContests()
	var lines int
	var claims uint64
	tell := func(news ...*claimNews) {
		for _, n := range news {
			if n != nil {
				lines++
				claims += n.claims
			}
		}
	}
	const flood = 100_000
	for i := range flood {
		now := start.Add(time.Duration(i) * time.Minute / flood)
		got := c.note(foreignClaim{
			place:     place{vip4, "eth0"},
			mac:       net.HardwareAddr{2, 0, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)},
			defenders: true,
		}, now)
		tell(got.news)
		if _, news, next := c.expire(now); next.Before(now) {
			t.Fatalf("at %s the next look was due at %s", now, next)
		} else {
			tell(news...)
		}
	}
	_, news, _ := c.expire(start.Add(70 * time.Second))
	tell(news...)
	if lines > 7 || claims != flood {
		t.Errorf("%d lines tell of %d claims", lines, claims)
	}
}

func TestAStrangerIsDefendedAgainst(t *testing.T) {
	for _, tt := range []struct {
		addr   netip.Addr
		claim  []byte
		frames int
	}{
		{vip4, arpRequest(t, vip4, vip4), 2},
		{vip6, advertise(t, advertisement{}), 1},
	} {
		bubble(t, Config{BurstCount: 1, RefreshInterval: -1}, func(t *testing.T, a *Announcer, s *segment) {
			a.SetLinks([]links.Link{lan(2, "eth0")})
			a.Set(tt.addr, on("eth0"))
			pause(time.Second)
			s.frames()
			hasNews(a)
			sock := s.opened(t)
			sock.in <- tt.claim
			pause(10 * ms)
			if got := s.frames(); len(got) != tt.frames {
				t.Errorf("%d frames, want one announcement", len(got))
			}
			for range 99 {
				pause(100 * ms)
				sock.in <- tt.claim
			}
			pause(10 * ms)
			if got := s.frames(); len(got) > 0 {
				t.Errorf("%d frames within ten seconds", len(got))
			}
			pause(100 * ms)
			sock.in <- tt.claim
			pause(10 * ms)
			if got := s.frames(); len(got) != tt.frames {
				t.Errorf("%d frames after ten seconds", len(got))
			}
			got := a.Conflicts()
			if !hasNews(a) || len(got) != 1 || got[0].Count != 101 || got[0].Member ||
				got[0].MAC.String() != clientMAC.String() {
				t.Errorf("conflicts %+v", got)
			}
			if got := total(a.Stats()); got.Defences != 2 || got.Verdicts[ForeignClaim] != 101 ||
				got.Replies != 0 {
				t.Errorf("%+v", got)
			}
			pause(11 * time.Minute)
			if !hasNews(a) || len(a.Conflicts()) > 0 {
				t.Error("a silent conflict is not forgotten")
			}
		})
	}
}

func TestAMemberIsNotDefendedAgainst(t *testing.T) {
	bubble(t, Config{BurstCount: 1, RefreshInterval: -1}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetMembers([]net.HardwareAddr{clientMAC, nil})
		a.SetLinks([]links.Link{lan(2, "eth0")})
		a.Set(vip4, on("eth0"))
		pause(time.Second)
		s.frames()
		hasNews(a)
		s.opened(t).in <- arpRequest(t, vip4, vip4)
		pause(time.Second)
		if got := s.frames(); len(got) > 0 {
			t.Errorf("%d frames", len(got))
		}
		if got := a.Conflicts(); !hasNews(a) || len(got) != 1 || !got[0].Member {
			t.Errorf("conflicts %+v", got)
		}
		a.SetMembers(nil)
		if got := a.Conflicts(); !hasNews(a) || got[0].Member {
			t.Errorf("who is no member any more: %+v", got)
		}
		a.Set(vip4, Request{})
		if !hasNews(a) || len(a.Conflicts()) > 0 {
			t.Error("a withdrawn address is in conflict")
		}
		if got := total(a.Stats()).Verdicts; got[MemberClaim] != 1 || got[ForeignClaim] != 0 {
			t.Errorf("verdicts %v", got)
		}
	})
}

func TestASecondLinkOfThisNodeIsNoConflict(t *testing.T) {
	bubble(t, Config{BurstCount: 1}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0"), but(lan(3, "eth1"), func(l *links.Link) {
			l.HardwareAddr = clientMAC
		})})
		a.Set(vip4, on("eth0"))
		pause(time.Second)
		s.opened(t).in <- arpRequest(t, vip4, vip4)
		pause(time.Second)
		if got := a.Conflicts(); len(got) > 0 || total(a.Stats()).Verdicts[OwnFrame] != 1 {
			t.Errorf("conflicts %+v", got)
		}
	})
}

func TestAProbeIsAnsweredAndNoConflict(t *testing.T) {
	bubble(t, Config{BurstCount: 1}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0")})
		a.Set(vip4, on("eth0"))
		pause(time.Second)
		if !s.opened(t).ask(arpRequest(t, netip.IPv4Unspecified(), vip4)) || len(a.Conflicts()) > 0 {
			t.Error("a probe is not answered, or is a conflict")
		}
	})
}

func TestAStallIsNoTimeToDefend(t *testing.T) {
	bubble(t, Config{BurstCount: 1, RefreshInterval: -1}, func(t *testing.T, a *Announcer, s *segment) {
		a.SetLinks([]links.Link{lan(2, "eth0")})
		a.Set(vip4, on("eth0"))
		pause(time.Second)
		s.frames()
		s.sleep(time.Minute)
		s.opened(t).in <- arpRequest(t, vip4, vip4)
		pause(time.Second)
		if a.Suspended() {
			a.Resume()
		}
		pause(time.Second)
		if got := s.frames(); len(got) > 0 || len(a.Conflicts()) != 1 {
			t.Errorf("%d frames: who claimed it may be the new owner", len(got))
		}
		if !slices.ContainsFunc(a.Conflicts(), func(c Conflict) bool { return c.Count == 1 }) {
			t.Error("the claim is not counted")
		}
	})
}
