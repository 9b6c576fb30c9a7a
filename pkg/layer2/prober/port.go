package prober

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

// socket is what a port needs of a [neighbor.Socket]. One goroutine sends, waits and
// reads the queue empty; others only rouse and close.
type socket interface {
	Receive(b []byte, until time.Time) (int, error)
	Poll(b []byte) (int, error)
	Lost() (uint, error)
	TrySend(frame []byte) error
	Join(group netip.Addr) error
	Leave(group netip.Addr) error
	Rouse()
	Close() error
}

// openSocket opens a socket of the kernel.
func openSocket(spec neighbor.Spec) (socket, error) { return neighbor.Open(spec) }

// maxDrain is how many frames are read in a row before anything else is done. A
// queue that is not empty then counts as one that lost frames.
const maxDrain = 4096

// role is one of the two uses of a socket: to probe targets, or to ask who has an
// address. They are apart so that a storm of ARP, which one who asks has to listen to,
// neither delays probes nor crowds out their answers.
type role struct {
	portKey
	asks bool
}

// port is an open socket with its goroutine. A change of the link's index or Ethernet
// address makes a new port.
type port struct {
	p        *Prober
	role     role
	link     links.Link
	sock     socket
	counters *counters
	// joined are the groups that were joined; the goroutine's own.
	joined map[netip.Addr]struct{}
	// idle is since when Run has seen no question for it; Run's own.
	idle time.Time
}

// Close closes the socket.
func (o *port) Close() error { return o.sock.Close() }

// Serve waits, reads the queue empty, and has work done, until the socket fails.
func (o *port) Serve() error {
	work := o.probe
	if o.role.asks {
		work = o.ask
	}
	b := make([]byte, neighbor.ReadLen)
	until := time.Now()
	for {
		n, err := o.sock.Receive(b, until)
		if err != nil {
			return err
		}
		// What was to arrive before now is in the queue that is read empty next.
		now := time.Now()
		lost, err := o.drain(b, n, now)
		if err != nil {
			return err
		}
		until = work(now, lost)
	}
}

// drain takes the frame of n bytes, if any, and all others in the queue. It
// reports whether frames were lost.
func (o *port) drain(b []byte, n int, now time.Time) (lost bool, err error) {
	for count := 0; ; count++ {
		if n > 0 {
			o.take(b[:n], now)
		}
		if count == maxDrain {
			return true, nil
		}
		if n, err = o.sock.Poll(b); err != nil {
			return false, err
		}
		if n == 0 {
			break
		}
	}
	dropped, err := o.sock.Lost()
	if err != nil {
		return false, err
	}
	o.counters.lost.Add(uint64(dropped))
	return dropped > 0, nil
}

// take notes what one frame says.
func (o *port) take(frame []byte, now time.Time) {
	seen, ok := see(frame, o.link.HardwareAddr)
	if !ok {
		o.counters.malformed.Add(1)
		return
	}
	if seen.what == sawNothing {
		return
	}
	o.p.mu.Lock()
	defer o.p.mu.Unlock()
	if o.role.asks {
		o.p.asks[o.role.portKey].saw(seen)
		return
	}
	if b := o.p.books[o.role.portKey]; b != nil && seen.answer {
		o.counters.answers.Add(uint64(min(b.answered(seen.addr, now), 1)))
	}
}

// probe judges and probes the targets whose turn has come, and returns when the
// next turn comes, zero when none will.
func (o *port) probe(now time.Time, lost bool) time.Time {
	type outgoing struct {
		*track
		frame []byte
	}
	var out []outgoing
	o.p.mu.Lock()
	b := o.p.books[o.role.portKey]
	if b == nil {
		o.p.mu.Unlock()
		return time.Time{} // about to be closed
	}
	turn, misses := b.pass(now, lost)
	for _, t := range turn {
		out = append(out, outgoing{t, t.frame})
	}
	o.p.mu.Unlock()
	o.counters.misses.Add(uint64(misses))

	sent := make([]time.Time, len(out))
	for i, probe := range out {
		if err := o.sock.TrySend(probe.frame); err != nil {
			o.counters.unsent.Add(1)
			continue
		}
		sent[i] = time.Now()
		o.counters.probes.Add(1)
	}

	o.p.mu.Lock()
	for i, probe := range out {
		if sent[i].IsZero() {
			b.probed(probe.track, now, false)
		} else {
			b.probed(probe.track, sent[i], true)
		}
	}
	report := func() {}
	if b.news {
		report = o.p.newsLocked()
	}
	next, _ := b.next()
	o.p.mu.Unlock()
	report()
	return next
}

// ask ends the questions whose time is over, sends what is due as far as the
// pace lets it, and returns when something will be due.
func (o *port) ask(now time.Time, lost bool) time.Time {
	o.p.mu.Lock()
	b := o.p.asks[o.role.portKey]
	if lost {
		b.lose()
	}
	busy := len(b.byAddr) > 0
	b.finish(now)
	left := b.leave()
	o.p.mu.Unlock()
	for _, group := range left {
		o.leave(group)
	}
	for {
		o.p.mu.Lock()
		a, ok := b.take(now)
		next, more := b.next()
		o.p.mu.Unlock()
		if !ok {
			if busy && !more {
				o.p.wake.Set() // Run closes the port after a while
			}
			return next
		}
		busy = true
		if moment := time.Now(); !o.p.pacer.AllowN(moment, 1) {
			return moment.Add(askPause)
		}
		sourced, err := o.question(a)
		o.p.mu.Lock()
		b.asked(a, time.Now(), sourced, err)
		o.p.mu.Unlock()
	}
}

// question sends one frame of a question, from when on answers and the same
// question of others are heard. It reports whether that came from an address of the
// link.
func (o *port) question(a *asking) (sourced bool, err error) {
	err = o.join(a.group)
	var source netip.Addr
	if a.AsHost {
		o.p.mu.Lock()
		link := o.p.links[o.role.link] // its addresses may be others than when the port was opened
		o.p.mu.Unlock()
		source, sourced = hostSource(link, a.Addr)
	}
	var frame []byte
	if err == nil {
		question := neighbor.Question{Sender: neighbor.Binding{MAC: o.link.HardwareAddr}, Target: a.Addr}
		if sourced {
			question.Sender.IP = source
		} else {
			question.Nonce = a.nonce
		}
		frame, err = question.Frame()
	}
	if err == nil {
		err = o.sock.TrySend(frame)
	}
	if err != nil {
		o.counters.unsent.Add(1)
		return sourced, err
	}
	o.counters.questions.Add(1)
	return sourced, nil
}

// join joins a group that is valid and not joined yet.
func (o *port) join(group netip.Addr) error {
	if _, ok := o.joined[group]; ok || !group.IsValid() {
		return nil
	}
	if err := o.sock.Join(group); err != nil {
		return err
	}
	o.joined[group] = struct{}{}
	return nil
}

func (o *port) leave(group netip.Addr) {
	if _, ok := o.joined[group]; !ok {
		return
	}
	delete(o.joined, group)
	if err := o.sock.Leave(group); err != nil {
		o.p.log.Warn("cannot leave group", "link", o.role.link, "address", group, "error", err)
	}
}

// openPort opens a socket for a role.
func (p *Prober) openPort(r role, link links.Link) (*port, error) {
	spec := neighbor.Spec{
		Link:       link,
		Protocol:   r.protocol,
		Filter:     r.protocol.AnswerFilter(link.Index),
		ReadBuffer: 1 << 20,
	}
	if r.asks {
		// Two thousand addresses that are all taken answer within a second.
		spec.Filter, spec.ReadBuffer = r.protocol.HolderFilter(link.Index), 4<<20
	}
	sock, err := p.open(spec)
	if err != nil {
		return nil, fmt.Errorf("%s on %s: %w", r.protocol, r.link, err)
	}
	p.mu.Lock()
	opened := &port{
		p:        p,
		role:     r,
		link:     link,
		sock:     sock,
		counters: p.counterLocked(r.portKey),
		joined:   make(map[netip.Addr]struct{}),
	}
	p.mu.Unlock()
	opened.counters.opened.Add(1)
	return opened, nil
}
