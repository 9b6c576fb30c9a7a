package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/berth-lb/berth/e2e/bench"
	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/watch"
)

// A result is what one run has measured. Times are in milliseconds.
type result struct {
	Scenario  string    `json:"scenario"`
	Run       int       `json:"run"`
	At        time.Time `json:"at"`
	Victim    string    `json:"victim"`
	Addresses int       `json:"addresses"` // that were measured
	// Loss has a value for each address, from the fault until all is mended or calm; Back from then on until
	// the cluster is whole again.
	Loss4 []int64 `json:"loss4"`
	Loss6 []int64 `json:"loss6"`
	Back4 []int64 `json:"back4"`
	Back6 []int64 `json:"back6"`
	// Lost and Sent count probes from the fault on, until the cluster is whole again.
	Lost int `json:"lost"`
	Sent int `json:"sent"`
	// Pause is the longest time in which no probe of an address was sent: the measurement is no finer than
	// that. Slowest is the longest time that an answer took. Both are of the measurement of Loss.
	Pause   int64 `json:"pause"`
	Slowest int64 `json:"slowest"`
	// Moved counts addresses for which another place was stated at the end of the measurement than before the
	// fault.
	Moved int `json:"moved"`
	// Astray counts addresses for which the client sends to another node than the owner, when all is whole
	// again.
	Astray int `json:"astray"`
	// Changes counts how often another place was stated than before, for all addresses. FirstChange and
	// LastChange are counted from the fault.
	Changes     int   `json:"changes"`
	FirstChange int64 `json:"firstChange"`
	LastChange  int64 `json:"lastChange"`
	// Overlaps tells of the longest times in which two places were stated for an address, OverlapCount of how
	// many there were.
	Overlaps     []string `json:"overlaps,omitempty"`
	OverlapCount int      `json:"overlapCount"`
	Longest      int64    `json:"longestOverlap"`
	// Seed and Faults are those of a run of many faults; Settled is the time from when all were mended until
	// the client was served at every address and one node answered for each.
	Seed    uint64   `json:"seed,omitempty"`
	Faults  []string `json:"faults,omitempty"`
	Settled int64    `json:"settled,omitempty"`
}

const (
	askInterval = 50 * time.Millisecond
	// patience is how long a loss is measured at most.
	patience = 30 * time.Second
)

// A watcher is all that looks on during a run.
type watcher struct {
	capture *watch.Capture
	asker   *watch.Asker
	traffic *watch.Traffic
	set     set
	ask     time.Duration
}

func (b *bed) watch(sc scenario, s set) (*watcher, error) {
	w := &watcher{set: s, ask: cmp.Or(sc.ask, askInterval)}
	var err error
	if w.capture, err = watch.StartCapture(b.Lab, s.addresses); err != nil {
		return nil, err
	}
	if w.asker, err = watch.StartAsker(b.Lab, lab.HostRouter, lab.RouterAddresses, s.probed,
		w.ask); err != nil {
		return nil, errors.Join(err, w.capture.Stop())
	}
	w.traffic, err = watch.StartTraffic(watch.TrafficConfig{
		Lab:       b.Lab,
		Host:      lab.HostClient,
		Addresses: s.probed,
		Port:      bench.EchoPort,
		Interval:  cmp.Or(sc.probe, bench.ProbeInterval),
	})
	if err != nil {
		w.asker.Stop()
		return nil, errors.Join(err, w.capture.Stop())
	}
	return w, nil
}

func (w *watcher) stop() error {
	w.traffic.Stop()
	w.asker.Stop()
	return w.capture.Stop()
}

// calm waits until the client is served at every address and the LAN is of one mind where each is, for
// bench.CalmLimit at most.
func (w *watcher) calm(ctx context.Context) error {
	begin := time.Now()
	if err := bench.Served(ctx, w.traffic, bench.CalmLimit); err != nil {
		return err
	}
	what := "one node answers for each address"
	return bench.Poll(ctx, bench.CalmLimit-time.Since(begin), what, func() error {
		from := time.Now().Add(-bench.Calm)
		if from.Before(begin) {
			return errors.New("it has hardly begun")
		}
		claims := w.capture.Claims(from)
		if owners := watch.Owners(claims, from); len(owners) < len(w.set.probed) {
			return fmt.Errorf("only %d of %d are claimed", len(owners), len(w.set.probed))
		}
		if changes := watch.Changes(claims); len(changes) > 0 {
			return fmt.Errorf("%d change", len(changes))
		}
		return nil
	})
}

// watchCalm waits until the cluster is whole, begins to look on, and waits until all is calm.
func (b *bed) watchCalm(ctx context.Context, sc scenario, s set) (*watcher, error) {
	if err := b.WaitReady(ctx); err != nil {
		return nil, err
	}
	w, err := b.watch(sc, s)
	if err != nil {
		return nil, err
	}
	if err := b.begin(ctx, w); err != nil {
		return nil, errors.Join(err, w.stop())
	}
	return w, nil
}

// runOnce breaks and mends, and measures both.
func (b *bed) runOnce(ctx context.Context, sc scenario, s set) (r result, err error) {
	w, err := b.watchCalm(ctx, sc, s)
	if err != nil {
		return r, fmt.Errorf("before: %w", err)
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	if sc.prepare != nil {
		if err := errors.Join(sc.prepare(ctx, b.Lab), w.calm(ctx)); err != nil {
			return r, fmt.Errorf("prepared: %w", err)
		}
	}
	before := w.owners(time.Now().Add(-bench.Calm))
	victim, owned := b.victim(before)
	r.Victim = victim
	measured := owned
	if sc.everybody {
		measured = s.probed
	}
	r.Addresses = len(measured)
	from := time.Now()
	time.Sleep(bench.Lead)
	r.At = time.Now()
	if err := sc.fault(ctx, b.Lab, victim); err != nil {
		return r, err
	}
	time.Sleep(max(0, sc.window-time.Since(r.At)))
	// A loss that does not end is as long as was waited for it.
	_ = bench.Served(ctx, w.traffic, patience)
	mended := time.Now().Add(-bench.OnTheWay)
	after := w.owners(from)
	if err := sc.restore(ctx, b.Lab, victim); err != nil {
		return r, err
	}
	if err := errors.Join(b.WaitReady(ctx), w.calm(ctx)); err != nil {
		return r, fmt.Errorf("after: %w", err)
	}
	if r.Astray, err = b.astray(ctx, w); err != nil {
		return r, err
	}
	w.judge(&r, measured, times{from, mended, time.Now().Add(-bench.OnTheWay)})
	r.Moved = moved(before, after)
	return r, nil
}

// moved counts the addresses that have another place than before, or none.
func moved(before, after map[netip.Addr]watch.MAC) int {
	n := 0
	for addr, mac := range before {
		if after[addr] != mac {
			n++
		}
	}
	return n
}

// begin waits until all is calm and the client knows where each address is now. A client that was led astray
// in the run before would not notice what becomes of the owner.
func (b *bed) begin(ctx context.Context, w *watcher) error {
	if err := w.calm(ctx); err != nil {
		return err
	}
	if err := watch.ForgetNeighbours(ctx, b.Lab, lab.HostClient); err != nil {
		return err
	}
	return bench.Poll(ctx, bench.CalmLimit, "the client sends to the owners", func() error {
		if err := w.calm(ctx); err != nil {
			return err
		}
		if n, err := b.astray(ctx, w); n > 0 || err != nil {
			return errors.Join(err, fmt.Errorf("%d astray", n))
		}
		return nil
	})
}

// astray counts for how many addresses the client sends to another node than the owner.
func (b *bed) astray(ctx context.Context, w *watcher) (int, error) {
	cache, err := watch.Neighbours(ctx, b.Lab, lab.HostClient)
	return watch.Astray(cache, w.owners(time.Now().Add(-bench.Calm))), err
}

// owners returns the places last stated since then, of the addresses that are sent to.
func (w *watcher) owners(since time.Time) map[netip.Addr]watch.MAC {
	all := watch.Owners(w.capture.Claims(since), time.Time{})
	out := map[netip.Addr]watch.MAC{}
	for _, addr := range w.set.probed {
		if mac, known := all[addr]; known {
			out[addr] = mac
		}
	}
	return out
}

// victim is the node that owns the most addresses, the first by name among equals, and what it owns.
func (b *bed) victim(owners map[netip.Addr]watch.MAC) (node string, owned []netip.Addr) {
	byNode := map[string][]netip.Addr{}
	for addr, mac := range owners {
		byNode[b.macs[mac]] = append(byNode[b.macs[mac]], addr)
	}
	for _, name := range b.Lab.NodeNames() {
		if len(byNode[name]) > len(byNode[node]) {
			node = name
		}
	}
	owned = byNode[node]
	slices.SortFunc(owned, netip.Addr.Compare)
	return node, owned
}

// times are those of a run: the measurement begins, mending begins, all is whole.
type times struct{ from, mended, whole time.Time }

// judge fills in what was seen.
func (w *watcher) judge(r *result, measured []netip.Addr, at times) {
	for _, addr := range measured {
		loss := w.traffic.Outage(addr, at.from, at.mended)
		back := w.traffic.Outage(addr, at.mended, at.whole)
		r.Pause = max(r.Pause, loss.Pause.Milliseconds())
		r.Slowest = max(r.Slowest, loss.Slowest.Milliseconds())
		r.Lost += loss.Lost + back.Lost
		r.Sent += loss.Sent + back.Sent
		if addr.Is4() {
			r.Loss4 = append(r.Loss4, loss.Longest.Milliseconds())
			r.Back4 = append(r.Back4, back.Longest.Milliseconds())
		} else {
			r.Loss6 = append(r.Loss6, loss.Longest.Milliseconds())
			r.Back6 = append(r.Back6, back.Longest.Milliseconds())
		}
	}
	claims := w.capture.Claims(at.from)
	if changes := watch.Changes(claims); len(changes) > 0 {
		r.Changes = len(changes)
		r.FirstChange = changes[0].At.Sub(r.At).Milliseconds()
		r.LastChange = changes[len(changes)-1].At.Sub(r.At).Milliseconds()
	}
	overlaps := watch.Overlaps(claims, quietTimes*w.ask)
	slices.SortStableFunc(overlaps, func(a, b watch.Overlap) int {
		return cmp.Compare(b.Length(), a.Length())
	})
	r.OverlapCount = len(overlaps)
	for _, o := range overlaps[:min(len(overlaps), maxOverlaps)] {
		r.Longest = max(r.Longest, o.Length().Milliseconds())
		r.Overlaps = append(r.Overlaps, fmt.Sprintf("%s %s %s %d ms at %+d ms", o.Addr, o.First, o.Second,
			o.Length().Milliseconds(), o.From.Sub(r.At).Milliseconds()))
	}
}

// maxOverlaps bounds how many overlaps a result lists.
const maxOverlaps = 10

// quietTimes is after how many questions without an answer a node counts as silent.
const quietTimes = 4
