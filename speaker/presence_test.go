package main

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/prober"
	"github.com/berth-lb/berth/pkg/membership"
)

// start is when stories begin that have their own clock.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// reads gives the picture of the fellows what their Speaker objects say.
func (w *world) reads(objects ...*v1beta1.Speaker) {
	w.t.Helper()
	for _, o := range objects {
		if err := client.IgnoreNotFound(w.api.Delete(w.t.Context(), o.DeepCopy())); err != nil {
			w.t.Fatal(err)
		}
		if err := w.api.Create(w.t.Context(), o.DeepCopy()); err != nil {
			w.t.Fatal(err)
		}
	}
	var ignored peers
	r := &fellowReconciler{cached: w.api, node: "node1", members: &ignored, fellows: w.fellows, told: func() {}}
	if _, err := r.Reconcile(w.t.Context(), reconcile.Request{}); err != nil {
		w.t.Fatal(err)
	}
	w.see()
}

// written is the Speaker object of nodeN as its speaker writes it.
func written(name string, change ...func(*v1beta1.SpeakerStatus)) *v1beta1.Speaker {
	s := &v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1beta1.SpeakerStatus{
		MemberAddress: fmt.Sprintf("192.0.2.%s:7947", strings.TrimPrefix(name, "node")),
		Stage:         v1beta1.StageReady,
		Links:         linkStatus([]links.Link{fellowLink(name)}),
	}}
	for _, f := range change {
		f(&s.Status)
	}
	return s
}

// announcesIn has an object tell of an announcement.
func announcesIn(addr string, generation int64) func(*v1beta1.SpeakerStatus) {
	return func(s *v1beta1.SpeakerStatus) {
		s.Layer2.Announcements = append(s.Layer2.Announcements, v1beta1.Layer2Announcement{Address: addr, Generation: generation})
		s.Layer2.Count++
	}
}

// renewedAt has an object tell that it was renewed.
func renewedAt(at time.Time) func(*v1beta1.SpeakerStatus) {
	return func(s *v1beta1.SpeakerStatus) { s.RenewTime = &metav1.MicroTime{Time: at} }
}

// doubts has an object tell of a node whose speaker its own does not hear.
func doubts(node string, reason v1beta1.Reason) func(*v1beta1.SpeakerStatus) {
	since := metav1.NewTime(time.Now().Truncate(time.Second))
	return func(s *v1beta1.SpeakerStatus) {
		s.Fellows = append(s.Fellows, v1beta1.SpeakerFellow{Name: node, Presence: v1beta1.FellowHeld, Reason: string(reason), Since: since})
	}
}

// TestWhatIsExpectedOfAFellow follows node2 through its life, as node1 sees it
// by membership and by its own probes. node1 is its only witness.
func TestWhatIsExpectedOfAFellow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.patienceOf(patience)
		for _, step := range []struct {
			story  string
			change func()
			want   string
		}{
			{"nobody has heard of it", func() {}, "unknown"},
			{"it starts", func() { w.says("node2", "stage=starting") }, "Held (NodeHeld)"},
			{"it is ready", func() { w.says("node2") }, "Present (NodePresent)"},
			{"its kernel misses a probe", func() { w.reach["node2"] = prober.Reach{State: prober.Answers, LastAnswer: time.Now(), Missed: 2} }, "Present (NodePresent)"},
			{"its kernel is silent, and its speaker answers a ping", func() {
				w.reach["node2"] = prober.Reach{State: prober.Silent, LastAnswer: time.Now(), Missed: 3}
				time.Sleep(time.Millisecond)
				w.fellows.pinged("node2", pingResult{at: time.Now()})
			}, "Present (NodePresent)"},
			{"its speaker is silent too: nobody waits for membership", func() { w.fellows.pinged("node2", pingResult{failed: true, at: time.Now()}) }, "Gone (NodeSilent)"},
			{"the process of its speaker is gone, and its kernel answers", func() {
				w.reach["node2"] = prober.Reach{State: prober.Answers, LastAnswer: time.Now()}
				w.fellows.pinged("node2", pingResult{failed: true, refused: true, at: time.Now()})
			}, "Present (NodePresent)"},
			{"it answers again", func() {
				w.reach["node2"] = prober.Reach{State: prober.Answers, LastAnswer: time.Now()}
				w.fellows.pinged("node2", pingResult{at: time.Now()})
			}, "Present (NodePresent)"},
			{"a ping that failed before its kernel last answered says nothing", func() {
				w.reach["node2"] = prober.Reach{State: prober.Silent, LastAnswer: time.Now(), Missed: 3}
			}, "Present (NodePresent)"},
			{"its speaker is killed, its kernel answers", func() { w.says("node2"); w.died("node2", true) }, "Held (NodeHeld)"},
			{"for too long", func() { time.Sleep(patience.Silence) }, "Gone (SpeakerNotAlive)"},
			{"it is back and looks for its fellows", func() { w.says("node2", "stage=starting") }, "Held (NodeHeld)"},
			{"it finds them", func() { w.says("node2") }, "Present (NodePresent)"},
			{"it is about to restart", func() { w.says("node2", "stage=restarting") }, "Held (NodeHeld)"},
			{"it has left to do so", func() { w.members["node2"] = member("node2", membership.Left, time.Now(), "stage=restarting") }, "Held (NodeHeld)"},
			{"it does not come back", func() { time.Sleep(patience.Restart) }, "Gone (SpeakerNotAlive)"},
			{"it comes back, and then its node is drained", func() { w.says("node2", "stage=leaving") }, "Leaving (NodeLeaving)"},
			{"it has handed over", func() { w.members["node2"] = member("node2", membership.Left, time.Now(), "stage=leaving") }, "Gone (NodeLeaving)"},
		} {
			step.change()
			w.see()
			if got := w.isFellow("node2"); got != step.want {
				t.Errorf("%s: node2 is %s, want %s", step.story, got, step.want)
			}
		}
	})
}

// TestWhatWasNotSeenMeanwhile: a node that could see nobody for a while, because it
// had no link or stood still, takes nothing from fellows that it missed then, before
// it has looked for them as long as for any other.
func TestWhatWasNotSeenMeanwhile(t *testing.T) {
	patience := patience
	patience.Doubt = 500 * time.Millisecond
	for _, test := range []struct {
		story string
		reach prober.Reach
		want  string
		lasts time.Duration
	}{
		{"its kernel is not probed yet", prober.Reach{}, "Held (NodeHeld)", patience.Doubt},
		{"its kernel answers", prober.Reach{State: prober.Answers, LastAnswer: time.Now()}, "Held (NodeHeld)", patience.Silence},
	} {
		t.Run(test.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.patienceOf(patience)
				w.says("node2")
				w.died("node2", false)
				w.reach["node2"] = test.reach
				time.Sleep(time.Minute)
				w.see()
				if got := w.isFellow("node2"); got != "Gone (SpeakerNotAlive)" {
					t.Errorf("before, node2 is %s", got)
				}
				w.fellows.wasBlind(time.Now())
				w.see()
				if got := w.isFellow("node2"); got != test.want {
					t.Errorf("node2 is %s, want %s", got, test.want)
				}
				if again := time.Until(w.fellows.current().recheck); again != test.lasts {
					t.Errorf("it is looked at again after %s, want %s", again, test.lasts)
				}
				time.Sleep(test.lasts)
				w.see()
				if got := w.isFellow("node2"); got != "Gone (SpeakerNotAlive)" {
					t.Errorf("then node2 is %s", got)
				}
			})
		})
	}
}

// patienceOf says how long the fellows may take.
func (w *world) patienceOf(p announcement.GracePeriods) { w.fellows.patience = p }

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
		{"one cannot tell, and its speaker is heard", [2]string{"silent", ""}, false, "Present (NodePresent)"},
		{"one says what this version does not know", [2]string{"silent", "perhaps"}, false, "Present (NodePresent)"},
		{"one cannot tell, and its speaker is not heard", [2]string{"", "silent"}, true, "Gone (NodeSilent)"},
		{"both get answers, and its speaker is not heard", [2]string{"answers", "answers"}, true, "Held (NodeHeld)"},
		{"neither can tell, and its speaker is not heard", [2]string{"", ""}, true, "Gone (SpeakerNotAlive)"},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t)
			for _, name := range names[1:] {
				w.says(name)
			}
			for i, name := range witnesses {
				if test.said[i] != "" {
					w.says(name, "probe/"+subject+"="+test.said[i])
				}
			}
			// What node1 finds by itself does not count: others are the witnesses.
			w.reach[subject] = prober.Reach{State: prober.Answers, LastAnswer: time.Now()}
			if test.dead {
				m := member(subject, membership.Dead, time.Now())
				w.members[subject] = m
			}
			w.see()
			if got := w.isFellow(subject); got != test.want {
				t.Errorf("%s is %s, want %s", subject, got, test.want)
			}
		})
	}
}

// TestPictureTellsWhatChanged: addresses are looked at whose claims changed,
// all when it is about the fellows themselves, none when nothing changed.
func TestPictureTellsWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for _, step := range []struct {
			story   string
			change  func()
			claimed string
			fellows bool
		}{
			{"nothing", func() {}, "[]", false},
			{"a fellow comes", func() { w.says("node2", "stage=starting") }, "[]", true},
			{"time goes by", func() { time.Sleep(time.Second) }, "[]", false},
			{"it is ready", func() { w.says("node2") }, "[]", true},
			{"it claims addresses", func() { w.says("node2", "claim/2001:db8::1=1", "claim/192.0.2.20=1", "claim/192.0.2.3=1") },
				"[192.0.2.3 192.0.2.20 2001:db8::1]", false},
			{"one anew, and gives another up", func() { w.says("node2", "claim/2001:db8::1=1", "claim/192.0.2.20=2") }, "[192.0.2.3 192.0.2.20]", false},
			{"it reports on a kernel", func() {
				w.says("node2", "claim/2001:db8::1=1", "claim/192.0.2.20=2", "probe/node3=answers")
			}, "[]", false},
			{"its kernel answers again and again", func() { w.reach["node2"] = prober.Reach{State: prober.Answers, LastAnswer: time.Now()} }, "[]", false},
			{"it gets another link", func() {
				w.says("node2", "claim/2001:db8::1=1", "claim/192.0.2.20=2", "link/eth1=02:00:00:00:00:22 198.51.100.2/24")
			}, "[]", true},
			{"its speaker is killed: what it claims is remembered", func() { w.died("node2", true) }, "[]", true},
			{"its patience ends", func() { time.Sleep(patience.Silence) }, "[]", true},
			{"it is forgotten", func() { delete(w.members, "node2") }, "[192.0.2.20 2001:db8::1]", true},
		} {
			step.change()
			claimed, fellows := w.fellows.look(time.Now())
			if fmt.Sprint(claimed) != step.claimed || fellows != step.fellows {
				t.Errorf("%s: got %v, %t, want %s, %t", step.story, claimed, fellows, step.claimed, step.fellows)
			}
		}
	})
}

// TestPictureIsLookedAtAgainInTime: when patience with the first of the fellows
// ends.
func TestPictureIsLookedAtAgainInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.says("node2")
		w.see()
		if p := w.fellows.current(); !p.recheck.IsZero() {
			t.Errorf("all are present, and it is looked again in %s", time.Until(p.recheck))
		}
		w.says("node3", "stage=restarting")
		w.died("node2", true)
		since := time.Now()
		w.see()
		if p := w.fellows.current(); !p.recheck.Equal(since.Add(patience.Silence)) {
			t.Errorf("it is looked again in %s, want %s", time.Until(p.recheck), patience.Silence)
		}
		time.Sleep(patience.Silence)
		w.see()
		if p := w.fellows.current(); !p.recheck.Equal(since.Add(patience.Restart)) {
			t.Errorf("it is looked again in %s, want %s", time.Until(p.recheck), patience.Restart-patience.Silence)
		}
	})
}

// TestSinceWhenAFellowIsSo: since it came to its presence, whatever else
// changes of it.
func TestSinceWhenAFellowIsSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.says("node2")
		w.see()
		first := time.Now()
		time.Sleep(time.Minute)
		w.says("node2", "link/eth1=02:00:00:00:00:22")
		w.see()
		if got := w.fellows.current().fellows["node2"].since; !got.Equal(first) {
			t.Errorf("it counts as present for %s", time.Since(got))
		}
		w.died("node2", true)
		w.see()
		if got := w.fellows.current().fellows["node2"].since; !got.Equal(time.Now()) {
			t.Errorf("it counts as held for %s", time.Since(got))
		}
	})
}

// TestObjectStandsInForAFellowThatIsNotHeard: membership cannot reach node2,
// as behind a firewall, and the API server tells of it.
func TestObjectStandsInForAFellowThatIsNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		old := time.Now().Add(-time.Hour)
		w.reads(written("node2", renewedAt(old), announcesIn("192.0.2.10", 4), func(s *v1beta1.SpeakerStatus) {
			s.Layer2.Announcements = append(s.Layer2.Announcements, v1beta1.Layer2Announcement{Address: "192.0.2.11", Generation: 2, StandInFor: "node3"})
			s.Links = append(s.Links, v1beta1.SpeakerLink{Name: "eth1", MACAddress: "02:00:00:00:00:22"})
		}))
		if got := w.isFellow("node2"); got != "Gone (SpeakerNotAlive)" {
			t.Errorf("one whose object was there before is %s: it may have been dead for long", got)
		}
		f := w.fellows.current().fellows["node2"]
		if len(f.Links) != 1 || !f.Links[0].Equal(fellowLink("node2")) {
			t.Errorf("its links are %+v: want the one that is up", f.Links)
		}
		want := map[netip.Addr]map[string]announcement.Claim{address: {"node2": {Generation: 4}}}
		if got := w.fellows.current().claims; !reflect.DeepEqual(got, want) {
			t.Errorf("claimed are %v, want %v", got, want)
		}

		time.Sleep(renewInterval)
		w.reads(written("node2", renewedAt(time.Now()), announcesIn("192.0.2.10", 4)))
		if got := w.isFellow("node2"); got != "Present (NodeHeard)" {
			t.Errorf("one that renews its object is %s", got)
		}
		if p := w.fellows.current(); !p.recheck.Equal(time.Now().Add(patience.Renewal)) || p.alive != 1 {
			t.Errorf("it is looked again in %s; %d are alive", time.Until(p.recheck), p.alive)
		}
		time.Sleep(patience.Renewal - time.Second)
		w.reads() // another object changed
		if got := w.isFellow("node2"); got != "Present (NodeHeard)" {
			t.Errorf("it is %s", got)
		}
		w.away = true
		w.see()
		time.Sleep(time.Hour)
		w.see()
		if got := w.isFellow("node2"); got != "Present (NodeAssumed)" {
			t.Errorf("one of which nothing can be heard because the API server is away is %s", got)
		}
		w.away = false
		w.see()
		time.Sleep(contactReturns - 1)
		w.see()
		if got := w.isFellow("node2"); got != "Present (NodeAssumed)" {
			t.Errorf("while it is given time to renew its object it is %s", got)
		}
		time.Sleep(time.Nanosecond)
		w.see()
		if got := w.isFellow("node2"); got != "Gone (SpeakerNotAlive)" {
			t.Errorf("one that renews no more is %s", got)
		}

		// Membership hears it after all, and its own word counts.
		// What it has not said yet may be on its way.
		w.says("node2", "claim/192.0.2.20=9")
		w.see()
		want[netip.MustParseAddr("192.0.2.20")] = map[string]announcement.Claim{"node2": {Generation: 9}}
		if got := w.fellows.current(); !reflect.DeepEqual(got.claims, want) || !got.recheck.Equal(time.Now().Add(wordsTake)) {
			t.Errorf("at first claimed are %v, want %v; it is looked again in %s", got.claims, want, time.Until(got.recheck))
		}
		time.Sleep(wordsTake)
		w.see()
		want = map[netip.Addr]map[string]announcement.Claim{netip.MustParseAddr("192.0.2.20"): {"node2": {Generation: 9}}}
		if got := w.fellows.current().claims; !reflect.DeepEqual(got, want) {
			t.Errorf("claimed are %v, want %v", got, want)
		}
	})
}

// TestHigherClaimOfAFellowThatIsNotHeard: of what it said before it was lost
// and what its object tells, the later one counts.
func TestHigherClaimOfAFellowThatIsNotHeard(t *testing.T) {
	for _, test := range []struct {
		story  string
		said   string
		object int64
		want   announcement.Claim
	}{
		{"the object is newer", "4w", 5, announcement.Claim{Generation: 5}},
		{"the object is older", "6w", 5, announcement.Claim{Generation: 6, Minority: true}},
		{"both say the same, and the object not all of it", "5w", 5, announcement.Claim{Generation: 5, Minority: true}},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t)
			w.says("node2", "claim/192.0.2.10="+test.said)
			w.died("node2", true)
			w.reads(written("node2", announcesIn("192.0.2.10", test.object)))
			if got := w.fellows.current().claims[address]["node2"]; got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			object := w.fellows.objects["node2"].claims[address]
			if object.Generation != uint64(test.object) {
				t.Errorf("what the object tells was changed to %+v", object)
			}
		})
	}
}

func TestMinority(t *testing.T) {
	for _, test := range []struct {
		story          string
		alive, objects []string
		minority       bool
	}{
		{"a cluster of one", nil, nil, false},
		{"one of two", nil, []string{"node2"}, false},
		{"one of three", nil, []string{"node2", "node3"}, true},
		{"two of three", []string{"node2"}, []string{"node2", "node3"}, false},
		{"two of four: just half", []string{"node2"}, []string{"node2", "node3", "node4"}, false},
		{"two of five", []string{"node2"}, []string{"node2", "node3", "node4", "node5"}, true},
		{"all of three, and the API server is empty", []string{"node2", "node3"}, nil, false},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t)
			for _, name := range test.alive {
				w.says(name)
			}
			var objects []*v1beta1.Speaker
			for _, name := range append(slices.Clone(test.objects), "node1") {
				objects = append(objects, written(name))
			}
			w.reads(objects...)
			p := w.fellows.current()
			if p.minority != test.minority || p.alive != 1+len(test.alive) {
				t.Errorf("minority is %t with %d alive", p.minority, p.alive)
			}
		})
	}
}

// TestChangedClaims has fellows claim and take back at random: the claims by address
// are those by node turned round, whatever was shared with the picture before, which
// stays as it was; and the addresses that changed are those that differ.
func TestChangedClaims(t *testing.T) {
	turned := func(owned map[string]map[netip.Addr]announcement.Claim) map[netip.Addr]map[string]announcement.Claim {
		out := map[netip.Addr]map[string]announcement.Claim{}
		for node, claims := range owned {
			for addr, claim := range claims {
				if out[addr] == nil {
					out[addr] = map[string]announcement.Claim{}
				}
				out[addr][node] = claim
			}
		}
		return out
	}
	rapid.Check(t, func(t *rapid.T) {
		claim := rapid.Custom(func(t *rapid.T) announcement.Claim {
			return announcement.Claim{Generation: rapid.Uint64Range(1, 3).Draw(t, "generation"), Minority: rapid.Bool().Draw(t, "weak")}
		})
		addr := rapid.Map(rapid.ByteRange(1, 5), func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, n}) })
		word := rapid.MapOfN(addr, claim, 0, 5)
		last := picture{}
		for range rapid.IntRange(1, 5).Draw(t, "looks") {
			before := turned(last.owned)
			owned := rapid.MapOfN(rapid.SampledFrom([]string{"node2", "node3", "node4"}), word, 0, 3).Draw(t, "owned")
			claims, changed := changedClaims(last, owned)
			want := turned(owned)
			if !reflect.DeepEqual(claims, want) {
				t.Fatalf("got %v, want %v", claims, want)
			}
			var differ []netip.Addr
			for n := range byte(6) {
				if addr := netip.AddrFrom4([4]byte{192, 0, 2, n}); !maps.Equal(before[addr], want[addr]) {
					differ = append(differ, addr)
				}
			}
			if !slices.Equal(changed, differ) {
				t.Fatalf("changed %v, want %v", changed, differ)
			}
			if last.claims != nil && !reflect.DeepEqual(last.claims, before) {
				t.Fatalf("the picture before was changed to %v, it was %v", last.claims, before)
			}
			last = picture{claims: claims, owned: owned}
		}
	})
}

// TestTargets: node1 probes the nodes that it is a witness of, where both are
// on one LAN.
func TestTargets(t *testing.T) {
	mac := net6(2)
	target := prober.Target{Node: "node2", Link: "eth0", On: "eth9", Addr: netip.MustParseAddr("192.0.2.2"), MAC: mac}
	theirs := func(prefixes ...string) []links.Link {
		l := link("eth9", prefixes...)
		l.HardwareAddr = mac
		return []links.Link{l}
	}
	down := link("eth0", "192.0.2.1/24")
	down.Up = false
	for _, test := range []struct {
		story  string
		ours   []links.Link
		theirs []links.Link
		alive  bool
		want   []prober.Target
	}{
		{"both are in one subnet", []links.Link{link("eth0", "192.0.2.1/24")}, theirs("192.0.2.2/24"), true, []prober.Target{target}},
		{"so they are when its speaker is dead", []links.Link{link("eth0", "192.0.2.1/24")}, theirs("192.0.2.2/24"), false, []prober.Target{target}},
		{"another subnet", []links.Link{link("eth0", "192.0.2.1/24")}, theirs("198.51.100.2/24"), true, nil},
		{"its second address is in ours", []links.Link{link("eth0", "192.0.2.1/24")}, theirs("198.51.100.2/24", "192.0.2.2/24"), true, []prober.Target{target}},
		{"link-local addresses tell nothing", []links.Link{link("eth0", "fe80::1/64")}, theirs("fe80::2/64"), true, nil},
		{"a single address is no subnet", []links.Link{link("eth0", "192.0.2.1/32")}, theirs("192.0.2.2/24"), true, nil},
		{"our link is down", []links.Link{down}, theirs("192.0.2.2/24"), true, nil},
		{"two links share it", []links.Link{link("eth0", "192.0.2.1/24"), link("eth1", "192.0.2.7/24")}, theirs("192.0.2.2/24"), true,
			[]prober.Target{target, {Node: "node2", Link: "eth1", On: "eth9", Addr: target.Addr, MAC: mac}}},
	} {
		t.Run(test.story, func(t *testing.T) {
			p := picture{fellows: map[string]fellow{"node2": {Speaker: announcement.Speaker{Links: test.theirs}, alive: test.alive}}}
			if got := p.targets("node1", test.ours, nil); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
			if got := p.macs(); len(got) != 1 || got[0].String() != mac.String() {
				t.Errorf("the hardware addresses are %v", got)
			}
		})
	}
}

// TestEveryNodeHasTwoWitnesses: all nodes together probe each one twice,
// whoever of them is dead.
func TestEveryNodeHasTwoWitnesses(t *testing.T) {
	names := []string{"node1", "node2", "node3", "node4", "node5", "node6"}
	dead := "node4"
	probed := map[string]int{}
	for _, self := range names {
		if self == dead {
			continue
		}
		p := picture{fellows: map[string]fellow{}}
		for _, name := range names {
			if name != self {
				p.fellows[name] = fellow{Speaker: announcement.Speaker{Links: []links.Link{fellowLink(name)}}, alive: name != dead}
			}
		}
		for _, target := range p.targets(self, []links.Link{fellowLink(self)}, nil) {
			probed[target.Node]++
		}
	}
	for _, name := range names {
		if probed[name] != 2 {
			t.Errorf("%s is probed by %d", name, probed[name])
		}
	}
}

func TestReport(t *testing.T) {
	failed := func(after time.Duration) pingResult { return pingResult{failed: true, at: start.Add(after)} }
	for _, test := range []struct {
		story string
		reach prober.Reach
		ping  pingResult
		want  announcement.Report
	}{
		{"it was never probed", prober.Reach{}, pingResult{}, ""},
		{"it never answered, and its speaker does not either: it may not be on this LAN", prober.Reach{State: prober.Unknown, Missed: 9}, failed(0), ""},
		{"it answers", prober.Reach{State: prober.Answers, LastAnswer: start}, pingResult{}, announcement.KernelAnswers},
		{"it answers, and its speaker does not", prober.Reach{State: prober.Answers, LastAnswer: start}, failed(time.Second), announcement.KernelAnswers},
		{"it is silent, and its speaker was not asked", prober.Reach{State: prober.Silent, LastAnswer: start}, pingResult{}, ""},
		{"it is silent, and its speaker answers", prober.Reach{State: prober.Silent, LastAnswer: start}, pingResult{at: start.Add(time.Second)}, ""},
		{"both are silent", prober.Reach{State: prober.Silent, LastAnswer: start}, failed(time.Millisecond), announcement.KernelSilent},
		{"its speaker was silent before its kernel was", prober.Reach{State: prober.Silent, LastAnswer: start}, failed(-time.Millisecond), ""},
	} {
		t.Run(test.story, func(t *testing.T) {
			if got := report(test.reach, test.ping); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestOwnReports(t *testing.T) {
	w := newWorld(t)
	w.reach = map[string]prober.Reach{
		"node2": {State: prober.Answers, LastAnswer: start},
		"node3": {State: prober.Silent, LastAnswer: start},
		"node4": {State: prober.Silent, LastAnswer: start},
		"node5": {State: prober.Unknown},
	}
	for i, news := range []bool{
		w.fellows.pinged("node3", pingResult{failed: true, at: start.Add(time.Second)}),
		!w.fellows.pinged("node3", pingResult{failed: true, at: start.Add(2 * time.Second)}),
		!w.fellows.pinged("node4", pingResult{at: start.Add(time.Second)}),
		w.fellows.pinged("node4", pingResult{failed: true, at: start.Add(-time.Second)}),
		w.fellows.pinged("node4", pingResult{at: start.Add(time.Second)}),
	} {
		if !news {
			t.Errorf("ping %d: what is told as news is wrong", i)
		}
	}
	want := map[string][]byte{"probe/node2": []byte("answers"), "probe/node3": []byte("silent")}
	if got := w.fellows.ownReports(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestStartedProcess: a speaker's process that was dead listens again, and does
// not answer yet. It gets time from then on, not from its predecessor's death.
func TestStartedProcess(t *testing.T) {
	f := newFellowship("node1", patience, nil, nil)
	start := time.Now()
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	for _, test := range []struct {
		story   string
		result  pingResult
		refuses bool
	}{
		{"a speaker hangs", pingResult{failed: true, at: at(0)}, false},
		{"its process is dead", pingResult{failed: true, refused: true, at: at(20)}, true},
		{"another listens", pingResult{failed: true, at: at(29)}, true},
		{"and hangs, it seems", pingResult{failed: true, at: at(30)}, false},
		{"one is dead once more", pingResult{failed: true, refused: true, at: at(40)}, true},
		{"and another answers", pingResult{at: at(41)}, false},
	} {
		f.pinged("node2", test.result)
		if got := f.pings["node2"].refused; got != test.refuses {
			t.Errorf("%s: refuses is %t", test.story, got)
		}
	}
}

// TestTheLANOfTheAddressCounts: nodes have a management LAN, on which they are
// members, and the service LAN of the address.
func TestTheLANOfTheAddressCounts(t *testing.T) {
	nics := func(n byte) []links.Link {
		mgmt, svc := link("mgmt0", fmt.Sprintf("203.0.113.%d/24", n)), link("svc0", fmt.Sprintf("192.0.2.%d/24", n))
		mgmt.HardwareAddr, svc.HardwareAddr = net.HardwareAddr{2, 0, 0, 0, 1, n}, net6(n)
		return []links.Link{mgmt, svc}
	}
	on := func(nodes ...string) map[string][]string {
		out := map[string][]string{}
		for _, name := range nodes {
			out[name] = []string{"svc0"}
		}
		return out
	}
	for _, test := range []struct {
		story        string
		owner        string
		reach        prober.LinkReach // what node1 finds
		node2, node3 string           // what the others say: of node1, and of each other
		want         v1beta1.Reason
	}{
		{story: "all is well", owner: "node2", reach: prober.LinkReach{Answers: on("node2", "node3")}, want: v1beta1.ReasonNotOwner},
		{
			story: "its owner is silent there, say both witnesses", owner: "node2",
			reach: prober.LinkReach{Answers: on("node3"), Silent: on("node2")}, node3: "probe/node2=answers +mgmt0 -svc0",
			want: v1beta1.ReasonOwner,
		},
		{
			story: "one of them gets an answer", owner: "node2",
			reach: prober.LinkReach{Answers: on("node3"), Silent: on("node2")}, node3: "probe/node2=answers +mgmt0 +svc0",
			want: v1beta1.ReasonNotOwner,
		},
		{
			story: "the other cannot tell", owner: "node2",
			reach: prober.LinkReach{Answers: on("node3"), Silent: on("node2")}, node3: "probe/node2=answers +mgmt0",
			want: v1beta1.ReasonOwner,
		},
		{
			story: "the management LAN is membership's business", owner: "node2",
			reach: prober.LinkReach{Answers: on("node2", "node3"), Silent: map[string][]string{"node2": {"mgmt0"}}},
			want:  v1beta1.ReasonNotOwner,
		},
		{
			story: "this node owns it and is silent there, as it hears from others", owner: "node1",
			node2: "probe/node1=answers +mgmt0 -svc0", node3: "probe/node1=answers -svc0",
			want: v1beta1.ReasonHandingOver,
		},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t, append(service("web"), node("node1"), node("node2"), node("node3"))...)
			w.local, w.linkReach = nics(1), test.reach
			for _, name := range []string{"node2", "node3"} {
				words := []string{map[string]string{"node2": test.node2, "node3": test.node3}[name]}
				if name == test.owner {
					words = append(words, "claim/192.0.2.10=7")
				}
				w.says(name, words...)
				delete(w.members[name].Said, "link/eth0")
				for key, value := range linkValues(nics(name[4] - '0')) {
					w.members[name].Said[key] = value
				}
			}
			w.fellows.objects = map[string]speakerObject{
				"node2": {peer: netip.MustParseAddrPort("203.0.113.2:7947")}, "node3": {peer: netip.MustParseAddrPort("203.0.113.3:7947")},
			}
			if test.owner == "node1" {
				said := []string{w.members["node2"].Name, w.members["node3"].Name}
				for _, name := range said {
					delete(w.members[name].Said, "probe/node1")
				}
				w.state.adopt(map[netip.Addr]announcement.Claim{address: {Generation: 7}}, nil)
				w.look()
				w.members["node2"].Said["probe/node1"] = []byte(strings.TrimPrefix(test.node2, "probe/node1="))
				w.members["node3"].Said["probe/node1"] = []byte(strings.TrimPrefix(test.node3, "probe/node1="))
			}
			w.see() // the picture before tells which links are whose
			w.look()
			if w.reason() != test.want {
				t.Errorf("the reason is %s: %s", w.reason(), w.state.memory(address).Message)
			}
			if test.want == v1beta1.ReasonOwner {
				if got, _ := w.state.took(address); got.cause != v1beta1.CauseLinkSilent {
					t.Errorf("the cause is %s", got.cause)
				}
			}
		})
	}
}

// TestControls: where one that node1 witnesses is silent, others on the same LAN
// are probed too.
func TestControls(t *testing.T) {
	p := picture{fellows: map[string]fellow{}}
	for _, name := range []string{"node2", "node3", "node4", "node5", "node6", "node7", "node8", "node9"} {
		p.fellows[name] = fellow{Speaker: announcement.Speaker{Links: []links.Link{fellowLink(name)}}, alive: name != "node9"}
	}
	ours := []links.Link{fellowLink("node1")}
	usual := p.targets("node1", ours, nil)
	more := p.targets("node1", ours, []string{"eth0"})
	if len(more) != len(usual)+2 {
		t.Errorf("probed are %v, in doubt %v", usual, more)
	}
	for _, target := range more {
		if target.Node == "node9" && !slices.ContainsFunc(usual, func(t prober.Target) bool { return t.Node == "node9" }) {
			t.Error("a dead node proves nothing")
		}
	}
	if again := p.targets("node1", ours, []string{"eth0"}); !reflect.DeepEqual(more, again) {
		t.Error("they are others each time")
	}
}

// TestReturningWithAnotherLink: node1 loses the LAN over which it is a member, and
// keeps a second one. When the first is back it asks before it announces.
func TestReturningWithAnotherLink(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
	w.view.member = netip.MustParseAddr("192.0.2.1")
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
		w.local = step.links
		before := w.view.returning.Load()
		_, back := w.view.lookAtLinks()
		if asks := w.view.returning.Load() > before; back != step.back || asks != step.back {
			t.Errorf("%s: back %t, returning %t", step.story, back, asks)
		}
	}
}

// TestARenewalCountsFromWhenItWasMade: where the API could not be watched for a while, the
// last renewal of a node that has died since is seen late, and is no sign of life. By
// what the clock of the other node says does not matter.
func TestARenewalCountsFromWhenItWasMade(t *testing.T) {
	for _, theirClock := range []time.Duration{0, -time.Hour, time.Hour} {
		for _, test := range []struct {
			story   string
			seen    time.Duration // after which the second renewal is seen; it is made after 8 s
			renewed time.Duration // from when it counts
		}{
			{"at once", renewInterval, renewInterval},
			{"a little late", renewInterval + time.Second, renewInterval + renewInterval/1000},
			{"a minute late", time.Minute, renewInterval + renewInterval/1000},
		} {
			t.Run(fmt.Sprint(test.story, ", ", theirClock), func(t *testing.T) {
				begin := time.Unix(1e9, 0)
				f := newFellowship("node1", announcement.GracePeriods{}, nil, nil)
				renewed := func(made, seen time.Duration) time.Time {
					s := written("node2", renewedAt(begin.Add(theirClock+made)))
					f.setObjects(map[string]speakerObject{"node2": parseSpeaker(s, "node1")}, begin.Add(seen))
					return f.objects["node2"].renewed
				}
				if got := renewed(0, 0); !got.IsZero() {
					t.Errorf("one that was made at an unknown time counts from %s", got)
				}
				if got := renewed(renewInterval, test.seen); !got.Equal(begin.Add(test.renewed)) {
					t.Errorf("it counts from %s after the first, want %s", got.Sub(begin), test.renewed)
				}
				// The next one, seen at once, counts from now again.
				if got, now := renewed(2*time.Minute, 2*time.Minute), begin.Add(2*time.Minute); !got.Equal(now) {
					t.Errorf("the next counts from %s, want now", got.Sub(begin))
				}
				// So does one by a clock that was set back meanwhile.
				if got, now := renewed(time.Minute, 3*time.Minute), begin.Add(3*time.Minute); !got.Equal(now) {
					t.Errorf("by a clock that was set back one counts from %s, want now", got.Sub(begin))
				}
			})
		}
	}
}
