package layer2

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/ethernet"
	"golang.org/x/net/bpf"
)

// macLen is the length of an Ethernet address in bytes.
const macLen = 6

// headerLen is the length of an Ethernet header without VLAN tags.
const headerLen = 14

// protocol is what differs between IPv4 and IPv6 on a segment. Its methods are
// pure and may be called from any goroutine.
type protocol interface {
	// String is the protocol's name in logs.
	String() string
	// etherType is the protocol number that a packet socket binds to.
	etherType() ethernet.EtherType
	// handle decides about one received frame, which it neither keeps nor
	// changes, and returns the frame to send when the verdict is Answered. The
	// address is the request's target, invalid when the frame does not tell.
	handle(frame []byte, on station) (verdict Verdict, target netip.Addr, reply []byte)
	// announcement returns the frames that tell every host on the segment that
	// addr is now at mac, in the order in which to send them.
	announcement(addr netip.Addr, mac net.HardwareAddr) ([][]byte, error)
	// filter is the kernel program that passes the requests for the addresses
	// which arrive on the link with that index, and as little else as can be.
	filter(addrs []netip.Addr, ifindex int) []bpf.Instruction
	// group is the multicast group in which requests for addr arrive, or false
	// when they are broadcast.
	group(addr netip.Addr) (netip.Addr, bool)
}

// station is one link as the pure code sees it.
type station struct {
	// mac is the Ethernet address that answers give.
	mac net.HardwareAddr
	// announces reports whether addr is to be answered for on this link.
	announces func(addr netip.Addr) bool
}

// protocolOf is the protocol of an address's family.
func protocolOf(addr netip.Addr) protocol {
	if addr.Is4() {
		return arpProtocol{}
	}
	return ndpProtocol{}
}

// receive takes a received frame apart and rejects what no protocol wants. The
// returned frame has no VLAN tag and is for this station's address or for a
// group; final is true when the verdict is.
func receive(b []byte, mac net.HardwareAddr) (frame *ethernet.Frame, verdict Verdict, final bool) {
	frame = new(ethernet.Frame)
	if err := frame.UnmarshalBinary(b); err != nil {
		return nil, Malformed, true
	}
	if frame.VLAN != nil || frame.ServiceVLAN != nil {
		return nil, NotForUs, true
	}
	if !isStation(frame.Source) {
		return nil, Malformed, true
	}
	if bytes.Equal(frame.Source, mac) {
		return nil, OwnFrame, true
	}
	if !isGroup(frame.Destination) && !bytes.Equal(frame.Destination, mac) {
		return nil, NotForUs, true
	}
	return frame, 0, false
}

// envelope puts a payload into an Ethernet frame, padded to the minimum of 60
// bytes (IEEE 802.3 3.2.8; the check sequence is the device's).
func envelope(to, from net.HardwareAddr, etherType ethernet.EtherType, payload []byte) ([]byte, error) {
	frame := ethernet.Frame{Destination: to, Source: from, EtherType: etherType, Payload: payload}
	b, err := frame.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encode Ethernet frame: %w", err)
	}
	return b, nil
}

// isGroup reports whether mac is the broadcast or a multicast address.
func isGroup(mac net.HardwareAddr) bool { return len(mac) == macLen && mac[0]&1 == 1 }

// isStation reports whether mac can be the address of one host: six bytes, no
// group, not all zero.
func isStation(mac net.HardwareAddr) bool {
	return len(mac) == macLen && mac[0]&1 == 0 && !bytes.Equal(mac, make(net.HardwareAddr, macLen))
}
