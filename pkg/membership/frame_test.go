package membership

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/semaphore"
)

// frameOf returns the beginning of a stream.
func frameOf(label string, length uint32) []byte {
	var out []byte
	if label != "" {
		out = append([]byte{labelByte, byte(len(label))}, label...)
	}
	return binary.BigEndian.AppendUint32(append(out, encryptByte), length)
}

func TestReadHead(t *testing.T) {
	long := strings.Repeat("l", 255)
	for _, tt := range []struct {
		story   string
		head    []byte
		missing int
		length  int64
		bad     bool
	}{
		{"nothing yet", nil, 1, 0, false},
		{"the type", []byte{encryptByte}, 4, 0, false},
		{"a part of the length", []byte{encryptByte, 0, 1}, 2, 0, false},
		{"the length", frameOf("", 1234), 0, 1234, false},
		{"the largest", frameOf("", maxFrame), 0, maxFrame, false},
		{"one more", frameOf("", maxFrame+1), 0, 0, true},
		{"as long as can be said", frameOf("", 1<<32-1), 0, 0, true},
		{"a label is announced", []byte{labelByte}, 1, 0, false},
		{"its size", []byte{labelByte, 3}, 4, 0, false},
		{"a part of it", []byte{labelByte, 3, 'a'}, 3, 0, false},
		{"a label, no type", []byte{labelByte, 1, 'a'}, 1, 0, false},
		{"a label and a type", []byte{labelByte, 1, 'a', encryptByte}, 4, 0, false},
		{"a label and the length", frameOf("test", 99), 0, 99, false},
		{"the longest label", frameOf(long, 99), 0, 99, false},
		{"an empty label", []byte{labelByte, 0}, 0, 0, true},
		{"a push of a state that is not encrypted", []byte{6}, 0, 0, true},
		{"a second label", []byte{labelByte, 1, 'a', labelByte}, 0, 0, true},
		{"HTTP", []byte("GET / HTTP/1.1"), 0, 0, true},
	} {
		missing, length, err := readHead(tt.head)
		if missing != tt.missing || length != tt.length || (err != nil) != tt.bad {
			t.Errorf("%s: missing %d, length %d, error %v", tt.story, missing, length, err)
		}
	}
}

// FuzzReadHead reads a stream as a framedConn does, and compares what it finds with
// what memberlist finds.
func FuzzReadHead(f *testing.F) {
	f.Add(frameOf("", 7))
	f.Add(append(frameOf("test", 3), "abc and more"...))
	f.Add(frameOf("", 1<<31))
	f.Add([]byte{labelByte, 0})
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		ended, end := context.WithCancel(context.Background())
		end() // nobody waits for room
		var outcomes []Outcome
		c := &framedConn{
			Conn:    &recorded{Reader: bytes.NewReader(stream)},
			room:    semaphore.NewWeighted(room),
			ended:   ended,
			refused: func(v Outcome) { outcomes = append(outcomes, v) },
		}
		got, err := io.ReadAll(c)
		if !bytes.HasPrefix(stream, got) {
			t.Fatalf("passed on %x of %x", got, stream)
		}
		if int64(len(got)) > maxHead+maxFrame {
			t.Fatalf("passed on %d bytes", len(got))
		}
		rest, _, labelErr := memberlist.RemoveLabelHeaderFromPacket(stream)
		whole := labelErr == nil && len(rest) >= 1+lengthSize && rest[0] == encryptByte
		if !whole {
			if len(got) > 0 {
				t.Fatalf("no frame, and passed on %x", got)
			}
			return
		}
		length := int64(binary.BigEndian.Uint32(rest[1:]))
		switch {
		case length > maxFrame:
			if !errors.Is(err, errFrame) || len(got) > 0 || len(outcomes) != 1 || outcomes[0] != Malformed {
				t.Fatalf("%d bytes are announced: error %v, outcomes %v", length, err, outcomes)
			}
		case length <= freeFrame:
			head := int64(len(stream) - len(rest) + 1 + lengthSize)
			if want := min(head+length, int64(len(stream))); int64(len(got)) != want || err != nil {
				t.Fatalf("passed on %d bytes, want %d; error %v", len(got), want, err)
			}
		}
	})
}

// recorded is a connection that has sent what it will ever send.
type recorded struct {
	io.Reader
	net.Conn
	closed int
}

func (r *recorded) Read(p []byte) (int, error)      { return r.Reader.Read(p) }
func (r *recorded) Close() error                    { r.closed++; return nil }
func (r *recorded) SetDeadline(time.Time) error     { return nil }
func (r *recorded) SetReadDeadline(time.Time) error { return nil }

// TestLongFramesWaitForRoom: those that are read at one time are bounded, however
// many there are; short ones pass.
func TestLongFramesWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := semaphore.NewWeighted(room)
		var refused []Outcome
		open := func(length uint32) *framedConn {
			c := &framedConn{
				Conn:    &recorded{Reader: bytes.NewReader(append(frameOf("", length), make([]byte, 10)...))},
				room:    shared,
				ended:   context.Background(),
				refused: func(v Outcome) { refused = append(refused, v) },
			}
			if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
				t.Fatal(err)
			}
			return c
		}
		read := func(c *framedConn) chan error {
			done := make(chan error, 1)
			go func() {
				_, err := c.Read(make([]byte, 1))
				done <- err
			}()
			return done
		}
		first, second, third := open(maxFrame), open(maxFrame), open(maxFrame)
		if err := <-read(first); err != nil {
			t.Fatal(err)
		}
		waiting := read(second)
		synctest.Wait()
		if len(waiting) > 0 {
			t.Fatal("two of the longest are read at one time")
		}
		if err := <-read(open(freeFrame)); err != nil {
			t.Errorf("a short one beside: %v", err)
		}
		_ = first.Close()
		_ = first.Close() // gives back once
		if err := <-waiting; err != nil {
			t.Errorf("when there is room: %v", err)
		}
		err := <-read(third)
		if !errors.Is(err, context.DeadlineExceeded) || len(refused) != 1 || refused[0] != OverLimit {
			t.Errorf("there was no room in time: %v, %v", err, refused)
		}
		_ = second.Close()
		if !shared.TryAcquire(room) {
			t.Error("room is lost")
		}
	})
}

// FuzzIsSealed looks at packets of anybody: none is taken for one of a member.
func FuzzIsSealed(f *testing.F) {
	f.Add([]byte(nil), "test")
	f.Add([]byte{1}, "")
	f.Add(append([]byte{labelByte, 4, 't', 'e', 's', 't', 1}, make([]byte, gcmNonceSize)...), "test")
	f.Add(append([]byte{1}, make([]byte, 100)...), "")
	f.Fuzz(func(t *testing.T, packet []byte, label string) {
		if isSealed(packet, keyA, label) {
			t.Errorf("%x is taken for a packet of a member", packet)
		}
	})
}
