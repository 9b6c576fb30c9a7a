package layer2

import (
	"bytes"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// portKey names a place where addresses are announced: one protocol on one link.
type portKey struct {
	protocol protocol
	link     string
}

// port is an open place: a socket on one link, with one index and one Ethernet
// address, for one protocol. A change of these makes a new port. The loop owns
// it; its reading goroutine uses only what never changes.
type port struct {
	key      portKey
	link     Link
	sock     frameSocket
	counters *linkCounters
	announce func(addr netip.Addr) bool
	opened   time.Time
	// claims are the addresses that the filter passes, with their serials.
	claims map[netip.Addr]uint64
	// groups are the joined groups.
	groups map[netip.Addr]struct{}
	// closing is closed before the socket, done when the reader has ended.
	closing chan struct{}
	done    chan struct{}
}

// sameStation reports whether the link is still the one the port was opened on.
func (p *port) sameStation(l Link) bool {
	return p.link.Index == l.Index && bytes.Equal(p.link.HardwareAddr, l.HardwareAddr)
}

// readLen is enough for any request; the rest of a longer frame is cut off.
const readLen = snapLen

// serve answers requests until the socket fails, and returns its error.
func (p *port) serve() error {
	on := station{mac: p.link.HardwareAddr, announces: p.announce}
	b := make([]byte, readLen)
	for {
		n, err := p.sock.read(b)
		if err != nil {
			return err
		}
		verdict, _, reply := p.key.protocol.handle(b[:n], on)
		p.counters.verdicts[verdict].Add(1)
		if verdict != Answered {
			continue
		}
		if err := p.sock.send(reply); err != nil {
			p.counters.sendErrors.Add(1)
		}
	}
}

// close ends the port and its reader.
func (p *port) close() error {
	close(p.closing)
	err := p.sock.close()
	<-p.done
	return err
}

// sendAnnouncement tells the segment once that addr is here.
func (p *port) sendAnnouncement(addr netip.Addr) {
	frames, err := p.key.protocol.announcement(addr, p.link.HardwareAddr)
	if err != nil {
		p.counters.sendErrors.Add(1)
		return
	}
	for _, frame := range frames {
		if err := p.sock.send(frame); err != nil {
			p.counters.sendErrors.Add(1)
			continue
		}
		p.counters.gratuitous.Add(1)
	}
}

// addresses returns the sorted keys of a set of addresses.
func addresses[V any](set map[netip.Addr]V) []netip.Addr {
	return slices.SortedFunc(maps.Keys(set), netip.Addr.Compare)
}

// pass makes the kernel pass requests for exactly the given addresses: it joins
// the groups that are missing, then replaces the filter, then leaves the groups
// that are not needed any more. Groups that could not be joined or left are in
// groupErr and are tried again the next time; the filter's error is in err and
// leaves the port as it was.
func (p *port) pass(claims map[netip.Addr]uint64) (groupErr, err error) {
	wanted := p.groupsOf(claims)
	var groupErrs []error
	for _, group := range addresses(wanted) {
		if _, ok := p.groups[group]; ok {
			continue
		}
		if err := p.sock.join(group); err != nil {
			groupErrs = append(groupErrs, err)
			continue
		}
		p.groups[group] = struct{}{}
	}
	if !sameAddresses(p.claims, claims) {
		if err := p.sock.setFilter(p.key.protocol.filter(addresses(claims), p.link.Index)); err != nil {
			return errors.Join(groupErrs...), err
		}
	}
	p.claims = claims
	for _, group := range addresses(p.groups) {
		if _, ok := wanted[group]; ok {
			continue
		}
		delete(p.groups, group)
		if err := p.sock.leave(group); err != nil {
			groupErrs = append(groupErrs, err)
		}
	}
	return errors.Join(groupErrs...), nil
}

// groupsOf returns the groups in which requests for the addresses arrive.
func (p *port) groupsOf(claims map[netip.Addr]uint64) map[netip.Addr]struct{} {
	out := make(map[netip.Addr]struct{})
	for addr := range claims {
		if group, ok := p.key.protocol.group(addr); ok {
			out[group] = struct{}{}
		}
	}
	return out
}

func sameAddresses(a, b map[netip.Addr]uint64) bool {
	if len(a) != len(b) {
		return false
	}
	for addr := range a {
		if _, ok := b[addr]; !ok {
			return false
		}
	}
	return true
}
