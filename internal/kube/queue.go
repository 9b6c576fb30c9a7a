package kube

import (
	"context"
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/handler"
)

// Queue is a source of keys that come from Berth itself rather than from a
// watch. What is added before its controller starts is kept for it. It is
// safe for concurrent use, and the zero Queue is ready.
type Queue[Key comparable] struct {
	mu    sync.Mutex
	to    workqueue.TypedRateLimitingInterface[Key]
	early []added[Key]
}

// added is a key and how it is added.
type added[Key comparable] struct {
	key  Key
	wait time.Duration
	last bool
}

// Start starts to hand keys to the controller that works the queue off, which calls it.
// Keys that were added before are handed over at once, whatever they were to wait for.
func (q *Queue[Key]) Start(_ context.Context, to workqueue.TypedRateLimitingInterface[Key]) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.to = to
	for _, a := range q.early {
		q.pass(added[Key]{key: a.key, last: a.last})
	}
	q.early = nil
	return nil
}

// Add has a key reconciled.
func (q *Queue[Key]) Add(key Key) { q.add(added[Key]{key: key}) }

// AddLast has a key reconciled when no other waits. One that is added in another way
// meanwhile is reconciled accordingly.
func (q *Queue[Key]) AddLast(key Key) { q.add(added[Key]{key: key, last: true}) }

// AddAfter has a key reconciled after a while. One that waits already is reconciled
// once, at the earlier time.
func (q *Queue[Key]) AddAfter(key Key, wait time.Duration) { q.add(added[Key]{key: key, wait: wait}) }

func (q *Queue[Key]) add(a added[Key]) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.to == nil {
		q.early = append(q.early, a)
		return
	}
	q.pass(a)
}

// pass hands a key to the controller. Its queue has priorities, except in tests.
func (q *Queue[Key]) pass(a added[Key]) {
	queue, priorities := q.to.(priorityqueue.PriorityQueue[Key])
	switch {
	case a.last && priorities:
		queue.AddWithOpts(priorityqueue.AddOpts{Priority: new(handler.LowPriority)}, a.key)
	case a.wait > 0:
		q.to.AddAfter(a.key, a.wait)
	default:
		q.to.Add(a.key)
	}
}
