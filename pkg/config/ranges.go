package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"go4.org/netipx"
)

// errLinkLocal4 is wrapped by the error for IPv4 link-local addresses.
var errLinkLocal4 = errors.New("link-local: no router passes it on (RFC 3927)")

// unusable are addresses that no Service can have.
var unusable = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "\"this network\" (RFC 1122)"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("255.255.255.255/32"), "the limited broadcast address"},
	{netip.MustParsePrefix("::/127"), "the unspecified and the loopback address"},
	{netip.MustParsePrefix("::ffff:0:0/96"), "IPv4-mapped: write it as IPv4"},
	{netip.MustParsePrefix("fe80::/10"), "link-local: a client could not tell on which link to look"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
}

var linkLocal4 = netip.MustParsePrefix("169.254.0.0/16")

// ParseRange reads a CIDR (192.0.2.0/24) or an inclusive range of one family
// (192.0.2.10-192.0.2.20; blanks around the dash do not matter). The error
// says what is wrong with the text and how to write it.
func ParseRange(text string) (netipx.IPRange, error) {
	r, err := parseRange(text)
	if err != nil {
		return netipx.IPRange{}, err
	}
	for _, u := range unusable {
		if r.Overlaps(netipx.RangeOfPrefix(u.prefix)) {
			return netipx.IPRange{}, fmt.Errorf("%q touches %s, which is %s", text, u.prefix, u.what)
		}
	}
	if r.Overlaps(netipx.RangeOfPrefix(linkLocal4)) {
		return netipx.IPRange{}, fmt.Errorf("%q touches %s, which is %w", text, linkLocal4, errLinkLocal4)
	}
	return r, nil
}

// ParseExcluded reads an address, a CIDR or an inclusive range that a pool
// excludes. The error says what is wrong with the text and how to write it.
func ParseExcluded(text string) (netipx.IPRange, error) {
	r, err := parseRange(text)
	if addr, isAddr := netip.ParseAddr(strings.TrimSpace(text)); isAddr == nil && addr.Zone() == "" {
		r, err = netipx.IPRangeFrom(addr, addr), nil
	}
	if err == nil && (r.From().Is4In6() || r.To().Is4In6()) {
		return netipx.IPRange{}, fmt.Errorf("%q is IPv4-mapped: write it as IPv4", text)
	}
	return r, err
}

// RangeText writes a range as ParseExcluded reads it: an address, a CIDR, or
// FROM-TO.
func RangeText(r netipx.IPRange) string {
	if r.From() == r.To() {
		return r.From().String()
	}
	if prefix, ok := r.Prefix(); ok {
		return prefix.String()
	}
	return r.String()
}

func parseRange(text string) (netipx.IPRange, error) {
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		return parseCIDR(strings.TrimSpace(text))
	}
	first, err := parseAddr(from)
	if err != nil {
		return netipx.IPRange{}, err
	}
	last, err := parseAddr(to)
	if err != nil {
		return netipx.IPRange{}, err
	}
	switch {
	case first.Is4() != last.Is4():
		return netipx.IPRange{}, fmt.Errorf("%q mixes IPv4 and IPv6: write one range for each family", text)
	case last.Less(first):
		return netipx.IPRange{}, fmt.Errorf(
			"%q is inverted: its first address must not be greater than its last", text)
	}
	return netipx.IPRangeFrom(first, last), nil
}

func parseAddr(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(strings.TrimSpace(text))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%q is no address: write a range as 192.0.2.10-192.0.2.20", text)
	}
	if addr.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q has a zone: a pool belongs to no interface", text)
	}
	return addr, nil
}

func parseCIDR(text string) (netipx.IPRange, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netipx.IPRange{}, fmt.Errorf(
			"%q is neither a CIDR such as 192.0.2.0/24 nor a range such as 192.0.2.10-192.0.2.20", text)
	}
	if p != p.Masked() {
		return netipx.IPRange{}, fmt.Errorf(
			"%q has bits set behind its prefix length: write %s for the whole network, "+
				"%s for the one address",
			text, p.Masked(), netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
	}
	return netipx.RangeOfPrefix(p), nil
}
