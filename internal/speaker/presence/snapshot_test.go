package presence

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// start is when stories begin.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

var graces = announcement.GracePeriods{
	Restart:   time.Minute,
	Silence:   10 * time.Second,
	Suspicion: 500 * time.Millisecond,
	Renewal:   RenewalTrust,
	Contact:   5 * time.Second,
}

var address = netip.MustParseAddr("192.0.2.10")

func macOf(n byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, n} }

func link(name string, prefixes ...string) links.Link {
	l := links.Link{Index: 1, Name: name, HardwareAddr: macOf(1), Up: true, Broadcast: true}
	for _, p := range prefixes {
		l.Prefixes = append(l.Prefixes, netip.MustParsePrefix(p))
	}
	return l
}

// linkOf is the link of nodeN: 192.0.2.N.
func linkOf(name string) links.Link {
	n := name[len(name)-1] - '0'
	l := link("eth0", fmt.Sprintf("192.0.2.%d/24", n))
	l.Index, l.HardwareAddr = 0, macOf(n)
	return l
}

// alone are the observations of node1 while nobody else is there.
func alone() Observations {
	return Observations{
		Node:     "node1",
		Grace:    graces,
		OwnLinks: []links.Link{linkOf("node1")},
		Members:  []Observed{{Name: "node1", Alive: true, Since: start, Published: true}},
		Objects:  map[string]Object{},
		Reach:    map[string]Reach{},
		Pings:    map[string]Ping{},
		API:      start,
		Others:   start,
	}
}

// ready is a member that works and claims these addresses with generation 1.
func ready(name string, claimed ...string) Observed {
	claims := map[netip.Addr]announcement.Claim{}
	for _, addr := range claimed {
		claims[netip.MustParseAddr(addr)] = announcement.Claim{Generation: 1}
	}
	return Observed{
		Name:      name,
		Alive:     true,
		Since:     start,
		Published: true,
		State: NodeState{
			Stage:  announcement.StageReady,
			Links:  []links.Link{linkOf(name)},
			Claims: claims,
		},
	}
}

// TestNextFollowsAMembersLife follows node2 through its life, as node1 observes it.
func TestNextFollowsAMembersLife(t *testing.T) {
	// seen has node2 observed, and its kernel.
	seen := func(m Observed, kernel Reach) func(*Observations) {
		return func(o *Observations) {
			o.Members = append(alone().Members, m)
			o.Reach = map[string]Reach{"node2": kernel}
		}
	}
	at := func(m Observed, stage announcement.Stage) Observed {
		m.State.Stage = stage
		return m
	}
	dead := func(since time.Duration) Observed {
		m := ready("node2", "192.0.2.10")
		m.Alive, m.Since = false, start.Add(since)
		return m
	}
	answers := Reach{State: Answers, LastAnswer: start}
	silent := Reach{State: Silent, LastAnswer: start, Missed: 3}
	object := Object{
		Peer:     netip.MustParseAddrPort("192.0.2.2:7947"),
		Complete: true,
		State:    ready("node2", "192.0.2.10", "192.0.2.11").State,
	}

	obs := alone()
	var last Snapshot
	for _, step := range []struct {
		story  string
		after  time.Duration // since the start
		change func(*Observations)
		// What is made of it: node2, what it claims, whether it may claim more, when
		// that is to be looked at again, and whether decisions may differ.
		is      string
		claims  int
		unknown bool
		again   time.Duration
		changed bool
	}{
		{"nobody is there", 0, func(*Observations) {}, "unknown", 0, false, 0, true},
		{"nothing has changed", 0, func(*Observations) {}, "unknown", 0, false, 0, false},
		{"node2 starts", 0, seen(at(ready("node2"), announcement.StageStarting), answers),
			"Held (NodeHeld)", 0, false, time.Minute, true},
		{"it is ready, and claims an address", time.Second, seen(ready("node2", "192.0.2.10"), answers),
			"Present (NodePresent)", 1, false, 0, true},
		{"nothing has changed since", 2 * time.Second, func(*Observations) {},
			"Present (NodePresent)", 1, false, 0, false},
		{"its object tells of one more, which may be on its way", 3 * time.Second, func(o *Observations) {
			o.Objects = map[string]Object{"node2": object}
		}, "Present (NodePresent)", 2, false, 11 * time.Second, false},
		{"it is not", 11 * time.Second, func(*Observations) {}, "Present (NodePresent)", 1, false, 0, false},
		{"not all that it publishes is known", 12 * time.Second, func(o *Observations) {
			o.Members[1].Incomplete = true
		}, "Present (NodePresent)", 1, true, 0, true},
		{"its kernel is silent, and its speaker is heard",
			13 * time.Second, seen(ready("node2", "192.0.2.10"), silent),
			"Present (NodePresent)", 1, false, 0, true},
		{"its speaker answers no ping either", 14 * time.Second, func(o *Observations) {
			o.Pings = map[string]Ping{"node2": {Failed: true, At: start.Add(time.Second)}}
		}, "Gone (NodeSilent)", 1, false, 0, true},
		{"its kernel answers, and membership misses it",
			20 * time.Second, seen(dead(20*time.Second), answers),
			"Held (NodeHeld)", 2, false, 30 * time.Second, true},
		{"for too long, while others are heard", 30 * time.Second, func(o *Observations) {
			o.API = start.Add(29 * time.Second)
		}, "Gone (SpeakerNotAlive)", 2, false, 0, true},
		{"this node could see nobody meanwhile", 31 * time.Second, func(o *Observations) {
			o.DisconnectedUntil = start.Add(31 * time.Second)
		}, "Held (NodeHeld)", 2, false, 41 * time.Second, true},
		{"it renews its object", 32 * time.Second, func(o *Observations) {
			renewed := object
			renewed.Renewed = start.Add(32 * time.Second)
			o.Objects = map[string]Object{"node2": renewed}
		}, "Present (NodeRenewing)", 2, false, 52 * time.Second, true},
		{"it speaks another format", 33 * time.Second, func(o *Observations) {
			m := ready("node2", "192.0.2.10")
			m.Unread = true
			seen(m, answers)(o)
		}, "Present (FormatUnknown)", 2, true, 0, true},
		{"it leaves", 34 * time.Second, seen(at(ready("node2"), announcement.StageLeaving), answers),
			"Leaving (NodeLeaving)", 2, false, 44 * time.Second, true},
		{"it has left", 44 * time.Second, func(o *Observations) {
			o.Members[1].Alive, o.Members[1].Left, o.Objects = false, true, map[string]Object{}
		}, "Gone (NodeLeaving)", 0, false, 0, true},
		{"it is forgotten", 45 * time.Second, func(o *Observations) {
			*o = alone()
		}, "unknown", 0, false, 0, true},
	} {
		step.change(&obs)
		before := last
		last = Next(last, obs, start.Add(step.after))

		is := "unknown"
		m, known := last.Members["node2"]
		if known {
			is = fmt.Sprintf("%s (%s)", m.Presence, m.Reason)
		}
		if is != step.is || m.ClaimsUnknown != step.unknown {
			t.Errorf("%s: node2 is %s, claims unknown %t; want %s, %t",
				step.story, is, m.ClaimsUnknown, step.is, step.unknown)
		}
		if len(last.Claims) != step.claims ||
			len(last.ClaimsChanged) != 0 == (len(before.Claims) == len(last.Claims)) {
			t.Errorf("%s: claimed are %v, want %d; changed are %v",
				step.story, last.Claims, step.claims, last.ClaimsChanged)
		}
		again := time.Duration(0)
		if !last.Recheck.IsZero() {
			again = last.Recheck.Sub(start)
		}
		if again != step.again {
			t.Errorf("%s: it is to be looked at again after %s, want %s", step.story, again, step.again)
		}
		if last.MembersChanged != step.changed {
			t.Errorf("%s: decisions may differ: %t", step.story, last.MembersChanged)
		}
	}
}

// TestNextChangesNothing makes snapshots of random observations: neither these nor the
// snapshot before are changed, and the same observations make the same snapshot.
func TestNextChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var last Snapshot
		now := start
		for range rapid.IntRange(1, 4).Draw(t, "snapshots") {
			now = now.Add(time.Duration(rapid.IntRange(0, 30).Draw(t, "seconds")) * time.Second)
			obs, again := randomObservations(t, now)
			before := copied(last)
			next := Next(last, obs, now)

			if !reflect.DeepEqual(obs, again) {
				t.Fatalf("the observations were\n%+v and are\n%+v", again, obs)
			}
			if !reflect.DeepEqual(copied(last), before) {
				t.Fatalf("the snapshot before was\n%+v and is\n%+v", before, last)
			}
			if same := Next(last, obs, now); !reflect.DeepEqual(same, next) {
				t.Fatalf("it is\n%+v, then\n%+v", next, same)
			}
			settled := Next(next, obs, now)
			if settled.MembersChanged && !linksAreOfBefore(last) || len(settled.ClaimsChanged) > 0 {
				t.Fatalf("the same again is a change: %t, %v", settled.MembersChanged, settled.ClaimsChanged)
			}
			last = next
		}
	})
}

// linksAreOfBefore reports whether a snapshot had members: their links may decide which
// reports of this node count in the next.
func linksAreOfBefore(s Snapshot) bool { return len(s.Members) > 0 }

// copied is a snapshot that shares no map with another.
func copied(s Snapshot) Snapshot {
	s.Members = maps.Clone(s.Members)
	s.owned, s.stages = maps.Clone(s.owned), maps.Clone(s.stages)
	s.Claims = maps.Clone(s.Claims)
	for addr, claims := range s.Claims {
		s.Claims[addr] = maps.Clone(claims)
	}
	for node, claims := range s.owned {
		s.owned[node] = maps.Clone(claims)
	}
	return s
}

// randomObservations are of some of four nodes, twice the same.
func randomObservations(t *rapid.T, now time.Time) (obs, same Observations) {
	obs, same = alone(), alone()
	for _, name := range []string{"node2", "node3", "node4", "node5"} {
		stage := rapid.SampledFrom([]announcement.Stage{
			"", announcement.StageStarting,
			announcement.StageReady, announcement.StageRestarting, announcement.StageLeaving,
		}).Draw(t, "stage")
		generation := rapid.Uint64Range(1, 3).Draw(t, "generation")
		claims := rapid.IntRange(0, 3).Draw(t, "claims")
		state := func() NodeState {
			s := NodeState{
				Stage:  stage,
				Links:  []links.Link{linkOf(name)},
				Claims: map[netip.Addr]announcement.Claim{},
			}
			for n := range claims {
				s.Claims[netip.AddrFrom4([4]byte{
					192, 0, 2, byte(n),
				})] = announcement.Claim{Generation: generation}
			}
			s.Reports = map[string]ProbeReport{"node2": {Kernel: announcement.KernelAnswers}}
			return s
		}
		member, object := rapid.Bool().Draw(t, "member"), rapid.Bool().Draw(t, "object")
		alive, published := rapid.Bool().Draw(t, "alive"), rapid.Bool().Draw(t, "published")
		renewed := rapid.IntRange(0, 40).Draw(t, "renewed")
		reach := Reachability(rapid.IntRange(0, 2).Draw(t, "reach"))
		failed := rapid.Bool().Draw(t, "failed")
		for _, o := range []*Observations{&obs, &same} {
			if member {
				o.Members = append(o.Members, Observed{
					Name:      name,
					Alive:     alive,
					Since:     now.Add(-5 * time.Second),
					Published: published,
					State:     state(),
				})
			}
			if object {
				o.Objects[name] = Object{
					State:   state(),
					Renewed: now.Add(-time.Duration(renewed) * time.Second),
				}
			}
			o.Reach[name] = Reach{State: reach, LastAnswer: now.Add(-time.Second)}
			o.Pings[name] = Ping{Failed: failed, At: now}
		}
	}
	return obs, same
}

// TestHalfOfTheSpeakersIsNoMinority: half of those that there are is none.
func TestHalfOfTheSpeakersIsNoMinority(t *testing.T) {
	for _, test := range []struct {
		story          string
		alive, objects int
		minority       bool
	}{
		{"a cluster of one", 0, 0, false},
		{"one of two", 0, 1, false},
		{"one of three", 0, 2, true},
		{"two of three", 1, 2, false},
		{"two of four: just half", 1, 3, false},
		{"two of five", 1, 4, true},
		{"all of three, and the API server is empty", 2, 0, false},
	} {
		obs := alone()
		for n := range test.alive {
			obs.Members = append(obs.Members, ready(fmt.Sprint("node", n+2)))
		}
		for n := range test.objects {
			obs.Objects[fmt.Sprint("node", n+2)] = Object{}
		}
		if s := Next(Snapshot{}, obs, start); s.Minority != test.minority || s.Alive != 1+test.alive {
			t.Errorf("%s: minority is %t with %d alive", test.story, s.Minority, s.Alive)
		}
	}
}

// TestHigherClaims: of what a member published before it was lost and what its object
// tells, the later one counts, and neither is changed.
func TestHigherClaims(t *testing.T) {
	claims := func(generation uint64, weak bool) map[netip.Addr]announcement.Claim {
		if generation == 0 {
			return nil
		}
		return map[netip.Addr]announcement.Claim{address: {Generation: generation, Minority: weak}}
	}
	for _, test := range []struct {
		story             string
		published, object map[netip.Addr]announcement.Claim
		want              map[netip.Addr]announcement.Claim
	}{
		{"the object is newer", claims(4, true), claims(5, false), claims(5, false)},
		{"the object is older", claims(6, true), claims(5, false), claims(6, true)},
		{"both say the same, and the object not all of it",
			claims(5, true), claims(5, false), claims(5, true)},
		{"there is no object", claims(5, true), nil, claims(5, true)},
		{"nothing was published", nil, claims(5, false), claims(5, false)},
	} {
		published, object := maps.Clone(test.published), maps.Clone(test.object)
		if got := HigherClaims(published, object); !maps.Equal(got, test.want) {
			t.Errorf("%s: got %v", test.story, got)
		}
		if !maps.Equal(published, test.published) || !maps.Equal(object, test.object) {
			t.Errorf("%s: they are changed to %v and %v", test.story, published, object)
		}
	}
}

// TestSilentMembersMakeASpeakerSeekContact: who is not heard makes a speaker ask whether
// it is itself cut off.
func TestSilentMembersMakeASpeakerSeekContact(t *testing.T) {
	obs := alone()
	gone := func(name string) {
		for i := range obs.Members {
			if obs.Members[i].Name == name {
				obs.Members[i].Alive, obs.Members[i].Since = false, start
			}
		}
	}
	for _, step := range []struct {
		story   string
		change  func()
		after   time.Duration
		missing Missing
		alive   string
		askAPI  bool
	}{
		{"nobody else is there", func() {}, 0, NoneMissing, "[]", false},
		{"two are heard", func() {
			obs.Members = append(obs.Members, ready("node2"), ready("node3"))
		}, 0, NoneMissing, "[node2 node3]", false},
		{"one has fallen silent, and its kernel answers", func() {
			gone("node3")
			obs.Reach["node3"] = Reach{State: Answers, LastAnswer: start}
		}, time.Second, NewlyMissing, "[node2]", false},
		{"its object proves that it works", func() {
			obs.Objects["node3"] = Object{State: ready("node3").State, Renewed: start.Add(2 * time.Second)}
		}, 2 * time.Second, StillMissing, "[node2]", true},
		{"nothing can be heard of it, because the API server is away",
			func() {}, 30 * time.Second, NewlyMissing, "[node2]", true},
		{"its kernel is silent: it is dead", func() {
			obs.Reach["node3"] = Reach{State: Silent, LastAnswer: start}
			obs.Pings["node3"] = Ping{Failed: true, At: start.Add(time.Second)}
		}, 31 * time.Second, NoneMissing, "[node2]", false},
		{"so is the other: nobody is heard", func() {
			gone("node2")
			obs.Reach["node2"] = Reach{State: Silent, LastAnswer: start}
			obs.Pings["node2"] = Ping{Failed: true, At: start.Add(time.Second)}
		}, 32 * time.Second, StillMissing, "[]", true},
	} {
		step.change()
		missing, alive, askAPI := Next(Snapshot{}, obs, start.Add(step.after)).Missing()
		slices.Sort(alive)
		if missing != step.missing || fmt.Sprint(alive) != step.alive || askAPI != step.askAPI {
			t.Errorf("%s: missing %d, alive %v, ask the API server %t", step.story, missing, alive, askAPI)
		}
	}
}

// BenchmarkNext makes the next of a snapshot with 10,000 claims, when nothing changed but
// what one node claims.
func BenchmarkNext(b *testing.B) {
	for _, nodes := range []int{3, 100, 1000} {
		b.Run(fmt.Sprintf("%d nodes", nodes), func(b *testing.B) {
			const addresses = 10000
			obs := alone()
			for n := range nodes {
				m := ready(fmt.Sprintf("node%d", n+2))
				for i := n; i < addresses; i += nodes {
					m.State.Claims[netip.AddrFrom4([4]byte{
						10, 0, byte(i / 256), byte(i),
					})] = announcement.Claim{Generation: 1}
				}
				obs.Members = append(obs.Members, m)
			}
			last := Next(Snapshot{}, obs, start)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				obs.Members[1].State.Claims = maps.Clone(obs.Members[1].State.Claims)
				obs.Members[1].State.Claims[netip.AddrFrom4([4]byte{
					10, 0, 0, 0,
				})] = announcement.Claim{Generation: uint64(i + 2)}
				last = Next(last, obs, start.Add(time.Minute))
			}
		})
	}
}
