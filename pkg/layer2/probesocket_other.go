//go:build !linux

package layer2

import (
	"errors"
	"fmt"
)

// openProbeSocket always fails: packet sockets exist on Linux only.
func openProbeSocket(probeSpec) (probeSocket, error) {
	return nil, fmt.Errorf("open packet socket: %w", errors.ErrUnsupported)
}
