package netnstest

import (
	"fmt"
	"testing"
)

// LAN is one Ethernet segment: a bridge in a namespace of its own, to which
// hosts are attached with veth pairs.
type LAN struct {
	t      testing.TB
	bridge *Host
	ports  int
}

// NewLAN makes an empty segment, which is removed at the end of the test.
func NewLAN(t testing.TB) *LAN { return NewNamedLAN(t, "lan") }

// NewNamedLAN is NewLAN for topologies with several segments.
func NewNamedLAN(t testing.TB, name string) *LAN {
	t.Helper()
	lan := &LAN{t: t, bridge: NewHost(t, name)}
	lan.bridge.Run(t, "ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0")
	lan.bridge.Run(t, "ip", "link", "set", "br0", "up")
	return lan
}

// Attach gives the host an interface on the segment, up and with the given
// addresses (prefix notation, either family), and returns the host.
func (l *LAN) Attach(h *Host, ifname string, addresses ...string) *Host {
	l.t.Helper()
	port := fmt.Sprintf("port%d", l.ports)
	l.ports++
	add := []string{"link", "add", port, "netns", l.bridge.name, "type", "veth", "peer", "name", ifname}
	if h.name != "" {
		add = append(add, "netns", h.name)
	} else {
		h.withoutDAD(l.t)
	}
	Local().Run(l.t, "ip", add...)
	// The host's side goes with the port, even when the host stays.
	l.t.Cleanup(func() { l.bridge.Run(l.t, "ip", "link", "del", port) })
	l.bridge.Run(l.t, "ip", "link", "set", port, "master", "br0", "up")
	h.Run(l.t, "ip", "link", "set", ifname, "up")
	for _, address := range addresses {
		h.Run(l.t, "ip", "address", "add", address, "dev", ifname)
	}
	return h
}

// Cut takes the carrier from the host that was attached as the n-th, counting
// from 0, as if its cable was pulled; Mend gives it back.
func (l *LAN) Cut(n int) { l.setPort(n, "down") }

// Mend undoes Cut.
func (l *LAN) Mend(n int) { l.setPort(n, "up") }

func (l *LAN) setPort(n int, state string) {
	l.t.Helper()
	l.bridge.Run(l.t, "ip", "link", "set", fmt.Sprintf("port%d", n), state)
}

// Switch is the host of the bridge: its interfaces are br0 and port0, port1 and
// so on in the order of attachment. Captures made there see every frame.
func (l *LAN) Switch() *Host { return l.bridge }
