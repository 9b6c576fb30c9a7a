package layer2

import (
	"net/netip"

	"github.com/mdlayher/ethernet"
	"golang.org/x/net/bpf"
)

// frameSocket is a packet socket on one link for one protocol. One goroutine reads;
// another may send, change the filter and the groups, and close at the same time.
type frameSocket interface {
	// read waits for a frame that passes the filter and returns its length. It
	// returns an error when the link went away or the socket was closed.
	read(b []byte) (int, error)
	// send sends a whole frame to the destination in its header. It waits for a
	// short time at most when the device is busy.
	send(frame []byte) error
	// setFilter replaces the filter.
	setFilter(program []bpf.Instruction) error
	// join and leave change the link's membership of an IPv6 group.
	join(group netip.Addr) error
	leave(group netip.Addr) error
	// setPromiscuous has the link take all frames that reach it, as long as the socket
	// is open, or ends that.
	setPromiscuous(on bool) error
	// router is the IPv6 router to which this node's default route leads out of the
	// link, as the kernel knows it; the zero value when it knows none.
	router() router
	// close frees everything and ends a waiting read.
	close() error
}

// socketSpec says which socket to open.
type socketSpec struct {
	link      Link
	etherType ethernet.EtherType
	// filter is in force before the first frame can arrive.
	filter []bpf.Instruction
}
