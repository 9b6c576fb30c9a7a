package layer2

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
