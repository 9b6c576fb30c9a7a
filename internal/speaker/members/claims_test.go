package members

import (
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/membership"
)

// batch is how many addresses are set before they are published.
const batch = 64

// told is a membership that remembers what is said, and how.
type told struct {
	said    map[string][]byte
	sayings []string // "key=value", "key" when taken back
}

func (s *told) Publish(key string, value []byte) error {
	if value == nil {
		delete(s.said, key)
		s.sayings = append(s.sayings, key)
		return nil
	}
	s.said[key] = value
	s.sayings = append(s.sayings, key+"="+string(value))
	return nil
}

func (s *told) PublishPrefix(prefix string, values map[string][]byte) error {
	maps.DeleteFunc(s.said, func(key string, _ []byte) bool { return strings.HasPrefix(key, prefix) })
	maps.Copy(s.said, values)
	return nil
}

func (s *told) state() presence.NodeState { return decodeState(s.said) }

func newToldClaims(most int) (*Claims, *told) {
	s := &told{said: map[string][]byte{}}
	return NewClaims(s, most, batch, slog.New(slog.DiscardHandler)), s
}

func TestClaimsOfABlockAreOneEntry(t *testing.T) {
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
		{"quiet ones, and ones that linger",
			block{1: {Generation: 5, Quiet: true}, 2: {Generation: 4, Lingers: true, Minority: true}},
			"5q:1,4wl:2"},
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
		worst[at] = announcement.Claim{
			Generation: 1<<63 - 1 - uint64(at),
			Minority:   true,
			Quiet:      true,
			Lingers:    true,
		}
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
		{"a mark that is not known",
			"claims/192.0.2.0", "5z:3", map[string]announcement.Claim{"192.0.2.3": first}, false},
		{"one beside a known one", "claims/192.0.2.0", "5wz:3,5:4",
			map[string]announcement.Claim{
				"192.0.2.3": {Generation: 5, Minority: true},
				"192.0.2.4": first,
			}, false},
		{"the same in another order", "claims/2001:db8::10", "5zw:f",
			map[string]announcement.Claim{"2001:db8::1f": {Generation: 5, Minority: true}}, false},
		{"something else behind the addresses", "claims/192.0.2.0", "5:3;1s",
			map[string]announcement.Claim{"192.0.2.3": first, "192.0.2.1": first}, true},
		{"an item without addresses",
			"claims/192.0.2.0", "5:3,7", map[string]announcement.Claim{"192.0.2.3": first}, true},
		{"generation 0, which is none",
			"claims/192.0.2.0", "0:3,5:4", map[string]announcement.Claim{"192.0.2.4": first}, true},
		{"one below zero", "claims/192.0.2.0", "-1:3", nil, true},
		{"one that is too high", "claims/192.0.2.0", "9223372036854775808:3", nil, true},
		{"nothing", "claims/192.0.2.0", "", nil, true},
		{"a larger block", "claims/192.0.2.0/24", "5:3", nil, true},
		{"a block that begins elsewhere", "claims/192.0.2.1", "5:3", nil, true},
		{"an address with a zone", "claims/fe80::%eth0", "5:3", nil, true},
		{"an IPv4 address as IPv6", "claims/::ffff:192.0.2.0", "5:3", nil, true},
		{"a claim of a name", "claims/web", "5:3", nil, true},
	} {
		w := decodeState(map[string][]byte{test.key: []byte(test.value)})
		got := map[string]announcement.Claim{}
		for addr, claim := range w.Claims {
			got[addr.String()] = claim
		}
		if !maps.Equal(got, test.want) || w.ClaimsUnknown != test.unknown {
			t.Errorf("%s: got %v, unknown %t", test.story, got, w.ClaimsUnknown)
		}
	}
}

// TestOthersReadWhatIsClaimed sets claims at random: what the others read is what
// was set, as soon as it is said.
func TestOthersReadWhatIsClaimed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, s := newToldClaims(MaxBlocks)
		addr := rapid.OneOf(
			rapid.Map(rapid.ByteRange(0, 40), func(n byte) netip.Addr {
				return netip.AddrFrom4([4]byte{192, 0, 2, n})
			}),
			rapid.Map(rapid.ByteRange(0, 40), func(n byte) netip.Addr {
				return netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 15: n})
			}),
		)
		want := map[netip.Addr]announcement.Claim{}
		t.Repeat(map[string]func(*rapid.T){
			"claim": func(t *rapid.T) {
				a := addr.Draw(t, "address")
				claim := announcement.Claim{
					Generation: rapid.Uint64Range(1, 1<<63-1).Draw(t, "generation"),
					Minority:   rapid.Bool().Draw(t, "weak"),
					Quiet:      rapid.Bool().Draw(t, "quiet"),
					Lingers:    rapid.Bool().Draw(t, "lingers"),
				}
				want[a] = claim
				if !c.Set(a, &claim) {
					t.Fatal("no room")
				}
			},
			"take back": func(t *rapid.T) {
				a := addr.Draw(t, "address")
				delete(want, a)
				c.Set(a, nil)
			},
			"say": func(t *rapid.T) {
				if c.Publish() {
					t.Fatal("it is full")
				}
				if w := s.state(); !maps.Equal(w.Claims, want) || w.ClaimsUnknown {
					t.Fatalf("others read %v, want %v", w.Claims, want)
				}
			},
			"say all": func(t *rapid.T) {
				s.said["claims/198.51.100.0"] = []byte("1:0") // from before a restart
				c.PublishAll()
				if w := s.state(); !maps.Equal(w.Claims, want) || w.ClaimsUnknown || w.Full {
					t.Fatalf("others read %v, want %v", w.Claims, want)
				}
			},
		})
	})
}

// TestClaimsOfAPartArePublishedOnce: addresses that follow each other take one statement
// for sixteen, said once for each part of them that is looked at.
func TestClaimsOfAPartArePublishedOnce(t *testing.T) {
	for _, test := range []struct {
		addresses, every int
		want             int
	}{
		{2000, 1, 125},
		{20000, 1, 1250},
		{20000, 3, 4096}, // one of three nodes: a part ends within a block
		{2000, 16, 2000},
	} {
		c, s := newToldClaims(MaxBlocks)
		at := netip.MustParseAddr("10.0.0.0")
		for i := range test.addresses {
			c.Set(at, &announcement.Claim{Generation: 2})
			for range test.every {
				at = at.Next()
			}
			if i%batch == batch-1 {
				c.Publish()
			}
		}
		c.Publish()
		if w := s.state(); len(w.Claims) != test.addresses {
			t.Errorf("%d claims are read", len(w.Claims))
		}
		t.Logf("%d addresses, every %d: %d statements, said %d times",
			test.addresses, test.every, len(s.said), len(s.sayings))
		if len(s.sayings) > test.want+test.want/16 {
			t.Errorf("%d addresses, every %d: said %d times, want %d",
				test.addresses, test.every, len(s.sayings), test.want)
		}
	}
}

// TestNodeIsFullBeforeItCanPublishNoMore: this node is full before it can say no more,
// and is not again before there is much room.
func TestNodeIsFullBeforeItCanPublishNoMore(t *testing.T) {
	const most = 16 * batch
	c, s := newToldClaims(most)
	sparse := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i / 256), byte(i), 1}) }
	for i := range most {
		if !c.Set(sparse(i), &announcement.Claim{Generation: 1}) {
			t.Fatalf("no room for %d", i)
		}
		if turned := c.Publish(); turned != (i == most-batch) || s.state().Full != (i >= most-batch) ||
			c.IsFull() != s.state().Full {
			t.Fatalf("after %d: turned %t, said %t", i+1, turned, s.state().Full)
		}
	}
	if c.Set(sparse(most), &announcement.Claim{Generation: 1}) {
		t.Error("there is room for another block")
	}
	if _, claimed := s.state().Claims[sparse(most)]; claimed || len(s.said) != most+1 {
		t.Errorf("%d statements", len(s.said))
	}
	if !c.Set(sparse(3).Next(), &announcement.Claim{Generation: 1}) {
		t.Error("there is no room in a block that it has")
	}
	c.Set(sparse(3).Next(), nil)
	for i := range most {
		c.Set(sparse(i), nil)
		left := most - 1 - i
		turned := c.Publish()
		if turned != (left == most-batch-most/16) || s.state().Full != (left > most-batch-most/16) {
			t.Fatalf("with %d left: turned %t, said %t", left, turned, s.state().Full)
		}
	}
	if len(s.said) > 0 {
		t.Errorf("it still says %v", s.said)
	}
	// Full when it was stopped, and not any more.
	s.said[keyFull] = []byte("claims")
	c.PublishAll()
	if s.state().Full {
		t.Error("it still says that it is full")
	}
}

// FuzzParseBlock: what is read of a block is written as one that reads the same.
func FuzzParseBlock(f *testing.F) {
	for _, seed := range []string{
		"", "1:0", "1:037a,2w:5", "0:0", "9223372036854775807w:f",
		"1:", ":1", ",", "+1:0", "1_0:0", "1q:0,1q:0",
	} {
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
