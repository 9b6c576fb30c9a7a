package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/berth-lb/berth/internal/speaker/succession"
)

// errSuccessorLost says that this process gave way to a successor that is gone: it has to
// start once more.
var errSuccessorLost = errors.New("the successor is gone")

// tenure is the time in which a process is the speaker of its node, from its turn to its
// end. It ends the parts of the process in order: first those that use ports, and the
// answers to ARP and NDP when a successor announces, or with the process.
type tenure struct {
	log *slog.Logger
	// hold is how long the other nodes leave a restarting one its addresses.
	hold time.Duration
	// seen is what is known of successors, changed when to look again.
	seen    func() succession.Seen
	changed <-chan struct{}
	// yield tells the successor that the ports are free.
	yield func()
	// isAlone reports whether the node stays and nobody else answers in this one's place.
	isAlone func() bool
	// prepare announces to others that the speaker ends: for good, if its node is about to
	// go, unless a successor follows.
	prepare func(succeeded bool)
	// stop ends all that uses a port, and silence the answers.
	stop, silence func()
	// worked delivers the error of all that uses a port, nil for none, when it has ended.
	worked <-chan error
}

// run returns when the process is to end. That ctx has ended tells it to.
func (t *tenure) run(ctx context.Context) error {
	var (
		course succession.Course
		before succession.Seen
		failed error
	)
	told := ctx.Done()
	wait := patience(course, t.hold)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for course.State != succession.Ended {
		var events []succession.Event
		select {
		case <-told:
			told = nil
			events = []succession.Event{succession.Told}
			if course.State == succession.Working && t.isAlone() {
				events = []succession.Event{succession.ToldAlone}
			}
		case <-t.changed:
			now := t.seen()
			events = now.Since(before)
			before = now
		case failed = <-t.worked:
			if course.State == succession.Releasing && failed != nil {
				t.log.Warn("not all has ended in order for the successor", "error", failed)
				failed = nil
			}
			events = []succession.Event{succession.Released}
		case <-timer.C:
			events = []succession.Event{succession.Late}
		}
		was := course.State
		for _, e := range events {
			var act succession.Act
			if course, act = course.Next(e); act == succession.Restart {
				t.log.Warn("the successor is gone: restarting")
				return errSuccessorLost
			}
			t.do(act, &failed)
		}
		// What changes nothing makes no wait longer.
		if now := patience(course, t.hold); now != wait || course.State != was {
			wait = now
			timer.Reset(wait)
		}
	}
	return failed
}

// patience returns how long to wait for the next event.
func patience(c succession.Course, hold time.Duration) time.Duration {
	if p := c.Patience(hold); p > 0 {
		return p
	}
	return 24 * time.Hour // what comes late then is late for nothing
}

// do does what the course says, and waits for it as long as nothing else matters.
func (t *tenure) do(act succession.Act, failed *error) {
	switch act {
	case succession.Leave:
		t.prepare(false)
		t.stop()
		*failed = <-t.worked
	case succession.Release:
		t.log.Info("a successor is prepared: releasing ports, and answering until it announces")
		go func() {
			t.prepare(true)
			t.stop()
		}()
	case succession.Yield:
		t.yield()
	case succession.Silence:
		t.silence()
		t.log.Info("the successor announces: this speaker is idle until it is told to end")
	}
}
