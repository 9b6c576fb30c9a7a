package membership

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

// dialFrom connects to member n from an address.
func dialFrom(from netip.Addr, n int) (net.Conn, error) {
	dialer := net.Dialer{
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)),
		Timeout:   time.Second,
	}
	return dialer.Dial("tcp", netip.AddrPortFrom(addrOf(n), testPort).String())
}

// awaitTraffic waits until a count of a member has come to pass.
func (m testMember) awaitTraffic(t *testing.T, what string, ok func(Traffic) bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok(m.Traffic()) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s: %+v", what, m.Traffic())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestHandshake has both sides talk to whatever may be at the other end.
func TestHandshake(t *testing.T) {
	a, b := proofOf(t, "a"), proofOf(t, "b")
	has := func(keys ...proofKey) func(keyID) (proofKey, bool) {
		return func(id keyID) (proofKey, bool) {
			i := slices.IndexFunc(keys, func(k proofKey) bool { return k.id == id })
			if i < 0 {
				return proofKey{}, false
			}
			return keys[i], true
		}
	}
	impostor := proofKey{id: a.id, mac: b.mac} // knows which key is wanted
	for _, tt := range []struct {
		story    string
		dialer   proofKey
		label    string
		acceptor func(keyID) (proofKey, bool)
		works    bool
	}{
		{"both have the key", a, "test", has(a), true},
		{"the acceptor has another one too, and first", a, "test", has(b, a), true},
		{"the acceptor has another key", a, "test", has(b), false},
		{"they are of different clusters", a, "other", has(a), false},
		{"the dialer has no key", impostor, "test", has(a), false},
		{"the acceptor has no key", a, "test", func(keyID) (proofKey, bool) { return impostor, true }, false},
	} {
		t.Run(tt.story, func(t *testing.T) {
			near, far := net.Pipe()
			dialed := make(chan error, 1)
			go func() {
				err := greet(near, tt.dialer, tt.label)
				if err != nil {
					_ = near.Close()
				}
				dialed <- err
			}()
			id, err := admit(far, tt.acceptor, "test")
			_ = far.Close()
			if dialErr := <-dialed; tt.works != (err == nil) || tt.works != (dialErr == nil) {
				t.Errorf("acceptor %v, dialer %v", err, dialErr)
			}
			if tt.works && id != a.id {
				t.Error("another key was used than that of the dialer")
			}
		})
	}
}

// FuzzAdmit has a stranger send anything at all: it does not get in, not one byte is
// read beyond a hello and a proof, and it hears at most one answer.
func FuzzAdmit(f *testing.F) {
	key, err := newProofKey(keyA)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(nil))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add(append(append([]byte(magic), key.id[:]...), make([]byte, nonceSize+macSize+10)...))
	f.Add(frameOf("test", 20<<20))
	f.Fuzz(func(t *testing.T, sent []byte) {
		c := &scripted{in: bytes.NewReader(sent)}
		_, err := admit(c, func(id keyID) (proofKey, bool) { return key, id == key.id }, "test")
		if err == nil {
			t.Fatal("it got in")
		}
		if read := len(sent) - c.in.Len(); read > helloSize+macSize {
			t.Fatalf("%d bytes were read", read)
		}
		if c.out > answerSize {
			t.Fatalf("it was told %d bytes", c.out)
		}
	})
}

// scripted is a connection whose other end has sent all that it will send.
type scripted struct {
	net.Conn
	in  *bytes.Reader
	out int
}

func (s *scripted) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *scripted) Write(p []byte) (int, error) { s.out += len(p); return len(p), nil }

// TestProofsCannotBeSentBack: what the acceptor proves is not what the dialer has to.
func TestProofsCannotBeSentBack(t *testing.T) {
	key := proofOf(t, "a")
	near, far := net.Pipe()
	result := make(chan error, 1)
	go func() {
		_, err := admit(far, func(keyID) (proofKey, bool) { return key, true }, "test")
		result <- err
	}()
	if _, err := near.Write(append(append([]byte(magic), key.id[:]...), newNonce()...)); err != nil {
		t.Fatal(err)
	}
	var answer [answerSize]byte
	if _, err := io.ReadFull(near, answer[:]); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Write(answer[nonceSize:]); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, errUnauthenticated) {
		t.Errorf("its own proof came back: %v", err)
	}
}

// helloOf is what a dialer says first.
func helloOf(id keyID) []byte { return append(append([]byte(magic), id[:]...), newNonce()...) }

// TestOutcomes has strangers do one thing each, and looks at how it is counted.
func TestOutcomes(t *testing.T) {
	checkLeaks(t)
	one := start(t, configOf(t, 2), 3)
	id := proofOf(t, "a").id
	for _, tt := range []struct {
		story string
		send  []byte
		want  Outcome
	}{
		{"speaks HTTP", []byte("GET / HTTP/1.1\r\n\r\n"), Unauthenticated},
		{"sends what memberlist sends", frameOf("test", 20<<20), Unauthenticated},
		{"has a key that is not known", helloOf(keyID{7}), Unauthenticated},
		{"proves nothing", append(helloOf(id), make([]byte, macSize)...), Unauthenticated},
		{"says nothing", nil, TimedOut},
		{"says half of a hello", []byte(magic), TimedOut},
		{"says no more than a hello", helloOf(id), TimedOut},
	} {
		before := one.Traffic().Connections[tt.want]
		conn, err := dialFrom(addrOf(9), 2)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(tt.send); err != nil {
			t.Errorf("%s: %v", tt.story, err)
		}
		one.awaitTraffic(t, tt.story, func(now Traffic) bool { return now.Connections[tt.want] == before+1 })
		_ = conn.Close()
	}
	before := one.Traffic()
	two := start(t, configOf(t, 3), 2)
	two.awaitMembers(t, 2, 3)
	one.awaitTraffic(t, "a member", func(now Traffic) bool {
		return now.Connections[Accepted] > before.Connections[Accepted]
	})

	// One with the key announces more than any state has.
	conn, err := two.transport.(*transport).DialTimeout(
		netip.AddrPortFrom(addrOf(2), testPort).String(),
		time.Second,
	)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(frameOf("test", maxFrame+1)); err != nil {
		t.Fatal(err)
	}
	one.awaitTraffic(t, "too long a frame", func(now Traffic) bool { return now.Connections[Malformed] == 1 })
	_ = conn.Close()

	out, err := net.Dial("udp", netip.AddrPortFrom(addrOf(2), testPort).String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	if _, err := out.Write(make([]byte, maxPacket+1)); err != nil {
		t.Fatal(err)
	}
	one.awaitTraffic(t, "a large packet", func(now Traffic) bool { return now.Packets[Malformed] == 1 })
}

// TestPacketsOfStrangersAreFew: a flood of packets from an address that nobody knows
// is not decrypted; members go on understanding each other.
func TestPacketsOfStrangersAreFew(t *testing.T) {
	checkLeaks(t)
	one, two := start(t, configOf(t, 2), 3), start(t, configOf(t, 3), 2)
	one.awaitMembers(t, 2, 3)
	conn, err := net.DialUDP("udp",
		net.UDPAddrFromAddrPort(netip.AddrPortFrom(addrOf(9), 0)),
		net.UDPAddrFromAddrPort(netip.AddrPortFrom(addrOf(2), testPort)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	packet := make([]byte, 1400)
	for range 5 * strangePackets {
		_, _ = conn.Write(packet) // the kernel may have no room
	}
	one.awaitTraffic(t, "packets of a stranger are dropped", func(now Traffic) bool {
		return now.Packets[OverLimit] > 0
	})
	two.say(t, "stage", "ready")
	one.awaitSaid(t, 3, "stage", "ready")
	one.awaitMembers(t, 2, 3)
}

// gigabit is what all attackers together may send.
const gigabit = 125_000_000

// attack is what somebody without a key does with one connection after another until
// stop; sent counts the bytes.
type attack func(from netip.Addr, stop <-chan struct{}, sent *atomic.Uint64)

// flood sends a beginning and then zeros, as fast as they are taken and the link lets
// them through.
func flood(begin []byte) attack {
	zeros := make([]byte, 64<<10)
	link := rate.NewLimiter(gigabit, len(zeros))
	return func(from netip.Addr, stop <-chan struct{}, sent *atomic.Uint64) {
		conn, err := dialFrom(from, 2)
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := conn.Write(begin); err != nil {
			return
		}
		for err == nil {
			if err = link.WaitN(context.Background(), len(zeros)); err == nil {
				var n int
				n, err = conn.Write(zeros)
				sent.Add(uint64(n))
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}
}

// trickle sends one byte a second of what a hello would begin with, or nothing.
func trickle(text []byte) attack {
	return func(from netip.Addr, stop <-chan struct{}, sent *atomic.Uint64) {
		conn, err := dialFrom(from, 2)
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			_, _ = io.Copy(io.Discard, conn)
		}()
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for i := 0; ; i++ {
			if i < len(text) {
				n, _ := conn.Write(text[i : i+1])
				sent.Add(uint64(n))
			}
			select {
			case <-stop:
				return
			case <-gone:
				return
			case <-tick.C:
			}
		}
	}
}

// TestStrangersCannotFillTheMemory has 100, and then 16, connections that do what they
// can without a key, from an address that nobody knows and from that of a node, as
// pods on that node do. Meanwhile two members exchange their whole state, and a third
// one starts and gets it.
func TestStrangersCannotFillTheMemory(t *testing.T) {
	id := proofOf(t, "a").id
	hello := helloOf(id)
	for _, tt := range []struct {
		story       string
		connections int
		attack      attack
	}{
		{"100 frames of 20 MiB", 100, flood(frameOf("", 20<<20))},
		{"16 frames of 20 MiB", 16, flood(frameOf("test", 20<<20))},
		{"100 hellos and no proof", 100, flood(hello)},
		{"100 that say nothing", 100, trickle(nil)},
		{"100 that say one byte a second", 100, trickle(hello)},
	} {
		t.Run(tt.story, func(t *testing.T) {
			const entries = 5000
			config := func(n int) Config {
				c := configOf(t, n)
				// Attackers, members and the race detector share the processors.
				c.Timing = Quiet.Timing()
				c.Timing.PushPullInterval = 500 * time.Millisecond
				return c
			}
			victim := start(t, config(2), 3)
			member := start(t, config(3), 2)
			values := make(map[string][]byte)
			for i := range entries {
				values[fmt.Sprintf("claim/10.0.%d.%d", i/256, i%256)] = []byte("7")
			}
			if err := member.PublishPrefix("claim/", values); err != nil {
				t.Fatal(err)
			}
			victim.await(t, "hears all claims", func() bool {
				return len(victim.member(3).Values) == entries
			})

			before := heap()
			var peak atomic.Uint64
			stop := make(chan struct{})
			var running sync.WaitGroup
			running.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(5 * time.Millisecond):
						peak.Store(max(peak.Load(), heapNow()))
					}
				}
			})
			var sent atomic.Uint64
			for i := range tt.connections {
				from := addrOf(9)
				if i%2 == 0 {
					from = addrOf(3) // the address of a node
				}
				running.Go(func() {
					for {
						tt.attack(from, stop, &sent)
						select {
						case <-stop:
							return
						case <-time.After(20 * time.Millisecond):
						}
					}
				})
			}
			began := time.Now()
			exchanged := victim.Traffic().Connections[Accepted]
			late := start(t, config(4), 2)
			late.await(t, "gets all claims by an exchange with the one under attack", func() bool {
				return len(late.member(3).Values) == entries
			})
			took := time.Since(began)
			member.say(t, "stage", "ready")
			victim.awaitSaid(t, 3, "stage", "ready")
			time.Sleep(max(0, 3*time.Second-time.Since(began)))
			if a, b := victim.member(3).State, member.member(2).State; a != Alive || b != Alive {
				t.Errorf("under attack, the member is %s to its victim, and that is %s to the member", a, b)
			}
			close(stop)
			running.Wait()
			now := victim.Traffic().Connections
			growth := int64(peak.Load()-before) >> 20
			t.Logf("%d MiB sent in %s; heap at most %d MiB above %d MiB", sent.Load()>>20,
				time.Since(began).Round(time.Second), growth, before>>20)
			t.Logf("a new member had all %d entries after %s; %v", entries, took.Round(time.Millisecond), now)
			if growth > 96 {
				t.Errorf("the heap grew by %d MiB", growth)
			}
			if now[Accepted] <= exchanged {
				t.Error("no member was let in under attack")
			}
			if now[Unauthenticated]+now[TimedOut]+now[OverLimit] == 0 {
				t.Error("nobody was refused")
			}
		})
	}
}

// heap returns the bytes in use on the heap when all garbage is gone.
func heap() uint64 {
	debug.FreeOSMemory()
	return heapNow()
}

// heapNow returns the bytes of objects on the heap, garbage included. It does not stop
// the process.
func heapNow() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// TestAMemberWithAKeyIsBounded: also one that has the key, as a broken into node does,
// can have only so much read at one time.
func TestAMemberWithAKeyIsBounded(t *testing.T) {
	configs := []Config{configOf(t, 2), configOf(t, 3)}
	for i := range configs {
		configs[i].Timing = Quiet.Timing()
	}
	victim, member := start(t, configs[0], 3), start(t, configs[1], 2)
	victim.awaitMembers(t, 2, 3)
	before := heap()
	var peak atomic.Uint64
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				peak.Store(max(peak.Load(), heapNow()))
			}
		}
	})
	at := netip.AddrPortFrom(addrOf(2), testPort).String()
	zeros := make([]byte, 64<<10)
	var sent atomic.Uint64
	for range 32 {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
				conn, err := member.transport.(*transport).DialTimeout(at, time.Second)
				if err != nil {
					continue
				}
				_ = conn.SetDeadline(time.Now().Add(time.Second))
				_, err = conn.Write(frameOf("test", maxFrame))
				for err == nil {
					var n int
					n, err = conn.Write(zeros)
					sent.Add(uint64(n))
				}
				_ = conn.Close()
			}
		})
	}
	time.Sleep(3 * time.Second)
	member.say(t, "stage", "ready")
	victim.awaitSaid(t, 3, "stage", "ready")
	close(stop)
	running.Wait()
	growth := int64(peak.Load()-before) >> 20
	t.Logf("%d MiB sent; heap at most %d MiB above %d MiB; %v",
		sent.Load()>>20, growth, before>>20, victim.Traffic().Connections)
	if growth > 256 {
		t.Errorf("the heap grew by %d MiB", growth)
	}
}
