package allocator

import (
	"cmp"
	"net/netip"
	"slices"

	"go4.org/netipx"
)

// gap is what lies between two ranges of one family.
type gap struct {
	after int // the index of the range before it
	size  count
	other bool // it contains an address that must not be taken in, if possible
}

// join joins sorted ranges that do not touch until there are at most so many: the
// smallest gaps go first, and those that contain one of the others, which are
// sorted, go last. IPv4 and IPv6 are never joined, so at least two may be left.
func join(ranges []netipx.IPRange, others []netip.Addr, most int) []netipx.IPRange {
	var gaps []gap
	for i := range len(ranges) - 1 {
		from, to := ranges[i].To().Next(), ranges[i+1].From().Prev()
		if from.Is4() != to.Is4() || !from.IsValid() || !to.IsValid() {
			continue
		}
		at, found := slices.BinarySearchFunc(others, from, netip.Addr.Compare)
		gaps = append(gaps, gap{
			after: i,
			size:  size(netipx.IPRangeFrom(from, to)),
			other: found || at < len(others) && !to.Less(others[at]),
		})
	}
	slices.SortFunc(gaps, func(a, b gap) int {
		if a.other != b.other {
			return map[bool]int{false: -1, true: 1}[a.other]
		}
		return cmp.Or(a.size.compare(b.size), cmp.Compare(a.after, b.after))
	})
	closed := map[int]bool{}
	for _, g := range gaps[:min(max(len(ranges)-most, 0), len(gaps))] {
		closed[g.after] = true
	}
	var out []netipx.IPRange
	for i, r := range ranges {
		if i > 0 && closed[i-1] {
			last := len(out) - 1
			out[last] = netipx.IPRangeFrom(out[last].From(), r.To())
			continue
		}
		out = append(out, r)
	}
	return out
}
