package neighbor

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
)

// Op is what a packet does.
type Op uint8

// The operations.
const (
	// Other is an ARP operation that is neither of the next two. The sender's fields
	// have their meaning in each (RFC 826, "Packet Reception").
	Other Op = iota
	// Request is an ARP request or a Neighbor Solicitation.
	Request
	// Reply is an ARP reply or a Neighbor Advertisement.
	Reply
)

// Packet is what a valid ARP packet, Neighbor Solicitation or Neighbor Advertisement
// says. It shares memory with the frame that it was parsed from.
type Packet struct {
	Op Op
	// Sender is the host that the packet is from and, for an advertisement, the host
	// that it tells of: whoever has an entry for Sender.IP finds it at Sender.MAC from
	// now on. The address is unspecified when the sender has none yet, see IsProbe.
	//
	// For ARP these are the sender's fields. A solicitation has its source address and
	// its source link-layer address option, an advertisement its target and its target
	// link-layer address option; without the option, MAC is the Ethernet source.
	Sender Binding
	// Target is the address that is asked for; in an advertisement, Sender.IP.
	Target netip.Addr
	// ToUs is true when the frame was sent to this link alone and to no group.
	ToUs bool
	// Nonce is that of a solicitation (RFC 7527), nil without one.
	Nonce *ndp.Nonce
}

// IsProbe reports whether the sender asks because it would like to have the target
// itself: an ARP Probe (RFC 5227 1.1), or the solicitation of duplicate address
// detection (RFC 4862 5.4.2).
func (p Packet) IsProbe() bool { return p.Op == Request && p.Sender.IP.IsUnspecified() }

// The reasons for which Parse rejects a frame. It wraps them.
var (
	// ErrMalformed: the frame is too short, or has lengths, addresses, a checksum or a
	// hop limit that it cannot have.
	ErrMalformed = errors.New("malformed")
	// ErrOwn: this link sent the frame, and a loop in the network, the switch or
	// another host gave it back.
	ErrOwn = errors.New("sent by this link")
	// ErrNotForUs: the frame is for another host, or for another VLAN.
	ErrNotForUs = errors.New("for another host")
	// ErrOtherProtocol: the frame is neither ARP nor a solicitation nor an
	// advertisement.
	ErrOtherProtocol = errors.New("another protocol")
)

// Parse reads a frame that the link with the Ethernet address own has received. It
// neither keeps nor changes the frame. What it accepts:
//
//   - Ethernet: without VLAN tag, from a single host, to this link or to a group.
//   - ARP: for Ethernet and IPv4 (RFC 826). The sender is a single host, and its
//     address is unspecified (RFC 5227 2.1.1) or one that a host can have: no
//     multicast, no broadcast, no loopback address (RFC 1122 3.2.1.3). Target may be
//     anything, for it is only ever compared.
//   - Neighbor Discovery: what passes the validation of RFC 4861 7.1.1 and 7.1.2. Its
//     source, unless it is unspecified, and its target are addresses that a host can
//     have: no group (RFC 4291 2.7), no loopback address (2.5.3), not IPv4-mapped
//     (2.5.5.2); and the target is not unspecified. A solicitation is for the
//     solicited-node group of its target or for the target itself.
//   - Extension headers before Neighbor Discovery: lists of options that a host may
//     skip which does not know them. Fragments are refused (RFC 6980 5).
//
// So a packet counts for Berth when it counts for a host that follows the RFCs, whether
// it is asked of an announced address or tells who has one.
func Parse(b []byte, own net.HardwareAddr) (Packet, error) {
	frame := new(ethernet.Frame)
	if err := frame.UnmarshalBinary(b); err != nil {
		return Packet{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	toUs := bytes.Equal(frame.Destination, own)
	switch {
	case frame.VLAN != nil || frame.ServiceVLAN != nil:
		return Packet{}, ErrNotForUs
	case !IsStation(frame.Source):
		return Packet{}, ErrMalformed
	case bytes.Equal(frame.Source, own):
		return Packet{}, ErrOwn
	case !toUs && !isGroup(frame.Destination):
		return Packet{}, ErrNotForUs
	}

	var p Packet
	var err error
	switch frame.EtherType {
	case ethernet.EtherTypeARP:
		p, err = parseARP(frame.Payload)
	case ethernet.EtherTypeIPv6:
		p, err = parseNDP(frame)
	default:
		return Packet{}, ErrOtherProtocol
	}
	if err != nil {
		return Packet{}, err
	}
	if bytes.Equal(p.Sender.MAC, own) {
		return Packet{}, ErrOwn // come back in another's frame
	}
	p.ToUs = toUs
	return p, nil
}

// CanOwn reports whether a host can have a valid address as its own on a link: it is
// neither a group, nor the broadcast address, nor unspecified, nor loopback, nor
// IPv4-mapped.
func CanOwn(addr netip.Addr) bool {
	return !addr.IsMulticast() && !addr.IsUnspecified() && !addr.IsLoopback() && !addr.Is4In6() &&
		addr != broadcast4
}

// broadcast4 is every IPv4 host on a link.
var broadcast4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})
