package kube

import (
	"cmp"
	"slices"
	"testing"
)

func TestWorstFirst(t *testing.T) {
	positive := func(n int) bool { return n >= 0 }
	for _, test := range []struct {
		story string
		rows  []int
		most  int
		well  func(int) bool
		want  []int
	}{
		{"few rows are sorted", []int{3, -1, 2}, 3, positive, []int{-1, 2, 3}},
		{"of too many, the well ones go", []int{3, 1, -2, 2, -1}, 3, positive, []int{-2, -1, 1}},
		{"of too many that are not well, the last go", []int{-1, -2, -3}, 2, positive, []int{-3, -2}},
		{"of too many that are all the same, the last go", []int{3, 1, -2, 2}, 3, nil, []int{-2, 1, 2}},
		{"none", nil, 2, positive, nil},
	} {
		t.Run(test.story, func(t *testing.T) {
			got := WorstFirst(slices.Clone(test.rows), test.most, test.well, cmp.Compare[int])
			if !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
