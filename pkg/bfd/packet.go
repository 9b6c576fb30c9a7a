package bfd

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// The ports and TTLs of BFD.
const (
	// PortSingleHop is the UDP port of sessions over one hop (RFC 5881 4).
	PortSingleHop = 3784
	// PortEcho is the UDP port of echo packets (RFC 5881 4).
	PortEcho = 3785
	// PortMultihop is the UDP port of sessions over several hops (RFC 5883 5).
	PortMultihop = 4784
	// maxTTL is what we send. Over one hop it is also what has to arrive: nobody
	// farther away can send it (RFC 5881 5, RFC 5082).
	maxTTL = 255
)

const (
	version = 1
	// packetLen is a packet without authentication; authLen is the least with.
	packetLen = 24
	authLen   = 26
)

// State is the state of a session at one end (RFC 5880 4.1, Sta).
type State uint8

// The states. The numbers are those of the wire.
const (
	// AdminDown: shut down on purpose. It means nothing for the path.
	AdminDown State = iota
	// Down: the other end is not heard, or has just signaled Down too.
	Down
	// Init: the other end is heard, and does not hear us yet, as far as we know.
	Init
	// Up: both ends hear each other.
	Up
)

var stateNames = [...]string{AdminDown: "AdminDown", Down: "Down", Init: "Init", Up: "Up"}

// String returns the state as RFC 5880 writes it.
func (s State) String() string {
	if int(s) >= len(stateNames) {
		return fmt.Sprintf("State(%d)", uint8(s))
	}
	return stateNames[s]
}

// Diagnostic is why a session last changed to a worse state (RFC 5880 4.1, Diag).
// It has five bits on the wire.
type Diagnostic uint8

// The diagnostics of RFC 5880.
const (
	DiagNone               Diagnostic = iota // no diagnostic
	DiagTimeExpired                          // control detection time expired
	DiagEchoFailed                           // echo function failed
	DiagNeighborDown                         // neighbor signaled session down
	DiagForwardingReset                      // forwarding plane reset
	DiagPathDown                             // path down
	DiagConcatenatedDown                     // concatenated path down
	DiagAdminDown                            // administratively down
	DiagReverseConcatenate                   // reverse concatenated path down
)

var diagnosticNames = [...]string{
	DiagNone:               "none",
	DiagTimeExpired:        "control detection time expired",
	DiagEchoFailed:         "echo function failed",
	DiagNeighborDown:       "neighbor signaled session down",
	DiagForwardingReset:    "forwarding plane reset",
	DiagPathDown:           "path down",
	DiagConcatenatedDown:   "concatenated path down",
	DiagAdminDown:          "administratively down",
	DiagReverseConcatenate: "reverse concatenated path down",
}

// String returns the diagnostic in words, and its number when it has none.
func (d Diagnostic) String() string {
	if int(d) >= len(diagnosticNames) {
		return fmt.Sprintf("diagnostic %d", uint8(d))
	}
	return diagnosticNames[d]
}

// Packet is a BFD control packet (RFC 5880 4.1). The intervals have a resolution
// of a microsecond and 32 bits, so they reach up to 71 minutes.
type Packet struct {
	Diagnostic Diagnostic
	State      State
	// Poll asks for an answer with Final, at once.
	Poll, Final bool
	// ControlPlaneIndependent (C): the sender's BFD lives on while its control
	// plane restarts. Ours does not, so we never set it.
	ControlPlaneIndependent bool
	// Authenticated (A): an authentication section follows, which we cannot read.
	Authenticated bool
	// Demand (D): the sender does not want periodic packets while Up.
	Demand bool
	// DetectMultiplier is how many packets in a row may be lost; not 0.
	DetectMultiplier uint8
	// MyDiscriminator is the sender's number of the session, not 0;
	// YourDiscriminator is the receiver's, and 0 while the sender does not know it.
	MyDiscriminator, YourDiscriminator uint32
	// DesiredMinTx is the least interval at which the sender wants to send.
	DesiredMinTx time.Duration
	// RequiredMinRx is the least interval at which it can receive; 0: it wants no
	// periodic packets.
	RequiredMinRx time.Duration
	// RequiredMinEchoRx is the least interval of echo packets that it sends back;
	// 0: it sends none back.
	RequiredMinEchoRx time.Duration
}

// The bits of the second byte, below the state.
const (
	bitPoll       = 1 << 5
	bitFinal      = 1 << 4
	bitCPI        = 1 << 3
	bitAuth       = 1 << 2
	bitDemand     = 1 << 1
	bitMultipoint = 1 << 0
)

// ParsePacket reads a control packet from the payload of a datagram. It makes the checks
// of RFC 5880 6.8.6 that need no session; the verdict is Accepted when they all pass. What
// follows the packet is ignored.
func ParsePacket(b []byte) (Packet, Verdict) {
	if len(b) < packetLen {
		return Packet{}, BadLength
	}
	if b[0]>>5 != version {
		return Packet{}, BadVersion
	}
	flags, length := b[1], int(b[3])
	atLeast := packetLen
	if flags&bitAuth != 0 {
		atLeast = authLen
	}
	if length < atLeast || length > len(b) {
		return Packet{}, BadLength
	}
	p := Packet{
		Diagnostic:              Diagnostic(b[0] & 0x1f),
		State:                   State(flags >> 6),
		Poll:                    flags&bitPoll != 0,
		Final:                   flags&bitFinal != 0,
		ControlPlaneIndependent: flags&bitCPI != 0,
		Authenticated:           flags&bitAuth != 0,
		Demand:                  flags&bitDemand != 0,
		DetectMultiplier:        b[2],
		MyDiscriminator:         binary.BigEndian.Uint32(b[4:]),
		YourDiscriminator:       binary.BigEndian.Uint32(b[8:]),
		DesiredMinTx:            microseconds(b[12:]),
		RequiredMinRx:           microseconds(b[16:]),
		RequiredMinEchoRx:       microseconds(b[20:]),
	}
	switch {
	case p.DetectMultiplier == 0:
		return Packet{}, ZeroMultiplier
	case flags&bitMultipoint != 0:
		return Packet{}, Multipoint
	case p.MyDiscriminator == 0:
		return Packet{}, ZeroDiscriminator
	}
	return p, Accepted
}

// Append appends the packet as it goes on the wire. Authenticated is ignored,
// since we have nothing to authenticate with. Intervals are rounded down to
// microseconds and bounded to what 32 bits hold.
func (p Packet) Append(b []byte) []byte {
	flags := byte(p.State) << 6
	for _, f := range [...]struct {
		set bool
		bit byte
	}{{p.Poll, bitPoll}, {p.Final, bitFinal}, {p.ControlPlaneIndependent, bitCPI}, {p.Demand, bitDemand}} {
		if f.set {
			flags |= f.bit
		}
	}
	b = append(b, version<<5|byte(p.Diagnostic)&0x1f, flags, p.DetectMultiplier, packetLen)
	b = binary.BigEndian.AppendUint32(b, p.MyDiscriminator)
	b = binary.BigEndian.AppendUint32(b, p.YourDiscriminator)
	b = appendMicroseconds(b, p.DesiredMinTx)
	b = appendMicroseconds(b, p.RequiredMinRx)
	return appendMicroseconds(b, p.RequiredMinEchoRx)
}

func microseconds(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Microsecond
}

func appendMicroseconds(b []byte, d time.Duration) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(min(max(d.Microseconds(), 0), math.MaxUint32)))
}
