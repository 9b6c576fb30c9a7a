package succession

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// Two speakers of one node share its network namespace, and nothing else: no folder and
// no namespace of processes. So they meet at an abstract unix socket. Such a socket has no
// permissions: each end asks the kernel which user the other one is.

// Name returns the name of the socket at which the speakers of a node meet that are
// installed in a namespace of the cluster.
func Name(namespace string) string { return "@berth/" + namespace + "/speaker" }

// What the two say, each a byte. The successor begins with the format.
const (
	format1   byte = '1'
	asks      byte = 'a'
	announces byte = 'A'
	yours     byte = 'y'
)

// Times of meeting.
const (
	// meetPatience is for how long a speaker tries to reach the one that has the name: in
	// an update that one closes its socket a moment before another opens it.
	meetPatience = time.Second
	meetInterval = 20 * time.Millisecond
	// openInterval is how often an Office tries to get the name while another has it.
	openInterval = 250 * time.Millisecond
	// helloPatience is how long whoever connects has to say the format.
	helloPatience = 2 * time.Second
)

// maxSuccessors bounds the connections of an Office. In an update there is one, or two when
// another update follows it.
const maxSuccessors = 4

// errStranger says that a process of another user has the other end.
var errStranger = errors.New("another user's process has the socket")

// Enter finds out whether this speaker has the place, so that its successor will find it
// at the office, or another one works on this node now, which it returns. It returns nil as
// well if there is another one that cannot be asked. It fails only when ctx ends.
func (o *Office) Enter(ctx context.Context) (*Former, error) {
	for start := time.Now(); ; {
		err := o.open(ctx)
		if err == nil {
			return nil, nil
		}
		if errors.Is(err, syscall.EADDRINUSE) {
			var former *Former
			if former, err = connect(ctx, o.name); err == nil {
				return former, nil
			}
		}
		if time.Since(start) > meetPatience || errors.Is(err, errStranger) {
			o.log.Warn("cannot ask a former speaker of this node for its place; waiting for its ports",
				"error", err)
			return nil, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(meetInterval):
		}
	}
}

// A Former is the connection to the speaker that works on this node. It stays open for as
// long as this process lives: its end says that the successor is gone.
type Former struct{ conn *net.UnixConn }

func connect(ctx context.Context, name string) (*Former, error) {
	dialed, err := (&net.Dialer{}).DialContext(ctx, "unix", name)
	if err != nil {
		return nil, err
	}
	conn := dialed.(*net.UnixConn)
	err = sameUser(conn)
	if err == nil {
		_, err = conn.Write([]byte{format1})
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &Former{conn}, nil
}

// Ask asks for the place, and returns nil when the former speaker has released its ports.
// Otherwise it is gone, or ctx has ended.
func (f *Former) Ask(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = f.conn.SetReadDeadline(time.Now()) })()
	if _, err := f.conn.Write([]byte{asks}); err != nil {
		return fmt.Errorf("ask the former speaker: %w", err)
	}
	var answer [1]byte
	if _, err := f.conn.Read(answer[:]); err != nil {
		return fmt.Errorf("wait for the former speaker: %w", err)
	}
	if answer[0] != yours {
		return fmt.Errorf("the former speaker answers %q", answer[0])
	}
	return nil
}

// Announce says that this speaker announces what the node owns.
func (f *Former) Announce() error {
	_, err := f.conn.Write([]byte{announces})
	return err
}

// Close ends the connection.
func (f *Former) Close() error { return f.conn.Close() }

// sameUser returns nil if the other end of conn belongs to a process of this user.
func sameUser(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	uid, failed := 0, error(nil)
	if err := raw.Control(func(fd uintptr) { uid, failed = peerUser(int(fd)) }); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("ask for the user of the other end: %w", failed)
	}
	if uid != os.Geteuid() {
		return fmt.Errorf("%w: user %d", errStranger, uid)
	}
	return nil
}
