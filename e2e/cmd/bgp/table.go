package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/berth-lb/berth/e2e/bench"
	"github.com/berth-lb/berth/e2e/watch"
)

// printHeader explains the table and begins it.
func printHeader() {
	fmt.Print(`A client behind the router sends each address a datagram every 10 ms, from a new port every 500 ms, so that all next hops
are used. "Lost" are probes without an answer within 250 ms, of all that were sent from the fault until mending begins;
"late" are those of them whose answer came all the same: a host had no processor. "Longest" is for how long an address was
not to be reached at all, in ms, over all addresses of all runs. "Over after" is when the last lost probe was sent, in ms
after the fault: where one of several next hops is dead, the others answer meanwhile. "Back" are probes that were lost while
what was broken returned.

| scenario | BFD | family | runs | addresses | lost | late | of | longest median | p99 | max | over after median | max | back |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
`)
}

// printRows prints the rows of one scenario.
func printRows(sc scenario, results []result) {
	bfd := "no"
	if sc.terms.bfd {
		bfd = "yes"
	}
	if len(results) == 0 {
		fmt.Printf("| %s | %s | – | 0 | | | | | | | | | | |\n", sc.title, bfd)
		return
	}
	for _, family := range []struct {
		name string
		of   func(result) (loss []int64, last int64, lost, late, sent, back int)
	}{
		{"IPv4", func(r result) ([]int64, int64, int, int, int, int) {
			return r.Loss4, r.Last4, r.Lost4, r.Late4, r.Sent4, r.BackLost4
		}},
		{"IPv6", func(r result) ([]int64, int64, int, int, int, int) {
			return r.Loss6, r.Last6, r.Lost6, r.Late6, r.Sent6, r.BackLost6
		}},
	} {
		var losses, lasts []time.Duration
		lost, late, sent, back, addresses := 0, 0, 0, 0, 0
		for _, r := range results {
			loss, last, l, slow, s, returning := family.of(r)
			losses = append(losses, bench.Milliseconds(loss)...)
			lasts = append(lasts, bench.Milliseconds([]int64{last})...)
			lost, late, sent, back, addresses = lost+l, late+slow, sent+s, back+returning, addresses+len(loss)
		}
		s, over := watch.SummaryOf(losses), watch.SummaryOf(lasts)
		fmt.Printf("| %s | %s | %s | %d | %d | %d | %d | %d | %d | %d | %d | %d | %d | %d |\n", sc.title, bfd, family.name, len(results),
			addresses, lost, late, sent, s.Median.Milliseconds(), s.P99.Milliseconds(), s.Max.Milliseconds(),
			over.Median.Milliseconds(), over.Max.Milliseconds(), back)
	}
}

// printLatency prints how long routes took.
func printLatency(title string, times []time.Duration) {
	slices.Sort(times)
	s := watch.SummaryOf(times)
	fmt.Printf("| %s | %d | %d | %d | %d | %d |\n", title, s.Count, s.Min.Milliseconds(), s.Median.Milliseconds(), s.P99.Milliseconds(), s.Max.Milliseconds())
}
