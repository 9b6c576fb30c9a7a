package watch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/mdlayher/socket"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

// linkEvents is a subscription to the kernel's news of links and addresses.
type linkEvents struct {
	conn *socket.Conn
}

// subscribeLinks subscribes: the kernel reports what happens from now on.
func subscribeLinks() (*linkEvents, error) {
	conn, err := socket.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE, "netlink", nil)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	const groups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR
	if err := conn.Bind(&unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = conn.Close() // nothing was done with it
		return nil, fmt.Errorf("subscribe to link events: %w", err)
	}
	return &linkEvents{conn: conn}, nil
}

// forward asks to look again for every event, until the socket fails or is
// closed. What the event says is not read: a message that is cut off or lost
// says the same. The kernel tells of lost ones by ENOBUFS, once, and the socket
// goes on working.
func (e *linkEvents) forward(look notify.Signal) error {
	b := make([]byte, 1)
	for {
		_, _, err := e.conn.Recvfrom(context.Background(), b, 0)
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("receive link events: %w", err)
		}
		look.Set()
	}
}

func (e *linkEvents) close() { _ = e.conn.Close() } // it was only read from

// dumpTries is how often a snapshot is taken anew because something changed
// while the kernel listed it.
const dumpTries = 5

// Read takes one snapshot of the links and their addresses.
func Read() ([]links.Link, error) {
	var err error
	for range dumpTries {
		var found []links.Link
		found, err = dumpLinks()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return found, err
		}
	}
	return nil, err
}

func dumpLinks() ([]links.Link, error) {
	devices, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	type ranked struct {
		prefix netip.Prefix
		rank   int
	}
	prefixes := make(map[int][]ranked)
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok {
			prefixes[a.LinkIndex] = append(prefixes[a.LinkIndex], ranked{p, rankOf(a.Flags)})
		}
	}
	found := linksOf(devices)
	for i := range found {
		link := &found[i]
		all := prefixes[link.Index]
		slices.SortFunc(all, func(a, b ranked) int {
			return cmp.Or(cmp.Compare(a.rank, b.rank), a.prefix.Compare(b.prefix))
		})
		for _, r := range all {
			link.Prefixes = append(link.Prefixes, r.prefix)
		}
	}
	if !links.NeedRoutes(found) {
		return found, nil
	}
	routes, err := subnetRoutes()
	if err != nil {
		return nil, err
	}
	links.ApplyRoutes(found, routes)
	return found, nil
}

// rankOf is 0 for an address that the node keeps and can be asked at, 1 for one
// that comes and goes: secondary ones, such as those of other programs that fail
// over; temporary ones (the same flag, RFC 8981); deprecated ones; and those that
// are not usable yet, or never will be.
func rankOf(flags int) int {
	const fleeting = unix.IFA_F_SECONDARY | unix.IFA_F_DEPRECATED |
		unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED
	if flags&fleeting != 0 {
		return 1
	}
	return 0
}

// subnetRoutes returns the routes of the main table to subnets that a link is in, in
// the kernel's order.
func subnetRoutes() ([]links.Route, error) {
	all, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var out []links.Route
	for _, r := range all {
		if subnet, ok := prefixOf(r.Dst); ok && r.Gw == nil && r.LinkIndex > 0 {
			out = append(out, links.Route{Subnet: subnet.Masked(), Link: r.LinkIndex, Metric: r.Priority})
		}
	}
	return out, nil
}

// linksOf returns the kernel's devices as links, without their addresses.
func linksOf(devices []netlink.Link) []links.Link {
	vrfs := make(map[int]bool)
	for _, d := range devices {
		if d.Type() == "vrf" {
			vrfs[d.Attrs().Index] = true
		}
	}
	out := make([]links.Link, 0, len(devices))
	for _, d := range devices {
		link := linkOf(d.Attrs())
		if vrfs[link.Master] {
			// The VRF is a routing domain and takes no frames from its port.
			link.VRF, link.Master = link.Master, 0
		}
		if bond, ok := d.(*netlink.Bond); ok {
			link.Balances = bond.Mode == netlink.BOND_MODE_BALANCE_ALB
		}
		out = append(out, link)
	}
	return out
}

func linkOf(attrs *netlink.LinkAttrs) links.Link {
	running := attrs.RawFlags&unix.IFF_UP != 0 && attrs.RawFlags&unix.IFF_LOWER_UP != 0
	operates := attrs.OperState == netlink.OperUp || attrs.OperState == netlink.OperUnknown
	return links.Link{
		Index:        attrs.Index,
		Name:         attrs.Name,
		HardwareAddr: attrs.HardwareAddr,
		Up:           running && operates,
		Loopback:     attrs.RawFlags&unix.IFF_LOOPBACK != 0,
		NoARP:        attrs.RawFlags&unix.IFF_NOARP != 0,
		Broadcast:    attrs.RawFlags&unix.IFF_BROADCAST != 0,
		Master:       attrs.MasterIndex,
	}
}

// prefixOf keeps the host part. The kernel gives IPv4 addresses four bytes.
func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	ones, bits := n.Mask.Size()
	if bits == net.IPv4len*8 {
		addr = addr.Unmap()
	}
	return netip.PrefixFrom(addr, ones), true
}
