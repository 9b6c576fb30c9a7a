package membership

import (
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Outcome is what became of a connection to the member port, or of a packet.
type Outcome string

// The outcomes.
const (
	// Accepted is a connection whose other end has proved that it has a key.
	Accepted Outcome = "accepted"
	// Unauthenticated is one whose other end has not: it has no key, or a key that is not
	// known here, or is no member at all.
	Unauthenticated Outcome = "unauthenticated"
	// TimedOut is one that did not prove it in time.
	TimedOut Outcome = "timed_out"
	// OverLimit is a connection for which there was no room beside others, or a packet
	// above the rate of unknown addresses.
	OverLimit Outcome = "over_limit"
	// Malformed is one that proved to have a key and then sent what is no frame, or
	// a longer one than the largest state has, or a packet that is too large.
	Malformed Outcome = "malformed"
)

// Outcomes returns all outcomes.
func Outcomes() []Outcome {
	return []Outcome{Accepted, Unauthenticated, TimedOut, OverLimit, Malformed}
}

// Traffic counts what came to the member port since New.
type Traffic struct {
	// Connections counts TCP connections by what became of them. One that was
	// accepted may be counted again when its frame is refused.
	Connections map[Outcome]uint64
	// Packets counts the packets that were dropped before they were decrypted.
	Packets map[Outcome]uint64
	// Contradictions counts entries of this member that others passed on, that it had not
	// published, and that it corrected.
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
	connections map[Outcome]uint64
	packets     map[Outcome]uint64
	// refused is how many were refused since takeRefused was last called, last the last
	// one.
	refused uint64
	last    refusal
}

// refusal is one that was refused.
type refusal struct {
	source netip.Addr
	why    Outcome
}

func (c *counter) connection(source netip.Addr, v Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.connections == nil {
		c.connections = make(map[Outcome]uint64)
	}
	c.connections[v]++
	c.note(source, v)
}

func (c *counter) packet(source netip.Addr, v Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.packets == nil {
		c.packets = make(map[Outcome]uint64)
	}
	c.packets[v]++
	c.note(source, v)
}

func (c *counter) note(source netip.Addr, v Outcome) {
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

// hosts are the addresses that are known to belong to the cluster. The one who sets them is
// Run; all may read them.
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
