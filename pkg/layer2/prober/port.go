package prober

import (
	"bytes"
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

// probeRole is one of the two uses of a socket: to probe targets, or to ask
// whether addresses are free. They are apart so that a storm of ARP, which one
// who asks has to listen to, neither delays probes nor crowds out their answers.
type probeRole struct {
	probeKey
	asks bool
}

// probePort is an open socket with its goroutine. A change of the link's index
// or Ethernet address makes a new port.
type probePort struct {
	*Prober
	key      probeRole
	link     links.Link
	sock     socket
	counters *probeCounters
	opened   time.Time
	// joined are the groups that were joined; the goroutine's own.
	joined map[netip.Addr]struct{}
	// idle is since when Run has seen no question for it; Run's own.
	idle time.Time
	// closing is closed before the socket, done when the goroutine has ended.
	closing chan struct{}
	done    chan struct{}
}

// sameStation reports whether the link is still the one the port was opened on.
func (p *probePort) sameStation(l links.Link) bool {
	return p.link.Index == l.Index && bytes.Equal(p.link.HardwareAddr, l.HardwareAddr)
}

// close ends the port and its goroutine.
func (p *probePort) close() error {
	close(p.closing)
	err := p.sock.Close()
	<-p.done
	return err
}

// serve waits, reads the queue empty, and has work done, until the socket fails.
func (p *probePort) serve() error {
	work := p.probe
	if p.key.asks {
		work = p.ask
	}
	b := make([]byte, neighbor.ReadLen)
	until := time.Now()
	for {
		n, err := p.sock.Receive(b, until)
		if err != nil {
			return err
		}
		// What was to arrive before now is in the queue that is read empty next.
		now := time.Now()
		lost, err := p.drain(b, n, now)
		if err != nil {
			return err
		}
		until = work(now, lost)
	}
}

// drain takes the frame of n bytes, if any, and all others in the queue. It
// reports whether frames were lost.
func (p *probePort) drain(b []byte, n int, now time.Time) (lost bool, err error) {
	for count := 0; ; count++ {
		if n > 0 {
			p.take(b[:n], now)
		}
		if count == maxDrain {
			return true, nil
		}
		if n, err = p.sock.Poll(b); err != nil {
			return false, err
		}
		if n == 0 {
			break
		}
	}
	dropped, err := p.sock.Lost()
	if err != nil {
		return false, err
	}
	p.counters.lost.Add(uint64(dropped))
	return dropped > 0, nil
}

// take notes what one frame says.
func (p *probePort) take(frame []byte, now time.Time) {
	seen, ok := see(frame, p.link.HardwareAddr)
	if !ok {
		p.counters.malformed.Add(1)
		return
	}
	if seen.what == sawNothing {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.key.asks {
		p.asks[p.key.probeKey].saw(seen)
		return
	}
	if b := p.books[p.key.probeKey]; b != nil && seen.answer {
		p.counters.answers.Add(uint64(min(b.answered(seen.addr, now), 1)))
	}
}

// probe judges and probes the targets whose turn has come, and returns when the
// next turn comes, zero when none will.
func (p *probePort) probe(now time.Time, lost bool) time.Time {
	type outgoing struct {
		*track
		frame []byte
	}
	var out []outgoing
	p.mu.Lock()
	b := p.books[p.key.probeKey]
	if b == nil {
		p.mu.Unlock()
		return time.Time{} // about to be closed
	}
	turn, misses := b.pass(now, lost)
	for _, t := range turn {
		out = append(out, outgoing{t, t.frame})
	}
	p.mu.Unlock()
	p.counters.misses.Add(uint64(misses))

	sent := make([]time.Time, len(out))
	for i, o := range out {
		if err := p.sock.TrySend(o.frame); err != nil {
			p.counters.unsent.Add(1)
			continue
		}
		sent[i] = time.Now()
		p.counters.probes.Add(1)
	}

	p.mu.Lock()
	for i, o := range out {
		if sent[i].IsZero() {
			b.probed(o.track, now, false)
		} else {
			b.probed(o.track, sent[i], true)
		}
	}
	tell := func() {}
	if b.news {
		tell = p.newsLocked()
	}
	next, _ := b.next()
	p.mu.Unlock()
	tell()
	return next
}

// ask ends the questions whose time is over, sends what is due as far as the
// pace lets it, and returns when something will be due.
func (p *probePort) ask(now time.Time, lost bool) time.Time {
	p.mu.Lock()
	b := p.asks[p.key.probeKey]
	if lost {
		b.lose()
	}
	busy := len(b.byAddr) > 0
	b.finish(now)
	left := b.leave()
	p.mu.Unlock()
	for _, group := range left {
		p.leave(group)
	}
	for {
		p.mu.Lock()
		a, ok := b.take(now)
		next, more := b.next()
		p.mu.Unlock()
		if !ok {
			if busy && !more {
				signal(p.wake) // Run closes the port after a while
			}
			return next
		}
		busy = true
		if moment := time.Now(); !p.pacer.AllowN(moment, 1) {
			return moment.Add(askPause)
		}
		sourced, err := p.question(a)
		p.mu.Lock()
		b.asked(a, time.Now(), sourced, err)
		p.mu.Unlock()
	}
}

// question sends one frame of a question, from when on answers and the same
// question of others are heard. It reports whether that came from an address of the
// link.
func (p *probePort) question(a *asking) (sourced bool, err error) {
	err = p.join(a.group)
	var source netip.Addr
	if a.AsHost {
		p.mu.Lock()
		link := p.links[p.key.link] // its addresses may be others than when the port was opened
		p.mu.Unlock()
		source, sourced = hostSource(link, a.Addr)
	}
	var frame []byte
	if err == nil {
		question := neighbor.Question{Sender: neighbor.Binding{MAC: p.link.HardwareAddr}, Target: a.Addr}
		if sourced {
			question.Sender.IP = source
		} else {
			question.Nonce = a.nonce
		}
		frame, err = question.Frame()
	}
	if err == nil {
		err = p.sock.TrySend(frame)
	}
	if err != nil {
		p.counters.unsent.Add(1)
		return sourced, err
	}
	p.counters.questions.Add(1)
	return sourced, nil
}

// join joins a group that is valid and not joined yet.
func (p *probePort) join(group netip.Addr) error {
	if _, ok := p.joined[group]; ok || !group.IsValid() {
		return nil
	}
	if err := p.sock.Join(group); err != nil {
		return err
	}
	p.joined[group] = struct{}{}
	return nil
}

func (p *probePort) leave(group netip.Addr) {
	if _, ok := p.joined[group]; !ok {
		return
	}
	delete(p.joined, group)
	if err := p.sock.Leave(group); err != nil {
		p.log.Warn("cannot leave group", "link", p.key.link, "address", group, "error", err)
	}
}

// openProbePort opens a port and starts its goroutine, which tells of its end on
// failures.
func (p *Prober) openProbePort(key probeRole, link links.Link, failures chan<- probeFailure) (*probePort, error) {
	spec := neighbor.Spec{
		Link:       link,
		Protocol:   key.protocol,
		Filter:     key.protocol.AnswerFilter(link.Index),
		ReadBuffer: 1 << 20,
	}
	if key.asks {
		// Two thousand addresses that are all taken answer within a second.
		spec.Filter, spec.ReadBuffer = key.protocol.HolderFilter(link.Index), 4<<20
	}
	sock, err := p.open(spec)
	if err != nil {
		return nil, fmt.Errorf("%s on %s: %w", key.protocol, key.link, err)
	}
	p.mu.Lock()
	port := &probePort{
		Prober:   p,
		key:      key,
		link:     link,
		sock:     sock,
		counters: p.counterLocked(key.probeKey),
		opened:   time.Now(),
		joined:   make(map[netip.Addr]struct{}),
		closing:  make(chan struct{}),
		done:     make(chan struct{}),
	}
	p.mu.Unlock()
	port.counters.opened.Add(1)
	go func() {
		defer close(port.done)
		err := port.serve()
		select {
		case failures <- probeFailure{port, err}:
		case <-port.closing:
		}
	}()
	return port, nil
}
