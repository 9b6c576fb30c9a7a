// Package notify has the two ways in which one goroutine tells another that
// something happened: a [Signal], again and again, and a [Latch], once and for all.
package notify

import "sync"

// A Signal tells one receiver that something has changed since it last looked. However
// often it is set meanwhile, the receiver is woken once. It is safe for concurrent use.
type Signal struct{ c chan struct{} }

// NewSignal returns a Signal that is not set.
func NewSignal() Signal { return Signal{make(chan struct{}, 1)} }

// Set wakes the receiver, now or as soon as it waits. It never blocks.
func (s Signal) Set() {
	select {
	case s.c <- struct{}{}:
	default:
	}
}

// C returns the channel that delivers one value for each time that the receiver is woken.
func (s Signal) C() <-chan struct{} { return s.c }

// A Latch is set once and stays set. The zero value is not ready for use: see
// [NewLatch]. It is safe for concurrent use.
type Latch struct {
	once *sync.Once
	c    chan struct{}
}

// NewLatch returns a Latch that is not set.
func NewLatch() Latch { return Latch{new(sync.Once), make(chan struct{})} }

// Set sets the latch. Setting it again changes nothing.
func (l Latch) Set() { l.once.Do(func() { close(l.c) }) }

// IsSet reports whether the latch is set.
func (l Latch) IsSet() bool {
	select {
	case <-l.c:
		return true
	default:
		return false
	}
}

// C returns a channel that is closed when the latch is set.
func (l Latch) C() <-chan struct{} { return l.c }
