package membership

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestTheOutboxSendsEachOftenEnough compares it with a slow and obvious one: a list
// sorted by how often each was sent, then by its arrival at that count.
func TestTheOutboxSendsEachOftenEnough(t *testing.T) {
	type item struct {
		ref
		sent int
	}
	rapid.Check(t, func(t *rapid.T) {
		const times = 3
		var o outbox
		var oracle []item
		gone := make(map[ref]bool)
		who := rapid.Custom(func(t *rapid.T) ref {
			return ref{"node", fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "key"))}
		})
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				r := who.Draw(t, "what")
				for range rapid.SampledFrom([]int{1, 1, 1, 200}).Draw(t, "how often") {
					o.add(r)
				}
				delete(gone, r)
				oracle = slices.DeleteFunc(oracle, func(i item) bool { return i.ref == r })
				oracle = append(oracle, item{ref: r})
			},
			"vanish": func(t *rapid.T) { gone[who.Draw(t, "what")] = true },
			"fill": func(t *rapid.T) {
				room := rapid.IntRange(0, 12).Draw(t, "room")
				var got []ref
				o.fill(times, func(r ref) placing {
					switch {
					case gone[r]:
						return vanished
					case len(got) == room:
						return full
					}
					got = append(got, r)
					return placed
				})
				// The oracle does the same one by one.
				slices.SortStableFunc(oracle, func(a, b item) int { return a.sent - b.sent })
				var want []ref
				var rest, again []item
				for i, x := range oracle {
					if gone[x.ref] {
						continue
					}
					if len(want) == room {
						rest = append(rest, oracle[i:]...)
						break
					}
					want = append(want, x.ref)
					if x.sent+1 < times {
						again = append(again, item{x.ref, x.sent + 1})
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
