package gobgp

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode"

	"github.com/berth-lb/berth/pkg/bgp"
)

// Sizes and types of messages (RFC 4271, 4.1; RFC 8654; RFC 2918).
const (
	headerLength = 19
	openLength   = headerLength + 10 // of an OPEN without parameters
	maxLength    = 4096              // of all but UPDATE, which may be longer

	version = 4

	typeOpen         = 1
	typeUpdate       = 2
	typeNotification = 3
	typeKeepalive    = 4
	typeRefresh      = 5
)

// messageError is a message that breaks the rules, with the codes and the data of the
// NOTIFICATION that its sender gets (RFC 4271, 6.1 and 6.2).
type messageError struct {
	code, subcode byte
	data          []byte
	text          string
}

func (e messageError) Error() string { return "not BGP: " + e.text }

// answer returns the NOTIFICATION for the sender.
func (e messageError) answer() []byte { return notification(e.code, e.subcode, string(e.data)) }

// badOpen returns the error of an OPEN.
func badOpen(subcode byte, format string, args ...any) error {
	return messageError{codeOpen, subcode, nil, fmt.Sprintf(format, args...)}
}

// badLength returns the error of a message whose header gives a length that it cannot
// have.
func badLength(typ byte, length int) error {
	return messageError{
		code:    codeHeader,
		subcode: headerBadLength,
		data:    binary.BigEndian.AppendUint16(nil, uint16(length)),
		text:    fmt.Sprintf("a message of type %d with %d bytes", typ, length),
	}
}

// readMessage reads one message into buffer, which holds maxLength bytes. The
// body of an UPDATE is thrown away unless keepUpdates is set; then buffer must
// hold 65535 bytes. A NOTIFICATION and a ROUTE-REFRESH may be longer than maxLength
// where that is agreed on (RFC 8654), and are cut to the buffer. The result is
// valid until the next call. length is what the message has on the wire.
func readMessage(r io.Reader, buffer []byte, keepUpdates, agreed bool) (
	typ byte, message []byte, length int, err error,
) {
	header := buffer[:headerLength]
	if _, err := io.ReadFull(r, header); err != nil {
		return 0, nil, 0, err
	}
	for _, b := range header[:16] {
		if b != 0xff {
			return 0, nil, 0, messageError{codeHeader, headerNotSynchronised, nil, "the marker is missing"}
		}
	}
	length, typ = int(binary.BigEndian.Uint16(header[16:])), header[18]
	limit := maxLength
	if typ == typeUpdate || agreed && (typ == typeNotification || typ == typeRefresh) {
		limit = math.MaxUint16
	}
	switch {
	case typ < typeOpen || typ > typeRefresh:
		text := fmt.Sprintf("a message of type %d", typ)
		return 0, nil, 0, messageError{codeHeader, headerBadType, []byte{typ}, text}
	case length < headerLength, length > limit,
		typ == typeOpen && length < openLength, typ == typeKeepalive && length > headerLength:
		return 0, nil, 0, badLength(typ, length)
	case typ == typeUpdate && !keepUpdates:
		return typ, header, length, discard(r, length-headerLength)
	}
	kept := min(length, len(buffer))
	if _, err = io.ReadFull(r, buffer[headerLength:kept]); err == nil && kept < length {
		binary.BigEndian.PutUint16(header[16:], uint16(kept))
		err = discard(r, length-kept)
	}
	return typ, buffer[:kept], length, err
}

// discard throws n bytes away.
func discard(r io.Reader, n int) error {
	if b, ok := r.(*bufio.Reader); ok {
		_, err := b.Discard(n)
		return err
	}
	_, err := io.CopyN(io.Discard, r, int64(n))
	return err
}

// open is a parsed OPEN message. The slices are parts of the message.
type open struct {
	as             uint32
	id             [4]byte
	hold           []byte // two octets
	families       bgp.Families
	extended       bool // takes long messages
	nextHop6       bool // takes IPv6 next hops for IPv4 routes
	restart        bool // knows graceful restart
	notification   bool // and keeps routes over a NOTIFICATION, too
	restartFlags   []byte
	forwarding     [][]byte // flags of each family, one octet each
	longLived      uint32   // the longest time, in seconds
	longLivedFlags [][]byte
}

// parseOpen reads an OPEN message, its header included. Capabilities that do
// not matter here are passed over.
func parseOpen(message []byte) (open, error) {
	list, err := capabilitiesOf(message)
	if err != nil {
		return open{}, err
	}
	body := message[headerLength:]
	o := open{as: uint32(binary.BigEndian.Uint16(body[1:])), hold: body[3:5], id: [4]byte(body[5:9])}
	zero := o.as == 0
	multiprotocol := false
	for _, c := range list {
		o.take(c.code, c.value)
		multiprotocol = multiprotocol || c.code == capMultiprotocol
	}
	if zero || o.as == 0 {
		return open{}, badOpen(openBadPeerAS, "AS 0, which nobody may have (RFC 7607)")
	}
	if !multiprotocol {
		o.families = bgp.IPv4 // RFC 4271 knows no other
	}
	return o, nil
}

// capabilitiesOf returns those of an OPEN message, its header included, in the ordinary
// form or in the extended one (RFC 9072).
func capabilitiesOf(message []byte) ([]capability, error) {
	if len(message) < openLength {
		return nil, badLength(typeOpen, len(message))
	}
	body := message[headerLength:]
	if body[0] != version {
		text := fmt.Sprintf("version %d", body[0])
		return nil, messageError{codeOpen, openBadVersion, []byte{0, version}, text}
	}
	parameters, size := body[10:], int(body[9])
	// The length of the ordinary form counts for nothing then, but is not 0.
	extended := size > 0 && len(parameters) >= 3 && parameters[0] == 255
	if extended {
		size = int(binary.BigEndian.Uint16(parameters[1:]))
		parameters = parameters[3:]
	}
	if len(parameters) != size {
		return nil, badOpen(0, "an OPEN with %d bytes of parameters instead of %d",
			len(parameters), size)
	}
	var out []capability
	for len(parameters) > 0 {
		typ, value, rest, ok := cut(parameters, extended)
		if !ok {
			return nil, badOpen(0, "an OPEN with a broken parameter")
		}
		parameters = rest
		if typ != 2 {
			continue
		}
		list, ok := readCapabilities(value)
		if !ok {
			return nil, badOpen(0, "an OPEN with a broken capability")
		}
		out = append(out, list...)
	}
	return out, nil
}

// cut splits the first of several values, each behind its type and length.
func cut(b []byte, long bool) (typ byte, value, rest []byte, ok bool) {
	head := 2
	if long {
		head = 3
	}
	if len(b) < head {
		return 0, nil, nil, false
	}
	size := int(b[1])
	if long {
		size = int(binary.BigEndian.Uint16(b[1:]))
	}
	if len(b) < head+size {
		return 0, nil, nil, false
	}
	return b[0], b[head : head+size], b[head+size:], true
}

// take records one capability.
func (o *open) take(code byte, c []byte) {
	switch {
	case code == capMultiprotocol && len(c) == 4:
		o.families |= family(c)
	case code == capExtendedNextHop:
		for ; len(c) >= 6; c = c[6:] {
			// IPv4 (1), unicast (1, in two octets), over IPv6 (2).
			o.nextHop6 = o.nextHop6 || [6]byte(c) == [6]byte{0, 1, 0, 1, 0, 2}
		}
	case code == capExtendedMessage:
		o.extended = true
	case code == capFourOctetAS && len(c) == 4:
		o.as = binary.BigEndian.Uint32(c)
	case code == capGracefulRestart && len(c) >= 2:
		o.restart, o.notification, o.restartFlags = true, c[0]&0x40 != 0, c[:1]
		for c = c[2:]; len(c) >= 4; c = c[4:] {
			o.forwarding = append(o.forwarding, c[3:4])
		}
	case code == capLongLived:
		for ; len(c) >= 7; c = c[7:] {
			o.longLived = max(o.longLived, binary.BigEndian.Uint32(c[3:])&0xffffff)
			o.longLivedFlags = append(o.longLivedFlags, c[3:4])
		}
	}
}

// family returns the family of an AFI, a reserved octet and a SAFI, 0 for one that Berth
// does not know.
func family(c []byte) bgp.Families {
	switch [4]byte{c[0], c[1], 0, c[3]} {
	case [4]byte{0, 1, 0, 1}:
		return bgp.IPv4
	case [4]byte{0, 2, 0, 1}:
		return bgp.IPv6
	}
	return 0
}

// Codes of NOTIFICATION messages (RFC 4271, 4.5; RFC 4486; RFC 8538).
const (
	codeHeader       = 1
	codeOpen         = 2
	codeStateMachine = 5
	codeCease        = 6

	headerNotSynchronised = 1
	headerBadLength       = 2
	headerBadType         = 3

	openBadVersion = 1
	openBadPeerAS  = 2
	openParameter  = 4
	openHoldTime   = 6
	openCapability = 7

	ceasePrefixes      = 1
	ceaseShutdown      = 2
	ceaseDeconfigured  = 3
	ceaseReset         = 4
	ceaseConfiguration = 6
	ceaseHardReset     = 9
	ceaseBFDDown       = 10 // RFC 9384
)

// notification returns a NOTIFICATION message. A text is for the router's operator and is
// cut after 255 bytes (RFC 9003).
func notification(code, subcode byte, text string) []byte {
	data := []byte(text)
	if withText(code, subcode) {
		data = append([]byte{byte(min(len(text), 255))}, text[:min(len(text), 255)]...)
	}
	m := make([]byte, headerLength, headerLength+2+len(data))
	for i := range 16 {
		m[i] = 0xff
	}
	binary.BigEndian.PutUint16(m[16:], uint16(cap(m)))
	m[18] = typeNotification
	return append(append(m, code, subcode), data...)
}

// withText reports whether a NOTIFICATION carries a text for the operator (RFC 9003, 2).
func withText(code, subcode byte) bool {
	return code == codeCease && (subcode == ceaseShutdown || subcode == ceaseReset)
}

// hardened wraps a Cease into a hard reset, after which a router that keeps routes over a
// NOTIFICATION keeps none (RFC 8538, 3).
func hardened(cease []byte) []byte {
	inner := cease[headerLength:]
	return notification(codeCease, ceaseHardReset, string(inner))
}

// notificationNames are the codes in words; subcodes of the same code below.
var notificationNames = map[byte]string{
	codeHeader:       "message header error",
	codeOpen:         "OPEN error",
	3:                "UPDATE error",
	4:                "hold timer expired",
	codeStateMachine: "state machine error",
	codeCease:        "cease",
	7:                "ROUTE-REFRESH error",
	8:                "send hold timer expired",
}

var subcodeNames = map[[2]byte]string{
	{codeHeader, headerNotSynchronised}: "connection not synchronised",
	{codeHeader, headerBadLength}:       "bad message length",
	{codeHeader, headerBadType}:         "bad message type",
	{codeOpen, openBadVersion}:          "unsupported version",
	{codeOpen, openBadPeerAS}:           "bad peer AS",
	{codeOpen, 3}:                       "bad BGP identifier",
	{codeOpen, openParameter}:           "unsupported optional parameter",
	{codeOpen, openHoldTime}:            "unacceptable hold time",
	{codeOpen, openCapability}:          "unsupported capability",
	{codeOpen, 11}:                      "role mismatch",
	{3, 1}:                              "malformed attribute list",
	{3, 2}:                              "unrecognised well-known attribute",
	{3, 3}:                              "missing well-known attribute",
	{3, 4}:                              "attribute flags",
	{3, 5}:                              "attribute length",
	{3, 6}:                              "invalid ORIGIN",
	{3, 8}:                              "invalid NEXT_HOP",
	{3, 9}:                              "optional attribute",
	{3, 10}:                             "invalid network field",
	{3, 11}:                             "malformed AS_PATH",
	{codeStateMachine, 1}:               "unexpected message in OpenSent",
	{codeStateMachine, 2}:               "unexpected message in OpenConfirm",
	{codeStateMachine, 3}:               "unexpected message in Established",
	{codeCease, ceasePrefixes}:          "maximum number of prefixes reached",
	{codeCease, ceaseShutdown}:          "administrative shutdown",
	{codeCease, ceaseDeconfigured}:      "peer de-configured",
	{codeCease, ceaseReset}:             "administrative reset",
	{codeCease, 5}:                      "connection rejected",
	{codeCease, ceaseConfiguration}:     "other configuration change",
	{codeCease, 7}:                      "connection collision resolution",
	{codeCease, 8}:                      "out of resources",
	{codeCease, ceaseHardReset}:         "hard reset",
	{codeCease, ceaseBFDDown}:           "BFD down",
}

// inWords returns a NOTIFICATION message as text for a person. What the router wrote into
// it may be anything: only printable text is shown, and not much of it.
func inWords(message []byte) string { return bodyInWords(message[headerLength:]) }

// bodyInWords is inWords for a NOTIFICATION without its header.
func bodyInWords(body []byte) string {
	if len(body) < 2 {
		return "a NOTIFICATION that is too short"
	}
	return describe(body)
}

// disagrees reports whether a router that has sent a NOTIFICATION, without its header, will
// send the same again until somebody changes something. FRR, for example, sends "state
// machine error" only while it starts.
func disagrees(body []byte) bool {
	if len(body) < 2 {
		return false
	}
	lasting := []byte{ceasePrefixes, ceaseShutdown, ceaseDeconfigured}
	return body[0] == codeOpen || body[0] == codeCease && slices.Contains(lasting, body[1])
}

// refusal reports whether a NOTIFICATION, without its header, refuses parameters or
// capabilities (RFC 4271, 6.2; RFC 5492, 5).
func refusal(body []byte) bool {
	return len(body) >= 2 && body[0] == codeOpen && (body[1] == openParameter || body[1] == openCapability)
}

// describe returns the body of a NOTIFICATION, which has a code and a subcode, in words.
func describe(body []byte) string {
	code, subcode, data := body[0], body[1], body[2:]
	words := notificationNames[code]
	if words == "" {
		words = fmt.Sprintf("error %d", code)
	}
	switch name := subcodeNames[[2]byte{code, subcode}]; {
	case name != "":
		words += ": " + name
	case subcode != 0:
		words += fmt.Sprintf(": subcode %d", subcode)
	}
	switch {
	case code == codeCease && subcode == ceaseHardReset && len(data) >= 2 && data[1] != ceaseHardReset:
		words += ": " + describe(data)
	case withText(code, subcode) && len(data) > 1 && len(data) > int(data[0]):
		words += fmt.Sprintf(" (%q)", printable(string(data[1:1+int(data[0])])))
	case code == codeCease && subcode == ceasePrefixes && len(data) == 7: // RFC 4486, 4
		of := capability{capMultiprotocol, []byte{data[0], data[1], 0, data[2]}}
		words += fmt.Sprintf(" (%d for %s)", binary.BigEndian.Uint32(data[3:]), of)
	case code == codeOpen && subcode == openCapability:
		words += named(data)
	}
	return words
}

// named returns in words the capabilities that a NOTIFICATION names, the first of them
// where they are many.
func named(data []byte) string {
	const most = 6
	list, _ := readCapabilities(data)
	if len(list) == 0 {
		return ""
	}
	var out []string
	for _, c := range list[:min(len(list), most)] {
		out = append(out, c.String())
	}
	if len(list) > most {
		out = append(out, "…")
	}
	return " (" + strings.Join(out, ", ") + ")"
}

// printable returns text without what could confuse a terminal or a log.
func printable(text string) string {
	const most = 128
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			return r
		}
		return '.'
	}, text)
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return text
}
