package bfd

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	addrA = netip.MustParseAddr("192.0.2.1")
	addrB = netip.MustParseAddr("192.0.2.2")
)

// running is a speaker that runs until the test stops it.
type running struct {
	*Speaker
	node *fakeNode
	stop func()
}

// start runs a speaker with one session, in a bubble.
func start(t *testing.T, n *fakeNode, sessions map[Key]SessionConfig) *running {
	t.Helper()
	s, err := New(Config{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	s.network = n
	if err := s.Set(sessions); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	r := &running{Speaker: s, node: n}
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(r.stop)
	return r
}

func (r *running) only(t *testing.T) Status {
	t.Helper()
	all := r.State()
	if len(all) != 1 {
		t.Fatalf("%d sessions", len(all))
	}
	return all[0]
}

// startPair is two speakers with a session between them that has come up.
func startPair(t *testing.T, a, b SessionConfig) (*wire, *running, *running) {
	t.Helper()
	w := newWire()
	ra := start(t, w.node("192.0.2.1"), map[Key]SessionConfig{{Peer: addrB}: a})
	rb := start(t, w.node("192.0.2.2"), map[Key]SessionConfig{{Peer: addrA}: b})
	elapse(3 * time.Second)
	if ra.only(t).State != Up || rb.only(t).State != Up {
		t.Fatalf("not up: %+v", ra.only(t))
	}
	return w, ra, rb
}

func TestSessionsComeUpAndStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := startPair(t, fast(), fast())
		elapse(time.Hour)
		for _, s := range []Status{a.only(t), b.only(t)} {
			if s.State != Up || s.Downs != 0 || s.Ups != 1 || s.Problem != "" || s.Polling {
				t.Errorf("after an hour: %+v", s)
			}
			if s.TransmitInterval != 100*ms || s.DetectionTime != 300*ms || s.RemoteDetectionTime != 300*ms {
				t.Errorf("negotiated %+v", s)
			}
			// 87.5 ms on average.
			if n := s.Counters.Sent; n < 40_000 || n > 43_000 {
				t.Errorf("sent %d packets in an hour", n)
			}
			if s.Counters.Dropped() != 0 {
				t.Errorf("dropped %v", s.Counters.Received)
			}
		}
	})
}

func TestACutPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b := startPair(t, fast(), fast())
		<-a.Changed()
		cutAt := time.Now()
		w.setCut(func(_, _ netip.Addr) bool { return true })
		<-a.Changed()
		if took := time.Since(cutAt); took > 300*ms || took < 200*ms {
			t.Errorf("detected after %s", took)
		}
		elapse(time.Second)
		for _, s := range []Status{a.only(t), b.only(t)} {
			if !s.Failed() || s.LastDown.Cause != CauseSilence || s.Diagnostic != DiagTimeExpired {
				t.Errorf("%+v", s)
			}
		}
		w.setCut(nil)
		elapse(3 * time.Second)
		if s := a.only(t); s.State != Up || s.Ups != 2 || s.Downs != 1 || s.Failed() {
			t.Errorf("after it was mended: %+v", s)
		}
	})
}

func TestAOneWayCutIsToldByTheOtherEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b := startPair(t, fast(), fast())
		w.setCut(func(from, _ netip.Addr) bool { return from == addrA })
		elapse(time.Second)
		if s := b.only(t); s.LastDown.Cause != CauseSilence {
			t.Errorf("who hears nothing: %+v", s)
		}
		if s := a.only(t); s.LastDown.Cause != CausePeerDown || s.RemoteDiagnostic != DiagTimeExpired ||
			!s.Failed() {
			t.Errorf("who is not heard: %+v", s)
		}
	})
}

func TestSetChangesARunningSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := startPair(t, fast(), fast())
		slow := SessionConfig{
			ReceiveInterval:  time.Second,
			TransmitInterval: 2 * time.Second,
			DetectMultiplier: 5,
		}
		if err := a.Set(map[Key]SessionConfig{{Peer: addrB}: slow}); err != nil {
			t.Fatal(err)
		}
		elapse(10 * time.Second)
		if s := b.only(t); s.DetectionTime != 10*time.Second || s.TransmitInterval != time.Second ||
			s.Downs != 0 {
			t.Errorf("the other end: %+v", s)
		}
		if err := a.Set(map[Key]SessionConfig{{Peer: addrB}: fast()}); err != nil {
			t.Fatal(err)
		}
		elapse(10 * time.Second)
		if s := b.only(t); s.DetectionTime != 300*ms || s.TransmitInterval != 100*ms || s.Downs != 0 {
			t.Errorf("and back: %+v", s)
		}
		if s := a.only(t); s.Downs != 0 || s.Polling {
			t.Errorf("this end: %+v", s)
		}
	})
}

func TestARemovedSessionIsNoFailureAtThePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := startPair(t, fast(), fast())
		if err := a.Set(nil); err != nil {
			t.Fatal(err)
		}
		elapse(time.Second)
		if len(a.State()) != 0 {
			t.Errorf("still there: %+v", a.State())
		}
		if s := b.only(t); s.Failed() || s.LastDown.Cause != CausePeerAdminDown || s.State != Down {
			t.Errorf("the peer sees %+v", s)
		}
		elapse(5 * time.Second)
		if n := len(a.node.listeners); n != 0 {
			t.Errorf("%d sockets are open for nobody", n)
		}
		if err := a.Set(map[Key]SessionConfig{{Peer: addrB}: fast()}); err != nil {
			t.Fatal(err)
		}
		elapse(5 * time.Second)
		if a.only(t).State != Up || b.only(t).State != Up {
			t.Errorf("does not come back: %+v", b.only(t))
		}
	})
}

func TestASessionThatComesBackWhileItLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b := startPair(t, fast(), fast())
		w.setCut(func(from, _ netip.Addr) bool { return from == addrB }) // no answer to the farewell
		_ = a.Set(nil)
		elapse(ms)
		_ = a.Set(map[Key]SessionConfig{{Peer: addrB}: fast()})
		elapse(ms)
		w.setCut(nil)
		elapse(5 * time.Second)
		if a.only(t).State != Up || b.only(t).State != Up || b.only(t).Failed() {
			t.Errorf("%+v", b.only(t))
		}
	})
}

func TestStopIsNoFailureAtThePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := startPair(t, fast(), fast())
		begin := time.Now()
		a.stop()
		if took := time.Since(begin); took > 10*ms {
			t.Errorf("stayed for %s though the peer answers at once", took)
		}
		if s := a.only(t); s.State != AdminDown || s.LastDown.Cause != CauseRemoved || s.Failed() ||
			s.Problem != "" {
			t.Errorf("tells %+v", s)
		}
		elapse(time.Second)
		if s := b.only(t); s.Failed() || !s.PeerAdminDown {
			t.Errorf("the peer sees %+v", s)
		}
	})
}

// TestAStoppingSpeakerWaitsQuietly: it does not look for work while it signals
// AdminDown for long.
func TestAStoppingSpeakerWaitsQuietly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		n := w.node("192.0.2.1")
		n.broken = errors.New("the port is taken") // so that a retry is due
		s, err := New(Config{Farewell: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		s.network = n
		_ = s.Set(map[Key]SessionConfig{{Peer: addrB}: {}})
		l := newLoop(s)
		l.reconcileIfNew(time.Now(), time.Time{})
		if l.retryAt.IsZero() {
			t.Fatal("no retry is due")
		}
		later := time.Now().Add(5 * time.Second)
		l.leaveAll(later)
		if d := l.untilNext(later, later.Add(time.Second)); d != time.Second {
			t.Errorf("waits %s for the end that is a second away", d)
		}
	})
}

func TestStopDoesNotWaitForTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := SessionConfig{TransmitInterval: time.Minute}
		w, a, _ := startPair(t, slow, fast())
		elapse(10 * time.Second)
		w.setCut(func(_, _ netip.Addr) bool { return true })
		begin := time.Now()
		a.stop()
		if took := time.Since(begin); took > time.Second {
			t.Errorf("stayed for %s", took)
		}
	})
}

// TestALateProcessBlamesNobody: a process that did not run for longer than the
// detection time reads what has come before it says that nothing came.
func TestALateProcessBlamesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		patient := fast()
		patient.DetectMultiplier = 20 // so that the peer forgives the pause
		w := newWire()
		stall := make(chan time.Duration, 1)
		s, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		s.network = w.node("192.0.2.1")
		s.observe = func(time.Duration) {
			select {
			case d := <-stall:
				time.Sleep(d) // in the loop: nothing goes on meanwhile
			default:
			}
		}
		_ = s.Set(map[Key]SessionConfig{{Peer: addrB}: patient})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		b := start(t, w.node("192.0.2.2"), map[Key]SessionConfig{{Peer: addrA}: fast()})
		elapse(5 * time.Second)
		stall <- 1500 * ms
		elapse(10 * time.Second)
		for _, status := range []Status{s.State()[0], b.only(t)} {
			if status.State != Up || status.Downs != 0 {
				t.Errorf("%+v", status)
			}
		}
		if s.State()[0].DetectionTime != 300*ms {
			t.Error("the pause was not longer than the detection time")
		}
		cancel()
		<-done
	})
}

func TestSocketsThatFailAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		n := w.node("192.0.2.1")
		n.broken = errors.New("the port is taken")
		a := start(t, n, map[Key]SessionConfig{{Peer: addrB}: fast()})
		b := start(t, w.node("192.0.2.2"), map[Key]SessionConfig{{Peer: addrA}: fast()})
		elapse(5 * time.Second)
		if s := a.only(t); s.Problem != ProblemSocket || s.State != Down || a.Stats().SocketErrors < 5 {
			t.Errorf("%+v, %+v", s, a.Stats())
		}
		n.set(func() { n.broken = nil })
		elapse(5 * time.Second)
		if s := a.only(t); s.Problem != "" || s.State != Up || b.only(t).State != Up {
			t.Errorf("%+v", s)
		}
		dialed := n.dialed
		n.set(func() { n.sendError = errors.New("no such device") })
		elapse(5 * time.Second)
		if s := a.only(t); s.Counters.SendErrors < failuresMax || s.State == Up {
			t.Errorf("%+v", s)
		}
		n.set(func() { n.sendError = nil })
		elapse(5 * time.Second)
		if s := a.only(t); s.State != Up || n.dialed == dialed {
			t.Errorf("the socket was not opened anew: %+v", s)
		}
	})
}

func TestAListenerThatBreaksIsOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, _ := startPair(t, fast(), fast())
		a.node.set(func() { a.node.listeners[role{singleHop, false}].broken = errors.New("broken") })
		elapse(10 * time.Second)
		if s := a.only(t); s.State != Up || a.Stats().SocketErrors != 1 {
			t.Errorf("%+v, %+v", s, a.Stats())
		}
	})
}

func TestEchoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		n := w.node("192.0.2.1")
		n.routes = true
		config := fast()
		config.EchoMode = true
		a := start(t, n, map[Key]SessionConfig{{Peer: addrB}: config})
		b := start(t, w.node("192.0.2.2"), map[Key]SessionConfig{{Peer: addrA}: fast()})
		elapse(5 * time.Second)
		if s := b.only(t); s.RemoteRequiredMinEchoRx != 50*ms {
			t.Errorf("the peer is offered %s", s.RemoteRequiredMinEchoRx)
		}
		echoes := role{echo, false}
		n.arrive(echoes, datagram{from: addrB, to: addrA, link: 1, ttl: 255, n: 24})
		n.arrive(echoes, datagram{from: addrB, to: addrA, link: 1, ttl: 254, n: 24})
		n.arrive(echoes, datagram{
			from: netip.MustParseAddr("192.0.2.3"),
			to:   addrA,
			link: 1,
			ttl:  255,
			n:    24,
		})
		elapse(ms)
		if s := a.only(t); s.Counters.Echoes != 1 || a.Stats().Echoes != 2 || len(n.answered) != 1 {
			t.Errorf("sent back %d, %+v", s.Counters.Echoes, a.Stats())
		}
		n.set(func() { n.routes = false })
		_ = a.Set(map[Key]SessionConfig{{Peer: addrB}: config})
		elapse(time.Second)
		if s := a.only(t); s.EchoOffered || s.State != Up || b.only(t).RemoteRequiredMinEchoRx != 0 {
			t.Errorf("offered what does not come back: %+v", s)
		}
	})
}

func TestStateBeforeRun(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Set(map[Key]SessionConfig{{Peer: addrB}: {}}); err != nil {
		t.Fatal(err)
	}
	if got := s.State(); len(got) != 1 || got[0].Problem != ProblemPending || got[0].State != Down ||
		got[0].Config.DetectMultiplier != 3 {
		t.Errorf("got %+v", got)
	}
}

func TestRunOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, newWire().node("192.0.2.1"), nil)
		synctest.Wait()
		if err := a.Run(t.Context()); err == nil {
			t.Error("ran twice")
		}
		a.stop()
		if len(a.State()) != 0 {
			t.Error("a speaker that ended has sessions")
		}
	})
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(Config{Farewell: -1}); err == nil {
		t.Error("a negative farewell was taken")
	}
}

func TestSetRefuses(t *testing.T) {
	peer6, local6 := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("2001:db8::1")
	for _, test := range []struct {
		story  string
		key    Key
		config SessionConfig
		says   string // "" when nothing is wrong
	}{
		{"defaults", Key{Peer: addrB}, SessionConfig{}, ""},
		{"everything at its least", Key{Peer: addrB, Multihop: true},
			SessionConfig{MinInterval, MinInterval, 1, false, MinInterval, true, 1}, ""},
		{"everything at its most", Key{Peer: addrB},
			SessionConfig{MaxInterval, MaxInterval, 255, true, MaxInterval, true, 254}, ""},
		{"link-local with a link", Key{Peer: peer6, Link: "eth0"}, SessionConfig{}, ""},
		{"link-local without a link", Key{Peer: peer6}, SessionConfig{}, "needs a link"},
		{"link-local far away", Key{Peer: peer6, Link: "eth0", Multihop: true}, SessionConfig{},
			"several hops"},
		{"no peer", Key{}, SessionConfig{}, "not a unicast address"},
		{"multicast", Key{Peer: netip.MustParseAddr("224.0.0.1")}, SessionConfig{}, "not a unicast address"},
		{"unspecified", Key{Peer: netip.MustParseAddr("::")}, SessionConfig{}, "not a unicast address"},
		{"a zone", Key{Peer: netip.MustParseAddr("fe80::1%eth0"), Link: "eth0"}, SessionConfig{},
			"without zone"},
		{"IPv4 in IPv6", Key{Peer: netip.MustParseAddr("::ffff:192.0.2.1")}, SessionConfig{},
			"not a unicast address"},
		{"two families", Key{Peer: addrB, Local: local6}, SessionConfig{}, "different families"},
		{"to itself", Key{Peer: addrB, Local: addrB}, SessionConfig{}, "both 192.0.2.2"},
		{"a multicast local address", Key{Peer: addrB, Local: netip.MustParseAddr("224.0.0.1")},
			SessionConfig{}, "local address"},
		{"too fast", Key{Peer: addrB}, SessionConfig{ReceiveInterval: 9 * ms},
			"receive interval 9ms is not between 10ms and 1m0s"},
		{"too slow", Key{Peer: addrB}, SessionConfig{TransmitInterval: 61 * time.Second},
			"transmit interval 1m1s"},
		{"negative", Key{Peer: addrB}, SessionConfig{EchoInterval: -1}, "echo interval -1ns"},
		{"TTL 255", Key{Peer: addrB, Multihop: true}, SessionConfig{MinimumTTL: 255}, "minimum TTL 255"},
		{"echo far away", Key{Peer: addrB, Multihop: true}, SessionConfig{EchoMode: true}, "several hops"},
	} {
		t.Run(test.story, func(t *testing.T) {
			s, _ := New(Config{})
			_ = s.Set(map[Key]SessionConfig{{Peer: addrA}: {}})
			err := s.Set(map[Key]SessionConfig{test.key: test.config})
			if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
			if err != nil && s.State()[0].Key.Peer != addrA {
				t.Error("something was changed all the same")
			}
		})
	}
}
