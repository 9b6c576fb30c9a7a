package kv

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/berth-lb/berth/pkg/membership/kv/kvtest"
)

// line is an entry as it goes into a message and comes out.
type line struct {
	Member  string
	Alive   bool
	Gone    time.Duration
	Key     string
	Value   string
	Deleted bool
	Version uint64
	Age     time.Duration
}

func (l line) entry(now time.Time) Entry {
	e := Entry{Version: l.Version, Deleted: l.Deleted}
	if l.Deleted {
		e.DeletedAt = now.Add(-l.Age)
	} else {
		e.Value = []byte(l.Value)
	}
	return e
}

func lines(now time.Time, message []byte) ([]line, error) {
	var out []line
	err := Unpack(message, now, func(of Section, key string, e Entry) {
		l := line{
			Member:  of.Member,
			Alive:   of.Alive,
			Gone:    of.Gone,
			Key:     key,
			Value:   string(e.Value),
			Deleted: e.Deleted,
			Version: e.Version,
		}
		if e.Deleted {
			l.Age = now.Sub(e.DeletedAt)
		}
		out = append(out, l)
	})
	return out, err
}

func TestWhatGoesInComesOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"a", "node1", strings.Repeat("n", MaxName)}
		generator := rapid.Custom(func(t *rapid.T) line {
			l := line{
				Member:  rapid.SampledFrom(names).Draw(t, "member"),
				Alive:   rapid.Bool().Draw(t, "alive"),
				Key:     rapid.StringN(-1, -1, MaxKey).Draw(t, "key"),
				Version: rapid.Uint64Range(0, MaxVersion).Draw(t, "version"),
				Deleted: rapid.Bool().Draw(t, "deleted"),
			}
			if !l.Alive {
				l.Gone = time.Duration(rapid.IntRange(0, 1e6).Draw(t, "gone")) * time.Second
			}
			if l.Deleted {
				l.Age = time.Duration(rapid.IntRange(0, 1e4).Draw(t, "age")) * time.Second
			} else {
				l.Value = string(rapid.SliceOfN(rapid.Byte(), 0, MaxValue).Draw(t, "value"))
			}
			return l
		})
		in := rapid.SliceOfN(generator, 1, 20).Draw(t, "lines")
		limit := rapid.SampledFrom([]int{0, 300, 1200}).Draw(t, "limit")
		var out []line
		p := NewPacker(limit)
		flush := func() {
			m := p.Message()
			if limit > 0 && len(m) > limit {
				t.Fatalf("%d bytes", len(m))
			}
			read, err := lines(noon, m)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, read...)
			p = NewPacker(limit)
		}
		var want []line
		for _, l := range in {
			// The time gone is told once for a section.
			of := Section{Member: l.Member, Alive: l.Alive, Gone: l.Gone}
			if p.section > 0 && p.member == l.Member {
				last := want[len(want)-1]
				l.Alive, l.Gone = last.Alive, last.Gone
				of.Alive, of.Gone = last.Alive, last.Gone
			}
			if !p.Add(noon, of, l.Key, l.entry(noon)) {
				if p.Message() != nil {
					flush()
				}
				p = NewPacker(limit)
				if !p.Add(noon, of, l.Key, l.entry(noon)) {
					p = NewPacker(limit)
					continue // too large for any
				}
			}
			want = append(want, l)
		}
		if p.Message() != nil {
			flush()
		}
		if diff := cmp.Diff(want, out); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func TestMessagesThatAreRefused(t *testing.T) {
	good := NewPacker(0)
	good.Add(noon, Section{Member: "n", Alive: true}, "k", value(5, "v"))
	message := good.Message()
	want := []byte{1, 0, 1, 0, 0, 0, 11, 3, 1, 'n', 0, 6, 1, 1, 'k', 10, 2, 'v'}
	if !bytes.Equal(message, want) {
		t.Fatalf("message %v, want %v", message, want)
	}
	section := func(body ...byte) []byte { return kvtest.Record(kindSection, body) }
	entry := func(body ...byte) []byte {
		return section(append([]byte{3, 1, 'n', 0, byte(len(body))}, body...)...)
	}
	tests := []struct {
		story   string
		message []byte
		want    string
	}{
		{"empty", nil, "cut off"},
		{"nothing but a major", []byte{Major}, "cut off"},
		{"another major", []byte{2, 0, 1}, "format"},
		{"one before the first", []byte{0, 0, 1}, "format"},
		{"a record that is cut off", []byte{1, 0, kindSection, 0, 0, 0, 7, 3}, "record is cut off"},
		{"one of more than four billion bytes",
			[]byte{1, 0, kindSection, 255, 255, 255, 255}, "record is cut off"},
		{"no name", section(2, 0, 0), "name is empty"},
		{"a name that is cut off", section(3, 9, 'n', 0), "name is cut off"},
		{"no time gone", section(2, 1, 'n'), "time gone"},
		{"a head that is cut off", section(9, 1, 'n', 0), "head is cut off"},
		{"an entry that is cut off", section(3, 1, 'n', 0, 9, 1), "entry is cut off"},
		{"an entry with nothing", entry(), "shared bytes"},
		{"no shared bytes", entry(0, 1, 'k', 10, 2, 'v'), "shared bytes"},
		{"more shared bytes than there were", entry(2, 0), "shared bytes"},
		{"a key that is cut off", entry(1, 9, 'k'), "key is cut off"},
		{"a version below zero", entry(1, 1, 'k', 1, 1), "version"},
		{"a version out of range",
			entry(1, 1, 'k', 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), "version"},
		{"a value that is cut off", entry(1, 1, 'k', 10, 9, 'v'), "value is cut off"},
		{"no age", entry(1, 1, 'k', 10, 0), "age"},
	}
	for _, tt := range tests {
		if err := Unpack(tt.message, noon, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one that says %q", tt.story, err, tt.want)
		}
	}
	for cut := range message {
		if err := Unpack(message[:cut], noon, nil); err == nil && cut != messageHead {
			t.Errorf("cut off at %d, it is accepted", cut)
		}
	}
}

// packClaims returns the messages for claims that were made within some ms.
func packClaims(claims int) [][]byte {
	const name, room = "worker-17.example.internal", 1200
	s := NewStore(name, DefaultLimits)
	random := rand.New(rand.NewPCG(1, 2))
	at := noon
	for i := range claims {
		at = at.Add(time.Duration(random.IntN(5000)))
		key := fmt.Sprintf("claim/10.%d.%d.%d", 20+i/4096, i/256%256, i%256)
		s.Set(at, key, []byte{1, byte(random.IntN(3))})
	}
	var messages [][]byte
	p := NewPacker(room)
	for _, key := range s.Keys(name) {
		e, _ := s.Get(name, key)
		if of := (Section{Member: name, Alive: true}); !p.Add(noon, of, key, e) {
			messages = append(messages, p.Message())
			p = NewPacker(room)
			p.Add(noon, of, key, e)
		}
	}
	return append(messages, p.Message())
}

// TestALaterMinorIsReadAsFarAsItIsKnown: whatever is added to a message, what this
// version knows of it says the same.
func TestALaterMinorIsReadAsFarAsItIsKnown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := NewPacker(0)
		for range rapid.IntRange(1, 20).Draw(t, "entries") {
			e := value(rapid.Uint64Range(0, MaxVersion).Draw(t, "version"), rapid.String().Draw(t, "value"))
			if len(e.Value) > MaxValue || rapid.Bool().Draw(t, "deleted") {
				e = deletion(e.Version, noon.Add(-time.Hour))
			}
			of := Section{Member: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "member"), Alive: true}
			p.Add(noon, of, rapid.StringN(-1, -1, MaxKey).Draw(t, "key"), e)
		}
		want, err := lines(noon, p.Message())
		if err != nil {
			t.Fatal(err)
		}
		got, err := lines(noon, kvtest.NextMinor(p.Message()))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Fatalf("%v (-want +got):\n%s", err, diff)
		}
	})
}

// TestWhatIsLargerThanThisVersionTakes: a later version may say longer things. They
// are passed over, what follows is read right, and its member counts as incompletely
// known for as long as that goes on.
func TestWhatIsLargerThanThisVersionTakes(t *testing.T) {
	p := NewPacker(0)
	of := Section{Member: "node2", Alive: true}
	p.Add(noon, of, "a", value(1, "1"))
	p.Add(noon, of, "b"+strings.Repeat("b", MaxKey), value(2, "2"))
	p.Add(noon, of, "b"+strings.Repeat("b", MaxKey-1), value(3, "3"))
	p.Add(noon, of, "c", value(4, strings.Repeat("4", MaxValue+1)))
	p.Add(noon, of, "d", value(5, "5"))
	p.Add(noon, Section{Member: strings.Repeat("n", MaxName+1), Alive: true}, "d", value(5, "5"))
	s := NewStore("me", DefaultLimits)
	if err := Unpack(p.Message(), noon, func(of Section, key string, e Entry) {
		s.Merge(noon, of.Member, key, e)
	}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": "1", strings.Repeat("b", MaxKey): "3", "d": "5"}
	if diff := cmp.Diff(want, s.texts("node2")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for after, want := range map[time.Duration]bool{0: true, incompleteFor - 1: true, incompleteFor: false} {
		if got := s.Incomplete("node2", noon.Add(after)); got != want {
			t.Errorf("incomplete after %s: %t", after, got)
		}
	}
	if len(s.members) != 2 || s.Dropped() != 2 {
		t.Errorf("%d members, %d dropped", len(s.members), s.Dropped())
	}
}

func FuzzUnpack(f *testing.F) {
	for _, m := range packClaims(20) {
		f.Add(m)
	}
	p := NewPacker(0)
	p.Add(noon, Section{Member: "a", Alive: true}, Hidden, value(1, "\x01\x46\x1b\x04\x7f\x00\x00\x02"))
	p.Add(noon, Section{Member: "a", Alive: true}, "claim/192.0.2.1", deletion(7, noon))
	p.Add(noon, Section{Member: "me", Gone: time.Hour}, "stage", value(MaxVersion, "ready"))
	f.Add(p.Message())
	f.Add(kvtest.Record(kindSection, []byte{3, 1, 'n', 0, 6, 1, 1, 'k', 10, 2, 'v'}))
	f.Add(kvtest.NextMinor(p.Message()))
	f.Fuzz(func(t *testing.T, message []byte) {
		read, err := lines(noon, message)
		if check := Unpack(message, noon, nil); (check == nil) != (err == nil) {
			t.Fatalf("read: %v, checked: %v", err, check)
		}
		// Whatever it is, it is merged without harm.
		store := NewStore("me", DefaultLimits)
		_ = Unpack(message, noon, func(of Section, key string, e Entry) {
			store.Merge(noon, of.Member, key, e)
		})
		if n := len(store.Members()); n > 1+len(message)/3 {
			t.Fatalf("%d members of %d bytes", n, len(message))
		}
		if err != nil {
			return
		}
		// What was read can be said again.
		p := NewPacker(0)
		for _, l := range read {
			if len(l.Key) > MaxKey || len(l.Value) > MaxValue || l.Version > MaxVersion ||
				len(l.Member) > MaxName {
				t.Fatalf("out of bounds: %+v", l)
			}
			p.Add(noon, Section{Member: l.Member, Alive: l.Alive, Gone: l.Gone}, l.Key, l.entry(noon))
		}
		if m := p.Message(); m != nil {
			again, err := lines(noon, m)
			if err != nil || len(again) != len(read) {
				t.Fatalf("%d lines, then %d: %v", len(read), len(again), err)
			}
		}
	})
}
