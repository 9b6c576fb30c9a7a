package membership

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// line is a statement as it goes into a message and comes out.
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

func (l line) statement(now time.Time) statement {
	e := statement{version: l.Version, deleted: l.Deleted}
	if l.Deleted {
		e.at = now.Add(-l.Age)
	} else {
		e.value = []byte(l.Value)
	}
	return e
}

func lines(now time.Time, message []byte) ([]line, error) {
	var out []line
	err := unpack(message, now, func(of about, key string, e statement) {
		l := line{Member: of.member, Alive: of.alive, Gone: of.gone, Key: key, Value: string(e.value), Deleted: e.deleted, Version: e.version}
		if e.deleted {
			l.Age = now.Sub(e.at)
		}
		out = append(out, l)
	})
	return out, err
}

func TestWhatGoesInComesOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		generator := rapid.Custom(func(t *rapid.T) line {
			l := line{
				Member:  rapid.SampledFrom([]string{"a", "node1", strings.Repeat("n", maxName)}).Draw(t, "member"),
				Alive:   rapid.Bool().Draw(t, "alive"),
				Key:     rapid.StringN(-1, -1, MaxKey).Draw(t, "key"),
				Version: rapid.Uint64Range(0, maxVersion).Draw(t, "version"),
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
		limit := rapid.SampledFrom([]int{0, 300, maxMessage}).Draw(t, "limit")
		var out []line
		p := newPacker(limit)
		flush := func() {
			m := p.message()
			if limit > 0 && len(m) > limit {
				t.Fatalf("%d bytes", len(m))
			}
			read, err := lines(noon, m)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, read...)
			p = newPacker(limit)
		}
		var want []line
		for _, l := range in {
			// The time gone is told once for a section.
			of := about{member: l.Member, alive: l.Alive, gone: l.Gone}
			if p.section > 0 && p.member == l.Member {
				last := want[len(want)-1]
				l.Alive, l.Gone = last.Alive, last.Gone
				of.alive, of.gone = last.Alive, last.Gone
			}
			if !p.add(noon, of, l.Key, l.statement(noon)) {
				if p.message() != nil {
					flush()
				}
				p = newPacker(limit)
				if !p.add(noon, of, l.Key, l.statement(noon)) {
					p = newPacker(limit)
					continue // too large for any
				}
			}
			want = append(want, l)
		}
		if p.message() != nil {
			flush()
		}
		if diff := cmp.Diff(want, out); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func TestMessagesThatAreRefused(t *testing.T) {
	good := newPacker(0)
	good.add(noon, about{member: "n", alive: true}, "k", value(5, "v"))
	message := good.message()
	if want := []byte{1, 0, 1, 0, 0, 0, 11, 3, 1, 'n', 0, 6, 1, 1, 'k', 10, 2, 'v'}; !bytes.Equal(message, want) {
		t.Fatalf("message %v, want %v", message, want)
	}
	section := func(body ...byte) []byte { return record(kindSection, body) }
	entry := func(body ...byte) []byte { return section(append([]byte{3, 1, 'n', 0, byte(len(body))}, body...)...) }
	tests := []struct {
		story   string
		message []byte
		want    string
	}{
		{"empty", nil, "cut off"},
		{"nothing but a major", []byte{formatMajor}, "cut off"},
		{"another major", []byte{2, 0, 1}, "format"},
		{"one before the first", []byte{0, 0, 1}, "format"},
		{"a record that is cut off", []byte{1, 0, kindSection, 0, 0, 0, 7, 3}, "record is cut off"},
		{"one of more than four billion bytes", []byte{1, 0, kindSection, 255, 255, 255, 255}, "record is cut off"},
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
		{"a version out of range", entry(1, 1, 'k', 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), "version"},
		{"a value that is cut off", entry(1, 1, 'k', 10, 9, 'v'), "value is cut off"},
		{"no age", entry(1, 1, 'k', 10, 0), "age"},
	}
	for _, tt := range tests {
		if err := unpack(tt.message, noon, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one that says %q", tt.story, err, tt.want)
		}
	}
	for cut := range message {
		if err := unpack(message[:cut], noon, nil); err == nil && cut != messageHead {
			t.Errorf("cut off at %d, it is accepted", cut)
		}
	}
}

// packClaims returns the messages for claims that were said within some ms.
func packClaims(claims int) [][]byte {
	v := newView("worker-17.example.internal")
	random := rand.New(rand.NewPCG(1, 2))
	said := noon
	for i := range claims {
		said = said.Add(time.Duration(random.IntN(5000)))
		key := fmt.Sprintf("claim/10.%d.%d.%d", 20+i/4096, i/256%256, i%256)
		v.store.say(said, key, []byte{1, byte(random.IntN(3))})
		v.pending[key] = true
	}
	messages, _ := v.takePending(false)
	return messages
}

// TestClaimsInBlocksTakeFewDatagrams measures what a takeover costs: each of two
// survivors of three nodes says every third address anew, in blocks of sixteen as the
// speaker does, or one by one.
func TestClaimsInBlocksTakeFewDatagrams(t *testing.T) {
	for _, tt := range []struct{ claims, every, most int }{{2000, 1, 4}, {2000, 3, 9}, {20000, 1, 35}, {20000, 3, 82}} {
		cost := func(blocks bool) (statements, datagrams, bytes int) {
			v := newView("worker-17.example.internal")
			said := noon
			blockOf := map[string]string{}
			for i := range tt.claims {
				n := i * tt.every
				addr := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
				if !blocks {
					blockOf["claim/"+addr.String()] = "2"
					continue
				}
				key := "claims/" + netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n &^ 15)}).String()
				if blockOf[key] == "" {
					blockOf[key] = "2:"
				}
				blockOf[key] += fmt.Sprintf("%x", n%16)
			}
			for _, key := range slices.Sorted(maps.Keys(blockOf)) {
				said = said.Add(100 * time.Microsecond)
				v.store.say(said, key, []byte(blockOf[key]))
				v.pending[key] = true
			}
			messages, _ := v.takePending(false)
			for _, m := range messages {
				bytes += len(m)
			}
			return len(blockOf), len(messages), bytes
		}
		s1, m1, b1 := cost(false)
		s2, m2, b2 := cost(true)
		t.Logf("%d claims, of every address in %d: one by one %d statements, %d datagrams, %d bytes; in blocks %d, %d, %d",
			tt.claims, tt.every, s1, m1, b1, s2, m2, b2)
		if m2 > tt.most {
			t.Errorf("%d claims, of every address in %d: %d datagrams, want at most %d", tt.claims, tt.every, m2, tt.most)
		}
	}
}

func TestTwoThousandClaimsTakeFewDatagrams(t *testing.T) {
	messages := packClaims(2000)
	size := 0
	for _, m := range messages {
		size += len(m)
		if len(m) > maxMessage {
			t.Errorf("a message of %d bytes", len(m))
		}
	}
	t.Logf("2000 claims: %d messages, %d bytes", len(messages), size)
	if len(messages) > 30 {
		t.Errorf("%d messages", len(messages))
	}
}

func FuzzUnpack(f *testing.F) {
	for _, m := range packClaims(20) {
		f.Add(m)
	}
	p := newPacker(0)
	p.add(noon, about{member: "a", alive: true}, lifeKey, value(1, string(lifeValue(lifeHere, peersOf(2)[0]))))
	p.add(noon, about{member: "a", alive: true}, "claim/192.0.2.1", deletion(7, noon))
	p.add(noon, about{member: "me", gone: time.Hour}, "stage", value(maxVersion, "ready"))
	f.Add(p.message())
	f.Add(record(kindSection, []byte{3, 1, 'n', 0, 6, 1, 1, 'k', 10, 2, 'v'}))
	f.Add(nextMinor(p.message()))
	f.Fuzz(func(t *testing.T, message []byte) {
		read, err := lines(noon, message)
		if check := unpack(message, noon, nil); (check == nil) != (err == nil) {
			t.Fatalf("read: %v, checked: %v", err, check)
		}
		// Whatever it is, it is taken in without harm.
		v := newView("me")
		v.merge(message)
		if len(v.store.books) > 1+len(message)/3 {
			t.Fatalf("%d members of %d bytes", len(v.store.books), len(message))
		}
		if err != nil {
			return
		}
		// What was read can be said again.
		p := newPacker(0)
		for _, l := range read {
			if len(l.Key) > MaxKey || len(l.Value) > MaxValue || l.Version > maxVersion || len(l.Member) > maxName {
				t.Fatalf("out of bounds: %+v", l)
			}
			p.add(noon, about{member: l.Member, alive: l.Alive, gone: l.Gone}, l.Key, l.statement(noon))
		}
		if m := p.message(); m != nil {
			again, err := lines(noon, m)
			if err != nil || len(again) != len(read) {
				t.Fatalf("%d lines, then %d: %v", len(read), len(again), err)
			}
		}
		v.LocalState(false)
		v.GetBroadcasts(3, 1400)
	})
}

func BenchmarkMembersAfterAChange(b *testing.B) {
	v := newView("me")
	v.people["me"] = &person{alive: true, state: Alive}
	for i := range 10 {
		name := fmt.Sprintf("node%d", i)
		v.people[name] = &person{alive: true, state: Alive}
		for k := range 2000 {
			v.store.hear(noon, name, fmt.Sprintf("claim/10.0.%d.%d", k/256, k%256), value(1, "12"))
		}
	}
	b.ReportAllocs()
	for i := range b.N {
		v.store.hear(noon, "node3", "stage", value(uint64(i+1), "ready"))
		v.members()
	}
}

func BenchmarkWholeState(b *testing.B) {
	v := newView("me")
	for i := range 10 {
		name := fmt.Sprintf("node%d", i)
		for k := range 2000 {
			v.store.hear(noon, name, fmt.Sprintf("claim/10.0.%d.%d", k/256, k%256), value(uint64(noon.UnixNano()+int64(k)*1e6), "12"))
		}
	}
	b.ReportAllocs()
	b.ReportMetric(float64(len(v.LocalState(false))), "bytes")
	for range b.N {
		v.merge(v.LocalState(false))
	}
}
