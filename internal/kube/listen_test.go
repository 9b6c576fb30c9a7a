package kube

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
)

// TestListenWaitsForThePort: another process has it, and ends.
func TestListenWaitsForThePort(t *testing.T) {
	var text strings.Builder
	log := slog.New(slog.NewTextHandler(&text, nil))
	other, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := other.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := listen(ctx, address, log); !errors.Is(err, context.Canceled) {
		t.Errorf("it no longer waits: %v", err)
	}
	if got := strings.Count(text.String(), "\n"); got != 1 || !strings.Contains(text.String(), address) {
		t.Errorf("it logged %s", &text)
	}

	type result struct {
		listener net.Listener
		err      error
	}
	done := make(chan result)
	go func() {
		listener, err := listen(t.Context(), address, slog.New(slog.DiscardHandler))
		done <- result{listener, err}
	}()
	select {
	case got := <-done:
		t.Fatalf("the port is another's, and it has %v, %v", got.listener, got.err)
	default:
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	got := <-done
	if got.err != nil {
		t.Fatal(got.err)
	}
	if err := got.listener.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestListenDoesNotWaitForWhatCannotBe: an address that this host does not have is an error
// at once.
func TestListenDoesNotWaitForWhatCannotBe(t *testing.T) {
	if _, err := listen(t.Context(), "192.0.2.1:9741", slog.New(slog.DiscardHandler)); err == nil {
		t.Error("it listens at an address of nobody")
	}
}
