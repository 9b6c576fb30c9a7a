package watch

import (
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
)

// A MAC is an Ethernet address.
type MAC [6]byte

func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// A Claim is one frame that says where an address is.
type Claim struct {
	At   time.Time
	Addr netip.Addr
	// MAC is what the frame states, and that is where clients send: of an ARP frame the sender hardware
	// address, of a Neighbor Advertisement the option with the target's link-layer address.
	MAC MAC
	// Port is the switch port by which the frame came: the name of the host that sent it, or LINK-HOST.
	Port string
	// LAN is what the port is on.
	LAN lab.LAN
}

// Ethernet types and offsets behind the 14 bytes of the Ethernet header.
const (
	etherLen  = 14
	etherARP  = 0x0806
	etherIPv6 = 0x86dd

	arpLen = etherLen + 28

	ipv6Len         = 40
	icmpAt          = etherLen + ipv6Len
	protocolICMPv6  = 58
	typeSolicit     = 135
	typeAdvertise   = 136
	advertiseLen    = 24 // type, code, checksum, flags, target
	optionSourceMAC = 1
	optionTargetMAC = 2
)

// parseClaim reads what an Ethernet frame claims. ARP (RFC 826): whatever the operation, receivers take over
// the sender's pair of addresses. A probe (RFC 5227, 2.1.1) has no sender address and claims nothing. NDP
// (RFC 4861, 4.4): a Neighbor Advertisement claims its target.
func parseClaim(frame []byte) (addr netip.Addr, mac MAC, ok bool) {
	if len(frame) < etherLen {
		return addr, mac, false
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherARP:
		// Ethernet and IPv4, with their lengths.
		if len(frame) < arpLen || binary.BigEndian.Uint64(frame[etherLen:])>>16 != 0x0001_0800_06_04 {
			return addr, mac, false
		}
		copy(mac[:], frame[22:28])
		addr = netip.AddrFrom4([4]byte(frame[28:32]))
		return addr, mac, !addr.IsUnspecified()
	case etherIPv6:
		if len(frame) < icmpAt+advertiseLen || frame[20] != protocolICMPv6 || frame[icmpAt] != typeAdvertise {
			return addr, mac, false
		}
		copy(mac[:], frame[6:12]) // without the option, the frame's own source
		if stated, found := linkOption(frame[icmpAt+advertiseLen:], optionTargetMAC); found {
			mac = stated
		}
		return netip.AddrFrom16([16]byte(frame[icmpAt+8 : icmpAt+24])), mac, true
	}
	return addr, mac, false
}

// linkOption finds a link-layer address among NDP options (RFC 4861, 4.6.1): type, length in units of 8
// bytes, address.
func linkOption(options []byte, kind byte) (mac MAC, found bool) {
	for len(options) >= 8 {
		size := int(options[1]) * 8
		if size == 0 || size > len(options) {
			return mac, false
		}
		if options[0] == kind {
			return MAC(options[2:8]), true
		}
		options = options[size:]
	}
	return mac, false
}
