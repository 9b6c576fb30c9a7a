package announcer

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/berth-lb/berth/internal/netnstest"
	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

// BenchmarkTakeover is the time from the first Set until the first announcement of
// the last of 2,000 IPv4 and 2,000 IPv6 addresses was sent on one link, and how
// long it would take if the pacer did not hold announcements back. Every other
// address is taken, so that no two are one range of the filter.
func BenchmarkTakeover(b *testing.B) {
	netnstest.Require(b)
	for _, rate := range []int{0, 1_000_000} {
		name := "paced"
		if rate > 0 {
			name = "unpaced"
		}
		b.Run(name, func(b *testing.B) {
			stage(b)
			var total, answered time.Duration
			for b.Loop() {
				a, all := takeover(b, Config{BurstRate: rate, BurstCount: 1})
				answered += a
				total += all
			}
			b.ReportMetric(float64(answered.Milliseconds())/float64(b.N), "ms-until-answered")
			b.ReportMetric(float64(total.Milliseconds())/float64(b.N), "ms-until-announced")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// takeover sets all addresses of a fresh node and returns when all were answered
// for and when all were announced.
func takeover(b *testing.B, config Config) (answered, announced time.Duration) {
	const count = 2000
	a, stop := quietNode(b, config)
	defer stop()
	four, six := netip.MustParseAddr("10.0.0.0"), netip.MustParseAddr("2001:db8:1::")
	begin := time.Now()
	for range count {
		a.Set(four, on("eth0"))
		a.Set(six, on("eth0"))
		four, six = four.Next().Next(), six.Next().Next()
	}
	for range a.Changed() {
		ready, last := true, begin
		for _, got := range a.State() {
			if got.Announced.IsZero() {
				ready = false
				break
			}
			if got.Announced.After(last) {
				last = got.Announced
			}
			answered = max(answered, got.Since.Sub(begin))
		}
		if ready {
			return answered, last.Sub(begin)
		}
	}
	return 0, 0
}

// deaf opens sockets that hear nothing and send nowhere, to measure all else.
func deaf(neighbor.Spec) (socket, error) { return &deafSocket{closed: make(chan struct{})}, nil }

type deafSocket struct{ closed chan struct{} }

func (s *deafSocket) Receive([]byte, time.Time) (int, error) { <-s.closed; return 0, os.ErrClosed }
func (s *deafSocket) Send([]byte) error                      { return nil }
func (s *deafSocket) SetFilter(p []bpf.Instruction) error    { _, err := bpf.Assemble(p); return err }
func (s *deafSocket) SetPromiscuous(bool) error              { return nil }
func (s *deafSocket) Join(netip.Addr) error                  { return nil }
func (s *deafSocket) Leave(netip.Addr) error                 { return nil }
func (s *deafSocket) Close() error                           { close(s.closed); return nil }

// BenchmarkPass is one pass over the desired state when one address of many has
// changed: it grows with their number only by the making of the filter.
func BenchmarkPass(b *testing.B) {
	for _, count := range []int{100, 1000, 4000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			a, err := New(Config{Stall: -1})
			if err != nil {
				b.Fatal(err)
			}
			a.open = deaf
			a.SetLinks([]links.Link{lan(2, "eth0")})
			addr := netip.MustParseAddr("2001:db8:1::")
			for range count {
				a.Set(addr, on("eth0"))
				addr = addr.Next().Next()
			}
			l := newLoop(a)
			defer l.closeAll()
			l.reconcile(time.Now())
			b.ReportAllocs()
			for b.Loop() {
				a.Set(addr, on("eth0"))
				l.reconcile(time.Now())
				a.Set(addr, Request{})
				l.reconcile(time.Now())
			}
		})
	}
}

// BenchmarkTrickle is the processor time of 4,000 Sets that come one after the
// other within 100 ms and are all announced once, without the kernel's part.
func BenchmarkTrickle(b *testing.B) {
	for _, count := range []int{1000, 2000, 4000, 8000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			var spent time.Duration
			for b.Loop() {
				spent += trickle(b, count)
			}
			b.ReportMetric(float64(spent.Microseconds())/float64(b.N)/1000, "ms-processor-time")
			b.ReportMetric(float64(spent.Microseconds())/float64(b.N)/float64(count), "µs/address")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func trickle(b *testing.B, count int) time.Duration {
	a, err := New(Config{Stall: -1, BurstCount: 1, BurstRate: 1_000_000})
	if err != nil {
		b.Fatal(err)
	}
	a.open = deaf
	a.SetLinks([]links.Link{lan(2, "eth0")})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	before := spentHere(b)
	addr := netip.MustParseAddr("2001:db8:1::")
	for i := range count {
		a.Set(addr, on("eth0"))
		addr = addr.Next().Next()
		if i%(count/100) == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	for total(a.Stats()).Bursts < uint64(count) {
		time.Sleep(time.Millisecond)
	}
	spent := spentHere(b) - before
	cancel()
	if err := <-done; err != nil {
		b.Error(err)
	}
	return spent
}

func spentHere(b *testing.B) time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
