package membership

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// A message carries statements of any number of members:
//
//	message  = format (1 byte), section...
//	section  = size of the name, name, gone, entry..., 0
//	entry    = 1 + bytes of the key shared with the last one, size of the rest,
//	           rest of the key, version minus the last one's, what
//	what     = 1 + size of the value, value; or 0, age, for a deletion
//
// Numbers are varints, as in encoding/binary; the difference of versions has a
// sign. gone is 0 when the sender thinks that the member is alive, otherwise 1 +
// the seconds for which it has been gone. An age is in seconds. Ages, not times,
// because clocks differ; and they must travel, or two members would remind each
// other of what each was about to forget, for ever.
//
// Whatever a member knows it passes on, so a section need not be of its sender.
// It is not signed by the one it is of either: all members hold the one key that
// encrypts the packet, and trust each other as they do in memberlist itself.
const (
	format = 1
	// maxMessage is the largest message that goes into a datagram, in bytes. With
	// what memberlist and IPv6 put around it, it fits into an Ethernet frame.
	maxMessage = 1200
	// maxName is the largest size of a member's name; Kubernetes allows 253.
	maxName = 255
	// maxVersion leaves room above it. As a time, it is in the year 2262.
	maxVersion = math.MaxInt64 - 1<<32
	// maxSeconds bounds an age; more is of no use to anybody.
	maxSeconds = 1 << 32
)

// packer writes a message.
type packer struct {
	buf    []byte
	limit  int // in bytes, for the finished message; 0 for none
	member string
	open   bool // a section is begun
	// key and version are of the last entry.
	key     string
	version uint64
}

func newPacker(limit int) *packer { return &packer{buf: []byte{format}, limit: limit} }

// about is the member that a section is about, as its sender sees it.
type about struct {
	member string
	alive  bool
	gone   time.Duration // how long it has not been alive
}

// add appends a statement. It reports false, and appends nothing, when that would
// make the message too long. Statements of one member must follow each other, and
// sorted keys make it short.
func (p *packer) add(now time.Time, of about, key string, e statement) bool {
	before := *p
	if !p.open || p.member != of.member {
		p.begin(of)
	}
	shared := 0
	for shared < len(key) && shared < len(p.key) && key[shared] == p.key[shared] {
		shared++
	}
	p.buf = binary.AppendUvarint(p.buf, uint64(shared)+1)
	p.buf = binary.AppendUvarint(p.buf, uint64(len(key)-shared))
	p.buf = append(p.buf, key[shared:]...)
	p.buf = binary.AppendVarint(p.buf, int64(e.version)-int64(p.version)) // both are below maxVersion
	if e.deleted {
		p.buf = append(p.buf, 0)
		p.buf = binary.AppendUvarint(p.buf, seconds(now.Sub(e.at)))
	} else {
		p.buf = binary.AppendUvarint(p.buf, uint64(len(e.value))+1)
		p.buf = append(p.buf, e.value...)
	}
	if p.limit > 0 && len(p.buf)+1 > p.limit {
		before.buf = p.buf[:len(before.buf)]
		*p = before
		return false
	}
	p.key, p.version = key, e.version
	return true
}

func (p *packer) begin(of about) {
	p.end()
	p.open, p.member, p.key, p.version = true, of.member, "", 0
	p.buf = binary.AppendUvarint(p.buf, uint64(len(of.member)))
	p.buf = append(p.buf, of.member...)
	gone := uint64(0)
	if !of.alive {
		gone = seconds(of.gone) + 1
	}
	p.buf = binary.AppendUvarint(p.buf, gone)
}

func (p *packer) end() {
	if p.open {
		p.buf = append(p.buf, 0)
		p.open = false
	}
}

// message returns the message, nil when nothing was added.
func (p *packer) message() []byte {
	p.end()
	if len(p.buf) == 1 {
		return nil
	}
	return p.buf
}

// seconds rounds up: nothing becomes younger by being passed on.
func seconds(d time.Duration) uint64 {
	return uint64(max(0, d+time.Second-1) / time.Second)
}

// unpack reads a message and calls visit for each statement in it. The value is a
// part of the message. After an error visit may have been called for what came
// before; with a nil visit it is a check. Nothing is allocated by what the message
// says of its sizes.
func unpack(message []byte, now time.Time, visit func(of about, key string, e statement)) error {
	if len(message) == 0 || message[0] != format {
		return errors.New("unknown format")
	}
	r := &reader{rest: message[1:]}
	for len(r.rest) > 0 && r.err == nil {
		r.section(now, visit)
	}
	return r.err
}

// reader reads varints and texts; after an error it reads nothing.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) section(now time.Time, visit func(of about, key string, e statement)) {
	name := r.text("name", 1, maxName)
	gone := r.number("time gone", maxSeconds)
	of := about{alive: gone == 0}
	if visit != nil {
		of.member = string(name)
	}
	if gone > 0 {
		of.gone = time.Duration(gone-1) * time.Second
	}
	var key [MaxKey]byte
	size, version := 0, int64(0)
	for r.err == nil {
		shared := int(r.number("shared bytes", uint64(size)+1)) // at most MaxKey + 1
		if shared == 0 {
			return
		}
		rest := r.text("key", 0, MaxKey-shared+1)
		size = shared - 1 + copy(key[shared-1:], rest)
		version = r.difference(version)
		e := statement{version: uint64(version)} // difference returns none below zero
		if length := r.number("size of a value", MaxValue+1); length > 0 {
			e.value = r.take("value", int(length)-1) // at most MaxValue
		} else {
			e.deleted = true
			e.at = now.Add(-time.Duration(r.number("age", maxSeconds)) * time.Second) // at most maxSeconds
		}
		if r.err == nil && visit != nil {
			visit(of, string(key[:size]), e)
		}
	}
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
	r.rest = nil
}

func (r *reader) number(what string, most uint64) uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 || n > most {
		r.fail("%s is missing or too large", what)
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

// difference returns the version that differs from the last one by what is read.
func (r *reader) difference(last int64) int64 {
	d, size := binary.Varint(r.rest)
	// The last one is within the bounds, so neither difference can overflow.
	if size <= 0 || d < -last || d > maxVersion-last {
		r.fail("version is missing or out of range")
		return last
	}
	r.rest = r.rest[size:]
	return last + d
}

// text reads a size and that many bytes.
func (r *reader) text(what string, least, most int) []byte {
	size := int(r.number("size of a "+what, uint64(most))) // most is small
	if size < least {
		r.fail("%s is empty", what)
	}
	return r.take(what, size)
}

// take reads a number of bytes. They are a part of the message.
func (r *reader) take(what string, size int) []byte {
	if r.err != nil || size > len(r.rest) {
		r.fail("%s is cut off", what)
		return nil
	}
	out := r.rest[:size:size]
	r.rest = r.rest[size:]
	return out
}
