package bfd

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/berth-lb/berth/internal/netnstest"
)

// patience is how long a test waits for something that should happen soon.
const patience = 20 * time.Second

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// startReal runs a speaker on real sockets and ends it with the test, leaving
// nothing behind.
func startReal(t testing.TB, sessions map[Key]SessionConfig) *Speaker {
	t.Helper()
	before := goleak.IgnoreCurrent()
	s, err := New(Config{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Set(sessions); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		goleak.VerifyNone(t, before)
	})
	return s
}

// status is that of the session with a peer.
func status(t testing.TB, s *Speaker, peer string) Status {
	t.Helper()
	for _, x := range s.State() {
		if x.Key.Peer == netip.MustParseAddr(peer) {
			return x
		}
	}
	t.Fatalf("no session with %s", peer)
	return Status{}
}

func waitState(t testing.TB, s *Speaker, peer string, want State) {
	t.Helper()
	until(t, fmt.Sprintf("the session with %s is %s", peer, want),
		func() bool { return status(t, s, peer).State == want })
}

// bird is a BIRD with the BFD protocol on a host.
type bird struct {
	t    testing.TB
	host *netnstest.Host
	dir  string
}

// startBird starts BIRD with the body of its protocol bfd, by the command before
// it if there is one.
func startBird(t testing.TB, host *netnstest.Host, body string, before ...string) *bird {
	t.Helper()
	netnstest.Require(t, "bird", "birdc")
	b := &bird{t, host, t.TempDir()}
	b.write(body)
	command := append(before, "bird", "-f", "-c", b.path("bird.conf"), "-s", b.path("ctl"), "-P",
		b.path("pid"))
	host.Start(t, command[0], command[1:]...)
	until(t, "BIRD listens", func() bool { _, err := os.Stat(b.path("ctl")); return err == nil })
	return b
}

func (b *bird) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bird) write(body string) {
	b.t.Helper()
	text := "router id 192.0.2.9;\nprotocol device {}\nprotocol bfd bfd1 {\n" + body + "\n}\n"
	if err := os.WriteFile(b.path("bird.conf"), []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// reconfigure changes the body of the protocol.
func (b *bird) reconfigure(body string) {
	b.t.Helper()
	b.write(body)
	b.command("configure")
}

func (b *bird) command(words ...string) string {
	b.t.Helper()
	return b.host.Run(b.t, "birdc", append([]string{"-s", b.path("ctl")}, words...)...)
}

// session is BIRD's line for a peer: address, link, state, since, interval, timeout.
func (b *bird) session(peer string) []string {
	b.t.Helper()
	for line := range strings.Lines(b.command("show", "bfd", "sessions")) {
		if f := strings.Fields(line); len(f) == 6 && f[0] == peer {
			return f
		}
	}
	return make([]string, 6)
}

func (b *bird) wait(peer, state string) {
	b.t.Helper()
	until(b.t, fmt.Sprintf("BIRD has %s %s", peer, state), func() bool { return b.session(peer)[2] == state })
}

// frr is FRR's zebra and bfdd on a host.
type frr struct {
	t    testing.TB
	host *netnstest.Host
	dir  string
}

// frrRun hides the machine's /run/frr, once: the mounts are private.
var frrRun = sync.OnceValue(func() error {
	if err := os.MkdirAll("/run/frr", 0o755); err != nil {
		return err
	}
	return unix.Mount("tmpfs", "/run/frr", "tmpfs", 0, "mode=755")
})

const frrDaemons = "/usr/lib/frr"

func requireFRR(t testing.TB) {
	t.Helper()
	netnstest.Require(t, "vtysh")
	if _, err := os.Stat(filepath.Join(frrDaemons, "bfdd")); err != nil {
		t.Skip("needs programs that are not installed: bfdd (Debian package frr)")
	}
	if err := frrRun(); err != nil {
		t.Skipf("needs a private /run/frr: %v", err)
	}
}

// startFRR starts FRR with what comes behind "bfd" in its configuration.
func startFRR(t testing.TB, host *netnstest.Host, body string) *frr {
	t.Helper()
	requireFRR(t)
	f := &frr{t, host, filepath.Join("/run/frr", host.String())}
	if out, err := exec.Command("install", "-d", "-o", "frr", "-g", "frr",
		f.dir).CombinedOutput(); err != nil {
		t.Skipf("needs root, since FRR runs as a user of its own: %s", out)
	}
	t.Cleanup(func() { _ = os.RemoveAll(f.dir) })
	for name, text := range map[string]string{"zebra": "log stdout\n",
		"bfdd": "log stdout\nbfd\n" + body + "\n"} {
		if err := os.WriteFile(filepath.Join(f.dir, name+".conf"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"zebra", "bfdd"} {
		stop := host.Start(t, filepath.Join(frrDaemons, name), "-N", host.String(), "-P", "0",
			"-f", filepath.Join(f.dir, name+".conf"), "-i", filepath.Join(f.dir, name+".pid"))
		t.Cleanup(func() {
			if out := stop(); t.Failed() {
				t.Logf("%s:\n%s", name, out)
			}
		})
		until(t, name+" listens",
			func() bool { _, err := os.Stat(filepath.Join(f.dir, name+".vty")); return err == nil })
	}
	// FRR 8.4 opens a session's socket when zebra has told it of the link. A
	// passive session that hears us before stays silent for ever.
	until(t, "FRR's sessions have their sockets", func() bool {
		return strings.Count(host.Run(t, "ss", "-Huan"), ":49") >= strings.Count(body, " peer ")
	})
	return f
}

func (f *frr) show(words string) string {
	f.t.Helper()
	return f.host.Run(f.t, "vtysh", "--vty_socket", f.dir, "-c", words)
}

// configure runs commands in bfdd's configuration, below "bfd".
func (f *frr) configure(commands ...string) {
	f.t.Helper()
	args := []string{"--vty_socket", f.dir, "-d", "bfdd", "-c", "configure terminal", "-c", "bfd"}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	f.host.Run(f.t, "vtysh", args...)
}

// frrPeer is what `show bfd peers json` tells, in milliseconds.
type frrPeer struct {
	Peer             string `json:"peer"`
	Status           string `json:"status"`
	Diagnostic       string `json:"diagnostic"`
	RemoteDiagnostic string `json:"remote-diagnostic"`
	Receive          int    `json:"receive-interval"`
	Transmit         int    `json:"transmit-interval"`
	RemoteReceive    int    `json:"remote-receive-interval"`
	RemoteTransmit   int    `json:"remote-transmit-interval"`
	RemoteEcho       int    `json:"remote-echo-receive-interval"`
	RemoteMultiplier int    `json:"remote-detect-multiplier"`
	EchoTransmit     int    `json:"echo-transmit-interval"`
}

func (f *frr) peer(addr string) frrPeer {
	f.t.Helper()
	var peers []frrPeer
	out := f.show("show bfd peers json")
	if at := strings.Index(out, "["); at >= 0 {
		out = out[at:]
	}
	if err := json.Unmarshal([]byte(out), &peers); err != nil {
		f.t.Fatalf("%v in %q", err, out)
	}
	for _, p := range peers {
		if p.Peer == addr {
			return p
		}
	}
	return frrPeer{}
}

func (f *frr) wait(peer, state string) {
	f.t.Helper()
	until(f.t, fmt.Sprintf("FRR has %s %s", peer, state), func() bool { return f.peer(peer).Status == state })
}

// capture is a tcpdump that is running.
type capture struct {
	t    testing.TB
	stop func() string
	file string
}

// startCapture writes what goes over a port of a switch into a file.
func startCapture(t testing.TB, host *netnstest.Host, port, filter string) *capture {
	t.Helper()
	netnstest.Require(t, "tcpdump")
	file := filepath.Join(t.TempDir(), "capture.pcap")
	stop := host.Start(t, "tcpdump", "-i", port, "-U", "-Z", "root", "-w", file, filter)
	until(t, "tcpdump captures",
		func() bool { info, err := os.Stat(file); return err == nil && info.Size() >= 24 })
	return &capture{t, stop, file}
}

// times ends the capture and returns when the packets that match a filter came,
// since the epoch.
func (c *capture) times(filter string) []time.Duration {
	c.t.Helper()
	c.stop()
	text := netnstest.Local().Run(c.t, "tcpdump", "-r", c.file, "-n", "-tt", "-q", filter)
	var out []time.Duration
	for line := range strings.Lines(text) {
		if m := captured.FindStringSubmatch(line); m != nil {
			at, err := time.ParseDuration(m[1] + "s" + m[2] + "us")
			if err != nil {
				c.t.Fatal(err)
			}
			out = append(out, at)
		}
	}
	return out
}

var captured = regexp.MustCompile(`^(\d+)\.(\d{6}) `)
