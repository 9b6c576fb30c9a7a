package layer2

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
)

// sendTimeout is how long a send may wait for a device whose queue is full.
const sendTimeout = 50 * time.Millisecond

// packetSocket is a socket of the kernel's AF_PACKET family.
type packetSocket struct {
	conn   *packet.Conn
	groups *memberships
}

// openSocket opens a packet socket that is bound to the link's index, so it goes
// silent when the link is deleted, even if one of the same name is made again.
func openSocket(spec socketSpec) (frameSocket, error) {
	program, err := bpf.Assemble(spec.filter)
	if err != nil {
		return nil, fmt.Errorf("assemble filter: %w", err)
	}
	ifi := &net.Interface{Index: spec.link.Index, Name: spec.link.Name, HardwareAddr: spec.link.HardwareAddr}
	conn, err := packet.Listen(ifi, packet.Raw, int(spec.etherType), &packet.Config{Filter: program})
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	return &packetSocket{conn: conn, groups: newMemberships(spec.link.Index)}, nil
}

func (s *packetSocket) read(b []byte) (int, error) {
	n, _, err := s.conn.ReadFrom(b)
	if err != nil {
		return n, fmt.Errorf("read packet socket: %w", err)
	}
	return n, nil
}

func (s *packetSocket) send(frame []byte) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return fmt.Errorf("set deadline of packet socket: %w", err)
	}
	if _, err := s.conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:macLen]}); err != nil {
		return fmt.Errorf("write packet socket: %w", err)
	}
	return nil
}

func (s *packetSocket) setFilter(program []bpf.Instruction) error {
	raw, err := bpf.Assemble(program)
	if err != nil {
		return fmt.Errorf("assemble filter: %w", err)
	}
	if err := s.conn.SetBPF(raw); err != nil {
		return fmt.Errorf("set filter of packet socket: %w", err)
	}
	return nil
}

func (s *packetSocket) join(group netip.Addr) error  { return s.groups.join(group) }
func (s *packetSocket) leave(group netip.Addr) error { return s.groups.leave(group) }

func (s *packetSocket) close() error {
	if err := errors.Join(s.conn.Close(), s.groups.close()); err != nil {
		return fmt.Errorf("close packet socket: %w", err)
	}
	return nil
}
