package membership

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/goleak"

	"github.com/berth-lb/berth/internal/netnstest"
)

// TestMain runs everything in a private network namespace, where there is one.
func TestMain(m *testing.M) { netnstest.Main(m) }

const (
	testPort = 17947
	// patience is how long a test waits for something that happens in time.
	patience = 10 * time.Second
)

var (
	keyA = bytes.Repeat([]byte{'a'}, 32)
	keyB = bytes.Repeat([]byte{'b'}, 16)
)

// fast detects in a few tenths of a second.
var fast = Timing{ProbeInterval: 50 * time.Millisecond, ProbeTimeout: 25 * time.Millisecond, GossipInterval: 10 * time.Millisecond, StreamTimeout: 500 * time.Millisecond}

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
		Name: fmt.Sprintf("node%d", n), BindAddr: addrOf(n), Port: testPort, Keys: [][]byte{keyA}, ClusterLabel: "test",
		Timing: fast, RejoinInterval: 100 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

// member is a running member; stop ends it with a goodbye.
type member struct {
	*Membership
	stop func()
}

func start(t *testing.T, config Config, peers ...int) member {
	t.Helper()
	m, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	if peers != nil {
		m.SetPeers(peersOf(peers...))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := m.Run(ctx); err != nil {
			t.Errorf("%s: %v", config.Name, err)
		}
	}()
	stop := func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return member{m, stop}
}

// checkLeaks looks for goroutines when the members have ended.
func checkLeaks(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

// await waits for a condition, looking again when the member says so.
func (m member) await(t *testing.T, what string, ok func() bool) {
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

func (m member) names() []string {
	var out []string
	for _, other := range m.Members() {
		out = append(out, other.Name)
	}
	return out
}

func (m member) awaitMembers(t *testing.T, numbers ...int) {
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
	for _, m := range []member{one, two, three} {
		m.awaitMembers(t, 2, 3, 4)
		m.await(t, "settles", m.Settled)
	}
	if got := one.Members()[1]; got.Addr != addrOf(3) || len(got.Meta) != 0 {
		t.Errorf("node3 is %+v", got)
	}

	if err := two.SetMeta([]byte("draining")); err != nil {
		t.Fatal(err)
	}
	for _, m := range []member{one, two, three} {
		m.await(t, "hears node3", func() bool { return string(m.Members()[1].Meta) == "draining" })
	}
	if err := two.SetMeta(make([]byte, MaxMeta+1)); err == nil {
		t.Error("too much meta data is accepted")
	}

	left := time.Now()
	two.stop()
	one.awaitMembers(t, 2, 4)
	t.Logf("goodbye known after %s", time.Since(left).Round(time.Millisecond))
	if len(two.Members()) > 0 {
		t.Errorf("members after the end: %v", two.names())
	}
	again := start(t, configOf(t, 3), 4)
	again.awaitMembers(t, 2, 3, 4)
	one.awaitMembers(t, 2, 3, 4)
}

func TestACrashIsDetected(t *testing.T) {
	checkLeaks(t)
	one := start(t, configOf(t, 2), 3)
	two := start(t, configOf(t, 3), 2)
	one.awaitMembers(t, 2, 3)
	// The third is a member that can end without a goodbye.
	config := configOf(t, 4)
	config.Logger = nil
	m, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	list, err := memberlist.Create(m.memberlistConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = list.Shutdown() }) // does nothing the second time
	if _, err := list.Join([]string{peersOf(2)[0].String()}); err != nil {
		t.Fatal(err)
	}
	one.awaitMembers(t, 2, 3, 4)
	two.awaitMembers(t, 2, 3, 4)
	crashed := time.Now()
	if err := list.Shutdown(); err != nil {
		t.Fatal(err)
	}
	one.awaitMembers(t, 2, 3)
	two.awaitMembers(t, 2, 3)
	t.Logf("crash known to all after %s", time.Since(crashed).Round(time.Millisecond))

	back := start(t, configOf(t, 4), 2)
	for _, m := range []member{one, two, back} {
		m.awaitMembers(t, 2, 3, 4)
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
	members := []member{start(t, configOf(t, 2), 3), start(t, configOf(t, 3), 2)}
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
			if err := m.SetMeta(say); err != nil {
				t.Fatal(err)
			}
			for _, other := range members {
				other.await(t, "hears "+string(say), func() bool {
					return slices.ContainsFunc(other.Members(), func(x Member) bool { return bytes.Equal(x.Meta, say) })
				})
			}
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

func TestConfigIsValidated(t *testing.T) {
	good := configOf(t, 2)
	tests := []struct {
		story  string
		change func(*Config)
		want   string
	}{
		{"no name", func(c *Config) { c.Name = "" }, "name is empty"},
		{"no address", func(c *Config) { c.BindAddr = netip.Addr{} }, "bind address is missing"},
		{"any address and none to tell", func(c *Config) { c.BindAddr = netip.IPv4Unspecified() }, "advertise address is missing"},
		{"two families", func(c *Config) { c.AdvertiseAddr = netip.MustParseAddr("2001:db8::1") }, "different families"},
		{"no key", func(c *Config) { c.Keys = nil }, "no key given"},
		{"a short key", func(c *Config) { c.Keys = [][]byte{keyA, []byte("geheim")} }, "key 1"},
		{"a long label", func(c *Config) { c.ClusterLabel = strings.Repeat("x", 256) }, "label has 256 bytes"},
		{"a timeout beyond the interval", func(c *Config) { c.Timing.ProbeTimeout = time.Second }, "not shorter than the probe interval"},
		{"a negative interval", func(c *Config) { c.Timing.GossipInterval = -1 }, "gossip interval -1ns is negative"},
		{"a negative rejoin interval", func(c *Config) { c.RejoinInterval = -1 }, "rejoin interval"},
	}
	for _, tt := range tests {
		config := good
		tt.change(&config)
		_, err := New(config)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one that says %q", tt.story, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: the error tells a key: %v", tt.story, err)
		}
	}
	if _, err := New(good); err != nil {
		t.Errorf("a good config: %v", err)
	}
}

func TestDefaults(t *testing.T) {
	got := Config{BindAddr: netip.MustParseAddr("::ffff:192.0.2.1")}.withDefaults()
	if got.Timing != DefaultTiming() || got.Port != DefaultPort || got.AdvertiseAddr != netip.MustParseAddr("192.0.2.1") || got.RejoinInterval != 5*time.Second {
		t.Errorf("%+v", got)
	}
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
	if err := first.Run(context.Background()); err == nil {
		t.Error("a second Run is accepted")
	}
}

func TestParseLine(t *testing.T) {
	tests := []struct {
		line  string
		level slog.Level
		text  string
	}{
		{"[DEBUG] memberlist: Stream connection from=192.0.2.1:1\n", slog.LevelDebug, "Stream connection from=192.0.2.1:1"},
		{"[INFO] memberlist: Suspect node3 has failed, no acks received", slog.LevelInfo, "Suspect node3 has failed, no acks received"},
		{"[WARN] memberlist: odd", slog.LevelWarn, "odd"},
		{"[ERR] memberlist: bad", slog.LevelError, "bad"},
		{"[ERR] Failed to shutdown transport: x", slog.LevelError, "Failed to shutdown transport: x"},
		{"Err: Could not set the deadline: x", slog.LevelWarn, "Err: Could not set the deadline: x"},
	}
	for _, tt := range tests {
		if level, text := parseLine(tt.line); level != tt.level || text != tt.text {
			t.Errorf("%q: %s %q, want %s %q", tt.line, level, text, tt.level, tt.text)
		}
	}
}

func TestKeyringKeepsTheOrderThatWasSet(t *testing.T) {
	keyC := bytes.Repeat([]byte{'c'}, 24)
	k, err := newKeyring([][]byte{keyA, keyB, keyC})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range [][][]byte{{keyA, keyB, keyC}, {keyC, keyA}, {keyB, keyC}, {keyA}, {keyC, keyB, keyA}} {
		if err := k.set(want); err != nil {
			t.Fatal(err)
		}
		if got := k.ring.GetKeys(); !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("keys %q, want %q", got, want)
		}
	}
	if err := k.set([][]byte{keyB, []byte("short")}); err == nil || len(k.ring.GetKeys()) != 3 {
		t.Errorf("a bad key: error %v, %d keys left", err, len(k.ring.GetKeys()))
	}
}
