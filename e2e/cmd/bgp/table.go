package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/berth-lb/berth/e2e/bench"
	"github.com/berth-lb/berth/e2e/watch"
)

// printHeader explains the table and begins it.
func printHeader() {
	fmt.Print(`A client behind the router sends each address a datagram every 10 ms, from a new port every 500
ms, so that all next hops are used. "Lost" are probes without an answer within 250 ms, of all
that were sent from the fault until mending begins; "late" are those of them whose answer came
all the same: a host had no processor. "Loss" is for how long an address was not to be reached
at all, in ms: min, median, p99 and max are over all addresses of all runs. "Over after" is
when the last lost probe was sent, in ms after the fault, over all runs: where one of several
next hops is dead, the others answer meanwhile. "Back" are probes that were lost while what was
broken returned. "Routes gone" is how long after the fault, in ms, the last route of the family
ceased to have the dead node as a next hop in the router's kernel, over all runs.

| scenario | family | BFD | runs | addresses | lost | late | of ` +
		`| loss min | median | p99 | max | over after median | max | back | routes gone min | median | p99 |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
`)
}

// measured are the results of a scenario, with BFD or without.
type measured struct {
	scenario
	results []result
}

// of is what a result says about one family.
type of struct {
	loss             []int64
	last             int64
	lost, late, sent int
	back             int
	gone             *int64
}

// A family is IPv4 or IPv6.
type family struct {
	name string
	is   func(netip.Addr) bool
	of   func(result) of
	gone func(*result) **int64
}

// families are those that each result tells of.
var families = []family{
	{"IPv4", netip.Addr.Is4, func(r result) of {
		return of{
			loss: r.Loss4,
			last: r.Last4,
			lost: r.Lost4,
			late: r.Late4,
			sent: r.Sent4,
			back: r.BackLost4,
			gone: r.RouteGone4,
		}
	}, func(r *result) **int64 { return &r.RouteGone4 }},
	{"IPv6", netip.Addr.Is6, func(r result) of {
		return of{
			loss: r.Loss6,
			last: r.Last6,
			lost: r.Lost6,
			late: r.Late6,
			sent: r.Sent6,
			back: r.BackLost6,
			gone: r.RouteGone6,
		}
	}, func(r *result) **int64 { return &r.RouteGone6 }},
}

// addresses returns the addresses of the family.
func (f family) addresses(all []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(all), func(addr netip.Addr) bool { return !f.is(addr) })
}

// rows returns the rows of one scenario, a line each: for each family those without and with
// BFD beside each other.
func rows(same []measured) []string {
	var out []string
	for _, family := range families {
		for _, m := range same {
			begin := fmt.Sprintf("| %s | %s | %s | %d |",
				m.title, family.name, yesNo(m.terms.bfd), len(m.results))
			if len(m.results) == 0 {
				out = append(out, begin+strings.Repeat(" |", 14)+"\n")
				continue
			}
			var sum of
			var losses, lasts, gone []time.Duration
			for _, r := range m.results {
				f := family.of(r)
				losses = append(losses, bench.Milliseconds(f.loss)...)
				lasts = append(lasts, bench.Milliseconds([]int64{f.last})...)
				sum.lost += f.lost
				sum.late += f.late
				sum.sent += f.sent
				sum.back += f.back
				if f.gone != nil {
					gone = append(gone, bench.Milliseconds([]int64{*f.gone})...)
				}
			}
			loss, over := watch.SummaryOf(losses), watch.SummaryOf(lasts)
			out = append(out, fmt.Sprintf("%s %d | %d | %d | %d | %d | %d | %d | %d | %d | %d | %d | %s |\n",
				begin, loss.Count, sum.lost, sum.late, sum.sent,
				loss.Min.Milliseconds(), loss.Median.Milliseconds(),
				loss.P99.Milliseconds(), loss.Max.Milliseconds(),
				over.Median.Milliseconds(), over.Max.Milliseconds(),
				sum.back, goneCells(gone)))
		}
	}
	return out
}

// goneCells returns the cells about when routes were gone, empty where that is not known.
func goneCells(gone []time.Duration) string {
	if len(gone) == 0 {
		return "– | – | –"
	}
	s := watch.SummaryOf(gone)
	return fmt.Sprintf("%d | %d | %d", s.Min.Milliseconds(), s.Median.Milliseconds(), s.P99.Milliseconds())
}

// steadyNotes returns lines that say how many sessions were to stay up, and how many did not.
func steadyNotes(sc scenario, results []result) []string {
	if !sc.steady {
		return nil
	}
	var out []string
	for _, r := range results {
		out = append(out, fmt.Sprintf("%s: of the router's %d sessions of BGP and BFD, %d went down",
			sc.name, r.Watched, len(r.Down)))
	}
	return out
}

func yesNo(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

// printLatency prints how long routes took.
func printLatency(title string, times []time.Duration) {
	s := watch.SummaryOf(times)
	fmt.Printf("| %s | %d | %d | %d | %d | %d |\n", title, s.Count, s.Min.Milliseconds(),
		s.Median.Milliseconds(), s.P99.Milliseconds(), s.Max.Milliseconds())
}
