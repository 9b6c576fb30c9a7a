package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/websocket"
	"golang.org/x/sync/errgroup"

	"github.com/berth-lb/berth/e2e/lab"
)

// ConnectionsConfig says which connections to open.
type ConnectionsConfig struct {
	Lab  *lab.Lab
	Host string // that connects
	To   netip.AddrPort
	// From, if it is valid, is the address of the host that the connections come from.
	From  netip.Addr
	Count int
	// Interval is the time between two messages on each connection.
	Interval time.Duration
}

// Connections are TCP connections that a client has open: websockets to the lab's web image, on each of which
// the client sends a line at every interval, whether the one before was echoed or not.
type Connections struct {
	all    []*Connection
	stop   chan struct{}
	closed sync.Once
	work   sync.WaitGroup
}

// A Connection is one of them.
type Connection struct {
	// Local is the client's end.
	Local netip.AddrPort
	// Line is what the pod at the other end says of itself.
	Line string

	conn *websocket.Conn

	mu     sync.Mutex
	echoes []time.Time
	err    error
	ended  time.Time
}

const (
	// openers is how many connections are opened at a time.
	openers = 16
	// openLimit is how long one may take.
	openLimit = 10 * time.Second
)

// OpenConnections opens them all, and begins to send.
func OpenConnections(ctx context.Context, config ConnectionsConfig) (*Connections, error) {
	c := &Connections{stop: make(chan struct{}), all: make([]*Connection, config.Count)}
	opening, ctx := errgroup.WithContext(ctx)
	opening.SetLimit(openers)
	for i := range c.all {
		opening.Go(func() (err error) {
			c.all[i], err = open(ctx, config)
			return err
		})
	}
	if err := opening.Wait(); err != nil {
		for _, one := range c.all {
			if one != nil {
				_ = one.conn.Close()
			}
		}
		return nil, fmt.Errorf("open %d connections with %s: %w", config.Count, config.To, err)
	}
	for i, one := range c.all {
		// They do not all send at the same moment.
		first := config.Interval * time.Duration(i) / time.Duration(config.Count)
		c.work.Go(func() { one.send(first, config.Interval, c.stop) })
		c.work.Go(one.receive)
	}
	return c, nil
}

// usedPorts counts the source ports that connections had.
var usedPorts atomic.Uint32

// nextPort is a source port that no connection of this process had, for as long as there are any left. The
// kernel chooses ports again within seconds. But a node that a connection enters remembers its pod
// (conntrack) until it sees the end of it, and it does not see the end of one whose address has moved away.
// When the address is back, a new connection from the same port is sent to the same pod, which may be gone.
func nextPort() uint16 {
	const first, last = 22000, 32767 // below those that the kernel chooses
	return first + uint16(usedPorts.Add(1)%(last-first+1))
}

// dial connects from a port that has not been used, and is free.
func (config ConnectionsConfig) dial(ctx context.Context) (conn net.Conn, err error) {
	host := config.Lab.Host(config.Host)
	for {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: config.From.AsSlice(), Port: int(nextPort())}}
		err = host.Run(func() error {
			conn, err = dialer.DialContext(ctx, "tcp", config.To.String())
			return err
		})
		if !errors.Is(err, syscall.EADDRINUSE) {
			return conn, err
		}
	}
}

// open opens one connection.
func open(ctx context.Context, config ConnectionsConfig) (*Connection, error) {
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	raw, err := config.dial(ctx)
	if err != nil {
		return nil, err
	}
	settings, err := websocket.NewConfig("ws://"+config.To.String()+"/", "http://lab.test/")
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	if err := raw.SetDeadline(time.Now().Add(openLimit)); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	conn, err := websocket.NewClient(settings, raw)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	one := &Connection{Local: raw.LocalAddr().(*net.TCPAddr).AddrPort(), conn: conn}
	err = websocket.Message.Receive(conn, &one.Line)
	if err == nil {
		err = raw.SetDeadline(time.Time{})
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return one, nil
}

// Node names the node of the pod at the other end.
func (c *Connection) Node() string {
	for field := range strings.FieldsSeq(c.Line) {
		if node, ok := strings.CutPrefix(field, "node="); ok {
			return node
		}
	}
	return ""
}

// send sends numbers until the connection ends or all are to stop.
func (c *Connection) send(first, interval time.Duration, stop <-chan struct{}) {
	wait := first
	for i := 0; ; i++ {
		select {
		case <-stop:
			_ = c.conn.Close() // it may have ended
			return
		case <-time.After(wait):
		}
		wait = interval
		if err := websocket.Message.Send(c.conn, strconv.Itoa(i)); err != nil {
			c.end(err)
			_ = c.conn.Close()
			return
		}
	}
}

// receive notes echoes until the connection ends.
func (c *Connection) receive() {
	for {
		var text string
		if err := websocket.Message.Receive(c.conn, &text); err != nil {
			c.end(err)
			return
		}
		c.mu.Lock()
		c.echoes = append(c.echoes, time.Now())
		c.mu.Unlock()
	}
}

// end notes by what the client first knew that the connection has ended.
func (c *Connection) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err, c.ended = err, time.Now()
	}
}

// All returns the connections.
func (c *Connections) All() []*Connection { return slices.Clone(c.all) }

// Close closes them. It may be called again.
func (c *Connections) Close() {
	c.closed.Do(func() { close(c.stop) })
	c.work.Wait()
}

// An Ending is how a connection has ended for its client.
type Ending string

// The endings.
const (
	// Open: there were echoes until the end of the time that was looked at.
	Open Ending = "open"
	// Reset: the client was told so by RST.
	Reset Ending = "reset"
	// Closed: the other end closed it.
	Closed Ending = "closed"
	// Silent: there are no echoes any more, and the client was told nothing.
	Silent Ending = "silent"
	// Failed: something else, such as an error of ICMP or a time that has run out.
	Failed Ending = "failed"
)

// A Fate is what became of a connection between two times.
type Fate struct {
	Ending Ending
	// After is when the client was told, since the first of the two times; of a silent one, when its last
	// echo came.
	After time.Duration
	// Gap is the longest time without an echo of one that is open.
	Gap time.Duration
	Err error
}

// Fate tells what became of a connection between two times. One without an echo in the last part of that
// time, which is quiet long, is silent.
func (c *Connection) Fate(from, to time.Time, quiet time.Duration) Fate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil && c.ended.Before(to) {
		return Fate{Ending: endingOf(c.err), After: max(0, c.ended.Sub(from)), Err: c.err}
	}
	last, gap := from, time.Duration(0)
	for _, at := range c.echoes {
		if at.Before(from) || at.After(to) {
			continue
		}
		gap = max(gap, at.Sub(last))
		last = at
	}
	if to.Sub(last) > quiet {
		return Fate{Ending: Silent, After: last.Sub(from)}
	}
	return Fate{Ending: Open, Gap: gap}
}

func endingOf(err error) Ending {
	switch {
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return Reset
	case errors.Is(err, io.EOF):
		return Closed
	}
	return Failed
}

// Fates are what became of many connections.
type Fates []Fate

// Of returns the fates with this ending, those that came about first first.
func (f Fates) Of(ending Ending) Fates {
	out := slices.DeleteFunc(slices.Clone(f), func(one Fate) bool { return one.Ending != ending })
	slices.SortFunc(out, func(a, b Fate) int { return int(a.After - b.After) })
	return out
}

// String says how many have which ending, and when the client was told, in milliseconds: first, median and
// last.
func (f Fates) String() string {
	parts := []string{fmt.Sprintf("%d open", len(f))}
	longest := time.Duration(0)
	for _, one := range f.Of(Open) {
		longest = max(longest, one.Gap)
	}
	if n := len(f.Of(Open)); n > 0 {
		text := fmt.Sprintf("%d stay (%d ms without an echo at most)", n, longest.Milliseconds())
		parts = append(parts, text)
	}
	for _, ending := range []Ending{Reset, Closed, Silent, Failed} {
		of := f.Of(ending)
		if len(of) == 0 {
			continue
		}
		text := fmt.Sprintf("%d %s after %d/%d/%d ms", len(of), ending, of[0].After.Milliseconds(),
			of[len(of)/2].After.Milliseconds(), of[len(of)-1].After.Milliseconds())
		if ending == Failed {
			text += fmt.Sprintf(" (%v)", of[0].Err)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}
