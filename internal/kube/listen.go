package kube

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"syscall"
	"time"
)

const (
	// portPatience is how long a process waits for a port that another one uses. A former
	// one on the same node may need so long to end; what is there for good is an error.
	portPatience = 2 * time.Minute
	portInterval = 50 * time.Millisecond
)

// listen listens at a TCP address, and waits for it while another process uses it.
func listen(ctx context.Context, address string, log *slog.Logger) (net.Listener, error) {
	start := time.Now()
	for logged := false; ; logged = true {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		switch {
		case !errors.Is(err, syscall.EADDRINUSE) || time.Since(start) > portPatience:
			return listener, err
		case !logged:
			log.Info("waiting for a port that another process uses", "error", err)
		}
		if !sleep(ctx, portInterval) {
			return nil, ctx.Err()
		}
	}
}
