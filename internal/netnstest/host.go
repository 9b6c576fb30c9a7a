package netnstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// commandTimeout bounds every command that a host runs to its end.
const commandTimeout = 30 * time.Second

// Host is one machine of a topology: a network namespace.
type Host struct {
	// name is the namespace in /run/netns; empty is the test process's own.
	name string
}

// Local is the host in which the test process itself runs: the place of the
// code under test.
func Local() *Host { return &Host{} }

// NewHost makes a machine with only a loopback interface, which is up. It is
// removed at the end of the test, with every process still in it. Names are
// unique among the hosts that live at the same time.
func NewHost(t testing.TB, name string) *Host {
	t.Helper()
	h := &Host{name: name}
	Local().Run(t, "ip", "netns", "add", name)
	t.Cleanup(func() { Local().Run(t, "ip", "netns", "del", name) })
	h.Run(t, "ip", "link", "set", "lo", "up")
	h.withoutDAD(t)
	return h
}

// String is the host's name, "local" for the test process's own.
func (h *Host) String() string {
	if h.name == "" {
		return "local"
	}
	return h.name
}

// Command returns a command that will run on the host, not yet started.
func (h *Host) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	if h.name == "" {
		return exec.CommandContext(ctx, program, args...)
	}
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", h.name, program}, args...)...)
}

// Run runs a command on the host and returns what it wrote. The test ends when
// the command fails.
func (h *Host) Run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := h.Try(program, args...)
	if err != nil {
		t.Fatalf("on %s: %s %s: %v\n%s", h, program, strings.Join(args, " "), err, out)
	}
	return out
}

// Try is Run for commands that may fail: it returns what the command wrote to
// both streams, and an error when its exit code is not 0 or it took more than
// 30 seconds.
func (h *Host) Try(program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	out, err := h.Command(ctx, program, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("run %s: %w", program, errors.Join(err, ctx.Err()))
	}
	return string(out), nil
}

// Start starts a command that goes on in the background, such as a capture. The
// returned function interrupts it, waits for its end and returns what it wrote
// to both streams; the end of the test calls it too.
func (h *Host) Start(t testing.TB, program string, args ...string) (stop func() string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := h.Command(ctx, program, args...)
	// An interrupt, so that a capture can still write what it has.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatalf("on %s: start %s: %v", h, program, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // how an interrupted command ends is of no interest
	}()
	stop = func() string {
		cancel()
		<-done
		return out.String()
	}
	t.Cleanup(func() { stop() })
	return stop
}

// withoutDAD turns duplicate address detection off for links made later, so
// that a test need not wait a second for each address.
func (h *Host) withoutDAD(t testing.TB) {
	t.Helper()
	h.Run(t, "sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad")
}
