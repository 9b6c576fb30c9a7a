package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// StallAfter is how long a pass of a main loop may last before liveness fails. A
// pass takes milliseconds.
const StallAfter = time.Minute

// lookInterval is how often Watch asks a loop whether it waits.
const lookInterval = 5 * time.Second

// Loops are the main loops of a process, each of which does the same again and
// again. They find out whether one is stalled, so that a process that no longer does
// its work is restarted although some of its goroutines still answer.
//
// What is between Begin and End must depend on nothing outside the process, and
// never on the API server: an outage of the control plane must restart nobody.
// The zero Loops is ready. It is safe for concurrent use.
type Loops struct {
	mu    sync.Mutex
	loops map[string]*Loop
}

// Loop is one main loop. It is idle until Begin is called.
type Loop struct {
	mu    sync.Mutex
	since time.Time // of the pass that it is at; zero while it is idle
}

// Loop returns the loop of a name, which must be one word.
func (l *Loops) Loop(name string) *Loop {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loops == nil {
		l.loops = map[string]*Loop{}
	}
	if l.loops[name] == nil {
		l.loops[name] = &Loop{}
	}
	return l.loops[name]
}

// Begin notes that a pass begins. Passes of one loop do not overlap.
func (l *Loop) Begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since = time.Now()
}

// Step notes that the pass, if the loop is at one, gets on: what it does may take
// long, but no step of it does.
func (l *Loop) Step() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.since.IsZero() {
		l.since = time.Now()
	}
}

// End notes that the pass has ended, and the loop waits.
func (l *Loop) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since = time.Time{}
}

// lasts returns how long the pass that the loop is at, or the present step of it, has
// lasted; 0 while it is idle.
func (l *Loop) lasts(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since.IsZero() {
		return 0
	}
	return now.Sub(l.since)
}

// Watch watches a loop that cannot call Begin and End itself: every few seconds it
// waits for the loop to pass by, until ctx ends. passBy returns when the loop has
// shown that it works, or ctx has ended.
func (l *Loop) Watch(ctx context.Context, passBy func(context.Context)) error {
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	for {
		l.Begin()
		passBy(ctx)
		l.End()
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Stalled returns which loops are stalled, and for how long; "" when none is.
func (l *Loops) Stalled(now time.Time) string {
	var out []string
	for name, lasts := range l.lasting(now) {
		if lasts >= StallAfter {
			out = append(out, fmt.Sprintf("%s has been stalled for %s", name, lasts.Round(time.Second)))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// lasting returns how long the passes that the loops are at have lasted.
func (l *Loops) lasting(now time.Time) map[string]time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]time.Duration{}
	for name, loop := range l.loops {
		out[name] = loop.lasts(now)
	}
	return out
}

var passSeconds = prometheus.NewDesc("berth_loop_pass_seconds",
	"Duration of the pass that a main loop is in; 0 while it waits. Liveness fails after a minute.",
	[]string{"loop"}, nil)

// Describe implements prometheus.Collector.
func (*Loops) Describe(out chan<- *prometheus.Desc) { out <- passSeconds }

// Collect implements prometheus.Collector.
func (l *Loops) Collect(out chan<- prometheus.Metric) {
	for name, lasts := range l.lasting(time.Now()) {
		out <- prometheus.MustNewConstMetric(passSeconds, prometheus.GaugeValue, lasts.Seconds(), name)
	}
}
