package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/berth-lb/berth/e2e/bench"
	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/product"
)

// A fault is something that breaks at a time and is mended a while later. Times count from the first fault.
type fault struct {
	kind  faultKind
	node  string // empty for the API server
	other string // the second node of a partition
	begin time.Duration
	// length is how long it lasts. What lasts until everything is mended has length forever.
	length time.Duration
}

func (f fault) String() string {
	where := f.node
	if f.other != "" {
		where += " and " + f.other
	}
	if f.length == forever {
		return fmt.Sprintf("%.1fs on: %s %s", f.begin.Seconds(), f.kind.name, where)
	}
	return fmt.Sprintf("%.1fs to %.1fs: %s %s",
		f.begin.Seconds(), (f.begin + f.length).Seconds(), f.kind.name, where)
}

// A faultKind is a way to break something.
type faultKind struct {
	name string
	// holds are what no two faults may hold at one time, given the fault's own time. The second would find
	// nothing to break, or the end of the first would mend it.
	holds func(f fault) []hold
	// lasting: it lasts until everything is mended.
	lasting    bool
	start, end func(ctx context.Context, l *lab.Lab, f fault) error
}

// A hold is a part of the cluster that a fault has for itself for a time.
type hold struct {
	part     string
	from, to time.Duration
}

func (h hold) clashes(other hold) bool {
	return h.part == other.part && h.from <= other.to && other.from <= h.to
}

const (
	// faultCount is how many faults a run has.
	faultCount = 8
	// faultsWithin is the time in which they begin.
	faultsWithin = 12 * time.Second
	// shortestFault and longestFault bound those that end by themselves. A node that crashes is to be back
	// before Kubernetes calls it lost, which it does after 40 s.
	shortestFault, longestFault = 2 * time.Second, 10 * time.Second
	forever                     = time.Duration(1 << 62)
	// apiReturns is how long an API server may take until it answers again.
	apiReturns = 8 * time.Second
)

// processesOf, networkOf and dutyOf name the parts of a node.
func processesOf(node string) string { return node + "'s processes" }
func networkOf(node string) string   { return node + "'s network" }
func dutyOf(node string) string      { return node + "'s duty" }

const apiPart = "API server"

// during holds parts as long as the fault lasts.
func during(parts ...func(node string) string) func(f fault) []hold {
	return func(f fault) []hold {
		var out []hold
		for _, part := range parts {
			out = append(out, hold{part(f.node), f.begin, f.end()})
			if f.other != "" {
				out = append(out, hold{part(f.other), f.begin, f.end()})
			}
		}
		return out
	}
}

func (f fault) end() time.Duration {
	if f.length == forever {
		return forever
	}
	return f.begin + f.length
}

// signal returns what sends a signal to the speaker of the fault's node.
func signal(s syscall.Signal) func(context.Context, *lab.Lab, fault) error {
	return func(_ context.Context, l *lab.Lab, f fault) error {
		return l.Node(f.node).KillProcess(product.SpeakerProcess, s)
	}
}

// faultKinds lists all.
func faultKinds() []faultKind {
	heal := func(ctx context.Context, l *lab.Lab, f fault) error { return l.Node(f.node).Heal(ctx) }
	return []faultKind{
		{
			name:    "crash",
			lasting: true,
			holds:   during(processesOf, networkOf),
			start: func(ctx context.Context, l *lab.Lab, f fault) error {
				return l.Node(f.node).Crash(ctx)
			},
			end: func(ctx context.Context, l *lab.Lab, f fault) error { return l.Node(f.node).Start(ctx) },
		},
		{
			name:  "cut",
			holds: during(networkOf),
			end:   heal,
			start: func(ctx context.Context, l *lab.Lab, f fault) error { return l.Node(f.node).Cut(ctx) },
		},
		{
			name:  "hang",
			holds: during(processesOf),
			start: func(ctx context.Context, l *lab.Lab, f fault) error { return l.Node(f.node).Hang(ctx) },
			end:   func(ctx context.Context, l *lab.Lab, f fault) error { return l.Node(f.node).Unhang(ctx) },
		},
		{
			name:  "freeze",
			holds: during(processesOf),
			start: signal(syscall.SIGSTOP),
			end:   signal(syscall.SIGCONT),
		},
		{
			// The kubelet starts it again, ever more slowly: it is killed once, and its pod replaced in the
			// end.
			name:    "kill",
			lasting: true,
			holds:   during(processesOf),
			start:   signal(syscall.SIGKILL),
			end: func(ctx context.Context, l *lab.Lab, f fault) error {
				return bench.RenewSpeaker(ctx, l, f.node)
			},
		},
		{
			name:  "partition",
			holds: during(networkOf),
			end:   heal,
			start: func(ctx context.Context, l *lab.Lab, f fault) error {
				return l.Network().Part(ctx, f.node, f.other)
			},
		},
		{
			name:  "blocked port",
			holds: during(networkOf),
			end:   heal,
			start: func(ctx context.Context, l *lab.Lab, f fault) error {
				return l.Node(f.node).Block(ctx, product.MemberPort)
			},
		},
		{
			name:    "drain",
			lasting: true,
			holds: func(f fault) []hold {
				// It takes an API server to begin.
				return append(during(dutyOf)(f), hold{apiPart, f.begin, f.begin + 2*time.Second})
			},
			start: func(ctx context.Context, l *lab.Lab, f fault) error { return l.Node(f.node).Drain(ctx) },
			end: func(ctx context.Context, l *lab.Lab, f fault) error {
				return l.Node(f.node).Undrain(ctx)
			},
		},
		{
			name:  apiKilled,
			holds: func(f fault) []hold { return []hold{{apiPart, f.begin, f.end() + apiReturns}} },
			start: func(ctx context.Context, l *lab.Lab, _ fault) error {
				return l.Component(lab.APIServer).Kill(ctx)
			},
			end: func(ctx context.Context, l *lab.Lab, _ fault) error {
				return l.Component(lab.APIServer).Start(ctx)
			},
		},
	}
}

const apiKilled = "API server killed"

// planFaults chooses faults that can happen together, by a seed: the same seed and nodes give the same
// faults, in the order in which they begin.
func planFaults(seed uint64, nodes []string) []fault {
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // it is to be repeatable, not secret
	kinds := faultKinds()
	var plan []fault
	var taken []hold
	for len(plan) < faultCount {
		f := fault{kind: kinds[random.IntN(len(kinds))], begin: between(random, 0, faultsWithin)}
		f.length = between(random, shortestFault, longestFault)
		node := random.IntN(len(nodes))
		if f.kind.lasting {
			f.length = forever
		}
		if f.kind.name != apiKilled {
			f.node = nodes[node]
		}
		if f.kind.name == "partition" {
			f.other = nodes[(node+1+random.IntN(len(nodes)-1))%len(nodes)]
		}
		holds := f.kind.holds(f)
		if slices.ContainsFunc(holds, func(h hold) bool { return slices.ContainsFunc(taken, h.clashes) }) {
			continue
		}
		taken = append(taken, holds...)
		plan = append(plan, f)
	}
	slices.SortStableFunc(plan, func(a, b fault) int { return cmp.Compare(a.begin, b.begin) })
	return plan
}

// between is a time from low to high, in steps of 100 ms.
func between(random *rand.Rand, low, high time.Duration) time.Duration {
	const step = 100 * time.Millisecond
	return low + step*time.Duration(random.IntN(int((high-low)/step)+1))
}

// playFaults has all faults happen and mends them. It returns when everything is mended.
func playFaults(ctx context.Context, l *lab.Lab, plan []fault) error {
	start := time.Now()
	errs := make([]error, len(plan))
	began := make([]bool, len(plan))
	always := context.WithoutCancel(ctx) // what is broken is mended
	var playing sync.WaitGroup
	for i, f := range plan {
		playing.Go(func() {
			if wait(ctx, time.Until(start.Add(f.begin))) != nil {
				return
			}
			began[i] = true
			if errs[i] = f.kind.start(ctx, l, f); f.kind.lasting {
				return
			}
			_ = wait(ctx, time.Until(start.Add(f.end())))
			errs[i] = errors.Join(errs[i], f.kind.end(always, l, f))
		})
	}
	playing.Wait()
	for i, f := range plan {
		if f.kind.lasting && began[i] {
			errs[i] = errors.Join(errs[i], f.kind.end(always, l, f))
		}
		if errs[i] != nil {
			errs[i] = fmt.Errorf("%s: %w", f, errs[i])
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}

// wait waits, and returns an error when ctx ends before.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(max(0, d)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// runChaos has the faults of a seed happen, mends everything, and measures how long it takes until the client
// is served at every address and one node answers for each: a minute at most.
func (b *bed) runChaos(ctx context.Context, sc scenario, s set, seed uint64) (r result, err error) {
	plan := planFaults(seed, b.Lab.NodeNames())
	r.Seed = seed
	for _, f := range plan {
		r.Faults = append(r.Faults, f.String())
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("SEED=%d (%v): %w", seed, r.Faults, err)
		}
	}()
	w, err := b.watchCalm(ctx, sc, s)
	if err != nil {
		return r, fmt.Errorf("before: %w", err)
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	before := w.owners(time.Now().Add(-bench.Calm))
	from := time.Now()
	time.Sleep(bench.Lead)
	r.At, r.Addresses = time.Now(), len(s.probed)
	if err := playFaults(ctx, b.Lab, plan); err != nil {
		return r, err
	}
	mended := time.Now()
	if err := w.calm(ctx); err != nil {
		return r, fmt.Errorf("everything is mended: %w", err)
	}
	r.Settled = max(0, time.Since(mended)-bench.Calm).Milliseconds()
	if err := errors.Join(b.WaitReady(ctx), w.calm(ctx)); err != nil {
		return r, fmt.Errorf("after: %w", err)
	}
	if r.Astray, err = b.astray(ctx, w); err != nil {
		return r, err
	}
	w.judge(&r, s.probed, times{from, mended, time.Now().Add(-bench.OnTheWay)})
	r.Moved = moved(before, w.owners(from))
	return r, nil
}
