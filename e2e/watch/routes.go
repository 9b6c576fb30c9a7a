package watch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-lb/berth/e2e/lab"
)

// A RouteEvent is a change of one route in a kernel's main table.
type RouteEvent struct {
	// At is when it was read. The kernel puts no time on what it tells, so that on a busy machine it was a
	// little earlier.
	At time.Time
	// Prefix is what the route leads to.
	Prefix netip.Prefix
	// Hops are the route's next hops from now on, in the kernel's order; of a route that was deleted, those
	// that it had.
	Hops []netip.Addr
	// Deleted: the route is no more.
	Deleted bool
}

// Routes keeps what becomes of the routes of a host, both families, until it is stopped. It reads the
// kernel's own notifications (rtnetlink(7)), each with all next hops of the route: the kernel lists these
// also where the route names a group of next hops, as FRR's do.
type Routes struct {
	stop  atomic.Bool
	ended chan struct{}

	mu     sync.Mutex
	events []RouteEvent
	err    error
}

// StartRoutes begins to keep what becomes of a host's routes. All that happens after it has returned is kept.
func StartRoutes(l *lab.Lab, host string) (*Routes, error) {
	var fd int
	// The socket stays in the namespace in which it was made, whoever reads from it.
	err := l.Host(host).Run(func() (err error) {
		fd, err = openRoutes()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("routes of %s: %w", host, err)
	}
	r := &Routes{ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		defer unix.Close(fd) //nolint:errcheck // it was only read from
		if err := r.read(fd); err != nil {
			r.mu.Lock()
			r.err = fmt.Errorf("routes of %s: %w", host, err)
			r.mu.Unlock()
		}
	}()
	return r, nil
}

func openRoutes() (fd int, err error) {
	fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return -1, err
	}
	timeout := unix.NsecToTimeval(pollLimit.Nanoseconds())
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
		unix.Bind(fd, &unix.SockaddrNetlink{
			Family: unix.AF_NETLINK,
			Groups: unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE,
		}),
	)
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// read keeps events until Stop. What the kernel had to drop (ENOBUFS) is an error: a judge who missed a
// change must not say when the last one was.
func (r *Routes) read(fd int) error {
	buffer := make([]byte, 64<<10)
	for !r.stop.Load() {
		n, from, err := unix.Recvfrom(fd, buffer, 0)
		at := time.Now()
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		}
		if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 {
			continue // not the kernel
		}
		messages, err := syscall.ParseNetlinkMessage(buffer[:n])
		if err != nil {
			return err
		}
		for _, m := range messages {
			e, ok := parseRoute(m)
			if !ok {
				continue
			}
			e.At = at
			r.mu.Lock()
			r.events = append(r.events, e)
			r.mu.Unlock()
		}
	}
	return nil
}

// Events returns what happened since then, in the order in which it did.
func (r *Routes) Events(since time.Time) []RouteEvent {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []RouteEvent
	for _, e := range r.events {
		if !e.At.Before(since) {
			out = append(out, e)
		}
	}
	return out
}

// Stop ends it. The error tells if something was missed.
func (r *Routes) Stop() error {
	r.stop.Store(true)
	<-r.ended
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// parseRoute reads an RTM_NEWROUTE or RTM_DELROUTE: a struct rtmsg, then attributes (rtnetlink(7)). It is
// false for whatever else comes, and for routes that are not in the main table, do not lead to a host by
// unicast, or are only remembered (RTM_F_CLONED).
func parseRoute(m syscall.NetlinkMessage) (e RouteEvent, ok bool) {
	if m.Header.Type != unix.RTM_NEWROUTE && m.Header.Type != unix.RTM_DELROUTE ||
		len(m.Data) < unix.SizeofRtMsg {
		return e, false
	}
	family, bits, table, kind := m.Data[0], int(m.Data[1]), uint32(m.Data[4]), m.Data[7]
	flags := binary.NativeEndian.Uint32(m.Data[8:])
	attributes, ok := parseAttributes(m.Data[unix.SizeofRtMsg:])
	if !ok || kind != unix.RTN_UNICAST || flags&unix.RTM_F_CLONED != 0 {
		return e, false
	}
	destination := netip.IPv4Unspecified() // the default route names none
	if family == unix.AF_INET6 {
		destination = netip.IPv6Unspecified()
	}
	for _, a := range attributes {
		switch a.kind {
		case unix.RTA_DST:
			destination, _ = netip.AddrFromSlice(a.value)
		case unix.RTA_TABLE:
			if len(a.value) == 4 {
				table = binary.NativeEndian.Uint32(a.value)
			}
		case unix.RTA_MULTIPATH:
			e.Hops = append(e.Hops, multipathHops(a.value)...)
		}
	}
	e.Hops = append(e.Hops, gateways(attributes)...)
	e.Prefix = netip.PrefixFrom(destination, bits)
	e.Deleted = m.Header.Type == unix.RTM_DELROUTE
	return e, e.Prefix.IsValid() && table == unix.RT_TABLE_MAIN
}

// An attribute is a struct rtattr and what belongs to it.
type attribute struct {
	kind  uint16
	value []byte
}

// parseAttributes is false if a length is wrong. Each attribute begins at a multiple of four bytes.
func parseAttributes(b []byte) (out []attribute, ok bool) {
	for len(b) >= unix.SizeofRtAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtAttr || length > len(b) {
			return nil, false
		}
		out = append(out, attribute{binary.NativeEndian.Uint16(b[2:]), b[unix.SizeofRtAttr:length]})
		b = b[min(aligned(length), len(b)):]
	}
	return out, true
}

func aligned(length int) int { return (length + 3) &^ 3 }

// multipathHops reads the value of RTA_MULTIPATH: for each next hop a struct rtnexthop, whose length counts
// the attributes that follow it.
func multipathHops(b []byte) (hops []netip.Addr) {
	for len(b) >= unix.SizeofRtNexthop {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtNexthop || length > len(b) {
			break
		}
		if attributes, ok := parseAttributes(b[unix.SizeofRtNexthop:length]); ok {
			hops = append(hops, gateways(attributes)...)
		}
		b = b[min(aligned(length), len(b)):]
	}
	return hops
}

// gateways reads RTA_GATEWAY, and RTA_VIA: a next hop of the other family, behind two bytes that say which.
func gateways(attributes []attribute) (hops []netip.Addr) {
	for _, a := range attributes {
		value := a.value
		if a.kind == unix.RTA_VIA {
			value = value[min(2, len(value)):]
		} else if a.kind != unix.RTA_GATEWAY {
			continue
		}
		if addr, ok := netip.AddrFromSlice(value); ok {
			hops = append(hops, addr)
		}
	}
	return hops
}
