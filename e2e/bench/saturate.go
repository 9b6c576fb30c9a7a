package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Saturate runs two endless loops for each core of the machine, for so long, or until the context ends.
func Saturate(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	runtime.LockOSThread() // whose death ends the loops
	defer runtime.UnlockOSThread()
	var loops []*exec.Cmd
	for range 2 * runtime.NumCPU() {
		loop := exec.CommandContext(ctx, "/bin/sh", "-c", "while :; do :; done")
		loop.Stderr = os.Stderr
		// They end with this program, whatever ends it.
		loop.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := loop.Start(); err != nil {
			cancel()
			return err
		}
		loops = append(loops, loop)
	}
	for _, loop := range loops {
		if err := loop.Wait(); err != nil && ctx.Err() == nil {
			return fmt.Errorf("busy loop: %w", err)
		}
	}
	return nil
}
