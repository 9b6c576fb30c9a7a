package layer2

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// probePacketSocket is a socket of the kernel's AF_PACKET family. It is bound to
// the link's index, so it goes silent when the link is deleted.
type probePacketSocket struct {
	conn *packet.Conn
	raw  syscall.RawConn

	// mu orders the deadlines of receive and rouse.
	mu     sync.Mutex
	roused bool

	groupsMu sync.Mutex
	groups   *memberships // nil once closed
}

func openProbeSocket(spec probeSpec) (probeSocket, error) {
	program, err := bpf.Assemble(spec.filter)
	if err != nil {
		return nil, fmt.Errorf("assemble filter: %w", err)
	}
	ifi := &net.Interface{Index: spec.link.Index, Name: spec.link.Name, HardwareAddr: spec.link.HardwareAddr}
	conn, err := packet.Listen(ifi, packet.Raw, int(spec.etherType), &packet.Config{Filter: program})
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	s := &probePacketSocket{conn: conn, groups: newMemberships(spec.link.Index)}
	if s.raw, err = conn.SyscallConn(); err != nil {
		return nil, fmt.Errorf("open packet socket: %w", errors.Join(err, conn.Close()))
	}
	if err := s.setReadBuffer(spec.readBuffer); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// setReadBuffer sets the size of the queue, beyond net.core.rmem_max where the
// process may.
func (s *probePacketSocket) setReadBuffer(bytes int) error {
	var err error
	controlErr := s.raw.Control(func(fd uintptr) {
		if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes); err != nil {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, bytes)
		}
	})
	if err := errors.Join(controlErr, err); err != nil {
		return fmt.Errorf("set read buffer of packet socket: %w", err)
	}
	return nil
}

func (s *probePacketSocket) receive(b []byte, until time.Time) (int, error) {
	s.mu.Lock()
	if s.roused {
		s.roused = false
		s.mu.Unlock()
		return 0, nil
	}
	err := s.conn.SetReadDeadline(until)
	s.mu.Unlock()
	if err != nil {
		return 0, fmt.Errorf("set deadline of packet socket: %w", err)
	}
	var n int
	var readErr error
	err = s.raw.Read(func(fd uintptr) bool {
		n, readErr = readFrame(int(fd), b)
		return n > 0 || readErr != nil
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
		s.mu.Lock()
		s.roused = false
		s.mu.Unlock()
	}
	if err := errors.Join(err, readErr); err != nil {
		return 0, fmt.Errorf("read packet socket: %w", err)
	}
	return n, nil
}

func (s *probePacketSocket) poll(b []byte) (int, error) {
	var n int
	var readErr error
	// Control takes no notice of the deadline, which may have passed.
	err := s.raw.Control(func(fd uintptr) { n, readErr = readFrame(int(fd), b) })
	if err := errors.Join(err, readErr); err != nil {
		return 0, fmt.Errorf("read packet socket: %w", err)
	}
	return n, nil
}

// readFrame reads without waiting; 0 means that there is nothing.
func readFrame(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return 0, nil
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		}
		return n, nil
	}
}

func (s *probePacketSocket) lost() (uint, error) {
	stats, err := s.conn.Stats()
	if err != nil {
		return 0, fmt.Errorf("statistics of packet socket: %w", err)
	}
	return uint(stats.Drops), nil
}

// send writes the frame as it is: a bound raw packet socket needs no address.
func (s *probePacketSocket) send(frame []byte) error {
	var writeErr error
	err := s.raw.Control(func(fd uintptr) {
		for {
			if _, writeErr = unix.Write(int(fd), frame); !errors.Is(writeErr, unix.EINTR) {
				return
			}
		}
	})
	if err := errors.Join(err, writeErr); err != nil {
		return fmt.Errorf("write packet socket: %w", err)
	}
	return nil
}

func (s *probePacketSocket) join(group netip.Addr) error {
	s.groupsMu.Lock()
	defer s.groupsMu.Unlock()
	if s.groups == nil {
		return fmt.Errorf("join group %s: %w", group, net.ErrClosed)
	}
	return s.groups.join(group)
}

func (s *probePacketSocket) leave(group netip.Addr) error {
	s.groupsMu.Lock()
	defer s.groupsMu.Unlock()
	if s.groups == nil {
		return nil
	}
	return s.groups.leave(group)
}

func (s *probePacketSocket) rouse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roused = true
	// A closed socket has nobody to rouse.
	_ = s.conn.SetReadDeadline(time.Unix(1, 0))
}

func (s *probePacketSocket) close() error {
	err := s.conn.Close()
	s.groupsMu.Lock()
	defer s.groupsMu.Unlock()
	if s.groups != nil {
		err = errors.Join(err, s.groups.close())
		s.groups = nil
	}
	if err != nil {
		return fmt.Errorf("close packet socket: %w", err)
	}
	return nil
}
