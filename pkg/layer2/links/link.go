package links

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
)

// macLen is the length of an Ethernet address in bytes.
const macLen = 6

// Link is one network interface of this node at one moment.
type Link struct {
	// Index is the kernel's interface index. A link that was deleted and made
	// again has the same name and another index.
	Index int
	// Name is the interface name, for example "eth0". It can change.
	Name string
	// HardwareAddr is the Ethernet address of the link; empty where it has none.
	// It can change, for example when a bond fails over.
	HardwareAddr net.HardwareAddr
	// Prefixes are the addresses on the link with their prefix lengths: first
	// those that the node keeps, then secondary, temporary and deprecated ones and
	// those that are not usable yet, each sorted. The host part is kept:
	// 192.0.2.7/24 says both what this node is called on the link and which subnet
	// the link is in. A prefix contains an address whether or not its host part is
	// zero, see [netip.Prefix.Contains].
	Prefixes []netip.Prefix
	// Shadowed are the subnets of this link that another usable link of the node
	// has too, and to which the node's route leads out of that other one, masked
	// and sorted: both links are on one LAN, and the node speaks on the other.
	Shadowed []netip.Prefix
	// Excluded is true when addresses are announced on the link only where an
	// advertisement names it, as the settings of the node's speaker say.
	Excluded bool
	// Up is true when frames can pass: the link is set up by the administrator
	// and its operational state (RFC 2863) is up, or unknown, which is what
	// drivers say that do not track it.
	Up bool
	// Loopback is true for lo.
	Loopback bool
	// NoARP is true for links on which neighbours are not resolved.
	NoARP bool
	// Broadcast is true for links that can send to all neighbours at once.
	Broadcast bool
	// Master is the index of the bridge or bond that the link is a port of, or 0. The
	// frames of a port belong to its master.
	Master int
	// VRF is the index of the VRF that the link is in, or 0. Its frames are its own.
	VRF int
	// Balances is true for a bond in mode balance-alb. It puts the Ethernet addresses
	// of its ports into the ARP replies that it sends, another one for each neighbour.
	Balances bool
}

// Equal reports whether two links are the same in every respect.
func (l Link) Equal(o Link) bool {
	return l.Index == o.Index && l.Name == o.Name && bytes.Equal(l.HardwareAddr, o.HardwareAddr) &&
		l.Up == o.Up && l.Loopback == o.Loopback && l.NoARP == o.NoARP && l.Broadcast == o.Broadcast &&
		l.Master == o.Master && l.VRF == o.VRF && l.Balances == o.Balances && l.Excluded == o.Excluded &&
		slices.Equal(l.Prefixes, o.Prefixes) && slices.Equal(l.Shadowed, o.Shadowed)
}

// Holds reports whether addr is in a subnet of the link. A prefix of a single
// address (/32 or /128) is an address and no subnet: it holds nothing.
func (l Link) Holds(addr netip.Addr) bool {
	return slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool {
		return !p.IsSingleIP() && p.Contains(addr)
	})
}

// Alone reports whether the link has addresses and none of them is in a subnet, so
// that nobody can tell who else is on its LAN. Link-local ones do not count.
func (l Link) Alone() bool {
	alone := false
	for _, p := range l.Prefixes {
		if p.Addr().IsLinkLocalUnicast() {
			continue
		}
		if !p.IsSingleIP() {
			return false
		}
		alone = true
	}
	return alone
}

// Reaches reports whether the node speaks on this link with its neighbour addr:
// addr is in a subnet of the link that is not [Link.Shadowed].
func (l Link) Reaches(addr netip.Addr) bool {
	return slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool {
		return !p.IsSingleIP() && p.Contains(addr) && !slices.Contains(l.Shadowed, p.Masked())
	})
}

// Usable reports whether ARP and Neighbor Discovery can work on the link at all:
// it is an Ethernet link of its own (not loopback, not a port of something else,
// not without ARP, able to broadcast) and up. Nothing makes up for a missing one
// of these, so a link that is named by the user must be usable as well.
func (l Link) Usable() bool {
	return l.Up && !l.Loopback && !l.NoARP && l.Broadcast && l.Master == 0 && len(l.HardwareAddr) == macLen
}

// Clone returns a copy that shares nothing with l.
func (l Link) Clone() Link {
	l.HardwareAddr = slices.Clone(l.HardwareAddr)
	l.Prefixes = slices.Clone(l.Prefixes)
	l.Shadowed = slices.Clone(l.Shadowed)
	return l
}

// Clone returns a copy that shares nothing with links.
func Clone(links []Link) []Link {
	out := make([]Link, len(links))
	for i, l := range links {
		out[i] = l.Clone()
	}
	return out
}
