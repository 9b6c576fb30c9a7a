package config

import (
	"strings"
	"testing"

	"go4.org/netipx"
)

func TestParseRange(t *testing.T) {
	for _, test := range []struct{ text, want, err string }{
		{"192.0.2.0/24", "192.0.2.0-192.0.2.255", ""},
		{"192.0.2.7/32", "192.0.2.7-192.0.2.7", ""},
		{" 192.0.2.1 -  192.0.2.9", "192.0.2.1-192.0.2.9", ""},
		{"192.0.2.9-192.0.2.9", "192.0.2.9-192.0.2.9", ""},
		{"2001:db8::/120", "2001:db8::-2001:db8::ff", ""},
		{"2001:db8::1-2001:db8:1::", "2001:db8::1-2001:db8:1::", ""},
		{"2001:DB8::1-2001:db8::A", "2001:db8::1-2001:db8::a", ""},

		{"", "", "neither a CIDR"},
		{"192.0.2.1", "", "neither a CIDR"},
		{"192.0.2.0/33", "", "neither a CIDR"},
		{"192.0.2.5/24", "", "write 192.0.2.0/24 for the whole network, 192.0.2.5/32 for the one address"},
		{"192.0.2.1-fe80::1", "", "mixes IPv4 and IPv6"},
		{"192.0.2.9-192.0.2.1", "", "inverted"},
		{"2001:db8::10-2001:db8::9", "", "inverted"},
		{"192.0.2.1-", "", "is no address"},
		{"192.0.2.1-2", "", "is no address"},
		{"192.0.2.01-192.0.2.9", "", "is no address"},
		{"1-2-3", "", "is no address"},
		{"2001:db8::1%eth0-2001:db8::2%eth0", "", "has a zone"},
		{"127.0.0.1/32", "", "loopback"},
		{"192.0.2.0-230.0.0.1", "", "multicast"},
		{"0.0.0.0/0", "", "this network"},
		{"fe80::/64", "", "link-local"},
		{"169.254.0.0/16", "", "link-local"},
		{"169.253.255.0-169.254.0.0", "", "link-local"},
		{"169.255.0.0/16", "169.255.0.0-169.255.255.255", ""},
		{"::ffff:192.0.2.0/120", "", "IPv4-mapped"},
	} {
		r, err := ParseRange(test.text)
		switch {
		case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
			t.Errorf("ParseRange(%q) = %v, %v; want an error with %q", test.text, r, err, test.err)
		case test.err == "" && (err != nil || r.String() != test.want):
			t.Errorf("ParseRange(%q) = %v, %v; want %s", test.text, r, err, test.want)
		}
	}
}

func FuzzParseRange(f *testing.F) {
	for _, seed := range []string{
		"192.0.2.0/24",
		"192.0.2.1-192.0.2.9",
		"::/0",
		"::ffff:1.2.3.4-::ffff:1.2.3.5",
		"1.2.3.4-fe80::1",
		"fe80::1%x/64",
		"01.2.3.4/8",
		"0.0.0.0-255.255.255.255",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRange(text)
		if err != nil {
			return
		}
		if !r.IsValid() || r.From().Zone() != "" || r.From().Is4In6() || r.To().Is4In6() ||
			r.From().Is4() != r.To().Is4() {
			t.Fatalf("ParseRange(%q) = %v, which is no usable range", text, r)
		}
		again, err := ParseRange(r.String())
		if err != nil || again != r {
			t.Fatalf("ParseRange(%q) = %v, but that reads as %v, %v", text, r, again, err)
		}
		for _, u := range unusable {
			if r.Overlaps(netipx.RangeOfPrefix(u.prefix)) {
				t.Fatalf("ParseRange(%q) = %v touches %s", text, r, u.prefix)
			}
		}
	})
}

func TestParseExcluded(t *testing.T) {
	for _, test := range []struct{ text, want, err string }{
		{"192.0.2.7", "192.0.2.7-192.0.2.7", ""},
		{" 2001:db8::7 ", "2001:db8::7-2001:db8::7", ""},
		{"192.0.2.0/28", "192.0.2.0-192.0.2.15", ""},
		{"192.0.2.3 - 192.0.2.5", "192.0.2.3-192.0.2.5", ""},
		{"127.0.0.0/8", "127.0.0.0-127.255.255.255", ""}, // what no pool can hold does no harm
		{"0.0.0.0/0", "0.0.0.0-255.255.255.255", ""},
		{"::/0", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""},

		{"", "", "neither a CIDR"},
		{"gateway", "", "neither a CIDR"},
		{"192.0.2.01", "", "neither a CIDR"},
		{"192.0.2.1/24", "", "write 192.0.2.0/24 for the whole network"},
		{"192.0.2.1-2001:db8::1", "", "mixes IPv4 and IPv6"},
		{"192.0.2.9-192.0.2.1", "", "inverted"},
		{"fe80::1%eth0", "", "neither a CIDR"},
		{"fe80::1%eth0-fe80::2", "", "has a zone"},
		{"::ffff:192.0.2.1", "", "IPv4-mapped: write it as IPv4"},
		{"::ffff:192.0.2.0/120", "", "IPv4-mapped"},
		{"::ffff:192.0.2.1-2001:db8::", "", "IPv4-mapped"},
	} {
		r, err := ParseExcluded(test.text)
		switch {
		case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
			t.Errorf("ParseExcluded(%q) = %v, %v; want an error with %q", test.text, r, err, test.err)
		case test.err == "" && (err != nil || r.String() != test.want):
			t.Errorf("ParseExcluded(%q) = %v, %v; want %s", test.text, r, err, test.want)
		}
	}
}

func FuzzParseExcluded(f *testing.F) {
	for _, seed := range []string{
		"192.0.2.1",
		"2001:db8::1",
		"192.0.2.0/24",
		"192.0.2.1-192.0.2.9",
		"::/0",
		"::ffff:1.2.3.4",
		"fe80::1%x",
		"01.2.3.4",
		"1.2.3.4-::1",
		"0.0.0.0-255.255.255.255",
		"::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseExcluded(text)
		if err != nil {
			if inPool, also := ParseRange(text); also == nil {
				t.Fatalf("a pool may contain %q, %v, but not exclude it: %v", text, inPool, err)
			}
			return
		}
		if !r.IsValid() || r.From().Zone() != "" || r.From().Is4In6() || r.To().Is4In6() ||
			r.From().Is4() != r.To().Is4() {
			t.Fatalf("ParseExcluded(%q) = %v, which is no usable range", text, r)
		}
		if again, err := ParseExcluded(r.String()); err != nil || again != r {
			t.Fatalf("ParseExcluded(%q) = %v, but that reads as %v, %v", text, r, again, err)
		}
		if inPool, err := ParseRange(text); err == nil && inPool != r {
			t.Fatalf("%q is %v to a pool that contains it, %v to one that excludes it", text, inPool, r)
		}
	})
}
