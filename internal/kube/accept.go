package kube

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// bounds are how many connections a port has open at once.
type bounds struct {
	source int // from one source
	all    int // from all
}

// newestWins is a listener that keeps within bounds. Where one more would be too
// many, an old connection is closed, not the new one refused: strangers who open
// connections and say nothing cannot keep out whoever asks and is answered within
// a millisecond, as a kubelet is.
type newestWins struct {
	net.Listener
	bounds bounds

	mu   sync.Mutex
	open []*boundedConn // oldest first
}

// boundedConn is a connection that counts until it is closed.
type boundedConn struct {
	net.Conn
	source source
	closed func()
	once   sync.Once
}

// Close closes the connection; others may then be open.
func (c *boundedConn) Close() error {
	c.once.Do(c.closed)
	return c.Conn.Close()
}

// Accept waits for the next connection.
func (l *newestWins) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &boundedConn{Conn: conn, source: sourceOf(conn.RemoteAddr(), conn.LocalAddr())}
	c.closed = func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.open = slices.DeleteFunc(l.open, func(o *boundedConn) bool { return o == c })
	}
	l.mu.Lock()
	var sources []source
	for _, o := range l.open {
		sources = append(sources, o.source)
	}
	var tooMany *boundedConn
	if i := tooOld(sources, c.source, l.bounds); i >= 0 {
		tooMany = l.open[i]
	}
	l.open = append(l.open, c)
	l.mu.Unlock()
	if tooMany != nil {
		_ = tooMany.Close()
	}
	return c, nil
}

// A source is whom a connection counts for.
type source struct {
	addr netip.Addr
	// network is addr itself, or with IPv6 its /64, of which a single host may have
	// all addresses.
	network netip.Prefix
}

// tooOld returns which of the open connections, by their sources and oldest first,
// has to go for a new one; -1 when there is room. It is one of the same network when
// that has as many as it may, else one of the network that has most, of several such
// the one that has been there longest. In that network it is the oldest of the
// address that has most: a stranger must not close the connections of the hosts that
// share a LAN with it.
func tooOld(open []source, newest source, b bounds) int {
	ofNetwork, ofAddr := map[netip.Prefix]int{}, map[netip.Addr]int{}
	for _, s := range open {
		ofNetwork[s.network]++
		ofAddr[s.addr]++
	}
	crowded := newest.network
	if ofNetwork[crowded] < b.source {
		if len(open) < b.all {
			return -1
		}
		crowded = open[0].network
		for _, s := range open {
			if ofNetwork[s.network] > ofNetwork[crowded] {
				crowded = s.network
			}
		}
	}
	out := -1
	for i, s := range open {
		if s.network == crowded && (out < 0 || ofAddr[s.addr] > ofAddr[open[out].addr]) {
			out = i
		}
	}
	return out
}

// sourceOf returns whom a connection between two addresses counts for. One from the
// host itself, such as its kubelet's, has nothing to do with its LAN.
func sourceOf(remote, local net.Addr) source {
	from, ok := remote.(*net.TCPAddr)
	if !ok {
		return source{}
	}
	s := sourceOfAddr(from.AddrPort().Addr())
	if to, ok := local.(*net.TCPAddr); ok && to.AddrPort().Addr().Unmap().WithZone("") == s.addr {
		s.network = netip.PrefixFrom(s.addr, s.addr.BitLen())
	}
	return s
}

// sourceOfAddr returns whom an address counts for.
func sourceOfAddr(addr netip.Addr) source {
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() && !addr.IsLinkLocalUnicast() {
		bits = 64
	}
	network, _ := addr.Prefix(bits) // the zero Prefix of no address
	return source{addr, network}
}
