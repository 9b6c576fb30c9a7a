package main

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-lb/berth/internal/kube"
)

// TestADecisionThatNeverEndsFailsLiveness: something that the loop of addresses
// calls does not come back. That is noticed although everything else works.
func TestADecisionThatNeverEndsFailsLiveness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		w := newWorld(t, append(service("web"), node("node1"))...)
		var parts sync.WaitGroup
		for _, run := range []func(context.Context) error{w.loop.Run, w.bgp.Run} {
			parts.Go(func() {
				if err := run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(time.Hour)
		if got := w.loops.Stalled(time.Now()); got != "" {
			t.Errorf("without anything to do it is told that %s", got)
		}
		w.Stuck = make(chan struct{})
		w.queue.RequeueAll()
		time.Sleep(kube.StallAfter - time.Second)
		if got := w.loops.Stalled(time.Now()); got != "" {
			t.Errorf("before a minute is over it is told that %s", got)
		}
		time.Sleep(2 * time.Second)
		got := w.loops.Stalled(time.Now())
		if !strings.Contains(got, "addresses has been stalled for 1m1s") {
			t.Errorf("after a minute it is told that %q", got)
		}
		close(w.Stuck)
		synctest.Wait()
		if got := w.loops.Stalled(time.Now()); got != "" {
			t.Errorf("when it goes on it is told that %s", got)
		}
		stop()
		parts.Wait()
	})
}
