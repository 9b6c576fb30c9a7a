package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/speaker/reconcile"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/layer2/prober"
	"github.com/berth-lb/berth/pkg/membership"
)

// told is a membership that remembers what is said, and how.
type told struct {
	said    map[string][]byte
	sayings []string // "key=value", "key" when taken back
}

func (s *told) Say(key string, value []byte) error {
	if value == nil {
		delete(s.said, key)
		s.sayings = append(s.sayings, key)
		return nil
	}
	s.said[key] = value
	s.sayings = append(s.sayings, key+"="+string(value))
	return nil
}

func (s *told) SayAll(prefix string, values map[string][]byte) error {
	maps.DeleteFunc(s.said, func(key string, _ []byte) bool { return strings.HasPrefix(key, prefix) })
	maps.Copy(s.said, values)
	return nil
}

func (s *told) word() word { return readWord(membership.Member{Name: "node1", Said: s.said}) }

func newToldClaims(most int) (*claims, *told) {
	s := &told{said: map[string][]byte{}}
	return newClaims(s, most, slog.New(slog.DiscardHandler)), s
}

func TestWhatIsSaidOfABlock(t *testing.T) {
	claim := func(generation uint64) announcement.Claim { return announcement.Claim{Generation: generation} }
	weak := announcement.Claim{Generation: 2, Minority: true}
	for _, test := range []struct {
		story string
		block block
		want  string
	}{
		{"nothing", block{}, ""},
		{"one address", block{4: claim(1)}, "1:4"},
		{"several of one generation", block{0: claim(1), 3: claim(1), 10: claim(1)}, "1:03a"},
		{"of several, as they come", block{1: claim(7), 2: claim(3), 3: claim(7)}, "7:13,3:2"},
		{"weak ones", block{1: claim(2), 5: weak, 6: weak}, "2:1,2w:56"},
	} {
		if got := string(test.block.value()); got != test.want {
			t.Errorf("%s: %q, want %q", test.story, got, test.want)
		}
		if got, err := parseBlock([]byte(test.want)); test.want != "" && (err != nil || got != test.block) {
			t.Errorf("%s: %q is read as %v, %v", test.story, test.want, got, err)
		}
	}
	if (block{}).value() != nil {
		t.Error("what is no claim any more is not taken back")
	}
	worst := block{}
	for at := range worst {
		worst[at] = announcement.Claim{Generation: 1<<63 - 1 - uint64(at), Minority: true}
	}
	if size := len(worst.value()); size > membership.MaxValue {
		t.Errorf("%d bytes are more than membership takes", size)
	}
	longest := blockKey(netip.MustParseAddr("2001:db8:aaaa:bbbb:cccc:dddd:eeee:fff0"))
	if len(longest) > membership.MaxKey {
		t.Errorf("%s is longer than membership takes", longest)
	}
}

// TestClaimsOfALaterVersion: marks that are not known change nothing, and where
// something cannot be read, that is known, and the rest counts.
func TestClaimsOfALaterVersion(t *testing.T) {
	first := announcement.Claim{Generation: 5}
	for _, test := range []struct {
		story, key, value string
		want              map[string]announcement.Claim
		unknown           bool
	}{
		{"a mark that is not known", "claims/192.0.2.0", "5q:3", map[string]announcement.Claim{"192.0.2.3": first}, false},
		{"one beside a known one", "claims/192.0.2.0", "5wq:3,5:4",
			map[string]announcement.Claim{"192.0.2.3": {Generation: 5, Minority: true}, "192.0.2.4": first}, false},
		{"the same in another order", "claims/2001:db8::10", "5qw:f", map[string]announcement.Claim{"2001:db8::1f": {Generation: 5, Minority: true}}, false},
		{"something else behind the addresses", "claims/192.0.2.0", "5:3;1s", map[string]announcement.Claim{"192.0.2.3": first, "192.0.2.1": first}, true},
		{"an item without addresses", "claims/192.0.2.0", "5:3,7", map[string]announcement.Claim{"192.0.2.3": first}, true},
		{"generation 0, which is none", "claims/192.0.2.0", "0:3,5:4", map[string]announcement.Claim{"192.0.2.4": first}, true},
		{"one below zero", "claims/192.0.2.0", "-1:3", nil, true},
		{"one that is too high", "claims/192.0.2.0", "9223372036854775808:3", nil, true},
		{"nothing", "claims/192.0.2.0", "", nil, true},
		{"a larger block", "claims/192.0.2.0/24", "5:3", nil, true},
		{"a block that begins elsewhere", "claims/192.0.2.1", "5:3", nil, true},
		{"an address with a zone", "claims/fe80::%eth0", "5:3", nil, true},
		{"an IPv4 address as IPv6", "claims/::ffff:192.0.2.0", "5:3", nil, true},
		{"a claim of a name", "claims/web", "5:3", nil, true},
	} {
		w := readWord(membership.Member{Name: "node2", Said: map[string][]byte{test.key: []byte(test.value)}})
		got := map[string]announcement.Claim{}
		for addr, claim := range w.claims {
			got[addr.String()] = claim
		}
		if !maps.Equal(got, test.want) || w.unknown != test.unknown {
			t.Errorf("%s: got %v, unknown %t", test.story, got, w.unknown)
		}
	}
}

// TestFellowsReadWhatIsClaimed sets claims at random: what the fellows read is what
// was set, as soon as it is said.
func TestFellowsReadWhatIsClaimed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, s := newToldClaims(maxBlocks)
		addr := rapid.OneOf(
			rapid.Map(rapid.ByteRange(0, 40), func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, n}) }),
			rapid.Map(rapid.ByteRange(0, 40), func(n byte) netip.Addr {
				return netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 15: n})
			}),
		)
		want := map[netip.Addr]announcement.Claim{}
		t.Repeat(map[string]func(*rapid.T){
			"claim": func(t *rapid.T) {
				a := addr.Draw(t, "address")
				claim := announcement.Claim{Generation: rapid.Uint64Range(1, 1<<63-1).Draw(t, "generation"), Minority: rapid.Bool().Draw(t, "weak")}
				want[a] = claim
				if !c.set(a, &claim) {
					t.Fatal("no room")
				}
			},
			"take back": func(t *rapid.T) {
				a := addr.Draw(t, "address")
				delete(want, a)
				c.set(a, nil)
			},
			"say": func(t *rapid.T) {
				if c.say() {
					t.Fatal("it is full")
				}
				if w := s.word(); !maps.Equal(w.claims, want) || w.unknown {
					t.Fatalf("fellows read %v, want %v", w.claims, want)
				}
			},
			"say all": func(t *rapid.T) {
				s.said["claims/198.51.100.0"] = []byte("1:0") // from before a restart
				c.sayAll()
				if w := s.word(); !maps.Equal(w.claims, want) || w.unknown || w.full {
					t.Fatalf("fellows read %v, want %v", w.claims, want)
				}
			},
		})
	})
}

// TestAPartIsSaidOnce: addresses that follow each other take one statement for
// sixteen, said once for each part of them that is looked at.
func TestAPartIsSaidOnce(t *testing.T) {
	for _, test := range []struct {
		addresses, every int
		want             int
	}{
		{2000, 1, 125},
		{20000, 1, 1250},
		{20000, 3, 4096}, // one of three nodes: a part ends within a block
		{2000, 16, 2000},
	} {
		c, s := newToldClaims(maxBlocks)
		at := netip.MustParseAddr("10.0.0.0")
		for i := range test.addresses {
			c.set(at, &announcement.Claim{Generation: 2})
			for range test.every {
				at = at.Next()
			}
			if i%reconcile.PartSize == reconcile.PartSize-1 {
				c.say()
			}
		}
		c.say()
		if w := s.word(); len(w.claims) != test.addresses {
			t.Errorf("%d claims are read", len(w.claims))
		}
		t.Logf("%d addresses, every %d: %d statements, said %d times", test.addresses, test.every, len(s.said), len(s.sayings))
		if len(s.sayings) > test.want+test.want/16 {
			t.Errorf("%d addresses, every %d: said %d times, want %d", test.addresses, test.every, len(s.sayings), test.want)
		}
	}
}

// TestFull: this node is full before it can say no more, and is not again before
// there is much room.
func TestFull(t *testing.T) {
	const most = 16 * reconcile.PartSize
	c, s := newToldClaims(most)
	sparse := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i / 256), byte(i), 1}) }
	for i := range most {
		if !c.set(sparse(i), &announcement.Claim{Generation: 1}) {
			t.Fatalf("no room for %d", i)
		}
		if turned := c.say(); turned != (i == most-reconcile.PartSize) || s.word().full != (i >= most-reconcile.PartSize) || c.isFull() != s.word().full {
			t.Fatalf("after %d: turned %t, said %t", i+1, turned, s.word().full)
		}
	}
	if c.set(sparse(most), &announcement.Claim{Generation: 1}) {
		t.Error("there is room for another block")
	}
	if _, claimed := s.word().claims[sparse(most)]; claimed || len(s.said) != most+1 {
		t.Errorf("%d statements", len(s.said))
	}
	if !c.set(sparse(3).Next(), &announcement.Claim{Generation: 1}) {
		t.Error("there is no room in a block that it has")
	}
	c.set(sparse(3).Next(), nil)
	for i := range most {
		c.set(sparse(i), nil)
		left := most - 1 - i
		if turned := c.say(); turned != (left == most-reconcile.PartSize-most/16) || s.word().full != (left > most-reconcile.PartSize-most/16) {
			t.Fatalf("with %d left: turned %t, said %t", left, turned, s.word().full)
		}
	}
	if len(s.said) > 0 {
		t.Errorf("it still says %v", s.said)
	}
	// Full when it was stopped, and not any more.
	s.said[saysFull] = []byte("claims")
	c.sayAll()
	if s.word().full {
		t.Error("it still says that it is full")
	}
}

// TestWhatCannotBeSaidIsNotOwned: node1 has no room for a claim, whatever the
// decision was; and when it says that it is full, others get what it has not.
func TestWhatCannotBeSaidIsNotOwned(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
	w.claimed.most, w.claimed.full = 0, false
	w.look()
	w.did("192.0.2.10", true, "web Warning NodeFull")
	w.claims("")

	w.claimed.measure()
	w.look()
	if got := w.reason(); got != v1beta1.ReasonNoCandidate || !strings.Contains(w.state.memory(address).Message, "node1 (NodeFull)") {
		t.Errorf("alone it is %s: %s", got, w.state.memory(address).Message)
	}
	if w.said[saysFull] == "" {
		t.Error("it does not say that it is full")
	}
	w.events = nil

	w.says("node2")
	w.look()
	if d := w.state.memory(address); d.Owner != "node2" || d.Announce {
		t.Errorf("owner is %q (%s): want the one that has room", d.Owner, d.Reason)
	}
	w.claimed.most = maxBlocks
	w.claimed.measure()
	w.says("node2", "full=claims")
	w.look()
	w.did("192.0.2.10 eth0", true, "web Normal Announcing")
	// What it claims it keeps, full or not.
	w.claimed.most = 0
	w.claimed.measure()
	w.look()
	w.did("192.0.2.10 eth0", false)
	w.claims("1")
}

// hidden is the object of a fellow that owns 300 addresses, of which not all are
// listed: not that of the world.
func hidden(renewed time.Time) *v1beta1.Speaker {
	return written("node2", renewedAt(renewed), func(s *v1beta1.SpeakerStatus) {
		for i := range v1beta1.MaxSpeakerAnnouncements {
			s.Layer2.Announcements = append(s.Layer2.Announcements, v1beta1.Layer2Announcement{
				Address: fmt.Sprintf("198.51.100.%d", i), Generation: 2,
			})
		}
		s.Layer2.Count = 300
	})
}

// TestWhatAFellowMayOwnIsNotTaken: node2 is not heard, and owns more than its object
// lists. node1 does not begin to announce what node2 may own: it asks the LAN first,
// although it claimed the address once. What it announces it goes on announcing.
func TestWhatAFellowMayOwnIsNotTaken(t *testing.T) {
	begin := time.Now()
	start := func(t *testing.T) *world {
		w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
		w.view.probes = true
		w.state.adopt(map[netip.Addr]announcement.Claim{address: {Generation: 1}}, nil)
		w.claimed.set(address, &announcement.Claim{Generation: 1})
		w.reads(hidden(begin))
		w.reads(hidden(begin.Add(time.Second)))
		if got := w.isFellow("node2"); got != "Present (NodeHeard)" {
			t.Fatalf("node2 is %s", got)
		}
		w.look()
		if got := w.reason(); got != v1beta1.ReasonProbing || !slices.Equal(w.asked, []string{"192.0.2.10 eth0"}) {
			t.Fatalf("it is %s, and asked %q", got, w.asked)
		}
		w.claims("1") // until somebody answers
		answered(w.state, address, announcement.ProbeAsking, nil)
		return w
	}
	t.Run("nobody answers", func(t *testing.T) {
		w := start(t)
		answered(w.state, address, announcement.ProbeFree, nil)
		w.look()
		w.did("192.0.2.10 eth0", true, "web Normal Announcing")
		w.asked = nil
		w.look()
		if len(w.asked) > 0 || w.reason() != v1beta1.ReasonOwner {
			t.Errorf("what it announces is asked for: %q, %s", w.asked, w.reason())
		}
	})
	t.Run("the fellow answers, and later does no more", func(t *testing.T) {
		w := start(t)
		w.state.setProbe(address, w.state.memory(address).asking, announcement.Probe{State: announcement.ProbeTaken, Holder: net6(2), Node: "node2"})
		w.look()
		w.claims("")
		d := w.state.memory(address)
		if d.Reason != v1beta1.ReasonClaimsUnknown || d.Owner != "node2" || d.Announce || len(w.events) > 0 {
			t.Errorf("%s, owner %q, Events %q: %s", d.Reason, d.Owner, w.events, d.Message)
		}
		answered(w.state, address, announcement.ProbeFree, nil)
		w.look()
		// Nobody claims it any more, and by hash it is node2's, which works.
		if d := w.state.memory(address); d.Reason != v1beta1.ReasonNotOwner || d.Owner != "node2" {
			t.Errorf("%s, owner %q: %s", d.Reason, d.Owner, d.Message)
		}
		w.claims("")
	})
	t.Run("a stranger answers", func(t *testing.T) {
		w := start(t)
		answered(w.state, address, announcement.ProbeTaken, net6(99))
		w.look()
		if got := w.reason(); got != v1beta1.ReasonConflict {
			t.Errorf("it is %s", got)
		}
	})
	t.Run("the object lists everything", func(t *testing.T) {
		w := start(t)
		w.reads(written("node2", renewedAt(begin.Add(2*time.Second))))
		w.look()
		w.did("192.0.2.10 eth0", true, "web Normal Announcing")
	})
	t.Run("the fellow is heard and claims it", func(t *testing.T) {
		w := start(t)
		w.says("node2", "claim/192.0.2.10=2")
		w.look()
		if got := w.reason(); got != v1beta1.ReasonNotOwner {
			t.Errorf("it is %s", got)
		}
	})
	t.Run("the fellow falls silent, and its kernel answers", func(t *testing.T) {
		w := start(t)
		w.reach["node2"] = prober.Reach{State: prober.Answers, LastAnswer: time.Now()}
		w.fellows.objects["node2"] = parseHidden()
		w.fellows.blind = time.Now()
		answered(w.state, address, announcement.ProbeFree, nil)
		w.look()
		d := w.state.memory(address)
		if d.Reason != v1beta1.ReasonClaimsUnknown || d.Announce || len(w.events) > 0 {
			t.Errorf("%s (node2 %s): its kernel does not answer for what it owns", d.Reason, w.isFellow("node2"))
		}
	})
}

// parseHidden is what hidden tells, when it was not renewed.
func parseHidden() speakerObject {
	return parseSpeaker(hidden(time.Time{}), "node1")
}

// TestAFellowThatIsNotUnderstood: node2 is a member and speaks another format. Its
// object counts, it may own more than that says, and it is asked to renew it.
func TestAFellowThatIsNotUnderstood(t *testing.T) {
	w := newWorld(t, append(service("web"), node("node1"), node("node2"))...)
	w.says("node2", "claim/192.0.2.10=5", "stage=restarting") // before it was replaced
	m := w.members["node2"]
	m.Format = membership.Format{Major: 2, Oldest: 2, Newest: 2}
	w.members["node2"] = m
	w.see()
	if got := w.isFellow("node2"); got != "Present (FormatUnknown)" || !w.fellows.current().fellows["node2"].ClaimsUnknown {
		t.Errorf("without an object it is %s", got)
	}
	w.reads(written("node2", announcesIn("192.0.2.10", 7)))
	if got := w.fellows.current().claims[address]["node2"]; got.Generation != 7 {
		t.Errorf("it claims %+v", got)
	}
	w.look()
	if got := w.reason(); got != v1beta1.ReasonNotOwner {
		t.Errorf("its address is %s", got)
	}
	w.object.address = netip.MustParseAddrPort("192.0.2.1:7947")
	status := w.object.status()
	if doubtOf(&v1beta1.Speaker{Status: status}, "node2") == "" {
		t.Errorf("it is not asked to renew its object: %+v", status.Fellows)
	}
	if w.fellows.questionable()["node2"] != (time.Time{}) {
		t.Error("its kernel is in question")
	}
}

// TestAStageOfALaterVersion: one that works at a stage that is not known is present.
func TestAStageOfALaterVersion(t *testing.T) {
	w := newWorld(t)
	w.says("node2", "stage=warming", "weather=fine", "probe/node3=warm")
	w.see()
	if got := w.isFellow("node2"); got != "Present (NodePresent)" {
		t.Errorf("it is %s", got)
	}
}

// TestWordsAreReadOnce: what a member says is read again when it says something
// else.
func TestWordsAreReadOnce(t *testing.T) {
	w := newWorld(t)
	say := func(revision uint64, claim string) {
		w.says("node2", claim)
		m := w.members["node2"]
		m.Revision = revision
		w.members["node2"] = m
		w.see()
	}
	say(1, "claim/192.0.2.10=1")
	say(2, "claim/192.0.2.10=2")
	if got := w.fellows.current().claims[address]["node2"]; got.Generation != 2 {
		t.Errorf("it claims %+v", got)
	}
	say(2, "claim/192.0.2.10=3") // which cannot be
	if got := w.fellows.current().claims[address]["node2"]; got.Generation != 2 {
		t.Errorf("the same revision is read again: %+v", got)
	}
	delete(w.members, "node2")
	w.see()
	if len(w.fellows.words) != 1 || len(w.fellows.current().claims) != 0 {
		t.Errorf("words %v, claims %v", w.fellows.words, w.fellows.current().claims)
	}
}

// FuzzParseBlock: what is read of a block is written as one that reads the same.
func FuzzParseBlock(f *testing.F) {
	for _, seed := range []string{"", "1:0", "1:037a,2w:5", "0:0", "9223372036854775807w:f", "1:", ":1", ",", "+1:0", "1_0:0", "1q:0,1q:0"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		b, err := parseBlock(value)
		if err != nil && !errors.Is(err, errClaims) {
			t.Error(err)
		}
		if again, err := parseBlock(b.value()); b != (block{}) && (err != nil || again != b) {
			t.Errorf("%q is %v, then %v, %v", value, b, again, err)
		}
	})
}

// BenchmarkLook is one look at fellows that own 10,000 addresses, when nothing
// changed but what a witness said.
func BenchmarkLook(b *testing.B) {
	for _, nodes := range []int{3, 100} {
		b.Run(fmt.Sprintf("%d nodes", nodes), func(b *testing.B) {
			w := newWorld(&testing.T{})
			const addresses = 10000
			for n := range nodes {
				c, s := newToldClaims(maxBlocks)
				for i := n; i < addresses; i += nodes {
					c.set(netip.AddrFrom4([4]byte{10, 0, byte(i / 256), byte(i)}), &announcement.Claim{Generation: 1})
				}
				c.say()
				name := fmt.Sprintf("node%d", n+2)
				m := member(name, membership.Alive, time.Now())
				maps.Copy(m.Said, s.said)
				m.Revision = 1
				w.members[name] = m
			}
			now := time.Now()
			b.ReportAllocs()
			for i := range b.N {
				m := w.members["node2"]
				m.Revision = uint64(i + 2)
				w.members["node2"] = m
				w.fellows.look(now)
			}
		})
	}
}
