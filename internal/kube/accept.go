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
	source netip.Prefix
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
	c := &boundedConn{Conn: conn, source: sourceOf(conn.RemoteAddr())}
	c.closed = func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.open = slices.DeleteFunc(l.open, func(o *boundedConn) bool { return o == c })
	}
	l.mu.Lock()
	var sources []netip.Prefix
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

// tooOld returns which of the open connections, by their sources and oldest first,
// has to go for a new one; -1 when there is room. It is the oldest of the same
// source when that has as many as it may, else the oldest of the source that has
// most, of several such the one that has been there longest.
func tooOld(open []netip.Prefix, source netip.Prefix, b bounds) int {
	count := map[netip.Prefix]int{}
	for _, s := range open {
		count[s]++
	}
	if count[source] >= b.source {
		return slices.Index(open, source)
	}
	if len(open) < b.all {
		return -1
	}
	out := -1
	for i, s := range open {
		if out < 0 || count[s] > count[open[out]] {
			out = i
		}
	}
	return out
}

// sourceOf returns whom a connection from a remote address counts for.
func sourceOf(remote net.Addr) netip.Prefix {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	return sourceOfAddr(tcp.AddrPort().Addr())
}

// sourceOfAddr returns whom an address counts for: an IPv4 address, or a network of
// IPv6, of which a single host may have all addresses.
func sourceOfAddr(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() && !addr.IsLinkLocalUnicast() {
		bits = 64
	}
	prefix, _ := addr.Prefix(bits) // the zero Prefix of no address
	return prefix
}
