package bfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// Source ports (RFC 5881 4).
	sourcePortMin, sourcePortMax = 49152, 65535
	// sourcePortTries bounds how many of them are tried; they are taken rarely.
	sourcePortTries = 64
	// trafficClass is CS6, network control.
	trafficClass = 0xc0
	// receiveBuffer is asked for listening sockets: at some 800 bytes for a packet
	// with what the kernel has around it, and doubled by the kernel, it holds fewer
	// than readMax.
	receiveBuffer = 256 << 10
)

// option is a socket option with an integer value.
type option struct {
	level, name, value int
}

// listenOptions returns the options of a listening socket: the kernel reports TTL, link and
// destination of each packet.
func listenOptions(v6 bool) []option {
	if v6 {
		return []option{
			{unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
			{unix.IPPROTO_IPV6, unix.IPV6_TCLASS, trafficClass},
		}
	}
	return []option{
		{unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer},
		{unix.IPPROTO_IP, unix.IP_RECVTTL, 1},
		{unix.IPPROTO_IP, unix.IP_PKTINFO, 1},
		{unix.IPPROTO_IP, unix.IP_TOS, trafficClass},
	}
}

// sendOptions returns the options of a session's socket.
func sendOptions(v6 bool) []option {
	if v6 {
		return []option{
			{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, maxTTL},
			{unix.IPPROTO_IPV6, unix.IPV6_TCLASS, trafficClass},
		}
	}
	return []option{
		{unix.IPPROTO_IP, unix.IP_TTL, maxTTL},
		{unix.IPPROTO_IP, unix.IP_TOS, trafficClass},
	}
}

func setOptions(fd int, options []option) error {
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("set socket option %d of level %d: %w", o.name, o.level, err)
		}
	}
	return nil
}

// socket is the descriptor of a UDP socket. It is not known to Go's poller: the
// loop waits for packets itself.
type socket int

// openSocket opens a socket that never blocks, and binds it to a port of an
// address, which is invalid for any.
func openSocket(v6 bool, prepare func(fd int) error, local netip.Addr, port int) (socket, error) {
	family := unix.AF_INET
	if v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open BFD socket: %w", err)
	}
	bind := func() error {
		if v6 {
			if err := setOptions(fd, []option{{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1}}); err != nil {
				return err
			}
		}
		if err := prepare(fd); err != nil {
			return err
		}
		to, err := sockaddr(v6, local, port)
		if err != nil {
			return err
		}
		if err := unix.Bind(fd, to); err != nil {
			return fmt.Errorf("bind BFD socket to port %d of %s: %w", port, local, err)
		}
		return nil
	}
	if err := bind(); err != nil {
		_ = unix.Close(fd) // it was never used
		return -1, err
	}
	return socket(fd), nil
}

// sockaddr returns an address as the kernel wants it. A zone is the name of a link.
func sockaddr(v6 bool, addr netip.Addr, port int) (unix.Sockaddr, error) {
	if !v6 {
		out := &unix.SockaddrInet4{Port: port}
		if addr.IsValid() {
			out.Addr = addr.As4()
		}
		return out, nil
	}
	out := &unix.SockaddrInet6{Port: port}
	if addr.IsValid() {
		out.Addr = addr.As16()
	}
	if addr.Zone() != "" {
		link, err := net.InterfaceByName(addr.Zone())
		if err != nil {
			return nil, fmt.Errorf("find link %s: %w", addr.Zone(), err)
		}
		out.ZoneId = uint32(link.Index)
	}
	return out, nil
}

func (s socket) close() { _ = unix.Close(int(s)) } // nothing in it could be lost

func (k *kernel) listen(r role) (listener, error) {
	prepare := func(fd int) error { return setOptions(fd, listenOptions(r.v6)) }
	s, err := openSocket(r.v6, prepare, netip.Addr{}, r.port())
	if err != nil {
		return nil, err
	}
	l := &kernelListener{socket: s, kernel: k}
	l.message.Name, l.message.Iov = (*byte)(unsafe.Pointer(&l.from)), &l.vector
	l.message.SetIovlen(1)
	k.listeners = append(k.listeners, l)
	return l, nil
}

// kernelListener is a wildcard socket of one family. What recvmsg(2) needs is
// made once, so that packets cost no allocation: a garbage collection stops the
// loop until ordinary threads have done their part of it.
type kernelListener struct {
	socket
	kernel   *kernel
	readable bool
	from     unix.RawSockaddrInet6 // the larger of both families
	vector   unix.Iovec
	message  unix.Msghdr
}

func (l *kernelListener) ready() bool { return l.readable }

func (l *kernelListener) close() {
	l.kernel.listeners = slices.DeleteFunc(l.kernel.listeners, func(x *kernelListener) bool { return x == l })
	l.socket.close()
}

func (l *kernelListener) read(d *datagram) (bool, error) {
	l.vector.Base = &d.buf[0]
	l.vector.SetLen(len(d.buf))
	for {
		l.message.Namelen = unix.SizeofSockaddrInet6
		l.message.Control = &d.control[0]
		l.message.SetControllen(len(d.control))
		// It never blocks, so Go's scheduler need not know of it.
		n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(l.socket),
			uintptr(unsafe.Pointer(&l.message)), unix.MSG_DONTWAIT)
		switch errno {
		case 0:
			d.n = int(n)
			d.setSource(&l.from)
			d.setControl(d.control[:l.message.Controllen])
			return true, nil
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false, nil
		default:
			return false, fmt.Errorf("read BFD packet: %w", errno)
		}
	}
}

// setSource records the address that a packet came from.
func (d *datagram) setSource(from *unix.RawSockaddrInet6) {
	d.from, d.port = netip.Addr{}, 0
	port := from.Port
	switch from.Family {
	case unix.AF_INET:
		from4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(from))
		d.from, port = netip.AddrFrom4(from4.Addr), from4.Port
	case unix.AF_INET6:
		d.from = netip.AddrFrom16(from.Addr)
	}
	var network [2]byte // the order of its bytes
	binary.NativeEndian.PutUint16(network[:], port)
	d.port = binary.BigEndian.Uint16(network[:])
}

// setControl records what the kernel reports of a packet (ip(7), ipv6(7)).
func (d *datagram) setControl(b []byte) {
	d.to, d.link, d.ttl = netip.Addr{}, 0, -1
	for len(b) >= unix.SizeofCmsghdr {
		header, data, rest, err := unix.ParseOneSocketControlMessage(b)
		if err != nil {
			return
		}
		b = rest
		switch (option{level: int(header.Level), name: int(header.Type)}) {
		case option{level: unix.IPPROTO_IP, name: unix.IP_TTL},
			option{level: unix.IPPROTO_IPV6, name: unix.IPV6_HOPLIMIT}:
			if len(data) >= 4 {
				d.ttl = int(int32(binary.NativeEndian.Uint32(data)))
			}
		case option{level: unix.IPPROTO_IP, name: unix.IP_PKTINFO}:
			// Index, the address that a reply would come from, the destination.
			if len(data) >= unix.SizeofInet4Pktinfo {
				d.link = int(binary.NativeEndian.Uint32(data))
				d.to = netip.AddrFrom4([4]byte(data[8:12]))
			}
		case option{level: unix.IPPROTO_IPV6, name: unix.IPV6_PKTINFO}:
			// The destination, index.
			if len(data) >= unix.SizeofInet6Pktinfo {
				d.to = netip.AddrFrom16([16]byte(data[:16]))
				d.link = int(binary.NativeEndian.Uint32(data[16:]))
			}
		}
	}
}

// answer sends from the address and by the link that d came to. The hop limit is
// that of a router: one less.
func (l *kernelListener) answer(d *datagram) error {
	var control []byte
	var to unix.Sockaddr
	if d.from.Is6() {
		control = append(
			unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: uint32(d.link), Addr: d.to.As16()}),
			controlMessage(unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, d.ttl-1)...)
		to = &unix.SockaddrInet6{Addr: d.from.As16(), Port: int(d.port), ZoneId: uint32(d.link)}
	} else {
		control = append(
			unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(d.link), Spec_dst: d.to.As4()}),
			controlMessage(unix.IPPROTO_IP, unix.IP_TTL, d.ttl-1)...)
		to = &unix.SockaddrInet4{Addr: d.from.As4(), Port: int(d.port)}
	}
	if err := unix.Sendmsg(int(l.socket), d.payload(), control, to, unix.MSG_DONTWAIT); err != nil {
		return fmt.Errorf("send echo packet back: %w", err)
	}
	return nil
}

// controlMessage returns a control message with an int.
func controlMessage(level, kind, value int) []byte {
	b := make([]byte, unix.CmsgSpace(4))
	header := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	header.SetLen(unix.CmsgLen(4))
	header.Level, header.Type = int32(level), int32(kind)
	binary.NativeEndian.PutUint32(b[unix.CmsgLen(0):], uint32(value))
	return b
}

// dial binds a socket to the key's local address and link and to a source port
// of its own (RFC 5881 4).
func (*kernel) dial(k Key) (sender, int, error) {
	index := 0
	if k.Link != "" {
		link, err := net.InterfaceByName(k.Link)
		if err != nil {
			return nil, 0, fmt.Errorf("find link %s: %w", k.Link, err)
		}
		index = link.Index
	}
	prepare := func(fd int) error {
		if k.Link != "" {
			if err := unix.BindToDevice(fd, k.Link); err != nil {
				return fmt.Errorf("bind BFD socket to link %s: %w", k.Link, err)
			}
		}
		if err := deafen(fd); err != nil {
			return err
		}
		return setOptions(fd, sendOptions(k.Peer.Is6()))
	}
	local := k.Local
	if local.Is6() && local.IsLinkLocalUnicast() {
		local = local.WithZone(k.Link)
	}
	var err error
	for range sourcePortTries {
		port := sourcePortMin + rand.IntN(sourcePortMax-sourcePortMin+1)
		var s socket
		s, err = openSocket(k.Peer.Is6(), prepare, local, port)
		if err == nil {
			return newKernelSender(s, k, index), index, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	return nil, 0, err
}

// deafen has the kernel drop whatever comes to a socket that nobody reads.
func deafen(fd int) error {
	drop := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	program := &unix.SockFprog{Len: uint16(len(drop)), Filter: &drop[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, program); err != nil {
		return fmt.Errorf("close BFD socket to packets: %w", err)
	}
	return nil
}

// kernelSender is a socket with where it sends to.
type kernelSender struct {
	socket
	to unix.Sockaddr
}

func newKernelSender(s socket, k Key, index int) *kernelSender {
	if k.Peer.Is4() {
		return &kernelSender{s, &unix.SockaddrInet4{Addr: k.Peer.As4(), Port: roleOf(k).port()}}
	}
	to := &unix.SockaddrInet6{Addr: k.Peer.As16(), Port: roleOf(k).port()}
	if k.Peer.IsLinkLocalUnicast() {
		to.ZoneId = uint32(index)
	}
	return &kernelSender{s, to}
}

func (s *kernelSender) send(payload []byte) error {
	if err := unix.Sendto(int(s.socket), payload, unix.MSG_DONTWAIT, s.to); err != nil {
		return fmt.Errorf("send BFD packet: %w", err)
	}
	return nil
}

// forwards reports whether the kernel forwards packets that come in by the link:
// the echo packets of RFC 5881 are addressed to their sender. Those of
// link-local peers cannot be forwarded; such peers send them to us.
func (*kernel) forwards(k Key) bool {
	if k.Peer.Is6() && k.Peer.IsLinkLocalUnicast() {
		return true
	}
	family := "ipv4"
	if k.Peer.Is6() {
		family = "ipv6"
	}
	link := k.Link
	if link == "" || k.Peer.Is6() {
		link = "all"
	}
	value, err := os.ReadFile("/proc/sys/net/" + family + "/conf/" + link + "/forwarding")
	return err == nil && strings.TrimSpace(string(value)) == "1"
}
