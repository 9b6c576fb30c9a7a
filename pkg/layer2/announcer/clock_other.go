//go:build !linux

package announcer

import "time"

// sinceBoot always returns the same: without packet sockets there is nothing to guard.
func sinceBoot() time.Duration { return 0 }
