package state

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

// waitKey is one thing that would let a waiting Service have an address. Which
// fields are set says what it is:
//
//	pool and family  a free address of the pool
//	pool and group   an address of the pool that the namespace gives back
//	address          a holder that gives it up, or changes its terms
//	sharing          the same, of any address held with the key
type waitKey struct {
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
	keys     map[waitKey]*btree.BTreeG[waiting]
	// reasons counts the Services by why they wait. A reason for which none waits any
	// more stays, with 0.
	reasons map[v1beta1.Reason]int
}

type waiter struct {
	waiting
	keys   []waitKey
	reason v1beta1.Reason
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
	return &waiters{
		services: map[types.NamespacedName]waiter{},
		keys:     map[waitKey]*btree.BTreeG[waiting]{},
		reasons:  map[v1beta1.Reason]int{v1beta1.ReasonPoolsExhausted: 0},
	}
}

// set has a Service wait, in place of what it waited for.
func (w *waiters) set(entry waiter) {
	w.remove(entry.key)
	w.services[entry.key] = entry
	w.reasons[entry.reason]++
	for _, c := range entry.keys {
		if w.keys[c] == nil {
			w.keys[c] = btree.NewG(16, older)
		}
		w.keys[c].ReplaceOrInsert(entry.waiting)
	}
}

// remove ends the wait of a Service, and reports whether it waited.
func (w *waiters) remove(key types.NamespacedName) bool {
	entry, ok := w.services[key]
	delete(w.services, key)
	if ok {
		w.reasons[entry.reason]--
	}
	for _, c := range entry.keys {
		w.keys[c].Delete(entry.waiting)
		if w.keys[c].Len() == 0 {
			delete(w.keys, c)
		}
	}
	return ok
}

// keysOf returns what a Service waits for.
func (w *waiters) keysOf(key types.NamespacedName) []waitKey { return w.services[key].keys }

// oldest returns the Services that wait for a waitKey, oldest first, at most n.
func (w *waiters) oldest(c waitKey, n int64) []types.NamespacedName {
	var out []types.NamespacedName
	if tree := w.keys[c]; tree != nil && n > 0 {
		tree.Ascend(func(entry waiting) bool {
			out = append(out, entry.key)
			return int64(len(out)) < n
		})
	}
	return out
}

// all returns the Services that wait, oldest first.
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

// waitKeysOf returns what a decision leaves a Service waiting for. What only an
// edit of the Service or of the configuration could change is none of them.
func waitKeysOf(s assignment.Service, d assignment.Decision) []waitKey {
	var out []waitKey
	if d.Wanted.IsValid() {
		out = append(out, waitKey{address: d.Wanted})
	}
	if s.Terms.SharingKey != "" {
		out = append(out, waitKey{sharing: s.Terms.SharingKey})
	}
	for _, r := range d.Rejections {
		switch r.Reason {
		case v1beta1.ReasonPoolFull,
			v1beta1.ReasonResting,
			v1beta1.ReasonExternalIP,
			v1beta1.ReasonNodeAddresses:
			out = append(out, waitKey{pool: r.Pool, family: r.Family})
		case v1beta1.ReasonQuotaReached:
			out = append(out, waitKey{pool: r.Pool, group: s.Terms.Group})
		}
	}
	return out
}
