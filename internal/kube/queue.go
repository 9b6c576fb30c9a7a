package kube

import (
	"context"
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"
)

// Queue is a source of keys that come from Berth itself rather than from a
// watch. What is added before its controller starts is kept for it. It is
// safe for concurrent use, and the zero Queue is ready.
type Queue[Key comparable] struct {
	mu    sync.Mutex
	to    workqueue.TypedRateLimitingInterface[Key]
	early []Key
}

// Start is called by the controller that works the queue off.
func (q *Queue[Key]) Start(_ context.Context, to workqueue.TypedRateLimitingInterface[Key]) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.to = to
	for _, key := range q.early {
		to.Add(key)
	}
	q.early = nil
	return nil
}

// Add has a key looked at.
func (q *Queue[Key]) Add(key Key) { q.AddAfter(key, 0) }

// AddAfter has a key looked at after a while. A key that waits already is
// looked at once, at the earlier time.
func (q *Queue[Key]) AddAfter(key Key, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.to == nil:
		q.early = append(q.early, key)
	case wait == 0:
		q.to.Add(key)
	default:
		q.to.AddAfter(key, wait)
	}
}
