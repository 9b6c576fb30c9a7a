package membership

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func never(netip.AddrPort) bool { return false }

// TestNobodyIsKeptOutByThoseThatDoNotAnswer: there are more silent peers than joins may
// be under way, they come first in the order, and the queue is filled again just before
// their time is over. All are asked all the same.
func TestNobodyIsKeptOutByThoseThatDoNotAnswer(t *testing.T) {
	const count = 5*maxJoins + 3
	var peers []netip.AddrPort
	for i := range count {
		peers = append(peers, peersOf(i+2)...)
	}
	q := newJoinQueue()
	asked := map[netip.AddrPort]bool{}
	start := func() {
		for addr, ok := q.next(never); ok; addr, ok = q.next(never) {
			asked[addr] = true
		}
	}
	for range count/maxJoins + 1 {
		q.set(peers)
		start()
		for addr := range q.underWay {
			q.done(addr)
			start()
		}
	}
	if len(asked) != count {
		t.Errorf("%d of %d were asked", len(asked), count)
	}
}

// TestJoinQueueIsFair compares it with the rule: what is begun waits, is needed and not
// under way, and of these it is the one that was begun the longest ago.
func TestJoinQueueIsFair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := newJoinQueue()
		who := rapid.IntRange(2, 40)
		// Those in suspect were perhaps passed over.
		var waiting, suspect, underWay, history []netip.AddrPort
		last := func(addr netip.AddrPort) int {
			for i, h := range slices.Backward(history) {
				if h == addr {
					return i
				}
			}
			return -1
		}
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				waiting = peersOf(rapid.SliceOfDistinct(who, rapid.ID[int]).Draw(t, "missing")...)
				suspect = nil
				q.set(waiting)
				// One that was not missing starts again.
				history = slices.DeleteFunc(history, func(a netip.AddrPort) bool {
					return !slices.Contains(waiting, a) && !slices.Contains(underWay, a)
				})
			},
			"next": func(t *rapid.T) {
				here := peersOf(who.Draw(t, "here"))[0]
				got, ok := q.next(func(a netip.AddrPort) bool { return a == here })
				if ok && (got == here || slices.Contains(underWay, got) || len(underWay) == maxJoins) {
					t.Fatalf("%s is asked; under way %v", got, underWay)
				}
				if len(underWay) == maxJoins {
					return
				}
				waiting = slices.DeleteFunc(waiting, func(a netip.AddrPort) bool {
					needless := a == here || slices.Contains(underWay, a)
					if needless {
						suspect = append(suspect, a)
					}
					return needless
				})
				if !ok {
					if len(waiting) > 0 {
						t.Fatalf("nobody is asked, though %v wait", waiting)
					}
					return
				}
				if !slices.Contains(waiting, got) && !slices.Contains(suspect, got) {
					t.Fatalf("%s is asked and does not wait", got)
				}
				for _, other := range waiting {
					if last(other) < last(got) {
						t.Fatalf("%s is asked before %s", got, other)
					}
				}
				waiting = slices.DeleteFunc(waiting, func(a netip.AddrPort) bool { return a == got })
				underWay, history = append(underWay, got), append(history, got)
			},
			"done": func(t *rapid.T) {
				if len(underWay) == 0 {
					t.Skip("none is under way")
				}
				i := rapid.IntRange(0, len(underWay)-1).Draw(t, "which")
				q.done(underWay[i])
				underWay = slices.Delete(underWay, i, i+1)
			},
		})
	})
}
