package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Health answers /healthz and /readyz from the moment a process starts,
// whatever it waits for.
type Health struct {
	// Address and port to listen on; "0" for not at all.
	Address string
	// Missing says what the process waits for before it is of use, "" when
	// for nothing.
	Missing func() string
}

// Run answers until ctx ends.
func (h Health) Run(ctx context.Context) error {
	if h.Address == "0" {
		<-ctx.Done()
		return nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", h.Address)
	if err != nil {
		return fmt.Errorf("listen for health checks (see --health-bind-address): %w", err)
	}
	server := &http.Server{Handler: h.handler(), ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("answer health checks: %w", err)
	}
	return nil
}

func (h Health) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if missing := h.Missing(); missing != "" {
			http.Error(w, missing, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}
