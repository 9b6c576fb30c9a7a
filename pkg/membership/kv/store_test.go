package kv

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

func value(version uint64, text string) Entry {
	return Entry{Value: []byte(text), Version: version}
}

func deletion(version uint64, at time.Time) Entry {
	return Entry{Deleted: true, Version: version, DeletedAt: at}
}

// texts returns the values of a member, as text.
func (s *Store) texts(member string) map[string]string {
	out := make(map[string]string)
	for key, v := range s.Values(member) {
		out[key] = string(v)
	}
	return out
}

func TestTheLastWriteWins(t *testing.T) {
	tests := []struct {
		story string
		told  []Entry
		want  map[string]string
	}{
		{"one value", []Entry{value(1, "a")}, map[string]string{"k": "a"}},
		{"a newer one", []Entry{value(1, "a"), value(2, "b")}, map[string]string{"k": "b"}},
		{"an older one comes late", []Entry{value(2, "b"), value(1, "a")}, map[string]string{"k": "b"}},
		{"two of one version, by bytes", []Entry{value(1, "a"), value(1, "b")}, map[string]string{"k": "b"}},
		{"the same in the other order", []Entry{value(1, "b"), value(1, "a")}, map[string]string{"k": "b"}},
		{"a value and a deletion of one version",
			[]Entry{deletion(1, noon), value(1, "a")}, map[string]string{"k": "a"}},
		{"the same in the other order",
			[]Entry{value(1, "a"), deletion(1, noon)}, map[string]string{"k": "a"}},
		{"taken back", []Entry{value(1, "a"), deletion(2, noon)}, map[string]string{}},
		{"taken back before it was heard", []Entry{deletion(2, noon), value(1, "a")}, map[string]string{}},
		{"an old deletion still takes back",
			[]Entry{value(1, "a"), deletion(2, noon.Add(-2*TombstoneTTL))}, map[string]string{}},
		{"empty is a value", []Entry{value(1, "")}, map[string]string{"k": ""}},
	}
	for _, tt := range tests {
		s := NewStore("me", DefaultLimits)
		for _, told := range tt.told {
			s.Merge(noon, "other", "k", told)
		}
		if diff := cmp.Diff(tt.want, s.texts("other")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.story, diff)
		}
	}
}

func TestARestartedMember(t *testing.T) {
	old := map[string]Entry{
		"claim/a": value(uint64(noon.UnixNano()), "1"),
		"claim/b": value(uint64(noon.UnixNano()), "2"),
		"stage":   value(uint64(noon.UnixNano()), "leaving"),
	}
	// Its clock was wrong before, or is wrong now.
	for _, now := range []time.Time{noon.Add(time.Minute), noon.Add(-24 * time.Hour)} {
		tests := []struct {
			story string
			does  func(s *Store)
			want  map[string]string
		}{
			{"it says nothing",
				func(*Store) {}, map[string]string{"claim/a": "1", "claim/b": "2", "stage": "leaving"}},
			{"it says something else", func(s *Store) {
				s.Set(now, "stage", []byte("starting"))
			}, map[string]string{"claim/a": "1", "claim/b": "2", "stage": "starting"}},
			{"it takes back what it has not heard yet", func(s *Store) {
				s.Set(now, "claim/a", nil)
			}, map[string]string{"claim/b": "2", "stage": "leaving"}},
			{"it says all there is", func(s *Store) {
				s.SetPrefix(now, "claim/", map[string][]byte{"claim/c": []byte("3")})
			}, map[string]string{"claim/c": "3", "stage": "leaving"}},
			{"it says that there is nothing", func(s *Store) {
				s.SetPrefix(now, "", nil)
			}, map[string]string{}},
		}
		for _, tt := range tests {
			for _, order := range []string{"before", "after"} {
				// The other one knows what it said.
				me, other := NewStore("me", DefaultLimits), NewStore("other", DefaultLimits)
				for _, key := range slices.Sorted(maps.Keys(old)) {
					other.Merge(now, "me", key, old[key])
				}
				if order == "before" {
					tt.does(me)
				}
				exchange(now, me, other)
				if order == "after" {
					tt.does(me)
				}
				exchange(now, me, other)
				for _, s := range []*Store{me, other} {
					if diff := cmp.Diff(tt.want, s.texts("me")); diff != "" {
						t.Errorf("%s %s it hears, at %s, as %s has it (-want +got):\n%s",
							tt.story, order, now, s.self, diff)
					}
				}
			}
		}
	}
}

// exchange has two exchange all that they know, by messages.
func exchange(now time.Time, a, b *Store) {
	for range 2 {
		a.sendAll(now, b)
		b.sendAll(now, a)
	}
}

func (s *Store) sendAll(now time.Time, to *Store) {
	p := NewPacker(0)
	for _, member := range slices.Sorted(maps.Keys(s.members)) {
		for _, key := range s.Keys(member) {
			e, _ := s.Get(member, key)
			p.Add(now, Section{Member: member, Alive: true}, key, e)
		}
	}
	if m := p.Message(); m != nil {
		err := Unpack(m, now, func(of Section, key string, e Entry) { to.Merge(now, of.Member, key, e) })
		if err != nil {
			panic(err)
		}
	}
}

func TestDeletionsAreForgottenButNotResurrected(t *testing.T) {
	me, away := NewStore("me", DefaultLimits), NewStore("away", DefaultLimits)
	me.Set(noon, "k", []byte("v"))
	exchange(noon, me, away)
	me.Set(noon, "k", nil)
	later := noon.Add(TombstoneTTL)
	me.Expire(later.Add(-time.Second))
	if _, ok := me.Get("me", "k"); !ok {
		t.Error("a deletion is forgotten before its time")
	}
	me.Expire(later)
	if _, ok := me.Get("me", "k"); ok {
		t.Error("a deletion is remembered for ever")
	}
	// Somebody who was away for longer brings the old value.
	exchange(later, me, away)
	for _, s := range []*Store{me, away} {
		if got := s.texts("me"); len(got) > 0 {
			t.Errorf("%s: the value is back: %v", s.self, got)
		}
	}
	// Two who forget at different times do not remind each other.
	third, fourth := NewStore("third", DefaultLimits), NewStore("fourth", DefaultLimits)
	third.Merge(noon, "me", "x", deletion(1, noon))
	third.sendAll(noon.Add(TombstoneTTL-time.Second), fourth)
	if _, ok := fourth.Get("me", "x"); !ok {
		t.Error("a deletion is not passed on")
	}
	third.sendAll(noon.Add(TombstoneTTL), NewStore("fifth", DefaultLimits))
	for _, s := range []*Store{third, fourth} {
		s.Expire(noon.Add(TombstoneTTL))
	}
	exchange(noon.Add(TombstoneTTL), third, fourth)
	if third.members["me"].entries["x"].Deleted || fourth.members["me"].entries["x"].Deleted {
		t.Error("the deletion lives for ever")
	}
}

func TestLimits(t *testing.T) {
	s := NewStore("me", Limits{Entries: 4, Bytes: 2*(memberCost+8) + 10*(entryCost+16)})
	for i := range 4 {
		if news, ok := s.Set(noon, fmt.Sprint(i), []byte("x")); !news || !ok {
			t.Fatalf("entry %d: %t %t", i, news, ok)
		}
	}
	if _, ok := s.Set(noon, "5", []byte("x")); ok {
		t.Error("a fifth value finds room")
	}
	if _, ok := s.Set(noon, "0", []byte("y")); !ok {
		t.Error("a new value finds no room")
	}
	// What is taken back makes room.
	s.Set(noon, "1", nil)
	if _, ok := s.Set(noon, "5", []byte("x")); !ok {
		t.Error("a deletion keeps out a value")
	}
	if got := s.Merge(noon, "me", "7", value(1, "old")); got != NoRoom {
		t.Errorf("hearing what was said before a restart, with no room for it: %v", got)
	}
	if got := s.Merge(noon, "me", "1", value(MaxVersion, "old")); got != Reasserted {
		t.Errorf("hearing what was taken back: %v", got)
	}
	for i := range 9 {
		want := Merged
		if i == 8 {
			want = NoRoom
		}
		if got := s.Merge(noon, "other", fmt.Sprint(i), value(1, "x")); got != want {
			t.Errorf("entry %d of another member: %v, want %v", i, got, want)
		}
	}
	s.Merge(noon, "third", "a", value(1, "x"))
	if got := s.Merge(noon, "third", "b", value(1, strings.Repeat("x", 200))); got != NoRoom {
		t.Errorf("more bytes than are allowed: %v", got)
	}
	if s.Dropped() != 3 {
		t.Errorf("%d dropped", s.Dropped())
	}
	s.Forget("other")
	s.Forget("third")
	if s.Bytes() != 0 {
		t.Errorf("%d bytes are left of nothing", s.Bytes())
	}
}

// TestTombstonesGiveWay has a member publish all that it can, delete it, and publish as
// much again: others follow, and what it published last is all that counts.
func TestTombstonesGiveWay(t *testing.T) {
	const most = 100
	l := Limits{Entries: most, Bytes: 1 << 20}
	me, other := NewStore("me", l), NewStore("other", l)
	for round := range 5 {
		want := map[string]string{}
		all := map[string][]byte{}
		for i := range most {
			key := fmt.Sprintf("claims/%d/%d", round, i)
			want[key], all[key] = "1", []byte("1")
		}
		if _, ok := me.SetPrefix(noon, "claims/", all); !ok {
			t.Fatalf("round %d: no room", round)
		}
		if _, ok := me.Set(noon, "one more", []byte("1")); ok {
			t.Fatalf("round %d: there is room for more", round)
		}
		exchange(noon, me, other)
		for _, s := range []*Store{me, other} {
			if diff := cmp.Diff(want, s.texts("me")); diff != "" {
				t.Fatalf("round %d, %s (-want +got):\n%s", round, s.self, diff)
			}
			if b := s.members["me"]; len(b.entries) > 3*most || s.Incomplete("me", noon) {
				t.Fatalf("round %d, %s: %d entries, incomplete %t",
					round, s.self, len(b.entries), s.Incomplete("me", noon))
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
		var stores [n]*Store
		var lives [n]life
		start := func(i int) {
			stores[i] = NewStore(name(i), DefaultLimits)
			lives[i] = life{
				said:  make(map[string]string),
				clock: time.Duration(rapid.IntRange(-300, 300).Draw(t, "clock")) * time.Minute,
			}
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
				i := who.Draw(t, "who")
				key := rapid.SampledFrom(keys).Draw(t, "key")
				text := texts.Draw(t, "text")
				stores[i].Set(now.Add(lives[i].clock), key, []byte(text))
				lives[i].said[key] = text
			},
			"take back": func(t *rapid.T) {
				i, key := who.Draw(t, "who"), rapid.SampledFrom(keys).Draw(t, "key")
				stores[i].Set(now.Add(lives[i].clock), key, nil)
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
				stores[i].SetPrefix(now.Add(lives[i].clock), "claim/", all)
			},
			"tell": func(t *rapid.T) {
				i, j := who.Draw(t, "who"), who.Draw(t, "whom")
				stores[i].sendAll(now.Add(lives[i].clock), stores[j])
			},
			"restart": func(t *rapid.T) { start(who.Draw(t, "who")) },
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 45).Draw(t, "minutes")) * time.Minute)
				for i := range n {
					stores[i].Expire(now.Add(lives[i].clock))
				}
			},
		})
		for range n {
			for i := range n {
				for j := range n {
					stores[i].sendAll(now, stores[j])
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
				if !did && got[key] != "" && slices.ContainsFunc(lives[i].covered, func(p string) bool {
					return strings.HasPrefix(key, p)
				}) {
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
			for member, b := range s.members {
				bytes, deletions := memberCost+len(member), 0
				for key, e := range b.entries {
					bytes += cost(key, e)
					deletions += count(e.Deleted)
				}
				if bytes != b.bytes || deletions != b.tombstones {
					t.Fatalf("%s has %d bytes, %d deletions, counted %d, %d",
						member, bytes, deletions, b.bytes, b.tombstones)
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
