package announcer

import (
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot is the time since the machine was started, with the time that it
// slept: CLOCK_BOOTTIME, which every Linux that Go runs on has.
func sinceBoot() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0
	}
	return time.Duration(now.Nano())
}
