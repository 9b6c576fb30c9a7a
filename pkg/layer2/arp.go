package layer2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"golang.org/x/net/bpf"
)

// arpLen is the length of an ARP packet for Ethernet and IPv4 (RFC 826).
const arpLen = 28

// arpProtocol is IPv4 on a segment: RFC 826, with the announcements and probes
// of RFC 5227.
type arpProtocol struct{}

func (arpProtocol) String() string { return "arp" }

func (arpProtocol) etherType() ethernet.EtherType { return ethernet.EtherTypeARP }

// group is never a group: ARP requests are broadcast.
func (arpProtocol) group(netip.Addr) (netip.Addr, bool) { return netip.Addr{}, false }

func (arpProtocol) filter(addrs []netip.Addr, ifindex int) []bpf.Instruction {
	return arpFilter(addrs, ifindex)
}

// handle answers requests that were broadcast or sent to this link, whoever
// asks: hosts that resolve the address, hosts that verify it by unicast, and
// hosts that probe whether it is free with a sender of 0.0.0.0 (RFC 5227 2.1.1).
// Whatever the operation, a sender that gives an announced address as its own
// claims it (RFC 5227 2.4).
func (arpProtocol) handle(b []byte, on station) outcome {
	frame, verdict, final := receive(b, on.mac)
	if final {
		return outcome{verdict: verdict}
	}
	if frame.EtherType != ethernet.EtherTypeARP {
		return outcome{verdict: NotRequest}
	}
	packet, ok := parseARP(frame.Payload)
	if !ok {
		return outcome{verdict: Malformed}
	}
	sender, target := arpSide{packet.SenderHardwareAddr, packet.SenderIP}, packet.TargetIP
	switch {
	case bytes.Equal(sender.mac, on.mac):
		return outcome{verdict: OwnFrame, addr: target}
	case !isStation(sender.mac) || sender.ip.IsMulticast() || sender.ip.IsLoopback():
		return outcome{verdict: Malformed, addr: target}
	}
	if claimed := on.claim(sender.ip, sender.mac); claimed.verdict != NotAnnounced {
		return claimed
	}
	if packet.Operation != arp.OperationRequest {
		return outcome{verdict: NotRequest, addr: target}
	}
	as, announced := on.answer(target)
	if !announced {
		return outcome{verdict: NotAnnounced, addr: target}
	}
	reply, err := arpPacket(arp.OperationReply, arpSide{as, target}, sender)
	if err == nil {
		reply, err = envelope(sender.mac, on.mac, ethernet.EtherTypeARP, reply)
	}
	if err != nil {
		return outcome{verdict: Malformed, addr: target}
	}
	return outcome{verdict: Answered, addr: target, reply: reply}
}

// announcement is a request and a reply, both broadcast and both saying that
// addr is at mac. RFC 5227 2.3 asks for the request; some hosts and switches
// update their tables from replies only. The third is a request from addr for
// another address: hosts that have an entry for addr update it from any request's
// sender (RFC 826), and bridges that suppress ARP drop the first two, in which
// sender and target are the same.
func (arpProtocol) announcement(addr netip.Addr, mac net.HardwareAddr, to beyond) ([][]byte, error) {
	us := arpSide{mac, addr}
	// The target hardware address of a request is ignored (RFC 826); all ones is
	// what the codec accepts for an unknown one.
	request, err := arpFrame(arp.OperationRequest, us, arpSide{ethernet.Broadcast, addr}, ethernet.Broadcast)
	if err != nil {
		return nil, err
	}
	reply, err := arpFrame(arp.OperationReply, us, arpSide{ethernet.Broadcast, addr}, ethernet.Broadcast)
	if err != nil {
		return nil, err
	}
	if !to.subnet.IsValid() {
		return [][]byte{request, reply}, nil
	}
	third, err := arpRequestFrame(us, to.subnet, nil)
	if err != nil {
		return nil, err
	}
	return [][]byte{request, reply, third}, nil
}

// parseARP decodes an ARP packet for Ethernet and IPv4. The lengths are checked
// here first: the codec takes any, and gives back addresses of other families.
func parseARP(b []byte) (*arp.Packet, bool) {
	if len(b) < arpLen ||
		binary.BigEndian.Uint16(b[0:]) != 1 || // hardware type Ethernet
		binary.BigEndian.Uint16(b[2:]) != uint16(ethernet.EtherTypeIPv4) ||
		b[4] != macLen || b[5] != net.IPv4len {
		return nil, false
	}
	packet := new(arp.Packet)
	if err := packet.UnmarshalBinary(b[:arpLen]); err != nil {
		return nil, false
	}
	return packet, true
}

// arpSide is one of the two parties that an ARP packet names.
type arpSide struct {
	mac net.HardwareAddr
	ip  netip.Addr
}

// arpFrame encodes a new packet, sent by the one whom it names as its sender; a
// received one is never encoded again.
func arpFrame(op arp.Operation, sender, target arpSide, to net.HardwareAddr) ([]byte, error) {
	b, err := arpPacket(op, sender, target)
	if err != nil {
		return nil, err
	}
	return envelope(to, sender.mac, ethernet.EtherTypeARP, b)
}

func arpPacket(op arp.Operation, sender, target arpSide) ([]byte, error) {
	packet, err := arp.NewPacket(op, sender.mac, sender.ip, target.mac, target.ip)
	if err != nil {
		return nil, fmt.Errorf("make ARP packet: %w", err)
	}
	b, err := packet.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encode ARP packet: %w", err)
	}
	return b, nil
}
