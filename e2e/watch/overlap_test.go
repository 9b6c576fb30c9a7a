package watch

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// claims reads "A0 A50 B100": place and milliseconds, all of one address.
func claims(t *testing.T, text string) []Claim {
	t.Helper()
	var out []Claim
	for _, word := range strings.Fields(text) {
		ms, err := time.ParseDuration(word[1:] + "ms")
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, Claim{
			At:   time.Unix(0, 0).Add(ms),
			Addr: netip.MustParseAddr("10.77.0.1"),
			MAC:  MAC{5: word[0]},
		})
	}
	return out
}

func TestOverlaps(t *testing.T) {
	for _, test := range []struct{ story, claims, want string }{
		{"nobody", "", ""},
		{"one node all the time", "A0 A50 A100 A150", ""},
		{"one dies, another takes over", "A0 A50 B800 B850", ""},
		{"a hand-over with an answer of both", "A0 A50 B60 A100 B110 B160", "A-B 60..100"},
		{"the old owner never knew better", "A0 A50 B60 A100 B110 A150 B160 A200 A250", "A-B 60..200"},
		{"a single wrong answer is believed until the next right one", "A0 A50 B60 A100 A150", "A-B 60..100"},
		{"after a silence longer than quiet nobody contradicts", "A0 B60 A300", ""},
		{"away and back: no overlap, however often", "A0 A50 B800 B850 A2000 A2050 B4000", ""},
		{"back too early", "A0 A50 B800 B850 A870 B900 A920 B950 A970 A1020", "B-A 870..950"},
		{"a third at the same time", "A0 B10 C20 A50 B60 C70 A100", "A-B 10..100 A-C 20..100 B-C 20..60"},
		{"a frozen node wakes up and answers what it had in its queue",
			"A0 A50 B800 B850 A900 A900 A900 B950 B1000", "B-A 900..950"},
		{"a pause shorter than quiet is none", "A0 A200 B100 B300", "A-B 100..200"},
	} {
		t.Run(test.story, func(t *testing.T) {
			var got []string
			for _, o := range Overlaps(claims(t, test.claims), 200*time.Millisecond) {
				got = append(got, fmt.Sprintf("%c-%c %d..%d",
					o.First[5], o.Second[5], o.From.UnixMilli(), o.To.UnixMilli()))
			}
			if got := strings.Join(got, " "); got != test.want {
				t.Errorf("%s: got %q, want %q", test.claims, got, test.want)
			}
		})
	}
}

func TestOverlapsKeepsAddressesApart(t *testing.T) {
	all := claims(t, "A0 B10 A20 B30")
	for i := range all {
		all[i].Addr = netip.AddrFrom4([4]byte{10, 0, 0, all[i].MAC[5]})
	}
	if got := Overlaps(all, time.Second); len(got) > 0 {
		t.Errorf("%v", got)
	}
}

func TestChangesAndOwners(t *testing.T) {
	all := claims(t, "A0 A50 B60 A40 B100 C110") // 40 came late
	var got []string
	for _, c := range Changes(all) {
		got = append(got, fmt.Sprintf("%c-%c@%d", c.From[5], c.To[5], c.At.UnixMilli()))
	}
	if got := strings.Join(got, " "); got != "A-B@60 B-C@110" {
		t.Errorf("changes %s", got)
	}
	addr := all[0].Addr
	if got := Owners(all, time.Unix(0, 0)); got[addr] != (MAC{5: 'C'}) {
		t.Errorf("owner %v", got)
	}
	if got := Owners(all, all[len(all)-1].At); len(got) > 0 {
		t.Errorf("nothing came later, got %v", got)
	}
}

func TestAstray(t *testing.T) {
	one := netip.MustParseAddr("10.77.0.1")
	two := netip.MustParseAddr("fd77::2")
	three := netip.MustParseAddr("10.77.0.3")
	owners := map[netip.Addr]MAC{one: {5: 'A'}, two: {5: 'B'}, three: {5: 'C'}}
	cache := map[netip.Addr]MAC{one: {5: 'A'}, two: {5: 'A'}}
	if got := Astray(cache, owners); got != 1 {
		t.Errorf("%d astray, want that of fd77::2 only", got)
	}
}
