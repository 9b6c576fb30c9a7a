package announcer

import (
	"bytes"
	"errors"
	"net"
	"net/netip"

	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

// outcome is what was decided about one received frame.
type outcome struct {
	verdict Verdict
	// addr is the request's target or the address that is claimed; invalid when the
	// frame does not tell.
	addr netip.Addr
	// reply is the frame to send when the verdict is Answered, else nil.
	reply []byte
	// claimant is where addr is said to be when the verdict is ForeignClaim or
	// MemberClaim. It is part of the received frame.
	claimant net.HardwareAddr
}

// station is one link as the pure code sees it.
type station struct {
	// mac is the Ethernet address of the link.
	mac net.HardwareAddr
	// lookup reports whether addr is to be answered for on this link, and as which
	// Ethernet address if not as mac.
	lookup func(addr netip.Addr) (as net.HardwareAddr, ok bool)
	// isOurs reports whether another Ethernet address is of a link of this node, and
	// isMember whether it is of a member node.
	isOurs, isMember func(mac net.HardwareAddr) bool
}

// answer returns the Ethernet address to answer with for addr, and false when it is
// not answered for.
func (s station) answer(addr netip.Addr) (net.HardwareAddr, bool) {
	as, ok := s.lookup(addr)
	if as == nil {
		as = s.mac
	}
	return as, ok
}

// handle decides about one received frame, which it neither keeps nor changes.
//
// Whatever its operation, a packet whose sender gives an announced address as its own
// claims that address (RFC 5227 2.4). Requests are answered whoever asks: hosts that
// resolve the address, hosts that verify it by unicast (RFC 4861 7.3), and hosts that
// probe whether it is free (RFC 5227 2.1.1, RFC 4862 5.4.3).
func handle(frame []byte, on station) outcome {
	packet, err := neighbor.Parse(frame, on.mac)
	if err != nil {
		return outcome{verdict: verdictOf(err)}
	}
	if claimed := on.claim(packet.Sender); claimed.verdict != NotAnnounced {
		return claimed
	}
	if packet.Op != neighbor.Request {
		return outcome{verdict: NotRequest, addr: packet.Target}
	}
	as, announced := on.answer(packet.Target)
	if !announced {
		return outcome{verdict: NotAnnounced, addr: packet.Target}
	}
	reply, err := packet.Reply(as, on.mac)
	if err != nil {
		return outcome{verdict: Malformed, addr: packet.Target}
	}
	return outcome{verdict: Answered, addr: packet.Target, reply: reply}
}

// verdictOf returns the verdict about a frame that the parser rejects.
func verdictOf(err error) Verdict {
	switch {
	case errors.Is(err, neighbor.ErrOwn):
		return OwnFrame
	case errors.Is(err, neighbor.ErrNotForUs):
		return NotForUs
	case errors.Is(err, neighbor.ErrOtherProtocol):
		return NotRequest
	default:
		return Malformed
	}
}

// claim judges a binding that a packet tells of. The verdict is NotAnnounced when that
// is no concern of ours. A second link of this node on the same LAN hears what the
// first one announces; that is an own frame.
func (s station) claim(of neighbor.Binding) outcome {
	as, announced := s.answer(of.IP)
	switch {
	case !announced:
		return outcome{verdict: NotAnnounced, addr: of.IP}
	case s.isOurs(of.MAC):
		return outcome{verdict: OwnFrame, addr: of.IP}
	case bytes.Equal(of.MAC, as) || s.isMember(of.MAC):
		return outcome{verdict: MemberClaim, addr: of.IP, claimant: of.MAC}
	default:
		return outcome{verdict: ForeignClaim, addr: of.IP, claimant: of.MAC}
	}
}
