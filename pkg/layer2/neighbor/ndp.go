package neighbor

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
)

const (
	// typeSolicitation and typeAdvertisement are the ICMPv6 types of a Neighbor
	// Solicitation and a Neighbor Advertisement.
	typeSolicitation  = 135
	typeAdvertisement = 136
	// solicitationLen is the length of either without options (RFC 4861 4.3 and 4.4).
	solicitationLen = 24
)

// allNodes is the group of every IPv6 host on a link (RFC 4291 2.7.1).
var allNodes = netip.MustParseAddr("ff02::1")

// parseNDP decodes a Neighbor Solicitation or Advertisement, validated as RFC 4861
// 7.1.1 and 7.1.2 demand.
func parseNDP(frame *ethernet.Frame) (Packet, error) {
	packet, err := parseICMPv6(frame.Payload)
	if err != nil {
		return Packet{}, err
	}
	parsed, err := ndp.ParseMessage(packet.message)
	if err != nil {
		return Packet{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}

	var p Packet
	switch m := parsed.(type) {
	case *ndp.NeighborSolicitation:
		p, err = parseSolicitation(m, packet, frame.Source)
	case *ndp.NeighborAdvertisement:
		p, err = parseAdvertisement(m, packet, frame.Source)
	default:
		return Packet{}, ErrOtherProtocol
	}
	if err != nil {
		return Packet{}, err
	}
	if !CanOwn(p.Target) || !IsStation(p.Sender.MAC) {
		return Packet{}, ErrMalformed
	}
	return p, nil
}

// parseSolicitation validates a solicitation. One from a host without address goes to the
// group and says nothing of a link-layer address (RFC 4861 7.1.1).
func parseSolicitation(
	ns *ndp.NeighborSolicitation, packet icmpPacket, from net.HardwareAddr,
) (Packet, error) {
	group, ok := Group(ns.TargetAddress)
	if !ok {
		return Packet{}, ErrMalformed
	}
	mac, hasOption := linkLayerAddress(ns.Options, ndp.Source, from)
	if packet.source.IsUnspecified() && (packet.destination != group || hasOption) {
		return Packet{}, ErrMalformed
	}
	if packet.destination != group && packet.destination != ns.TargetAddress {
		return Packet{}, ErrNotForUs
	}

	p := Packet{
		Op:     Request,
		Sender: Binding{IP: packet.source, MAC: mac},
		Target: ns.TargetAddress,
	}
	for _, option := range ns.Options {
		if nonce, ok := option.(*ndp.Nonce); ok {
			p.Nonce = nonce
		}
	}
	return p, nil
}

// parseAdvertisement validates an advertisement. One to a group is never solicited (RFC
// 4861 7.1.2).
func parseAdvertisement(
	na *ndp.NeighborAdvertisement, packet icmpPacket, from net.HardwareAddr,
) (Packet, error) {
	if packet.destination.IsMulticast() && na.Solicited {
		return Packet{}, ErrMalformed
	}
	mac, _ := linkLayerAddress(na.Options, ndp.Target, from)
	return Packet{
		Op:     Reply,
		Sender: Binding{IP: na.TargetAddress, MAC: mac},
		Target: na.TargetAddress,
	}, nil
}

// linkLayerAddress returns the address of the last such option, or otherwise.
func linkLayerAddress(
	options []ndp.Option, direction ndp.Direction, otherwise net.HardwareAddr,
) (mac net.HardwareAddr, found bool) {
	mac = otherwise
	for _, option := range options {
		if lla, ok := option.(*ndp.LinkLayerAddress); ok && lla.Direction == direction {
			mac, found = lla.Addr, true
		}
	}
	return mac, found
}

// ndpReply answers a solicitation as RFC 4861 7.2.4 says: to the one who asked and
// with Solicited set, or to all nodes and without it when the one who asked has no
// address yet. Override is set, since the address is an ordinary unicast one and the
// answer carries our link-layer address; a host that missed the burst then learns the
// new place of the address at once. A stand-in is a proxy and leaves it unset, so that
// the owner's word counts more (RFC 4861 7.2.8).
// So does one that yields.
func (p Packet) ndpReply(with Answer) ([]byte, error) {
	reply := advertising{
		who:      Binding{IP: p.Target, MAC: with.As},
		from:     with.From,
		to:       p.Sender,
		override: bytes.Equal(with.As, with.From) && !with.Yields,
	}
	if p.IsProbe() {
		reply.to = toAllNodes
	} else {
		reply.solicited = true
	}
	return reply.frame()
}

// ndpAnnouncement is one unsolicited Neighbor Advertisement to all nodes, with
// Override set so that it replaces what they have (RFC 4861 7.2.6). Bridges that
// suppress NDP drop it; the same to the router alone they pass.
func ndpAnnouncement(who Binding, beyond Beyond) ([][]byte, error) {
	a := advertising{who: who, from: who.MAC, to: toAllNodes, override: true}
	frame, err := a.frame()
	if err != nil {
		return nil, err
	}
	if !IsStation(beyond.Router.MAC) {
		return [][]byte{frame}, nil
	}
	a.to = beyond.Router
	second, err := a.frame()
	if err != nil {
		return nil, err
	}
	return [][]byte{frame, second}, nil
}

// toAllNodes is where every IPv6 host of the link is reached.
var toAllNodes = Binding{IP: allNodes, MAC: groupMAC(allNodes)}

// advertising is one Neighbor Advertisement.
//
// It comes from the announced address itself, as it does from a kernel that has it, so
// a link needs no link-local address of its own. The Router flag is never set: nobody
// is to take the address for a router (RFC 4861 4.4).
type advertising struct {
	who Binding
	// from is the Ethernet source.
	from                net.HardwareAddr
	to                  Binding
	solicited, override bool
}

func (a advertising) frame() ([]byte, error) {
	return ndpFrame(&ndp.NeighborAdvertisement{
		Solicited:     a.solicited,
		Override:      a.override,
		TargetAddress: a.who.IP,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: a.who.MAC}},
	}, Binding{IP: a.who.IP, MAC: a.from}, a.to)
}

// solicitationFrame asks who has the target: one host, or the solicited-node group.
func (q Question) solicitationFrame() ([]byte, error) {
	to := Binding{IP: q.Target, MAC: q.To}
	if q.To == nil {
		group, ok := Group(q.Target)
		if !ok {
			return nil, fmt.Errorf("no solicited-node group of %s", q.Target)
		}
		to = Binding{IP: group, MAC: groupMAC(group)}
	}
	ns := &ndp.NeighborSolicitation{TargetAddress: q.Target}
	sender := q.Sender
	if sender.IP.IsValid() && !sender.IP.IsUnspecified() {
		ns.Options = append(ns.Options, &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: sender.MAC})
	} else {
		sender.IP = netip.IPv6Unspecified()
	}
	if q.Nonce != nil {
		ns.Options = append(ns.Options, q.Nonce)
	}
	return ndpFrame(ns, sender, to)
}

// ndpFrame puts a message into IPv6 and Ethernet.
func ndpFrame(m ndp.Message, from, to Binding) ([]byte, error) {
	message, err := ndp.MarshalMessageChecksum(m, from.IP, to.IP)
	if err != nil {
		return nil, fmt.Errorf("encode Neighbor Discovery message: %w", err)
	}
	packet := make([]byte, ipv6Len, ipv6Len+len(message))
	packet[0] = 6 << 4
	binary.BigEndian.PutUint16(packet[4:], uint16(len(message)))
	packet[6], packet[7] = protocolICMPv6, ndpHopLimit
	copy(packet[8:], from.IP.AsSlice())
	copy(packet[24:], to.IP.AsSlice())
	return envelope(to.MAC, from.MAC, ethernet.EtherTypeIPv6, append(packet, message...))
}
