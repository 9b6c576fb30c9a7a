package presence

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// TestChangedClaims has members claim and take back at random: the claims by address
// are those by node turned round, whatever was shared with the snapshot before, which
// stays as it was; and the addresses that changed are those that differ.
func TestChangedClaims(t *testing.T) {
	type byNode = map[string]announcement.Claim
	turned := func(owned map[string]map[netip.Addr]announcement.Claim) map[netip.Addr]byNode {
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
			return announcement.Claim{
				Generation: rapid.Uint64Range(1, 3).Draw(t, "generation"),
				Minority:   rapid.Bool().Draw(t, "weak"),
			}
		})
		addr := rapid.Map(rapid.ByteRange(1, 5), func(n byte) netip.Addr {
			return netip.AddrFrom4([4]byte{192, 0, 2, n})
		})
		word := rapid.MapOfN(addr, claim, 0, 5)
		last := Snapshot{}
		for range rapid.IntRange(1, 5).Draw(t, "looks") {
			before := turned(last.owned)
			nodes := rapid.SampledFrom([]string{"node2", "node3", "node4"})
			owned := rapid.MapOfN(nodes, word, 0, 3).Draw(t, "owned")
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
			if last.Claims != nil && !reflect.DeepEqual(last.Claims, before) {
				t.Fatalf("the snapshot before was changed to %v, it was %v", last.Claims, before)
			}
			last = Snapshot{Claims: claims, owned: owned}
		}
	})
}

// watched returns a snapshot of a node in which each other node has its witnesses.
func (s Snapshot) watched(node string) Snapshot {
	nodes, alive := []string{node}, []string{node}
	for name, m := range s.Members {
		if nodes = append(nodes, name); m.Heard {
			alive = append(alive, name)
		}
	}
	slices.Sort(alive)
	s.witnesses = witnesses{}.next(nodes, alive)
	return s
}

// TestTargets: node1 probes the nodes that it is a witness of, where both are
// on one LAN.
func TestTargets(t *testing.T) {
	mac := macOf(2)
	target := Target{
		Node: "node2",
		Link: "eth0",
		On:   "eth9",
		Addr: netip.MustParseAddr("192.0.2.2"),
		MAC:  mac,
	}
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
		want   []Target
	}{
		{"both are in one subnet",
			[]links.Link{link("eth0", "192.0.2.1/24")}, theirs("192.0.2.2/24"), true, []Target{target}},
		{"so they are when its speaker is dead",
			[]links.Link{link("eth0", "192.0.2.1/24")}, theirs("192.0.2.2/24"), false, []Target{target}},
		{"another subnet", []links.Link{link("eth0", "192.0.2.1/24")}, theirs("198.51.100.2/24"), true, nil},
		{"its second address is in ours", []links.Link{link("eth0", "192.0.2.1/24")},
			theirs("198.51.100.2/24", "192.0.2.2/24"), true, []Target{target}},
		{"link-local addresses tell nothing",
			[]links.Link{link("eth0", "fe80::1/64")}, theirs("fe80::2/64"), true, nil},
		{"a single address is no subnet",
			[]links.Link{link("eth0", "192.0.2.1/32")}, theirs("192.0.2.2/24"), true, nil},
		{"our link is down", []links.Link{down}, theirs("192.0.2.2/24"), true, nil},
		{"two links share it", []links.Link{link("eth0", "192.0.2.1/24"), link("eth1", "192.0.2.7/24")},
			theirs("192.0.2.2/24"), true,
			[]Target{target, {Node: "node2", Link: "eth1", On: "eth9", Addr: target.Addr, MAC: mac}}},
	} {
		t.Run(test.story, func(t *testing.T) {
			p := Snapshot{Members: map[string]Member{
				"node2": {Speaker: announcement.Speaker{Links: test.theirs, Heard: test.alive}},
			}}.watched("node1")
			if got := p.Targets("node1", test.ours, nil); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
			if got := p.HardwareAddrs(); len(got) != 1 || got[0].String() != mac.String() {
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
		p := Snapshot{Members: map[string]Member{}}
		for _, name := range names {
			if name != self {
				p.Members[name] = Member{Speaker: announcement.Speaker{
					Links: []links.Link{linkOf(name)},
					Heard: name != dead,
				}}
			}
		}
		for _, target := range p.watched(self).Targets(self, []links.Link{linkOf(self)}, nil) {
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
	failed := func(after time.Duration) Ping { return Ping{Failed: true, At: start.Add(after)} }
	for _, test := range []struct {
		story string
		reach Reach
		ping  Ping
		want  announcement.Report
	}{
		{"it was never probed", Reach{}, Ping{}, ""},
		{"it never answered, and its speaker does not either: it may not be on this LAN",
			Reach{State: Unknown, Missed: 9}, failed(0), ""},
		{"it answers", Reach{State: Answers, LastAnswer: start}, Ping{}, announcement.KernelAnswers},
		{"it answers, and its speaker does not",
			Reach{State: Answers, LastAnswer: start}, failed(time.Second), announcement.KernelAnswers},
		{"it is silent, and its speaker was not asked", Reach{State: Silent, LastAnswer: start}, Ping{}, ""},
		{"it is silent, and its speaker answers",
			Reach{State: Silent, LastAnswer: start}, Ping{At: start.Add(time.Second)}, ""},
		{"both are silent",
			Reach{State: Silent, LastAnswer: start}, failed(time.Millisecond), announcement.KernelSilent},
		{"its speaker was silent before its kernel was",
			Reach{State: Silent, LastAnswer: start}, failed(-time.Millisecond), ""},
	} {
		t.Run(test.story, func(t *testing.T) {
			if got := kernelReport(test.reach, test.ping); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestOthersOnTheLANOfASilentNodeAreProbed: where one that node1 witnesses is silent,
// others on the same LAN are probed too.
func TestOthersOnTheLANOfASilentNodeAreProbed(t *testing.T) {
	p := Snapshot{Members: map[string]Member{}}
	for _, name := range []string{"node2", "node3", "node4", "node5", "node6", "node7", "node8", "node9"} {
		p.Members[name] = Member{Speaker: announcement.Speaker{
			Links: []links.Link{linkOf(name)},
			Heard: name != "node9",
		}}
	}
	ours := []links.Link{linkOf("node1")}
	usual := p.Targets("node1", ours, nil)
	more := p.Targets("node1", ours, []string{"eth0"})
	if len(more) != len(usual)+2 {
		t.Errorf("probed are %v, with a suspect link %v", usual, more)
	}
	for _, target := range more {
		if target.Node == "node9" &&
			!slices.ContainsFunc(usual, func(t Target) bool { return t.Node == "node9" }) {
			t.Error("a dead node proves nothing")
		}
	}
	if again := p.Targets("node1", ours, []string{"eth0"}); !reflect.DeepEqual(more, again) {
		t.Error("they are others each time")
	}
}

// TestStartedProcess: a speaker's process that was dead listens again, and does
// not answer yet. It gets time from then on, not from its predecessor's death.
func TestStartedProcess(t *testing.T) {
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	var ping Ping
	for _, test := range []struct {
		story   string
		result  Ping
		refuses bool
		news    bool
	}{
		{"a speaker hangs", Ping{Failed: true, At: at(0)}, false, true},
		{"its process is dead", Ping{Failed: true, Refused: true, At: at(20)}, true, true},
		{"another listens", Ping{Failed: true, At: at(29)}, true, false},
		{"and hangs, it seems", Ping{Failed: true, At: at(30)}, false, true},
		{"one is dead once more", Ping{Failed: true, Refused: true, At: at(40)}, true, true},
		{"and another answers", Ping{At: at(41)}, false, true},
		{"it answers again", Ping{At: at(42)}, false, false},
	} {
		var news bool
		if ping, news = test.result.After(ping, graces.Silence); ping.Refused != test.refuses ||
			news != test.news {
			t.Errorf("%s: refuses is %t, news is %t", test.story, ping.Refused, news)
		}
	}
}

// TestARenewalCountsFromWhenItWasMade: where the API could not be watched for a while, the
// last renewal of a node that has died since is seen late, and is no sign of life. What
// the clock of the other node says does not matter.
func TestARenewalCountsFromWhenItWasMade(t *testing.T) {
	const interval = 8 * time.Second
	for _, theirClock := range []time.Duration{0, -time.Hour, time.Hour} {
		for _, test := range []struct {
			story   string
			seen    time.Duration // after which the second renewal is seen; it is made after 8 s
			renewed time.Duration // from when it counts
		}{
			{"at once", interval, interval},
			{"a little late", interval + time.Second, interval + interval/1000},
			{"a minute late", time.Minute, interval + interval/1000},
		} {
			t.Run(fmt.Sprint(test.story, ", ", theirClock), func(t *testing.T) {
				begin := time.Unix(1e9, 0)
				var objects map[string]Object
				renewed := func(made, seen time.Duration) time.Time {
					read := map[string]Object{"node2": {Renewal: begin.Add(theirClock + made)}}
					objects = UpdateObjects(objects, read, begin.Add(seen))
					if !read["node2"].Renewed.IsZero() {
						t.Error("what was read is changed")
					}
					return objects["node2"].Renewed
				}
				if got := renewed(0, 0); !got.IsZero() {
					t.Errorf("one that was made at an unknown time counts from %s", got)
				}
				if got := renewed(interval, test.seen); !got.Equal(begin.Add(test.renewed)) {
					t.Errorf("it counts from %s after the first, want %s", got.Sub(begin), test.renewed)
				}
				// The next one, seen at once, counts from now again.
				got, now := renewed(2*time.Minute, 2*time.Minute), begin.Add(2*time.Minute)
				if !got.Equal(now) {
					t.Errorf("the next counts from %s, want now", got.Sub(begin))
				}
				// So does one by a clock that was set back meanwhile.
				got, now = renewed(time.Minute, 3*time.Minute), begin.Add(3*time.Minute)
				if !got.Equal(now) {
					t.Errorf("by a clock that was set back one counts from %s, want now", got.Sub(begin))
				}
			})
		}
	}
}

// TestWhatIsSilentWhileThisNodeIsCutOff: a ping that failed while this node could see nobody
// proves nothing of a node; one that fails afterwards does.
func TestWhatIsSilentWhileThisNodeIsCutOff(t *testing.T) {
	back := time.Unix(1000, 0)
	for _, test := range []struct {
		story string
		at    time.Duration // of the ping, after this node is back
		want  announcement.Report
	}{
		{"it failed before", -time.Millisecond, ""},
		{"it failed just then", 0, ""},
		{"it failed afterwards", time.Millisecond, announcement.KernelSilent},
	} {
		obs := Observations{
			Node:              "node1",
			Reach:             map[string]Reach{"node2": {State: Silent, LastAnswer: back.Add(-time.Minute)}},
			Pings:             map[string]Ping{"node2": {Failed: true, At: back.Add(test.at)}},
			DisconnectedUntil: back,
		}
		if got := OwnReports(Snapshot{}, obs)["node2"].Kernel; got != test.want {
			t.Errorf("%s: the kernel is reported as %q, want %q", test.story, got, test.want)
		}
	}
}
