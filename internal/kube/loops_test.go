package kube

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// healthz asks whether a process with these loops lives.
func healthz(t *testing.T, h http.Handler) (status int, text string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/healthz", nil))
	return w.Code, strings.TrimSpace(w.Body.String())
}

// TestALoopThatStandsStillFailsLiveness: one of two loops blocks for good.
func TestALoopThatStandsStillFailsLiveness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		loops := &Loops{}
		h := Health{
			Missing: func() string { return "" },
			Loops:   loops,
			Log:     slog.New(slog.NewTextHandler(&log, nil)),
		}.handler()
		well, stuck := loops.Loop("well"), loops.Loop("stuck")
		ctx, stop := context.WithCancel(t.Context())
		var parts sync.WaitGroup
		parts.Go(func() {
			for ctx.Err() == nil {
				well.Begin()
				time.Sleep(time.Second)
				well.End()
			}
		})
		never := make(chan struct{})
		parts.Go(func() {
			stuck.Begin()
			<-never // a deadlock
			stuck.End()
		})
		for range 59 {
			time.Sleep(time.Second)
			if status, text := healthz(t, h); status != http.StatusOK || text != "ok" {
				t.Fatalf("before a minute is over: %d %s", status, text)
			}
		}
		time.Sleep(6 * time.Second)
		for range 2 {
			status, text := healthz(t, h)
			if status != http.StatusServiceUnavailable || text != "stuck has been stalled for 1m5s" {
				t.Errorf("after a minute: %d %s", status, text)
			}
		}
		close(never)
		time.Sleep(time.Second)
		if status, text := healthz(t, h); status != http.StatusOK {
			t.Errorf("when it goes on: %d %s", status, text)
		}
		got := strings.Count(log.String(), "\n")
		if got != 2 || !strings.Contains(log.String(), "stuck has been stalled") {
			t.Errorf("logged:\n%s", log.String())
		}
		stop()
		parts.Wait()
	})
}

// TestALoopThatWaitsIsWell: however long there is nothing to do.
func TestALoopThatWaitsIsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		loops := &Loops{}
		loop := loops.Loop("waits")
		loop.Begin()
		loop.End()
		time.Sleep(24 * time.Hour)
		if text := loops.Stalled(time.Now()); text != "" {
			t.Errorf("it is told that %s", text)
		}
	})
}

// TestAPassOfManyStepsIsWell: however long all of them take; and a step alone begins
// no pass.
func TestAPassOfManyStepsIsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		loops := &Loops{}
		loops.Loop("works").Begin()
		for range 10 {
			time.Sleep(StallAfter / 2)
			loops.Loop("works").Step()
			loops.Loop("waits").Step()
		}
		if text := loops.Stalled(time.Now()); text != "" {
			t.Errorf("it is told that %s", text)
		}
		time.Sleep(StallAfter)
		if text := loops.Stalled(time.Now()); text != "works has been stalled for 1m0s" {
			t.Errorf("it is told that %q", text)
		}
	})
}

// TestWatchedLoop: a loop that shows by a channel that it waits, and then does so
// no more.
func TestWatchedLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		loops := &Loops{}
		ctx, stop := context.WithCancel(t.Context())
		waits, block := make(chan struct{}), make(chan struct{})
		var parts sync.WaitGroup
		parts.Go(func() {
			for {
				select {
				case waits <- struct{}{}:
				case <-block:
					<-ctx.Done()
					return
				}
			}
		})
		parts.Go(func() {
			_ = loops.Loop("watched").Watch(ctx, func(ctx context.Context) {
				select {
				case <-waits:
				case <-ctx.Done():
				}
			})
		})
		time.Sleep(time.Hour)
		if text := loops.Stalled(time.Now()); text != "" {
			t.Errorf("it is told that %s", text)
		}
		close(block)
		time.Sleep(StallAfter + lookInterval)
		if text := loops.Stalled(time.Now()); !strings.HasPrefix(text, "watched has been stalled for 1m") {
			t.Errorf("it is told that %q", text)
		}
		stop()
		parts.Wait()
	})
}
