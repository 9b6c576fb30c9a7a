package bfd

import (
	"errors"
	"net/netip"
	"time"
)

// network is what the loop needs of a kernel. All but wake are called by the
// loop's goroutine only. Tests have one without a kernel.
type network interface {
	// open prepares the calling goroutine for wait. With realtime it has a thread
	// that runs before all ordinary ones. The error of that alone wraps
	// errNotRealtime, and the network is open all the same.
	open(realtime bool) error
	// wait returns when a listener may have something to read, when wake was
	// called since it last returned, or after d.
	wait(d time.Duration)
	// wake may be called by any goroutine, and before open and after close too,
	// when it does nothing.
	wake()
	close()
	// listen opens the socket on which all packets of a role arrive.
	listen(r role) (listener, error)
	// dial opens the socket from which one session sends. It returns the index of
	// the key's link too, and 0 when it has none.
	dial(k Key) (sender, int, error)
	// forwards reports whether this node sends back what a neighbour on the path
	// of the key addresses to itself.
	forwards(k Key) bool
}

// errNotRealtime says that a thread has to compete with all others.
var errNotRealtime = errors.New("no real-time scheduling")

// listener is a socket for all packets of one role.
type listener interface {
	// ready reports whether wait found that there is something to read.
	ready() bool
	// read reads one packet that is there, and reports false when none is. It
	// never blocks. After an error the socket is of no use any more.
	read(d *datagram) (bool, error)
	// answer sends payload back where d came from, with one less TTL.
	answer(d *datagram) error
	close()
}

// sender is the socket of one session.
type sender interface {
	// send sends a packet and never blocks.
	send(payload []byte) error
	close()
}

// role is what a listening socket is for.
type role struct {
	kind kind
	v6   bool
}

type kind uint8

const (
	singleHop kind = iota
	multihop
	echo
)

func (r role) port() int {
	switch r.kind {
	case multihop:
		return PortMultihop
	case echo:
		return PortEcho
	default:
		return PortSingleHop
	}
}

// roleOf returns the role of the session's control packets.
func roleOf(k Key) role {
	r := role{kind: singleHop, v6: k.Peer.Is6()}
	if k.Multihop {
		r.kind = multihop
	}
	return r
}

// datagram is a packet as it arrived.
type datagram struct {
	// buf has room for the longest BFD packet, whose length is one byte; what is
	// longer is cut off and was no BFD anyway.
	buf     [256]byte
	n       int
	from    netip.Addr // without zone
	port    uint16
	to      netip.Addr
	link    int // index of the link it came in by
	ttl     int // -1 when it is not known
	control [128]byte
}

func (d *datagram) payload() []byte { return d.buf[:d.n] }
