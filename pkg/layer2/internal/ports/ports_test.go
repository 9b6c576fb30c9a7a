package ports

import (
	"cmp"
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-lb/berth/pkg/layer2/links"
)

// errBroken is what a fake port ends with.
var errBroken = errors.New("broken by the test")

// fake is a port that serves until it is closed or broken.
type fake struct {
	broken, closed chan struct{}
}

func newFake() *fake { return &fake{broken: make(chan struct{}), closed: make(chan struct{})} }

func (f *fake) Serve() error {
	select {
	case <-f.broken:
		return errBroken
	case <-f.closed:
		return net.ErrClosed
	}
}

func (f *fake) Close() error {
	close(f.closed)
	return nil
}

// link returns a link of an index and with an Ethernet address that ends in a byte.
func link(index int, last byte) links.Link {
	return links.Link{Index: index, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, last}}
}

func newSet() *Set[string, *fake] { return NewSet[string, *fake](cmp.Compare[string]) }

func TestPortsAreListedAndClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSet()
		for _, key := range []string{"b", "c", "a"} {
			s.Add(key, link(1, 1), newFake(), time.Now())
		}
		if got := s.Keys(); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("open are %v", got)
		}
		b, ok := s.Get("b")
		if !ok {
			t.Fatal("b is not open")
		}
		if err := s.Close("b"); err != nil {
			t.Error(err)
		}
		if _, open := <-b.closed; open {
			t.Error("b was not closed")
		}
		if _, ok := s.Get("b"); ok || !slices.Equal(s.Keys(), []string{"a", "c"}) {
			t.Errorf("open are %v", s.Keys())
		}
		select {
		case f := <-s.Failures():
			t.Errorf("a port that was closed is told to have failed: %+v", f)
		default:
		}
		// Whoever ends closes all; a port that fails meanwhile waits for nobody.
		a, _ := s.Get("a")
		close(a.broken)
		synctest.Wait()
		for _, key := range s.Keys() {
			if err := s.Close(key); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestWhatFitsAPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSet()
		s.Add("p", link(2, 1), newFake(), time.Now())
		for _, tt := range []struct {
			story           string
			link            links.Link
			fits, sameIndex bool
		}{
			{"the same link", link(2, 1), true, true},
			{"another Ethernet address", link(2, 9), false, true},
			{"a link that was made again", link(3, 1), false, false},
		} {
			if fits, same := s.Fits("p", tt.link); fits != tt.fits || same != tt.sameIndex {
				t.Errorf("%s: fits %t, same index %t", tt.story, fits, same)
			}
		}
		if err := s.Close("p"); err != nil {
			t.Error(err)
		}
	})
}

// TestRetries is one story of a port that fails, again and again.
func TestRetries(t *testing.T) {
	s := newSet()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	expect := func(story string, want time.Duration, wantErr error) {
		t.Helper()
		if wait, err := s.Wait("p", now); wait != want || !errors.Is(err, wantErr) {
			t.Errorf("%s: wait %s for %v, want %s for %v", story, wait, err, want, wantErr)
		}
	}
	expect("nothing has failed", 0, nil)
	if !s.Next().IsZero() {
		t.Errorf("something is tried again at %s", s.Next())
	}
	for i, want := range []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000} {
		want *= time.Millisecond
		wait, first := s.Failed("p", errBroken, now)
		if wait != want || first != (i == 0) {
			t.Errorf("failure %d: wait %s, first %t; want %s", i, wait, first, want)
		}
		expect("it has failed", want, errBroken)
		if got := s.Next(); !got.Equal(now.Add(want)) {
			t.Errorf("failure %d: the next try is at %s, want %s", i, got, now.Add(want))
		}
		now = now.Add(want)
		expect("the time is over", 0, errBroken)
	}
	s.Failed("p", errBroken, now)
	s.Hurry()
	expect("the links have changed", 0, errBroken)
	s.Worked("p")
	expect("it works", 0, nil)
	if !s.Next().IsZero() {
		t.Errorf("what works is tried again at %s", s.Next())
	}
	if wait, first := s.Failed("p", errBroken, now); wait != retryMax || first {
		t.Errorf("it fails soon after: wait %s, first %t", wait, first)
	}
	s.Failed("q", errBroken, now)
	s.Retain(func(key string) bool { return key == "q" })
	expect("it is not needed", 0, nil)
	if wait, err := s.Wait("q", now); wait != retryMin || !errors.Is(err, errBroken) {
		t.Errorf("the other is forgotten: wait %s, %v", wait, err)
	}
}

// TestAPortThatWorkedForLong: one that fails soon is opened later each time, one that
// worked for long is opened soon.
func TestAPortThatWorkedForLong(t *testing.T) {
	for _, tt := range []struct {
		story  string
		worked time.Duration
		wait   time.Duration
	}{
		{"it failed soon", time.Second, 400 * time.Millisecond},
		{"it worked for long", time.Minute, 100 * time.Millisecond},
	} {
		t.Run(tt.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSet()
				s.Failed("p", errBroken, time.Now())
				s.Failed("p", errBroken, time.Now())
				port := newFake()
				s.Add("p", link(1, 1), port, time.Now())
				s.Worked("p")
				time.Sleep(tt.worked)
				close(port.broken)
				f := <-s.Failures()
				if f.Key != "p" || !errors.Is(f.Err, errBroken) {
					t.Fatalf("%+v", f)
				}
				if err := s.CloseFailed(f.Key, time.Now()); err != nil {
					t.Error(err)
				}
				if wait, _ := s.Failed(f.Key, f.Err, time.Now()); wait != tt.wait {
					t.Errorf("wait %s, want %s", wait, tt.wait)
				}
			})
		})
	}
}
