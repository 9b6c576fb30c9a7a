// Command bgp has the nodes of a lab announce Services by BGP to FRR, breaks the lab in many ways, and
// measures what a client behind the routers loses, and how fast routes come. It prints a table and writes a
// line of JSON for each run.
//
// It wants the images that `make images` builds, FRR, and root: run it with `make bench-bgp`. What it takes
// from the environment:
//
//	RUNS       how many times each scenario runs; default 5, of slow ones at most 2, "saturated" once
//	SCENARIOS  regular expression of the scenarios to run; default all
//	BFD        "no" (the default), "yes" or "both": whether scenarios to which it may make a
//	           difference have BFD; "crash-restart" and "saturated" always have it
//	MINUTES    how long the scenario "saturated" lasts; default 10
//	LOSS       what may be lost at an address where nothing should be, in ms; default 50
//	OUT        file for the lines of JSON; default bgp-*.jsonl in the system's directory for
//	           temporary files
//	LAB        name of the lab; default "bgp". One that is up is used, and stays
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
	"strings"

	"github.com/berth-lb/berth/e2e/bench"
)

func main() { bench.Main("bgp", run) }

// settings are what the environment says.
type settings struct {
	bench.Settings
	bfd  []bool // with which scenarios run to which it may make a difference
	loss int64  // ms
}

func readSettings() (settings, error) {
	shared, err := bench.ReadSettings("bgp", 5)
	if err != nil {
		return settings{}, err
	}
	s := settings{Settings: shared}
	if s.loss, err = strconv.ParseInt(cmp.Or(os.Getenv("LOSS"), "50"), 10, 64); err != nil {
		return s, fmt.Errorf("LOSS: %w", err)
	}
	switch text := cmp.Or(os.Getenv("BFD"), "no"); text {
	case "no":
		s.bfd = []bool{false}
	case "yes":
		s.bfd = []bool{true}
	case "both":
		s.bfd = []bool{false, true}
	default:
		return s, fmt.Errorf("BFD is %q: want no, yes or both", text)
	}
	return s, nil
}

func run(ctx context.Context) (err error) {
	s, err := readSettings()
	if err != nil {
		return err
	}
	chosen := slices.DeleteFunc(scenarios(s), func(sc scenario) bool { return !s.Which.MatchString(sc.name) })
	latency := s.Which.MatchString(latencyName)
	if len(chosen) == 0 && !latency {
		return fmt.Errorf("no scenario matches %q", s.Which)
	}
	lines, err := s.OpenLines("bgp")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lines.Close()) }()
	b, err := makeBed(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close(context.WithoutCancel(ctx))) }()
	fmt.Printf("Each run as JSON: %s\n\n", lines.Name())
	var failed []error
	if len(chosen) > 0 {
		printHeader()
	}
	var same []measured // of one scenario
	var notes []string
	for i, sc := range chosen {
		results, err := b.runAll(ctx, sc, s.Runs, lines)
		same = append(same, measured{sc, results})
		if i+1 == len(chosen) || chosen[i+1].name != sc.name || ctx.Err() != nil {
			fmt.Print(strings.Join(rows(same), ""))
			same = nil
		}
		notes = append(notes, steadyNotes(sc, results)...)
		if err = errors.Join(err, broken(sc, results, s.loss)); err != nil {
			failed = append(failed, fmt.Errorf("%s, BFD %s: %w", sc.name, yesNo(sc.terms.bfd), err))
		}
		if ctx.Err() != nil {
			return errors.Join(failed...)
		}
	}
	if len(notes) > 0 {
		fmt.Printf("\n%s\n", strings.Join(notes, "\n"))
	}
	if latency {
		failed = append(failed, b.measureLatency(ctx, lines))
	}
	return errors.Join(failed...)
}

// broken tells of loss where there must be none, of routes that stayed or went though they must not, and of
// sessions that went down though they must not. Answers that came late do not count: that hosts answer late
// has other causes than a route that leads nowhere.
func broken(sc scenario, results []result, limit int64) error {
	var errs []error
	for _, r := range results {
		if sc.gone && (r.RouteGone4 == nil || r.RouteGone6 == nil) {
			errs = append(errs, fmt.Errorf(
				"run %d: the router's kernel went on sending to %s, to %d addresses until the end",
				r.Run, r.Node, r.Still,
			))
		}
		if sc.steady && len(r.Down) > 0 {
			errs = append(errs, fmt.Errorf("run %d: %s", r.Run, strings.Join(r.Down, ", ")))
		}
		if len(r.NotKept) > 0 {
			errs = append(errs, fmt.Errorf("run %d: the router's kernel did not keep all routes: %s",
				r.Run, strings.Join(r.NotKept, ", ")))
		}
		if !sc.lossless {
			continue
		}
		if allowed := max(limit, sc.but.Milliseconds()); r.Dropped > allowed {
			errs = append(errs, fmt.Errorf(
				"run %d: an address was lost for %d ms in the fault, %d are allowed",
				r.Run, r.Dropped, allowed,
			))
		}
		if r.BackDropped > limit {
			errs = append(errs, fmt.Errorf(
				"run %d: an address was lost for %d ms when it was mended, %d are allowed",
				r.Run, r.BackDropped, limit,
			))
		}
	}
	return errors.Join(errs...)
}

// runAll runs a scenario so many times. What a run that could not be measured has broken is mended, and the
// scenario ends with it.
func (b *bed) runAll(ctx context.Context, sc scenario, runs int, lines *bench.Lines) ([]result, error) {
	switch {
	case sc.once:
		runs = 1
	case sc.slow:
		runs = min(runs, slowRuns)
	}
	if err := b.settle(ctx, sc.terms); err != nil {
		return nil, err
	}
	nodes := b.Lab.NodeNames()
	return bench.Repeat(sc.name, runs, lines, func(run int) (result, error) {
		node := nodes[(run-1)%len(nodes)]
		r, err := b.runOnce(ctx, sc, node)
		if err != nil {
			return r, errors.Join(err, b.recover(context.WithoutCancel(ctx), sc, node))
		}
		r.Scenario, r.BFD, r.Run = sc.name, sc.terms.bfd, run
		return r, nil
	})
}

// slowRuns is how often a slow scenario runs at most.
const slowRuns = 2

// recover mends what a run has left broken.
func (b *bed) recover(ctx context.Context, sc scenario, node string) error {
	return errors.Join(sc.restore(ctx, b, node), b.settle(ctx, sc.terms))
}
