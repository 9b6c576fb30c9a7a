package gobgp

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-lb/berth/pkg/bgp"
)

// Capabilities that matter here, by IANA's numbers.
const (
	capMultiprotocol   = 1  // RFC 4760
	capRouteRefresh    = 2  // RFC 2918
	capExtendedNextHop = 5  // RFC 8950
	capExtendedMessage = 6  // RFC 8654
	capGracefulRestart = 64 // RFC 4724, RFC 8538
	capFourOctetAS     = 65 // RFC 6793
	capLongLived       = 71 // RFC 9494
	capFQDN            = 73 // draft-walton-bgp-hostname-capability
	capSoftwareVersion = 75 // draft-abraitis-bgp-version-capability
)

// capabilityNames are those of IANA's registry, also of capabilities that a
// router may name.
var capabilityNames = map[byte]string{
	capMultiprotocol:   "Multiprotocol",
	capRouteRefresh:    "Route Refresh",
	3:                  "Outbound Route Filtering",
	capExtendedNextHop: "Extended Next Hop Encoding",
	capExtendedMessage: "Extended Message",
	9:                  "BGP Role",
	capGracefulRestart: "Graceful Restart",
	capFourOctetAS:     "Four-octet AS Number",
	67:                 "Dynamic Capability",
	69:                 "ADD-PATH",
	70:                 "Enhanced Route Refresh",
	capLongLived:       "Long-Lived Graceful Restart",
	capFQDN:            "FQDN",
	74:                 "BFD Strict-Mode",
	capSoftwareVersion: "Software Version",
}

// capability is one of an OPEN message, or of a NOTIFICATION about one.
type capability struct {
	code  byte
	value []byte // of a message, or new
}

// family returns the family of a multiprotocol capability (RFC 4760, 8), 0 for one that
// Berth does not know, and for other capabilities.
func (c capability) family() bgp.Families {
	if c.code == capMultiprotocol && len(c.value) == 4 {
		return family(c.value)
	}
	return 0
}

func (c capability) String() string {
	name := capabilityNames[c.code]
	switch {
	case c.family() != 0:
		return fmt.Sprintf("%s %s unicast", name, c.family())
	case c.code == capMultiprotocol && len(c.value) == 4:
		return fmt.Sprintf("%s AFI %d SAFI %d", name, binary.BigEndian.Uint16(c.value), c.value[3])
	case name == "":
		return fmt.Sprintf("capability %d", c.code)
	}
	return name
}

// multiprotocol returns the multiprotocol capability for one family.
func multiprotocol(f bgp.Families) capability {
	afi := byte(1)
	if f == bgp.IPv6 {
		afi = 2
	}
	return capability{capMultiprotocol, []byte{0, afi, 0, 1}}
}

// softwareVersion returns the software version capability with a text, of which it takes
// the first 64 octets.
func softwareVersion(text string) capability {
	text = text[:min(len(text), 64)]
	return capability{capSoftwareVersion, append([]byte{byte(len(text))}, text...)}
}

// readCapabilities reads one capability after the other, and reports whether it could read
// all (RFC 5492, 4).
func readCapabilities(b []byte) (list []capability, ok bool) {
	for len(b) > 0 {
		var c capability
		if c.code, c.value, b, ok = cut(b, false); !ok {
			return list, false
		}
		list = append(list, c)
	}
	return list, true
}

// appendCapabilities writes capabilities behind b.
func appendCapabilities(b []byte, list ...capability) []byte {
	for _, c := range list {
		b = append(append(b, c.code, byte(len(c.value))), c.value...)
	}
	return b
}

// withCapabilities returns a copy of an OPEN message with other capabilities, and without
// other parameters. It has the ordinary form, which every router reads; RFC 9072 defines
// the extended one.
func withCapabilities(message []byte, list []capability) ([]byte, error) {
	out := append([]byte{}, message[:openLength]...)
	body := out[headerLength:]
	if capabilities := appendCapabilities(nil, list...); len(capabilities) > 0 {
		if len(capabilities) > 253 {
			return nil, fmt.Errorf("%d octets of capabilities do not fit into an OPEN", len(capabilities))
		}
		body[9] = byte(len(capabilities) + 2)
		out = append(append(out, 2, byte(len(capabilities))), capabilities...)
	} else {
		body[9] = 0
	}
	binary.BigEndian.PutUint16(out[16:], uint16(len(out)))
	return out, nil
}

// understood returns the capabilities of a router that gobgp is to see: those that it acts
// on, only as far as it does, each once. Of several alike the last counts (RFC 4724, 3).
// So gobgp's parser meets nothing of a router's OPEN but what was understood here, and it
// always fits.
func understood(list []capability) []capability {
	var out []capability
	put := func(c capability) {
		out = slices.DeleteFunc(out, func(o capability) bool {
			return o.code == c.code && o.family() == c.family()
		})
		out = append(out, c)
	}
	for _, c := range list {
		v := c.value
		switch {
		case c.code == capMultiprotocol:
			if c.family() != 0 {
				put(c)
			}
		case c.code == capRouteRefresh && len(v) == 0, c.code == capExtendedMessage && len(v) == 0,
			c.code == capFourOctetAS && len(v) == 4:
			put(c)
		case c.code == capExtendedNextHop:
			// IPv4 (1), unicast (1, in two octets), over IPv6 (2).
			for ; len(v) >= 6; v = v[6:] {
				if [6]byte(v) == [6]byte{0, 1, 0, 1, 0, 2} {
					put(capability{c.code, v[:6]})
				}
			}
		case c.code == capGracefulRestart && len(v) >= 2:
			put(capability{c.code, append(slices.Clone(v[:2]), supportedFamilies(v[2:], 4)...)})
		case c.code == capLongLived:
			put(capability{c.code, supportedFamilies(v, 7)})
		}
	}
	return out
}

// supportedFamilies returns those of several values of equal size, each of which begins
// with AFI and SAFI, that are of families that Berth knows, each family once.
func supportedFamilies(v []byte, size int) []byte {
	var out []byte
	var seen bgp.Families
	for ; len(v) >= size; v = v[size:] {
		f := family([]byte{v[0], v[1], 0, v[2]})
		if f == 0 || seen.Has(f) {
			continue
		}
		seen |= f
		out = append(out, v[:size]...)
	}
	return out
}

// omission is what an OPEN leaves out because the router has refused it. The zero
// omission leaves out nothing.
type omission struct {
	// all: there are no parameters at all.
	all      bool
	codes    [256]bool
	families bgp.Families
}

// has reports whether a capability is left out.
func (o *omission) has(c capability) bool {
	return o.all || o.codes[c.code] || c.family() != 0 && o.families.Has(c.family())
}

// multiprotocol reports whether any multiprotocol capability is left of those for a peer's
// families.
func (o *omission) multiprotocol(families bgp.Families) bool {
	return !o.all && families&^o.families != 0
}

// from returns what is left of some capabilities.
func (o *omission) from(list []capability) []capability {
	return slices.DeleteFunc(slices.Clone(list), o.has)
}

// refused records that the router has answered an OPEN that offered some capabilities
// with a NOTIFICATION, and reports whether it is worth trying with what is left (RFC 5492,
// 3 and 5). families are those that the peer is to carry.
//
// A router that refuses parameters gets none. One that names capabilities that it
// was offered gets an OPEN without them; where it names others, it wants them, and
// nothing that is left out helps. One that names none gets only what the peer
// asks for.
func (o *omission) refused(notification []byte, offered []capability, families bgp.Families) bool {
	if !refusal(notification) {
		return false
	}
	next, sent := *o, o.from(offered)
	switch notification[1] {
	case openParameter:
		next.all = true
	case openCapability:
		named, _ := readCapabilities(notification[2:])
		for _, c := range sent {
			if next.names(c, named) {
				next.omit(c)
			}
		}
	default:
		return false
	}
	if len(next.from(offered)) == len(sent) || next.carried(families) == 0 {
		return false
	}
	*o = next
	return true
}

// names reports whether a router refuses a capability, by those that it names.
func (o *omission) names(c capability, named []capability) bool {
	if len(named) == 0 {
		needed := []byte{capMultiprotocol, capFourOctetAS, capGracefulRestart, capLongLived}
		return !slices.Contains(needed, c.code)
	}
	return slices.ContainsFunc(named, func(n capability) bool {
		if n.code != c.code {
			return false
		}
		// A router that names no family means none of them.
		return n.code != capMultiprotocol || n.family() == c.family() || len(n.value) == 0
	})
}

// omit leaves a capability out.
func (o *omission) omit(c capability) {
	switch {
	case c.family() != 0:
		o.families |= c.family()
	case c.code == capGracefulRestart:
		o.codes[capLongLived] = true // which needs it (RFC 9494, 4.1)
		fallthrough
	default:
		o.codes[c.code] = true
	}
}

// carried returns those of a peer's families that a session without what is left out can
// carry. Without any multiprotocol capability that is IPv4 (RFC 4271).
func (o *omission) carried(families bgp.Families) bgp.Families {
	if o.multiprotocol(families) {
		return families &^ o.families
	}
	return families & bgp.IPv4
}

// inWords returns the names of what is left out of some capabilities, "" for nothing.
func (o *omission) inWords(list []capability) string {
	var out []string
	for _, c := range list {
		if o.has(c) {
			out = append(out, c.String())
		}
	}
	return strings.Join(out, ", ")
}
