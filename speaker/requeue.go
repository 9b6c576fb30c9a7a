package main

import "net/netip"

// requeuer has addresses looked at, for those who know of [members.Requeuer] only.
type requeuer struct{ due *due }

// Requeue implements [members.Requeuer].
func (r requeuer) Requeue(addr netip.Addr) { r.due.add(addr) }

// RequeueAll implements [members.Requeuer].
func (r requeuer) RequeueAll() (number uint64) {
	r.due.addAll()
	return 0
}
