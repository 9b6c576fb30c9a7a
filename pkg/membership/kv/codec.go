package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// A message carries entries of any number of members:
//
//	message = major (1 byte), minor (1 byte), record...
//	record  = kind (1 byte), size (4 bytes, big endian), body
//	section = the body of a record of kind 1: head, entry...
//	head    = size, size of the name, name, gone
//	entry   = size, 1 + bytes of the key shared with the last one, size of the
//	          rest, rest of the key, version minus the last one's, what
//	what    = 1 + size of the value, value; or 0, age, for a tombstone
//
// Numbers are varints, as in encoding/binary; the difference of versions has a sign. gone
// is 0 when the sender thinks that the member is alive, otherwise 1 + the seconds for which
// it has been gone. An age is in seconds. Ages, not times, because clocks differ; and they
// must travel, or two members would forever remind each other of what each was about to
// forget.
//
// Versions of Berth that run side by side understand each other by these rules.
// A later one with the same major may add kinds of records, and bytes at the end
// of a head or an entry: a reader skips what it does not know, whatever the minor,
// which is for information only. New keys need none of this: a key that a member
// does not know it keeps and passes on, byte by byte. An entry that is larger than
// a reader takes (MaxKey, MaxValue) is skipped too, and its member is then known
// to be known incompletely. Only what cannot be read by these rules has another
// major. A message with one is refused as a whole; members publish beside their
// addresses which major they write, and which they read.
//
// A member passes on whatever it knows, so a section need not be of its sender.
// It is not signed by the one it is of either: all members hold the one key that
// encrypts the packet, and trust each other as they do in memberlist itself.
const (
	// Major and Minor are the format of the messages that this version writes.
	Major = 1
	Minor = 0
	// MaxName is the largest size of a member's name in bytes; Kubernetes allows 253.
	MaxName = 255
	// MaxVersion leaves room above it. As a time, it is in the year 2262.
	MaxVersion = math.MaxInt64 - 1<<32

	// kindSection is the kind of a record that has the entries of one member.
	kindSection = 1
	// recordHead is the size of what precedes the body of a record, in bytes.
	recordHead = 5
	// messageHead is the size of what precedes the first record.
	messageHead = 2
	// maxSeconds bounds an age; more is of no use to anybody.
	maxSeconds = 1 << 32
)

// ErrFormat is the error of a message of a major that this version does not read.
var ErrFormat = errors.New("a format that this version does not read")

// Packer writes a message.
type Packer struct {
	buf    []byte
	limit  int // in bytes, for the finished message; 0 for none
	member string
	// section is where the record that is begun starts, 0 for none.
	section int
	// key and version are of the last entry.
	key     string
	version uint64
	scratch []byte
}

// NewPacker returns a Packer for a message of at most limit bytes, 0 for no limit.
func NewPacker(limit int) *Packer {
	return &Packer{buf: []byte{Major, Minor}, limit: limit}
}

// Section is the member whose entries follow, as the sender of a message sees it.
type Section struct {
	Member string
	Alive  bool
	// Gone is for how long it has not been alive.
	Gone time.Duration
}

// Add appends an entry. It reports false, and appends nothing, when that would make
// the message too long. Entries of one member must follow each other, and sorted keys
// make the message short.
func (p *Packer) Add(now time.Time, of Section, key string, e Entry) bool {
	before := *p
	if p.section == 0 || p.member != of.Member {
		p.begin(of)
	}
	shared := 0
	for shared < len(key) && shared < len(p.key) && key[shared] == p.key[shared] {
		shared++
	}
	entry := binary.AppendUvarint(p.scratch[:0], uint64(shared)+1)
	entry = appendText(entry, key[shared:])
	entry = binary.AppendVarint(entry, int64(e.Version)-int64(p.version)) // both are below MaxVersion
	if e.Deleted {
		entry = append(entry, 0)
		entry = binary.AppendUvarint(entry, seconds(now.Sub(e.DeletedAt)))
	} else {
		entry = binary.AppendUvarint(entry, uint64(len(e.Value))+1)
		entry = append(entry, e.Value...)
	}
	p.buf = appendText(p.buf, entry)
	if p.limit > 0 && len(p.buf) > p.limit {
		before.buf, before.scratch = p.buf[:len(before.buf)], entry
		*p = before
		return false
	}
	p.key, p.version, p.scratch = key, e.Version, entry
	return true
}

// begin ends the record before and begins one about a member.
func (p *Packer) begin(of Section) {
	p.end()
	p.section, p.member, p.key, p.version = len(p.buf), of.Member, "", 0
	p.buf = append(p.buf, kindSection, 0, 0, 0, 0)
	gone := uint64(0)
	if !of.Alive {
		gone = seconds(of.Gone) + 1
	}
	head := binary.AppendUvarint(appendText(p.scratch[:0], of.Member), gone)
	p.buf = appendText(p.buf, head)
	p.scratch = head
}

// end writes the size of the record that was begun.
func (p *Packer) end() {
	if p.section > 0 {
		size := len(p.buf) - p.section - recordHead // a whole state has far less than 4 GiB
		binary.BigEndian.PutUint32(p.buf[p.section+1:], uint32(size))
		p.section = 0
	}
}

// Message returns the message, nil when nothing was added.
func (p *Packer) Message() []byte {
	p.end()
	if len(p.buf) == messageHead {
		return nil
	}
	return p.buf
}

// appendText appends the size of a text, and the text.
func appendText[T string | []byte](to []byte, text T) []byte {
	return append(binary.AppendUvarint(to, uint64(len(text))), text...)
}

// seconds rounds up: nothing becomes younger by being passed on.
func seconds(d time.Duration) uint64 {
	return uint64(max(0, d+time.Second-1) / time.Second)
}

// Unpack reads a message and calls visit for each entry in it. The value is a part of the
// message. After an error visit may have been called for what came before; with a nil visit
// it is a check. Allocations are bounded by the message's own size, whatever the sizes in
// it.
func Unpack(message []byte, now time.Time, visit func(of Section, key string, e Entry)) error {
	if len(message) < messageHead {
		return errors.New("message is cut off")
	}
	if message[0] != Major {
		return ErrFormat
	}
	r := &reader{rest: message[messageHead:]}
	for len(r.rest) > 0 && r.err == nil {
		r.record(now, visit)
	}
	return r.err
}

// reader reads varints and texts; after an error it reads nothing.
type reader struct {
	rest []byte
	err  error
}

// record reads one record, and skips one of a kind that is not known.
func (r *reader) record(now time.Time, visit func(of Section, key string, e Entry)) {
	head := r.take("record", recordHead)
	if r.err != nil {
		return
	}
	size := int64(binary.BigEndian.Uint32(head[1:]))
	if size > int64(len(r.rest)) {
		r.fail("record is cut off")
		return
	}
	body := r.take("record", int(size))
	if head[0] != kindSection {
		return
	}
	section := &reader{rest: body}
	section.section(now, visit)
	r.adopt(section)
}

// section reads the entries of one member.
func (r *reader) section(now time.Time, visit func(of Section, key string, e Entry)) {
	head := r.part("head")
	name := head.text("name")
	gone := head.number("time gone", maxSeconds)
	if head.err == nil && len(name) == 0 {
		head.fail("name is empty")
	}
	if r.adopt(head); r.err != nil {
		return
	}
	of := Section{Alive: gone == 0}
	if visit != nil && len(name) <= MaxName {
		of.Member = string(name)
	}
	if gone > 0 {
		of.Gone = time.Duration(gone-1) * time.Second
	}
	var key []byte
	version := int64(0)
	for len(r.rest) > 0 && r.err == nil {
		entry := r.part("entry")
		shared := entry.number("shared bytes", uint64(len(key))+1)
		if shared == 0 {
			entry.fail("shared bytes are missing")
		}
		rest := entry.text("key")
		version = entry.difference(version)
		e := Entry{Version: uint64(version)} // difference returns none below zero
		if length := entry.number("size of a value", math.MaxInt32); length > 0 {
			e.Value = entry.take("value", int(length)-1)
		} else {
			e.Deleted = true
			age := time.Duration(entry.number("age", maxSeconds)) * time.Second // does not overflow
			e.DeletedAt = now.Add(-age)
		}
		if r.adopt(entry); r.err != nil {
			return
		}
		key = append(key[:shared-1], rest...)
		if e.Oversize = len(key) > MaxKey || len(e.Value) > MaxValue; e.Oversize {
			e.Value = nil
		}
		if of.Member != "" {
			visit(of, string(key[:min(len(key), MaxKey)]), e)
		}
	}
}

// part is a reader of the bytes whose size comes first.
func (r *reader) part(what string) *reader {
	return &reader{rest: r.text(what), err: r.err}
}

// adopt takes over the error of a part. The rest of the part belongs to a later version,
// and is skipped.
func (r *reader) adopt(part *reader) {
	if part.err != nil {
		r.err, r.rest = part.err, nil
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
	if size <= 0 || d < -last || d > MaxVersion-last {
		r.fail("version is missing or out of range")
		return last
	}
	r.rest = r.rest[size:]
	return last + d
}

// text reads a size and that many bytes.
func (r *reader) text(what string) []byte {
	return r.take(what, int(r.number("size of a "+what, math.MaxInt32)))
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
