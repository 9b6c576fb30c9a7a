package main

import (
	"slices"
	"testing"
)

func TestOutcomes(t *testing.T) {
	all := readOutcomes("=== RUN GatewayAPI\n" +
		"failed\t2.0\tZebra\tOne\n" +
		"    tests.go:1:\tfailed\tto find\twhat was wanted\n" +
		"passed\t0.1\tWell\tOne\n" +
		"passed\tsoon\tNever\tOne\n" +
		"failed\t1.0\tAnt\tOne,Other\n" +
		"skipped\t0.0\tLeft\tOne,Other\nFAIL\n")
	if got, want := names(all, failed), []string{"Zebra", "Ant"}; !slices.Equal(got, want) {
		t.Errorf("failed: %q, want %q", got, want)
	}
	want := `failed after 2.0 s: Zebra (One)
failed after 1.0 s: Ant (One, Other)
passed failed skipped  feature
     1      2       1  One
     0      1       1  Other
     1      2       1  all tests
`
	if got := table(all); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if all := readOutcomes("panic: no such host\n"); len(all) > 0 {
		t.Errorf("outcomes of nothing: %v", all)
	}
}
