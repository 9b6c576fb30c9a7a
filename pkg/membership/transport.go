package membership

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

const (
	// maxPacket is the largest datagram that is read, in bytes; memberlist fills 1,400.
	maxPacket = 4 << 10
	// receiveBuffer is what the kernel is asked to keep of packets that wait, in bytes.
	receiveBuffer = 2 << 20
	// strangePackets is how many packets from unknown addresses are decrypted in a second.
	// New members are among these, until gossip has spread their addresses.
	strangePackets = 1000
	// errorPause is how long is waited when the kernel has no connection or packet to
	// give: it is out of files or memory.
	errorPause = 50 * time.Millisecond
)

// transport is what memberlist sends and receives with: one UDP and one TCP socket.
// It bounds what somebody without a key can make this process do. A connection is
// passed on to memberlist only after the handshake, and only as one frame of
// bounded length.
type transport struct {
	config  Config
	keys    *keyring
	known   *hosts
	counter *counter

	ctx     context.Context // of what runs
	end     context.CancelFunc
	running sync.WaitGroup
	tcp     *net.TCPListener
	udp     *net.UDPConn
	packets chan *memberlist.Packet
	streams chan net.Conn
	strange *rate.Limiter
	// Frames of both directions are bounded apart: an exchange that is answered waits
	// for the one that asked, never the other way round.
	in, out *semaphore.Weighted

	mu    sync.Mutex
	lobby *lobby
	open  map[net.Conn]bool // accepted and not closed yet
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// newTransport listens.
func newTransport(m *Membership) (*transport, error) {
	at := netip.AddrPortFrom(m.config.BindAddr, m.config.Port)
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		_ = tcp.Close()
		return nil, fmt.Errorf("listen: %w", err)
	}
	// The kernel may allow less; less is better than nothing.
	for size := receiveBuffer; udp.SetReadBuffer(size) != nil && size > 1; {
		size /= 2
	}
	t := &transport{
		config:  m.config,
		keys:    m.keys,
		known:   &m.hosts,
		counter: &m.counter,
		tcp:     tcp,
		udp:     udp,
		packets: make(chan *memberlist.Packet),
		streams: make(chan net.Conn),
		strange: rate.NewLimiter(strangePackets, strangePackets),
		in:      semaphore.NewWeighted(room),
		out:     semaphore.NewWeighted(room),
		lobby:   newLobby(defaultLobbyLimits),
		open:    make(map[net.Conn]bool),
	}
	t.ctx, t.end = context.WithCancel(context.Background())
	t.running.Go(t.receive)
	t.running.Go(t.accept)
	return t, nil
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.config.AdvertiseAddr.AsSlice(), int(t.config.Port), nil
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *transport) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	at, err := netip.ParseAddrPort(to.Addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("send: %w", err)
	}
	_, err = t.udp.WriteToUDPAddrPort(b, at)
	return time.Now(), err
}

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport. The timeout bounds
// the handshake too.
func (t *transport) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	deadline := time.Now().Add(timeout)
	dialer := net.Dialer{Deadline: deadline}
	// From the address that others know of this member, as packets are.
	if !t.config.BindAddr.IsUnspecified() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(t.config.BindAddr, 0))
	}
	conn, err := dialer.DialContext(t.ctx, "tcp", to.Addr)
	if err != nil {
		return nil, err
	}
	err = conn.SetDeadline(deadline)
	if err == nil {
		err = greet(conn, t.keys.first(), t.config.ClusterLabel)
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("handshake with %s: %w", to.Addr, err)
	}
	return &framedConn{Conn: conn, room: t.out, ended: t.ctx, refused: func(Outcome) {}}, nil
}

// Shutdown implements memberlist.Transport: it closes what was accepted, and waits
// for what runs.
func (t *transport) Shutdown() error {
	t.end()
	_ = t.tcp.Close()
	_ = t.udp.Close()
	t.mu.Lock()
	for conn := range t.open {
		_ = conn.Close()
	}
	t.mu.Unlock()
	t.running.Wait()
	return nil
}

// receive passes packets on until Shutdown.
func (t *transport) receive() {
	buffer := make([]byte, 1<<16)
	for {
		n, from, err := t.udp.ReadFromUDPAddrPort(buffer)
		at := time.Now()
		if t.ctx.Err() != nil {
			return
		}
		if err != nil {
			t.pause()
			continue
		}
		if n == 0 {
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		switch {
		case n > maxPacket:
			t.counter.packet(from.Addr(), Malformed)
			continue
		case !t.known.has(from.Addr()) && !t.strange.AllowN(at, 1):
			t.counter.packet(from.Addr(), OverLimit)
			continue
		}
		if key := t.keys.awaited(); key != nil && isSealed(buffer[:n], key.key, t.config.ClusterLabel) {
			t.keys.heard(key.proof.id, at)
		}
		packet := &memberlist.Packet{
			Buf:       append([]byte(nil), buffer[:n]...),
			From:      net.UDPAddrFromAddrPort(from),
			Timestamp: at,
		}
		select {
		case t.packets <- packet:
		case <-t.ctx.Done():
			return
		}
	}
}

// pause waits after an error that the next call is likely to return too.
func (t *transport) pause() {
	select {
	case <-t.ctx.Done():
	case <-time.After(errorPause):
	}
}

// accept takes connections in until Shutdown.
func (t *transport) accept() {
	for {
		conn, err := t.tcp.AcceptTCP()
		if t.ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return
		}
		if err != nil {
			t.pause()
			continue
		}
		source := netip.MustParseAddrPort(conn.RemoteAddr().String()).Addr().Unmap().WithZone("")
		g := &guest{conn: conn, source: source, known: t.known.has(source)}
		t.mu.Lock()
		if t.ctx.Err() != nil {
			t.mu.Unlock()
			_ = conn.Close()
			return
		}
		out := t.lobby.enter(g)
		t.open[conn] = true
		t.mu.Unlock()
		if out != nil {
			t.counter.connection(out.source, OverLimit)
			t.drop(out.conn)
		}
		t.running.Go(func() { t.welcome(g) })
	}
}

// welcome has a guest prove that it has a key, and passes it on.
func (t *transport) welcome(g *guest) {
	outcome := t.handshake(g)
	t.mu.Lock()
	present := slices.Contains(t.lobby.guests, g)
	if outcome != Accepted {
		t.lobby.leave(g)
	} else if !t.lobby.goIn(g) {
		outcome = OverLimit
	}
	t.mu.Unlock()
	if present { // else it was counted when it was shown out
		t.counter.connection(g.source, outcome)
	}
	if outcome != Accepted {
		t.drop(g.conn)
		return
	}
	stream := &framedConn{
		Conn:    g.conn,
		room:    t.in,
		ended:   t.ctx,
		refused: func(v Outcome) { t.counter.connection(g.source, v) },
		closed: func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.lobby.goOut(g.source)
			delete(t.open, g.conn)
		},
	}
	select {
	case t.streams <- stream:
	case <-t.ctx.Done():
		_ = stream.Close()
	}
}

// drop ends a connection at once: the kernel keeps nothing of it.
func (t *transport) drop(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, conn)
}

// handshake reports what became of a guest.
func (t *transport) handshake(g *guest) Outcome {
	if err := g.conn.SetDeadline(time.Now().Add(t.config.Timing.StreamTimeout)); err != nil {
		return TimedOut
	}
	find := func(id keyID) (proofKey, bool) {
		key, ok := t.keys.find(id)
		if ok {
			t.mu.Lock()
			g.greeted = true
			t.mu.Unlock()
		}
		return key, ok
	}
	id, err := admit(g.conn, find, t.config.ClusterLabel)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return TimedOut
	case err != nil:
		return Unauthenticated
	}
	if err := g.conn.SetDeadline(time.Time{}); err != nil {
		return TimedOut
	}
	t.keys.heard(id, time.Now())
	return Accepted
}
