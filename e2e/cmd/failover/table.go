package main

import (
	"fmt"
	"time"

	"github.com/berth-lb/berth/e2e/bench"
	"github.com/berth-lb/berth/e2e/watch"
)

// printHeader explains the table and begins it.
func printHeader() {
	fmt.Print(`Loss is for how long an address was not to be reached, in ms: a client sends it a datagram
every 10 ms. Min, median, p99 and max are over all measured addresses of all runs. "Back" is
the longest loss while what was broken returns. "Two at once" is the longest time for which two
Ethernet addresses were stated for one address, over all frames at the switch. "Moved" is the
mean number of addresses that another node had before what was broken returned; "astray" the
largest number for which, when all was whole again, the client still sent to another node than
the owner.

| scenario | family | runs | addresses | min | median | p99 | max | back | two at once | moved | astray |
|---|---|---|---|---|---|---|---|---|---|---|---|
`)
}

// printRows prints the rows of one scenario.
func printRows(sc scenario, results []result) {
	if len(results) == 0 {
		fmt.Printf("| %s | – | 0 | | | | | | | | | |\n", sc.title)
		return
	}
	var longest int64
	moved, astray := 0, 0
	for _, r := range results {
		longest = max(longest, r.Longest)
		moved += r.Moved
		astray = max(astray, r.Astray)
	}
	for _, family := range []struct {
		name       string
		loss, back func(result) []int64
	}{
		{"IPv4", func(r result) []int64 { return r.Loss4 }, func(r result) []int64 { return r.Back4 }},
		{"IPv6", func(r result) []int64 { return r.Loss6 }, func(r result) []int64 { return r.Back6 }},
	} {
		var loss, back []time.Duration
		for _, r := range results {
			loss = append(loss, bench.Milliseconds(family.loss(r))...)
			back = append(back, bench.Milliseconds(family.back(r))...)
		}
		s := watch.SummaryOf(loss)
		fmt.Printf("| %s | %s | %d | %d | %d | %d | %d | %d | %d | %d ms | %.1f | %d |\n",
			sc.title, family.name, len(results), s.Count,
			s.Min.Milliseconds(), s.Median.Milliseconds(), s.P99.Milliseconds(), s.Max.Milliseconds(),
			watch.SummaryOf(back).Max.Milliseconds(), longest, float64(moved)/float64(len(results)), astray)
	}
	if sc.chaos {
		printSettled(results)
	}
}

// printSettled prints how long it took until all was well after everything was mended.
func printSettled(results []result) {
	var settled []int64
	for _, r := range results {
		settled = append(settled, r.Settled)
	}
	fmt.Printf("\nFrom the end of mending until one node answered for each address and the client was "+
		"served at all, seeds %d to %d: %s\n\n",
		results[0].Seed, results[len(results)-1].Seed, watch.SummaryOf(bench.Milliseconds(settled)))
}
