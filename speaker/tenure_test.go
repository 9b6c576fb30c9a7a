package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/speaker/succession"
)

// reign is the time of a speaker of which only the order of what it does is real.
type reign struct {
	t       *testing.T
	mu      sync.Mutex
	did     []string
	now     succession.Seen
	changed notify.Signal
	worked  chan error
	told    context.CancelFunc
	ended   chan error
	// releases is how long it takes until the ports are free, prepares until the others know.
	prepares, releases time.Duration
	failure            error // of what used ports
	alone              bool
}

// begins starts it; hold is how long other nodes leave it its addresses.
func (r *reign) begins(hold time.Duration) {
	r.changed, r.worked, r.ended = notify.NewSignal(), make(chan error, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(r.t.Context())
	r.told = cancel
	t := tenure{
		log:  slog.New(slog.DiscardHandler),
		hold: hold,
		seen: func() succession.Seen {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.now
		},
		changed: r.changed.C(),
		yield:   func() { r.does("yields") },
		isAlone: func() bool { return r.alone },
		prepare: func(succeeded bool) {
			step := "leaves"
			if succeeded {
				step = "is back soon"
			}
			r.does(step)
			time.Sleep(r.prepares)
		},
		stop: func() {
			r.does("stops")
			time.AfterFunc(r.releases, func() { r.worked <- r.failure })
		},
		silence: func() { r.does("falls silent") },
		worked:  r.worked,
	}
	go func() {
		err := t.run(ctx)
		r.does("ends")
		r.ended <- err
	}()
	synctest.Wait()
}

func (r *reign) does(step string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.did = append(r.did, step)
}

// sees has the office see something.
func (r *reign) sees(now succession.Seen) {
	r.mu.Lock()
	r.now = now
	r.mu.Unlock()
	r.changed.Set()
	synctest.Wait()
}

// wants fails the test if it did something else since it was last asked.
func (r *reign) wants(when string, want ...string) {
	r.t.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.did, want) {
		r.t.Errorf("%s it did %q, want %q", when, r.did, want)
	}
	r.did = nil
}

var (
	isConnected = succession.Seen{Connected: true}
	hasAsked    = succession.Seen{Connected: true, Asked: true}
	isAnnounced = succession.Seen{Connected: true, Asked: true, Announces: true}
)

// TestOrderOfGivingWay: a speaker that gives way to a successor tells the other nodes first,
// frees its ports before the successor begins, and answers until the successor does; then
// it waits for its end, however long that takes.
func TestOrderOfGivingWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reign{t: t, prepares: 200 * time.Millisecond, releases: 300 * time.Millisecond}
		r.begins(time.Minute)
		r.sees(isConnected)
		time.Sleep(time.Hour) // the successor waits for the API server
		r.wants("while the successor prepares")
		r.sees(hasAsked)
		r.wants("when it is asked", "is back soon")
		time.Sleep(r.prepares)
		r.wants("when the others know", "stops")
		time.Sleep(r.releases)
		r.wants("when the ports are free", "yields")
		time.Sleep(10 * time.Second)
		r.wants("while the successor begins")
		r.sees(isAnnounced)
		r.wants("when the successor announces", "falls silent")
		time.Sleep(24 * time.Hour)
		r.wants("while nobody ends it")
		r.told()
		r.wants("when it is to end", "ends")
		if err := <-r.ended; err != nil {
			t.Error(err)
		}
	})
}

// TestASuccessorThatIsLost: what became of the place decides.
func TestASuccessorThatIsLost(t *testing.T) {
	lost := succession.Seen{Asked: true}
	for _, test := range []struct {
		story string
		does  func(*reign)
		want  []string
		err   error
	}{
		{"it never asked: nothing has changed", func(r *reign) {
			r.sees(isConnected)
			r.sees(succession.Seen{})
		}, nil, nil},
		{"while the ports are released", func(r *reign) {
			r.sees(hasAsked)
			r.sees(lost)
			time.Sleep(time.Minute)
		}, []string{"is back soon", "stops", "ends"}, errSuccessorLost},
		{"before it announces", func(r *reign) {
			r.sees(hasAsked)
			time.Sleep(time.Second)
			r.sees(lost)
		}, []string{"is back soon", "stops", "yields", "ends"}, errSuccessorLost},
		{"while this one is idle", func(r *reign) {
			r.sees(hasAsked)
			time.Sleep(time.Second)
			r.sees(isAnnounced)
			r.sees(succession.Seen{Asked: true, Announces: true})
		}, []string{"is back soon", "stops", "yields", "falls silent", "ends"}, errSuccessorLost},
		{"and both are to end", func(r *reign) {
			r.sees(hasAsked)
			time.Sleep(time.Second)
			r.told()
			synctest.Wait()
			r.sees(lost)
		}, []string{"is back soon", "stops", "yields", "ends"}, nil},
	} {
		t.Run(test.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &reign{t: t, releases: time.Millisecond}
				r.begins(time.Minute)
				test.does(r)
				r.wants("then", test.want...)
				r.told()
				synctest.Wait()
				time.Sleep(time.Second)
				if err := <-r.ended; !errors.Is(err, test.err) {
					t.Errorf("it ends with %v, want %v", err, test.err)
				}
			})
		})
	}
}

// TestToldToEnd: a speaker without a successor leaves as always, one with a successor that
// prepares goes on for a while, and none answers for longer than others leave it what it
// has.
func TestToldToEnd(t *testing.T) {
	for _, test := range []struct {
		story string
		hold  time.Duration
		does  func(*reign)
		took  time.Duration
		want  []string
	}{
		{"nobody follows", time.Minute,
			(*reign).isTold, time.Millisecond, []string{"leaves", "stops", "ends"}},
		{"nobody follows, and nobody answers in its place", time.Minute, func(r *reign) {
			r.alone = true
			r.isTold()
		}, 5*time.Second + time.Millisecond, []string{"leaves", "stops", "ends"}},
		{"the successor comes when it is told to end", time.Minute, func(r *reign) {
			r.alone = true
			r.isTold()
			time.Sleep(time.Second)
			r.sees(hasAsked)
			time.Sleep(time.Second)
			r.sees(isAnnounced)
		}, 2 * time.Second, []string{"is back soon", "stops", "yields", "ends"}},
		{"the successor never asks", time.Minute, func(r *reign) {
			r.sees(isConnected)
			r.isTold()
		}, 20*time.Second + time.Millisecond, []string{"leaves", "stops", "ends"}},
		{"it asks in time", time.Minute, func(r *reign) {
			r.sees(isConnected)
			r.isTold()
			time.Sleep(5 * time.Second)
			r.sees(hasAsked)
			time.Sleep(time.Second)
			r.sees(isAnnounced)
		}, 6 * time.Second, []string{"is back soon", "stops", "yields", "ends"}},
		{"it announces nothing, and is told to end late", 4 * time.Second, func(r *reign) {
			r.sees(hasAsked)
			time.Sleep(3 * time.Second)
			r.isTold()
		}, time.Millisecond + 4*time.Second, []string{"is back soon", "stops", "yields", "ends"}},
		{"it announces nothing", 4 * time.Second, func(r *reign) {
			r.sees(hasAsked)
			time.Sleep(time.Millisecond)
			synctest.Wait()
			r.isTold()
		}, time.Millisecond + 4*time.Second, []string{"is back soon", "stops", "yields", "ends"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &reign{t: t, releases: time.Millisecond}
				begin := time.Now()
				r.begins(test.hold)
				test.does(r)
				if err := <-r.ended; err != nil {
					t.Error(err)
				}
				if took := time.Since(begin); took != test.took {
					t.Errorf("it took %s, want %s", took, test.took)
				}
				r.wants("then", test.want...)
			})
		})
	}
}

// isTold tells it to end.
func (r *reign) isTold() {
	r.told()
	synctest.Wait()
}

// TestAnEndWithAnError: what fails by itself ends the process with its error, but what does
// not end in order for a successor does not.
func TestAnEndWithAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		r := &reign{t: t}
		r.begins(time.Minute)
		r.worked <- broken
		if err := <-r.ended; !errors.Is(err, broken) {
			t.Errorf("it ended with %v", err)
		}
		r = &reign{t: t, failure: broken}
		r.begins(time.Minute)
		r.sees(hasAsked)
		time.Sleep(time.Millisecond)
		r.sees(isAnnounced)
		r.wants("asked", "is back soon", "stops", "yields", "falls silent")
		r.told()
		if err := <-r.ended; err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
}
