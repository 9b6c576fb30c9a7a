//go:build !linux

package layer2

import (
	"errors"
	"fmt"
)

// openSocket always fails: packet sockets exist on Linux only. The pure half of
// the package works everywhere.
func openSocket(socketSpec) (frameSocket, error) {
	return nil, fmt.Errorf("open packet socket: %w", errors.ErrUnsupported)
}
