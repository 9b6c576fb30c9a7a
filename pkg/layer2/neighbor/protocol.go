package neighbor

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
)

// MACLen is the length of an Ethernet address in bytes.
const MACLen = 6

// Protocol is one of the two by which the hosts of a link find each other's Ethernet
// addresses.
type Protocol uint8

// The protocols.
const (
	// ARP is the Address Resolution Protocol of IPv4 (RFC 826).
	ARP Protocol = iota
	// NDP is the part of IPv6's Neighbor Discovery that does the same (RFC 4861 7.2).
	NDP
)

// ProtocolOf returns the protocol of an address's family.
func ProtocolOf(addr netip.Addr) Protocol {
	if addr.Is4() {
		return ARP
	}
	return NDP
}

// String returns the protocol's name in logs and metrics: "arp" or "ndp".
func (p Protocol) String() string {
	if p == NDP {
		return "ndp"
	}
	return "arp"
}

// etherType returns the protocol number that a packet socket binds to.
func (p Protocol) etherType() ethernet.EtherType {
	if p == NDP {
		return ethernet.EtherTypeIPv6
	}
	return ethernet.EtherTypeARP
}

// Group returns the multicast group in which requests for addr arrive, or false when
// they are broadcast: the solicited-node group (RFC 4291 2.7.1), which all IPv6
// addresses with the same last 24 bits share.
func Group(addr netip.Addr) (netip.Addr, bool) {
	if addr.Is4() {
		return netip.Addr{}, false
	}
	group, err := ndp.SolicitedNodeMulticast(addr)
	return group, err == nil
}

// Binding is an IP address and the Ethernet address at which it is.
type Binding struct {
	IP  netip.Addr
	MAC net.HardwareAddr
}

// IsStation reports whether mac can be the address of one host: six bytes, no group,
// not all zero.
func IsStation(mac net.HardwareAddr) bool {
	return len(mac) == MACLen && mac[0]&1 == 0 && !bytes.Equal(mac, make(net.HardwareAddr, MACLen))
}

// isGroup reports whether mac is the broadcast or a multicast address.
func isGroup(mac net.HardwareAddr) bool { return len(mac) == MACLen && mac[0]&1 == 1 }

// groupMAC returns the Ethernet address of an IPv6 group (RFC 2464 7).
func groupMAC(group netip.Addr) net.HardwareAddr {
	b := group.As16()
	return net.HardwareAddr{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// envelope puts a payload into an Ethernet frame, padded to the minimum of 60 bytes
// (IEEE 802.3 3.2.8; the check sequence is the device's).
func envelope(to, from net.HardwareAddr, etherType ethernet.EtherType, payload []byte) ([]byte, error) {
	frame := ethernet.Frame{
		Destination: to,
		Source:      from,
		EtherType:   etherType,
		Payload:     payload,
	}
	b, err := frame.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encode Ethernet frame: %w", err)
	}
	return b, nil
}
