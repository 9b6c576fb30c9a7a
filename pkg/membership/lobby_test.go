package membership

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestWhoIsShownOut(t *testing.T) {
	limits := lobbyLimits{known: 4, strange: 2, guests: 3, inside: 3, perSource: 2}
	// Guests are named by their address and a letter, a large one if they name a key;
	// n is an address that is known, s one that is not. A name after ">" is shown out;
	// where any one may be, it is the first here.
	for _, tt := range []struct {
		story string
		steps []string
	}{
		{"there is room", []string{"n1a", "n1b", "n2a", "s1a"}},
		{"one address has enough: one of its own goes", []string{"n1a", "n1b", "n1c", "n1d>n1a", "n1e>n1b"}},
		{"all have enough: one of the address that has most goes",
			[]string{"n1a", "n2a", "n2b", "n3a", "n4a>n2a"}},
		{"strangers crowd out each other only",
			[]string{"n1a", "s1a", "s2a", "s3a>s1a", "s4a>s2a", "n1b", "n2a"}},
		{"and nodes no strangers", []string{"s1a", "n1a", "n2a", "n3a", "n4a", "n5a>n1a"}},
		{"who has named a key stays", []string{"n1A", "n1b", "n1C", "n1d>n1b", "n1e>n1d"}},
		{"unless all have", []string{"n1A", "n1B", "n1C", "n1d>n1A"}},
		{"a key is no help to an address that has most", []string{"n1A", "n1B", "n2a", "n3a", "n4a>n1A"}},
	} {
		t.Run(tt.story, func(t *testing.T) {
			l := newLobby(limits)
			l.pick = func(int) int { return 0 }
			guests := map[*guest]string{}
			for _, step := range tt.steps {
				name, want, _ := strings.Cut(step, ">")
				g := guestOf(name)
				guests[g] = name
				if got := guests[l.enter(g)]; got != want {
					t.Errorf("%s comes and %q goes, want %q", name, got, want)
				}
			}
		})
	}
}

func guestOf(name string) *guest {
	g := &guest{known: name[0] == 'n', source: netip.AddrFrom4([4]byte{192, 0, 2, name[1] - '0'})}
	if !g.known {
		g.source = netip.AddrFrom4([4]byte{198, 51, 100, name[1] - '0'})
	}
	g.greeted = len(name) > 2 && name[2] <= 'Z'
	return g
}

func TestOnlySoManyGoIn(t *testing.T) {
	l := newLobby(lobbyLimits{known: 9, strange: 9, guests: 9, inside: 3, perSource: 2})
	in := func(name string, want bool) {
		t.Helper()
		g := guestOf(name)
		l.enter(g)
		if got := l.goIn(g); got != want {
			t.Errorf("%s goes in: %t", name, got)
		}
	}
	in("n1", true)
	in("n1", true)
	in("n1", false)
	in("n2", true)
	in("n3", false)
	l.goOut(guestOf("n1").source)
	in("n3", true)
	g := guestOf("n4")
	l.enter(g)
	l.leave(g)
	if l.goIn(g) {
		t.Error("one that was shown out goes in")
	}
}

// TestLobbyIsBounded has guests come and go at random.
func TestLobbyIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := lobbyLimits{known: 5, strange: 3, guests: 3, inside: 6, perSource: 2}
		l := newLobby(limits)
		var inside []netip.Addr
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			kind := rapid.SampledFrom([]string{"n", "s"}).Draw(t, "kind")
			g := guestOf(fmt.Sprint(kind, rapid.IntRange(1, 4).Draw(t, "address")))
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0, 1:
				if out := l.enter(g); out != nil && out.known != g.known {
					t.Fatalf("step %d: one of the other kind is shown out", i)
				}
				if !slices.Contains(l.guests, g) {
					t.Fatalf("step %d: a newcomer does not get in", i)
				}
			case 2:
				if len(l.guests) > 0 {
					if first := l.guests[0]; l.goIn(first) {
						inside = append(inside, first.source)
					}
				}
			case 3:
				if len(inside) > 0 {
					l.goOut(inside[0])
					inside = inside[1:]
				}
			}
			known, strange, sources := 0, 0, map[netip.Addr]int{}
			for _, g := range l.guests {
				if g.known {
					known++
				} else {
					strange++
				}
				sources[g.source]++
			}
			for source, n := range sources {
				if n > limits.guests {
					t.Fatalf("%d of %s", n, source)
				}
			}
			for source, n := range l.inside {
				if n > limits.perSource || n < 1 {
					t.Fatalf("%d of %s inside", n, source)
				}
			}
			if known > limits.known || strange > limits.strange || l.total > limits.inside ||
				l.total != len(inside) {
				t.Fatalf("%d known, %d strangers, %d inside", known, strange, l.total)
			}
		}
	})
}
