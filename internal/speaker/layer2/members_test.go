package layer2

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/speaker/members"
	"github.com/berth-lb/berth/internal/speaker/reconcile"
	"github.com/berth-lb/berth/internal/speaker/speakertest"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/prober"
	"github.com/berth-lb/berth/pkg/membership"
)

// TestWhatCannotBePublishedIsNotOwned: node1 has no room for a claim, whatever the
// decision was; and when it publishes that it is full, others get what it has not.
func TestWhatCannotBePublishedIsNotOwned(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
	// holds gives node1 room for so many blocks, of which it has these addresses' ones.
	holds := func(most int, addrs ...netip.Addr) {
		w.claimed = members.NewClaims(w, most, reconcile.PartSize, slog.New(slog.DiscardHandler))
		w.c.c.Claims = w.claimed
		for _, addr := range addrs {
			if !w.claimed.Set(addr, &announcement.Claim{Generation: 1}) {
				t.Fatalf("no room for %s", addr)
			}
		}
	}
	other := netip.MustParseAddr("198.51.100.1")
	holds(0)
	w.look()
	w.Did("192.0.2.10", true, "web Warning NodeFull")
	w.claims("")

	holds(1, other)
	w.look()
	if got := w.reason(); got != v1beta1.ReasonNoCandidate ||
		!strings.Contains(w.memory.of(address).Message, "node1 (NodeFull)") {
		t.Errorf("alone it is %s: %s", got, w.memory.of(address).Message)
	}
	if len(w.Published["full"]) == 0 {
		t.Error("it does not publish that it is full")
	}
	w.Emitted = nil

	w.Publishes("node2")
	w.look()
	if d := w.memory.of(address); d.Owner != "node2" || d.Announce {
		t.Errorf("owner is %q (%s): want the one that has room", d.Owner, d.Reason)
	}
	holds(members.MaxBlocks, other)
	w.Publishes("node2", "full=claims")
	w.look()
	w.Did("192.0.2.10 eth0", true, "web Normal Announcing")
	// What it claims it keeps, full or not.
	holds(1, address)
	w.look()
	w.Did("192.0.2.10 eth0", false)
	w.claims("1")
}

// hidden is the object of a member that owns 300 addresses, of which not all are
// listed: not that of the world.
func hidden(renewed time.Time) *v1beta1.Speaker {
	return written("node2", speakertest.RenewedAt(renewed), func(s *v1beta1.SpeakerStatus) {
		for i := range v1beta1.MaxSpeakerAnnouncements {
			s.Layer2.Announcements = append(s.Layer2.Announcements, v1beta1.Layer2Announcement{
				Address: fmt.Sprintf("198.51.100.%d", i), Generation: 2,
			})
		}
		s.Layer2.Count = 300
	})
}

// TestWhatAMemberMayOwnIsNotTaken: node2 is not heard, and owns more than its object
// lists. node1 does not begin to announce what node2 may own: it asks the LAN first,
// although it claimed the address once. What it announces it goes on announcing.
func TestWhatAMemberMayOwnIsNotTaken(t *testing.T) {
	begin := time.Now()
	start := func(t *testing.T) *world {
		w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
		w.c.view.probes = true
		w.memory.adopt(map[netip.Addr]announcement.Claim{address: {Generation: 1}}, nil)
		w.claimed.Set(address, &announcement.Claim{Generation: 1})
		w.reads(hidden(begin))
		w.reads(hidden(begin.Add(time.Second)))
		if got := w.isMember("node2"); got != "Present (NodeRenewing)" {
			t.Fatalf("node2 is %s", got)
		}
		w.look()
		if got := w.reason(); got != v1beta1.ReasonProbing ||
			!slices.Equal(w.asked, []string{"192.0.2.10 eth0"}) {
			t.Fatalf("it is %s, and asked %q", got, w.asked)
		}
		w.claims("1") // until somebody answers
		answered(w.memory, address, announcement.ProbeAsking, nil)
		return w
	}
	t.Run("nobody answers", func(t *testing.T) {
		w := start(t)
		answered(w.memory, address, announcement.ProbeFree, nil)
		w.look()
		w.Did("192.0.2.10 eth0", true, "web Normal Announcing")
		w.asked = nil
		w.look()
		if len(w.asked) > 0 || w.reason() != v1beta1.ReasonOwner {
			t.Errorf("what it announces is asked for: %q, %s", w.asked, w.reason())
		}
	})
	t.Run("the member answers, and later does no more", func(t *testing.T) {
		w := start(t)
		w.memory.setProbe(address, w.memory.of(address).asking,
			announcement.Probe{State: announcement.ProbeTaken, Holder: net6(2), Node: "node2"})
		w.look()
		w.claims("")
		d := w.memory.of(address)
		if d.Reason != v1beta1.ReasonClaimsUnknown || d.Owner != "node2" || d.Announce || len(w.Emitted) > 0 {
			t.Errorf("%s, owner %q, Events %q: %s", d.Reason, d.Owner, w.Emitted, d.Message)
		}
		answered(w.memory, address, announcement.ProbeFree, nil)
		w.look()
		// Nobody claims it any more, and by hash it is node2's, which works.
		if d := w.memory.of(address); d.Reason != v1beta1.ReasonNotOwner || d.Owner != "node2" {
			t.Errorf("%s, owner %q: %s", d.Reason, d.Owner, d.Message)
		}
		w.claims("")
	})
	t.Run("a stranger answers", func(t *testing.T) {
		w := start(t)
		answered(w.memory, address, announcement.ProbeTaken, net6(99))
		w.look()
		if got := w.reason(); got != v1beta1.ReasonConflict {
			t.Errorf("it is %s", got)
		}
	})
	t.Run("the object lists everything", func(t *testing.T) {
		w := start(t)
		w.reads(written("node2", speakertest.RenewedAt(begin.Add(2*time.Second))))
		w.look()
		w.Did("192.0.2.10 eth0", true, "web Normal Announcing")
	})
	t.Run("the member is heard and claims it", func(t *testing.T) {
		w := start(t)
		w.Publishes("node2", "claim/192.0.2.10=2")
		w.look()
		if got := w.reason(); got != v1beta1.ReasonNotOwner {
			t.Errorf("it is %s", got)
		}
	})
	t.Run("the member falls silent, and its kernel answers", func(t *testing.T) {
		w := start(t)
		w.Kernels["node2"] = prober.Reach{State: prober.Answers, LastAnswer: time.Now()}
		w.reads(hidden(time.Time{})) // which proves nothing
		w.tracker.MarkDisconnected()
		answered(w.memory, address, announcement.ProbeFree, nil)
		w.look()
		d := w.memory.of(address)
		if d.Reason != v1beta1.ReasonClaimsUnknown || d.Announce || len(w.Emitted) > 0 {
			t.Errorf("%s (node2 %s): its kernel does not answer for what it owns",
				d.Reason, w.isMember("node2"))
		}
	})
}

// TestAMemberThatIsNotUnderstood: node2 is a member and speaks another format. Its
// object counts, it may own more than that says, and it is asked to renew it.
func TestAMemberThatIsNotUnderstood(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
	w.Publishes("node2", "claim/192.0.2.10=5", "stage=restarting") // before it was replaced
	m := w.Others["node2"]
	m.Format = membership.Format{Major: 2, Oldest: 2, Newest: 2}
	w.Others["node2"] = m
	w.see()
	if got := w.isMember("node2"); got != "Present (FormatUnknown)" ||
		!w.tracker.Current().Members["node2"].ClaimsUnknown {
		t.Errorf("without an object it is %s", got)
	}
	w.reads(written("node2", speakertest.Announcing("192.0.2.10", 7)))
	if got := w.tracker.Current().Claims[address]["node2"]; got.Generation != 7 {
		t.Errorf("it claims %+v", got)
	}
	w.look()
	if got := w.reason(); got != v1beta1.ReasonNotOwner {
		t.Errorf("its address is %s", got)
	}
}

// TestTheLANOfTheAddressCounts: nodes have a management LAN, on which they are
// members, and the service LAN of the address.
func TestTheLANOfTheAddressCounts(t *testing.T) {
	nics := func(n byte) []links.Link {
		mgmt := link("mgmt0", fmt.Sprintf("203.0.113.%d/24", n))
		svc := link("svc0", fmt.Sprintf("192.0.2.%d/24", n))
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
		{
			story: "all is well", owner: "node2",
			reach: prober.LinkReach{Answers: on("node2", "node3")},
			want:  v1beta1.ReasonNotOwner,
		},
		{
			story: "its owner is silent there, say both witnesses", owner: "node2",
			reach: prober.LinkReach{Answers: on("node3"), Silent: on("node2")},
			node3: "probe/node2=answers +mgmt0 -svc0",
			want:  v1beta1.ReasonOwner,
		},
		{
			story: "one of them gets an answer", owner: "node2",
			reach: prober.LinkReach{Answers: on("node3"), Silent: on("node2")},
			node3: "probe/node2=answers +mgmt0 +svc0",
			want:  v1beta1.ReasonNotOwner,
		},
		{
			story: "the other cannot tell", owner: "node2",
			reach: prober.LinkReach{Answers: on("node3"), Silent: on("node2")},
			node3: "probe/node2=answers +mgmt0",
			want:  v1beta1.ReasonOwner,
		},
		{
			story: "the management LAN is membership's business", owner: "node2",
			reach: prober.LinkReach{
				Answers: on("node2", "node3"),
				Silent:  map[string][]string{"node2": {"mgmt0"}},
			},
			want: v1beta1.ReasonNotOwner,
		},
		{
			story: "this node owns it and is silent there, as it hears from others", owner: "node1",
			node2: "probe/node1=answers +mgmt0 -svc0", node3: "probe/node1=answers -svc0",
			want: v1beta1.ReasonHandingOver,
		},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t, append(service("web"), node("node1"), node("node2"), node("node3"))...)
			w.Local, w.LANs = nics(1), test.reach
			for _, name := range []string{"node2", "node3"} {
				words := []string{map[string]string{"node2": test.node2, "node3": test.node3}[name]}
				if name == test.owner {
					words = append(words, "claim/192.0.2.10=7")
				}
				w.Publishes(name, words...)
				delete(w.Others[name].Values, "link/eth0")
				for _, l := range nics(name[4] - '0') {
					w.Others[name].Values["link/"+l.Name] = speakertest.LinkEntry(l)
				}
			}
			for _, name := range []string{"node2", "node3"} {
				w.reads(written(name, func(s *v1beta1.SpeakerStatus) {
					s.MemberAddress = "203.0.113." + name[4:] + ":7947"
				}))
			}
			if test.owner == "node1" {
				said := []string{w.Others["node2"].Name, w.Others["node3"].Name}
				for _, name := range said {
					delete(w.Others[name].Values, "probe/node1")
				}
				w.memory.adopt(map[netip.Addr]announcement.Claim{address: {Generation: 7}}, nil)
				w.look()
				for name, words := range map[string]string{"node2": test.node2, "node3": test.node3} {
					probed := strings.TrimPrefix(words, "probe/node1=")
					w.Others[name].Values["probe/node1"] = []byte(probed)
				}
			}
			w.see() // the snapshot before tells which links are whose
			w.look()
			if w.reason() != test.want {
				t.Errorf("the reason is %s: %s", w.reason(), w.memory.of(address).Message)
			}
			if test.want == v1beta1.ReasonOwner {
				if got, _ := w.memory.took(address); got.cause != v1beta1.CauseLinkSilent {
					t.Errorf("the cause is %s", got.cause)
				}
			}
		})
	}
}

// TestManyAddressesOnEachNode: each of three nodes has eight more addresses on its
// link, which sort before the subnet of the pool. They agree on one owner.
func TestManyAddressesOnEachNode(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
	extra := func(n byte) links.Link {
		l := speakertest.LinkOf(fmt.Sprint("node", n))
		var more []netip.Prefix
		for i := range byte(8) {
			more = append(more, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, n, i}), 32))
		}
		l.Prefixes = append(more, l.Prefixes...)
		return l
	}
	w.Local = []links.Link{extra(1)}
	w.Publishes("node2", "claim/192.0.2.10=40")
	w.Others["node2"].Values["link/eth0"] = speakertest.LinkEntry(extra(2))
	w.look()
	if w.reason() != v1beta1.ReasonNotOwner {
		t.Errorf("the reason is %s", w.reason())
	}
	w.claims("")
}

// TestIsolatedNodeYields: a node that hears nobody goes on with what it has, and leaves
// an address to a member that announces it since: that one knows more. One that it had
// heard before, or a stranger, makes no difference.
func TestIsolatedNodeYields(t *testing.T) {
	for _, test := range []struct {
		story string
		after time.Duration // that it is cut off, the claim is heard
		mac   byte
		gone  bool // the other since
		node  string
	}{
		{"a member has taken it", time.Minute, 2, false, "node2"},
		{"a member claimed it before", -time.Second, 2, false, ""},
		{"a stranger claims it", time.Minute, 99, false, ""},
		{"a member has taken it, and dies", time.Minute, 2, true, ""},
	} {
		t.Run(test.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
				w.look()
				time.Sleep(time.Minute)
				w.Publishes("node2")
				w.look()
				cut := time.Now()
				time.Sleep(time.Hour)
				w.Heard = append(w.Heard, speakertest.ConflictAt(address, test.mac, cut.Add(test.after)))
				w.tracker.SetIsolated(true, w.c.ClaimedByOthers(cut))
				if test.gone {
					w.died("node2", false)
				}
				w.look()
				got := w.memory.of(address)
				if got.Announce == (test.node != "") || test.node != "" && got.Owner != test.node {
					t.Errorf("the decision is %+v", got.Decision)
				}
				// It no longer announces it, so nothing more is heard.
				w.Heard = nil
				w.tracker.SetIsolated(true, w.c.ClaimedByOthers(cut))
				w.look()
				if got := w.memory.of(address); got.Announce == (test.node != "") {
					t.Errorf("then the decision is %+v", got.Decision)
				}
				w.tracker.SetIsolated(false, nil)
				w.look()
				if got := w.memory.of(address); w.tracker.IsIsolated() ||
					got.Reason == v1beta1.ReasonIsolated {
					t.Errorf("when it hears somebody again the decision is %+v", got.Decision)
				}
			})
		})
	}
}
