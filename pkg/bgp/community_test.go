package bgp

import (
	"math"
	"strings"
	"testing"
)

func TestParseCommunity(t *testing.T) {
	for _, test := range []struct {
		text string
		want Community
		err  string
	}{
		{"65000:100", Community{Kind: Standard, A: 65000<<16 | 100}, ""},
		{"0:0", Community{Kind: Standard}, ""},
		{"65535:65535", Community{Kind: Standard, A: math.MaxUint32}, ""},
		{"no-export", Community{Kind: Standard, A: 0xffffff01}, ""},
		{"blackhole", Community{Kind: Standard, A: 65535<<16 | 666}, ""},
		{"large:4294967295:0:7", Community{Kind: Large, A: math.MaxUint32, C: 7}, ""},
		{"rt:65000:70000", Community{Kind: Extended, A: 0x0002fde8, B: 70000}, ""},
		{"rt:4200000001:100", Community{Kind: Extended, A: 0x0202fa56, B: 0xea010064}, ""},
		{"soo:192.0.2.1:9", Community{Kind: Extended, A: 0x0103c000, B: 0x02010009}, ""},

		{"", Community{}, "no community"},
		{"65000", Community{}, "1 numbers instead of 2"},
		{"65536:1", Community{}, "\"65536\" is not a number from 0 to 65535"},
		{"1:65536", Community{}, "from 0 to 65535"},
		{"+1:1", Community{}, "not a number"},
		{"1:-1", Community{}, "not a number"},
		{"1:2:3", Community{}, "3 numbers"},
		{"large:1:2", Community{}, "2 numbers instead of 3"},
		{"large:1:2:4294967296", Community{}, "from 0 to 4294967295"},
		{"rt:65000", Community{}, "no extended community"},
		{"rt:4200000001:65536", Community{}, "from 0 to 65535"},
		{"rt:192.0.2.1:65536", Community{}, "from 0 to 65535"},
		{"rt:2001:db8::1:1", Community{}, "no extended community"},
		{"soo:x:1", Community{}, "no extended community"},
		{"vpn-only", Community{}, "no community such as"},
	} {
		got, err := ParseCommunity(test.text)
		switch {
		case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
			t.Errorf("ParseCommunity(%q) = %v, %v; want an error with %q", test.text, got, err, test.err)
		case test.err == "" && (err != nil || got != test.want):
			t.Errorf("ParseCommunity(%q) = %+v, %v; want %+v", test.text, got, err, test.want)
		}
	}
}

func FuzzParseCommunity(f *testing.F) {
	for _, seed := range []string{"65000:100", "large:1:2:3", "rt:65000:1", "rt:4200000001:1",
		"soo:192.0.2.1:1", "no-peer", "rt::", "::", "large:", "01:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCommunity(text)
		if err != nil {
			return
		}
		if again, err := ParseCommunity(c.String()); err != nil || again != c {
			t.Fatalf("ParseCommunity(%q) = %+v, written as %q, read as %+v, %v", text, c, c, again, err)
		}
	})
}

func TestLinkBandwidth(t *testing.T) {
	for _, test := range []struct {
		story string
		as    uint32
		bps   float32
		want  string
	}{
		{"an AS number of two octets", 65001, 125e6, "0x4004fde94cee6b28"},
		{"one of four is written as AS_TRANS", 4200000001, 1, "0x40045ba03f800000"},
	} {
		if got := LinkBandwidth(test.as, test.bps).String(); got != test.want {
			t.Errorf("%s: %s, want %s", test.story, got, test.want)
		}
	}
}
