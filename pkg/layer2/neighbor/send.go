package neighbor

import (
	"net"
	"net/netip"

	"github.com/mdlayher/ndp"
)

// Question is a request to be sent: who has Target?
type Question struct {
	// Sender is the host that asks. Without an address, it says nothing of itself and
	// only probes whether the target is free, see [Packet.IsProbe].
	Sender Binding
	Target netip.Addr
	// To is the one host to ask; nil asks all.
	To net.HardwareAddr
	// Nonce marks a solicitation, so that one that comes back is known (RFC 7527).
	Nonce *ndp.Nonce
}

// Frame returns the frame to send.
func (q Question) Frame() ([]byte, error) {
	if q.Target.Is4() {
		return q.arpRequest()
	}
	return q.solicitationFrame()
}

// Answer is what a request is answered with.
type Answer struct {
	// As is where the target is said to be. From sends the answer: it is another one when
	// its host stands in for the owner.
	As, From net.HardwareAddr
	// Yields is set when the answer must not replace what a host knows already: for IPv6
	// it has no Override flag. ARP has nothing of the kind.
	Yields bool
}

// Reply returns the frame that answers a request.
func (p Packet) Reply(with Answer) ([]byte, error) {
	if p.Target.Is4() {
		return p.arpReply(with)
	}
	return p.ndpReply(with)
}

// Beyond is to whom the last frame of an announcement goes, which passes bridges that
// suppress ARP and Neighbor Discovery (Linux: neigh_suppress, in EVPN fabrics). These
// flood no ARP packet whose sender is its target or is 0.0.0.0, no unsolicited
// Neighbor Advertisement, and no solicitation from ::. Nor do they flood a request for
// an address that they know: they answer that themselves. What is sent to one Ethernet
// address they forward.
type Beyond struct {
	// Subnet is an IPv4 address that no bridge knows, so that they flood a request for
	// it: hosts that have an entry for its sender update it. Invalid for none.
	Subnet netip.Addr
	// Router sends on what comes from elsewhere by IPv6. Other hosts cannot be told: a
	// solicitation changes the entries of its target only, and a target that many have,
	// such as the anycast address of routers, would have each node of the cluster
	// answer and learn every announced address. The zero value is none.
	Router Binding
}

// Announcement returns the frames that tell every host of the link where an address is
// now, in the order in which to send them. The last of them, if beyond says to whom,
// passes bridges that suppress the others.
func Announcement(who Binding, beyond Beyond) ([][]byte, error) {
	if who.IP.Is4() {
		return arpAnnouncement(who, beyond)
	}
	return ndpAnnouncement(who, beyond)
}
