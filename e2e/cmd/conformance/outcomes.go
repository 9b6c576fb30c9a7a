package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Words for what became of a test.
const (
	passed  = "passed"
	failed  = "failed"
	skipped = "skipped"
)

// An outcome is what became of a test.
type outcome struct {
	word     string
	seconds  float64
	name     string
	features []string // that it needs
}

// readOutcomes returns what the suite's program tells in a line for each test, among other lines.
func readOutcomes(text string) []outcome {
	var out []outcome
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) != 4 || !slices.Contains([]string{passed, failed, skipped}, fields[0]) {
			continue
		}
		seconds, err := strconv.ParseFloat(fields[1], 64)
		if err != nil {
			continue
		}
		out = append(out, outcome{
			word:     fields[0],
			seconds:  seconds,
			name:     fields[2],
			features: strings.Split(fields[3], ","),
		})
	}
	return out
}

// names returns the names of the tests of which this became, in their order.
func names(all []outcome, word string) []string {
	var out []string
	for _, o := range all {
		if o.word == word {
			out = append(out, o.name)
		}
	}
	return out
}

// table counts the tests of each feature, by what became of them, and lists those that failed.
func table(all []outcome) string {
	counts := map[string]map[string]int{}
	total := map[string]int{}
	var out strings.Builder
	for _, o := range all {
		total[o.word]++
		for _, feature := range o.features {
			if counts[feature] == nil {
				counts[feature] = map[string]int{}
			}
			counts[feature][o.word]++
		}
		if o.word == failed {
			needs := strings.Join(o.features, ", ")
			fmt.Fprintf(&out, "failed after %.1f s: %s (%s)\n", o.seconds, o.name, needs)
		}
	}
	row := func(c map[string]int, name string) {
		fmt.Fprintf(&out, "%6d %6d %7d  %s\n", c[passed], c[failed], c[skipped], name)
	}
	fmt.Fprintf(&out, "%s %s %s  feature\n", passed, failed, skipped)
	for _, feature := range slices.Sorted(maps.Keys(counts)) {
		row(counts[feature], feature)
	}
	row(total, "all tests")
	return out.String()
}
