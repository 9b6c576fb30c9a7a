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
	// typeSolicitation and typeAdvertisement are the ICMPv6 types of a Neighbor
	// Solicitation and a Neighbor Advertisement.
	typeSolicitation  = 135
	typeAdvertisement = 136
	// solicitationLen is a Neighbor Solicitation or Advertisement without options
	// (RFC 4861 4.3 and 4.4).
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
// the source link-layer address option. An advertisement of an announced address
// claims it, and so does a solicitation that comes from it.
func (p ndpProtocol) handle(b []byte, on station) outcome {
	frame, verdict, final := receive(b, on.mac)
	if final {
		return outcome{verdict: verdict}
	}
	if frame.EtherType != ethernet.EtherTypeIPv6 {
		return outcome{verdict: NotRequest}
	}
	packet, verdict := parseICMPv6(frame)
	if packet == nil {
		return outcome{verdict: verdict}
	}
	if packet.message[0] == typeAdvertisement {
		return p.handleAdvertisement(packet, on)
	}
	return p.handleSolicitation(packet, on)
}

// handleSolicitation decides about a Neighbor Solicitation.
func (p ndpProtocol) handleSolicitation(packet *icmpPacket, on station) outcome {
	ns, verdict := packet.solicitation()
	if ns == nil {
		return outcome{verdict: verdict}
	}
	group, ok := p.group(ns.target)
	switch {
	case !ok:
		return outcome{verdict: Malformed, addr: ns.target}
	case bytes.Equal(ns.sender, on.mac):
		return outcome{verdict: OwnFrame, addr: ns.target}
	case ns.destination != group && ns.destination != ns.target:
		return outcome{verdict: NotForUs, addr: ns.target}
	case ns.source.IsUnspecified() && (ns.destination != group || ns.hasOption):
		return outcome{verdict: Malformed, addr: ns.target} // RFC 4861 7.1.1
	case ns.source == ns.target:
		return on.claim(ns.target, ns.sender)
	}
	as, announced := on.answer(ns.target)
	if !announced {
		return outcome{verdict: NotAnnounced, addr: ns.target}
	}
	reply, err := solicitedAdvertisement(ns, as, on)
	if err != nil {
		return outcome{verdict: Malformed, addr: ns.target}
	}
	return outcome{verdict: Answered, addr: ns.target, reply: reply}
}

// handleAdvertisement decides about a Neighbor Advertisement.
func (ndpProtocol) handleAdvertisement(packet *icmpPacket, on station) outcome {
	na, verdict := packet.advertisement()
	if na == nil {
		return outcome{verdict: verdict}
	}
	return on.claim(na.target, na.mac)
}

// announcement is one unsolicited Neighbor Advertisement to all nodes, with
// Override set so that it replaces what they have (RFC 4861 7.2.6). Bridges that
// suppress NDP drop it; the same to the router alone they pass.
func (ndpProtocol) announcement(addr netip.Addr, mac net.HardwareAddr, to beyond) ([][]byte, error) {
	frame, err := advertisementFrame(advertisement{
		target: addr, mac: mac, from: mac, to: allNodes, toMAC: groupMAC(allNodes), override: true,
	})
	if err != nil {
		return nil, err
	}
	if !isStation(to.router.mac) {
		return [][]byte{frame}, nil
	}
	second, err := advertisementFrame(advertisement{
		target: addr, mac: mac, from: mac, to: to.router.ip, toMAC: to.router.mac, override: true,
	})
	if err != nil {
		return nil, err
	}
	return [][]byte{frame, second}, nil
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

// icmpPacket is an IPv6 packet with a solicitation or an advertisement in it,
// that was not forwarded and has the right checksum.
type icmpPacket struct {
	source, destination netip.Addr
	// sender is the Ethernet source.
	sender  net.HardwareAddr
	message []byte
}

// parseICMPv6 does what the validation of solicitations and advertisements has in
// common (RFC 4861 7.1.1 and 7.1.2). Without either, it returns nil and the
// verdict.
func parseICMPv6(frame *ethernet.Frame) (*icmpPacket, Verdict) {
	b := frame.Payload
	if len(b) < ipv6Len || b[0]>>4 != 6 {
		return nil, Malformed
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if len(b) < ipv6Len+length {
		return nil, Malformed
	}
	next, message, ok := skipExtensions(b[6], b[ipv6Len:ipv6Len+length])
	if !ok {
		return nil, Malformed
	}
	if next != protocolICMPv6 || len(message) == 0 || message[0] != typeSolicitation && message[0] != typeAdvertisement {
		return nil, NotRequest
	}
	source, destination := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	if b[7] != ndpHopLimit || len(message) < solicitationLen || message[1] != 0 ||
		source.IsMulticast() || source.IsLoopback() || !checksumOK(b[8:40], message) {
		return nil, Malformed
	}
	return &icmpPacket{source: source, destination: destination, sender: frame.Source, message: message}, Answered
}

// solicitation decodes the message, which is of that type.
func (p *icmpPacket) solicitation() (*solicitation, Verdict) {
	parsed, err := ndp.ParseMessage(p.message)
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
	out := &solicitation{source: p.source, destination: p.destination, target: ns.TargetAddress}
	out.sender, out.hasOption = linkLayerAddress(ns.Options, ndp.Source, p.sender)
	if !isStation(out.sender) {
		return nil, Malformed
	}
	return out, Answered
}

// advertisement decodes the message, which is of that type. One to a group is
// never solicited. Of the result, target, mac, to, solicited and override are set;
// mac is the Ethernet source when the option is missing.
func (p *icmpPacket) advertisement() (*advertisement, Verdict) {
	parsed, err := ndp.ParseMessage(p.message)
	if err != nil {
		return nil, Malformed
	}
	na, ok := parsed.(*ndp.NeighborAdvertisement)
	if !ok {
		return nil, NotRequest
	}
	if na.TargetAddress.IsMulticast() || na.TargetAddress.IsUnspecified() || p.destination.IsMulticast() && na.Solicited {
		return nil, Malformed
	}
	out := &advertisement{target: na.TargetAddress, to: p.destination, solicited: na.Solicited, override: na.Override}
	out.mac, _ = linkLayerAddress(na.Options, ndp.Target, p.sender)
	if !isStation(out.mac) {
		return nil, Malformed
	}
	return out, Answered
}

// linkLayerAddress returns the address of the last such option, or otherwise.
func linkLayerAddress(options []ndp.Option, direction ndp.Direction, otherwise net.HardwareAddr) (net.HardwareAddr, bool) {
	found := false
	for _, option := range options {
		if lla, ok := option.(*ndp.LinkLayerAddress); ok && lla.Direction == direction {
			otherwise, found = lla.Addr, true
		}
	}
	return otherwise, found
}

// solicitedAdvertisement answers a solicitation as RFC 4861 7.2.4 says: to the
// one who asked and with Solicited set, or to all nodes and without it when the
// one who asked has no address yet. Override is set, since the address is an
// ordinary unicast one and the answer carries our link-layer address; a host
// that missed the burst then learns the new place of the address at once. A
// stand-in is a proxy and leaves it unset, so that the owner's word counts more
// (RFC 4861 7.2.8).
func solicitedAdvertisement(ns *solicitation, as net.HardwareAddr, on station) ([]byte, error) {
	answer := advertisement{target: ns.target, mac: as, from: on.mac, override: !on.standsIn(as)}
	if ns.source.IsUnspecified() {
		answer.to, answer.toMAC = allNodes, groupMAC(allNodes)
	} else {
		answer.to, answer.toMAC, answer.solicited = ns.source, ns.sender, true
	}
	return advertisementFrame(answer)
}

// advertisement is one Neighbor Advertisement: target is at mac.
type advertisement struct {
	target netip.Addr
	mac    net.HardwareAddr
	// from is the Ethernet source.
	from                net.HardwareAddr
	to                  netip.Addr
	toMAC               net.HardwareAddr
	solicited, override bool
}

func advertisementFrame(a advertisement) ([]byte, error) {
	message, err := ndp.MarshalMessageChecksum(&ndp.NeighborAdvertisement{
		Solicited:     a.solicited,
		Override:      a.override,
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
	return envelope(a.toMAC, a.from, ethernet.EtherTypeIPv6, append(packet, message...))
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
