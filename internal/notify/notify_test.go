package notify

import (
	"sync"
	"testing"
)

func TestSignalWakesOnce(t *testing.T) {
	s := NewSignal()
	for range 3 {
		s.Set()
	}
	<-s.C()
	select {
	case <-s.C():
		t.Error("a signal set three times before anybody looked woke its receiver twice")
	default:
	}
	s.Set()
	<-s.C() // set after the receiver looked: it is woken again
}

func TestLatch(t *testing.T) {
	l := NewLatch()
	if l.IsSet() {
		t.Fatal("a new latch is set")
	}
	var setters sync.WaitGroup
	for range 8 {
		setters.Go(l.Set)
	}
	<-l.C()
	setters.Wait()
	if !l.IsSet() {
		t.Error("a latch is not set after it was")
	}
	<-l.C() // as often as anybody likes
}
