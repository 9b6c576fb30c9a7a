package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// healthBounds bound the connections of the health port. Whoever asks opens one
// for each question, and has it for a millisecond.
var healthBounds = bounds{source: 16, all: 64}

// healthPatience is how long a question and its answer may take to be sent.
const healthPatience = 2 * time.Second

// Health answers /healthz and /readyz from the moment a process starts,
// whatever it waits for.
type Health struct {
	// Address and port to listen on; "0" for not at all.
	Address string
	// Missing returns what the process waits for before it is of use, "" when it
	// waits for nothing.
	Missing func() string
	// Loops are the main loops, of which none may stall.
	Loops *Loops
	// Listening is called once the port is this process's; nil for nobody to call.
	Listening func()
	Log       *slog.Logger
}

// Run answers until ctx ends. It waits for the port if another process uses it.
func (h Health) Run(ctx context.Context) error {
	listening := h.Listening
	if listening == nil {
		listening = func() {}
	}
	if h.Address == "0" {
		listening()
		<-ctx.Done()
		return nil
	}
	listener, err := listen(ctx, h.Address, h.Log)
	if err != nil {
		return fmt.Errorf("listen for health checks (see --health-bind-address): %w", err)
	}
	listening()
	return h.serve(ctx, listener)
}

// serve answers at a listener until ctx ends.
func (h Health) serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           h.handler(),
		ReadHeaderTimeout: healthPatience,
		ReadTimeout:       healthPatience,
		WriteTimeout:      healthPatience,
		MaxHeaderBytes:    8 << 10,
	}
	server.SetKeepAlivesEnabled(false)
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err := server.Serve(&newestWins{Listener: listener, bounds: healthBounds})
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("answer health checks: %w", err)
	}
	return nil
}

func (h Health) handler() http.Handler {
	mux := http.NewServeMux()
	failing := &onChange{}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		stalled := h.Loops.Stalled(time.Now())
		switch {
		case !failing.changedTo(stalled != ""):
		case stalled != "":
			h.Log.Error("liveness fails: this process no longer does its work", "message", stalled)
		default:
			h.Log.Info("liveness is back")
		}
		answer(w, stalled)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, h.Missing()) })
	return mux
}

// answer writes that all is well, or what is not.
func answer(w http.ResponseWriter, wrong string) {
	if wrong != "" {
		http.Error(w, wrong, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// onChange remembers whether something was so the last time; at first it was not.
type onChange struct {
	mu  sync.Mutex
	was bool
}

// changedTo records whether it is so now, and reports whether that has changed.
func (c *onChange) changedTo(now bool) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed, c.was = now != c.was, now
	return changed
}
