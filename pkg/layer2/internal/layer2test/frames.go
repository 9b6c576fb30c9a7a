package layer2test

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
)

// The hosts of the stories, by their Ethernet addresses.
var (
	OurMAC    = net.HardwareAddr{0x02, 0, 0, 0, 0, 0xaa}
	ClientMAC = net.HardwareAddr{0x02, 0, 0, 0, 0, 0xcc}
	// OurOtherMAC is of another link of this node, MemberMAC of a member node.
	OurOtherMAC = net.HardwareAddr{0x02, 0, 0, 0, 0, 0xab}
	MemberMAC   = net.HardwareAddr{0x02, 0, 0, 0, 0, 0xff}
	OtherMAC    = net.HardwareAddr{0x02, 0, 0, 0, 0, 0xdd}
	ZeroMAC     = make(net.HardwareAddr, 6)
)

// Their IP addresses: that which is announced, one which is not, and the client's.
var (
	VIP4     = netip.MustParseAddr("192.0.2.10")
	Foreign4 = netip.MustParseAddr("192.0.2.99")
	Client4  = netip.MustParseAddr("192.0.2.9")
	VIP6     = netip.MustParseAddr("2001:db8::10:1")
	Foreign6 = netip.MustParseAddr("2001:db8::10:99")
	Client6  = netip.MustParseAddr("fe80::9")
	// VIP6Group is the solicited-node group of VIP6.
	VIP6Group = netip.MustParseAddr("ff02::1:ff10:1")
	AllNodes  = netip.MustParseAddr("ff02::1")
)

// Offsets in an Ethernet frame without VLAN tag.
const (
	OffIPv6      = 14
	OffICMPv6    = OffIPv6 + 40
	OffNDPTarget = OffICMPv6 + 8
)

// At returns a copy of b with the bytes at an offset replaced.
func At(b []byte, offset int, with ...byte) []byte {
	b = bytes.Clone(b)
	copy(b[offset:], with)
	return b
}

// GroupMAC returns the Ethernet address of an IPv6 group.
func GroupMAC(group netip.Addr) net.HardwareAddr {
	return append(net.HardwareAddr{0x33, 0x33}, group.AsSlice()[12:]...)
}

// frame returns an Ethernet frame.
func frame(t testing.TB, to, from net.HardwareAddr, etherType ethernet.EtherType, payload []byte) []byte {
	t.Helper()
	f := ethernet.Frame{
		Destination: to,
		Source:      from,
		EtherType:   etherType,
		Payload:     payload,
	}
	b, err := f.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ARP describes an ARP packet.
type ARP struct {
	Op                   arp.Operation
	SenderMAC, TargetMAC net.HardwareAddr
	SenderIP, TargetIP   netip.Addr
	To                   net.HardwareAddr
}

// Frame returns the packet in a frame of its sender.
func (a ARP) Frame(t testing.TB) []byte {
	t.Helper()
	packet, err := arp.NewPacket(a.Op, a.SenderMAC, a.SenderIP, a.TargetMAC, a.TargetIP)
	if err != nil {
		t.Fatal(err)
	}
	b, err := packet.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return frame(t, a.To, a.SenderMAC, ethernet.EtherTypeARP, b)
}

// ARPRequest returns a broadcast of the client, which tests then spoil.
func ARPRequest(t testing.TB, sender, target netip.Addr) []byte {
	t.Helper()
	return ARP{
		Op:        arp.OperationRequest,
		SenderMAC: ClientMAC,
		SenderIP:  sender,
		TargetMAC: ZeroMAC,
		TargetIP:  target,
		To:        ethernet.Broadcast,
	}.Frame(t)
}

// ARPAnswer returns a reply of the client to us.
func ARPAnswer(t testing.TB) []byte {
	t.Helper()
	return ARP{
		Op:        arp.OperationReply,
		SenderMAC: ClientMAC,
		SenderIP:  Client4,
		TargetMAC: OurMAC,
		TargetIP:  netip.MustParseAddr("192.0.2.7"),
		To:        OurMAC,
	}.Frame(t)
}

// ndpFrame returns a message in a frame of the client.
func ndpFrame(
	t testing.TB, m ndp.Message, source, to netip.Addr, toMAC net.HardwareAddr, hopLimit byte,
) []byte {
	t.Helper()
	message, err := ndp.MarshalMessageChecksum(m, source, to)
	if err != nil {
		t.Fatal(err)
	}
	head := []byte{0x60, 0, 0, 0, 0, 0, 58, hopLimit}
	packet := slices.Concat(head, source.AsSlice(), to.AsSlice(), message)
	binary.BigEndian.PutUint16(packet[4:], uint16(len(message)))
	return frame(t, toMAC, ClientMAC, ethernet.EtherTypeIPv6, packet)
}

// Solicitation describes one of the client; the zero value is what it sends to resolve
// VIP6.
type Solicitation struct {
	Target, Source, Destination netip.Addr
	NoOption                    bool
	HopLimit                    byte
	ToMAC                       net.HardwareAddr
	More                        []ndp.Option
}

// Solicit returns a solicitation.
func Solicit(t testing.TB, s Solicitation) []byte {
	t.Helper()
	if !s.Target.IsValid() {
		s.Target = VIP6
	}
	if !s.Source.IsValid() {
		s.Source = Client6
	}
	if !s.Destination.IsValid() {
		s.Destination, _ = ndp.SolicitedNodeMulticast(s.Target)
	}
	if s.ToMAC == nil {
		s.ToMAC = GroupMAC(s.Destination)
	}
	if s.HopLimit == 0 {
		s.HopLimit = 255
	}
	ns := &ndp.NeighborSolicitation{TargetAddress: s.Target, Options: s.More}
	if !s.NoOption {
		ns.Options = append(ns.Options, &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: ClientMAC})
	}
	return ndpFrame(t, ns, s.Source, s.Destination, s.ToMAC, s.HopLimit)
}

// SolicitDAD returns the solicitation of a host that wants to have VIP6.
func SolicitDAD(t testing.TB, more ...ndp.Option) []byte {
	t.Helper()
	return Solicit(t, Solicitation{Source: netip.IPv6Unspecified(), NoOption: true, More: more})
}

// Advertisement describes one of another host; the zero value claims VIP6 as an
// announcement does.
type Advertisement struct {
	Target    netip.Addr
	MAC       net.HardwareAddr
	To        netip.Addr
	ToMAC     net.HardwareAddr
	Solicited bool
}

// Advertise returns an advertisement.
func Advertise(t testing.TB, a Advertisement) []byte {
	t.Helper()
	if !a.Target.IsValid() {
		a.Target = VIP6
	}
	if a.MAC == nil {
		a.MAC = ClientMAC
	}
	if !a.To.IsValid() {
		a.To, a.ToMAC = AllNodes, GroupMAC(AllNodes)
	}
	return AdvertiseTo(t, &ndp.NeighborAdvertisement{
		Solicited:     a.Solicited,
		TargetAddress: a.Target,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: a.MAC}},
	}, a.To, a.ToMAC)
}

// AdvertiseTo returns an advertisement that is given whole.
func AdvertiseTo(t testing.TB, na *ndp.NeighborAdvertisement, to netip.Addr, toMAC net.HardwareAddr) []byte {
	t.Helper()
	return ndpFrame(t, na, Client6, to, toMAC, 255)
}

// Extend puts an extension header before the payload of an IPv6 packet: its type, its
// length in units of 8 bytes beyond the first, and the rest.
func Extend(frame []byte, header byte, rest ...byte) []byte {
	b := slices.Concat(frame[:OffICMPv6], []byte{frame[OffIPv6+6]}, rest, frame[OffICMPv6:])
	b[OffIPv6+6] = header
	binary.BigEndian.PutUint16(b[OffIPv6+4:], binary.BigEndian.Uint16(b[OffIPv6+4:])+8)
	return b
}

// WithoutExtensions returns an IPv6 packet without the hop-by-hop and destination options
// that lead to its payload.
func WithoutExtensions(frame []byte) []byte {
	b := bytes.Clone(frame)
	for len(b) > OffICMPv6+8 && (b[OffIPv6+6] == 0 || b[OffIPv6+6] == 60) {
		b[OffIPv6+6] = b[OffICMPv6]
		b = slices.Delete(b, OffICMPv6, OffICMPv6+8*(1+int(b[OffICMPv6+1])))
	}
	return b
}

// FixChecksum puts the right lengths and checksum into a frame that is to hold an
// ICMPv6 message without extension headers: a fuzzer does not find them. What is too
// short stays as it is.
func FixChecksum(frame []byte) {
	if len(frame) < OffICMPv6+4 {
		return
	}
	message := frame[OffICMPv6:]
	binary.BigEndian.PutUint16(frame[OffIPv6+4:], uint16(len(message)))
	binary.BigEndian.PutUint16(message[2:], 0)
	binary.BigEndian.PutUint16(message[2:], ^Checksum(frame[OffIPv6+8:OffICMPv6], message))
}

// Checksum returns the sum over an ICMPv6 message and its pseudo-header, all ones when
// the checksum in it is right. The addresses are the 32 bytes of source and destination.
func Checksum(addresses, message []byte) uint16 {
	sum := uint32(58) + uint32(len(message))
	for _, part := range [][]byte{addresses, message} {
		for i, b := range part {
			if i%2 == 0 {
				sum += uint32(b) << 8
			} else {
				sum += uint32(b)
			}
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
