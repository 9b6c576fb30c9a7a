package announcer

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/net/bpf"

	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

// socket is what a port needs of a [neighbor.Socket]. One goroutine receives; another
// does the rest at the same time.
type socket interface {
	Receive(b []byte, until time.Time) (int, error)
	Send(frame []byte) error
	SetFilter(program []bpf.Instruction) error
	SetPromiscuous(on bool) error
	Join(group netip.Addr) error
	Leave(group netip.Addr) error
	Close() error
}

// openSocket opens a socket of the kernel.
func openSocket(spec neighbor.Spec) (socket, error) { return neighbor.Open(spec) }

// portKey names a place where addresses are announced: one protocol on one link.
type portKey struct {
	protocol neighbor.Protocol
	link     string
}

// port is an open place: a socket on one link, with one index and one Ethernet
// address, for one protocol. A change of these makes a new port. The loop owns it; its
// reading goroutine uses only what never changes.
type port struct {
	a        *Announcer
	key      portKey
	link     links.Link
	sock     socket
	counters *linkCounters
	// prefixes are those of the link now, router is that of the link when it was looked
	// for last; the loop's own.
	prefixes   []netip.Prefix
	router     neighbor.Binding
	routerSeen time.Time
	// placements are the addresses that the filter passes.
	placements map[netip.Addr]portPlacement
	// groups counts the addresses of each group, and unjoined are those of them
	// that could not be joined yet.
	groups   map[netip.Addr]int
	unjoined map[netip.Addr]struct{}
	// promiscuous counts the addresses for which the link is to take all frames, and
	// isPromiscuous is set when it does.
	promiscuous   int
	isPromiscuous bool
}

// portPlacement is what is wanted of one address on one port.
type portPlacement struct {
	placement
	policy Policy
	// promiscuous is set when the link is to take all frames for it.
	promiscuous bool
}

// Serve answers requests until the socket fails, and returns its error.
func (p *port) Serve() error {
	a := p.a
	on := station{
		mac:      p.link.HardwareAddr,
		lookup:   func(addr netip.Addr) (answering, bool) { return a.answer(addr, p.key.link) },
		isOurs:   a.isOurs,
		isMember: a.isMember,
	}
	b := make([]byte, neighbor.ReadLen)
	for {
		n, err := p.sock.Receive(b, time.Time{})
		if err != nil {
			return err
		}
		out := handle(b[:n], on)
		if out.verdict == Answered && !a.guard.open() {
			out.verdict = Stalled
		}
		p.counters.verdicts[out.verdict].Add(1)
		switch out.verdict {
		case Answered:
			if err := p.sock.Send(out.reply); err != nil {
				p.counters.sendErrors.Add(1)
				continue
			}
			p.counters.replies.Add(1)
		case ForeignClaim, MemberClaim:
			a.heard(burstKey{p.key, out.addr}, out.claimant, time.Now())
		}
	}
}

// Close closes the socket.
func (p *port) Close() error { return p.sock.Close() }

// sendAnnouncement announces once that addr is here, and reports whether
// at least one frame was sent.
func (p *port) sendAnnouncement(addr netip.Addr) (sent bool) {
	here := neighbor.Binding{IP: addr, MAC: p.link.HardwareAddr}
	frames, err := neighbor.Announcement(here, p.beyond(addr, time.Now()))
	if err != nil {
		p.counters.sendErrors.Add(1)
		return false
	}
	for _, frame := range frames {
		if err := p.sock.Send(frame); err != nil {
			p.counters.sendErrors.Add(1)
			continue
		}
		p.counters.gratuitous.Add(1)
		sent = true
	}
	return sent
}

// addresses returns the sorted keys of a set of addresses.
func addresses[V any](set map[netip.Addr]V) []netip.Addr {
	return slices.SortedFunc(maps.Keys(set), netip.Addr.Compare)
}

// pass makes the kernel pass requests for exactly the wanted addresses, which
// differ from those of the port in the given ones at most: it joins the groups
// that are missing, then replaces the filter, then leaves the groups that are not
// needed any more, and sets whether the link is promiscuous. Groups that could not be
// joined or left, and that mode, are in groupErr, and are tried again the next time;
// the filter's error is in err and leaves the port to be closed.
func (p *port) pass(wanted map[netip.Addr]portPlacement, differ []netip.Addr) (groupErr, err error) {
	var added, removed []netip.Addr
	for _, addr := range differ {
		_, has := p.placements[addr]
		_, wants := wanted[addr]
		switch {
		case wants && !has:
			added = append(added, addr)
		case has && !wants:
			removed = append(removed, addr)
		}
	}
	p.enter(added)
	groupErrs := p.joinMissing()
	if len(added)+len(removed) > 0 && !p.fresh() {
		filter := p.key.protocol.RequestFilter(slices.Collect(maps.Keys(wanted)), p.link.Index)
		if err := p.sock.SetFilter(filter); err != nil {
			return errors.Join(groupErrs...), err
		}
	}
	groupErrs = append(groupErrs, p.exit(removed)...)
	if p.fresh() {
		p.placements = make(map[netip.Addr]portPlacement, len(wanted))
	}
	for _, addr := range differ {
		if p.placements[addr].promiscuous {
			p.promiscuous--
		}
		if c, wants := wanted[addr]; wants {
			p.placements[addr] = c
		} else {
			delete(p.placements, addr)
		}
		if p.placements[addr].promiscuous {
			p.promiscuous++
		}
	}
	if on := p.promiscuous > 0; on != p.isPromiscuous {
		if err := p.sock.SetPromiscuous(on); err != nil {
			groupErrs = append(groupErrs, err)
		} else {
			p.isPromiscuous = on
		}
	}
	return errors.Join(groupErrs...), nil
}

// fresh reports whether the port was just opened, with its first filter.
func (p *port) fresh() bool { return p.placements == nil }

// enter counts the groups of new addresses; the first of a group has it joined.
func (p *port) enter(added []netip.Addr) {
	for _, addr := range added {
		group, ok := neighbor.Group(addr)
		if !ok {
			continue
		}
		if p.groups[group] == 0 {
			p.unjoined[group] = struct{}{}
		}
		p.groups[group]++
	}
}

// joinMissing joins what was not joined yet.
func (p *port) joinMissing() (errs []error) {
	for _, group := range addresses(p.unjoined) {
		if err := p.sock.Join(group); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(p.unjoined, group)
	}
	return errs
}

// exit is the opposite of enter; the last of a group has it left.
func (p *port) exit(removed []netip.Addr) (errs []error) {
	for _, addr := range removed {
		group, ok := neighbor.Group(addr)
		if !ok {
			continue
		}
		p.groups[group]--
		if p.groups[group] > 0 {
			continue
		}
		delete(p.groups, group)
		if _, never := p.unjoined[group]; never {
			delete(p.unjoined, group)
			continue
		}
		if err := p.sock.Leave(group); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}
