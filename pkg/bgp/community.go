package bgp

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// CommunityKind is the path attribute that carries a community.
type CommunityKind uint8

// The kinds.
const (
	Standard CommunityKind = iota // RFC 1997: A is the value
	Extended                      // RFC 4360: A and B are the eight octets
	Large                         // RFC 8092: A, B and C
)

// Community is a BGP community of any kind. It is comparable.
type Community struct {
	Kind    CommunityKind
	A, B, C uint32
}

// GracefulShutdown asks routers to prefer every other path, because this one is about to
// be withdrawn (RFC 8326).
var GracefulShutdown = Community{Kind: Standard, A: 0xffff0000}

// wellKnown are communities with names of their own.
var wellKnown = map[string]uint32{
	"no-export":           0xffffff01, // RFC 1997
	"no-advertise":        0xffffff02,
	"no-export-subconfed": 0xffffff03,
	"no-peer":             0xffffff04, // RFC 3765
	"blackhole":           0xffff029a, // RFC 7999
}

// Types of extended communities (RFC 4360, RFC 5668).
const (
	extTwoOctetAS  = 0x00
	extAddress     = 0x01
	extFourOctetAS = 0x02
	// nonTransitive is the bit that keeps a community within one AS.
	nonTransitive = 0x40

	extRouteTarget   = 0x02
	extRouteOrigin   = 0x03
	extLinkBandwidth = 0x04
)

// asTrans stands for an AS number that does not fit (RFC 6793).
const asTrans = 23456

// ParseCommunity reads a community: 65000:100, large:65000:1:2,
// rt:65000:100 or soo:65000:100 (with an AS number or an IPv4 address), or
// the name of a well-known one. The error says how to write one.
func ParseCommunity(text string) (Community, error) {
	if value, ok := wellKnown[text]; ok {
		return Community{Kind: Standard, A: value}, nil
	}
	kind, rest, _ := strings.Cut(text, ":")
	switch kind {
	case "large":
		n, err := numbers(rest, math.MaxUint32, math.MaxUint32, math.MaxUint32)
		if err != nil {
			return Community{}, fmt.Errorf("%q is no large community such as large:65000:1:2: %w", text, err)
		}
		return Community{Large, n[0], n[1], n[2]}, nil
	case "rt":
		return parseExtended(text, rest, extRouteTarget)
	case "soo":
		return parseExtended(text, rest, extRouteOrigin)
	}
	n, err := numbers(text, math.MaxUint16, math.MaxUint16)
	if err != nil {
		return Community{}, fmt.Errorf(
			"%q is no community such as 65000:100, large:65000:1:2 or rt:65000:100: %w", text, err)
	}
	return Community{Kind: Standard, A: n[0]<<16 | n[1]}, nil
}

// parseExtended reads an extended community of one of the two subtypes (RFC 4360, 4 and 5;
// RFC 5668).
func parseExtended(text, rest string, sub uint32) (Community, error) {
	administrator, assigned, _ := strings.Cut(rest, ":")
	wrong := func(err error) (Community, error) {
		return Community{}, fmt.Errorf(
			"%q is no extended community such as rt:65000:100 or rt:192.0.2.1:100: %w", text, err)
	}
	if addr, err := netip.ParseAddr(administrator); err == nil && addr.Is4() {
		n, err := numbers(assigned, math.MaxUint16)
		if err != nil {
			return wrong(err)
		}
		four := addr.As4()
		return extended(extAddress, sub, binary.BigEndian.Uint32(four[:]), n[0]), nil
	}
	as, err := numbers(administrator, math.MaxUint32)
	if err != nil {
		return wrong(err)
	}
	if as[0] > math.MaxUint16 {
		n, err := numbers(assigned, math.MaxUint16)
		if err != nil {
			return wrong(err)
		}
		return extended(extFourOctetAS, sub, as[0], n[0]), nil
	}
	n, err := numbers(assigned, math.MaxUint32)
	if err != nil {
		return wrong(err)
	}
	return Community{Kind: Extended, A: extTwoOctetAS<<24 | sub<<16 | as[0], B: n[0]}, nil
}

// extended returns one of a four-octet administrator and a two-octet number.
func extended(typ, sub, administrator, number uint32) Community {
	return Community{Kind: Extended, A: typ<<24 | sub<<16 | administrator>>16, B: administrator<<16 | number}
}

// numbers reads decimal numbers joined by colons, one for each limit.
func numbers(text string, limits ...uint64) ([]uint32, error) {
	parts := strings.Split(text, ":")
	if len(parts) != len(limits) {
		return nil, fmt.Errorf("%d numbers instead of %d", len(parts), len(limits))
	}
	var out []uint32
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 32)
		if err != nil || n > limits[i] || part[0] == '+' {
			return nil, fmt.Errorf("%q is not a number from 0 to %d", part, limits[i])
		}
		out = append(out, uint32(n))
	}
	return out, nil
}

// LinkBandwidth returns the link bandwidth community: how much traffic a path can take, in
// bytes a second (RFC 10005). An AS number of more than two octets does not fit into it
// and is written as AS_TRANS (RFC 6793).
func LinkBandwidth(as uint32, bytesPerSecond float32) Community {
	if as > math.MaxUint16 {
		as = asTrans
	}
	return Community{
		Kind: Extended,
		A:    (extTwoOctetAS|nonTransitive)<<24 | extLinkBandwidth<<16 | as,
		B:    math.Float32bits(bytesPerSecond),
	}
}

// String returns the community as ParseCommunity reads it, and an extended one that it
// does not read as 0x and 16 digits.
func (c Community) String() string {
	switch c.Kind {
	case Large:
		return fmt.Sprintf("large:%d:%d:%d", c.A, c.B, c.C)
	case Standard:
		return fmt.Sprintf("%d:%d", c.A>>16, c.A&0xffff)
	}
	name := map[uint32]string{extRouteTarget: "rt", extRouteOrigin: "soo"}[c.A>>16&0xff]
	administrator := c.A<<16 | c.B>>16
	switch typ := c.A >> 24; {
	case name == "":
	case typ == extTwoOctetAS:
		return fmt.Sprintf("%s:%d:%d", name, c.A&0xffff, c.B)
	case typ == extFourOctetAS:
		return fmt.Sprintf("%s:%d:%d", name, administrator, c.B&0xffff)
	case typ == extAddress:
		addr := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, administrator)))
		return fmt.Sprintf("%s:%s:%d", name, addr, c.B&0xffff)
	}
	return fmt.Sprintf("0x%08x%08x", c.A, c.B)
}

// Compare orders communities by kind, then by value.
func (c Community) Compare(d Community) int {
	return cmp.Or(
		cmp.Compare(c.Kind, d.Kind),
		cmp.Compare(c.A, d.A),
		cmp.Compare(c.B, d.B),
		cmp.Compare(c.C, d.C),
	)
}

// Unite returns the sorted union of communities.
func Unite(lists ...[]Community) []Community {
	all := slices.Concat(lists...)
	slices.SortFunc(all, Community.Compare)
	return slices.Compact(all)
}
