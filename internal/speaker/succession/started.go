package succession

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// A kubelet asks for readiness and liveness by HTTP, at a port of the node. In an update
// the former speaker has that port, and would answer for its successor. So the startup
// probe runs this program in the successor's container, which asks the process of this
// container and no other: both have one namespace of processes.

// acceptPause is how long [SayStarted] waits after a connection that it could not accept.
const acceptPause = 100 * time.Millisecond

// startedName returns the name of the socket by which the speaker of this container says
// that it has begun.
func startedName() (string, error) {
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "", fmt.Errorf("find out which container this is: %w", err)
	}
	return "@berth/started/" + namespace, nil
}

// SayStarted answers [AskStarted] in this container until ctx ends.
func SayStarted(ctx context.Context) error {
	name, err := startedName()
	if err != nil {
		return err
	}
	return sayStarted(ctx, name)
}

func sayStarted(ctx context.Context, name string) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", name)
	if err != nil {
		return fmt.Errorf("listen for the startup probe: %w", err)
	}
	defer listener.Close() //nolint:errcheck // nothing was written that could be lost
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err == nil { // that it connects is the answer
			_ = conn.Close()
			continue
		}
		select { // out of files, perhaps: it may work a moment later
		case <-ctx.Done():
			return nil
		case <-time.After(acceptPause):
		}
	}
}

// AskStarted returns nil if the speaker of this container has begun: the ports are its
// own, or nobody is there whom it could ask for them.
func AskStarted(ctx context.Context) error {
	name, err := startedName()
	if err != nil {
		return err
	}
	return askStarted(ctx, name)
}

func askStarted(ctx context.Context, name string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", name)
	if err != nil {
		return fmt.Errorf("the speaker has not begun: %w", err)
	}
	defer conn.Close() //nolint:errcheck // nothing was written that could be lost
	return sameUser(conn.(*net.UnixConn))
}
