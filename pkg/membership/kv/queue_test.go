package kv

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestTheQueueSendsEachOftenEnough compares it with a slow and obvious one: a list
// sorted by how often each was sent, then by its arrival at that count.
func TestTheQueueSendsEachOftenEnough(t *testing.T) {
	type item struct {
		Ref
		sent int
	}
	rapid.Check(t, func(t *rapid.T) {
		const times = 3
		var o BroadcastQueue
		var oracle []item
		gone := make(map[Ref]bool)
		who := rapid.Custom(func(t *rapid.T) Ref {
			return Ref{"node", fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "key"))}
		})
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				r := who.Draw(t, "what")
				for range rapid.SampledFrom([]int{1, 1, 1, 200}).Draw(t, "how often") {
					o.Add(r)
				}
				delete(gone, r)
				oracle = slices.DeleteFunc(oracle, func(i item) bool { return i.Ref == r })
				oracle = append(oracle, item{Ref: r})
			},
			"vanish": func(t *rapid.T) { gone[who.Draw(t, "what")] = true },
			"fill": func(t *rapid.T) {
				room := rapid.IntRange(0, 12).Draw(t, "room")
				var got []Ref
				o.Fill(times, func(r Ref) Placement {
					switch {
					case gone[r]:
						return Vanished
					case len(got) == room:
						return Full
					}
					got = append(got, r)
					return Placed
				})
				// The oracle does the same one by one.
				slices.SortStableFunc(oracle, func(a, b item) int { return a.sent - b.sent })
				var want []Ref
				var rest, again []item
				for i, x := range oracle {
					if gone[x.Ref] {
						continue
					}
					if len(want) == room {
						rest = append(rest, oracle[i:]...)
						break
					}
					want = append(want, x.Ref)
					if x.sent+1 < times {
						again = append(again, item{x.Ref, x.sent + 1})
					}
				}
				oracle = append(rest, again...)
				if !slices.Equal(got, want) {
					t.Fatalf("sent %v, want %v", got, want)
				}
			},
			"": func(t *rapid.T) {
				for tier, list := range o.tiers {
					if len(list) > 2*10+65 {
						t.Fatalf("%d pile up in tier %d", len(list), tier)
					}
				}
			},
		})
	})
}
