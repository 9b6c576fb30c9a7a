package announced

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// How soon Services report what becomes of them by BGP. One session concerns all
// addresses that it carries, so what is over soon is not written at all, and the
// rest a few at a time.
const (
	// troubleDelay is after how long trouble is reported: a new Service is announced
	// within a moment, and sessions may come back.
	troubleDelay = 5 * time.Second
	// wordingDelay is after how long it is reported that other nodes announce, or to
	// another number of sessions.
	wordingDelay = 30 * time.Second
	// troubleRate and wordingRate are how many Services report so in a second.
	troubleRate, wordingRate = 50, 5
)

// pacer decides when which Service reports.
type pacer struct {
	last    time.Time                          // when it last decided
	differs map[types.NamespacedName]time.Time // since when what a Service says is not right
	// released is what Services are to say: nothing where it is nil. Of those that
	// are missing here, what they say stays.
	released map[types.NamespacedName]*Outcome
}

func newPacer() *pacer {
	return &pacer{
		differs:  map[types.NamespacedName]time.Time{},
		released: map[types.NamespacedName]*Outcome{},
	}
}

// decide compares what Services are to say with what they do, and returns those that
// are to be written now, and when there will be more; zero for never. Both maps have
// nil for a Service that says nothing.
func (p *pacer) decide(
	now time.Time, want, have map[types.NamespacedName]*Outcome,
) (due []types.NamespacedName, again time.Time) {
	for key := range p.released {
		if _, exists := want[key]; !exists {
			delete(p.released, key)
		}
	}
	differs := map[types.NamespacedName]time.Time{}
	var soon, late []types.NamespacedName
	for key, w := range want {
		if same(w, have[key]) {
			p.released[key] = w
			continue
		}
		if r, known := p.released[key]; known && same(w, r) {
			continue // it is on its way
		}
		since, known := p.differs[key]
		if !known {
			since = now
		}
		differs[key] = since
		wait := waitFor(w, have[key])
		switch at := since.Add(wait); {
		case !at.After(now) && wait == wordingDelay:
			late = append(late, key)
		case !at.After(now):
			soon = append(soon, key)
		case again.IsZero() || at.Before(again):
			again = at
		}
	}
	elapsed := time.Second
	if !p.last.IsZero() {
		elapsed = min(max(now.Sub(p.last), 0), 10*time.Second)
	}
	p.last, p.differs = now, differs
	for _, part := range []struct {
		list []types.NamespacedName
		rate float64
	}{{soon, troubleRate}, {late, wordingRate}} {
		slices.SortFunc(part.list, func(a, b types.NamespacedName) int {
			return cmp.Or(differs[a].Compare(differs[b]), cmp.Compare(a.String(), b.String()))
		})
		n := min(len(part.list), max(1, int(part.rate*elapsed.Seconds())))
		due = append(due, part.list[:n]...)
		if n < len(part.list) {
			again = now.Add(time.Second)
		}
	}
	for _, key := range due {
		p.released[key] = want[key]
		delete(p.differs, key)
	}
	return due, again
}

// waitFor returns for how long a difference must last before it is reported.
func waitFor(want, have *Outcome) time.Duration {
	switch {
	case want == nil || want.announced() && (have == nil || !have.announced()):
		return 0
	case have != nil && have.Reason == want.Reason:
		return wordingDelay
	}
	return troubleDelay
}

func same(a, b *Outcome) bool { return a == b || a != nil && b != nil && *a == *b }
