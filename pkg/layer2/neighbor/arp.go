package neighbor

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
)

// arpLen is the length of an ARP packet for Ethernet and IPv4 (RFC 826).
const arpLen = 28

// parseARP decodes an ARP packet for Ethernet and IPv4. The lengths are checked here
// first: the codec takes any, and gives back addresses of other families.
func parseARP(b []byte) (Packet, error) {
	if len(b) < arpLen ||
		binary.BigEndian.Uint16(b[0:]) != 1 || // hardware type Ethernet
		binary.BigEndian.Uint16(b[2:]) != uint16(ethernet.EtherTypeIPv4) ||
		b[4] != MACLen || b[5] != net.IPv4len {
		return Packet{}, ErrMalformed
	}
	packet := new(arp.Packet)
	if err := packet.UnmarshalBinary(b[:arpLen]); err != nil {
		return Packet{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if !IsStation(packet.SenderHardwareAddr) || !packet.SenderIP.IsUnspecified() && !CanOwn(packet.SenderIP) {
		return Packet{}, ErrMalformed
	}

	p := Packet{
		Sender: Binding{IP: packet.SenderIP, MAC: packet.SenderHardwareAddr},
		Target: packet.TargetIP,
	}
	switch packet.Operation {
	case arp.OperationRequest:
		p.Op = Request
	case arp.OperationReply:
		p.Op = Reply
	}
	return p, nil
}

// arpFrame encodes a new packet, sent by the Ethernet address from; a received one is
// never encoded again.
func arpFrame(op arp.Operation, sender, target Binding, from, to net.HardwareAddr) ([]byte, error) {
	packet, err := arp.NewPacket(op, sender.MAC, sender.IP, target.MAC, target.IP)
	if err != nil {
		return nil, fmt.Errorf("make ARP packet: %w", err)
	}
	b, err := packet.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encode ARP packet: %w", err)
	}
	return envelope(to, from, ethernet.EtherTypeARP, b)
}

// arpReply answers a request.
func (p Packet) arpReply(with Answer) ([]byte, error) {
	who := Binding{IP: p.Target, MAC: with.As}
	return arpFrame(arp.OperationReply, who, p.Sender, with.From, p.Sender.MAC)
}

// arpAnnouncement is a request and a reply, both broadcast and both saying where the
// address is. RFC 5227 2.3 asks for the request; some hosts and switches update their
// tables from replies only. The third is a request from the address for another one:
// hosts that have an entry for the address update it from any request's sender (RFC
// 826), and bridges that suppress ARP drop the first two, in which sender and target
// are the same.
func arpAnnouncement(who Binding, beyond Beyond) ([][]byte, error) {
	// The target hardware address of a request is ignored (RFC 826); all ones is what
	// the codec accepts for an unknown one.
	everybody := Binding{IP: who.IP, MAC: ethernet.Broadcast}
	request, err := arpFrame(arp.OperationRequest, who, everybody, who.MAC, ethernet.Broadcast)
	if err != nil {
		return nil, err
	}
	reply, err := arpFrame(arp.OperationReply, who, everybody, who.MAC, ethernet.Broadcast)
	if err != nil {
		return nil, err
	}
	if !beyond.Subnet.IsValid() {
		return [][]byte{request, reply}, nil
	}
	third, err := Question{Sender: who, Target: beyond.Subnet}.Frame()
	if err != nil {
		return nil, err
	}
	return [][]byte{request, reply, third}, nil
}

// arpRequest asks who has the target.
func (q Question) arpRequest() ([]byte, error) {
	to := q.To
	if to == nil {
		to = ethernet.Broadcast
	}
	sender := q.Sender
	if !sender.IP.IsValid() {
		sender.IP = netip.IPv4Unspecified()
	}
	// RFC 5227 2.1.1: the target hardware address should be all zeros.
	target := Binding{IP: q.Target, MAC: make(net.HardwareAddr, MACLen)}
	return arpFrame(arp.OperationRequest, sender, target, sender.MAC, to)
}
