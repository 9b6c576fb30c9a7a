package layer2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
)

// The parts of an IPv6 packet (RFC 8200 3) that Neighbor Discovery uses.
const (
	ipv6Len        = 40
	protocolICMPv6 = 58
	// ndpHopLimit proves that a packet was not forwarded (RFC 4861 3.1).
	ndpHopLimit = 255
	// typeSolicitation is the ICMPv6 type of a Neighbor Solicitation.
	typeSolicitation = 135
	// solicitationLen is a Neighbor Solicitation without options (RFC 4861 4.3).
	solicitationLen = 24
)

// allNodes is the group of every IPv6 host on a link (RFC 4291 2.7.1).
var allNodes = netip.MustParseAddr("ff02::1")

// ndpProtocol is IPv6 on a segment: the Neighbor Solicitations and
// Advertisements of RFC 4861 7.2.
//
// Answers come from the announced address itself, as they do from a kernel that
// has it, so a link needs no link-local address of its own. The Router flag is
// never set: nobody is to take the address for a router (RFC 4861 4.4).
type ndpProtocol struct{}

func (ndpProtocol) String() string { return "ndp" }

func (ndpProtocol) etherType() ethernet.EtherType { return ethernet.EtherTypeIPv6 }

func (ndpProtocol) filter(addrs []netip.Addr, ifindex int) []bpf.Instruction {
	return ndpFilter(addrs, ifindex)
}

// group is the solicited-node group of addr (RFC 4291 2.7.1), which all
// addresses with the same last 24 bits share.
func (ndpProtocol) group(addr netip.Addr) (netip.Addr, bool) {
	group, err := ndp.SolicitedNodeMulticast(addr)
	return group, err == nil
}

// handle answers solicitations to the solicited-node group of the target (hosts
// that resolve it, and hosts that probe whether it is free: RFC 4862 5.4.3) and
// to the target itself (hosts that verify it: RFC 4861 7.3), with and without
// the source link-layer address option.
func (p ndpProtocol) handle(b []byte, on station) (Verdict, netip.Addr, []byte) {
	frame, verdict, final := receive(b, on.mac)
	if final {
		return verdict, netip.Addr{}, nil
	}
	if frame.EtherType != ethernet.EtherTypeIPv6 {
		return NotRequest, netip.Addr{}, nil
	}
	ns, verdict := parseSolicitation(frame)
	if ns == nil {
		return verdict, netip.Addr{}, nil
	}
	group, ok := p.group(ns.target)
	switch {
	case !ok:
		return Malformed, ns.target, nil
	case bytes.Equal(ns.sender, on.mac):
		return OwnFrame, ns.target, nil
	case ns.destination != group && ns.destination != ns.target:
		return NotForUs, ns.target, nil
	case ns.source.IsUnspecified() && (ns.destination != group || ns.hasOption):
		return Malformed, ns.target, nil // RFC 4861 7.1.1
	case !on.announces(ns.target):
		return NotAnnounced, ns.target, nil
	case ns.source == ns.target:
		return ForeignClaim, ns.target, nil
	}
	reply, err := solicitedAdvertisement(ns, on.mac)
	if err != nil {
		return Malformed, ns.target, nil
	}
	return Answered, ns.target, reply
}

// announcement is one unsolicited Neighbor Advertisement to all nodes, with
// Override set so that it replaces what they have (RFC 4861 7.2.6).
func (ndpProtocol) announcement(addr netip.Addr, mac net.HardwareAddr) ([][]byte, error) {
	frame, err := advertisementFrame(advertisement{target: addr, mac: mac, to: allNodes, toMAC: groupMAC(allNodes)})
	if err != nil {
		return nil, err
	}
	return [][]byte{frame}, nil
}

// solicitation is what a valid Neighbor Solicitation says.
type solicitation struct {
	source, destination, target netip.Addr
	// sender is where to send the answer: the source link-layer address option
	// or, without it, the Ethernet source.
	sender net.HardwareAddr
	// hasOption is true when sender comes from the option.
	hasOption bool
}

// parseSolicitation decodes an IPv6 packet that holds a Neighbor Solicitation
// and validates it as RFC 4861 7.1.1 demands. Without one, it returns nil and
// the verdict. Extension headers are not followed: no host sends them here, and
// RFC 6980 forbids the one that would matter.
func parseSolicitation(frame *ethernet.Frame) (*solicitation, Verdict) {
	b := frame.Payload
	if len(b) < ipv6Len || b[0]>>4 != 6 {
		return nil, Malformed
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if len(b) < ipv6Len+length {
		return nil, Malformed
	}
	message := b[ipv6Len : ipv6Len+length]
	if b[6] != protocolICMPv6 || len(message) == 0 || message[0] != typeSolicitation {
		return nil, NotRequest
	}
	source, destination := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	if b[7] != ndpHopLimit || len(message) < solicitationLen || message[1] != 0 ||
		source.IsMulticast() || !checksumOK(b[8:40], message) {
		return nil, Malformed
	}
	parsed, err := ndp.ParseMessage(message)
	if err != nil {
		return nil, Malformed
	}
	ns, ok := parsed.(*ndp.NeighborSolicitation)
	if !ok {
		return nil, NotRequest
	}
	if ns.TargetAddress.IsMulticast() || ns.TargetAddress.IsUnspecified() {
		return nil, Malformed
	}
	out := &solicitation{source: source, destination: destination, target: ns.TargetAddress, sender: frame.Source}
	for _, option := range ns.Options {
		if lla, ok := option.(*ndp.LinkLayerAddress); ok && lla.Direction == ndp.Source {
			out.sender, out.hasOption = lla.Addr, true
		}
	}
	if !isStation(out.sender) {
		return nil, Malformed
	}
	return out, Answered
}

// solicitedAdvertisement answers a solicitation as RFC 4861 7.2.4 says: to the
// one who asked and with Solicited set, or to all nodes and without it when the
// one who asked has no address yet. Override is set, since the address is an
// ordinary unicast one and the answer carries our link-layer address; a host
// that missed the burst then learns the new place of the address at once.
func solicitedAdvertisement(ns *solicitation, mac net.HardwareAddr) ([]byte, error) {
	if ns.source.IsUnspecified() {
		return advertisementFrame(advertisement{target: ns.target, mac: mac, to: allNodes, toMAC: groupMAC(allNodes)})
	}
	return advertisementFrame(advertisement{target: ns.target, mac: mac, to: ns.source, toMAC: ns.sender, solicited: true})
}

// advertisement is one Neighbor Advertisement: target is at mac.
type advertisement struct {
	target    netip.Addr
	mac       net.HardwareAddr
	to        netip.Addr
	toMAC     net.HardwareAddr
	solicited bool
}

func advertisementFrame(a advertisement) ([]byte, error) {
	message, err := ndp.MarshalMessageChecksum(&ndp.NeighborAdvertisement{
		Solicited:     a.solicited,
		Override:      true,
		TargetAddress: a.target,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: a.mac}},
	}, a.target, a.to)
	if err != nil {
		return nil, fmt.Errorf("encode neighbor advertisement: %w", err)
	}
	packet := make([]byte, ipv6Len, ipv6Len+len(message))
	packet[0] = 6 << 4
	binary.BigEndian.PutUint16(packet[4:], uint16(len(message)))
	packet[6], packet[7] = protocolICMPv6, ndpHopLimit
	copy(packet[8:], a.target.AsSlice())
	copy(packet[24:], a.to.AsSlice())
	return envelope(a.toMAC, a.mac, ethernet.EtherTypeIPv6, append(packet, message...))
}

// groupMAC is the Ethernet address of an IPv6 group (RFC 2464 7).
func groupMAC(group netip.Addr) net.HardwareAddr {
	b := group.As16()
	return net.HardwareAddr{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// checksumOK verifies the checksum of an ICMPv6 message (RFC 4443 2.3). The
// addresses are the 32 bytes of source and destination.
func checksumOK(addresses, message []byte) bool {
	sum := uint32(protocolICMPv6) + uint32(len(message))
	for _, part := range [][]byte{addresses, message} {
		for ; len(part) > 1; part = part[2:] {
			sum += uint32(binary.BigEndian.Uint16(part))
		}
		if len(part) == 1 {
			sum += uint32(part[0]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return sum == 0xffff
}
