//go:build !linux

package succession

import "errors"

// peerUser fails: speakers run on Linux.
func peerUser(int) (int, error) { return 0, errors.ErrUnsupported }
