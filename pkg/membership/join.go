package membership

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// maxJoins bounds how many joins are under way at one time.
const maxJoins = 16

// joinQueue decides which of the missing members is asked to join next: the one whose last
// attempt was begun the longest ago. So those that let an attempt wait until its time is
// over cannot keep out the others, however many they are. It is pure: its owner dials.
type joinQueue struct {
	waiting  []netip.AddrPort
	underWay map[netip.AddrPort]bool
	// begun numbers the last attempt of each; count is the number of the last of all.
	begun map[netip.AddrPort]uint64
	count uint64
}

func newJoinQueue() *joinQueue {
	return &joinQueue{underWay: make(map[netip.AddrPort]bool), begun: make(map[netip.AddrPort]uint64)}
}

// set replaces those that wait. An address that is no longer missing is tried first when it
// is missing again.
func (q *joinQueue) set(missing []netip.AddrPort) {
	q.waiting = slices.Clone(missing)
	maps.DeleteFunc(q.begun, func(addr netip.AddrPort, _ uint64) bool {
		return !q.underWay[addr] && !slices.Contains(missing, addr)
	})
	slices.SortStableFunc(q.waiting, func(a, b netip.AddrPort) int {
		return cmp.Compare(q.begun[a], q.begun[b])
	})
}

// next begins an attempt. ok is false when there is nobody to ask, or as many attempts
// are under way as may be. Those that need none, as they came by themselves, are
// passed over.
func (q *joinQueue) next(needless func(netip.AddrPort) bool) (addr netip.AddrPort, ok bool) {
	for len(q.waiting) > 0 && len(q.underWay) < maxJoins {
		addr = q.waiting[0]
		q.waiting = q.waiting[1:]
		if q.underWay[addr] || needless(addr) {
			continue
		}
		q.count++
		q.begun[addr] = q.count
		q.underWay[addr] = true
		return addr, true
	}
	return netip.AddrPort{}, false
}

// done ends an attempt.
func (q *joinQueue) done(addr netip.AddrPort) { delete(q.underWay, addr) }
