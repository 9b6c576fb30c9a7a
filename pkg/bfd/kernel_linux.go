package bfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// realtimePriority is the least there is: above every ordinary thread and below
// whatever else was made real-time on purpose.
const realtimePriority = 1

// kernel is the network of this node. The loop waits in poll(2) on a thread of
// its own, because that is what a busy machine delays least: with Go's timers
// and poller, a deadline has to wake another thread first, which has to compete
// with everything else.
type kernel struct {
	listeners []*kernelListener
	polled    []unix.PollFd

	// mu guards event, the descriptor of an eventfd(2), against being closed
	// while others write to it. It is -1 while it is not open.
	mu    sync.Mutex
	event int
}

func newNetwork() network { return &kernel{event: -1} }

func (k *kernel) open(realtime bool) error {
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("open eventfd: %w", err)
	}
	k.mu.Lock()
	k.event = event
	k.mu.Unlock()
	runtime.LockOSThread() // for good: the thread ends with the goroutine
	if !realtime {
		return nil
	}
	attr := &unix.SchedAttr{
		Size:     unix.SizeofSchedAttr,
		Policy:   unix.SCHED_RR,
		Priority: realtimePriority,
		// The threads that Go may start from this one are ordinary.
		Flags: unix.SCHED_FLAG_RESET_ON_FORK,
	}
	if err := unix.SchedSetAttr(0, attr, 0); err != nil {
		return fmt.Errorf("%w: %w", errNotRealtime, err)
	}
	return nil
}

func (k *kernel) wait(d time.Duration) {
	k.polled = append(k.polled[:0], unix.PollFd{Fd: int32(k.event), Events: unix.POLLIN})
	for _, l := range k.listeners {
		k.polled = append(k.polled, unix.PollFd{Fd: int32(l.socket), Events: unix.POLLIN})
	}
	timeout := unix.NsecToTimespec(int64(d))
	n, err := unix.Ppoll(k.polled, &timeout, nil)
	// An error is that of a signal, or of a kernel without memory: then whatever
	// there is is read.
	for i, l := range k.listeners {
		l.readable = err != nil || n > 0 && k.polled[i+1].Revents != 0
	}
	if err != nil && !errors.Is(err, unix.EINTR) {
		time.Sleep(time.Millisecond)
	}
	if err == nil && k.polled[0].Revents != 0 {
		var count [8]byte
		_, _ = unix.Read(k.event, count[:]) // sets it to 0
	}
}

func (k *kernel) wake() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.event < 0 {
		return
	}
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(k.event, one[:]) // fails only when it is far above 0
}

func (k *kernel) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	_ = unix.Close(k.event)
	k.event = -1
}
