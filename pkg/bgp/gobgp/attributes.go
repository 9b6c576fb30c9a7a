package gobgp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/osrg/gobgp/v4/pkg/apiutil"
	packet "github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/berth-lb/berth/pkg/bgp"
)

// batch bounds how many paths gobgp is given at once.
const batch = 512

// defaultLocalPref is the LOCAL_PREF of routes for which none is configured.
const defaultLocalPref = 100

// nextHops are the next hops of a session's routes. The zero Addr is none: routes of the
// family are withheld.
type nextHops struct{ v4, v6 netip.Addr }

func (n nextHops) of(prefix netip.Prefix) netip.Addr {
	if prefix.Addr().Is4() {
		return n.v4
	}
	return n.v6
}

// paths turns routes into gobgp's form. All must have a next hop.
func paths(peer bgp.Peer, routes []bgp.Route, via nextHops) ([]*apiutil.Path, error) {
	out := make([]*apiutil.Path, 0, len(routes))
	now := time.Now().Unix()
	var last []packet.PathAttributeInterface
	for i, r := range routes {
		hop := via.of(r.Prefix)
		// Routes with the same attributes stand together more often than not.
		if i == 0 || hop != via.of(routes[i-1].Prefix) || !r.Attributes.Equal(routes[i-1].Attributes) {
			var err error
			if last, err = attributes(peer, r.Attributes, hop); err != nil {
				return nil, fmt.Errorf("route %s: %w", r.Prefix, err)
			}
		}
		p, err := pathOf(r.Prefix)
		if err != nil {
			return nil, err
		}
		p.Attrs, p.Age = last, now
		out = append(out, p)
	}
	return out, nil
}

func pathOf(prefix netip.Prefix) (*apiutil.Path, error) {
	nlri, err := packet.NewIPAddrPrefix(prefix)
	if err != nil {
		return nil, fmt.Errorf("prefix %s: %w", prefix, err)
	}
	family := packet.RF_IPv6_UC
	if prefix.Addr().Is4() {
		family = packet.RF_IPv4_UC
	}
	return &apiutil.Path{Family: family, Nlri: nlri}, nil
}

func attributes(peer bgp.Peer, a bgp.Attributes, hop netip.Addr) ([]packet.PathAttributeInterface, error) {
	next, err := packet.NewPathAttributeNextHop(hop)
	if err != nil {
		return nil, fmt.Errorf("next hop %s: %w", hop, err)
	}
	const igp = 0
	out := []packet.PathAttributeInterface{packet.NewPathAttributeOrigin(igp), next}
	if a.Prepend > 0 && !peer.Internal() {
		list := make([]uint32, a.Prepend)
		for i := range list {
			list[i] = peer.LocalASN
		}
		out = append(out, packet.NewPathAttributeAsPath([]packet.AsPathParamInterface{
			packet.NewAs4PathParam(packet.BGP_ASPATH_ATTR_TYPE_SEQ, list)}))
	}
	if a.HasMED {
		out = append(out, packet.NewPathAttributeMultiExitDisc(a.MED))
	}
	if peer.Internal() {
		pref := a.LocalPref
		if pref == 0 && !hasGracefulShutdown(a) {
			pref = defaultLocalPref
		}
		out = append(out, packet.NewPathAttributeLocalPref(pref))
	}
	return append(out, communities(a.Communities)...), nil
}

// hasGracefulShutdown reports whether a route carries GRACEFUL_SHUTDOWN (RFC 8326).
func hasGracefulShutdown(a bgp.Attributes) bool {
	for _, c := range a.Communities {
		if c == bgp.GracefulShutdown {
			return true
		}
	}
	return false
}

// withGracefulShutdown returns the routes with GRACEFUL_SHUTDOWN, which every router shall
// avoid (RFC 8326).
func withGracefulShutdown(routes []bgp.Route) []bgp.Route {
	out := make([]bgp.Route, len(routes))
	for i, r := range routes {
		out[i] = bgp.Route{Prefix: r.Prefix, Attributes: r.Leaving()}
	}
	return out
}

func communities(list []bgp.Community) []packet.PathAttributeInterface {
	var standard []uint32
	var large []*packet.LargeCommunity
	var extended []packet.ExtendedCommunityInterface
	for _, c := range list {
		switch c.Kind {
		case bgp.Standard:
			standard = append(standard, c.A)
		case bgp.Large:
			large = append(large, packet.NewLargeCommunity(c.A, c.B, c.C))
		case bgp.Extended:
			octets := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, c.A), c.B)
			if e, err := packet.ParseExtended(octets); err == nil { // eight octets are always one
				extended = append(extended, e)
			}
		}
	}
	var out []packet.PathAttributeInterface
	if len(standard) > 0 {
		out = append(out, packet.NewPathAttributeCommunities(standard))
	}
	if len(extended) > 0 {
		out = append(out, packet.NewPathAttributeExtendedCommunities(extended))
	}
	if len(large) > 0 {
		out = append(out, packet.NewPathAttributeLargeCommunities(large))
	}
	return out
}
