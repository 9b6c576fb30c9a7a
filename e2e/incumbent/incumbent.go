package incumbent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/berth-lb/berth/e2e/lab"
)

// Addresses are announced unasked for burst, every burstInterval, when they are taken.
const (
	burst         = 5 * time.Second
	burstInterval = 1100 * time.Millisecond
)

// An Announcer answers for addresses from one node.
type Announcer struct {
	mac       MAC
	addresses []netip.Addr
	arp, ndp  *os.File
	groups    net.PacketConn
	stop      chan struct{}
	running   sync.WaitGroup
}

// Start begins to answer for addresses on a link of a node.
func Start(ctx context.Context, node *lab.Host, link string, addresses []netip.Addr) (*Announcer, error) {
	a := &Announcer{addresses: addresses, stop: make(chan struct{})}
	err := node.Run(func() error { return a.open(ctx, link) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("announce from %s: %w", node.Name(), err), a.close())
	}
	for _, socket := range []*os.File{a.arp, a.ndp} {
		a.running.Go(func() { a.answer(socket) })
	}
	a.running.Go(a.announce)
	return a, nil
}

// open opens the sockets, in the network namespace of the node.
func (a *Announcer) open(ctx context.Context, name string) error {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	a.mac = MAC(link.HardwareAddr)
	if a.arp, err = listen(link, unix.ETH_P_ARP); err != nil {
		return err
	}
	if a.ndp, err = listen(link, unix.ETH_P_IPV6); err != nil {
		return err
	}
	if a.groups, err = (&net.ListenConfig{}).ListenPacket(ctx, "udp6", "[::]:0"); err != nil {
		return err
	}
	joined := map[netip.Addr]bool{}
	for _, addr := range a.addresses {
		group := groupOf(addr)
		if !addr.Is6() || joined[group] {
			continue
		}
		joined[group] = true
		to := &net.UDPAddr{IP: group.AsSlice()}
		if err := ipv6.NewPacketConn(a.groups).JoinGroup(link, to); err != nil {
			return fmt.Errorf("join %s: %w", group, err)
		}
	}
	return nil
}

// listen opens a packet socket on a link for one Ethernet type.
func listen(link *net.Interface, etherType uint16) (*os.File, error) {
	protocol := etherType<<8 | etherType>>8 // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: link.Index}); err != nil {
		return nil, errors.Join(fmt.Errorf("bind to %s: %w", link.Name, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "packet socket"), nil
}

// answer answers requests until the socket is closed.
func (a *Announcer) answer(socket *os.File) {
	buffer := make([]byte, 2048)
	for {
		n, err := socket.Read(buffer)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		if reply := replyTo(buffer[:n], a.mac, a.addresses); reply != nil {
			_, _ = socket.Write(reply) // a frame that is lost is asked for again
		}
	}
}

// announce announces the addresses unasked.
func (a *Announcer) announce() {
	end := time.After(burst)
	ticker := time.NewTicker(burstInterval)
	defer ticker.Stop()
	for {
		for _, addr := range a.addresses {
			socket := a.arp
			if addr.Is6() {
				socket = a.ndp
			}
			_, _ = socket.Write(claimOf(addr, a.mac))
		}
		select {
		case <-ticker.C:
		case <-end:
			return
		case <-a.stop:
			return
		}
	}
}

// Stop ends it, without a word to anybody.
func (a *Announcer) Stop() error {
	close(a.stop)
	err := a.close()
	a.running.Wait()
	return err
}

func (a *Announcer) close() error {
	var errs []error
	for _, socket := range []*os.File{a.arp, a.ndp} {
		if socket != nil {
			errs = append(errs, socket.Close())
		}
	}
	if a.groups != nil {
		errs = append(errs, a.groups.Close())
	}
	return errors.Join(errs...)
}
