package presence

import (
	"slices"

	"github.com/berth-lb/berth/pkg/announcement"
)

// witnesses has the witnesses of nodes, among those that were alive when it was made. It is
// replaced, never changed.
type witnesses struct {
	alive []string // sorted
	of    map[string][]string
}

// next returns the witnesses of these nodes among alive, which is sorted. When few nodes have
// died or come, it costs little: the two first of all are among the two first of those that
// were there and those that have come.
func (w witnesses) next(nodes, alive []string) witnesses {
	died, come := without(w.alive, alive), without(alive, w.alive)
	if len(died)+len(come) == 0 && w.areOf(nodes) {
		return w
	}
	out := witnesses{alive: alive, of: make(map[string][]string, len(nodes))}
	for _, node := range nodes {
		of, known := w.of[node]
		isDead := func(witness string) bool { _, is := slices.BinarySearch(died, witness); return is }
		switch {
		case !known, slices.ContainsFunc(of, isDead):
			of = announcement.Witnesses(node, alive)
		case len(come) > 0:
			among := slices.Concat(of, come)
			slices.Sort(among)
			of = announcement.Witnesses(node, among)
		}
		out.of[node] = of
	}
	return out
}

// areOf reports whether they are those of these nodes, which are all different.
func (w witnesses) areOf(nodes []string) bool {
	return len(nodes) == len(w.of) && !slices.ContainsFunc(nodes, func(node string) bool {
		_, known := w.of[node]
		return !known
	})
}

// without returns what is in the first of two sorted lists and not in the second.
func without(list, other []string) []string {
	var out []string
	for _, name := range list {
		for len(other) > 0 && other[0] < name {
			other = other[1:]
		}
		if len(other) == 0 || other[0] != name {
			out = append(out, name)
		}
	}
	return out
}
