package kube

import (
	"cmp"
	"slices"
	"testing"
)

func TestWorstFirst(t *testing.T) {
	well := func(n int) bool { return n >= 0 }
	for _, test := range []struct {
		story string
		rows  []int
		most  int
		want  []int
	}{
		{"few rows are sorted", []int{3, -1, 2}, 3, []int{-1, 2, 3}},
		{"of too many, the well ones go", []int{3, 1, -2, 2, -1}, 3, []int{-2, -1, 1}},
		{"of too many that are not well, the last go", []int{-1, -2, -3}, 2, []int{-3, -2}},
		{"none", nil, 2, nil},
	} {
		t.Run(test.story, func(t *testing.T) {
			if got := WorstFirst(slices.Clone(test.rows), test.most, well, cmp.Compare[int]); !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
