package prober

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

// errWire is what a fake socket refuses with.
var errWire = errors.New("refused by the test")

// wire is a fake segment for probers: sockets on it, and kernels that answer.
type wire struct {
	mu      sync.Mutex
	sockets []*wireSocket
	// holders have the IPv4 addresses for which requests are answered.
	holders map[netip.Addr]net.HardwareAddr
	sent    []time.Time
	// refuse is the error of opens and sends, as far as they are not nil.
	refuseOpen, refuseSend error
}

type wireSocket struct {
	wire *wire
	spec neighbor.Spec
	// came has a value when something changed for a waiting receive.
	came notify.Signal

	mu      sync.Mutex
	queue   [][]byte
	dropped uint
	roused  bool
	broken  error
	closed  bool
	// frozen: the goroutine gets no processor time; a deadline passes unnoticed.
	frozen bool
	groups []netip.Addr
	wakes  int
}

func (w *wire) open(spec neighbor.Spec) (socket, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuseOpen != nil {
		return nil, w.refuseOpen
	}
	s := &wireSocket{wire: w, spec: spec, came: notify.NewSignal()}
	w.sockets = append(w.sockets, s)
	return s, nil
}

// do changes the socket.
func (s *wireSocket) do(change func()) {
	s.mu.Lock()
	change()
	s.mu.Unlock()
	s.came.Set()
}

func (s *wireSocket) Receive(b []byte, until time.Time) (int, error) {
	var timeout <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		timeout = timer.C
	}
	over := false
	for {
		s.mu.Lock()
		frozen, broken, closed := s.frozen, s.broken, s.closed
		roused := s.roused
		if !frozen {
			s.roused = false
		}
		s.mu.Unlock()
		switch {
		case closed:
			return 0, io.EOF
		case frozen:
		case broken != nil:
			return 0, broken
		case over || roused:
			// As a read whose deadline has passed: it does not look at the queue.
			s.do(func() { s.wakes++ })
			return 0, nil
		default:
			if n, _ := s.Poll(b); n > 0 {
				s.do(func() { s.wakes++ })
				return n, nil
			}
		}
		select {
		case <-s.came.C():
		case <-timeout:
			over = true
		}
	}
}

func (s *wireSocket) Poll(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return 0, nil
	}
	n := copy(b, s.queue[0])
	s.queue = s.queue[1:]
	return n, nil
}

func (s *wireSocket) Lost() (uint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dropped := s.dropped
	s.dropped = 0
	return dropped, nil
}

// TrySend delivers a request to the kernels, which answer at once.
func (s *wireSocket) TrySend(frame []byte) error {
	s.wire.mu.Lock()
	err := s.wire.refuseSend
	var mac net.HardwareAddr
	var about netip.Addr
	if err == nil {
		s.wire.sent = append(s.wire.sent, time.Now())
		if s.spec.Protocol == neighbor.ARP {
			about = netip.AddrFrom4([4]byte(frame[38:]))
			mac = s.wire.holders[about]
		}
	}
	s.wire.mu.Unlock()
	if mac == nil {
		return err
	}
	question, err := neighbor.Parse(frame, mac)
	if err != nil {
		return err
	}
	reply, err := question.Reply(neighbor.Answer{As: mac, From: mac})
	if err != nil {
		return err
	}
	s.do(func() { s.queue = append(s.queue, reply) })
	return nil
}

func (s *wireSocket) Join(group netip.Addr) error {
	s.do(func() { s.groups = append(s.groups, group) })
	return nil
}

func (s *wireSocket) Leave(group netip.Addr) error {
	s.do(func() { s.groups = slices.DeleteFunc(s.groups, func(g netip.Addr) bool { return g == group }) })
	return nil
}

func (s *wireSocket) Rouse() { s.do(func() { s.roused = true }) }

func (s *wireSocket) Close() error {
	s.do(func() { s.closed = true })
	return nil
}

// opened returns the open sockets.
func (w *wire) opened() []*wireSocket {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.sockets), func(s *wireSocket) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.closed
	})
}

// only returns the only open socket.
func (w *wire) only(t *testing.T) *wireSocket {
	t.Helper()
	open := w.opened()
	if len(open) != 1 {
		t.Fatalf("%d sockets are open, want 1", len(open))
	}
	return open[0]
}

// set says who has an address; nil is nobody.
func (w *wire) set(addr netip.Addr, mac net.HardwareAddr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.holders[addr] = mac
}

// frames returns and forgets when frames were sent.
func (w *wire) frames() []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := w.sent
	w.sent = nil
	return sent
}

func (w *wire) refuse(open, send error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuseOpen, w.refuseSend = open, send
}

var (
	probeLink   = lan(2, "eth0", "192.0.2.7/24", "fe80::7/64")
	probeTarget = Target{Node: "client", Link: "eth0", Addr: client4, MAC: clientMAC}
)

// wireBubble runs a story about a prober with fake time and sockets: 100 ms, 3
// misses, eth0 is up, and the client has its address.
func wireBubble(t *testing.T, story func(t *testing.T, p *Prober, w *wire)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &wire{holders: map[netip.Addr]net.HardwareAddr{client4: clientMAC}}
		p, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		p.open = w.open
		p.SetLinks([]links.Link{probeLink})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		synctest.Wait()
		story(t, p, w)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if open := w.opened(); len(open) > 0 {
			t.Errorf("%d sockets were left open", len(open))
		}
	})
}

// expect looks at the client.
func expect(t *testing.T, story string, p *Prober, state Reachability, missed int) {
	t.Helper()
	synctest.Wait()
	if got := p.Reach()["client"]; got.State != state || got.Missed != missed {
		t.Errorf("%s: %s, missed %d; want %s, %d", story, got.State, got.Missed, state, missed)
	}
}

// told takes a value from Changed, and reports whether there was one.
func told(p *Prober) bool {
	synctest.Wait()
	select {
	case <-p.Changed():
		return true
	default:
		return false
	}
}

func TestANodeFallsSilentAndComesBack(t *testing.T) {
	wireBubble(t, func(t *testing.T, p *Prober, w *wire) {
		p.SetTargets([]Target{probeTarget})
		expect(t, "a new target", p, Unknown, 0)
		if !told(p) {
			t.Error("a new node was not told of")
		}
		pause(99 * ms)
		expect(t, "within an interval", p, Answers, 0)
		if !told(p) {
			t.Error("the first answer was not told of")
		}
		w.frames()
		pause(10 * time.Second)
		if sent := w.frames(); len(sent) != 100 {
			t.Errorf("%d probes in 10 s", len(sent))
		}
		if told(p) {
			t.Error("nothing changed, but something was told")
		}
		last := p.Reach()["client"].LastAnswer
		w.set(client4, nil)
		for missed := 1; missed <= 5; missed++ {
			// Probes come 100 ms after the last answer and are judged 100 ms later.
			time.Sleep(time.Until(last.Add(time.Duration(missed+1) * 100 * ms)))
			state := Answers
			if missed >= 3 {
				state = Silent
			}
			expect(t, fmt.Sprintf("after %d misses", missed), p, state, missed)
			if want := missed == 1 || missed == 3; told(p) != want {
				t.Errorf("%d misses: told %t", missed, !want)
			}
		}
		if got := p.Reach()["client"].LastAnswer; got != last {
			t.Errorf("last answer %s, want %s", got, last)
		}
		w.set(client4, clientMAC)
		pause(100 * ms)
		expect(t, "back", p, Answers, 0)
		if !told(p) {
			t.Error("the return was not told of")
		}
		p.SetTargets(nil)
		synctest.Wait()
		if len(p.Reach()) != 0 || len(w.opened()) != 0 || !told(p) {
			t.Error("without targets something is left")
		}
		c := total(p.Stats())
		if c.Misses != 6 || c.Probes != c.Answers+6 || c.Opened != 1 || c.Malformed != 0 {
			t.Errorf("%+v", c)
		}
	})
}

func TestStarvationIsNotSilence(t *testing.T) {
	wireBubble(t, func(t *testing.T, p *Prober, w *wire) {
		p.SetTargets([]Target{probeTarget})
		pause(500 * ms)
		expect(t, "before", p, Answers, 0)
		told(p)
		sock := w.only(t)
		for range 20 {
			// The last probe is sent and answered; then this process is stalled.
			sock.do(func() { sock.frozen = true })
			pause(5 * time.Second)
			w.frames()
			sock.do(func() { sock.frozen = false })
			synctest.Wait()
			if sent := w.frames(); len(sent) > 1 {
				t.Errorf("%d probes at once to make up for lost time", len(sent))
			}
			expect(t, "after the stall", p, Answers, 0)
			pause(37 * ms)
		}
		if c := total(p.Stats()); c.Misses != 0 || told(p) {
			t.Errorf("something was missed: %+v", c)
		}
		// The node dies meanwhile: one probe was on its way at most.
		sock.do(func() { sock.frozen = true })
		w.set(client4, nil)
		pause(5 * time.Second)
		sock.do(func() { sock.frozen = false })
		synctest.Wait()
		if got := p.Reach()["client"]; got.State != Answers || got.Missed > 1 {
			t.Errorf("judged without probes: %+v", got)
		}
		pause(500 * ms)
		if got := p.Reach()["client"]; got.State != Silent {
			t.Errorf("after probes of its own: %+v", got)
		}
	})
}

func TestLostFramesAreNotSilence(t *testing.T) {
	wireBubble(t, func(t *testing.T, p *Prober, w *wire) {
		p.SetTargets([]Target{probeTarget})
		pause(500 * ms)
		w.set(client4, nil) // its answers are among the lost
		sock := w.only(t)
		for range 4 {
			expect(t, "while frames are lost", p, Answers, 0)
			sock.do(func() { sock.dropped = 3 })
			pause(50 * ms)
		}
		for range 10 {
			sock.do(func() { sock.dropped = 3 })
			pause(50 * ms)
		}
		expect(t, "while frames are lost for long", p, Unknown, 0)
		if c := total(p.Stats()); c.Lost == 0 || c.Misses != 0 {
			t.Errorf("%+v", c)
		}
	})
}

func TestALinkThatIsDownTellsNothing(t *testing.T) {
	wireBubble(t, func(t *testing.T, p *Prober, w *wire) {
		p.SetTargets([]Target{probeTarget, {Node: "six", Link: "eth0", Addr: client6}})
		pause(500 * ms)
		told(p)
		w.set(client4, nil)
		pause(500 * ms)
		expect(t, "before", p, Silent, p.Reach()["client"].Missed)
		told(p)
		down := probeLink
		down.Up = false
		for story, have := range map[string][]links.Link{"down": {down}, "gone": nil} {
			p.SetLinks(have)
			expect(t, story, p, Unknown, 0)
			if !told(p) || len(w.opened()) != 0 {
				t.Errorf("%s: not told, or %d sockets are open", story, len(w.opened()))
			}
			w.frames()
			pause(time.Second)
			if sent := w.frames(); len(sent) > 0 {
				t.Errorf("%s: %d probes were sent", story, len(sent))
			}
			w.set(client4, clientMAC)
			p.SetLinks([]links.Link{probeLink})
			pause(200 * ms)
			expect(t, story+", and back", p, Answers, 0)
			told(p)
		}
		moved := probeLink
		moved.HardwareAddr = otherMAC
		before := w.opened()
		p.SetLinks([]links.Link{moved})
		expect(t, "the link has another Ethernet address", p, Answers, 0)
		if after := w.opened(); len(after) != 2 || after[0] == before[0] || told(p) {
			t.Error("no new sockets, or told without reason")
		}
		renumbered := moved
		renumbered.Index++
		p.SetLinks([]links.Link{renumbered})
		expect(t, "it is another link of that name", p, Unknown, 0)
		pause(200 * ms)
		expect(t, "it is another link of that name, later", p, Answers, 0)
	})
}

func TestFailuresAreNotSilence(t *testing.T) {
	wireBubble(t, func(t *testing.T, p *Prober, w *wire) {
		p.SetTargets([]Target{probeTarget})
		pause(500 * ms)
		w.refuse(nil, errWire)
		pause(150 * ms)
		expect(t, "the device is busy", p, Answers, 0)
		pause(500 * ms)
		expect(t, "the device is busy for long", p, Unknown, 0)
		w.refuse(nil, nil)
		pause(200 * ms)
		expect(t, "it can send again", p, Answers, 0)

		sock := w.only(t)
		w.refuse(errWire, nil)
		sock.do(func() { sock.broken = errWire })
		expect(t, "the socket failed", p, Unknown, 0)
		pause(5 * time.Second)
		if failures := total(p.Stats()).Failures; failures < 5 || failures > 8 {
			t.Errorf("%d failures in 5 s", failures)
		}
		w.refuse(nil, nil)
		pause(10 * time.Second)
		expect(t, "another was opened", p, Answers, 0)
	})
}

func TestOneOfTwoWaysIsEnough(t *testing.T) {
	wireBubble(t, func(t *testing.T, p *Prober, w *wire) {
		w.set(vip4, clientMAC)
		eth1 := lan(3, "eth1", "192.0.2.8/24")
		p.SetLinks([]links.Link{probeLink, eth1})
		p.SetTargets([]Target{probeTarget, {Node: "client", Link: "eth1", Addr: vip4}})
		pause(500 * ms)
		told(p)
		w.set(vip4, nil)
		pause(time.Second)
		expect(t, "one way is dead", p, Answers, 0)
		if told(p) {
			t.Error("told of nothing")
		}
		p.SetLinks([]links.Link{eth1})
		if got := p.Reach()["client"]; got.State == Unknown {
			t.Errorf("the way that is left is silent, but: %+v", got)
		}
		pause(500 * ms)
		if got := p.Reach()["client"]; got.State != Silent {
			t.Errorf("the way that is left is silent, but: %+v", got)
		}
	})
}

func TestHundredsOfTargetsCostFewWakes(t *testing.T) {
	wireBubble(t, func(t *testing.T, p *Prober, w *wire) {
		var targets []Target
		addr := netip.MustParseAddr("192.0.2.10")
		for range 200 {
			targets = append(targets, Target{Node: addr.String(), Link: "eth0", Addr: addr, MAC: clientMAC})
			w.set(addr, clientMAC)
			addr = addr.Next()
		}
		p.SetTargets(targets)
		pause(time.Second)
		sock := w.only(t)
		sock.do(func() { sock.wakes = 0 })
		w.frames()
		pause(time.Second)
		if sent := w.frames(); len(sent) != 2000 {
			t.Errorf("%d probes in a second, want 2000", len(sent))
		}
		// Each slot is a wake for the time and one for the answers.
		if sock.wakes > 10*2*slotCount {
			t.Errorf("%d wakes in a second", sock.wakes)
		}
		for node, r := range p.Reach() {
			if r.State != Answers || r.Missed != 0 {
				t.Errorf("%s: %+v", node, r)
			}
		}
	})
}

func TestAskTakesItsTime(t *testing.T) {
	wireBubble(t, func(t *testing.T, p *Prober, w *wire) {
		ask := func(story string, q Question, took time.Duration, want ...net.HardwareAddr) {
			t.Helper()
			begin := time.Now()
			macs, err := everybody(p.Ask(t.Context(), q))
			if err != nil || !slices.EqualFunc(macs, want, func(a, b net.HardwareAddr) bool {
				return a.String() == b.String()
			}) {
				t.Errorf("%s: %v, %v; want %v", story, macs, err, want)
			}
			if got := time.Since(begin); got != took {
				t.Errorf("%s: took %s, want %s", story, got, took)
			}
		}
		ask("a free address", Question{Addr: vip4, Link: "eth0", Count: 2, Interval: 50 * ms}, 100*ms)
		if sent := w.frames(); len(sent) != 2 || sent[1].Sub(sent[0]) != 50*ms {
			t.Errorf("sent at %v", sent)
		}
		ask("one that is taken", Question{Addr: client4, Link: "eth0", Count: 1, Interval: 50 * ms}, 50*ms,
			clientMAC)
		ask("by default", Question{Addr: client4, Link: "eth0"}, 600*ms, clientMAC)
		pause(2 * askLinger)
		if len(w.opened()) != 0 {
			t.Error("the socket stays open without questions")
		}
		ask("IPv6", Question{Addr: vip6, Link: "eth0", Count: 1, Interval: 50 * ms}, 50*ms)
		if sock := w.only(t); len(sock.groups) != 0 {
			t.Errorf("groups %v were not left", sock.groups)
		}
		if c := total(p.Stats()); c.Asks != 4 || c.Questions != 7 {
			t.Errorf("%+v", c)
		}
	})
}

func TestAskListensInTheGroupAndToOthers(t *testing.T) {
	wireBubble(t, func(t *testing.T, p *Prober, w *wire) {
		var asked sync.WaitGroup
		for range 2 {
			asked.Go(func() {
				macs, err := everybody(p.Ask(t.Context(),
					Question{Addr: vip6, Link: "eth0", Count: 1, Interval: time.Second}))
				if err != nil || len(macs) != 1 || macs[0].String() != clientMAC.String() {
					t.Errorf("%v, %v", macs, err)
				}
			})
		}
		pause(100 * ms)
		sock := w.only(t)
		if !slices.Equal(sock.groups, []netip.Addr{vip6SNM}) {
			t.Errorf("groups %v", sock.groups)
		}
		sock.do(func() {
			sock.queue = append(sock.queue, dadSolicit(t), nil, dadSolicit(t), []byte("noise"))
		})
		asked.Wait()
	})
}

func TestAskEndsWithTheReason(t *testing.T) {
	wireBubble(t, func(t *testing.T, p *Prober, w *wire) {
		q := Question{Addr: client4, Link: "eth0", Count: 10, Interval: 100 * ms}
		ask := func(ctx context.Context,
			q Question) (macs []net.HardwareAddr, took time.Duration, err error) {
			begin := time.Now()
			macs, err = everybody(p.Ask(ctx, q))
			return macs, time.Since(begin), err
		}
		ctx, cancel := context.WithTimeout(t.Context(), 250*ms)
		defer cancel()
		if macs, took, err := ask(ctx, q); !errors.Is(err, context.DeadlineExceeded) ||
			len(macs) != 1 || took != 250*ms {
			t.Errorf("the context ended: %v, %v after %s", macs, err, took)
		}
		w.frames()
		pause(time.Second)
		if sent := w.frames(); len(sent) > 0 {
			t.Errorf("%d frames for nobody", len(sent))
		}
		time.AfterFunc(250*ms, func() { p.SetLinks(nil) })
		if _, took, err := ask(t.Context(), q); !errors.Is(err, ErrLinkUnusable) || took != 250*ms {
			t.Errorf("the link went: %v after %s", err, took)
		}
		if _, took, err := ask(t.Context(), q); !errors.Is(err, ErrLinkUnusable) || took != 0 {
			t.Errorf("there is no link: %v after %s", err, took)
		}
		p.SetLinks([]links.Link{probeLink})
		w.refuse(nil, errWire)
		if _, took, err := ask(t.Context(), q); !errors.Is(err, errWire) || took != 900*ms {
			t.Errorf("nothing can be sent: %v after %s", err, took)
		}
		w.refuse(errWire, nil)
		pause(2 * askLinger)
		if _, took, err := ask(t.Context(), q); !errors.Is(err, errWire) || took != 0 {
			t.Errorf("no socket can be opened: %v after %s", err, took)
		}
		w.refuse(nil, nil)
		pause(100 * ms)
		free := Question{Addr: vip4, Link: "eth0"}
		time.AfterFunc(50*ms, func() { sock := w.only(t); sock.do(func() { sock.dropped = 1 }) })
		if _, _, err := ask(t.Context(), free); !errors.Is(err, ErrFramesLost) {
			t.Errorf("frames were lost: %v", err)
		}
		for _, bad := range []Question{
			{Link: "eth0"}, {Addr: netip.MustParseAddr("224.0.0.1"), Link: "eth0"},
			{Addr: vip4, Link: "eth0", Count: -1}, {Addr: vip4, Link: "eth0", Interval: -1},
		} {
			if _, took, err := ask(t.Context(), bad); err == nil || took != 0 {
				t.Errorf("%+v: %v after %s", bad, err, took)
			}
		}
	})
}

func TestAskIsPaced(t *testing.T) {
	wireBubble(t, func(t *testing.T, p *Prober, w *wire) {
		const count = 2000
		var asked sync.WaitGroup
		addr := netip.MustParseAddr("10.0.0.1")
		begin := time.Now()
		for range count {
			at := addr
			asked.Go(func() {
				macs, err := everybody(p.Ask(t.Context(),
					Question{Addr: at, Link: "eth0", Count: 3, Interval: 100 * ms}))
				if err != nil || len(macs) > 0 {
					t.Errorf("%s: %v, %v", at, macs, err)
				}
			})
			addr = addr.Next()
		}
		asked.Wait()
		sent := w.frames()
		if len(sent) != 3*count {
			t.Errorf("%d frames", len(sent))
		}
		for i := range sent {
			if j := i + askRate + askBurst; j < len(sent) && sent[j].Sub(sent[i]) < time.Second {
				t.Fatalf("%d frames in %s", askRate+askBurst, sent[j].Sub(sent[i]))
			}
		}
		if took := time.Since(begin); took < 2900*ms || took > 3500*ms {
			t.Errorf("took %s", took)
		}
	})
}

func TestAskBeforeAndAfterRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{holders: map[netip.Addr]net.HardwareAddr{client4: clientMAC}}
		p, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		p.open = w.open
		p.SetLinks([]links.Link{probeLink})
		p.SetTargets([]Target{probeTarget})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			macs, err := everybody(p.Ask(t.Context(), Question{Addr: client4, Link: "eth0"}))
			if err != nil || len(macs) != 1 {
				t.Errorf("asked before Run: %v, %v", macs, err)
			}
		})
		pause(time.Second)
		running.Go(func() { _ = p.Run(ctx) })
		pause(time.Second)
		running.Go(func() {
			_, err := p.Ask(t.Context(), Question{Addr: client4, Link: "eth0"})
			if !errors.Is(err, ErrStopped) {
				t.Errorf("asked when Run ended: %v", err)
			}
		})
		pause(100 * ms)
		cancel()
		running.Wait()
		if _, err := p.Ask(t.Context(), Question{Addr: client4, Link: "eth0"}); !errors.Is(err, ErrStopped) {
			t.Errorf("asked after Run: %v", err)
		}
		expect(t, "after Run", p, Unknown, 0)
		if err := p.Run(t.Context()); err == nil {
			t.Error("ran twice")
		}
	})
}

func TestConfig(t *testing.T) {
	for _, bad := range []Config{{Interval: -1}, {Interval: time.Microsecond}, {Misses: -1}} {
		if _, err := New(bad); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
	p, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"224.0.0.1", "127.0.0.1", "0.0.0.0", "255.255.255.255", "ff02::1", "::"} {
		p.SetTargets([]Target{{Node: "n", Link: "eth0", Addr: netip.MustParseAddr(bad)}, {Node: "invalid"}})
		if r := p.Reach(); len(r) != 0 {
			t.Errorf("%s is a target: %+v", bad, r)
		}
	}
	p.SetTargets([]Target{{Node: "n", Link: "eth0", Addr: netip.MustParseAddr("::ffff:192.0.2.9")}})
	if _, ok := p.books[(portKey{link: "eth0", protocol: neighbor.ARP})]; !ok {
		t.Error("a mapped address is not asked for by ARP")
	}
}

// everybody is all whom Ask found, holders first.
func everybody(found Found, err error) ([]net.HardwareAddr, error) {
	return append(found.Holders, found.Probers...), err
}
