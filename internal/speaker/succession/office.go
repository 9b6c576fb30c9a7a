package succession

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/berth-lb/berth/internal/notify"
)

// Seen is what an [Office] knows of successors.
type Seen struct {
	// Connected is set while one is: any, before one has asked, and only that one afterwards.
	Connected bool
	// Asked is set once it has asked, Announces once it announces.
	Asked     bool
	Announces bool
}

// Since returns what has happened since before, in order. A successor whose place another
// one took in between is no event.
func (s Seen) Since(before Seen) []Event {
	var out []Event
	add := func(now, then bool, e Event) {
		if now && !then {
			out = append(out, e)
		}
	}
	// Asked and gone in one look: it was there.
	add(s.Connected || s.Asked, before.Connected || before.Asked, Met)
	add(s.Asked, before.Asked, Asked)
	add(s.Announces, before.Announces, Announces)
	gone := s.Asked && !before.Asked || before.Connected
	add(!s.Connected && gone, false, Lost)
	return out
}

// An Office is where a speaker is found by its successor. It is safe for concurrent use.
type Office struct {
	name string
	log  *slog.Logger
	// changed is set when Seen returns something else.
	changed notify.Signal

	mu       sync.Mutex
	listener *net.UnixListener // nil while another has the name
	all      map[*net.UnixConn]bool
	chosen   *net.UnixConn // the first that has asked
	yielded  bool          // it has the place
	seen     Seen
	serving  sync.WaitGroup
}

// NewOffice returns an Office with a name, which nobody finds before [Office.Enter] or
// [Office.Run].
func NewOffice(name string, log *slog.Logger) *Office {
	return &Office{name: name, log: log, changed: notify.NewSignal(), all: map[*net.UnixConn]bool{}}
}

// Changed returns a channel that wakes whoever wants to call Seen.
func (o *Office) Changed() <-chan struct{} { return o.changed.C() }

// Seen returns what is known now.
func (o *Office) Seen() Seen {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen
}

// open takes the name.
func (o *Office) open(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", o.name)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.listener = listener.(*net.UnixListener)
	return nil
}

// Run takes the name as soon as nobody else has it, and hears successors until ctx ends.
func (o *Office) Run(ctx context.Context) {
	for o.listener == nil && o.open(ctx) != nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(openInterval):
		}
	}
	defer o.serving.Wait()
	defer context.AfterFunc(ctx, o.close)()
	for {
		conn, err := o.listener.AcceptUnix()
		switch {
		case err == nil:
			o.serving.Go(func() { o.serve(conn) })
		case errors.Is(err, net.ErrClosed): // by Yield or close
			<-ctx.Done()
			o.close()
			return
		default: // such as too many open files
			select {
			case <-ctx.Done():
			case <-time.After(openInterval):
			}
		}
	}
}

// close ends everything.
func (o *Office) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	_ = o.listener.Close()
	for conn := range o.all {
		_ = conn.Close()
	}
}

// Yield gives the name up, ends the connections of all but the successor that has asked,
// and tells that one that it may begin.
func (o *Office) Yield() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.yielded = true
	_ = o.listener.Close()
	for conn := range o.all {
		if conn != o.chosen {
			_ = conn.Close()
		}
	}
	if o.chosen != nil {
		_, _ = o.chosen.Write([]byte{yours}) // one that is gone is seen as lost
	}
}

// serve hears one connection until it ends.
func (o *Office) serve(conn *net.UnixConn) {
	defer conn.Close() //nolint:errcheck // nothing was written that could be lost
	if err := sameUser(conn); err != nil {
		o.log.Warn("refused a connection of a process that is no speaker", "error", err)
		return
	}
	if !o.admit(conn) {
		return
	}
	defer o.dismiss(conn)
	_ = conn.SetReadDeadline(time.Now().Add(helloPatience))
	for first := true; ; first = false {
		var said [1]byte
		if _, err := conn.Read(said[:]); err != nil {
			return
		}
		_ = conn.SetReadDeadline(time.Time{})
		if first != (said[0] == format1) || !o.hear(conn, said[0]) {
			return
		}
	}
}

// admit takes a connection in, unless there are too many.
func (o *Office) admit(conn *net.UnixConn) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.all) >= maxSuccessors || o.yielded {
		return false
	}
	o.all[conn] = false
	return true
}

// hear records what a connection says, and reports whether that can be.
func (o *Office) hear(conn *net.UnixConn, said byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer o.changed.Set()
	switch {
	case said == format1:
		o.all[conn] = true
		o.seen.Connected = o.seen.Connected || o.chosen == nil
	case said == asks && o.chosen == nil:
		o.chosen = conn
		o.seen.Asked = true
	case said == asks: // it waits until the first has the place, and finds that one then
	case said == announces && o.chosen == conn:
		o.seen.Announces = true
	default:
		return false
	}
	return true
}

// dismiss forgets a connection that has ended.
func (o *Office) dismiss(conn *net.UnixConn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.all, conn)
	o.seen.Connected = false
	for other, known := range o.all {
		if known && (o.chosen == nil || o.chosen == other) {
			o.seen.Connected = true
		}
	}
	o.changed.Set()
}
