// Command failover breaks a lab in every way it can, many times over, and measures for how long a client on
// the LAN loses the addresses of Services. It prints a table and writes a line of JSON for each run.
//
// It wants the images that `make images` builds, and root: run it with `make bench-failover`. What it takes
// from the environment:
//
//	RUNS       how many times each scenario runs; default 20
//	SCENARIOS  regular expression of the scenarios to run; default all
//	WINDOW     for how long two Ethernet addresses may be stated for one address, in ms; default
//	           1000. Where thousands are handed over at once it is --hand-over-timeout, 3 s
//	SEED       the faults of the first run of the scenario "chaos"; the second has the next number. Default 1
//	MINUTES    how long the scenario "saturated" lasts; default 10
//	OUT        file for the lines of JSON; default failover-*.jsonl in the system's directory for
//	           temporary files
//	LAB        name of the lab; default "failover". One that is up is used, and stays
//	ROOT       folder of the product's sources, with dist and manifests; default the folder above
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/berth-lb/berth/e2e/bench"
)

func main() { bench.Main("failover", run) }

// settings are what the environment says.
type settings struct {
	bench.Settings
	window int // ms
	seed   uint64
}

func readSettings() (settings, error) {
	shared, err := bench.ReadSettings("failover", 20)
	if err != nil {
		return settings{}, err
	}
	s := settings{Settings: shared}
	var errs [2]error
	s.window, errs[0] = strconv.Atoi(cmp.Or(os.Getenv("WINDOW"), "1000"))
	s.seed, errs[1] = strconv.ParseUint(cmp.Or(os.Getenv("SEED"), "1"), 10, 32)
	if err := errors.Join(errs[:]...); err != nil {
		return s, fmt.Errorf("WINDOW or SEED: %w", err)
	}
	return s, nil
}

func run(ctx context.Context) (err error) {
	s, err := readSettings()
	if err != nil {
		return err
	}
	chosen := slices.DeleteFunc(scenarios(s.Minutes), func(sc scenario) bool {
		return !s.Which.MatchString(sc.name)
	})
	if len(chosen) == 0 {
		return fmt.Errorf("no scenario matches %q", s.Which)
	}
	lines, err := s.OpenLines("failover")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lines.Close()) }()
	b, err := makeBed(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close(context.WithoutCancel(ctx))) }()
	fmt.Printf("Each run as JSON: %s\n\n", lines.Name())
	printHeader()
	var failed []error
	for _, sc := range chosen {
		results, err := b.runAll(ctx, sc, s, lines)
		printRows(sc, results)
		if err = errors.Join(err, broken(sc, results, int64(s.window))); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", sc.name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}

// broken tells of what no run may show: two places for one address for longer than the window, and any move
// where none has a cause.
func broken(sc scenario, results []result, window int64) error {
	var errs []error
	window = max(window, sc.overlap.Milliseconds())
	for _, r := range results {
		if r.Longest > window {
			errs = append(errs, fmt.Errorf("run %d: two at once for %d ms, %d are allowed: %s",
				r.Run, r.Longest, window, r.Overlaps[0]))
		}
		if sc.still && r.Changes > 0 {
			errs = append(errs, fmt.Errorf("run %d: %d changes of owner, the first after %d ms",
				r.Run, r.Changes, r.FirstChange))
		}
	}
	return errors.Join(errs...)
}

// runAll runs a scenario so many times. When the cluster does not come back, the scenario ends.
func (b *bed) runAll(ctx context.Context, sc scenario, s settings, lines *bench.Lines) ([]result, error) {
	runs := s.Runs
	if sc.once {
		runs = 1
	}
	set, err := b.makeSet(ctx, sc.set)
	if err != nil {
		return nil, err
	}
	return bench.Repeat(sc.name, runs, lines, func(run int) (result, error) {
		r, err := b.runBy(ctx, sc, set, s.seed+uint64(run-1))
		r.Scenario, r.Run = sc.name, run
		return r, err
	})
}

// runBy is one run of a scenario. When it fails, what was broken is mended.
func (b *bed) runBy(ctx context.Context, sc scenario, set set, seed uint64) (result, error) {
	if sc.chaos {
		return b.runChaos(ctx, sc, set, seed)
	}
	r, err := b.runOnce(ctx, sc, set)
	if err != nil {
		err = errors.Join(err, sc.restore(context.WithoutCancel(ctx), b.Lab, r.Victim))
	}
	return r, err
}
