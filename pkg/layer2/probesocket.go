package layer2

import (
	"net/netip"
	"time"

	"github.com/mdlayher/ethernet"
	"golang.org/x/net/bpf"
)

// probeSocket is a packet socket on one link for one protocol, made for one
// goroutine that sends, waits and reads the queue empty. Only rouse and close
// may be called from others.
type probeSocket interface {
	// receive returns the length of the next frame that passed the filter. It
	// waits until then, or forever when the time is zero, and returns 0 when none
	// came or rouse was called. A time in the past is no wait and may return 0
	// although the queue is not empty.
	receive(b []byte, until time.Time) (int, error)
	// poll is receive without a wait: 0 means that the queue is empty.
	poll(b []byte) (int, error)
	// lost returns how many frames the kernel has dropped since the last call
	// because the queue was full.
	lost() (uint, error)
	// send sends a whole frame. It never waits: when the device is busy, it
	// returns an error and nothing was sent.
	send(frame []byte) error
	// join and leave change the link's membership of an IPv6 group.
	join(group netip.Addr) error
	leave(group netip.Addr) error
	// rouse ends the current receive, or the next one when none waits.
	rouse()
	// close frees everything and ends a waiting receive with an error.
	close() error
}

// probeSpec says which socket to open.
type probeSpec struct {
	link      Link
	etherType ethernet.EtherType
	// filter is in force before the first frame can arrive.
	filter []bpf.Instruction
	// readBuffer is the size of the queue in bytes, as the kernel counts them:
	// some 800 for a small frame.
	readBuffer int
}
