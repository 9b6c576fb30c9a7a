package reconcile

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/berth-lb/berth/internal/notify"
)

// A Queue holds the addresses to be reconciled, each once, however often it was requeued.
// It is safe for concurrent use.
type Queue struct {
	news  notify.Signal // there is something to take
	ended notify.Signal // a sweep has ended

	mu sync.Mutex
	// some are the addresses that were requeued. rest are those left of a sweep over all,
	// in their order; all is set when the next sweep is to begin.
	some map[netip.Addr]struct{}
	rest []netip.Addr
	all  bool
	// delayed are the addresses to be reconciled later.
	delayed map[netip.Addr]delayed

	// Sweeps over all addresses have numbers. requested is the last one requested,
	// beginning the one that takeAll began, swept the last one that has ended.
	requested, beginning, swept uint64
	// running and next are the sweeps that have not ended; running ends first, whatever is
	// requested meanwhile.
	running, next sweep
}

// delayed is an address and when to reconcile it.
type delayed struct {
	at    time.Time
	timer *time.Timer
}

// sweep is one pass over all addresses.
type sweep struct {
	number  uint64 // 0 for none
	pending sets.Set[netip.Addr]
}

// NewQueue returns an empty Queue.
func NewQueue() *Queue {
	return &Queue{
		news:    notify.NewSignal(),
		ended:   notify.NewSignal(),
		some:    map[netip.Addr]struct{}{},
		delayed: map[netip.Addr]delayed{},
	}
}

// Requeue queues an address.
func (q *Queue) Requeue(addr netip.Addr) {
	q.mu.Lock()
	q.some[addr] = struct{}{}
	q.mu.Unlock()
	q.news.Set()
}

// RequeueAfter queues an address after a delay. An address that waits already is queued
// once, at the earlier time.
func (q *Queue) RequeueAfter(addr netip.Addr, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := time.Now().Add(wait)
	if before, waits := q.delayed[addr]; waits {
		if !at.Before(before.at) {
			return
		}
		before.timer.Stop()
	}
	q.delayed[addr] = delayed{at, time.AfterFunc(wait, func() {
		q.mu.Lock()
		delete(q.delayed, addr)
		q.mu.Unlock()
		q.Requeue(addr)
	})}
}

// RequeueAll queues every address. It returns the number of the sweep over them: once
// [Queue.Swept] has reached it, every address has been reconciled since.
func (q *Queue) RequeueAll() (number uint64) {
	q.mu.Lock()
	q.all = true
	q.requested++
	number = q.requested
	q.mu.Unlock()
	q.news.Set()
	return number
}

// Swept returns the number of the last sweep that has ended; 0 for none.
func (q *Queue) Swept() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.swept
}

// SweepEnded returns a channel that delivers a value when a sweep has ended. It has one
// receiver.
func (q *Queue) SweepEnded() <-chan struct{} { return q.ended.C() }

// takeAll reports, once, whether a sweep over all addresses is requested. The caller then
// passes them to begin.
func (q *Queue) takeAll() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.all
	q.all = false
	if all {
		q.beginning = q.requested
	}
	return all
}

// backlogFirst sorts all addresses: those that still wait from the last sweep come first.
// So each gets its turn, however often all are requeued.
func (q *Queue) backlogFirst(all []netip.Addr) []netip.Addr {
	q.mu.Lock()
	defer q.mu.Unlock()
	waiting := sets.New(q.rest...)
	there := sets.New(all...)
	var out []netip.Addr
	for _, addr := range q.rest {
		if there.Has(addr) {
			out = append(out, addr)
		}
	}
	for _, addr := range all {
		if !waiting.Has(addr) {
			out = append(out, addr)
		}
	}
	return out
}

// begin queues all addresses in this order, behind those that are requeued meanwhile, and
// begins the sweep that takeAll reported. The sweep before it does not wait for an address
// that is not among them, because nobody takes that.
func (q *Queue) begin(all []netip.Addr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.rest = all
	q.next = sweep{q.beginning, sets.New(all...)}
	q.running.pending = q.running.pending.Intersection(q.next.pending)
	if q.running.number == 0 {
		q.running, q.next = q.next, sweep{}
	}
	q.endSweeps()
}

// take returns the next addresses to reconcile, most at most. An address that is requeued
// from now on is reconciled once more.
func (q *Queue) take(most int) []netip.Addr {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := slices.SortedFunc(maps.Keys(q.some), netip.Addr.Compare)
	out = out[:min(len(out), most)]
	for _, addr := range out {
		delete(q.some, addr)
	}
	n := min(len(q.rest), most-len(out))
	out = append(out, q.rest[:n]...)
	q.rest = q.rest[n:]
	return out
}

// done records that addresses which take returned have been reconciled.
func (q *Queue) done(addrs []netip.Addr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running.pending.Delete(addrs...)
	q.next.pending.Delete(addrs...)
	q.endSweeps()
}

// endSweeps ends the sweeps that wait for no address. The caller holds mu.
func (q *Queue) endSweeps() {
	for q.running.number != 0 && q.running.pending.Len() == 0 {
		q.swept = q.running.number
		q.running, q.next = q.next, sweep{}
		q.ended.Set()
	}
}
