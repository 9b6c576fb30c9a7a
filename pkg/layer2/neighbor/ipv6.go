package neighbor

import (
	"encoding/binary"
	"net/netip"
)

// The parts of an IPv6 packet (RFC 8200 3) that Neighbor Discovery uses.
const (
	ipv6Len        = 40
	protocolICMPv6 = 58
	// ndpHopLimit proves that a packet was not forwarded (RFC 4861 3.1).
	ndpHopLimit = 255
)

// icmpPacket is an IPv6 packet with a solicitation or an advertisement in it, that was
// not forwarded and has the right checksum.
type icmpPacket struct {
	source, destination netip.Addr
	message             []byte
}

// parseICMPv6 does what the validation of solicitations and advertisements has in
// common (RFC 4861 7.1.1 and 7.1.2).
func parseICMPv6(b []byte) (icmpPacket, error) {
	if len(b) < ipv6Len || b[0]>>4 != 6 {
		return icmpPacket{}, ErrMalformed
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if len(b) < ipv6Len+length {
		return icmpPacket{}, ErrMalformed
	}
	next, message, ok := skipExtensions(b[6], b[ipv6Len:ipv6Len+length])
	if !ok {
		return icmpPacket{}, ErrMalformed
	}
	if next != protocolICMPv6 || len(message) == 0 ||
		message[0] != typeSolicitation && message[0] != typeAdvertisement {
		return icmpPacket{}, ErrOtherProtocol
	}
	source, destination := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	if b[7] != ndpHopLimit || len(message) < solicitationLen || message[1] != 0 ||
		!source.IsUnspecified() && !CanOwn(source) || !checksumOK(b[8:40], message) {
		return icmpPacket{}, ErrMalformed
	}
	return icmpPacket{source: source, destination: destination, message: message}, nil
}

// checksumOK verifies the checksum of an ICMPv6 message (RFC 4443 2.3). The addresses
// are the 32 bytes of source and destination.
func checksumOK(addresses, message []byte) bool {
	sum := uint32(protocolICMPv6) + uint32(len(message))
	for _, part := range [][]byte{addresses, message} {
		for ; len(part) > 1; part = part[2:] {
			sum += uint32(binary.BigEndian.Uint16(part))
		}
		if len(part) == 1 {
			sum += uint32(part[0]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return sum == 0xffff
}

// Next-header values of the IPv6 extension headers that may come before Neighbor
// Discovery (RFC 8200 4). Both are lists of options.
const (
	headerHopByHop    = 0
	headerFragment    = 44
	headerDestination = 60
)

// maxExtensions is how many extension headers are followed: hop-by-hop options
// once and destination options twice is all that RFC 8200 4.1 knows.
const maxExtensions = 3

// skipExtensions returns what follows the extension headers of an IPv6 payload,
// and its protocol. Neighbor Discovery comes without any in practice, but hosts
// that check what they get (RFC 4861 7.1) would take it with options that may be
// skipped. It is not to be taken from fragments (RFC 6980 5), nor with an option
// that a host which does not know it has to refuse (RFC 8200 4.2); ok is false
// for these and for headers that are cut off. Any other header is returned as the
// protocol.
func skipExtensions(next byte, b []byte) (protocol byte, rest []byte, ok bool) {
	for n := 0; next == headerHopByHop || next == headerDestination || next == headerFragment; n++ {
		if next == headerFragment || n == maxExtensions || next == headerHopByHop && n > 0 || len(b) < 8 {
			return 0, nil, false
		}
		length := 8 * (1 + int(b[1]))
		if len(b) < length || !maySkip(b[2:length]) {
			return 0, nil, false
		}
		next, b = b[0], b[length:]
	}
	return next, b, true
}

// maySkip reports whether all options may be skipped by a host that knows none of
// them: the highest two bits of the type are zero.
func maySkip(options []byte) bool {
	for len(options) > 0 {
		if options[0] == 0 { // Pad1 has no length
			options = options[1:]
			continue
		}
		if options[0]>>6 != 0 || len(options) < 2 || len(options) < 2+int(options[1]) {
			return false
		}
		options = options[2+int(options[1]):]
	}
	return true
}
