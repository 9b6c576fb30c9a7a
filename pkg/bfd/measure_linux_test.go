package bfd

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/berth-lb/berth/internal/netnstest"
)

// measureEnv says how long each scenario is measured, for example 10m.
const measureEnv = "BERTH_BFD_MEASURE"

func measuring(t *testing.T) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(os.Getenv(measureEnv))
	if err != nil || d <= 0 {
		t.Skipf("measures, and takes long: set %s to a duration such as 30s", measureEnv)
	}
	netnstest.Require(t, "bird", "birdc", "chrt")
	return d
}

// lateness collects by how much packets were late.
type lateness struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *lateness) add(d time.Duration) {
	l.mu.Lock()
	l.all = append(l.all, d)
	l.mu.Unlock()
}

func (l *lateness) String() string { return percentiles(l.all) }

func percentiles(all []time.Duration) string {
	slices.Sort(all)
	at := func(q float64) time.Duration {
		if len(all) == 0 {
			return 0
		}
		return all[int(q*float64(len(all)-1))].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("p50 %s, p99 %s, p99.9 %s, max %s of %d", at(0.5), at(0.99), at(0.999), at(1),
		len(all))
}

// cpu is what this process has used.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// runMeasured runs a speaker with n sessions at 3 x 100 ms against BIRD while
// load runs, and prints figures.
func runMeasured(t *testing.T, n int, realtime bool, load func(t *testing.T)) {
	d := measuring(t)
	lan := netnstest.NewLAN(t)
	local := lan.Attach(netnstest.Local(), "eth0")
	host := lan.Attach(netnstest.NewHost(t, "bird"), "eth0")
	var ours, theirs, config strings.Builder
	sessions := make(map[Key]SessionConfig)
	for i := range n {
		our, peer := netip.AddrFrom4([4]byte{10, 0, byte(i), 1}), netip.AddrFrom4([4]byte{10, 0, byte(i), 2})
		fmt.Fprintf(&ours, "address add %s/24 dev eth0\n", our)
		fmt.Fprintf(&theirs, "address add %s/24 dev eth0\n", peer)
		fmt.Fprintf(&config, "neighbor %s dev \"eth0\" local %s;\n", our, peer)
		sessions[Key{Peer: peer, Local: our}] = fast()
	}
	for h, batch := range map[*netnstest.Host]string{local: ours.String(), host: theirs.String()} {
		file := filepath.Join(t.TempDir(), "addresses")
		if err := os.WriteFile(file, []byte(batch), 0o644); err != nil {
			t.Fatal(err)
		}
		h.Run(t, "ip", "-batch", file)
	}
	// BIRD is real-time, because it stands for another machine, which is not busy.
	b := startBird(t, host, birdTimers(100, 3)+config.String(), "chrt", "--rr", "1")
	s, err := New(Config{Realtime: realtime,
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		t.Fatal(err)
	}
	var late lateness
	var on atomic.Bool
	s.observe = func(d time.Duration) {
		if on.Load() {
			late.add(d)
		}
	}
	if err := s.Set(sessions); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	until(t, "all sessions are up at full speed", func() bool {
		return !slices.ContainsFunc(s.State(), func(x Status) bool {
			return x.State != Up || x.TransmitInterval != 100*ms || x.DetectionTime != 300*ms
		})
	})
	load(t)
	time.Sleep(time.Second)
	before, began := cpu(t), time.Now()
	counted := totals(s)
	on.Store(true)
	time.Sleep(d)
	on.Store(false)
	used, took := cpu(t)-before, time.Since(began)
	now := totals(s)
	up := strings.Count(b.command("show", "bfd", "sessions"), " Up ")
	t.Logf("%d sessions, 3 x 100 ms, %s: transmit lateness %s", n, took.Round(time.Second), &late)
	t.Logf("sent %.0f/s, received %.0f/s, dropped %d; sessions lost %d; BIRD has %d up",
		float64(now.sent-counted.sent)/took.Seconds(),
		float64(now.received-counted.received)/took.Seconds(), now.dropped, now.downs, up)
	t.Logf("CPU of this process %.2f%% of a core (its own load included)", 100*used.Seconds()/took.Seconds())
}

type total struct{ sent, received, dropped, downs uint64 }

func totals(s *Speaker) total {
	var out total
	for _, x := range s.State() {
		out.sent += x.Counters.Sent
		out.received += x.Counters.Received[Accepted]
		out.dropped += x.Counters.Dropped()
		out.downs += x.Downs
	}
	return out
}

// TestMeasure prints transmit lateness and CPU; it asserts nothing.
func TestMeasure(t *testing.T) {
	for _, n := range []int{1, 200} {
		for _, scenario := range []struct {
			name string
			load func(t *testing.T)
		}{
			{"idle", func(*testing.T) {}},
			{"other processes keep every core busy", busyProcesses},
			{"goroutines keep every core busy", busyGoroutines},
			{"the garbage collector works", garbage},
		} {
			for _, realtime := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d/%s/realtime %t", n, scenario.name, realtime), func(t *testing.T) {
					runMeasured(t, n, realtime, scenario.load)
				})
			}
		}
	}
}

// busyProcesses are two for each core.
func busyProcesses(t *testing.T) {
	for range 2 * runtime.NumCPU() {
		netnstest.Local().Start(t, "sh", "-c", "while :; do :; done")
	}
}

// busyGoroutines are two for each core.
func busyGoroutines(t *testing.T) {
	var stop atomic.Bool
	var all sync.WaitGroup
	for range 2 * runtime.NumCPU() {
		all.Go(func() {
			for n := 0; !stop.Load(); n++ {
				_ = n * n
			}
		})
	}
	t.Cleanup(func() {
		stop.Store(true)
		all.Wait()
	})
}

// garbage is a live map of some 100 MB and much that comes and goes.
func garbage(t *testing.T) {
	var stop atomic.Bool
	var all sync.WaitGroup
	all.Go(func() {
		live := make(map[int][]byte)
		for n := 0; !stop.Load(); n++ {
			live[n%500_000] = make([]byte, 200)
		}
	})
	t.Cleanup(func() {
		stop.Store(true)
		all.Wait()
	})
}
