package membership

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/berth-lb/berth/pkg/membership/kv"
)

// wires are what members talk over; they can be cut one by one.
type wires struct {
	mu  sync.Mutex
	cut map[[2]netip.Addr]bool
	// deaf are those who take no connection, though packets reach them.
	deaf map[netip.Addr]bool
}

// between cuts or heals all wires between two groups of members.
func (w *wires) between(a, b []int, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range a {
		for _, j := range b {
			w.cut[[2]netip.Addr{addrOf(i), addrOf(j)}] = cut
			w.cut[[2]netip.Addr{addrOf(j), addrOf(i)}] = cut
		}
	}
}

// end is a member's end of the wires.
type end struct {
	*transport
	wires *wires
	self  netip.Addr
}

func (e end) isCut(to memberlist.Address) bool {
	e.wires.mu.Lock()
	defer e.wires.mu.Unlock()
	return e.wires.cut[[2]netip.Addr{e.self, netip.MustParseAddrPort(to.Addr).Addr()}]
}

func (e end) isDeaf(to memberlist.Address) bool {
	e.wires.mu.Lock()
	defer e.wires.mu.Unlock()
	return e.wires.deaf[netip.MustParseAddrPort(to.Addr).Addr()]
}

func (e end) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	if e.isCut(to) {
		return time.Now(), nil
	}
	return e.transport.WriteToAddress(b, to)
}

func (e end) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if e.isCut(to) || e.isDeaf(to) {
		return nil, errors.New("the wire is cut")
	}
	return e.transport.DialAddressTimeout(to, timeout)
}

// startOn starts a member whose wires can be cut.
func (w *wires) startOn(t *testing.T, config Config, peers ...int) testMember {
	t.Helper()
	config.Timing = calm
	m, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := newTransport(m)
	if err != nil {
		t.Fatal(err)
	}
	m.transport = end{transport, w, config.BindAddr}
	m.SetPeers(peersOf(peers...))
	return run(t, m)
}

func TestAClusterHealsHoweverItWasTorn(t *testing.T) {
	tests := []struct {
		story string
		peers [4][]int
	}{
		{"all know all", [4][]int{{2, 3, 4, 5}, {2, 3, 4, 5}, {2, 3, 4, 5}, {2, 3, 4, 5}}},
		{"one of one half knows one of the other", [4][]int{{3}, {2}, {5, 2}, {}}},
	}
	for _, tt := range tests {
		t.Run(tt.story, func(t *testing.T) {
			checkLeaks(t)
			w := &wires{cut: make(map[[2]netip.Addr]bool)}
			var all []testMember
			for i, peers := range tt.peers {
				all = append(all, w.startOn(t, configOf(t, i+2), peers...))
			}
			for _, m := range all {
				m.awaitMembers(t, 2, 3, 4, 5)
			}
			w.between([]int{2, 3}, []int{4, 5}, true)
			for i, m := range all {
				others := []int{4, 5, 2, 3}
				m.awaitState(t, others[i], Dead)
				m.awaitMembers(t, i/2*2+2, i/2*2+3)
			}
			// Both halves go on.
			for i, m := range all {
				m.say(t, "stage", fmt.Sprint("alone ", i))
				m.say(t, fmt.Sprint("claim/", i), "1")
			}
			w.between([]int{2, 3}, []int{4, 5}, false)
			for _, m := range all {
				m.awaitMembers(t, 2, 3, 4, 5)
				for i := range all {
					m.awaitSaid(t, i+2, "stage", fmt.Sprint("alone ", i))
					m.awaitSaid(t, i+2, fmt.Sprint("claim/", i), "1")
				}
			}
		})
	}
}

// TestTheDeadAreNotRevivedForLong has somebody who believes a dead member to be
// alive tell those who know better.
func TestTheDeadAreNotRevivedForLong(t *testing.T) {
	checkLeaks(t)
	w := &wires{cut: make(map[[2]netip.Addr]bool)}
	one := w.startOn(t, configOf(t, 2), 3, 4)
	two := w.startOn(t, configOf(t, 3), 2, 4)
	doomed := w.startOn(t, configOf(t, 4), 2, 3)
	doomed.say(t, "stage", "ready")
	for _, m := range []testMember{one, two} {
		m.awaitMembers(t, 2, 3, 4)
		m.awaitSaid(t, 4, "stage", "ready")
	}
	w.between([]int{2}, []int{3, 4}, true)
	one.awaitMembers(t, 2)
	two.awaitMembers(t, 3, 4)
	doomed.crash()
	w.between([]int{2}, []int{3, 4}, false)
	for _, m := range []testMember{one, two} {
		m.awaitMembers(t, 2, 3)
		m.awaitState(t, 4, Dead)
	}
}

func TestARestartedMemberGetsBackWhatItSaid(t *testing.T) {
	checkLeaks(t)
	const claims = 2000
	one := start(t, configOf(t, 2), 3, 4)
	two := start(t, configOf(t, 3), 2, 4)
	three := start(t, configOf(t, 4), 2, 3)
	for _, m := range []testMember{one, two, three} {
		m.awaitMembers(t, 2, 3, 4)
	}
	at := time.Now()
	for i := range claims {
		two.say(t, fmt.Sprintf("claim/10.0.%d.%d", i/256, i%256), "1")
	}
	for _, m := range []testMember{one, two, three} {
		m.await(t, "hears all claims", func() bool { return len(m.member(3).Values) == claims })
	}
	t.Logf("%d claims known to all after %s", claims, time.Since(at).Round(time.Millisecond))
	two.say(t, "stage", "restarting")
	two.stop()
	one.awaitState(t, 3, Left)
	if got := one.member(3).Values; len(got) != claims+1 || string(got["stage"]) != "restarting" {
		t.Errorf("with the leave notice %d entries are known, stage %q", len(got), got["stage"])
	}
	again := start(t, configOf(t, 3), 2)
	again.await(t, "settles", again.Settled)
	if got := len(again.member(3).Values); got != claims+1 {
		t.Errorf("settled, it knows %d statements of its own", got)
	}
	if err := again.PublishPrefix("claim/", map[string][]byte{"claim/10.0.0.7": []byte("2")}); err != nil {
		t.Fatal(err)
	}
	for _, m := range []testMember{one, three, again} {
		m.await(t, "hears of one claim", func() bool { return len(m.member(3).Values) == 2 })
		m.awaitSaid(t, 3, "claim/10.0.0.7", "2")
		m.awaitState(t, 3, Alive)
	}
}

func TestPingAndConfirm(t *testing.T) {
	checkLeaks(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w := &wires{cut: make(map[[2]netip.Addr]bool)}
	one := w.startOn(t, configOf(t, 2), 3)
	if err := one.Confirm(ctx); err != nil {
		t.Errorf("alone: %v", err)
	}
	two := w.startOn(t, configOf(t, 3), 2)
	one.awaitMembers(t, 2, 3)
	two.awaitMembers(t, 2, 3)
	if err := one.Ping(ctx, "node3"); err != nil {
		t.Error(err)
	}
	if err := one.Confirm(ctx); err != nil {
		t.Error(err)
	}
	if err := one.Ping(ctx, "node9"); err == nil || !strings.Contains(err.Error(), "node9") {
		t.Errorf("a ping of nobody: %v", err)
	}
	ended, end := context.WithCancel(ctx)
	end()
	if err := one.Ping(ended, "node3"); !errors.Is(err, context.Canceled) {
		t.Errorf("a ping when the context has ended: %v", err)
	}

	// It cannot be reached; then it can again, while it is still thought dead.
	w.between([]int{2}, []int{3}, true)
	if err := one.Ping(ctx, "node3"); err == nil {
		t.Error("a ping gets through a cut wire")
	}
	one.awaitState(t, 3, Dead)
	short, stop := context.WithTimeout(ctx, 4*one.config.Timing.ProbeTimeout)
	defer stop()
	if err := one.Confirm(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Confirm without contact: %v", err)
	}
	confirmed := make(chan error)
	go func() { confirmed <- one.Confirm(ctx) }()
	w.between([]int{2}, []int{3}, false)
	if err := <-confirmed; err != nil {
		t.Errorf("Confirm when there is contact again: %v", err)
	}

	one.awaitMembers(t, 2, 3)
	two.stop()
	one.awaitState(t, 3, Left)
	if err := one.Confirm(ctx); err != nil {
		t.Errorf("only one is known, who has left: %v", err)
	}
}

func TestIPv6(t *testing.T) {
	checkLeaks(t)
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skipf("no IPv6 here: %v", err)
	} else {
		_ = l.Close()
	}
	var all []testMember
	var peers []netip.AddrPort
	for i := range 3 {
		config := configOf(t, i+2)
		config.BindAddr, config.Port = netip.IPv6Loopback(), testPort+uint16(i)
		peers = append(peers, netip.AddrPortFrom(config.BindAddr, config.Port))
		all = append(all, start(t, config, []int{}...))
	}
	for _, m := range all {
		m.SetPeers(peers)
		m.say(t, "stage", "ready")
	}
	for _, m := range all {
		m.awaitMembers(t, 2, 3, 4)
		for i := range all {
			m.awaitSaid(t, i+2, "stage", "ready")
		}
		if err := m.Confirm(context.Background()); err != nil {
			t.Error(err)
		}
	}
	all[2].crash()
	all[0].awaitState(t, 4, Dead)
	if got := all[0].member(4).Addr; got != netip.IPv6Loopback() {
		t.Errorf("address %s", got)
	}
}

func TestWhatCannotBeSaid(t *testing.T) {
	m, err := New(configOf(t, 2))
	if err != nil {
		t.Fatal(err)
	}
	value := []byte("x")
	long := strings.Repeat("k", MaxKey+1)
	for _, tt := range []struct {
		story string
		err   error
	}{
		{"no key", m.Publish("", value)},
		{"a long key", m.Publish(long, value)},
		{"a long value", m.Publish("k", make([]byte, MaxValue+1))},
		{"another prefix", m.PublishPrefix("claim/", map[string][]byte{"claim/a": value, "stage": value})},
		{"no value", m.PublishPrefix("claim/", map[string][]byte{"claim/a": value, "claim/b": nil})},
		{"no key among all", m.PublishPrefix("", map[string][]byte{"": value})},
	} {
		if tt.err == nil {
			t.Errorf("%s: it was said", tt.story)
		}
	}
	if got := m.view.store.Keys("node2"); len(got) > 0 {
		t.Errorf("an error, but these were said: %q", got)
	}
	for _, err := range []error{
		m.Publish(long[:MaxKey], make([]byte, MaxValue)),
		m.Publish("k", []byte{}),
		m.Publish("never said", nil),
		m.PublishPrefix("claim/", nil),
		m.PublishPrefix("claim/", map[string][]byte{"claim/a": value}),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	want := []string{"claim/a", "k", long[:MaxKey], "never said"}
	if got := m.view.store.Keys("node2"); !slices.Equal(got, want) {
		t.Errorf("said %q, want %q", got, want)
	}
}

// TestConfirmExchangesOneWholeState: on a node that is short of time, the states of all
// members would stop the process again.
func TestConfirmExchangesOneWholeState(t *testing.T) {
	checkLeaks(t)
	var numbers []int
	for i := range 12 {
		numbers = append(numbers, i+10) // sorted by name, too
	}
	var all []testMember
	for _, n := range numbers {
		config := configOf(t, n)
		config.Timing = Quiet.Timing()
		config.Timing.PushPullInterval = time.Hour // only what is asked for
		all = append(all, start(t, config, numbers...))
	}
	for _, m := range all {
		m.awaitMembers(t, numbers...)
	}
	one := all[0]
	// Joins may still be under way when all know each other.
	exchanges := func() uint64 { return accepted(all...) }
	for before := exchanges(); ; {
		time.Sleep(500 * time.Millisecond)
		now := exchanges()
		if now == before {
			break
		}
		before = now
	}
	before, merged := exchanges(), one.view.merges.Load()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := one.Confirm(ctx); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond) // whatever else was begun
	if got := one.view.merges.Load() - merged; got != 1 {
		t.Errorf("%d whole states were merged by one Confirm", got)
	}
	if got := exchanges() - before; got != 1 {
		t.Errorf("%d exchanges were begun by one Confirm", got)
	}
}

// accepted counts the connections that members have accepted.
func accepted(all ...testMember) uint64 {
	var n uint64
	for _, m := range all {
		n += m.Traffic().Connections[Accepted]
	}
	return n
}

// TestConfirmGoesOnWhenAnExchangeFails: a member that answers pings, but takes no
// connection, only delays.
func TestConfirmGoesOnWhenAnExchangeFails(t *testing.T) {
	checkLeaks(t)
	w := &wires{cut: make(map[[2]netip.Addr]bool)}
	one := w.startOn(t, configOf(t, 2), 3, 4, 5)
	for _, n := range []int{3, 4, 5} {
		w.startOn(t, configOf(t, n), 2)
	}
	one.awaitMembers(t, 2, 3, 4, 5)
	w.mu.Lock()
	w.deaf = map[netip.Addr]bool{addrOf(3): true, addrOf(4): true}
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// The order is by chance: none of these may fail.
	for range 5 {
		if err := one.Confirm(ctx); err != nil {
			t.Fatal(err)
		}
	}
	w.mu.Lock()
	w.deaf[addrOf(5)] = true
	w.mu.Unlock()
	short, stop := context.WithTimeout(ctx, 4*one.config.Timing.ProbeTimeout)
	defer stop()
	if err := one.Confirm(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("pings alone are taken for contact: %v", err)
	}
}

// TestWhatIsForgedIsContradicted: whoever has the key can say anything of anybody. It is
// corrected, and counted.
func TestWhatIsForgedIsContradicted(t *testing.T) {
	checkLeaks(t)
	one, two := start(t, configOf(t, 2), 3, 4), start(t, configOf(t, 3), 2, 4)
	forger := start(t, configOf(t, 4), 2, 3)
	two.say(t, "stage", "ready")
	for _, m := range []testMember{one, two, forger} {
		m.awaitMembers(t, 2, 3, 4)
		m.awaitSaid(t, 3, "stage", "ready")
	}
	// What it said in an earlier life is no forgery.
	two.say(t, "stage", "restarting")
	one.awaitSaid(t, 3, "stage", "restarting")
	two.stop()
	two = start(t, configOf(t, 3), 2, 4)
	two.say(t, "stage", "ready")
	for _, m := range []testMember{one, two, forger} {
		m.awaitMembers(t, 2, 3, 4)
		m.awaitSaid(t, 3, "stage", "ready")
	}
	two.await(t, "settles", two.Settled)
	if got := two.Traffic().Contradictions; got > 0 {
		t.Errorf("after a restart %d contradictions are counted", got)
	}

	now := time.Now()
	version := uint64(now.Add(time.Minute).UnixNano())
	p := kv.NewPacker(maxMessage)
	of := kv.Section{Member: "node3", Alive: true}
	p.Add(now, of, lifeKey,
		kv.Entry{Value: lifeValue(lifeLeft, netip.AddrPortFrom(addrOf(3), testPort)), Version: version})
	p.Add(now, of, "stage", kv.Entry{Value: []byte("leaving"), Version: version})
	message := p.Message()
	// All believe it, the forger too.
	for _, m := range []testMember{one, forger} {
		m.view.merge(message)
	}
	at := time.Now()
	two.view.merge(message)
	for _, m := range []testMember{one, forger, two} {
		m.awaitSaid(t, 3, "stage", "ready")
		m.awaitState(t, 3, Alive)
	}
	t.Logf("corrected after %s", time.Since(at).Round(time.Millisecond))
	if got := two.Traffic().Contradictions; got < 2 {
		t.Errorf("%d contradictions are counted, want at least two", got)
	}
	if got := one.Traffic().Contradictions; got > 0 {
		t.Errorf("%d contradictions of one of whom nothing was said", got)
	}
}
