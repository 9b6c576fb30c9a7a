package watch

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-lb/berth/e2e/lab"
)

// An Asker asks the LAN for addresses, all of them at every interval, with the addresses of the host it runs
// on.
type Asker struct {
	stop chan struct{}
	done sync.WaitGroup
}

// StartAsker begins to ask by eth0. The host must not be the one whose loss is measured: its kernel learns
// from the answers.
func StartAsker(
	l *lab.Lab, host string, from lab.Addresses, addresses []netip.Addr, interval time.Duration,
) (*Asker, error) {
	return StartAskerOn(l, host, "eth0", from, addresses, interval)
}

// StartAskerOn is StartAsker for another interface of the host.
func StartAskerOn(
	l *lab.Lab, host, name string, from lab.Addresses, addresses []netip.Addr, interval time.Duration,
) (*Asker, error) {
	var fd, index int
	var mac MAC
	err := l.Host(host).Run(func() error {
		link, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		copy(mac[:], link.HardwareAddr)
		index = link.Index
		// Protocol 0: it only sends.
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask from %s: %w", host, err)
	}
	frames := make([][]byte, len(addresses))
	for i, addr := range addresses {
		if addr.Is4() {
			frames[i] = arpRequest(mac, from.V4, addr)
		} else {
			frames[i] = solicitation(mac, from.V6, addr)
		}
	}
	a := &Asker{stop: make(chan struct{})}
	a.done.Go(func() {
		defer unix.Close(fd) //nolint:errcheck // it was only written to
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		to := &unix.SockaddrLinklayer{Ifindex: index, Halen: 6}
		for {
			for _, frame := range frames {
				// A frame that does not fit into the queue is asked again soon.
				_ = unix.Sendto(fd, frame, 0, to)
			}
			select {
			case <-ticker.C:
			case <-a.stop:
				return
			}
		}
	})
	return a, nil
}

// Stop ends asking.
func (a *Asker) Stop() {
	close(a.stop)
	a.done.Wait()
}

// arpRequest is a broadcast question for target (RFC 826).
func arpRequest(mac MAC, from, target netip.Addr) []byte {
	f := make([]byte, 0, arpLen)
	f = append(f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	f = append(f, mac[:]...)
	f = binary.BigEndian.AppendUint16(f, etherARP)
	f = append(f, 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, lengths, request
	f = append(f, mac[:]...)
	f = append(f, from.AsSlice()...)
	f = append(f, 0, 0, 0, 0, 0, 0)
	return append(f, target.AsSlice()...)
}

// solicitation is a Neighbor Solicitation (RFC 4861, 4.3) to the solicited-node group of target, with the
// option that names the sender's link-layer address.
func solicitation(mac MAC, from, target netip.Addr) []byte {
	to, from16 := target.As16(), from.As16()
	group := [16]byte{0xff, 0x02, 11: 1, 12: 0xff, 13: to[13], 14: to[14], 15: to[15]} // RFC 4291, 2.7.1
	icmp := []byte{typeSolicit, 0, 0, 0, 0, 0, 0, 0}
	icmp = append(icmp, to[:]...)
	icmp = append(icmp, optionSourceMAC, 1)
	icmp = append(icmp, mac[:]...)
	binary.BigEndian.PutUint16(icmp[2:], checksum(from16, group, icmp))

	f := []byte{0x33, 0x33, group[12], group[13], group[14], group[15]} // RFC 2464, section 7
	f = append(f, mac[:]...)
	f = binary.BigEndian.AppendUint16(f, etherIPv6)
	f = append(f, 0x60, 0, 0, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(len(icmp)))
	f = append(f, protocolICMPv6, 255)
	f = append(f, from16[:]...)
	f = append(f, group[:]...)
	return append(f, icmp...)
}

// checksum is that of ICMPv6 over the pseudo-header and the message (RFC 8200, 8.1).
func checksum(from, to [16]byte, message []byte) uint16 {
	all := append(append(from[:], to[:]...), 0, 0, byte(len(message)>>8), byte(len(message)), 0, 0,
		0, protocolICMPv6)
	all = append(all, message...)
	if len(all)%2 == 1 {
		all = append(all, 0)
	}
	var sum uint32
	for i := 0; i < len(all); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(all[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
