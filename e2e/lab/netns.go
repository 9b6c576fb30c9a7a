package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// netnsDir is where `ip netns` keeps the named network namespaces.
const netnsDir = "/run/netns"

// netns is the name of a host's network namespace.
func (l *Lab) netns(host string) string { return l.options.Name + "-" + host }

// Run calls fn on a thread that is in the network namespace of the host, and returns its error. Sockets that
// fn opens stay in that namespace, and commands that it starts run there. fn must not start goroutines that
// open sockets: they run on other threads. Only the network namespace changes: files and processes are those
// of this machine, even for a node.
func (h *Host) Run(fn func() error) error {
	if err := h.check(); err != nil {
		return err
	}
	return runIn(filepath.Join(netnsDir, h.netns()), fn)
}

func runIn(netns string, fn func() error) error {
	ended := make(chan error, 1)
	var attempt func()
	attempt = func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			// The main thread never ends and stands for the whole process in /proc: keep it where it is.
			// While it is locked to this goroutine the next one gets another thread.
			defer runtime.UnlockOSThread()
			again := make(chan struct{})
			go func() { defer close(again); attempt() }()
			<-again
			return
		}
		// Not unlocked: the thread ends with the goroutine, so no other code ever runs in the wrong
		// namespace.
		ended <- enterAndCall(netns, fn)
	}
	go attempt()
	return <-ended
}

func enterAndCall(netns string, fn func() error) error {
	fd, err := unix.Open(netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", netns, err)
	}
	defer unix.Close(fd) //nolint:errcheck // it only named the namespace
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", netns, err)
	}
	return fn()
}

// Dial connects from the control plane's namespace, the only place from which the API server is sure to be
// reachable. It fits rest.Config.Dial and http.Transport.DialContext. The address must be an IP address with
// a port.
func (a *API) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return a.lab.Host(HostControlPlane).Dial(ctx, network, address)
}

// Dial connects from the namespace of the host. The address must be an IP address with a port: no host of a
// lab can look names up, and a dialer that tries would do so from another thread, outside.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("dial %s from %s: want an IP address with a port: %w", address, h.name, err)
	}
	var conn net.Conn
	err := h.Run(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn, nil
}
