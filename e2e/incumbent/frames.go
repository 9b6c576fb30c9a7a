package incumbent

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
)

// A MAC is an Ethernet address.
type MAC [6]byte

const (
	etherLen  = 14
	etherARP  = 0x0806
	etherIPv6 = 0x86dd

	arpLen     = etherLen + 28
	arpRequest = 1
	arpReply   = 2

	icmpAt          = etherLen + 40
	protocolICMPv6  = 58
	typeSolicit     = 135
	solicitLen      = 24 // type, code, checksum, reserved, target
	optionTargetMAC = 2
	// Flags of a Neighbor Advertisement (RFC 4861, 4.4).
	flagSolicited = 0x40
	flagOverride  = 0x20
)

var (
	everybody = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodes  = netip.MustParseAddr("ff02::1")
)

// replyTo is the frame with which a node answers one that it has received; nil for one that asks for none of
// the addresses.
func replyTo(frame []byte, mac MAC, addresses []netip.Addr) []byte {
	if len(frame) < etherLen {
		return nil
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherARP:
		if len(frame) < arpLen || binary.BigEndian.Uint16(frame[20:]) != arpRequest {
			return nil
		}
		from, target := netip.AddrFrom4([4]byte(frame[28:32])), netip.AddrFrom4([4]byte(frame[38:42]))
		if !slices.Contains(addresses, target) {
			return nil
		}
		return arp(mac, target, MAC(frame[22:28]), from, MAC(frame[22:28]))
	case etherIPv6:
		if len(frame) < icmpAt+solicitLen || frame[20] != protocolICMPv6 || frame[icmpAt] != typeSolicit {
			return nil
		}
		from := netip.AddrFrom16([16]byte(frame[22:38]))
		target := netip.AddrFrom16([16]byte(frame[icmpAt+8 : icmpAt+24]))
		if from.IsUnspecified() || !slices.Contains(addresses, target) {
			return nil
		}
		return advertisement(mac, target, MAC(frame[6:12]), from, flagSolicited|flagOverride)
	}
	return nil
}

// claimOf is the frame to everybody that says that an address is at a MAC.
func claimOf(addr netip.Addr, mac MAC) []byte {
	if addr.Is4() {
		return arp(mac, addr, everybody, addr, everybody)
	}
	return advertisement(mac, addr, MAC{0x33, 0x33, 5: 1}, allNodes, flagOverride) // RFC 2464, section 7
}

// arp is an ARP reply (RFC 826) to the Ethernet address frameTo: addr is at mac.
func arp(mac MAC, addr netip.Addr, to MAC, toAddr netip.Addr, frameTo MAC) []byte {
	f := slices.Concat(frameTo[:], mac[:])
	f = binary.BigEndian.AppendUint16(f, etherARP)
	f = append(f, 0, 1, 8, 0, 6, 4, 0, arpReply) // Ethernet, IPv4, lengths
	f = append(f, mac[:]...)
	f = append(f, addr.AsSlice()...)
	f = append(f, to[:]...)
	return append(f, toAddr.AsSlice()...)
}

// advertisement is a Neighbor Advertisement: target is at mac.
func advertisement(mac MAC, target netip.Addr, to MAC, toAddr netip.Addr, flags byte) []byte {
	body := append([]byte{flags, 0, 0, 0}, target.AsSlice()...)
	body = append(append(body, optionTargetMAC, 1), mac[:]...)
	message := icmp.Message{
		Type: ipv6.ICMPTypeNeighborAdvertisement,
		Body: &icmp.RawBody{Data: body},
	}
	pseudo := icmp.IPv6PseudoHeader(target.AsSlice(), toAddr.AsSlice())
	packet, err := message.Marshal(pseudo)
	if err != nil {
		panic(err) // only a body that cannot be marshalled fails, and this one is bytes
	}

	f := slices.Concat(to[:], mac[:])
	f = binary.BigEndian.AppendUint16(f, etherIPv6)
	f = append(f, 0x60, 0, 0, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(len(packet)))
	f = append(f, protocolICMPv6, 255)
	f = append(f, target.AsSlice()...)
	f = append(f, toAddr.AsSlice()...)
	return append(f, packet...)
}

// groupOf is the solicited-node group of an IPv6 address (RFC 4291, 2.7.1).
func groupOf(addr netip.Addr) netip.Addr {
	to := addr.As16()
	return netip.AddrFrom16([16]byte{0xff, 0x02, 11: 1, 12: 0xff, 13: to[13], 14: to[14], 15: to[15]})
}
