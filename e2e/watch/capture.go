package watch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/berth-lb/berth/e2e/lab"
)

// A Capture keeps the claims of addresses that enter a lab's switch.
type Capture struct {
	watched map[netip.Addr]bool
	stop    atomic.Bool
	ended   chan struct{}

	mu     sync.Mutex
	claims []Claim
	err    error
}

// claimFilter passes ARP frames and Neighbor Advertisements without extension headers, as they always come.
var claimFilter = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 12},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: etherARP, Jt: 5},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: etherIPv6, Jf: 5},
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 20},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: protocolICMPv6, Jf: 3},
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: icmpAt},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: typeAdvertise, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 256},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
}

// pollLimit is how long a socket is waited for before it is looked whether to stop.
const pollLimit = 100 * time.Millisecond

// StartCapture begins to keep what is claimed of these addresses.
func StartCapture(l *lab.Lab, addresses []netip.Addr) (*Capture, error) {
	c := &Capture{watched: map[netip.Addr]bool{}, ended: make(chan struct{})}
	for _, addr := range addresses {
		c.watched[addr] = true
	}
	opened := make(chan error, 1)
	go func() {
		defer close(c.ended)
		// All of it runs in the namespace: ports come and go with their nodes and are looked up by number.
		err := l.Host(lab.HostSwitch).Run(func() error {
			fd, err := openCapture()
			opened <- err
			if err != nil {
				return nil // told
			}
			defer unix.Close(fd) //nolint:errcheck // it was only read from
			return c.read(fd)
		})
		if err != nil {
			c.mu.Lock()
			c.err = err
			c.mu.Unlock()
			select {
			case opened <- err:
			default:
			}
		}
	}()
	if err := <-opened; err != nil {
		return nil, fmt.Errorf("capture at the switch: %w", err)
	}
	return c, nil
}

// openCapture opens a packet socket for all interfaces of the namespace. Whatever comes in through a port is
// seen before the bridge does anything with it, and has the time of its arrival, however late it is read.
func openCapture() (fd int, err error) {
	// With protocol 0 nothing arrives before the filter is in place.
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	program := unix.SockFprog{Len: uint16(len(claimFilter)), Filter: &claimFilter[0]}
	timeout := unix.NsecToTimeval(pollLimit.Nanoseconds())
	err = errors.Join(
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL)}),
	)
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func htons(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// read keeps claims until Stop. What the kernel had to drop is an error: a judge who missed frames must not
// say that all was well.
func (c *Capture) read(fd int) error {
	ports := map[int]string{}
	frame, control := make([]byte, 256), make([]byte, 256)
	for !c.stop.Load() {
		n, controlLen, _, from, err := unix.Recvmsg(fd, frame, control, 0)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENETDOWN): // a port has gone
			continue
		case err != nil:
			return err
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if !ok || link.Pkttype == unix.PACKET_OUTGOING {
			continue // it was seen when it came in
		}
		addr, mac, ok := parseClaim(frame[:n])
		if !ok || !c.watched[addr] {
			continue
		}
		port, known := ports[link.Ifindex]
		if !known {
			if i, err := net.InterfaceByIndex(link.Ifindex); err == nil {
				port = i.Name
				ports[link.Ifindex] = port
			}
		}
		lan, ok := lab.LANOfPort(port)
		if !ok {
			continue // the bridge's own view of what came through a port
		}
		claim := Claim{At: arrival(control[:controlLen]), Addr: addr, MAC: mac, Port: port, LAN: lan}
		c.mu.Lock()
		c.claims = append(c.claims, claim)
		c.mu.Unlock()
	}
	stats, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return err
	}
	if stats.Drops > 0 {
		return fmt.Errorf("the capture missed %d frames", stats.Drops)
	}
	return nil
}

// arrival reads the kernel's time stamp (SO_TIMESTAMPNS, socket(7)).
func arrival(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err == nil {
		for _, m := range messages {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS &&
				len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
				ts := *(*unix.Timespec)(unsafe.Pointer(&m.Data[0]))
				return time.Unix(ts.Unix())
			}
		}
	}
	return time.Now()
}

// Claims returns what was claimed since then, in the order in which it was seen.
func (c *Capture) Claims(since time.Time) []Claim {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Stamps come in order but for a few microseconds between processors; a millisecond more costs nothing.
	low := len(c.claims)
	for low > 0 && !c.claims[low-1].At.Before(since.Add(-time.Millisecond)) {
		low--
	}
	var out []Claim
	for _, claim := range c.claims[low:] {
		if !claim.At.Before(since) {
			out = append(out, claim)
		}
	}
	return out
}

// Forget drops what was kept so far.
func (c *Capture) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claims = nil
}

// Stop ends the capture. The error tells if frames were missed.
func (c *Capture) Stop() error {
	c.stop.Store(true)
	<-c.ended
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}
