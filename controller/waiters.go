package main

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/google/btree"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/assignment"
)

// cause is one thing that would let a waiting Service have an address. Which
// fields are set says what it is:
//
//	pool and family  a free address of the pool
//	pool and group   an address of the pool that the namespace gives back
//	address          a holder that gives it up, or changes its terms
//	sharing          the same, of any address held with the key
type cause struct {
	pool    string
	family  assignment.Family
	group   string
	address netip.Addr
	sharing string
}

// waiters are the Services without all the addresses they ask for, and what
// each waits for. The cost of a change grows with the logarithm of how many
// wait.
type waiters struct {
	services map[types.NamespacedName]waiter
	causes   map[cause]*btree.BTreeG[waiting]
}

type waiter struct {
	waiting
	causes []cause
}

// waiting is one Service in the order of age.
type waiting struct {
	created time.Time
	key     types.NamespacedName
}

func older(a, b waiting) bool {
	return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.key.String(), b.key.String())) < 0
}

func newWaiters() *waiters {
	return &waiters{services: map[types.NamespacedName]waiter{}, causes: map[cause]*btree.BTreeG[waiting]{}}
}

// set has a Service wait for causes, in place of what it waited for.
func (w *waiters) set(key types.NamespacedName, created time.Time, causes []cause) {
	w.remove(key)
	entry := waiter{waiting{created, key}, causes}
	w.services[key] = entry
	for _, c := range causes {
		if w.causes[c] == nil {
			w.causes[c] = btree.NewG(16, older)
		}
		w.causes[c].ReplaceOrInsert(entry.waiting)
	}
}

// remove ends the wait of a Service, and tells whether it waited.
func (w *waiters) remove(key types.NamespacedName) bool {
	entry, ok := w.services[key]
	delete(w.services, key)
	for _, c := range entry.causes {
		w.causes[c].Delete(entry.waiting)
		if w.causes[c].Len() == 0 {
			delete(w.causes, c)
		}
	}
	return ok
}

// causesOf are what a Service waits for.
func (w *waiters) causesOf(key types.NamespacedName) []cause { return w.services[key].causes }

// oldest are the Services that wait for a cause, oldest first, at most n.
func (w *waiters) oldest(c cause, n int64) []types.NamespacedName {
	var out []types.NamespacedName
	if tree := w.causes[c]; tree != nil && n > 0 {
		tree.Ascend(func(entry waiting) bool {
			out = append(out, entry.key)
			return int64(len(out)) < n
		})
	}
	return out
}

// all are the Services that wait, oldest first.
func (w *waiters) all() []types.NamespacedName {
	entries := slices.SortedFunc(maps.Values(w.services), func(a, b waiter) int {
		if older(a.waiting, b.waiting) {
			return -1
		}
		return 1
	})
	var out []types.NamespacedName
	for _, entry := range entries {
		out = append(out, entry.key)
	}
	return out
}

// causesOf are what a decision leaves a Service waiting for. What only an
// edit of the Service or of the configuration could change is none of them.
func causesOf(s assignment.Service, d assignment.Decision) []cause {
	var out []cause
	if d.Wanted.IsValid() {
		out = append(out, cause{address: d.Wanted})
	}
	if s.Terms.SharingKey != "" {
		out = append(out, cause{sharing: s.Terms.SharingKey})
	}
	for _, r := range d.Rejections {
		switch r.Reason {
		case v1beta1.ReasonPoolFull, v1beta1.ReasonResting, v1beta1.ReasonExternalIP, v1beta1.ReasonNodeAddresses:
			out = append(out, cause{pool: r.Pool, family: r.Family})
		case v1beta1.ReasonQuotaReached:
			out = append(out, cause{pool: r.Pool, group: s.Terms.Group})
		}
	}
	return out
}
