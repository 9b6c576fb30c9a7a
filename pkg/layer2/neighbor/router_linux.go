package neighbor

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// anywhere is an address that no LAN has: a route to it is the default route, or one
// as wide.
var anywhere = net.ParseIP("2000::")

// Router returns the IPv6 router to which this node's default route leads out of the
// link with that index, as the kernel knows it; the zero value when it knows none.
func Router(ifindex int) Binding {
	routes, err := netlink.RouteGetWithOptions(anywhere, &netlink.RouteGetOptions{OifIndex: ifindex})
	if err != nil || len(routes) == 0 {
		return Binding{} // there is no such route
	}
	gateway, ok := netip.AddrFromSlice(routes[0].Gw)
	if !ok || !gateway.Is6() {
		return Binding{}
	}
	neighbours, err := netlink.NeighList(ifindex, netlink.FAMILY_V6)
	if err != nil {
		return Binding{}
	}
	for _, n := range neighbours {
		known := n.State&(netlink.NUD_FAILED|netlink.NUD_INCOMPLETE) == 0
		if n.IP.Equal(routes[0].Gw) && IsStation(n.HardwareAddr) && known {
			return Binding{IP: gateway, MAC: n.HardwareAddr}
		}
	}
	return Binding{}
}
