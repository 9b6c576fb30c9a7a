package stranger

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Claims says which addresses are claimed by forged frames, and how.
type Claims struct {
	// Link is the name of the interface that sends, in the network namespace of the thread that calls Open.
	Link string
	// Addresses are claimed in turn: an IPv4 address by a gratuitous ARP reply, an IPv6 address by a Neighbor
	// Advertisement.
	Addresses []netip.Addr
	// MACs is how many Ethernet addresses are stated in turn, 1 to 65536.
	MACs int
	// PerSecond is how many frames are sent.
	PerSecond int
	// For is how long.
	For time.Duration
}

// A Forger sends what Claims says.
type Forger struct {
	claims Claims
	socket int
	to     *unix.SockaddrLinklayer
}

// Open prepares to send on the network namespace of the thread that calls it.
func (c Claims) Open() (*Forger, error) {
	link, err := net.InterfaceByName(c.Link)
	if err != nil {
		return nil, err
	}
	if len(c.Addresses) == 0 || c.MACs < 1 || c.MACs > 1<<16 || c.PerSecond < 1 {
		return nil, errors.New("claims: want addresses, 1 to 65536 MACs, and a rate")
	}
	// Protocol 0: it only sends.
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &Forger{c, socket, &unix.SockaddrLinklayer{Ifindex: link.Index, Halen: 6}}, nil
}

// Run sends until the time is over, and returns how many frames were sent. It may be called once.
func (f *Forger) Run(ctx context.Context) int {
	defer unix.Close(f.socket) //nolint:errcheck // it was only written to
	ctx, cancel := context.WithTimeout(ctx, f.claims.For)
	defer cancel()
	n, sent := 0, 0
	every(ctx, f.claims.PerSecond, func() {
		addr := f.claims.Addresses[n%len(f.claims.Addresses)]
		frame := claim(macOf(n/len(f.claims.Addresses)%f.claims.MACs), addr)
		n++
		if unix.Sendto(f.socket, frame, 0, f.to) == nil {
			sent++
		}
	})
	return sent
}

// macOf is one of the Ethernet addresses that are stated: given by nobody, and unlike those of a lab's hosts.
func macOf(i int) [6]byte { return [6]byte{0x06, 0xba, 0xd0, 0x00, byte(i >> 8), byte(i)} }

// claim is a frame to everybody that says that an address is at a MAC.
func claim(mac [6]byte, addr netip.Addr) []byte {
	if addr.Is4() {
		return arpClaim(mac, addr)
	}
	return advertisement(mac, addr)
}

const (
	etherARP  = 0x0806
	etherIPv6 = 0x86dd
)

// arpClaim is an ARP reply to all (RFC 826; RFC 5227, section 3).
func arpClaim(mac [6]byte, addr netip.Addr) []byte {
	f := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	f = append(f, mac[:]...)
	f = binary.BigEndian.AppendUint16(f, etherARP)
	f = append(f, 0, 1, 8, 0, 6, 4, 0, 2) // Ethernet, IPv4, lengths, reply
	f = append(f, mac[:]...)
	f = append(f, addr.AsSlice()...)
	f = append(f, mac[:]...)
	return append(f, addr.AsSlice()...)
}

// advertisement is an unsolicited Neighbor Advertisement to all nodes, with the override flag (RFC 4861, 4.4
// and 7.2.6).
func advertisement(mac [6]byte, addr netip.Addr) []byte {
	const protocolICMPv6, advertise, override, optionTarget = 58, 136, 0x20, 2
	allNodes := [16]byte{0xff, 0x02, 15: 1}
	target := addr.As16()
	icmp := []byte{advertise, 0, 0, 0, override, 0, 0, 0}
	icmp = append(icmp, target[:]...)
	icmp = append(icmp, optionTarget, 1)
	icmp = append(icmp, mac[:]...)
	binary.BigEndian.PutUint16(icmp[2:], checksum(target, allNodes, protocolICMPv6, icmp))

	f := []byte{0x33, 0x33, 0, 0, 0, 1} // RFC 2464, section 7
	f = append(f, mac[:]...)
	f = binary.BigEndian.AppendUint16(f, etherIPv6)
	f = append(f, 0x60, 0, 0, 0, 0, byte(len(icmp)), protocolICMPv6, 255)
	f = append(f, target[:]...)
	f = append(f, allNodes[:]...)
	return append(f, icmp...)
}

// checksum is the Internet checksum over the pseudo-header of IPv6 and a message (RFC 8200, 8.1).
func checksum(from, to [16]byte, protocol byte, message []byte) uint16 {
	var sum uint32
	add := func(b []byte) {
		for i := 0; i+1 < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
		if len(b)%2 == 1 {
			sum += uint32(b[len(b)-1]) << 8
		}
	}
	add(from[:])
	add(to[:])
	add([]byte{0, 0, 0, byte(len(message)), 0, 0, 0, protocol})
	add(message)
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
