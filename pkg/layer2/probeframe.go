package layer2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
)

// sighting is what a received frame says of an address. The zero value is a
// frame that says nothing of interest.
type sighting struct {
	what sightingKind
	addr netip.Addr
	// mac is whose address it is, or who would like to have it.
	mac net.HardwareAddr
	// answer is true when the frame was sent to this link alone and is an ARP
	// reply or a Neighbor Advertisement: the host reacts to what we asked.
	answer bool
	// nonce is that of a DAD solicitation (RFC 7527), nil without one.
	nonce *ndp.Nonce
}

// sightingKind is the kind of a sighting.
type sightingKind uint8

const (
	// sawNothing: the frame says nothing that matters, or is our own.
	sawNothing sightingKind = iota
	// sawHolder: a host says that it has the address.
	sawHolder
	// sawProber: a host asks whether the address is free, to take it.
	sawProber
)

// seeFrame reads a frame that the link with the address own received. It
// returns false for one that is malformed. The frame is not kept.
func (k probeKey) seeFrame(b []byte, own net.HardwareAddr) (sighting, bool) {
	frame := new(ethernet.Frame)
	if err := frame.UnmarshalBinary(b); err != nil || !isStation(frame.Source) {
		return sighting{}, false
	}
	if frame.VLAN != nil || frame.ServiceVLAN != nil || bytes.Equal(frame.Source, own) {
		return sighting{}, true
	}
	toUs := bytes.Equal(frame.Destination, own)
	if !toUs && !isGroup(frame.Destination) {
		return sighting{}, true
	}
	var s sighting
	var ok bool
	switch {
	case k.six && frame.EtherType == ethernet.EtherTypeIPv6:
		s, ok = seeNDP(frame)
	case !k.six && frame.EtherType == ethernet.EtherTypeARP:
		s, ok = seeARP(frame)
	default:
		return sighting{}, true
	}
	// What comes back in another's frame is still our own.
	if !ok || bytes.Equal(s.mac, own) {
		return sighting{}, ok
	}
	s.answer = s.answer && toUs
	return s, true
}

// seeARP reads an ARP packet. Whatever its operation, its sender has the sender's
// address; without one, a request is an ARP Probe for its target (RFC 5227 1.1).
func seeARP(frame *ethernet.Frame) (sighting, bool) {
	packet, ok := parseARP(frame.Payload)
	if !ok || !isStation(packet.SenderHardwareAddr) {
		return sighting{}, false
	}
	switch {
	case !packet.SenderIP.IsUnspecified():
		reply := packet.Operation == arp.OperationReply
		return sighting{what: sawHolder, addr: packet.SenderIP, mac: packet.SenderHardwareAddr, answer: reply}, true
	case packet.Operation == arp.OperationRequest:
		return sighting{what: sawProber, addr: packet.TargetIP, mac: packet.SenderHardwareAddr}, true
	default:
		return sighting{}, true
	}
}

// seeNDP reads a Neighbor Advertisement, or a Neighbor Solicitation of duplicate
// address detection (RFC 4862 5.4: its source is unspecified), validated as RFC
// 4861 7.1 demands. Extension headers are not followed, see RFC 6980.
func seeNDP(frame *ethernet.Frame) (sighting, bool) {
	b := frame.Payload
	if len(b) < ipv6Len || b[0]>>4 != 6 {
		return sighting{}, false
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if len(b) < ipv6Len+length {
		return sighting{}, false
	}
	message := b[ipv6Len : ipv6Len+length]
	if b[6] != protocolICMPv6 || len(message) == 0 ||
		(message[0] != typeSolicitation && message[0] != typeAdvertisement) {
		return sighting{}, true
	}
	source, destination := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	// Solicitations and advertisements have the same least length.
	if b[7] != ndpHopLimit || len(message) < solicitationLen || message[1] != 0 ||
		source.IsMulticast() || !checksumOK(b[8:40], message) {
		return sighting{}, false
	}
	parsed, err := ndp.ParseMessage(message)
	if err != nil {
		return sighting{}, false
	}
	switch m := parsed.(type) {
	case *ndp.NeighborAdvertisement:
		return seeAdvertisement(m, frame.Source, destination)
	case *ndp.NeighborSolicitation:
		return seeSolicitation(m, frame.Source, source, destination)
	default:
		return sighting{}, true
	}
}

// seeAdvertisement reads an advertisement: its target is at the link-layer
// address in its option or, without one, at the Ethernet source.
func seeAdvertisement(na *ndp.NeighborAdvertisement, from net.HardwareAddr, to netip.Addr) (sighting, bool) {
	if na.TargetAddress.IsMulticast() || (na.Solicited && to.IsMulticast()) {
		return sighting{}, false
	}
	s := sighting{what: sawHolder, addr: na.TargetAddress, mac: bytes.Clone(from), answer: true}
	for _, option := range na.Options {
		if lla, ok := option.(*ndp.LinkLayerAddress); ok && lla.Direction == ndp.Target {
			s.mac = lla.Addr
		}
	}
	return s, isStation(s.mac)
}

func seeSolicitation(ns *ndp.NeighborSolicitation, from net.HardwareAddr, source, to netip.Addr) (sighting, bool) {
	if !source.IsUnspecified() {
		return sighting{}, true
	}
	s := sighting{what: sawProber, addr: ns.TargetAddress, mac: bytes.Clone(from)}
	if group, err := ndp.SolicitedNodeMulticast(ns.TargetAddress); err != nil || to != group {
		return sighting{}, false
	}
	for _, option := range ns.Options {
		switch o := option.(type) {
		case *ndp.LinkLayerAddress:
			if o.Direction == ndp.Source {
				return sighting{}, false
			}
		case *ndp.Nonce:
			s.nonce = o
		}
	}
	return s, true
}

// errNoSource: the link has no address from which the target could be asked.
var errNoSource = errors.New("the link has no address to ask from")

// probeFrame asks for a target from an address of the link. A target that is the
// link's own address cannot be asked there.
func probeFrame(link Link, addr netip.Addr, mac net.HardwareAddr) ([]byte, error) {
	if slices.ContainsFunc(link.Prefixes, func(p netip.Prefix) bool { return p.Addr() == addr }) {
		return nil, fmt.Errorf("ask for %s: it is an address of the link itself", addr)
	}
	source, ok := probeSource(link, addr)
	if !ok {
		return nil, fmt.Errorf("ask for %s: %w", addr, errNoSource)
	}
	if !isStation(mac) {
		mac = nil
	}
	if addr.Is4() {
		return arpRequestFrame(arpSide{link.HardwareAddr, source}, addr, mac)
	}
	return solicitationFrame(solicitationTo{
		target: addr, source: source, from: link.HardwareAddr, to: mac,
		option: &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: link.HardwareAddr},
	})
}

// askFrame asks whether addr is free, without saying anything of this host: an
// ARP Probe (RFC 5227 2.1.1) or a solicitation of duplicate address detection
// (RFC 4862 5.4.2) with a nonce, by which one that comes back is known (RFC 7527).
func askFrame(from net.HardwareAddr, addr netip.Addr, nonce *ndp.Nonce) ([]byte, error) {
	if addr.Is4() {
		return arpRequestFrame(arpSide{from, netip.IPv4Unspecified()}, addr, nil)
	}
	return solicitationFrame(solicitationTo{target: addr, source: netip.IPv6Unspecified(), from: from, option: nonce})
}

// hostFrame asks for addr from an address of this node, as a host does that has
// something to send there.
func hostFrame(from net.HardwareAddr, source, addr netip.Addr) ([]byte, error) {
	if addr.Is4() {
		return arpRequestFrame(arpSide{from, source}, addr, nil)
	}
	return solicitationFrame(solicitationTo{
		target: addr, source: source, from: from, option: &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: from},
	})
}

// hostSource chooses the address from which to ask for addr as a host, false when
// the link has none that others would answer, or addr is its own.
func hostSource(link Link, addr netip.Addr) (netip.Addr, bool) {
	source, ok := probeSource(link, addr)
	return source, ok && !source.IsUnspecified() && source != addr
}

// probeSource chooses the address to ask from: one in whose subnet the target
// is. Without one, a kernel still answers a request from 0.0.0.0, which it takes
// for an ARP Probe, and a solicitation from a link-local or any other address.
func probeSource(link Link, addr netip.Addr) (netip.Addr, bool) {
	var linkLocal, other netip.Addr
	for _, p := range link.Prefixes {
		own := p.Addr()
		switch {
		case own.Is4() != addr.Is4():
		case !p.IsSingleIP() && p.Contains(addr):
			return own, true
		case own.IsLinkLocalUnicast() && !linkLocal.IsValid():
			linkLocal = own
		case !other.IsValid():
			other = own
		}
	}
	switch {
	case addr.Is4():
		return netip.IPv4Unspecified(), true
	case linkLocal.IsValid():
		return linkLocal, true
	default:
		return other, other.IsValid()
	}
}

// arpRequestFrame asks who has addr: mac alone, or everybody when it is nil.
func arpRequestFrame(sender arpSide, addr netip.Addr, mac net.HardwareAddr) ([]byte, error) {
	if mac == nil {
		mac = ethernet.Broadcast
	}
	// RFC 5227 2.1.1: the target hardware address should be all zeros.
	return arpFrame(arp.OperationRequest, sender, arpSide{make(net.HardwareAddr, macLen), addr}, mac)
}

// solicitationTo is one Neighbor Solicitation.
type solicitationTo struct {
	target, source netip.Addr
	from           net.HardwareAddr
	// to is the one host to ask; nil is the solicited-node group.
	to     net.HardwareAddr
	option ndp.Option
}

func solicitationFrame(s solicitationTo) ([]byte, error) {
	destination := s.target
	if s.to == nil {
		group, err := ndp.SolicitedNodeMulticast(s.target)
		if err != nil {
			return nil, fmt.Errorf("group of %s: %w", s.target, err)
		}
		destination, s.to = group, groupMAC(group)
	}
	message, err := ndp.MarshalMessageChecksum(&ndp.NeighborSolicitation{
		TargetAddress: s.target,
		Options:       []ndp.Option{s.option},
	}, s.source, destination)
	if err != nil {
		return nil, fmt.Errorf("encode neighbor solicitation: %w", err)
	}
	packet := make([]byte, ipv6Len, ipv6Len+len(message))
	packet[0] = 6 << 4
	binary.BigEndian.PutUint16(packet[4:], uint16(len(message)))
	packet[6], packet[7] = protocolICMPv6, ndpHopLimit
	copy(packet[8:], s.source.AsSlice())
	copy(packet[24:], destination.AsSlice())
	return envelope(s.to, s.from, ethernet.EtherTypeIPv6, append(packet, message...))
}

// packetHost is the kernel's class of frames for this host alone, see
// packetBroadcast.
const packetHost = 0

// etherType is the protocol number that a packet socket binds to.
func (k probeKey) etherType() ethernet.EtherType {
	if k.six {
		return ethernet.EtherTypeIPv6
	}
	return ethernet.EtherTypeARP
}

// answerFilter passes what may answer a probe: ARP replies or Neighbor
// Advertisements to this host alone. It sees every frame of the protocol that
// arrives, so what is most frequent is rejected early.
func (k probeKey) answerFilter(ifindex int) []bpf.Instruction {
	body := k.answerBody()
	return slices.Concat(arrivalFilter(packetHost, ifindex), body)
}

func (k probeKey) answerBody() []bpf.Instruction {
	if !k.six {
		return slices.Concat(
			loadAndRequire(offEtherType, 2, uint32(ethernet.EtherTypeARP)),
			loadAndRequire(offARP+6, 2, uint32(arp.OperationReply)),
			[]bpf.Instruction{bpf.RetConstant{Val: snapLen}},
		)
	}
	return slices.Concat(
		loadAndRequire(offEtherType, 2, uint32(ethernet.EtherTypeIPv6)),
		loadAndRequire(offIPv6+6, 2, protocolICMPv6<<8|ndpHopLimit),
		loadAndRequire(offICMPv6, 2, typeAdvertisement<<8),
		[]bpf.Instruction{bpf.RetConstant{Val: snapLen}},
	)
}

// holderFilter passes what may tell that an address is not free: every ARP packet, or
// Neighbor Advertisements and Solicitations.
func (k probeKey) holderFilter(ifindex int) []bpf.Instruction {
	return slices.Concat(arrivalFilter(packetMulticast, ifindex), k.holderBody())
}

func (k probeKey) holderBody() []bpf.Instruction {
	if !k.six {
		return slices.Concat(
			loadAndRequire(offEtherType, 2, uint32(ethernet.EtherTypeARP)),
			[]bpf.Instruction{bpf.RetConstant{Val: snapLen}},
		)
	}
	return slices.Concat(
		loadAndRequire(offEtherType, 2, uint32(ethernet.EtherTypeIPv6)),
		loadAndRequire(offIPv6+6, 2, protocolICMPv6<<8|ndpHopLimit),
		[]bpf.Instruction{
			bpf.LoadAbsolute{Off: offICMPv6, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: typeAdvertisement << 8, SkipTrue: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: typeSolicitation << 8, SkipTrue: 1},
			bpf.RetConstant{Val: 0},
			bpf.RetConstant{Val: snapLen},
		},
	)
}
