//go:build !linux

package announcer

import "time"

// sinceBoot stands still: without packet sockets there is nothing to guard.
func sinceBoot() time.Duration { return 0 }
