package bfd

import (
	"container/heap"
	"time"
)

// timers order entries by when something is due for them.
type timers []*entry

// set sets when e is due; zero is never.
func (t *timers) set(e *entry, due time.Time) {
	switch {
	case due.IsZero() && e.slot >= 0:
		heap.Remove(t, e.slot)
		e.due = due
	case due.IsZero():
	case e.slot >= 0:
		e.due = due
		heap.Fix(t, e.slot)
	default:
		e.due = due
		heap.Push(t, e)
	}
}

// first returns the entry that is due first, and nil when there is none.
func (t timers) first() *entry {
	if len(t) == 0 {
		return nil
	}
	return t[0]
}

// Len, Less, Swap, Push and Pop are of heap.Interface.

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].due.Before(t[j].due) }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].slot, t[j].slot = i, j
}

func (t *timers) Push(x any) {
	e := x.(*entry)
	e.slot = len(*t)
	*t = append(*t, e)
}

func (t *timers) Pop() any {
	last := len(*t) - 1
	e := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	e.slot = -1
	return e
}
