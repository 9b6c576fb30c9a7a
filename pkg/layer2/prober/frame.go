package prober

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/mdlayher/ndp"

	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

// sighting is what a received frame says of an address. The zero value is a
// frame that says nothing of interest.
type sighting struct {
	what sightingKind
	addr netip.Addr
	// mac is whose address it is, or who would like to have it.
	mac net.HardwareAddr
	// answer is true when the frame was sent to this link alone and is an ARP
	// reply or a Neighbor Advertisement: the host reacts to what we asked.
	answer bool
	// nonce is that of a DAD solicitation (RFC 7527), nil without one.
	nonce *ndp.Nonce
}

// sightingKind is the kind of a sighting.
type sightingKind uint8

const (
	// sawNothing: the frame says nothing that matters, or is our own.
	sawNothing sightingKind = iota
	// sawHolder: a host says that it has the address.
	sawHolder
	// sawProber: a host asks whether the address is free, to take it.
	sawProber
)

// see reads a frame that the link with the Ethernet address own received. It returns
// false for one that is malformed. The frame is not kept.
func see(frame []byte, own net.HardwareAddr) (sighting, bool) {
	packet, err := neighbor.Parse(frame, own)
	if err != nil {
		return sighting{}, !errors.Is(err, neighbor.ErrMalformed)
	}
	switch {
	case packet.IsProbe():
		return sighting{
			what:  sawProber,
			addr:  packet.Target,
			mac:   bytes.Clone(packet.Sender.MAC),
			nonce: packet.Nonce,
		}, true
	case packet.Sender.IP.IsUnspecified():
		return sighting{}, true
	default:
		return sighting{
			what:   sawHolder,
			addr:   packet.Sender.IP,
			mac:    bytes.Clone(packet.Sender.MAC),
			answer: packet.Op == neighbor.Reply && packet.ToUs,
		}, true
	}
}

// errNoSource: the link has no address from which the target could be asked.
var errNoSource = errors.New("the link has no address to ask from")

// probeFrame asks for a target from an address of the link. A target that is the
// link's own address cannot be asked there.
func probeFrame(link links.Link, addr netip.Addr, mac net.HardwareAddr) ([]byte, error) {
	if slices.ContainsFunc(link.Prefixes, func(p netip.Prefix) bool { return p.Addr() == addr }) {
		return nil, fmt.Errorf("ask for %s: it is an address of the link itself", addr)
	}
	source, ok := probeSource(link, addr)
	if !ok {
		return nil, fmt.Errorf("ask for %s: %w", addr, errNoSource)
	}
	if !neighbor.IsStation(mac) {
		mac = nil
	}
	return neighbor.Question{
		Sender: neighbor.Binding{IP: source, MAC: link.HardwareAddr},
		Target: addr,
		To:     mac,
	}.Frame()
}

// hostSource chooses the address from which to ask for addr as a host, false when
// the link has none that others would answer, or addr is its own.
func hostSource(link links.Link, addr netip.Addr) (netip.Addr, bool) {
	source, ok := probeSource(link, addr)
	return source, ok && !source.IsUnspecified() && source != addr
}

// probeSource chooses the address to ask from: one in whose subnet the target
// is. Without one, a kernel still answers a request from 0.0.0.0, which it takes
// for an ARP Probe, and a solicitation from a link-local or any other address.
func probeSource(link links.Link, addr netip.Addr) (netip.Addr, bool) {
	var linkLocal, other netip.Addr
	for _, p := range link.Prefixes {
		own := p.Addr()
		switch {
		case own.Is4() != addr.Is4():
		case !p.IsSingleIP() && p.Contains(addr):
			return own, true
		case own.IsLinkLocalUnicast() && !linkLocal.IsValid():
			linkLocal = own
		case !other.IsValid():
			other = own
		}
	}
	switch {
	case addr.Is4():
		return netip.IPv4Unspecified(), true
	case linkLocal.IsValid():
		return linkLocal, true
	default:
		return other, other.IsValid()
	}
}
