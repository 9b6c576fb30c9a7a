package bfd

import (
	"net/netip"
	"sync"
	"time"

	"github.com/berth-lb/berth/internal/notify"
)

// wire connects speakers of one test without a kernel. Packets arrive at once.
type wire struct {
	mu    sync.Mutex
	nodes map[netip.Addr]*fakeNode
	// cut drops what it says of, given sender and receiver.
	cut func(from, to netip.Addr) bool
}

func newWire() *wire { return &wire{nodes: make(map[netip.Addr]*fakeNode)} }

func (w *wire) setCut(cut func(from, to netip.Addr) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
}

// fakeNode is the network of one speaker.
type fakeNode struct {
	wire      *wire
	addr      netip.Addr
	listeners map[role]*fakeListener
	// broken is the error of every socket that is opened.
	broken error
	// sendError is the error of every packet that is sent.
	sendError error
	dialed    int
	answered  []datagram
	routes    bool
	// news makes wait return.
	news notify.Signal
}

func (w *wire) node(addr string) *fakeNode {
	n := &fakeNode{
		wire:      w,
		addr:      netip.MustParseAddr(addr),
		listeners: make(map[role]*fakeListener),
		news:      notify.NewSignal(),
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes[n.addr] = n
	return n
}

func (n *fakeNode) set(change func()) {
	n.wire.mu.Lock()
	defer n.wire.mu.Unlock()
	change()
}

func (n *fakeNode) open(bool) error { return nil }
func (n *fakeNode) close()          {}
func (n *fakeNode) wake()           { n.news.Set() }

func (n *fakeNode) wait(d time.Duration) {
	select {
	case <-n.news.C():
	case <-time.After(d):
	}
}

func (n *fakeNode) listen(r role) (listener, error) {
	n.wire.mu.Lock()
	defer n.wire.mu.Unlock()
	if n.broken != nil {
		return nil, n.broken
	}
	l := &fakeListener{node: n, role: r}
	n.listeners[r] = l
	return l, nil
}

func (n *fakeNode) dial(k Key) (sender, int, error) {
	n.wire.mu.Lock()
	defer n.wire.mu.Unlock()
	if n.broken != nil {
		return nil, 0, n.broken
	}
	n.dialed++
	return &fakeSender{node: n, key: k}, 1, nil
}

func (n *fakeNode) forwards(Key) bool {
	n.wire.mu.Lock()
	defer n.wire.mu.Unlock()
	return n.routes
}

// arrive puts a datagram into the queue of a listener, if there is one.
func (n *fakeNode) arrive(r role, d datagram) {
	n.wire.mu.Lock()
	defer n.wire.mu.Unlock()
	n.arriveLocked(r, d)
}

func (n *fakeNode) arriveLocked(r role, d datagram) {
	if l := n.listeners[r]; l != nil {
		l.queue = append(l.queue, d)
		n.news.Set()
	}
}

type fakeListener struct {
	node   *fakeNode
	role   role
	queue  []datagram
	broken error
}

func (l *fakeListener) ready() bool {
	l.node.wire.mu.Lock()
	defer l.node.wire.mu.Unlock()
	return len(l.queue) > 0
}

func (l *fakeListener) read(d *datagram) (bool, error) {
	l.node.wire.mu.Lock()
	defer l.node.wire.mu.Unlock()
	if len(l.queue) == 0 {
		return false, l.broken
	}
	*d, l.queue = l.queue[0], l.queue[1:]
	return true, nil
}

func (l *fakeListener) answer(d *datagram) error {
	l.node.set(func() { l.node.answered = append(l.node.answered, *d) })
	return nil
}

func (l *fakeListener) close() {
	l.node.set(func() { delete(l.node.listeners, l.role) })
}

type fakeSender struct {
	node *fakeNode
	key  Key
}

func (s *fakeSender) send(payload []byte) error {
	w := s.node.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.node.sendError != nil {
		return s.node.sendError
	}
	to := w.nodes[s.key.Peer]
	if to == nil || w.cut != nil && w.cut(s.node.addr, s.key.Peer) {
		return nil
	}
	d := datagram{from: s.node.addr, port: 50000, to: s.key.Peer, link: 1, ttl: maxTTL}
	d.n = copy(d.buf[:], payload)
	to.arriveLocked(roleOf(s.key), d)
	return nil
}

func (s *fakeSender) close() {}

// elapse lets time go by in a bubble.
func elapse(d time.Duration) { time.Sleep(d) }
