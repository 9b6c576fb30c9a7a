package membership

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/semaphore"
)

// What memberlist writes to a stream when it encrypts:
//
//	stream = [244, size of the label (1 byte), label], 10, length (4 bytes, big endian), that many bytes
//
// It reads all of these bytes into memory, and some copies of them, before it
// decrypts them.
const (
	labelByte   = 244
	encryptByte = 10
	lengthSize  = 4
	// gcmNonceSize is the size of a nonce of AES-GCM.
	gcmNonceSize = 12
	// maxHead is the largest size of what comes before the encrypted bytes.
	maxHead = 2 + 255 + 1 + lengthSize
	// maxFrame is the largest valid length: a whole state, and memberlist's own record of
	// each member.
	maxFrame = maxState + 1<<20
	// freeFrame is the length up to which frames are read without asking for room.
	freeFrame = 64 << 10
	// room is how many bytes may be read at one time, of all longer frames. It has
	// to be at least maxFrame. memberlist holds several copies.
	room = maxFrame + 7<<20
)

// errFrame is the error of a stream that is none of memberlist's, or too long.
var errFrame = errors.New("not a frame that a member sends")

// readHead examines the beginning of a stream. It returns how many bytes are missing until
// the length is known, or, with none missing, the length.
func readHead(head []byte) (missing int, length int64, err error) {
	at := 0
	if len(head) > 0 && head[0] == labelByte {
		if len(head) < 2 {
			return 1, 0, nil
		}
		if head[1] == 0 {
			return 0, 0, fmt.Errorf("%w: an empty label", errFrame)
		}
		at = 2 + int(head[1])
	}
	// The type comes before the length, so that what is no frame is refused at once.
	switch {
	case len(head) <= at:
		return at + 1 - len(head), 0, nil
	case head[at] != encryptByte:
		return 0, 0, fmt.Errorf("%w: type %d is not encrypted", errFrame, head[at])
	case len(head) < at+1+lengthSize:
		return at + 1 + lengthSize - len(head), 0, nil
	}
	length = int64(binary.BigEndian.Uint32(head[at+1:]))
	if length > maxFrame {
		return 0, 0, fmt.Errorf("%w: it has %d bytes, at most %d are possible", errFrame, length, maxFrame)
	}
	return 0, length, nil
}

// isSealed reports whether a packet of memberlist is encrypted with a key. A packet is
// the version of the encryption, a nonce of 12 bytes, and what AES-GCM made, after the
// label, which is authenticated too.
func isSealed(packet, key []byte, label string) bool {
	sealed, found, err := memberlist.RemoveLabelHeaderFromPacket(packet)
	if err != nil || found != label || len(sealed) < 1+gcmNonceSize {
		return false
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return false
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return false
	}
	_, err = gcm.Open(nil, sealed[1:1+gcmNonceSize], sealed[1+gcmNonceSize:], []byte(label))
	return err == nil
}

// framedConn passes one frame from the other end to memberlist, and nothing after it. It
// checks the announced length first: a frame that is too long is an error, and a long one
// waits until there is room. The room is given back by Close.
type framedConn struct {
	net.Conn
	room *semaphore.Weighted
	// ended is done when nobody may wait any longer.
	ended context.Context
	// refused is called with the reason why the frame was not read.
	refused func(Outcome)
	// closed is called once, by the first Close.
	closed func()

	// head is what was read of the beginning and not passed on yet, rest how many
	// bytes are still to come.
	begun bool
	head  []byte
	rest  int64

	mu       sync.Mutex
	deadline time.Time
	held     int64
	over     bool
}

// SetDeadline implements net.Conn.
func (c *framedConn) SetDeadline(t time.Time) error {
	c.setDeadline(t)
	return c.Conn.SetDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *framedConn) SetReadDeadline(t time.Time) error {
	c.setDeadline(t)
	return c.Conn.SetReadDeadline(t)
}

func (c *framedConn) setDeadline(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
}

// Read implements net.Conn. It must not be called by two at a time.
func (c *framedConn) Read(p []byte) (int, error) {
	if !c.begun {
		if err := c.begin(); err != nil {
			return 0, err
		}
		c.begun = true
	}
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	if c.rest == 0 {
		return 0, io.EOF
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), c.rest)])
	c.rest -= int64(n)
	return n, err
}

// begin reads the beginning of the frame.
func (c *framedConn) begin() error {
	head := make([]byte, 0, maxHead)
	for {
		missing, length, err := readHead(head)
		if err != nil {
			c.refused(Malformed)
			return err
		}
		if missing == 0 {
			c.head, c.rest = head, length
			return c.waitForRoom(length)
		}
		n, err := io.ReadFull(c.Conn, head[len(head):len(head)+missing])
		head = head[:len(head)+n]
		if err != nil {
			if len(head) == 0 && errors.Is(err, io.EOF) {
				return io.EOF // it sent nothing
			}
			return fmt.Errorf("read the beginning of a frame: %w", err)
		}
	}
}

func (c *framedConn) waitForRoom(length int64) error {
	if length <= freeFrame {
		return nil
	}
	c.mu.Lock()
	deadline := c.deadline
	c.mu.Unlock()
	ctx := c.ended
	if !deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	if err := c.room.Acquire(ctx, length); err != nil {
		c.refused(OverLimit)
		return fmt.Errorf("no room for a frame of %d bytes: %w", length, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		c.room.Release(length)
		return net.ErrClosed
	}
	c.held = length
	return nil
}

// Close implements net.Conn.
func (c *framedConn) Close() error {
	c.mu.Lock()
	over, held := c.over, c.held
	c.over, c.held = true, 0
	c.mu.Unlock()
	if held > 0 {
		c.room.Release(held)
	}
	err := c.Conn.Close()
	if !over && c.closed != nil {
		c.closed()
	}
	return err
}
