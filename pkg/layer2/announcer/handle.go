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
	// lookup reports whether addr is to be answered for on this link, and how.
	lookup func(addr netip.Addr) (how answering, ok bool)
	// isOurs reports whether another Ethernet address is of a link of this node, and
	// isMember whether it is of a member node.
	isOurs, isMember func(mac net.HardwareAddr) bool
}

// answer returns how addr is answered for, with the Ethernet address to name, and false
// when it is not.
func (s station) answer(addr netip.Addr) (answering, bool) {
	how, ok := s.lookup(addr)
	if how.as == nil {
		how.as = s.mac
	}
	return how, ok
}

// handle decides about one received frame, which it neither keeps nor changes.
//
// Whatever its operation, a packet whose sender gives an announced address as its own
// claims that address (RFC 5227 2.4). Requests are answered whoever asks: hosts that
// resolve the address, hosts that verify it by unicast (RFC 4861 7.3), and hosts that
// probe whether it is free (RFC 5227 2.1.1, RFC 4862 5.4.3). A node that lingers answers
// only who asks it alone.
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
	how, announced := on.answer(packet.Target)
	switch {
	case !announced:
		return outcome{verdict: NotAnnounced, addr: packet.Target}
	case how.manner == Lingering && !packet.ToUs:
		return outcome{verdict: LeftToOwner, addr: packet.Target}
	}
	reply, err := packet.Reply(neighbor.Answer{
		As:   how.as,
		From: on.mac,
		// An answer to a probe by NDP goes to all nodes: it must not move those that know
		// the node which lingers.
		Yields: how.manner == Lingering || how.manner == Quietly && packet.IsProbe(),
	})
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
	how, announced := s.answer(of.IP)
	switch {
	case !announced:
		return outcome{verdict: NotAnnounced, addr: of.IP}
	case s.isOurs(of.MAC):
		return outcome{verdict: OwnFrame, addr: of.IP}
	case bytes.Equal(of.MAC, how.as) || s.isMember(of.MAC):
		return outcome{verdict: MemberClaim, addr: of.IP, claimant: of.MAC}
	default:
		return outcome{verdict: ForeignClaim, addr: of.IP, claimant: of.MAC}
	}
}
