//go:build !linux

package layer2

import "time"

// sinceBoot stands still: without packet sockets there is nothing to guard.
func sinceBoot() time.Duration { return 0 }
