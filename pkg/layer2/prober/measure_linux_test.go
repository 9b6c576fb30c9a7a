package prober

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-lb/berth/internal/netnstest"
)

// TestProbingCost prints what probing costs: targets are addresses of one other
// host, whose kernel answers. Over a veth pair the kernel answers within the
// sender's system call, so the processor time of the process holds both the
// asking and the answering.
func TestProbingCost(t *testing.T) {
	netnstest.Require(t)
	if os.Getenv("BERTH_MEASURE") == "" {
		t.Skip("a measurement; set BERTH_MEASURE=1")
	}
	const window = 5 * time.Second
	for _, six := range []bool{false, true} {
		for _, count := range []int{2, 20, 200} {
			what := fmt.Sprintf("%s/%d", map[bool]string{false: "arp", true: "ndp"}[six], count)
			t.Run(what, func(t *testing.T) {
				_, client := stage(t)
				p := startProber(t, Config{})
				targets := costTargets(t, client, six, count)
				p.SetTargets(targets)
				for _, target := range targets {
					p.waitState(t, target.Node, Answers)
				}
				before, used := total(p.Stats()), probeTime(t)
				time.Sleep(window)
				after, spent := total(p.Stats()), probeTime(t)-used
				seconds := window.Seconds()
				t.Logf("%d targets: %.0f probes/s, %.0f answers/s, %d misses; %.2f %% of one processor, "+
					"%s for each probe",
					count, float64(after.Probes-before.Probes)/seconds,
					float64(after.Answers-before.Answers)/seconds, after.Misses-before.Misses,
					100*spent.Seconds()/seconds,
					(spent / time.Duration(max(1, after.Probes-before.Probes))).Round(100*time.Nanosecond))
				if count != 2 {
					return
				}
				// Of a hundred nodes each probes two and is probed by two: as many
				// frames again, and the kernel's answers, which are counted above.
				perNode := 2 * float64(after.Probes-before.Probes+after.Answers-before.Answers) / seconds
				t.Logf("100 nodes, each probed by two others: %.0f frames/s sent and received by each "+
					"node, %.0f frames/s on the segment, "+
					"%.2f %% of one processor on each node",
					perNode, 100*perNode/2, 100*spent.Seconds()/seconds)
			})
		}
	}
}

// costTargets gives the client addresses, each of which is a node.
func costTargets(t *testing.T, client *netnstest.Host, six bool, count int) []Target {
	t.Helper()
	addr, length := netip.MustParseAddr("192.0.2.20"), 32
	if six {
		addr, length = netip.MustParseAddr("2001:db8::20"), 128
	}
	mac := hardwareAddr(t, client)
	var batch strings.Builder
	var out []Target
	for range count {
		fmt.Fprintf(&batch, "address add %s/%d dev eth0\n", addr, length)
		out = append(out, Target{Node: addr.String(), Link: "eth0", Addr: addr, MAC: mac})
		addr = addr.Next()
	}
	client.Run(t, "sh", "-c", "printf '"+batch.String()+"' | ip -batch -")
	return out
}

// probeTime is what this process has used, in user and system mode.
func probeTime(t *testing.T) time.Duration {
	t.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
