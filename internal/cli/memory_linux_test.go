package cli

import (
	"os"
	"syscall"
)

// peakMemory returns the most memory that a process had resident, in megabytes.
func peakMemory(p *os.ProcessState) float64 {
	usage, ok := p.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	return float64(usage.Maxrss) / 1024
}
