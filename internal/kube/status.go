package kube

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Time returns t as the API stores it: to the second, and nothing for the zero time.
func Time(t time.Time) metav1.Time {
	if t.IsZero() {
		return metav1.Time{}
	}
	return metav1.NewTime(t.Truncate(time.Second))
}

// Duration returns d as an optional field of the API: nil for 0.
func Duration(d time.Duration) *metav1.Duration {
	if d == 0 {
		return nil
	}
	return &metav1.Duration{Duration: d}
}

// WorstFirst returns the rows of a status list, sorted by compare. Where there are more
// than most, those that are well are left out first; well is nil if no row is better than
// another. It works in rows.
func WorstFirst[Row any](rows []Row, most int, well func(Row) bool, compare func(a, b Row) int) []Row {
	slices.SortFunc(rows, compare)
	if len(rows) <= most {
		return rows
	}
	rank := func(r Row) int {
		if well != nil && well(r) {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(rows, func(a, b Row) int { return rank(a) - rank(b) })
	rows = rows[:most]
	slices.SortFunc(rows, compare)
	return rows
}
