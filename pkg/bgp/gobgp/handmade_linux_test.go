package gobgp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/osrg/gobgp/v4/api"
	packet "github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"golang.org/x/sys/unix"

	"github.com/berth-lb/berth/internal/netnstest"
	"github.com/berth-lb/berth/pkg/bgp"
)

// handmade is a router of which a test says every byte.
type handmade struct {
	t        *testing.T
	address  netip.AddrPort
	listener net.Listener
}

func newHandmade(t *testing.T, address string) *handmade {
	t.Helper()
	netnstest.Require(t)
	// A small window, so that a router that does not read is noticed soon.
	small := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10)
		})
	}}
	small.SetMultipathTCP(false)
	l, err := small.Listen(t.Context(), "tcp", address+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &handmade{t, l.Addr().(*net.TCPAddr).AddrPort(), l}
}

// peer is the router as the speaker's peer.
func (h *handmade) peer(name string, change func(*bgp.Peer)) bgp.Peer {
	return tor(func(p *bgp.Peer) {
		p.Name, p.Address, p.Port, p.Multihop = name, h.address.Addr(), h.address.Port(), true
		if change != nil {
			change(p)
		}
	})
}

// accept takes the speaker's next connection.
func (h *handmade) accept() net.Conn {
	h.t.Helper()
	_ = h.listener.(*net.TCPListener).SetDeadline(time.Now().Add(30 * time.Second))
	c, err := h.listener.Accept()
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close() })
	return c
}

// open is the router's OPEN, with a hold time in seconds.
func (h *handmade) open(hold uint16) []byte {
	capabilities := packet.NewOptionParameterCapability([]packet.ParameterCapabilityInterface{
		packet.NewCapRouteRefresh(),
		packet.NewCapMultiProtocol(packet.RF_IPv4_UC),
		packet.NewCapFourOctetASNumber(64513),
	})
	m, err := packet.NewBGPOpenMessage(64513, hold, netip.MustParseAddr("7.7.7.7"),
		[]packet.OptionParameterInterface{capabilities})
	return serialized(h.t, m, err)
}

// establish opens a session on the next connection.
func (h *handmade) establish(hold uint16) net.Conn {
	h.t.Helper()
	c := h.accept()
	for _, m := range [][]byte{h.open(hold), keepalive()} {
		if _, err := c.Write(m); err != nil {
			h.t.Fatal(err)
		}
	}
	buffer := make([]byte, 65535)
	for {
		typ, m, _, err := readMessage(c, buffer, true, false)
		if err != nil {
			h.t.Fatal(err)
		}
		switch typ {
		case typeKeepalive:
			return c
		case typeNotification:
			h.t.Fatal(inWords(m))
		}
	}
}

// heard is what a router reads until its connection ends.
type heard struct {
	mu    sync.Mutex
	count [typeRefresh + 1]int
	last  string // what the last NOTIFICATION says
	over  bool
}

func (h *heard) of(typ int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count[typ]
}

func (h *heard) ended() (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last, h.over
}

// listen reads in the background, and answers with KEEPALIVEs.
func listen(c net.Conn) *heard {
	h := &heard{}
	go func() {
		buffer := make([]byte, 65535)
		for {
			typ, m, _, err := readMessage(c, buffer, true, false)
			h.mu.Lock()
			if err != nil {
				h.over = true
				h.mu.Unlock()
				return
			}
			h.count[typ]++
			if typ == typeNotification {
				h.last = inWords(m)
			}
			h.mu.Unlock()
		}
	}()
	return h
}

// message makes a message of any type.
func message(typ byte, body []byte) []byte {
	m := bytes.Repeat([]byte{0xff}, 16)
	m = binary.BigEndian.AppendUint16(m, uint16(headerLength+len(body)))
	return append(append(m, typ), body...)
}

// refreshOf asks for all routes of a family (or, by the subtype, does not).
func refreshOf(afi uint16, subtype, safi byte) []byte {
	return message(typeRefresh, append(binary.BigEndian.AppendUint16(nil, afi), subtype, safi))
}

// flood writes the same again and again until the time is over or the connection
// ends, and returns how many were written. It never waits long for a router that
// is read slowly.
func flood(c net.Conn, m []byte, d time.Duration) int {
	many := bytes.Repeat(m, max(1, 32<<10/len(m)))
	end := time.Now().Add(d)
	written := 0
	for time.Now().Before(end) {
		_ = c.SetWriteDeadline(end)
		n, err := c.Write(many)
		written += n
		if err != nil {
			break
		}
	}
	return written / len(m)
}

// manyRoutes are different for different seeds.
func manyRoutes(n, seed int) []bgp.Route {
	var out []bgp.Route
	for i := range n {
		addr := netip.AddrFrom4([4]byte{198, byte(18 + seed), byte(i >> 8), byte(i)})
		out = append(out, bgp.Route{Prefix: netip.PrefixFrom(addr, 32)})
	}
	return out
}

func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// processorTime is what this process has used.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		t.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// inside is what gobgp and the session of a peer have been told.
type insideCosts struct{ refreshes, messages int }

func costsOf(s *Speaker, name string) insideCosts {
	s.mu.Lock()
	one := s.sessions[name]
	s.mu.Unlock()
	one.engineMu.Lock()
	defer one.engineMu.Unlock()
	if one.engine == nil {
		return insideCosts{}
	}
	out := insideCosts{refreshes: one.engine.refreshes}
	_ = one.engine.server.ListPeer(context.Background(), &api.ListPeerRequest{}, func(p *api.Peer) {
		if r := p.State.GetMessages().GetReceived(); r != nil {
			out.messages = int(r.Total)
		}
	})
	return out
}

// TestWhatAPeerMayCost: whatever a router sends after its OPEN, the memory and
// the work that it costs are bounded, and another router's session goes on, with
// changes in time.
func TestWhatAPeerMayCost(t *testing.T) {
	const routes = 2000
	const floods = time.Second
	update := func(size int) []byte { return message(typeUpdate, make([]byte, size-headerLength)) }
	short := floods / 4
	// again sends some messages again and again.
	again := func(d time.Duration, messages ...[]byte) func(*handmade, net.Conn) int {
		return func(_ *handmade, c net.Conn) int { return flood(c, bytes.Join(messages, nil), d) }
	}
	long := message(typeKeepalive, make([]byte, 60000))
	for _, test := range []struct {
		story string
		// does is what the router sends on its session. It returns how many
		// messages that were.
		does func(h *handmade, c net.Conn) int
		// ends is what the router hears at the end, "-" for nothing that counts;
		// "" where the session stays.
		ends string
		// refreshes and messages are the most that gobgp gets of it.
		refreshes, messages int
	}{
		{"nothing", func(*handmade, net.Conn) int { time.Sleep(short); return 0 }, "", 0, 2},
		{"a second OPEN", func(h *handmade, c net.Conn) int { return flood(c, h.open(90), short) },
			"state machine error", 0, 2},
		{"UPDATEs without end", again(floods, update(60)), "", 0, 10},
		{"the longest UPDATEs without end", again(floods, update(65535)), "", 0, 10},
		{"KEEPALIVEs without end", again(floods, keepalive()), "", 0, 10},
		{"NOTIFICATIONs without end", again(short, notification(codeCease, ceaseShutdown, "bye")), "-", 0,
			20},
		{"ROUTE-REFRESH without end", again(floods, refreshOf(1, 0, 1)), "", 3, 2},
		{"ROUTE-REFRESH of families that the session has not",
			again(short, refreshOf(2, 0, 1), refreshOf(25, 0, 70)),
			"", 0, 2},
		{"the marks of an enhanced refresh, and subtypes that nobody knows",
			again(short, refreshOf(1, 1, 1), refreshOf(1, 2, 1), refreshOf(1, 255, 1)), "", 0, 2},
		{"ROUTE-REFRESH of other lengths",
			again(short, message(typeRefresh, []byte{0}),
				message(typeRefresh, make([]byte, 4000))), "", 0, 2},
		{"a type that nobody knows", again(short, message(6, nil)), "message header error", 0, 2},
		{"a message longer than allowed", again(short, long), "message header error", 0, 2},
		{"a message shorter than its header", again(short, bytes.Repeat([]byte{0xff}, 16),
			[]byte{0, 18, typeKeepalive}),
			"message header error", 0, 2},
		{"a KEEPALIVE that is longer than a KEEPALIVE", again(short, message(typeKeepalive, make([]byte, 4))),
			"message header error", 0, 2},
		{"what is not BGP", again(short, make([]byte, 4096)), "message header error", 0, 2},
		{"KEEPALIVEs a byte at a time", func(_ *handmade, c net.Conn) int {
			for range 5 {
				for _, b := range keepalive() {
					_, _ = c.Write([]byte{b})
					time.Sleep(5 * time.Millisecond)
				}
			}
			return 5
		}, "", 0, 5},
		{"half a message, and no more", func(_ *handmade, c net.Conn) int {
			_, _ = c.Write(keepalive()[:10])
			time.Sleep(floods)
			return 0
		}, "", 0, 2},
	} {
		t.Run(test.story, func(t *testing.T) {
			bad, good := newHandmade(t, "127.9.0.1"), newHandmade(t, "127.9.0.2")
			state := func(extra ...bgp.Route) []bgp.Desired {
				all := append(manyRoutes(routes, 0), extra...)
				return append(to(bad.peer("bad", nil), all...), to(good.peer("good", nil), all...)...)
			}
			s, _ := speakPatiently(t, Config{}, state())
			attacked, calm := bad.establish(90), good.establish(90)
			ofBad, ofGood := listen(attacked), listen(calm)
			for _, name := range []string{"bad", "good"} {
				up(t, s, name)
			}
			eventually(t, "both have all routes", func() bool {
				return ofBad.of(typeUpdate) > 0 && ofGood.of(typeUpdate) > 0
			})
			since := sessionOf(s, "good").Since
			before, spent, start := heap(), processorTime(t), time.Now()
			calls := costsOf(s, "bad")
			seen := ofGood.of(typeUpdate)

			done := make(chan int, 1)
			go func() { done <- test.does(bad, attacked) }()
			time.Sleep(100 * time.Millisecond)
			changed := time.Now()
			s.Set(state(manyRoutes(1, 1)...), true)
			eventually(t, "the other router hears of the change",
				func() bool { return ofGood.of(typeUpdate) > seen })
			delay := time.Since(changed)
			sent := <-done
			took, used, after := time.Since(start), processorTime(t)-spent, heap()
			cost := costsOf(s, "bad")

			said, over := ofBad.ended()
			if test.ends != "" {
				eventually(t, "the session ends", func() bool { said, over = ofBad.ended(); return over })
			}
			if over != (test.ends != "") || test.ends != "-" && !strings.Contains(said, test.ends) {
				t.Errorf("the session has ended: %v, with %q", over, said)
			}
			refreshes, messages := cost.refreshes-calls.refreshes, max(0, cost.messages-calls.messages)
			t.Logf("%d messages in %.1fs: heap %.1f MB before, %.1f MB after, %.2fs of a processor; "+
				"gobgp got %d messages and sent all again %d times; a change reached the other after %s",
				sent, took.Seconds(), before, after, used.Seconds(),
				messages, refreshes, delay.Round(time.Millisecond))
			if refreshes > test.refreshes || messages > test.messages {
				t.Errorf("gobgp got %d messages, at most %d wanted, and sent all again %d times, "+
					"at most %d wanted",
					messages, test.messages, refreshes, test.refreshes)
			}
			if after > before+16 {
				t.Errorf("the heap has grown from %.1f to %.1f MB", before, after)
			}
			if delay > 5*time.Second || !sessionOf(s, "good").Since.Equal(since) {
				t.Errorf("the other session suffers: a change takes %s, its state is %+v", delay,
					sessionOf(s, "good"))
			}
		})
	}
}

// TestARouterThatTakesNothing: it asks for all routes again and again, all routes
// change all the time, and it does not read. The memory that it costs is bounded,
// another router hears of each change, and its session ends.
func TestARouterThatTakesNothing(t *testing.T) {
	const routes = 2000
	bad, good := newHandmade(t, "127.9.0.1"), newHandmade(t, "127.9.0.2")
	state := func(round int) []bgp.Desired {
		all := manyRoutes(routes, 0)
		for i := range all {
			all[i].MED, all[i].HasMED = uint32(round*routes+i), true // no two in one UPDATE
		}
		return append(to(bad.peer("bad", nil), all...), to(good.peer("good", nil), all...)...)
	}
	s, _ := speakPatiently(t, Config{}, state(0))
	attacked, calm := bad.establish(30), good.establish(30)
	ofGood := listen(calm)
	for _, name := range []string{"bad", "good"} {
		up(t, s, name)
	}
	eventually(t, "the other router has all routes", func() bool { return ofGood.of(typeUpdate) >= routes })
	goodSince, badSince := sessionOf(s, "good").Since, sessionOf(s, "bad").Since
	s.mu.Lock()
	engine := s.sessions["bad"].engine
	s.mu.Unlock()
	before := heap()

	// The session's hold time is 9 s, so a router is given 10 s.
	stop := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				_, _ = attacked.Write(append(bytes.Repeat(refreshOf(1, 0, 1), 20), keepalive()...))
			}
		}
	})
	most, round := before, 0
	start := time.Now()
	for sessionOf(s, "bad").Since.Equal(badSince) && time.Since(start) < time.Minute {
		round++
		s.Set(state(round), true)
		time.Sleep(100 * time.Millisecond)
		_, _ = calm.Write(keepalive())
		most = max(most, heap())
	}
	took := time.Since(start)
	close(stop)
	asking.Wait()
	t.Logf("%d times all of %d routes changed in %.1fs: heap %.1f MB before, %.1f MB at most; "+
		"all sent again %d times",
		round, routes, took.Seconds(), before, most, engine.refreshes)
	eventually(t, "it is told why the session has ended", func() bool {
		return strings.Contains(sessionOf(s, "bad").Ended,
			"the router has taken nothing of what it was sent for 10s")
	})
	if took < 8*time.Second || took >= time.Minute {
		t.Errorf("the session ended after %s", took)
	}
	// Until the kernel's buffers are full, the router seems to take something; on a busy
	// machine that takes long. However often it asks, it is sent all at most once in
	// refreshPause: what it asks for in one second would be gigabytes.
	if most > before+128 || engine.refreshes > 1+int(took/refreshPause) {
		t.Errorf("the heap has grown from %.1f to %.1f MB, and all were sent again %d times", before, most,
			engine.refreshes)
	}
	heardLast := ofGood.of(typeUpdate)
	s.Set(state(round+1), true)
	eventually(t, "the other router hears of each change", func() bool {
		return ofGood.of(typeUpdate) >= heardLast+routes
	})
	if !sessionOf(s, "good").Since.Equal(goodSince) {
		t.Errorf("the other session is %+v", sessionOf(s, "good"))
	}
}

// TestWhoTakesNothingIsNoticed: also where nothing is announced, so that only
// KEEPALIVEs wait in the kernel.
func TestWhoTakesNothingIsNoticed(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 20s")
	}
	r := newHandmade(t, "127.9.0.1")
	s, _ := speakPatiently(t, Config{}, to(r.peer("tor", nil), manyRoutes(5000, 0)...))
	c := r.establish(30)
	since := up(t, s, "tor").Since
	_ = c.(*net.TCPConn).SetReadBuffer(1)
	start := time.Now()
	for sessionOf(s, "tor").Since.Equal(since) && time.Since(start) < 40*time.Second {
		_, _ = c.Write(keepalive())
		time.Sleep(200 * time.Millisecond)
	}
	t.Logf("noticed after %.1fs: %s", time.Since(start).Seconds(), sessionOf(s, "tor").LastError)
	if sessionOf(s, "tor").Since.Equal(since) {
		t.Error("the session goes on")
	}
}

// TestManyConnectionsToAPassiveListener: only one of them is taken, and only from
// the router's address; the others cost nothing, also such that say nothing.
func TestManyConnectionsToAPassiveListener(t *testing.T) {
	netnstest.Require(t)
	const port, connections = 10179, 300
	peer := tor(func(p *bgp.Peer) {
		p.Address, p.Source = netip.MustParseAddr("127.9.0.1"), netip.MustParseAddr("127.9.0.3")
		p.Multihop, p.Passive = true, true
	})
	other := peer // which goes on waiting while the first has a connection
	other.Name, other.Address = "zzz", netip.MustParseAddr("127.9.0.2")
	s, _ := speak(t, Config{ListenPort: port}, append(to(peer, manyRoutes(100, 0)...), to(other)...))
	eventually(t, "the sessions wait for their routers", func() bool {
		return sessionOf(s, "tor").State == bgp.SessionListening &&
			sessionOf(s, "zzz").State == bgp.SessionListening
	})
	before, goroutines := heap(), runtime.NumGoroutine()
	dial := func(from string) (net.Conn, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: time.Second}
		return d.DialContext(t.Context(), "tcp", fmt.Sprintf("127.9.0.3:%d", port))
	}
	closed := 0
	for i := range connections {
		c, err := dial([]string{"127.9.0.1", "127.9.0.9"}[i%2])
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			closed++
		}
	}
	t.Logf("%d connections: %d closed at once; heap %.1f MB before, %.1f MB after; %d and %d goroutines",
		connections,
		closed, before, heap(), goroutines, runtime.NumGoroutine())
	if closed < connections*9/10 {
		t.Errorf("only %d were closed", closed)
	}
	if grown := runtime.NumGoroutine() - goroutines; grown > 20 || heap() > before+8 {
		t.Errorf("%d more goroutines, heap %.1f MB", grown, heap())
	}
	// The router itself comes through when it is its turn.
	eventually(t, "the router gets its session", func() bool {
		c, err := dial("127.9.0.1")
		if err != nil {
			return false
		}
		h := &handmade{t: t}
		_, _ = c.Write(append(h.open(30), keepalive()...))
		listen(c)
		for range 20 {
			if sessionOf(s, "tor").State == bgp.SessionEstablished {
				t.Cleanup(func() { _ = c.Close() })
				return true
			}
			time.Sleep(10 * time.Millisecond)
		}
		_ = c.Close()
		return false
	})
}

// TestASessionThatEndsAgainAndAgainIsDamped: it gets fewer and fewer sessions,
// which the state tells, with the reason that the router gave; and in order once
// it stays up.
func TestASessionThatEndsAgainAndAgainIsDamped(t *testing.T) {
	r := newHandmade(t, "127.9.0.1")
	s, _ := speakPatiently(t, Config{}, to(r.peer("tor", nil), manyRoutes(10, 0)...))
	start := time.Now()
	for i := range freeFlaps + 2 {
		c := r.establish(30)
		up(t, s, "tor")
		_, _ = c.Write(notification(codeCease, ceaseShutdown, fmt.Sprint("round ", i)))
		_ = c.Close()
		want := fmt.Sprintf("administrative shutdown (%q)", fmt.Sprint("round ", i))
		eventually(t, "it is told why",
			func() bool { return strings.Contains(sessionOf(s, "tor").Ended, want) })
		damped := i >= freeFlaps
		eventually(t, fmt.Sprintf("after round %d it is damped: %v", i, damped), func() bool {
			now := sessionOf(s, "tor")
			return (now.State == bgp.SessionDamped && now.Flaps == i+1) == damped
		})
	}
	if took := time.Since(start); took < 4*time.Second {
		t.Errorf("%d sessions in %s", freeFlaps+2, took)
	}
	// Nobody listens: attempts fail, and the reason of the last end stays.
	address := r.address
	_ = r.listener.Close()
	eventually(t, "an attempt fails", func() bool {
		return strings.Contains(sessionOf(s, "tor").LastError, "refused")
	})
	if got := sessionOf(s, "tor"); !strings.Contains(got.Ended, fmt.Sprint("round ", freeFlaps+1)) {
		t.Errorf("the state is %+v", got)
	}
	l, err := net.Listen("tcp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	r.listener = l
	listen(r.establish(30))
	if got := up(t, s, "tor"); got.Flaps != 0 || got.Ended == "" {
		t.Errorf("the state is %+v", got)
	}
}

// TestWaitingForARouterIsNotASession: however long a passive peer has waited for its
// router, a session that ends soon after it began is a short one.
func TestWaitingForARouterIsNotASession(t *testing.T) {
	netnstest.Require(t)
	const port = 10180
	passive := tor(func(p *bgp.Peer) {
		p.Address, p.Source = netip.MustParseAddr("127.9.0.1"), netip.MustParseAddr("127.9.0.3")
		p.Multihop, p.Passive = true, true
	})
	s := New(Config{ListenPort: port, Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil))})
	s.shared.steady = 2 * time.Second
	s.Set(to(passive), true)
	runUntilTheEnd(t, s)
	router := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.9.0.1")}}
	for i := range freeFlaps + 1 {
		eventually(t, "it waits for the router", func() bool {
			return sessionOf(s, "tor").State == bgp.SessionListening
		})
		if i == freeFlaps {
			time.Sleep(s.shared.steady)
		}
		var c net.Conn
		eventually(t, "the router connects", func() bool {
			var err error
			c, err = router.DialContext(t.Context(), "tcp", fmt.Sprintf("127.9.0.3:%d", port))
			return err == nil
		})
		_, _ = c.Write(append((&handmade{t: t}).open(30), keepalive()...))
		listen(c)
		up(t, s, "tor")
		_ = c.Close()
		eventually(t, "the session ends",
			func() bool { return sessionOf(s, "tor").State != bgp.SessionEstablished })
	}
	eventually(t, "it is damped", func() bool { return sessionOf(s, "tor").State == bgp.SessionDamped })
}

// TestARouterThatRestartsIsSoonBack: one that is away for a moment does not have
// to wait for connectTime.
func TestARouterThatRestartsIsSoonBack(t *testing.T) {
	r := newHandmade(t, "127.9.0.1")
	patient := r.peer("tor", func(p *bgp.Peer) { p.Connect = 30 * time.Second })
	s, _ := speakPatiently(t, Config{}, to(patient, manyRoutes(10, 0)...))
	c := r.establish(30)
	up(t, s, "tor")
	address := r.address
	_, _ = r.listener.Close(), c.Close()
	time.Sleep(200 * time.Millisecond)
	l, err := net.Listen("tcp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	r.listener = l
	back := time.Now()
	listen(r.establish(30))
	up(t, s, "tor")
	t.Logf("away for 200 ms, and %s later it has a session", time.Since(back).Round(time.Millisecond))
	if took := time.Since(back); took > 10*time.Second {
		t.Errorf("it waits %s", took)
	}
}

// TestTwoPeersWithOneSession: of two peers that turn out to have the same pair of
// addresses, which only the routing table knows, the first to have a session keeps
// it, and the other one is told why it has none.
func TestTwoPeersWithOneSession(t *testing.T) {
	each(t, func(t *testing.T, r router) {
		r.start(t, network(t), wanted{asn: 64513, peerASN: 64512, peer: node4, restart: true})
		a := tor(func(p *bgp.Peer) { p.Name, p.GracefulRestart = "a", time.Minute })
		b := a
		b.Name, b.Source = "b", netip.MustParseAddr(node4)
		s, _ := speak(t, Config{}, to(a, route("192.0.2.1/32", nil)))
		since := up(t, s, "a").Since
		s.Set(append(to(a, route("192.0.2.1/32", nil)), to(b, route("192.0.2.2/32", nil))...), true)
		eventually(t, "the other one is told", func() bool {
			return strings.Contains(sessionOf(s, "b").LastError, "peer a has")
		})
		time.Sleep(3 * time.Second)
		now, routes := sessionOf(s, "a"), r.count(t, false)
		if !now.Since.Equal(since) || now.State != bgp.SessionEstablished || routes != 1 {
			t.Errorf("the session has suffered: %+v, %d routes", now, routes)
		}
		// When the first is gone, the other gets it.
		s.Set(to(b, route("192.0.2.2/32", nil)), true)
		up(t, s, "b")
		eventually(t, "the other's route is there",
			func() bool { _, there := r.route(t, "192.0.2.2/32"); return there })
	})
}
