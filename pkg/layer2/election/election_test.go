package election

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestElect(t *testing.T) {
	vip := netip.MustParseAddr("192.0.2.10")
	tests := []struct {
		story      string
		addr       netip.Addr
		candidates []Candidate
		want       string
		ok         bool
	}{
		{story: "nobody can own it", addr: vip},
		{
			story:      "the only candidate owns it",
			addr:       vip,
			candidates: []Candidate{{Name: "a"}},
			want:       "a",
			ok:         true,
		},
		{
			story:      "a preferred node wins whatever the hash says",
			addr:       vip,
			candidates: []Candidate{{Name: "a"}, {Name: "b", Weight: 1}, {Name: "c"}},
			want:       "b",
			ok:         true,
		},
		{
			story:      "a negative weight is a last resort",
			addr:       vip,
			candidates: []Candidate{{Name: "a", Weight: -1}, {Name: "b", Weight: -2}},
			want:       "a",
			ok:         true,
		},
		// The next rows pin the hash: it is a protocol between versions.
		{story: "pinned", addr: vip, candidates: nodes("node1", "node2", "node3"), want: "node2", ok: true},
		{
			story:      "pinned",
			addr:       netip.MustParseAddr("192.0.2.11"),
			candidates: nodes("node1", "node2", "node3"),
			want:       "node3",
			ok:         true,
		},
		{
			story:      "pinned",
			addr:       netip.MustParseAddr("2001:db8::1"),
			candidates: nodes("node1", "node2", "node3"),
			want:       "node1",
			ok:         true,
		},
		{
			story:      "an IPv4 address in IPv6 clothes is the same address",
			addr:       netip.MustParseAddr("::ffff:192.0.2.10"),
			candidates: nodes("node1", "node2", "node3"),
			want:       "node2",
			ok:         true,
		},
		{
			story:      "a zone does not matter",
			addr:       netip.MustParseAddr("2001:db8::1%eth0"),
			candidates: nodes("node1", "node2", "node3"),
			want:       "node1",
			ok:         true,
		},
	}
	for _, tt := range tests {
		got, ok := Elect(tt.addr, tt.candidates)
		if got != tt.want || ok != tt.ok {
			t.Errorf("%s: Elect(%s) = %q, %t; want %q, %t", tt.story, tt.addr, got, ok, tt.want, tt.ok)
		}
	}
}

func TestScoreIsPinned(t *testing.T) {
	got, want := newScorer(netip.MustParseAddr("192.0.2.10")).score("node1"), uint64(0x28a2b2c70e6df4e5)
	if got != want {
		t.Errorf("score = %#x, want %#x: all speakers of a cluster must agree on it for ever", got, want)
	}
}

func nodes(names ...string) []Candidate {
	out := make([]Candidate, len(names))
	for i, n := range names {
		out[i] = Candidate{Name: n}
	}
	return out
}

// without returns the candidates but the named one.
func without(candidates []Candidate, name string) []Candidate {
	return slices.DeleteFunc(slices.Clone(candidates), func(c Candidate) bool { return c.Name == name })
}

func genAddr() *rapid.Generator[netip.Addr] {
	return rapid.OneOf(
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 4, 4), func(b []byte) netip.Addr {
			return netip.AddrFrom4([4]byte(b))
		}),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 16, 16), func(b []byte) netip.Addr {
			return netip.AddrFrom16([16]byte(b))
		}),
	)
}

func genCandidates() *rapid.Generator[[]Candidate] {
	return rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) Candidate {
		return Candidate{
			Name:   rapid.StringMatching(`[a-z]{1,3}-?[0-9]{0,2}`).Draw(t, "name"),
			Weight: rapid.Int64Range(-1, 1).Draw(t, "weight"),
		}
	}), 1, 12, func(c Candidate) string { return c.Name })
}

func TestElectionProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		addr := genAddr().Draw(t, "addr")
		candidates := genCandidates().Draw(t, "candidates")
		ranked := Rank(addr, candidates)
		owner, ok := Elect(addr, candidates)
		if !ok || owner != ranked[0].Name {
			t.Fatalf("Elect says %q, Rank says %q", owner, ranked[0].Name)
		}
		if got := Rank(addr, rapid.Permutation(candidates).Draw(t, "order")); !slices.Equal(got, ranked) {
			t.Fatalf("the order of candidates matters: %v and %v", ranked, got)
		}
		gone := rapid.SampledFrom(candidates).Draw(t, "gone").Name
		got, want := Rank(addr, without(candidates, gone)), without(ranked, gone)
		if !slices.Equal(got, want) {
			t.Fatalf("without %s the rest is ranked %v, want %v", gone, got, want)
		}
	})
}

func TestElectionIsBalanced(t *testing.T) {
	const addrs, count = 10000, 10
	var candidates []Candidate
	for i := range count {
		candidates = append(candidates, Candidate{Name: fmt.Sprintf("node-%d", i)})
	}
	share := make(map[string]int)
	heirs := make(map[string]int)
	addr := netip.MustParseAddr("10.0.0.0")
	for range addrs {
		ranked := Rank(addr, candidates)
		share[ranked[0].Name]++
		if ranked[0].Name == "node-3" {
			heirs[ranked[1].Name]++
		}
		addr = addr.Next()
	}
	// The share is binomial with mean 1000 and deviation 30; five deviations.
	for name, n := range share {
		if n < 850 || n > 1150 {
			t.Errorf("%s owns %d of %d addresses", name, n, addrs)
		}
	}
	// Of about 1000 addresses, each of nine heirs gets 111 with deviation 10.
	if len(heirs) != count-1 {
		t.Errorf("the addresses of one node go to %d nodes, want %d", len(heirs), count-1)
	}
	for name, n := range heirs {
		if n < 60 || n > 165 {
			t.Errorf("%s inherits %d of the addresses of node-3", name, n)
		}
	}
}

func BenchmarkElect100Nodes(b *testing.B) {
	var candidates []Candidate
	for i := range 100 {
		candidates = append(candidates, Candidate{Name: fmt.Sprintf("worker-%03d.example.org", i)})
	}
	addr := netip.MustParseAddr("192.0.2.10")
	for b.Loop() {
		Elect(addr, candidates)
	}
}

// TestFirstFor: the first of all are those of the whole order.
func TestFirstFor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Draw(t, "name")
		names := rapid.SliceOfNDistinct(rapid.StringN(0, 4, -1), 0, 20, rapid.ID).Draw(t, "names")
		most := rapid.IntRange(0, 5).Draw(t, "most")
		var candidates []Candidate
		for _, n := range names {
			candidates = append(candidates, Candidate{Name: n})
		}
		var want []string
		for _, c := range RankFor(name, candidates)[:min(most, len(names))] {
			want = append(want, c.Name)
		}
		if got := FirstFor(name, names, most); !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}
