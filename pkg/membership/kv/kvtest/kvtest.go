// Package kvtest makes messages as later versions of package kv may write them, for the
// tests of those who have to live with them.
package kvtest

import (
	"encoding/binary"
	"slices"
)

// Sizes of what precedes the first record of a message, and the body of a record.
const (
	messageHead = 2
	recordHead  = 5
)

// Record returns a message of this version with one record.
func Record(kind byte, body []byte) []byte {
	out := binary.BigEndian.AppendUint32([]byte{1, 0, kind}, uint32(len(body))) //nolint:gosec // of a test
	return append(out, body...)
}

// NextMinor returns what a later version with the same major makes of a message: other
// kinds of records, and more at the end of each head and entry. The message is one that
// this version wrote.
func NextMinor(message []byte) []byte {
	if len(message) < messageHead {
		return message
	}
	out := append([]byte{message[0], message[1] + 1}, Record(77, []byte("signatures"))[messageHead:]...)
	for rest := message[messageHead:]; len(rest) >= recordHead; {
		size := int(binary.BigEndian.Uint32(rest[1:]))
		body := rest[recordHead : recordHead+size]
		var next []byte
		for len(body) > 0 { // the head, then the entries: each begins with its size
			length, n := binary.Uvarint(body)
			end := n + int(length) //nolint:gosec // within body
			part := append(slices.Clone(body[n:end]), "and more"...)
			body = body[end:]
			next = append(binary.AppendUvarint(next, uint64(len(part))), part...)
		}
		out = append(out, Record(rest[0], next)[messageHead:]...)
		out = append(out, Record(78, nil)[messageHead:]...)
		rest = rest[recordHead+size:]
	}
	return out
}

// NextMajor returns a message that this version cannot read; nil for an empty one.
func NextMajor(message []byte) []byte {
	if len(message) == 0 {
		return nil
	}
	return append([]byte{message[0] + 1}, message[1:]...)
}
