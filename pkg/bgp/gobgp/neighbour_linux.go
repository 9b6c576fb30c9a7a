package gobgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/mdlayher/ndp"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// neighbourWait is how long the hosts of a link have to answer.
const neighbourWait = 2 * time.Second

// neighbour finds the router at the other end of a link by its link-local
// address, which it returns with the zone. It must be the only host there, or
// the only one that says it is a router.
func neighbour(ctx context.Context, ifname string) (netip.Addr, error) {
	link, err := net.InterfaceByName(ifname)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("interface %s: %w", ifname, err)
	}
	if err := advertise(link); err != nil {
		return netip.Addr{}, err
	}
	if addr, err := onlyNeighbour(link); !errors.Is(err, errNobody) {
		return addr, err
	}
	// Whoever answers has to ask for our link-layer address first, so that the
	// kernel learns of it.
	if err := ask(link); err != nil {
		return netip.Addr{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, neighbourWait)
	defer cancel()
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		addr, err := onlyNeighbour(link)
		if !errors.Is(err, errNobody) {
			tick.Stop()
			return addr, err
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return netip.Addr{}, err
		case <-tick.C:
		}
	}
}

// errNobody: the kernel knows no neighbour on the link.
var errNobody = errors.New("no router is found by its IPv6 link-local address")

// onlyNeighbour returns the link's router, or its only host, from the kernel's neighbour
// table.
func onlyNeighbour(link *net.Interface) (netip.Addr, error) {
	list, err := netlink.NeighList(link.Index, unix.AF_INET6)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("read the neighbours on %s: %w", link.Name, err)
	}
	var hosts, routers []netip.Addr
	for _, n := range list {
		const useless = unix.NUD_FAILED | unix.NUD_INCOMPLETE | unix.NUD_NOARP
		addr, ok := netip.AddrFromSlice(n.IP)
		if !ok || !addr.IsLinkLocalUnicast() || n.State&useless != 0 {
			continue
		}
		hosts = append(hosts, addr)
		if n.Flags&unix.NTF_ROUTER != 0 {
			routers = append(routers, addr)
		}
	}
	switch {
	case len(routers) == 1:
		hosts = routers
	case len(hosts) == 0:
		return netip.Addr{}, fmt.Errorf("interface %s: %w", link.Name, errNobody)
	case len(hosts) > 1:
		return netip.Addr{}, fmt.Errorf("interface %s: %d hosts are on the link, and it is not clear "+
			"which is the router", link.Name, len(hosts))
	}
	// By number: package net remembers names of links for a minute, also of
	// ones that are gone.
	return hosts[0].WithZone(strconv.Itoa(link.Index)), nil
}

// advertise sends a Router Advertisement (RFC 4861, 4.2): FRR and routers that follow it
// take unnumbered sessions only from hosts that have sent one. Its lifetime of 0 says that
// the node is nobody's default router.
func advertise(link *net.Interface) error {
	m := &ndp.RouterAdvertisement{Options: []ndp.Option{
		&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: link.HardwareAddr},
	}}
	octets, err := ndp.MarshalMessage(m)
	if err != nil {
		return fmt.Errorf("make a Router Advertisement: %w", err)
	}
	return multicast(link, octets)
}

// ask sends an echo request to all hosts of a link.
func ask(link *net.Interface) error {
	echo := icmp.Message{Type: ipv6.ICMPTypeEchoRequest, Body: &icmp.Echo{ID: 179, Seq: 1}}
	octets, err := echo.Marshal(nil)
	if err != nil {
		return fmt.Errorf("make an echo request: %w", err)
	}
	return multicast(link, octets)
}

// multicast sends an ICMPv6 message to all hosts of a link, such that they can
// see that it comes from there (hop limit 255). The kernel fills in the
// checksum.
func multicast(link *net.Interface, message []byte) error {
	c, err := icmp.ListenPacket("ip6:ipv6-icmp", "::")
	if err == nil {
		defer func() { _ = c.Close() }()
		p := c.IPv6PacketConn()
		err = errors.Join(
			p.SetMulticastHopLimit(255),
			p.SetMulticastInterface(link),
			p.SetMulticastLoopback(false), // or the kernel would take this node for its own neighbour
		)
	}
	if err == nil {
		all := &net.IPAddr{IP: net.IPv6linklocalallnodes, Zone: strconv.Itoa(link.Index)}
		_, err = c.WriteTo(message, all)
	}
	if err != nil {
		return fmt.Errorf("look for routers on %s: %w", link.Name, err)
	}
	return nil
}

// linkAddresses returns addresses of the link that has local: the first of each family
// that others than its neighbours can use.
func linkAddresses(local netip.Addr) (v4, v6 netip.Addr) {
	links, err := net.Interfaces()
	if err != nil {
		return v4, v6
	}
	for _, link := range links {
		list, err := link.Addrs()
		if err != nil {
			continue
		}
		var first4, first6 netip.Addr
		here := false
		for _, a := range list {
			prefix, err := netip.ParsePrefix(a.String())
			if err != nil {
				continue
			}
			addr := prefix.Addr().Unmap()
			switch {
			case addr.Is4() && !first4.IsValid():
				first4 = addr
			case addr.Is6() && !addr.IsLinkLocalUnicast() && !first6.IsValid():
				first6 = addr
			}
			here = here || addr == local.WithZone("") && (local.Zone() == "" || local.Zone() == link.Name)
		}
		if here && link.Flags&net.FlagLoopback == 0 {
			return first4, first6
		}
	}
	return v4, v6
}
