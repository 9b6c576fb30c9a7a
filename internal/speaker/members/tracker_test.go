package members

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/internal/speaker/speakertest"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/prober"
	"github.com/berth-lb/berth/pkg/membership"
)

// TestPresenceFollowsAMembersLife follows node2 through its life, as node1 sees it
// by membership and by its own probes. node1 is its only witness.
func TestPresenceFollowsAMembersLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for _, step := range []struct {
			story  string
			change func()
			want   string
		}{
			{"nobody has heard of it", func() {}, "unknown"},
			{"it starts", func() { w.Publishes("node2", "stage=starting") }, "Held (NodeHeld)"},
			{"it is ready", func() { w.Publishes("node2") }, "Present (NodePresent)"},
			{"its kernel misses a probe", func() {
				w.Kernels["node2"] = prober.Reach{State: prober.Answers, LastAnswer: time.Now(), Missed: 2}
			}, "Present (NodePresent)"},
			{"its kernel is silent, and its speaker answers a ping", func() {
				w.Kernels["node2"] = prober.Reach{State: prober.Silent, LastAnswer: time.Now(), Missed: 3}
				time.Sleep(time.Millisecond)
				w.tracker.pinged("node2", presence.Ping{At: time.Now()})
			}, "Present (NodePresent)"},
			{"its speaker is silent too: nobody waits for membership", func() {
				w.tracker.pinged("node2", presence.Ping{Failed: true, At: time.Now()})
			}, "Gone (NodeSilent)"},
			{"the process of its speaker is gone, and its kernel answers", func() {
				w.Kernels["node2"] = prober.Reach{State: prober.Answers, LastAnswer: time.Now()}
				w.tracker.pinged("node2", presence.Ping{Failed: true, Refused: true, At: time.Now()})
			}, "Present (NodePresent)"},
			{"it answers again", func() {
				w.Kernels["node2"] = prober.Reach{State: prober.Answers, LastAnswer: time.Now()}
				w.tracker.pinged("node2", presence.Ping{At: time.Now()})
			}, "Present (NodePresent)"},
			{"a ping that failed before its kernel last answered says nothing", func() {
				w.Kernels["node2"] = prober.Reach{State: prober.Silent, LastAnswer: time.Now(), Missed: 3}
			}, "Present (NodePresent)"},
			{"its speaker is killed, its kernel answers",
				func() { w.Publishes("node2"); w.died("node2", true) }, "Held (NodeHeld)"},
			{"for too long", func() { time.Sleep(graces.Silence) }, "Gone (SpeakerNotAlive)"},
			{"it is back and looks for the others",
				func() { w.Publishes("node2", "stage=starting") }, "Held (NodeHeld)"},
			{"it finds them", func() { w.Publishes("node2") }, "Present (NodePresent)"},
			{"it is about to restart",
				func() { w.Publishes("node2", "stage=restarting") }, "Held (NodeHeld)"},
			{"it has left to do so", func() {
				w.Others["node2"] = member("node2", membership.Left, time.Now(), "stage=restarting")
			}, "Held (NodeHeld)"},
			{"it does not come back", func() { time.Sleep(graces.Restart) }, "Gone (SpeakerNotAlive)"},
			{"it comes back, and then its node is drained",
				func() { w.Publishes("node2", "stage=leaving") }, "Leaving (NodeLeaving)"},
			{"it has handed over", func() {
				w.Others["node2"] = member("node2", membership.Left, time.Now(), "stage=leaving")
			}, "Gone (NodeLeaving)"},
		} {
			step.change()
			w.see()
			if got := w.is("node2"); got != step.want {
				t.Errorf("%s: node2 is %s, want %s", step.story, got, step.want)
			}
		}
	})
}

// TestNodeThatSawNobodyTakesNothing: a node that could see nobody for a while, because it
// had no link or was stalled, takes nothing from members that it missed then, before
// it has looked for them as long as for any other.
func TestNodeThatSawNobodyTakesNothing(t *testing.T) {
	graces := graces
	graces.Suspicion = 500 * time.Millisecond
	for _, test := range []struct {
		story string
		reach prober.Reach
		want  string
		lasts time.Duration
	}{
		{"its kernel is not probed yet", prober.Reach{}, "Held (NodeHeld)", graces.Suspicion},
		{"its kernel answers",
			prober.Reach{State: prober.Answers, LastAnswer: time.Now()}, "Held (NodeHeld)", graces.Silence},
	} {
		t.Run(test.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(c *Config) { c.Grace = graces })
				w.Publishes("node2")
				w.died("node2", false)
				w.Kernels["node2"] = test.reach
				time.Sleep(time.Minute)
				w.see()
				if got := w.is("node2"); got != "Gone (SpeakerNotAlive)" {
					t.Errorf("before, node2 is %s", got)
				}
				w.tracker.MarkDisconnected()
				w.see()
				if got := w.is("node2"); got != test.want {
					t.Errorf("node2 is %s, want %s", got, test.want)
				}
				if again := time.Until(w.tracker.Current().Recheck); again != test.lasts {
					t.Errorf("it is looked at again after %s, want %s", again, test.lasts)
				}
				time.Sleep(test.lasts)
				w.see()
				if got := w.is("node2"); got != "Gone (SpeakerNotAlive)" {
					t.Errorf("then node2 is %s", got)
				}
			})
		})
	}
}

// TestOtherWitnessesAreBelieved: node1 does not probe node4 by itself.
func TestOtherWitnessesAreBelieved(t *testing.T) {
	names := []string{"node1", "node2", "node3", "node4"}
	subject := ""
	for _, name := range names[1:] {
		if !slices.Contains(announcement.Witnesses(name, names), "node1") {
			subject = name
		}
	}
	if subject == "" {
		t.Skip("node1 is a witness of all")
	}
	witnesses := announcement.Witnesses(subject, names)
	for _, test := range []struct {
		story string
		said  [2]string
		dead  bool
		want  string
	}{
		{"both say that its kernel is silent", [2]string{"silent", "silent"}, false, "Gone (NodeSilent)"},
		{"one gets answers", [2]string{"silent", "answers"}, false, "Present (NodePresent)"},
		{"one cannot tell, and its speaker is heard",
			[2]string{"silent", ""}, false, "Present (NodePresent)"},
		{"one says what this version does not know",
			[2]string{"silent", "perhaps"}, false, "Present (NodePresent)"},
		{"one cannot tell, and its speaker is not heard", [2]string{"", "silent"}, true, "Gone (NodeSilent)"},
		{"both get answers, and its speaker is not heard",
			[2]string{"answers", "answers"}, true, "Held (NodeHeld)"},
		{"neither can tell, and its speaker is not heard", [2]string{"", ""}, true, "Gone (SpeakerNotAlive)"},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t)
			for _, name := range names[1:] {
				w.Publishes(name)
			}
			for i, name := range witnesses {
				if test.said[i] != "" {
					w.Publishes(name, "probe/"+subject+"="+test.said[i])
				}
			}
			// What node1 finds by itself does not count: others are the witnesses.
			w.Kernels[subject] = prober.Reach{State: prober.Answers, LastAnswer: time.Now()}
			if test.dead {
				m := member(subject, membership.Dead, time.Now())
				w.Others[subject] = m
			}
			w.see()
			if got := w.is(subject); got != test.want {
				t.Errorf("%s is %s, want %s", subject, got, test.want)
			}
		})
	}
}

// TestWhatChangedIsRequeued: the addresses whose claims changed, all when it is about the
// members themselves, none when nothing changed.
func TestWhatChangedIsRequeued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for _, step := range []struct {
			story   string
			change  func()
			claimed string
			all     bool
		}{
			{"nothing", func() {}, "[]", false},
			{"another comes", func() { w.Publishes("node2", "stage=starting") }, "[]", true},
			{"time goes by", func() { time.Sleep(time.Second) }, "[]", false},
			{"it is ready", func() { w.Publishes("node2") }, "[]", true},
			{"it claims addresses", func() {
				w.Publishes("node2", "claim/2001:db8::1=1", "claim/192.0.2.20=1", "claim/192.0.2.3=1")
			},
				"[192.0.2.3 192.0.2.20 2001:db8::1]", false},
			{"one anew, and gives another up", func() {
				w.Publishes("node2", "claim/2001:db8::1=1", "claim/192.0.2.20=2")
			}, "[192.0.2.3 192.0.2.20]", false},
			{"it reports on a kernel", func() {
				w.Publishes("node2", "claim/2001:db8::1=1", "claim/192.0.2.20=2", "probe/node3=answers")
			}, "[]", false},
			{"its kernel answers again and again", func() {
				w.Kernels["node2"] = prober.Reach{State: prober.Answers, LastAnswer: time.Now()}
			}, "[]", false},
			{"it gets another link", func() {
				w.Publishes("node2", "claim/2001:db8::1=1", "claim/192.0.2.20=2",
					"link/eth1=02:00:00:00:00:22 198.51.100.2/24")
			}, "[]", true},
			{"its speaker is killed: what it claims is remembered",
				func() { w.died("node2", true) }, "[]", true},
			{"its grace period ends", func() { time.Sleep(graces.Silence) }, "[]", true},
			{"it is forgotten, and its claims with it", func() { delete(w.Others, "node2") }, "[]", true},
		} {
			step.change()
			w.Requeued, w.AllRequeued = nil, 0
			w.tracker.Evaluate(ended())
			if fmt.Sprint(w.Requeued) != step.claimed || (w.AllRequeued > 0) != step.all {
				t.Errorf("%s: got %v, all %d times, want %s, %t",
					step.story, w.Requeued, w.AllRequeued, step.claimed, step.all)
			}
		}
	})
}

// TestSnapshotIsMadeAgainInTime: when graces with the first of the others
// ends.
func TestSnapshotIsMadeAgainInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Publishes("node2")
		w.see()
		if p := w.tracker.Current(); !p.Recheck.IsZero() {
			t.Errorf("all are present, and it is looked again in %s", time.Until(p.Recheck))
		}
		w.Publishes("node3", "stage=restarting")
		w.died("node2", true)
		since := time.Now()
		w.see()
		if p := w.tracker.Current(); !p.Recheck.Equal(since.Add(graces.Silence)) {
			t.Errorf("it is looked again in %s, want %s", time.Until(p.Recheck), graces.Silence)
		}
		time.Sleep(graces.Silence)
		w.see()
		if p := w.tracker.Current(); !p.Recheck.Equal(since.Add(graces.Restart)) {
			t.Errorf("it is looked again in %s, want %s",
				time.Until(p.Recheck), graces.Restart-graces.Silence)
		}
	})
}

// TestSinceIsWhenThePresenceBegan: since it came to its presence, whatever else
// changes of it.
func TestSinceIsWhenThePresenceBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Publishes("node2")
		w.see()
		first := time.Now()
		time.Sleep(time.Minute)
		w.Publishes("node2", "link/eth1=02:00:00:00:00:22")
		w.see()
		if got := w.tracker.Current().Members["node2"].Since; !got.Equal(first) {
			t.Errorf("it counts as present for %s", time.Since(got))
		}
		w.died("node2", true)
		w.see()
		if got := w.tracker.Current().Members["node2"].Since; !got.Equal(time.Now()) {
			t.Errorf("it counts as held for %s", time.Since(got))
		}
	})
}

// TestObjectStandsInForAMemberThatIsNotHeard: membership cannot reach node2,
// as behind a firewall, and the API server tells of it.
func TestObjectStandsInForAMemberThatIsNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		const arrives = 10 * time.Second
		old := time.Now().Add(-time.Hour)
		w.reads(written("node2", speakertest.RenewedAt(old), speakertest.Announcing(
			"192.0.2.10",
			4,
		), func(s *v1beta1.SpeakerStatus) {
			s.Layer2.Announcements = append(s.Layer2.Announcements, v1beta1.Layer2Announcement{
				Address:    "192.0.2.11",
				Generation: 2,
				StandInFor: "node3",
			})
			s.Links = append(s.Links, v1beta1.SpeakerLink{Name: "eth1", MACAddress: "02:00:00:00:00:22"})
		}))
		if got := w.is("node2"); got != "Gone (SpeakerNotAlive)" {
			t.Errorf("one whose object was there before is %s: it may have been dead for long", got)
		}
		f := w.tracker.Current().Members["node2"]
		if len(f.Links) != 1 || !f.Links[0].Equal(speakertest.LinkOf("node2")) {
			t.Errorf("its links are %+v: want the one that is up", f.Links)
		}
		want := map[netip.Addr]map[string]announcement.Claim{address: {"node2": {Generation: 4}}}
		if got := w.tracker.Current().Claims; !reflect.DeepEqual(got, want) {
			t.Errorf("claimed are %v, want %v", got, want)
		}

		time.Sleep(8 * time.Second)
		w.reads(written("node2", speakertest.RenewedAt(time.Now()), speakertest.Announcing("192.0.2.10", 4)))
		if got := w.is("node2"); got != "Present (NodeRenewing)" {
			t.Errorf("one that renews its object is %s", got)
		}
		if p := w.tracker.Current(); !p.Recheck.Equal(time.Now().Add(graces.Renewal)) || p.Alive != 1 {
			t.Errorf("it is looked again in %s; %d are alive", time.Until(p.Recheck), p.Alive)
		}
		time.Sleep(graces.Renewal - time.Second)
		w.reads() // another object changed
		if got := w.is("node2"); got != "Present (NodeRenewing)" {
			t.Errorf("it is %s", got)
		}
		w.away = true
		w.see()
		time.Sleep(time.Hour)
		w.see()
		if got := w.is("node2"); got != "Present (NodeAssumed)" {
			t.Errorf("one of which nothing can be heard because the API server is away is %s", got)
		}
		w.away = false
		w.see()
		time.Sleep(presence.APIReturn - 1)
		w.see()
		if got := w.is("node2"); got != "Present (NodeAssumed)" {
			t.Errorf("while it is given time to renew its object it is %s", got)
		}
		time.Sleep(time.Nanosecond)
		w.see()
		if got := w.is("node2"); got != "Gone (SpeakerNotAlive)" {
			t.Errorf("one that renews no more is %s", got)
		}

		// Membership hears it after all, and its own word counts.
		// What it has not said yet may be on its way.
		w.Publishes("node2", "claim/192.0.2.20=9")
		w.see()
		want[netip.MustParseAddr("192.0.2.20")] = map[string]announcement.Claim{"node2": {Generation: 9}}
		got := w.tracker.Current()
		if !reflect.DeepEqual(got.Claims, want) || !got.Recheck.Equal(time.Now().Add(arrives)) {
			t.Errorf("at first claimed are %v, want %v; it is looked again in %s",
				got.Claims, want, time.Until(got.Recheck))
		}
		time.Sleep(arrives)
		w.see()
		want = map[netip.Addr]map[string]announcement.Claim{
			netip.MustParseAddr("192.0.2.20"): {"node2": {Generation: 9}},
		}
		if got := w.tracker.Current().Claims; !reflect.DeepEqual(got, want) {
			t.Errorf("claimed are %v, want %v", got, want)
		}
	})
}

func TestOwnReports(t *testing.T) {
	w := newWorld(t)
	w.Kernels = map[string]prober.Reach{
		"node2": {State: prober.Answers, LastAnswer: start},
		"node3": {State: prober.Silent, LastAnswer: start},
		"node4": {State: prober.Silent, LastAnswer: start},
		"node5": {State: prober.Unknown},
	}
	for i, news := range []bool{
		w.tracker.pinged("node3", presence.Ping{Failed: true, At: start.Add(time.Second)}),
		!w.tracker.pinged("node3", presence.Ping{Failed: true, At: start.Add(2 * time.Second)}),
		!w.tracker.pinged("node4", presence.Ping{At: start.Add(time.Second)}),
		w.tracker.pinged("node4", presence.Ping{Failed: true, At: start.Add(-time.Second)}),
		w.tracker.pinged("node4", presence.Ping{At: start.Add(time.Second)}),
	} {
		if !news {
			t.Errorf("ping %d: what is told as news is wrong", i)
		}
	}
	want := map[string][]byte{"probe/node2": []byte("answers"), "probe/node3": []byte("silent")}
	if got := encodeReports(w.tracker.ownReports()); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestReturningWithAnotherLink: node1 loses the LAN over which it is a member, and
// keeps a second one. When the first is back it asks before it announces.
func TestReturningWithAnotherLink(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Address = netip.MustParseAddr("192.0.2.1") })
	eth0, svc0 := link("eth0", "192.0.2.1/24"), link("svc0", "198.51.100.1/24")
	down := eth0
	down.Up = false
	for _, step := range []struct {
		story string
		links []links.Link
		back  bool
	}{
		{"both links", []links.Link{eth0, svc0}, false},
		{"the second goes", []links.Link{eth0}, false},
		{"and comes back", []links.Link{eth0, svc0}, false},
		{"the first has no carrier", []links.Link{down, svc0}, false},
		{"and has it again", []links.Link{eth0, svc0}, true},
		{"the first is taken away", []links.Link{svc0}, false},
		{"and is made again", []links.Link{eth0, svc0}, true},
		{"none is left", []links.Link{}, false},
		{"the second alone", []links.Link{svc0}, false},
		{"all are back", []links.Link{eth0, svc0}, true},
	} {
		w.Local = step.links
		before := w.tracker.own.returning
		_, back := w.tracker.refreshLinks()
		if asks := w.tracker.own.returning > before; back != step.back || asks != step.back {
			t.Errorf("%s: back %t, returning %t", step.story, back, asks)
		}
	}
}

// TestLinksThatMayCarryAnnouncements: links of pods come and go all the time.
func TestLinksThatMayCarryAnnouncements(t *testing.T) {
	w := newWorld(t)
	var before []links.Link
	for _, step := range []struct {
		story       string
		change      func()
		moved, back bool
		links       int
	}{
		{"nothing changes", func() {}, false, false, 1},
		{"they are not known for a moment, as at the start",
			func() { before, w.Local = w.Local, nil }, false, false, 1},
		{"they are", func() { w.Local = before }, false, false, 1},
		{"a pod comes",
			func() { w.Local = append(w.Local, link("veth1a2b", "10.1.0.1/24")) }, false, false, 1},
		{"the link gets another address", func() {
			w.Local[0].Prefixes = append(w.Local[0].Prefixes, link("", "198.51.100.1/24").Prefixes...)
		}, true, false, 1},
		{"an advertisement names the pod's link", func() { w.named = []string{"veth1a2b"} }, true, false, 2},
		{"the pod goes", func() { w.Local = w.Local[:1] }, true, false, 1},
		{"the link goes down", func() { w.Local[0].Up = false }, true, false, 0},
		{"nothing changes, without a link", func() {}, false, false, 0},
		{"the link is back", func() { w.Local[0].Up = true }, true, true, 1},
		{"nothing changes any more", func() {}, false, false, 1},
	} {
		step.change()
		moved, back := w.tracker.refreshLinks()
		if moved != step.moved || back != step.back || len(w.tracker.OwnLinks()) != step.links {
			t.Errorf("%s: changed %t, back %t, and the links are %+v",
				step.story, moved, back, w.tracker.OwnLinks())
		}
	}
	if n := w.tracker.own.returning; n != 1 {
		t.Errorf("%d returns are to be asked about", n)
	}
}

// TestReturningIsNeverMissed: whoever decides while a link comes back sees that the node
// is returning, or what the others said since.
func TestReturningIsNeverMissed(t *testing.T) {
	// The reader may get no processor for many rounds: there are more until it has seen
	// enough of them.
	const rounds, most, enough = 2000, 1<<16 - 1, 20
	w := newWorld(t)
	var done atomic.Bool
	var decided atomic.Int32
	go func() {
		defer done.Store(true)
		up := w.Local[0]
		for round := 1; round <= rounds || decided.Load() < enough && round <= most; round++ {
			w.Local = []links.Link{}
			w.see()
			w.Publishes("node2", fmt.Sprintf("claim/192.0.2.10=%d", round)) // taken over
			number := netip.AddrFrom4([4]byte{10, 0, byte(round >> 8), byte(round)})
			up.Prefixes = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.PrefixFrom(number, 32)}
			w.Local = []links.Link{up}
			w.tracker.refreshLinks()
			w.tracker.refresh(time.Now())
			w.tracker.returned()
		}
	}()
	for !done.Load() {
		around := w.tracker.Around()
		links := around.Speakers["node1"].Links
		if len(links) == 0 || len(links[0].Prefixes) == 1 || around.Returning {
			continue
		}
		decided.Add(1)
		round := links[0].Prefixes[1].Addr().As4()
		if at := uint64(round[2])<<8 | uint64(round[3]); around.Claims[address]["node2"].Generation < at {
			t.Fatalf("the link is back for the %dth time, and what is known is the claim of the %dth", at,
				around.Claims[address]["node2"].Generation)
		}
	}
	if decided.Load() < enough {
		t.Error("it was hardly ever seen to be back")
	}
}

// TestReturning: from when the link is there again until the others have been asked, this
// node is returning.
func TestReturning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		up := w.Local
		w.Local = []links.Link{}
		w.see()
		asked := make(chan struct{})
		w.tracker.c.Membership = confirming{w, asked}
		w.Local = up
		w.tracker.Evaluate(ended())
		synctest.Wait()
		if a := w.tracker.Around(); !a.Returning || len(a.Speakers["node1"].Links) != 1 {
			t.Errorf("before anybody answers returning is %t, with the links %v",
				a.Returning, a.Speakers["node1"].Links)
		}
		before := w.AllRequeued
		close(asked)
		synctest.Wait()
		if a := w.tracker.Around(); a.Returning || w.AllRequeued == before {
			t.Errorf("then returning is %t, and all was requeued %d times", a.Returning, w.AllRequeued-before)
		}
	})
}

// confirming is a membership in which nobody answers before a channel is closed.
type confirming struct {
	Membership
	asked <-chan struct{}
}

// Confirm implements [Membership].
func (c confirming) Confirm(context.Context) error {
	<-c.asked
	return nil
}

func TestNodeOfAHardwareAddress(t *testing.T) {
	w := newWorld(t)
	w.Publishes("node2")
	w.see()
	for n, want := range []string{1: "node1", 2: "node2", 3: ""} {
		if got := w.tracker.NodeOf(speakertest.MAC(byte(n))); n > 0 && got != want {
			t.Errorf("%s is %q's, want %q", speakertest.MAC(byte(n)), got, want)
		}
	}
	if got := w.tracker.NodeOf(nil); got != "" {
		t.Errorf("no hardware address is %q's", got)
	}
}

// TestNodeListsItselfAmongTheSpeakers: what this node is among the speakers.
func TestNodeListsItselfAmongTheSpeakers(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.IgnoreCordon = true })
	self := func() announcement.Speaker { return w.tracker.Around().Speakers["node1"] }
	if s := self(); s.Presence != announcement.Present || !s.Worked || !s.Heard ||
		!s.IgnoresCordon || s.IgnoresExclude || s.Full {
		t.Errorf("it is %+v", s)
	}
	if string(w.Published["ignores-cordon"]) != "yes" || w.Published["ignores-exclude-label"] != nil {
		t.Errorf("it publishes %q", w.Published)
	}
	w.full = true
	w.tracker.SetStage(announcement.StageLeaving)
	if s := self(); s.Presence != announcement.Leaving || !s.Worked || !s.Full ||
		string(w.Published["stage"]) != "leaving" {
		t.Errorf("it is %+v, and publishes %q", s, w.Published)
	}
	fresh := newWorld(t)
	fresh.tracker.own = ownState{}
	fresh.tracker.SetStage(announcement.StageStarting)
	if s := fresh.tracker.Around().Speakers["node1"]; s.Worked || fresh.tracker.LinksKnown() {
		t.Errorf("one that starts is %+v", s)
	}
}

// TestYieldedAddressesStayYielded: what an isolated node leaves to others stays so until
// it is not isolated any more, or the other is gone.
func TestYieldedAddressesStayYielded(t *testing.T) {
	w := newWorld(t)
	w.Publishes("node2")
	w.see()
	other := netip.MustParseAddr("192.0.2.11")
	for _, step := range []struct {
		story    string
		isolated bool
		to       map[netip.Addr]string
		change   func()
		news     bool
		requeues bool
		want     string // to whom address and other are left
	}{
		{"it hears others", false, nil, func() {}, false, false, " "},
		{"it hears nobody", true, nil, func() {}, true, false, " "},
		{"another takes an address",
			true, map[netip.Addr]string{address: "node2"}, func() {}, false, true, "node2 "},
		{"and one more", true, map[netip.Addr]string{other: "node2"}, func() {}, false, true, "node2 node2"},
		{"nothing more is heard", true, nil, func() {}, false, false, "node2 node2"},
		{"the other dies", true, nil, func() { w.died("node2", false); w.see() }, false, false, " "},
		{"it hears somebody again", false, nil, func() {}, true, true, " "},
	} {
		step.change()
		before := w.AllRequeued
		news := w.tracker.SetIsolated(step.isolated, step.to)
		if news != step.news || (w.AllRequeued > before) != step.requeues ||
			w.tracker.IsIsolated() != step.isolated {
			t.Errorf("%s: news %t, requeued %d times", step.story, news, w.AllRequeued-before)
		}
		if got := w.tracker.YieldedTo(address) + " " + w.tracker.YieldedTo(other); got != step.want {
			t.Errorf("%s: they are left to %q, want %q", step.story, got, step.want)
		}
	}
}

// TestAStageOfALaterVersion: one that works at a stage that is not known is present.
func TestAStageOfALaterVersion(t *testing.T) {
	w := newWorld(t)
	w.Publishes("node2", "stage=warming", "weather=fine", "probe/node3=warm")
	w.see()
	if got := w.is("node2"); got != "Present (NodePresent)" {
		t.Errorf("it is %s", got)
	}
}

// TestStatesAreReadOnce: what a member publishes is read again when it publishes
// something else.
func TestStatesAreReadOnce(t *testing.T) {
	w := newWorld(t)
	say := func(revision uint64, claim string) {
		w.Publishes("node2", claim)
		m := w.Others["node2"]
		m.Revision = revision
		w.Others["node2"] = m
		w.see()
	}
	say(1, "claim/192.0.2.10=1")
	say(2, "claim/192.0.2.10=2")
	if got := w.tracker.Current().Claims[address]["node2"]; got.Generation != 2 {
		t.Errorf("it claims %+v", got)
	}
	say(2, "claim/192.0.2.10=3") // which cannot be
	if got := w.tracker.Current().Claims[address]["node2"]; got.Generation != 2 {
		t.Errorf("the same revision is read again: %+v", got)
	}
	delete(w.Others, "node2")
	w.see()
	if len(w.tracker.states) != 1 || len(w.tracker.Current().Claims) != 0 {
		t.Errorf("states %v, claims %v", w.tracker.states, w.tracker.Current().Claims)
	}
}

// TestAMemberThatIsNotUnderstood: its kernel is not in question for that.
func TestAMemberThatIsNotUnderstood(t *testing.T) {
	w := newWorld(t)
	w.Publishes("node2", "claim/192.0.2.10=5", "stage=restarting") // before it was replaced
	m := w.Others["node2"]
	m.Format = membership.Format{Major: 2, Oldest: 2, Newest: 2}
	w.Others["node2"] = m
	w.see()
	got := w.is("node2")
	if got != "Present (FormatUnknown)" || !w.tracker.Current().Members["node2"].ClaimsUnknown {
		t.Errorf("without an object it is %s", got)
	}
	if ask := w.tracker.questionable(); len(ask) > 0 {
		t.Errorf("its kernel is in question: %v", ask)
	}
}

// TestHigherOfTheFormerClaimsCounts: what the others remember and what the object tells,
// the higher one.
func TestHigherOfTheFormerClaimsCounts(t *testing.T) {
	w := newWorld(t)
	w.Published["claims/192.0.2.0"] = []byte("4:a,7:b")
	object := map[netip.Addr]announcement.Claim{
		address:                            {Generation: 5},
		netip.MustParseAddr("192.0.2.11"):  {Generation: 6},
		netip.MustParseAddr("2001:db8::1"): {Generation: 1},
	}
	want := map[netip.Addr]announcement.Claim{
		address:                            {Generation: 5},
		netip.MustParseAddr("192.0.2.11"):  {Generation: 7},
		netip.MustParseAddr("2001:db8::1"): {Generation: 1},
	}
	if got := w.tracker.ClaimedBefore(object); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestLongNodeNamesArePublished: a node may have a name of 253 bytes.
func TestLongNodeNamesArePublished(t *testing.T) {
	w := newWorld(t)
	network, err := membership.New(membership.Config{
		Name:     "node1",
		BindAddr: netip.MustParseAddr("127.0.0.1"),
		Keys:     [][]byte{make([]byte, 16)},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Kernels = map[string]prober.Reach{
		"node2": {State: prober.Answers},
		strings.Repeat("worker-", 8) + "a.example": {State: prober.Answers},
	}
	if err := network.PublishPrefix(keyProbe, encodeReports(w.tracker.ownReports())); err != nil {
		t.Errorf("%v", err)
	}
}

func TestPingsOfASilentNodeBecomeFewer(t *testing.T) {
	last := time.Duration(0)
	for _, silent := range []time.Duration{0, time.Second, 10 * time.Second, time.Hour} {
		pause := pingPause(silent)
		if pause < last || pause < 50*time.Millisecond || pause > 10*time.Second {
			t.Errorf("after %s of silence the pause is %s", silent, pause)
		}
		last = pause
	}
	if pingPause(0) > 200*time.Millisecond {
		t.Error("a node that has just fallen silent must be known for dead soon")
	}
	if pingPause(time.Hour) < time.Second {
		t.Error("a node that was taken away is pinged without an end")
	}
}

// refusing is a dialer that finds the port of a speaker closed.
type refusing struct{}

// DialContext implements [Dialer].
func (refusing) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
}

// TestARefusedPing: a node whose kernel refuses connections forwards traffic, and its
// speaker is expected back.
func TestARefusedPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Dialer = refusing{} })
		w.Publishes("node2")
		w.reads(written("node2"))
		w.died("node2", true)
		time.Sleep(graces.Silence)
		w.see()
		if got := w.is("node2"); got != "Held (NodeHeld)" || !w.tracker.pings["node2"].Refused {
			t.Errorf("it is %s, after the ping %+v", got, w.tracker.pings["node2"])
		}
	})
}

// TestSpeakersAreReplacedWhenTheyChange: decisions for thousands of addresses share what follows from them.
func TestSpeakersAreReplacedWhenTheyChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		same := func() func() bool {
			before := w.tracker.Around().Speakers
			return func() bool {
				return reflect.ValueOf(before).UnsafePointer() ==
					reflect.ValueOf(w.tracker.Around().Speakers).UnsafePointer()
			}
		}
		for _, step := range []struct {
			story  string
			change func()
			same   bool
		}{
			{"another comes", func() { w.Publishes("node2") }, false},
			{"nothing happens", func() {}, true},
			{"it claims an address", func() { w.Publishes("node2", "claim/192.0.2.10=1") }, true},
			{"it leaves", func() { w.Publishes("node2", "stage=leaving") }, false},
			{"it leaves, too", func() { w.tracker.SetStage(announcement.StageLeaving) }, false},
		} {
			is := same()
			step.change()
			w.see()
			if is() != step.same {
				t.Errorf("%s: the speakers are the same: %t", step.story, is())
			}
		}
	})
}

// ended is a context that has ended: nothing that is begun with it goes on.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// BenchmarkEvaluate looks at members that own 10,000 addresses, when nothing changed but what
// one of them publishes.
func BenchmarkEvaluate(b *testing.B) {
	for _, nodes := range []int{3, 100, 1000} {
		b.Run(fmt.Sprintf("%d nodes", nodes), func(b *testing.B) {
			w := newWorld(&testing.T{})
			const addresses = 10000
			for n := range nodes {
				c, published := newToldClaims(MaxBlocks)
				for i := n; i < addresses; i += nodes {
					c.Set(netip.AddrFrom4([4]byte{
						10, 0, byte(i / 256), byte(i),
					}), &announcement.Claim{Generation: 1})
				}
				c.Publish()
				name := fmt.Sprintf("node%d", n+2)
				m := member(name, membership.Alive, time.Now())
				maps.Copy(m.Values, published.said)
				m.Revision = 1
				w.Others[name] = m
			}
			w.tracker.Evaluate(b.Context())
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				m := w.Others["node2"]
				m.Revision = uint64(i + 2)
				w.Others["node2"] = m
				w.tracker.Evaluate(b.Context())
			}
		})
	}
}
