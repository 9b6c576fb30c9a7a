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
	// handle decides about one received frame, which it neither keeps nor changes.
	handle(frame []byte, on station) outcome
	// announcement returns the frames that tell every host on the segment that
	// addr is now at mac, in the order in which to send them. The last of them, if to
	// says to whom, passes bridges that suppress the others.
	announcement(addr netip.Addr, mac net.HardwareAddr, to beyond) ([][]byte, error)
	// filter is the kernel program that passes the requests for the addresses
	// which arrive on the link with that index, and as little else as can be.
	filter(addrs []netip.Addr, ifindex int) []bpf.Instruction
	// group is the multicast group in which requests for addr arrive, or false
	// when they are broadcast.
	group(addr netip.Addr) (netip.Addr, bool)
}

// outcome is what was decided about one received frame.
type outcome struct {
	verdict Verdict
	// addr is the request's target or the address that is claimed; invalid when
	// the frame does not tell.
	addr netip.Addr
	// reply is the frame to send when the verdict is Answered, else nil.
	reply []byte
	// claimant is where addr is said to be when the verdict is ForeignClaim or
	// FellowClaim. It is part of the received frame.
	claimant net.HardwareAddr
}

// station is one link as the pure code sees it.
type station struct {
	// mac is the Ethernet address of the link.
	mac net.HardwareAddr
	// lookup reports whether addr is to be answered for on this link, and as
	// which Ethernet address if not as mac.
	lookup func(addr netip.Addr) (as net.HardwareAddr, ok bool)
	// isOurs reports whether another Ethernet address is of a link of this node,
	// and isFellow whether it is of a fellow node.
	isOurs, isFellow func(mac net.HardwareAddr) bool
}

// answer returns the Ethernet address to answer with for addr, and false when it
// is not answered for.
func (s station) answer(addr netip.Addr) (net.HardwareAddr, bool) {
	as, ok := s.lookup(addr)
	if as == nil {
		as = s.mac
	}
	return as, ok
}

// standsIn reports whether answers give another Ethernet address than the link's.
func (s station) standsIn(as net.HardwareAddr) bool { return !bytes.Equal(as, s.mac) }

// claim judges a frame that says that addr is at mac. The verdict is
// NotAnnounced when that is no concern of ours. A second link of this node on the
// same segment hears what the first one announces; that is an own frame.
func (s station) claim(addr netip.Addr, mac net.HardwareAddr) outcome {
	as, announced := s.answer(addr)
	switch {
	case !announced:
		return outcome{verdict: NotAnnounced, addr: addr}
	case bytes.Equal(mac, s.mac) || s.isOurs(mac):
		return outcome{verdict: OwnFrame, addr: addr}
	case bytes.Equal(mac, as) || s.isFellow(mac):
		return outcome{verdict: FellowClaim, addr: addr, claimant: mac}
	default:
		return outcome{verdict: ForeignClaim, addr: addr, claimant: mac}
	}
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
