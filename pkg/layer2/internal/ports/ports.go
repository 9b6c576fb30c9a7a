// Package ports keeps sockets open on links: each has a goroutine of its own, and one
// that fails is opened again after a while.
package ports

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"github.com/berth-lb/berth/pkg/layer2/links"
)

const (
	// retryMin and retryMax bound the delay, doubled each time, after which a port
	// that failed is opened again.
	retryMin = 100 * time.Millisecond
	retryMax = 10 * time.Second
)

// Port is an open socket and what goes with it.
type Port interface {
	// Serve works until the socket fails, and returns its error.
	Serve() error
	// Close closes the socket, which ends Serve.
	Close() error
}

// Set keeps ports by a key. It belongs to one goroutine, except that each port's Serve
// runs in another.
type Set[K comparable, P Port] struct {
	compare  func(a, b K) int
	slots    map[K]*slot[P]
	retries  map[K]retry
	failures chan Failure[K]
}

// slot is an open port, on one link with one index and one Ethernet address.
type slot[P Port] struct {
	port   P
	link   links.Link
	opened time.Time
	// closing is closed before the port, done when its goroutine has ended.
	closing, done chan struct{}
}

// retry says when to open a port again: at is zero when there is no need. The delay is
// that of the last failure, so that a port which opens well and fails soon after is not
// opened ever so often.
type retry struct {
	at    time.Time
	delay time.Duration
	err   error
}

// Failure is the end of a port's Serve. The port is still open.
type Failure[K comparable] struct {
	Key K
	Err error
}

// NewSet returns an empty set. Ports are listed in the order of compare.
func NewSet[K comparable, P Port](compare func(a, b K) int) *Set[K, P] {
	return &Set[K, P]{
		compare:  compare,
		slots:    make(map[K]*slot[P]),
		retries:  make(map[K]retry),
		failures: make(chan Failure[K]),
	}
}

// Failures returns the channel of ports that failed. Whoever receives from it calls
// CloseFailed.
func (s *Set[K, P]) Failures() <-chan Failure[K] { return s.failures }

// Keys returns the keys of the open ports, sorted.
func (s *Set[K, P]) Keys() []K { return slices.SortedFunc(maps.Keys(s.slots), s.compare) }

// Get returns an open port, the zero value when there is none.
func (s *Set[K, P]) Get(key K) (port P, ok bool) {
	if open, ok := s.slots[key]; ok {
		return open.port, true
	}
	return port, false
}

// Fits reports whether an open port can go on working on a link as it is now, and
// whether the link is still the one that it was opened on: it has the same index then,
// and not necessarily the same Ethernet address.
func (s *Set[K, P]) Fits(key K, link links.Link) (fits, sameIndex bool) {
	was := s.slots[key].link
	sameIndex = was.Index == link.Index
	return sameIndex && bytes.Equal(was.HardwareAddr, link.HardwareAddr), sameIndex
}

// Add adds a port that was opened on a link just now, and has it serve.
func (s *Set[K, P]) Add(key K, link links.Link, port P, now time.Time) {
	added := &slot[P]{
		port:    port,
		link:    link,
		opened:  now,
		closing: make(chan struct{}),
		done:    make(chan struct{}),
	}
	s.slots[key] = added
	go func() {
		defer close(added.done)
		err := port.Serve()
		select {
		case s.failures <- Failure[K]{Key: key, Err: err}:
		case <-added.closing:
		}
	}()
}

// Close closes an open port and returns when its goroutine has ended.
func (s *Set[K, P]) Close(key K) error {
	closed := s.slots[key]
	delete(s.slots, key)
	close(closed.closing)
	err := closed.port.Close()
	<-closed.done
	return err
}

// CloseFailed closes a port whose Serve has ended. The failures before it are forgotten
// when it has worked for long.
func (s *Set[K, P]) CloseFailed(key K, now time.Time) error {
	if now.Sub(s.slots[key].opened) > retryMax {
		s.Forget(key)
	}
	return s.Close(key)
}

// Failed schedules when to open a port again that could not be opened, or has failed,
// or needs another try while it is open. It returns for how long not to try, and
// whether this is the first failure of a row.
func (s *Set[K, P]) Failed(key K, err error, now time.Time) (wait time.Duration, first bool) {
	r := s.retries[key]
	first = r.delay == 0
	r.delay = min(max(2*r.delay, retryMin), retryMax)
	r.at, r.err = now.Add(r.delay), err
	s.retries[key] = r
	return r.delay, first
}

// Worked ends a row of failures. The delay of the last one is remembered.
func (s *Set[K, P]) Worked(key K) {
	if r, ok := s.retries[key]; ok {
		s.retries[key] = retry{delay: r.delay}
	}
}

// Wait returns for how long not to open a port, and why: the error of its last failure.
func (s *Set[K, P]) Wait(key K, now time.Time) (time.Duration, error) {
	r := s.retries[key]
	return max(r.at.Sub(now), 0), r.err
}

// Next returns when the first port is to be tried again, zero for never.
func (s *Set[K, P]) Next() (next time.Time) {
	for _, r := range s.retries {
		if !r.at.IsZero() && (next.IsZero() || r.at.Before(next)) {
			next = r.at
		}
	}
	return next
}

// Hurry has all ports tried again at once.
func (s *Set[K, P]) Hurry() {
	for key, r := range s.retries {
		s.retries[key] = retry{delay: r.delay, err: r.err}
	}
}

// Forget forgets the failures of a port.
func (s *Set[K, P]) Forget(key K) { delete(s.retries, key) }

// Retain forgets the failures of all ports but those with a key that keep wants.
func (s *Set[K, P]) Retain(keep func(K) bool) {
	maps.DeleteFunc(s.retries, func(key K, _ retry) bool { return !keep(key) })
}
