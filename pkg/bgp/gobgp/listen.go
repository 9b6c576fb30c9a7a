package gobgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/berth-lb/berth/pkg/bgp"
)

// listeners are those of passive sessions: one for each own address and VRF,
// shared by the sessions that use it.
type listeners struct {
	port uint16

	mu   sync.Mutex
	open map[listenAt]*listener
}

type listenAt struct {
	local netip.Addr
	vrf   string
}

type listener struct {
	*net.TCPListener
	// waiting are the sessions by the address of their router, without a zone:
	// that is in the listener's own address.
	waiting map[netip.Addr]chan net.Conn
}

// acceptPause is how long a listener waits after it failed to accept a connection.
const acceptPause = 100 * time.Millisecond

// accept waits for the router to connect to local.
func (l *listeners) accept(ctx context.Context, p bgp.Peer, local, remote netip.Addr) (net.Conn, error) {
	at := listenAt{local, p.VRF}
	remote = remote.WithZone("")
	arrived, err := l.register(ctx, at, p, remote)
	if err != nil {
		return nil, err
	}
	defer l.leave(at, remote)
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case c := <-arrived:
		own := p
		own.VRF, own.Password = "", bgp.Password{} // the listener's, which it has already
		set := func(fd int) error { return setOptions(fd, own, remote) }
		if err := control(c.(*net.TCPConn), set); err != nil {
			_ = c.Close()
			return nil, err
		}
		return c, nil
	}
}

// register returns the channel that delivers the router's connection. It starts the
// listener if there is none yet.
func (l *listeners) register(
	ctx context.Context, at listenAt, p bgp.Peer, remote netip.Addr,
) (<-chan net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.open[at]
	if s == nil {
		// Of what the peers ask, only the VRF holds for all that share it. The
		// TTL is the highest, as if the session were internal, so that it
		// reaches those that take no other.
		config := net.ListenConfig{Control: options(bgp.Peer{VRF: at.vrf, TTLSecurity: 255}, at.local)}
		config.SetMultipathTCP(false) // which knows neither MD5 nor a minimal TTL
		c, err := config.Listen(ctx, "tcp", netip.AddrPortFrom(at.local, l.port).String())
		if errors.Is(err, syscall.EACCES) {
			return nil, fmt.Errorf("listen for the router on port %d: the speaker is not allowed to: "+
				"it needs the capability NET_BIND_SERVICE", l.port)
		}
		if err != nil {
			return nil, fmt.Errorf("listen for the router: %w", err)
		}
		s = &listener{c.(*net.TCPListener), map[netip.Addr]chan net.Conn{}}
		l.open[at] = s
		go l.serve(s)
	}
	if s.waiting[remote] != nil {
		return nil, fmt.Errorf("another passive session waits for %s at %s", remote, at.local)
	}
	key := func(fd int) error { return setKey(fd, remote, p.Password.Reveal()) }
	if err := control(s.TCPListener, key); err != nil {
		return nil, err
	}
	s.waiting[remote] = make(chan net.Conn, 1)
	return s.waiting[remote], nil
}

// leave stops waiting for a router, and closes the listener with the last one.
func (l *listeners) leave(at listenAt, remote netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.open[at]
	select {
	case late := <-s.waiting[remote]:
		_ = late.Close()
	default:
	}
	delete(s.waiting, remote)
	if len(s.waiting) == 0 {
		_ = s.Close()
		delete(l.open, at)
	}
}

// serve gives connections to the sessions that wait for them, and closes all others.
func (l *listeners) serve(s *listener) {
	for {
		c, err := s.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // too many files are open, or the router has gone already
			time.Sleep(acceptPause)
			continue
		}
		l.mu.Lock()
		select {
		case s.waiting[addrOf(c.RemoteAddr()).WithZone("")] <- c: // nobody reads from a nil channel
		default:
			_ = c.Close()
		}
		l.mu.Unlock()
	}
}
