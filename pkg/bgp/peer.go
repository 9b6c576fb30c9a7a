// Package bgp has peers and routes as values, and what follows from them: which routes
// this node announces to which peer ([Plan]), and what leads from one such state to the
// next ([Diff]). It is pure. Package gobgp does it.
package bgp

import (
	"hash/fnv"
	"net/netip"
	"time"
	"unique"
)

// Limits of BGP's timers, all in whole seconds (RFC 4271, 4.2 and 10).
const (
	// MinHoldTime is the shortest hold time other than 0.
	MinHoldTime = 3 * time.Second
	// MaxTime is the longest hold and connect time.
	MaxTime = 65535 * time.Second
	// MaxRestartTime is the longest restart time (RFC 4724, 3).
	MaxRestartTime = 4095 * time.Second
	// MaxLongLived is the longest long-lived stale time (RFC 9494, 3.1).
	MaxLongLived = (1<<24 - 1) * time.Second
)

// Peer is a router as one node talks to it. It is comparable.
type Peer struct {
	Name string // unique among the peers of a node

	// LocalASN is the AS number of this side. PeerASN is the one that the router must have,
	// 0 for any but LocalASN.
	LocalASN, PeerASN uint32
	// RouterID is the BGP identifier of this side, an IPv4 address.
	RouterID netip.Addr

	// Address is the router's, without a zone. It is the zero Addr when the router is the
	// one at the other end of Interface.
	Address   netip.Addr
	Interface string
	Port      uint16
	// Source is the address to connect from; the zero Addr leaves it to the
	// routing table. VRF is the device to use, "" for none.
	Source netip.Addr
	VRF    string
	// Multihop lets an external router be several hops away. TTLSecurity takes
	// packets only from at most so many hops away (RFC 5082); 0 is off.
	Multihop    bool
	TTLSecurity uint8
	// Strict has the session announce only while BFD is up with the router.
	Strict bool
	// Passive waits for the router to connect.
	Passive  bool
	Password Password

	// Hold is the hold time to propose, 0 for none (RFC 4271, 4.2). Keepalive is the
	// longest time between two KEEPALIVEs of this side, Connect the pause after a failed
	// attempt.
	Hold, Keepalive, Connect time.Duration

	Families Families
	// Offer is which of the capabilities that a session can do without are offered.
	Offer Offer
	// NextHop4 and NextHop6 are next hops for routes of the family that is not
	// the session's, where the link of the session's own address has none of
	// that family. The zero Addr is none.
	NextHop4, NextHop6 netip.Addr

	// GracefulRestart is how long the router retains routes while the speaker restarts
	// (RFC 4724), 0 for not at all; LongLived how much longer as a last resort (RFC 9494).
	GracefulRestart, LongLived time.Duration
	// GracefulShutdown is how long routes carry GRACEFUL_SHUTDOWN before they are withdrawn
	// (RFC 8326).
	GracefulShutdown time.Duration
}

// Offer is which capabilities a router is offered, of those that a session can do
// without and that not everybody wants.
type Offer struct {
	// ExtendedMessage allows messages of up to 65535 octets (RFC 8654). FQDN names the
	// host, SoftwareVersion the program and its version.
	ExtendedMessage, FQDN, SoftwareVersion bool
}

// Internal reports whether the session is one within an AS (iBGP).
func (p Peer) Internal() bool { return p.PeerASN == p.LocalASN }

// Families is a set of address families.
type Families uint8

// The families, and both.
const (
	IPv4 Families = 1 << iota
	IPv6
	DualStack = IPv4 | IPv6
)

// FamilyOf returns the family of an address.
func FamilyOf(addr netip.Addr) Families {
	if addr.Is4() {
		return IPv4
	}
	return IPv6
}

// Has reports whether all of other are in the set.
func (f Families) Has(other Families) bool { return f&other == other }

// List returns the single families of the set, IPv4 first.
func (f Families) List() []Families {
	var out []Families
	for _, one := range []Families{IPv4, IPv6} {
		if f.Has(one) {
			out = append(out, one)
		}
	}
	return out
}

func (f Families) String() string {
	switch f {
	case 0:
		return "none"
	case IPv4:
		return "IPv4"
	case IPv6:
		return "IPv6"
	}
	return "IPv4 and IPv6"
}

// Password is a session's password. It is comparable and shows itself to
// nobody who does not ask: no format verb, encoder or log handler prints it,
// also not in the middle of another value. The zero Password is none.
type Password struct {
	text unique.Handle[string]
	set  bool
}

// NewPassword returns a password; "" is none.
func NewPassword(text string) Password {
	if text == "" {
		return Password{}
	}
	return Password{unique.Make(text), true}
}

// Set reports whether there is a password.
func (p Password) Set() bool { return p.set }

// Reveal returns the password itself, "" for none.
func (p Password) Reveal() string {
	if !p.set {
		return ""
	}
	return p.text.Value()
}

func (p Password) String() string {
	if p.set {
		return "(hidden)"
	}
	return ""
}

// GoString is String.
func (p Password) GoString() string { return p.String() }

// MarshalText is String.
func (p Password) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// RouterIDFrom returns a BGP identifier that is derived from a name: never 0.0.0.0, and as
// unlikely to be another's as 32 bits allow (RFC 6286 requires no more than that it is not
// 0 and unique in the AS).
func RouterIDFrom(name string) netip.Addr {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	v := h.Sum32()
	if v == 0 {
		v = 1
	}
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}
