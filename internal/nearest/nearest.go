// Package nearest finds what somebody who mistyped a name most likely meant.
package nearest

import "strings"

// Of returns the name in known that differs least from a word, where capital letters do
// not count; the first of several, and "" when none is similar: when more than a
// third of the word would have to change.
func Of(word string, known []string) string {
	out, best := "", (len(word)+2)/3+1
	for _, name := range known {
		if d := distance(strings.ToLower(word), strings.ToLower(name)); d < best {
			out, best = name, d
		}
	}
	return out
}

// distance returns how many bytes have to be put in, taken out or changed, or exchanged
// with the next, to make b of a (optimal string alignment).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
