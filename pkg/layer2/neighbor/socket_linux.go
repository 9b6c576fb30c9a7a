package neighbor

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

// sendTimeout is how long Send may wait for a device whose queue is full.
const sendTimeout = 50 * time.Millisecond

// Socket is a packet socket (AF_PACKET) on one link for one protocol. It is bound to
// the link's index, so it goes silent when the link is deleted, even if one of the
// same name is made again.
//
// One goroutine may receive; others may send, change the filter, the groups and the
// mode, rouse and close at the same time.
type Socket struct {
	conn *packet.Conn
	raw  syscall.RawConn

	// mu orders the deadlines of Receive and Rouse; deadline is the last one.
	mu       sync.Mutex
	roused   bool
	deadline time.Time

	groupsMu sync.Mutex
	groups   *memberships // nil once closed
}

// Open opens a socket.
func Open(spec Spec) (*Socket, error) {
	program, err := bpf.Assemble(spec.Filter)
	if err != nil {
		return nil, fmt.Errorf("assemble filter: %w", err)
	}
	ifi := &net.Interface{
		Index:        spec.Link.Index,
		Name:         spec.Link.Name,
		HardwareAddr: spec.Link.HardwareAddr,
	}
	config := &packet.Config{Filter: program}
	conn, err := packet.Listen(ifi, packet.Raw, int(spec.Protocol.etherType()), config)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	s := &Socket{conn: conn, groups: newMemberships(spec.Link.Index)}
	if s.raw, err = conn.SyscallConn(); err != nil {
		return nil, fmt.Errorf("open packet socket: %w", errors.Join(err, conn.Close()))
	}
	if spec.ReadBuffer > 0 {
		if err := s.setReadBuffer(spec.ReadBuffer); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// setReadBuffer sets the size of the queue, beyond net.core.rmem_max where the process
// may.
func (s *Socket) setReadBuffer(bytes int) error {
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

// Receive returns the length of the next frame that passed the filter. It waits until
// then, or forever when the time is zero, and returns 0 when none came or Rouse was
// called. A time in the past is no wait and may return 0 although the queue is not
// empty. It returns an error when the link went away or the socket was closed.
func (s *Socket) Receive(b []byte, until time.Time) (int, error) {
	s.mu.Lock()
	if s.roused {
		s.roused = false
		s.mu.Unlock()
		return 0, nil
	}
	var err error
	if !until.IsZero() || !s.deadline.IsZero() {
		s.deadline = until
		err = s.conn.SetReadDeadline(until)
	}
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

// Poll is Receive without a wait: 0 means that the queue is empty.
func (s *Socket) Poll(b []byte) (int, error) {
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

// Rouse ends the current Receive, or the next one when none waits.
func (s *Socket) Rouse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roused = true
	s.deadline = time.Unix(1, 0)
	// A closed socket has nobody to rouse.
	_ = s.conn.SetReadDeadline(s.deadline)
}

// Lost returns how many frames the kernel has dropped since the last call because the
// queue was full.
func (s *Socket) Lost() (uint, error) {
	stats, err := s.conn.Stats()
	if err != nil {
		return 0, fmt.Errorf("statistics of packet socket: %w", err)
	}
	return uint(stats.Drops), nil
}

// Send sends a whole frame to the destination in its header. It waits for a short time
// at most when the device is busy.
func (s *Socket) Send(frame []byte) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return fmt.Errorf("set deadline of packet socket: %w", err)
	}
	var writeErr error
	err := s.raw.Write(func(fd uintptr) bool {
		writeErr = writeFrame(int(fd), frame)
		return !errors.Is(writeErr, unix.EAGAIN)
	})
	if err := errors.Join(err, writeErr); err != nil {
		return fmt.Errorf("write packet socket: %w", err)
	}
	return nil
}

// TrySend is Send without a wait: when the device is busy, it returns an error and
// nothing was sent.
func (s *Socket) TrySend(frame []byte) error {
	var writeErr error
	err := s.raw.Control(func(fd uintptr) { writeErr = writeFrame(int(fd), frame) })
	if err := errors.Join(err, writeErr); err != nil {
		return fmt.Errorf("write packet socket: %w", err)
	}
	return nil
}

// writeFrame writes a frame as it is: a bound raw packet socket needs no address.
func writeFrame(fd int, frame []byte) error {
	for {
		if _, err := unix.Write(fd, frame); !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("write", err)
		}
	}
}

// SetFilter replaces the filter.
func (s *Socket) SetFilter(program []bpf.Instruction) error {
	raw, err := bpf.Assemble(program)
	if err != nil {
		return fmt.Errorf("assemble filter: %w", err)
	}
	if err := s.conn.SetBPF(raw); err != nil {
		return fmt.Errorf("set filter of packet socket: %w", err)
	}
	return nil
}

// SetPromiscuous has the link take all frames that reach it, as long as the socket is
// open, or ends that.
func (s *Socket) SetPromiscuous(on bool) error {
	if err := s.conn.SetPromiscuous(on); err != nil {
		return fmt.Errorf("set promiscuous mode: %w", err)
	}
	return nil
}

// Join makes the link a member of an IPv6 group of which it is none.
func (s *Socket) Join(group netip.Addr) error {
	s.groupsMu.Lock()
	defer s.groupsMu.Unlock()
	if s.groups == nil {
		return fmt.Errorf("join group %s: %w", group, net.ErrClosed)
	}
	return s.groups.join(group)
}

// Leave ends a membership.
func (s *Socket) Leave(group netip.Addr) error {
	s.groupsMu.Lock()
	defer s.groupsMu.Unlock()
	if s.groups == nil {
		return nil
	}
	return s.groups.leave(group)
}

// Close frees everything and ends a waiting Receive with an error.
func (s *Socket) Close() error {
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
