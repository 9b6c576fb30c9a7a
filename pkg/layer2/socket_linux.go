package layer2

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
)

// sendTimeout is how long a send may wait for a device whose queue is full.
const sendTimeout = 50 * time.Millisecond

// packetSocket is a socket of the kernel's AF_PACKET family.
type packetSocket struct {
	conn    *packet.Conn
	groups  *memberships
	ifindex int
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
	return &packetSocket{conn: conn, groups: newMemberships(spec.link.Index), ifindex: spec.link.Index}, nil
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

func (s *packetSocket) setPromiscuous(on bool) error {
	if err := s.conn.SetPromiscuous(on); err != nil {
		return fmt.Errorf("set promiscuous mode: %w", err)
	}
	return nil
}

// anywhere is an address that no LAN has: a route to it is the default route, or one
// as wide.
var anywhere = net.ParseIP("2000::")

func (s *packetSocket) router() router {
	routes, err := netlink.RouteGetWithOptions(anywhere, &netlink.RouteGetOptions{OifIndex: s.ifindex})
	if err != nil || len(routes) == 0 {
		return router{} // there is no such route
	}
	gateway, ok := netip.AddrFromSlice(routes[0].Gw)
	if !ok || !gateway.Is6() {
		return router{}
	}
	neighbours, err := netlink.NeighList(s.ifindex, netlink.FAMILY_V6)
	if err != nil {
		return router{}
	}
	for _, n := range neighbours {
		if n.IP.Equal(routes[0].Gw) && isStation(n.HardwareAddr) && n.State&(netlink.NUD_FAILED|netlink.NUD_INCOMPLETE) == 0 {
			return router{gateway, n.HardwareAddr}
		}
	}
	return router{}
}

func (s *packetSocket) join(group netip.Addr) error  { return s.groups.join(group) }
func (s *packetSocket) leave(group netip.Addr) error { return s.groups.leave(group) }

func (s *packetSocket) close() error {
	if err := errors.Join(s.conn.Close(), s.groups.close()); err != nil {
		return fmt.Errorf("close packet socket: %w", err)
	}
	return nil
}
