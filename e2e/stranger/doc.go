// Package stranger is somebody on the network who has no key, no token and no part in the cluster, and does
// harm with what is open to everybody: streams and datagrams to the member port, connections to the health
// port, requests for metrics, frames that claim addresses, and a router that asks and does not listen.
//
// Every attack has bounds in count and in time, ends when its context does, and returns what it could do. It
// shows what those who are attacked bear; it hides nothing and guesses nothing.
package stranger

import (
	"context"
	"net"
	"time"
)

// A Dialer connects, from wherever the stranger is.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

// pause waits, or returns false when the context has ended before.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
