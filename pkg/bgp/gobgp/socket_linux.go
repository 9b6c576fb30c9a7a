package gobgp

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/berth-lb/berth/pkg/bgp"
)

// trafficClass marks packets as routing protocol (CS6, RFC 4594).
const trafficClass = 0xc0

// options returns the function that sets what a peer asks of a socket that connects to
// remote or listens for it, before the first packet.
func options(p bgp.Peer, remote netip.Addr) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		set := func(fd uintptr) { err = setOptions(int(fd), p, remote) }
		if control := c.Control(set); control != nil {
			return control
		}
		return err
	}
}

func setOptions(fd int, p bgp.Peer, remote netip.Addr) error {
	if p.VRF != "" {
		if err := unix.BindToDevice(fd, p.VRF); err != nil {
			return fmt.Errorf("bind to vrf %s: %w", p.VRF, err)
		}
	}
	level, ttl, minTTL, class := unix.IPPROTO_IP, unix.IP_TTL, unix.IP_MINTTL, unix.IP_TOS
	if remote.Is6() {
		level, class = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
		ttl, minTTL = unix.IPV6_UNICAST_HOPS, unix.IPV6_MINHOPCOUNT
	}
	if err := unix.SetsockoptInt(fd, level, class, trafficClass); err != nil {
		return fmt.Errorf("set the traffic class: %w", err)
	}
	hops := 0
	switch {
	case p.TTLSecurity > 0:
		hops = 255
		if err := unix.SetsockoptInt(fd, level, minTTL, 256-int(p.TTLSecurity)); err != nil {
			return fmt.Errorf("ask for a minimal TTL: %w", err)
		}
	case !p.Internal() && !p.Multihop:
		hops = 1
	}
	if hops > 0 {
		if err := unix.SetsockoptInt(fd, level, ttl, hops); err != nil {
			return fmt.Errorf("set the TTL: %w", err)
		}
	}
	return setKey(fd, remote, p.Password.Reveal())
}

// setKey has segments from and to remote carry a digest with the key (RFC 2385); "" is
// none. No error contains the key.
func setKey(fd int, remote netip.Addr, key string) error {
	if key == "" {
		return nil
	}
	sig := unix.TCPMD5Sig{Keylen: uint16(len(key))}
	if len(key) > len(sig.Key) {
		return fmt.Errorf("the password has more than %d bytes", len(sig.Key))
	}
	copy(sig.Key[:], key)
	if remote.Is4() {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&sig.Addr))
		sa.Family, sa.Addr = unix.AF_INET, remote.As4()
	} else {
		sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(&sig.Addr))
		sa.Family, sa.Addr = unix.AF_INET6, remote.As16()
	}
	if err := unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG, &sig); err != nil {
		return fmt.Errorf("set the password of the connection (does the kernel have TCP_MD5SIG?): %w", err)
	}
	return nil
}

// setSendHold has the kernel end a connection whose other side takes nothing for a time:
// it keeps its window closed, or acknowledges nothing.
func setSendHold(fd int, after time.Duration) error {
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(after.Milliseconds()))
}

// control calls do with the descriptor of an open socket.
func control(c syscall.Conn, do func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = do(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// localFor returns the address from which the routing table reaches remote. It sends no
// packet.
func localFor(p bgp.Peer, remote netip.Addr) (netip.Addr, error) {
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		bind := func(fd uintptr) {
			if p.VRF != "" {
				err = unix.BindToDevice(int(fd), p.VRF)
			}
		}
		if control := c.Control(bind); control != nil {
			return control
		}
		return err
	}}
	c, err := d.Dial("udp", netip.AddrPortFrom(remote, 9).String())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find the route to %s: %w", remote, err)
	}
	defer func() { _ = c.Close() }()
	return addrOf(c.LocalAddr()), nil
}

// addrOf returns the address of one end of a connection, with its zone.
func addrOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap()
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
