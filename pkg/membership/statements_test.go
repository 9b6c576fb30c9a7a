package membership

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func value(version uint64, text string) statement {
	return statement{value: []byte(text), version: version}
}

func deletion(version uint64, at time.Time) statement {
	return statement{deleted: true, version: version, at: at}
}

// texts returns what a member says, as text.
func (s *statements) texts(member string) map[string]string {
	out := make(map[string]string)
	for key, v := range s.said(member) {
		out[key] = string(v)
	}
	return out
}

func TestTheLastWriteWins(t *testing.T) {
	tests := []struct {
		story string
		told  []statement
		want  map[string]string
	}{
		{"one value", []statement{value(1, "a")}, map[string]string{"k": "a"}},
		{"a newer one", []statement{value(1, "a"), value(2, "b")}, map[string]string{"k": "b"}},
		{"an older one comes late", []statement{value(2, "b"), value(1, "a")}, map[string]string{"k": "b"}},
		{"two of one version, by bytes", []statement{value(1, "a"), value(1, "b")}, map[string]string{"k": "b"}},
		{"the same in the other order", []statement{value(1, "b"), value(1, "a")}, map[string]string{"k": "b"}},
		{"a value and a deletion of one version", []statement{deletion(1, noon), value(1, "a")}, map[string]string{"k": "a"}},
		{"the same in the other order", []statement{value(1, "a"), deletion(1, noon)}, map[string]string{"k": "a"}},
		{"taken back", []statement{value(1, "a"), deletion(2, noon)}, map[string]string{}},
		{"taken back before it was heard", []statement{deletion(2, noon), value(1, "a")}, map[string]string{}},
		{"an old deletion still takes back", []statement{value(1, "a"), deletion(2, noon.Add(-2*memory))}, map[string]string{}},
		{"empty is a value", []statement{value(1, "")}, map[string]string{"k": ""}},
	}
	for _, tt := range tests {
		s := newStatements("me", defaultLimits)
		for _, told := range tt.told {
			s.hear(noon, "other", "k", told)
		}
		if diff := cmp.Diff(tt.want, s.texts("other")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.story, diff)
		}
	}
}

func TestARestartedMember(t *testing.T) {
	old := map[string]statement{
		"claim/a": value(uint64(noon.UnixNano()), "1"),
		"claim/b": value(uint64(noon.UnixNano()), "2"),
		"stage":   value(uint64(noon.UnixNano()), "leaving"),
	}
	// Its clock was wrong before, or is wrong now.
	for _, now := range []time.Time{noon.Add(time.Minute), noon.Add(-24 * time.Hour)} {
		tests := []struct {
			story string
			does  func(s *statements)
			want  map[string]string
		}{
			{"it says nothing", func(*statements) {}, map[string]string{"claim/a": "1", "claim/b": "2", "stage": "leaving"}},
			{"it says something else", func(s *statements) { s.say(now, "stage", []byte("starting")) }, map[string]string{"claim/a": "1", "claim/b": "2", "stage": "starting"}},
			{"it takes back what it has not heard yet", func(s *statements) { s.say(now, "claim/a", nil) }, map[string]string{"claim/b": "2", "stage": "leaving"}},
			{"it says all there is", func(s *statements) { s.sayAll(now, "claim/", map[string][]byte{"claim/c": []byte("3")}) }, map[string]string{"claim/c": "3", "stage": "leaving"}},
			{"it says that there is nothing", func(s *statements) { s.sayAll(now, "", nil) }, map[string]string{}},
		}
		for _, tt := range tests {
			for _, order := range []string{"before", "after"} {
				// The other one knows what it said.
				me, other := newStatements("me", defaultLimits), newStatements("other", defaultLimits)
				for _, key := range slices.Sorted(maps.Keys(old)) {
					other.hear(now, "me", key, old[key])
				}
				if order == "before" {
					tt.does(me)
				}
				exchange(now, me, other)
				if order == "after" {
					tt.does(me)
				}
				exchange(now, me, other)
				for _, s := range []*statements{me, other} {
					if diff := cmp.Diff(tt.want, s.texts("me")); diff != "" {
						t.Errorf("%s %s it hears, at %s, as %s has it (-want +got):\n%s", tt.story, order, now, s.self, diff)
					}
				}
			}
		}
	}
}

// exchange has two exchange all that they know, by messages.
func exchange(now time.Time, a, b *statements) {
	for range 2 {
		a.tellAll(now, b)
		b.tellAll(now, a)
	}
}

func (s *statements) tellAll(now time.Time, to *statements) {
	p := newPacker(0)
	for _, member := range slices.Sorted(maps.Keys(s.books)) {
		for _, key := range s.keys(member) {
			e, _ := s.get(member, key)
			p.add(now, about{member: member, alive: true}, key, e)
		}
	}
	if m := p.message(); m != nil {
		if err := unpack(m, now, func(of about, key string, e statement) { to.hear(now, of.member, key, e) }); err != nil {
			panic(err)
		}
	}
}

func TestDeletionsAreForgottenButNotResurrected(t *testing.T) {
	me, away := newStatements("me", defaultLimits), newStatements("away", defaultLimits)
	me.say(noon, "k", []byte("v"))
	exchange(noon, me, away)
	me.say(noon, "k", nil)
	later := noon.Add(memory)
	me.expire(later.Add(-time.Second))
	if _, ok := me.get("me", "k"); !ok {
		t.Error("a deletion is forgotten before its time")
	}
	me.expire(later)
	if _, ok := me.get("me", "k"); ok {
		t.Error("a deletion is remembered for ever")
	}
	// Somebody who was away for longer brings the old value.
	exchange(later, me, away)
	for _, s := range []*statements{me, away} {
		if got := s.texts("me"); len(got) > 0 {
			t.Errorf("%s: the value is back: %v", s.self, got)
		}
	}
	// Two who forget at different times do not remind each other.
	third, fourth := newStatements("third", defaultLimits), newStatements("fourth", defaultLimits)
	third.hear(noon, "me", "x", deletion(1, noon))
	third.tellAll(noon.Add(memory-time.Second), fourth)
	if _, ok := fourth.get("me", "x"); !ok {
		t.Error("a deletion is not passed on")
	}
	third.tellAll(noon.Add(memory), newStatements("fifth", defaultLimits))
	for _, s := range []*statements{third, fourth} {
		s.expire(noon.Add(memory))
	}
	exchange(noon.Add(memory), third, fourth)
	if third.books["me"].entries["x"].deleted || fourth.books["me"].entries["x"].deleted {
		t.Error("the deletion lives for ever")
	}
}

func TestLimits(t *testing.T) {
	s := newStatements("me", limits{entries: 4, bytes: 2*(bookCost+8) + 6*(entryCost+16)})
	for i := range 4 {
		if news, ok := s.say(noon, fmt.Sprint(i), []byte("x")); !news || !ok {
			t.Fatalf("statement %d: %t %t", i, news, ok)
		}
	}
	if _, ok := s.say(noon, "5", []byte("x")); ok {
		t.Error("a fifth statement finds room")
	}
	if _, ok := s.say(noon, "0", []byte("y")); !ok {
		t.Error("a new value finds no room")
	}
	// Deletions make room when it is needed.
	s.say(noon, "1", nil)
	if _, ok := s.say(noon, "5", []byte("x")); !ok {
		t.Error("a deletion keeps out a statement")
	}
	if got := s.hear(noon, "me", "1", value(1, "old")); got != noRoom {
		t.Errorf("hearing what was taken back, with no room to say so: %v", got)
	}
	for i := range 5 {
		want := heard
		if i == 4 {
			want = noRoom
		}
		if got := s.hear(noon, "other", fmt.Sprint(i), value(1, "x")); got != want {
			t.Errorf("entry %d of another member: %v, want %v", i, got, want)
		}
	}
	s.hear(noon, "third", "a", value(1, "x"))
	if got := s.hear(noon, "third", "b", value(1, strings.Repeat("x", 200))); got != noRoom {
		t.Errorf("more bytes than are allowed: %v", got)
	}
	if s.dropped != 3 {
		t.Errorf("%d dropped", s.dropped)
	}
	s.forget("other")
	s.forget("third")
	if s.bytes != 0 {
		t.Errorf("%d bytes are left of nothing", s.bytes)
	}
}

// TestWhatWasTakenBackGivesWay has a member say much, take it back, and say as much
// again, far more often than there is room for what was taken back: others follow, and
// what it says last is all that counts.
func TestWhatWasTakenBackGivesWay(t *testing.T) {
	const most = 100
	l := limits{entries: 2*most + most/2, bytes: 1 << 20}
	me, other := newStatements("me", l), newStatements("other", l)
	for round := range 5 {
		want := map[string]string{}
		all := map[string][]byte{}
		for i := range most {
			key := fmt.Sprintf("claims/%d/%d", round, i)
			want[key], all[key] = "1", []byte("1")
		}
		if _, ok := me.sayAll(noon, "claims/", all); !ok {
			t.Fatalf("round %d: no room", round)
		}
		exchange(noon, me, other)
		for _, s := range []*statements{me, other} {
			if diff := cmp.Diff(want, s.texts("me")); diff != "" {
				t.Fatalf("round %d, %s (-want +got):\n%s", round, s.self, diff)
			}
			if b := s.books["me"]; len(b.entries) > l.entries || b.incomplete(noon) {
				t.Fatalf("round %d, %s: %d entries, incomplete %t", round, s.self, len(b.entries), b.incomplete(noon))
			}
		}
	}
}

// TestEverybodyAgreesInTheEnd has members speak, fall silent, restart, forget, meet
// and miss each other at random, with clocks that are wrong. When all have met,
// they agree, and each is known to say exactly what it said in its last life.
func TestEverybodyAgreesInTheEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const n = 4
		type life struct {
			said    map[string]string // "" when taken back
			covered []string
			clock   time.Duration
		}
		name := func(i int) string { return fmt.Sprintf("node%d", i) }
		var stores [n]*statements
		var lives [n]life
		start := func(i int) {
			stores[i] = newStatements(name(i), defaultLimits)
			lives[i] = life{said: make(map[string]string), clock: time.Duration(rapid.IntRange(-300, 300).Draw(t, "clock")) * time.Minute}
		}
		for i := range n {
			start(i)
		}
		keys := []string{"claim/a", "claim/b", "claim/c", "link/a", "stage"}
		texts := rapid.SampledFrom([]string{"1", "2", "3"})
		now := noon
		who := rapid.IntRange(0, n-1)
		t.Repeat(map[string]func(*rapid.T){
			"say": func(t *rapid.T) {
				i, key, text := who.Draw(t, "who"), rapid.SampledFrom(keys).Draw(t, "key"), texts.Draw(t, "text")
				stores[i].say(now.Add(lives[i].clock), key, []byte(text))
				lives[i].said[key] = text
			},
			"take back": func(t *rapid.T) {
				i, key := who.Draw(t, "who"), rapid.SampledFrom(keys).Draw(t, "key")
				stores[i].say(now.Add(lives[i].clock), key, nil)
				lives[i].said[key] = ""
			},
			"say all": func(t *rapid.T) {
				i := who.Draw(t, "who")
				all := make(map[string][]byte)
				for _, key := range keys[:3] {
					lives[i].said[key] = ""
					if rapid.Bool().Draw(t, "says "+key) {
						text := texts.Draw(t, "text")
						all[key], lives[i].said[key] = []byte(text), text
					}
				}
				lives[i].covered = append(lives[i].covered, "claim/")
				stores[i].sayAll(now.Add(lives[i].clock), "claim/", all)
			},
			"tell": func(t *rapid.T) {
				i, j := who.Draw(t, "who"), who.Draw(t, "whom")
				stores[i].tellAll(now.Add(lives[i].clock), stores[j])
			},
			"restart": func(t *rapid.T) { start(who.Draw(t, "who")) },
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 45).Draw(t, "minutes")) * time.Minute)
				for i := range n {
					stores[i].expire(now.Add(lives[i].clock))
				}
			},
		})
		for range n {
			for i := range n {
				for j := range n {
					stores[i].tellAll(now, stores[j])
				}
			}
		}
		for i := range n {
			got := stores[i].texts(name(i))
			for _, key := range keys {
				said, did := lives[i].said[key]
				if did && got[key] != said {
					t.Fatalf("%s said %s = %q in this life, and has %q", name(i), key, said, got[key])
				}
				if !did && got[key] != "" && slices.ContainsFunc(lives[i].covered, func(p string) bool { return strings.HasPrefix(key, p) }) {
					t.Fatalf("%s said all, but not %s, and has %q", name(i), key, got[key])
				}
			}
			for j := range n {
				if diff := cmp.Diff(got, stores[j].texts(name(i))); diff != "" {
					t.Fatalf("%s and %s do not agree on %s:\n%s", name(i), name(j), name(i), diff)
				}
			}
		}
		for _, s := range stores {
			sum := 0
			for member, b := range s.books {
				bytes, deletions := bookCost+len(member), 0
				for key, e := range b.entries {
					bytes += cost(key, e)
					deletions += count(e.deleted)
				}
				if bytes != b.bytes || deletions != b.deletions {
					t.Fatalf("%s has %d bytes, %d deletions, counted %d, %d", member, bytes, deletions, b.bytes, b.deletions)
				}
				if member != s.self {
					sum += bytes
				}
			}
			if sum != s.bytes {
				t.Fatalf("%d bytes in all, counted %d", sum, s.bytes)
			}
		}
	})
}
