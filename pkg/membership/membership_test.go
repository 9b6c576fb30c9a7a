package membership

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/berth-lb/berth/internal/netnstest"
)

// TestMain runs everything in a private network namespace, where there is one; or
// it is a member that is measured.
func TestMain(m *testing.M) {
	if args := os.Getenv(childEnv); args != "" {
		runChild(args)
		return
	}
	netnstest.Main(m)
}

const (
	testPort = 17947
	// patience is how long a test waits for something that happens in time.
	patience = 30 * time.Second
)

var (
	keyA = bytes.Repeat([]byte{'a'}, 32)
	keyB = bytes.Repeat([]byte{'b'}, 16)
)

// fast detects in half a second.
var fast = Timing{
	ProbeInterval:  100 * time.Millisecond,
	ProbeTimeout:   50 * time.Millisecond,
	GossipInterval: 10 * time.Millisecond,
	StreamTimeout:  500 * time.Millisecond,
}

// calm is for what takes many steps, none of which may fail because a machine that
// tests other things as well is busy.
var calm = Timing{
	ProbeInterval:  200 * time.Millisecond,
	ProbeTimeout:   100 * time.Millisecond,
	GossipInterval: 10 * time.Millisecond,
	StreamTimeout:  time.Second,
}

func addrOf(n int) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, byte(n)}) }

func peersOf(numbers ...int) []netip.AddrPort {
	out := make([]netip.AddrPort, len(numbers))
	for i, n := range numbers {
		out[i] = netip.AddrPortFrom(addrOf(n), testPort)
	}
	return out
}

// configOf is member n: node<n> on 127.0.0.<n>.
func configOf(t *testing.T, n int) Config {
	return Config{
		Name:           fmt.Sprintf("node%d", n),
		BindAddr:       addrOf(n),
		Port:           testPort,
		Keys:           [][]byte{keyA},
		ClusterLabel:   "test",
		Timing:         fast,
		RejoinInterval: 100 * time.Millisecond,
		Logger:         slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

// testMember is a running member; stop ends it with a leave notice, crash without one.
type testMember struct {
	*Membership
	stop, crash func()
}

func start(t *testing.T, config Config, peers ...int) testMember {
	t.Helper()
	m, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	if peers != nil {
		m.SetPeers(peersOf(peers...))
	}
	return run(t, m)
}

// run does what Run does, but can crash.
func run(t *testing.T, m *Membership) testMember {
	t.Helper()
	l, err := m.listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.work(ctx)
	}()
	ending := sync.OnceFunc(func() {
		cancel()
		<-done
	})
	stop := sync.OnceFunc(func() {
		ending()
		if m.running() != nil {
			l.leave()
			l.end()
		}
	})
	t.Cleanup(stop)
	return testMember{m, stop, func() {
		_ = l.list.Shutdown()
		ending()
		l.end()
	}}
}

// checkLeaks looks for goroutines when the members have ended.
func checkLeaks(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		// A probe of memberlist ends with its interval, which is longer when a member
		// thinks that it is slow itself.
		err := goleak.Find(before)
		for deadline := time.Now().Add(5 * time.Second); err != nil && time.Now().Before(deadline); {
			err = goleak.Find(before)
		}
		if err != nil {
			t.Error(err)
		}
	})
}

// await waits for a condition, looking again when the member says so.
func (m testMember) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-m.Changed():
		case <-deadline:
			t.Fatalf("%s in vain: %s; members %v, settled %t", m.config.Name, what, m.names(), m.Settled())
		}
	}
}

func (m testMember) names() []string {
	var out []string
	for _, other := range m.Members() {
		if other.State == Alive {
			out = append(out, other.Name)
		}
	}
	return out
}

// member returns what this member knows of member n.
func (m testMember) member(n int) Member {
	name := fmt.Sprintf("node%d", n)
	for _, other := range m.Members() {
		if other.Name == name {
			return other
		}
	}
	return Member{}
}

// says returns what member n says under a key, as this member knows it.
func (m testMember) says(n int, key string) string { return string(m.member(n).Values[key]) }

func (m testMember) awaitSaid(t *testing.T, n int, key, want string) {
	t.Helper()
	m.await(t, fmt.Sprintf("waits for node%d to say %s = %q", n, key, want), func() bool {
		return m.says(n, key) == want
	})
}

func (m testMember) awaitState(t *testing.T, n int, want State) {
	t.Helper()
	m.await(t, fmt.Sprintf("waits for node%d to be %s", n, want), func() bool {
		return m.member(n).State == want
	})
}

func (m testMember) say(t *testing.T, key, value string) {
	t.Helper()
	if err := m.Publish(key, []byte(value)); err != nil {
		t.Fatal(err)
	}
}

func (m testMember) awaitMembers(t *testing.T, numbers ...int) {
	t.Helper()
	var want []string
	for _, n := range numbers {
		want = append(want, fmt.Sprintf("node%d", n))
	}
	m.await(t, "waits for "+strings.Join(want, ", "), func() bool { return slices.Equal(m.names(), want) })
}

func TestMembersMeetTalkAndLeave(t *testing.T) {
	checkLeaks(t)
	one := start(t, configOf(t, 2), 2, 3, 4)
	two := start(t, configOf(t, 3), 2)
	three := start(t, configOf(t, 4), 3)
	for _, m := range []testMember{one, two, three} {
		m.awaitMembers(t, 2, 3, 4)
		m.await(t, "settles", m.Settled)
	}
	got := one.Members()[1]
	if got.Addr != addrOf(3) || len(got.Values) != 0 || got.State != Alive || got.Since.IsZero() {
		t.Errorf("node3 is %+v", got)
	}

	two.say(t, "stage", "ready")
	for _, m := range []testMember{one, two, three} {
		m.awaitSaid(t, 3, "stage", "ready")
	}

	left := time.Now()
	two.say(t, "stage", "leaving")
	two.stop()
	one.awaitState(t, 3, Left)
	one.awaitMembers(t, 2, 4)
	one.awaitSaid(t, 3, "stage", "leaving")
	t.Logf("leave notice known after %s", time.Since(left).Round(time.Millisecond))
	if len(two.Members()) > 0 {
		t.Errorf("members after the end: %v", two.names())
	}
	again := start(t, configOf(t, 3), 4)
	again.awaitMembers(t, 2, 3, 4)
	one.awaitMembers(t, 2, 3, 4)
	// It gets back what it said before, and goes on from there.
	again.awaitSaid(t, 3, "stage", "leaving")
	again.say(t, "stage", "starting")
	one.awaitSaid(t, 3, "stage", "starting")
}

func TestACrashIsDetected(t *testing.T) {
	checkLeaks(t)
	one := start(t, configOf(t, 2), 3)
	two := start(t, configOf(t, 3), 2)
	one.awaitMembers(t, 2, 3)
	doomed := start(t, configOf(t, 4), 2)
	doomed.say(t, "stage", "ready")
	one.awaitMembers(t, 2, 3, 4)
	two.awaitMembers(t, 2, 3, 4)
	two.awaitSaid(t, 4, "stage", "ready")
	crashed := time.Now()
	doomed.crash()
	one.awaitState(t, 4, Dead)
	two.awaitState(t, 4, Dead)
	t.Logf("crash known to all after %s", time.Since(crashed).Round(time.Millisecond))
	one.awaitMembers(t, 2, 3)
	got := two.member(4)
	if string(got.Values["stage"]) != "ready" || got.Addr != addrOf(4) || got.Since.Before(crashed) {
		t.Errorf("what is remembered of it: %+v", got)
	}

	back := start(t, configOf(t, 4), 2)
	for _, m := range []testMember{one, two, back} {
		m.awaitMembers(t, 2, 3, 4)
		m.awaitSaid(t, 4, "stage", "ready")
	}
}

func TestMembersMeetAgainAfterAPartition(t *testing.T) {
	netnstest.Require(t)
	checkLeaks(t)
	local := netnstest.Local()
	// Rules before that of the local table can stop even the loopback's packets.
	local.Run(t, "ip", "rule", "add", "pref", "100", "lookup", "local")
	local.Run(t, "ip", "rule", "del", "pref", "0")
	t.Cleanup(func() {
		local.Run(t, "ip", "rule", "add", "pref", "0", "lookup", "local")
		local.Run(t, "ip", "rule", "del", "pref", "100")
	})
	separate := func(verb string) {
		for _, n := range []int{2, 3} {
			local.Run(t, "ip", "rule", verb, "pref", fmt.Sprint(50+n), "to", addrOf(n).String(), "blackhole")
		}
	}
	one := start(t, configOf(t, 2), 3)
	two := start(t, configOf(t, 3), 2)
	one.awaitMembers(t, 2, 3)
	two.awaitMembers(t, 2, 3)
	separate("add")
	one.awaitMembers(t, 2)
	two.awaitMembers(t, 3)
	// Now for longer than memberlist itself goes on gossiping to the dead.
	timer := time.NewTimer(5 * one.config.RejoinInterval)
	defer timer.Stop()
	<-timer.C
	separate("del")
	one.awaitMembers(t, 2, 3)
	two.awaitMembers(t, 2, 3)
}

func TestStrangersStayOutside(t *testing.T) {
	checkLeaks(t)
	strangers := []struct {
		story  string
		change func(*Config)
	}{
		{"with another key", func(c *Config) { c.Keys = [][]byte{keyB} }},
		{"of another cluster", func(c *Config) { c.ClusterLabel = "other" }},
	}
	one := start(t, configOf(t, 2), 3, 4)
	for i, s := range strangers {
		config := configOf(t, 3+i)
		s.change(&config)
		stranger := start(t, config, 2)
		stranger.await(t, "settles: nobody answers", stranger.Settled)
		if got := stranger.names(); len(got) != 1 {
			t.Errorf("one %s met %v", s.story, got)
		}
	}
	one.await(t, "settles: nobody answers", one.Settled)
	if got := one.names(); len(got) != 1 {
		t.Errorf("strangers got in: %v", got)
	}
}

func TestKeysRotateWithoutALoss(t *testing.T) {
	checkLeaks(t)
	members := []testMember{start(t, configOf(t, 2), 3), start(t, configOf(t, 3), 2)}
	for _, m := range members {
		m.awaitMembers(t, 2, 3)
	}
	for i, keys := range [][][]byte{{keyA, keyB}, {keyB, keyA}, {keyB}} {
		for _, m := range members {
			if err := m.SetKeys(keys); err != nil {
				t.Fatal(err)
			}
			// They understand each other when one is ahead, too.
			say := []byte(fmt.Sprintf("step %d of %s", i, m.config.Name))
			if err := m.Publish("step", say); err != nil {
				t.Fatal(err)
			}
			for _, other := range members {
				other.await(t, "hears "+string(say), func() bool {
					return slices.ContainsFunc(other.Members(), func(x Member) bool {
						return bytes.Equal(x.Values["step"], say)
					})
				})
			}
		}
	}
	for _, m := range members {
		if _, err := m.keys.tick(time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	config := configOf(t, 4)
	config.Keys = [][]byte{keyA}
	late := start(t, config, 2, 3)
	late.await(t, "settles: the old key is gone", late.Settled)
	if len(late.names()) != 1 {
		t.Errorf("the old key still opens: %v", late.names())
	}
	if err := late.SetKeys([][]byte{keyB}); err != nil {
		t.Fatal(err)
	}
	// It heard nobody use the new key, so it would wait.
	if _, err := late.keys.tick(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	late.awaitMembers(t, 2, 3, 4)
}

func TestSettled(t *testing.T) {
	checkLeaks(t)
	lonely := start(t, configOf(t, 2))
	lonely.awaitMembers(t, 2)
	if lonely.Settled() {
		t.Error("settled before it was told of any peers")
	}
	lonely.SetPeers(peersOf(2))
	lonely.await(t, "settles: it is the only peer", lonely.Settled)

	waiting := start(t, configOf(t, 5), 3, 4)
	waiting.await(t, "settles: no peer answers", waiting.Settled)

	found := start(t, configOf(t, 6), 2, 3)
	found.await(t, "settles: one peer answers", found.Settled)
	lonely.awaitMembers(t, 2, 6)

	fetched := start(t, configOf(t, 7))
	lonely.SetPeers(peersOf(2, 6, 7))
	fetched.await(t, "settles: it was told of nobody, but somebody came", fetched.Settled)
	fetched.awaitMembers(t, 2, 6, 7)
}

func TestAPortInUseIsAnError(t *testing.T) {
	checkLeaks(t)
	first := start(t, configOf(t, 2))
	first.awaitMembers(t, 2)
	second, err := New(configOf(t, 2))
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "127.0.0.2") {
		t.Errorf("error %v, want one that names the address", err)
	}
	// Who waits for the port has what it said meanwhile when it gets it.
	if err := second.Publish("stage", []byte("ready")); err != nil {
		t.Fatal(err)
	}
	first.stop()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- second.Run(ctx) }()
	testMember{Membership: second}.awaitMembers(t, 2)
	if said := string(second.Members()[0].Values["stage"]); said != "ready" {
		t.Errorf("it says %q", said)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRun(t *testing.T) {
	checkLeaks(t)
	m, err := New(configOf(t, 2))
	if err != nil {
		t.Fatal(err)
	}
	// What needs the others is an error before and after.
	unfit := func(when string) {
		t.Helper()
		if err := m.Ping(context.Background(), "node3"); err == nil {
			t.Errorf("a ping %s Run succeeds", when)
		}
		if err := m.Confirm(context.Background()); err == nil {
			t.Errorf("Confirm %s Run succeeds", when)
		}
		if got := m.Members(); len(got) > 0 {
			t.Errorf("members %s Run: %v", when, got)
		}
	}
	unfit("before")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	testMember{Membership: m}.awaitMembers(t, 2)
	if err := m.Run(ctx); err == nil {
		t.Error("a second Run is accepted")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	unfit("after")
	if err := m.Publish("stage", []byte("over")); err != nil {
		t.Errorf("to say something after Run: %v", err)
	}
}
