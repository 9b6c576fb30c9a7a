package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestRestartOfAllMovesNothing: all speakers are ended and started anew at about the
// same time, in order or not, as often as not before the others are back. Whatever
// reaches whom when, no speaker claims what was another's.
func TestRestartOfAllMovesNothing(t *testing.T) {
	runs := 10
	if testing.Short() {
		runs = 3
	}
	for seed := range uint64(runs) {
		synctest.Test(t, func(t *testing.T) {
			w := newTown(t, seed, 3, 6)
			w.calm()
			w.owners = w.has()
			if len(w.owners) != len(w.addresses) {
				t.Fatalf("seed %d: at first owned are %v", seed, w.owners)
			}
			w.restart()
			w.calm()
			if got := w.has(); !maps.Equal(got, w.owners) {
				t.Errorf("seed %d: owned are %v, were %v", seed, got, w.owners)
			}
			if t.Failed() {
				t.Fatalf("seed %d:\n%s", seed, strings.Join(w.story, "\n"))
			}
		})
	}
}

// restart ends all speakers within two seconds, and starts each again some seconds
// later.
func (w *town) restart() {
	type change struct {
		at time.Time
		do func()
	}
	var plan []change
	begin := time.Now()
	for _, name := range w.names() {
		s := w.shells[name]
		killed := w.random.IntN(4) == 0
		ends := begin.Add(time.Duration(w.random.IntN(2000)) * time.Millisecond)
		if !killed {
			plan = append(plan, change{ends.Add(-standInTime), func() {
				s.happened("%s is told to end", s.name)
				if s.hasMembers() {
					go s.leaveLayer2(false) // takes as long as a stand-in does
					synctest.Wait()
				} else {
					s.leaveLayer2(false)
				}
			}})
		}
		plan = append(plan, change{ends, func() { s.end(killed) }},
			change{ends.Add(time.Duration(500+w.random.IntN(8000)) * time.Millisecond), s.begin})
	}
	slices.SortStableFunc(plan, func(a, b change) int { return a.at.Compare(b.at) })
	for _, c := range plan {
		for time.Now().Before(c.at) {
			w.happen()
		}
		c.do()
	}
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); {
		w.happen()
	}
}
