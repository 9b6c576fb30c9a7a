package main

import (
	"fmt"
	"slices"
	"testing"
)

func TestPlanFaults(t *testing.T) {
	nodes := []string{"node1", "node2", "node3"}
	kinds := map[string]bool{}
	for seed := range uint64(500) {
		plan := planFaults(seed, nodes)
		if again := planFaults(seed, nodes); fmt.Sprint(plan) != fmt.Sprint(again) {
			t.Fatalf("seed %d: %s, and then %s", seed, plan, again)
		}
		if len(plan) != faultCount {
			t.Fatalf("seed %d: %d faults", seed, len(plan))
		}
		for i, f := range plan {
			kinds[f.kind.name] = true
			if f.begin > faultsWithin || f.node == f.other && f.node != "" ||
				(f.node == "") != (f.kind.name == apiKilled) {
				t.Errorf("seed %d: %s", seed, f)
			}
			for _, other := range plan[:i] {
				for _, h := range f.kind.holds(f) {
					if slices.ContainsFunc(other.kind.holds(other), h.clashes) {
						t.Errorf("seed %d: %s, and %s", seed, other, f)
					}
				}
			}
		}
		if most(plan) < 3 {
			t.Errorf("seed %d: no three at one time: %s", seed, plan)
		}
	}
	if len(kinds) != len(faultKinds()) {
		t.Errorf("only %v happen", kinds)
	}
}

// most is how many faults there are at one time at most.
func most(plan []fault) int {
	longest := 0
	for _, f := range plan {
		n := 0
		for _, other := range plan {
			if other.begin <= f.begin && f.begin < other.end() {
				n++
			}
		}
		longest = max(longest, n)
	}
	return longest
}

func TestHoldsClash(t *testing.T) {
	for _, test := range []struct {
		story string
		a, b  hold
		want  bool
	}{
		{"another part", hold{"a", 0, 5}, hold{"b", 0, 5}, false},
		{"one after the other", hold{"a", 0, 5}, hold{"a", 6, 7}, false},
		{"the second begins before the first ends", hold{"a", 0, 5}, hold{"a", 5, 7}, true},
		{"within the other", hold{"a", 0, 9}, hold{"a", 3, 4}, true},
		{"until everything is mended", hold{"a", 0, forever}, hold{"a", 100, 101}, true},
	} {
		t.Run(test.story, func(t *testing.T) {
			if test.a.clashes(test.b) != test.want || test.b.clashes(test.a) != test.want {
				t.Errorf("%v and %v: want %v, both ways", test.a, test.b, test.want)
			}
		})
	}
}
