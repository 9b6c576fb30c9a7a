package membership

import (
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Verdict is what became of a connection to the member port, or of a packet.
type Verdict string

// The verdicts.
const (
	// Accepted is a connection whose other end has proved that it has a key.
	Accepted Verdict = "accepted"
	// Stranger is one whose other end has not: it has no key, or a key that is not
	// known here, or is no member at all.
	Stranger Verdict = "stranger"
	// Late is one that did not prove it in time.
	Late Verdict = "late"
	// Crowded is one for which there was no room, as there were others, or a packet
	// too many from addresses of which nothing is known.
	Crowded Verdict = "crowded"
	// Malformed is one that proved to have a key and then sent what is no frame, or
	// a longer one than the largest state has, or a packet that is too large.
	Malformed Verdict = "malformed"
)

// Verdicts returns all verdicts.
func Verdicts() []Verdict { return []Verdict{Accepted, Stranger, Late, Crowded, Malformed} }

// Traffic counts what came to the member port since New.
type Traffic struct {
	// Connections counts TCP connections by what became of them. One that was
	// accepted may be counted again when its frame is refused.
	Connections map[Verdict]uint64
	// Packets counts the packets that were dropped before they were decrypted.
	Packets map[Verdict]uint64
	// Contradictions counts what others said of this member that it had not said, and
	// that it corrected.
	Contradictions uint64
}

// Traffic returns what came to the member port.
func (m *Membership) Traffic() Traffic {
	out := m.counter.read()
	out.Contradictions = m.view.contradictions()
	return out
}

// counter counts for Traffic.
type counter struct {
	mu          sync.Mutex
	connections map[Verdict]uint64
	packets     map[Verdict]uint64
	// refused is how many were refused since takeRefused was last called, last the last
	// one.
	refused uint64
	last    refusal
}

// refusal is one that was refused.
type refusal struct {
	source netip.Addr
	why    Verdict
}

func (c *counter) connection(source netip.Addr, v Verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.connections == nil {
		c.connections = make(map[Verdict]uint64)
	}
	c.connections[v]++
	c.note(source, v)
}

func (c *counter) packet(source netip.Addr, v Verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.packets == nil {
		c.packets = make(map[Verdict]uint64)
	}
	c.packets[v]++
	c.note(source, v)
}

func (c *counter) note(source netip.Addr, v Verdict) {
	if v != Accepted {
		c.refused++
		c.last = refusal{source, v}
	}
}

func (c *counter) read() Traffic {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Traffic{Connections: maps.Clone(c.connections), Packets: maps.Clone(c.packets)}
}

// takeRefused returns how many were refused since the last call, and the last one.
func (c *counter) takeRefused() (uint64, refusal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.refused
	c.refused = 0
	return n, c.last
}

// hosts are the addresses of which it is known that they belong to the cluster. The
// one who sets them is Run; all may read them.
type hosts struct {
	set atomic.Pointer[map[netip.Addr]bool]
}

func (h *hosts) has(addr netip.Addr) bool {
	set := h.set.Load()
	return set != nil && (*set)[addr.WithZone("")]
}

// know sets them.
func (h *hosts) know(addresses ...netip.Addr) {
	set := make(map[netip.Addr]bool, len(addresses))
	for _, addr := range addresses {
		if addr.IsValid() {
			set[addr.Unmap().WithZone("")] = true
		}
	}
	h.set.Store(&set)
}
