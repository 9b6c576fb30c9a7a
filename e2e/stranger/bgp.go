package stranger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A Router accepts BGP sessions, brings each up as RFC 4271 says, and then does harm by asking for the routes
// again and again.
type Router struct {
	// ASN is its own AS number, of two octets.
	ASN uint16
	// ID is its identifier.
	ID netip.Addr
	// Reads: it takes what it asked for. Otherwise it does not read any more once the session is up.
	Reads bool
	// PerSecond is how many ROUTE-REFRESH messages are sent on each session, and Most how many in all of
	// them.
	PerSecond, Most int
}

// A RouterResult is what came of the sessions.
type RouterResult struct {
	// Sessions is how many came up.
	Sessions int
	// Refreshes is how many ROUTE-REFRESH messages were sent.
	Refreshes int
	// Ended says why sessions ended, for each that did before the time was over.
	Ended []string
}

// The messages of BGP (RFC 4271, section 4; RFC 2918).
const (
	bgpOpen      = 1
	bgpKeepalive = 4
	bgpRefresh   = 5

	bgpHeaderLen  = 19
	bgpMessageLen = 4096
	bgpHoldTime   = 90
)

// Serve accepts sessions until the time is over or Most is reached.
func (r Router) Serve(ctx context.Context, listener net.Listener, howLong time.Duration) RouterResult {
	ctx, cancel := context.WithTimeout(ctx, howLong)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	var (
		mu     sync.Mutex
		result RouterResult
		all    sync.WaitGroup
	)
	for {
		conn, err := listener.Accept()
		if err != nil {
			break // it is closed
		}
		all.Go(func() {
			defer conn.Close() //nolint:errcheck // nothing more is to be sent
			if tcp, ok := conn.(*net.TCPConn); ok && !r.Reads {
				// What waits in this kernel's buffer does not wait in the other's memory.
				_ = tcp.SetReadBuffer(16 << 10)
			}
			end := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
			defer end()
			if err := r.establish(conn); err != nil {
				mu.Lock()
				result.Ended = append(result.Ended, "not up: "+err.Error())
				mu.Unlock()
				return
			}
			mu.Lock()
			result.Sessions++
			mu.Unlock()
			err := r.harm(ctx, conn, func() bool {
				mu.Lock()
				defer mu.Unlock()
				if result.Refreshes >= r.Most {
					return false
				}
				result.Refreshes++
				return true
			})
			if err != nil && ctx.Err() == nil {
				mu.Lock()
				result.Ended = append(result.Ended, err.Error())
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return result
}

// establish exchanges OPEN and KEEPALIVE. It offers IPv4 and IPv6 unicast and route refresh.
func (r Router) establish(conn net.Conn) error {
	capabilities := []byte{
		1, 4, 0, 1, 0, 1, // multiprotocol (RFC 4760): IPv4 unicast
		1, 4, 0, 2, 0, 1, // IPv6 unicast
		2, 0, // route refresh (RFC 2918)
		65, 4, 0, 0, byte(r.ASN >> 8), byte(r.ASN), // AS numbers of four octets (RFC 6793)
	}
	open := []byte{4, byte(r.ASN >> 8), byte(r.ASN), 0, bgpHoldTime}
	open = append(open, r.ID.AsSlice()...)
	open = append(open, byte(len(capabilities)+2), 2, byte(len(capabilities)))
	open = append(open, capabilities...)
	if _, err := conn.Write(bgpMessage(bgpOpen, open)); err != nil {
		return err
	}
	if err := awaitBGP(conn, bgpOpen); err != nil {
		return err
	}
	if _, err := conn.Write(bgpMessage(bgpKeepalive, nil)); err != nil {
		return err
	}
	return awaitBGP(conn, bgpKeepalive)
}

// harm asks for the routes of both families in turn, as often as take allows, and sends keepalives in
// between.
func (r Router) harm(ctx context.Context, conn net.Conn, take func() bool) error {
	failed := make(chan error, 1)
	if r.Reads {
		go func() {
			_, err := io.Copy(io.Discard, conn)
			failed <- errors.Join(errors.New("the other side ended it"), err)
		}()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	n, kept := 0, time.Now()
	every(ctx, r.PerSecond, func() {
		select {
		case err := <-failed:
			cancel(err)
			return
		default:
		}
		var out []byte
		if time.Since(kept) > bgpHoldTime*time.Second/6 {
			kept = time.Now()
			out = bgpMessage(bgpKeepalive, nil)
		}
		if take() {
			n++
			out = append(out, bgpMessage(bgpRefresh, []byte{0, byte(1 + n%2), 0, 1})...)
		}
		if len(out) == 0 {
			return
		}
		if _, err := conn.Write(out); err != nil {
			cancel(fmt.Errorf("after %d refreshes: %w", n, err))
		}
	})
	return context.Cause(ctx)
}

// bgpMessage puts the header in front (RFC 4271, 4.1).
func bgpMessage(kind byte, body []byte) []byte {
	out := make([]byte, 16, bgpHeaderLen+len(body))
	for i := range out {
		out[i] = 0xff
	}
	out = binary.BigEndian.AppendUint16(out, uint16(bgpHeaderLen+len(body)))
	return append(append(out, kind), body...)
}

// awaitBGP reads one message, and is an error if it is of another kind.
func awaitBGP(conn net.Conn, want byte) error {
	header := make([]byte, bgpHeaderLen)
	if _, err := io.ReadFull(conn, header); err != nil {
		return err
	}
	length := int(binary.BigEndian.Uint16(header[16:]))
	if length < bgpHeaderLen || length > bgpMessageLen {
		return fmt.Errorf("a message of %d bytes", length)
	}
	body := make([]byte, length-bgpHeaderLen)
	if _, err := io.ReadFull(conn, body); err != nil {
		return err
	}
	if header[18] != want {
		return fmt.Errorf("message of type %d %x instead of %d", header[18], body, want)
	}
	return nil
}
