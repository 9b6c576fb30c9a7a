package membership

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/berth-lb/berth/pkg/membership/kv"
	"github.com/berth-lb/berth/pkg/membership/kv/kvtest"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func entry(version uint64, text string) kv.Entry {
	return kv.Entry{Value: []byte(text), Version: version}
}

// line is an entry as it comes out of a message.
type line struct{ Member, Key, Value string }

func lines(now time.Time, message []byte) ([]line, error) {
	var out []line
	err := kv.Unpack(message, now, func(of kv.Section, key string, e kv.Entry) {
		out = append(out, line{of.Member, key, string(e.Value)})
	})
	return out, err
}

// packClaims returns the messages for claims that were made within some ms.
func packClaims(claims int) [][]byte {
	v := newView("worker-17.example.internal")
	random := rand.New(rand.NewPCG(1, 2))
	said := noon
	for i := range claims {
		said = said.Add(time.Duration(random.IntN(5000)))
		key := fmt.Sprintf("claim/10.%d.%d.%d", 20+i/4096, i/256%256, i%256)
		v.store.Set(said, key, []byte{1, byte(random.IntN(3))})
		v.pending[key] = true
	}
	messages, _ := v.takePending(false)
	return messages
}

// TestClaimsInBlocksTakeFewDatagrams measures what a takeover costs: each of two
// survivors of three nodes claims every third address anew, in blocks of sixteen as the
// speaker does, or one by one.
func TestClaimsInBlocksTakeFewDatagrams(t *testing.T) {
	for _, tt := range []struct {
		claims, every, most int
	}{{2000, 1, 4}, {2000, 3, 9}, {20000, 1, 35}, {20000, 3, 82}} {
		cost := func(blocks bool) (entries, datagrams, bytes int) {
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
				key := "claims/" +
					netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n &^ 15)}).String()
				if blockOf[key] == "" {
					blockOf[key] = "2:"
				}
				blockOf[key] += fmt.Sprintf("%x", n%16)
			}
			for _, key := range slices.Sorted(maps.Keys(blockOf)) {
				said = said.Add(100 * time.Microsecond)
				v.store.Set(said, key, []byte(blockOf[key]))
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
		t.Logf("%d claims, of every address in %d: one by one %d entries, %d datagrams, %d bytes; "+
			"in blocks %d, %d, %d",
			tt.claims, tt.every, s1, m1, b1, s2, m2, b2)
		if m2 > tt.most {
			t.Errorf("%d claims, of every address in %d: %d datagrams, want at most %d",
				tt.claims, tt.every, m2, tt.most)
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

// TestLifeOnTheWire: members of other versions read it.
func TestLifeOnTheWire(t *testing.T) {
	for _, tt := range []struct {
		at    string
		state byte
		want  string
	}{
		{"127.0.0.2:17947", lifeHere, "\x01\x46\x1b\x04\x7f\x00\x00\x02"},
		{"[2001:db8::1]:7947",
			lifeLeft, "\x00\x1f\x0b\x10\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"},
	} {
		at := netip.MustParseAddrPort(tt.at)
		value := lifeValue(tt.state, at)
		if string(value) != tt.want {
			t.Errorf("%s is %x, want %x", tt.at, value, tt.want)
		}
		if got, ok := lifeAddr(value); !ok || got != at || hasLeft(value) != (tt.state == lifeLeft) {
			t.Errorf("%s is read as %s, %t, left %t", tt.at, got, ok, hasLeft(value))
		}
	}
}

// FuzzMerge: whatever a message says, it is merged without harm, and what is known then
// can be sent.
func FuzzMerge(f *testing.F) {
	for _, m := range packClaims(20) {
		f.Add(m)
	}
	p := kv.NewPacker(0)
	alive := kv.Section{Member: "a", Alive: true}
	p.Add(noon, alive, lifeKey, entry(1, string(lifeValue(lifeHere, peersOf(2)[0]))))
	p.Add(noon, alive, "claim/192.0.2.1", kv.Entry{Deleted: true, Version: 7, DeletedAt: noon})
	p.Add(noon, kv.Section{Member: "me", Gone: time.Hour}, "stage", entry(kv.MaxVersion, "ready"))
	p.Add(noon, kv.Section{Member: "b", Gone: time.Hour}, lifeKey,
		entry(2, string(lifeValue(lifeLeft, peersOf(3)[0]))))
	f.Add(p.Message())
	f.Add(kvtest.Record(1, []byte{3, 1, 'n', 0, 6, 1, 1, 'k', 10, 2, 'v'}))
	f.Add(kvtest.NextMinor(p.Message()))
	f.Fuzz(func(t *testing.T, message []byte) {
		v := newView("me")
		read := v.merge(message)
		if n := len(v.store.Members()); n > 1+len(message)/3 {
			t.Fatalf("%d members of %d bytes", n, len(message))
		}
		if !read && (len(v.store.Members()) > 1 || len(v.members) > 0) {
			t.Fatal("something is taken in of a message that cannot be read")
		}
		for name := range v.members {
			if !v.store.Has(name) {
				t.Fatalf("%q is a member of which nothing is known", name)
			}
		}
		for _, m := range slices.Concat([][]byte{v.LocalState(false)}, v.GetBroadcasts(3, 1400)) {
			if _, err := lines(noon, m); m != nil && err != nil {
				t.Fatalf("what it sends cannot be read: %v", err)
			}
		}
	})
}

func BenchmarkMembersAfterAChange(b *testing.B) {
	v := newView("me")
	v.members["me"] = &member{name: "me", alive: true, state: Alive}
	for i := range 10 {
		name := fmt.Sprintf("node%d", i)
		v.members[name] = &member{name: name, alive: true, state: Alive}
		for k := range 2000 {
			v.store.Merge(noon, name, fmt.Sprintf("claim/10.0.%d.%d", k/256, k%256), entry(1, "12"))
		}
	}
	b.ReportAllocs()
	for i := range b.N {
		v.store.Merge(noon, "node3", "stage", entry(uint64(i+1), "ready"))
		v.list()
	}
}

func BenchmarkWholeState(b *testing.B) {
	v := newView("me")
	for i := range 10 {
		name := fmt.Sprintf("node%d", i)
		for k := range 2000 {
			key := fmt.Sprintf("claim/10.0.%d.%d", k/256, k%256)
			v.store.Merge(noon, name, key, entry(uint64(noon.UnixNano()+int64(k)*1e6), "12"))
		}
	}
	b.ReportAllocs()
	b.ReportMetric(float64(len(v.LocalState(false))), "bytes")
	for range b.N {
		v.merge(v.LocalState(false))
	}
}
