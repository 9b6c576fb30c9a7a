package bfd

import "time"

// Problem says why a session cannot do its work; it is empty when it can.
type Problem string

// The problems of a [Status].
const (
	// ProblemPending: the speaker does not run yet.
	ProblemPending Problem = "Pending"
	// ProblemSocket: the kernel refused a socket, for example because another BFD
	// daemon has the port, or the link or the local address is missing; the log
	// has the error. It is tried again every second.
	ProblemSocket Problem = "SocketFailed"
)

// Status is what there is to know of one session.
type Status struct {
	Key     Key
	Config  SessionConfig // with defaults filled in
	Problem Problem

	// State is ours, since Since.
	State State
	Since time.Time
	// Ups counts how often the session came up, and Downs how often it left Up: a late
	// reader sees that something was in between. LastDown is the last of these; it is zero
	// while Downs is 0.
	Ups, Downs uint64
	LastDown   Transition
	// Diagnostic is what we send to the peer, RemoteDiagnostic what it sends.
	Diagnostic, RemoteDiagnostic Diagnostic
	// RemoteState is the peer's state, and Down while it is not heard.
	RemoteState State
	// PeerAdminDown is set when the peer was in AdminDown when it was heard last.
	PeerAdminDown bool
	// RemoteControlPlaneIndependent is set when the peer's BFD goes on while its control
	// plane restarts (C bit): then, also during a graceful restart, a failure is one of the
	// path (RFC 5882 4.3). We never set the bit.
	RemoteControlPlaneIndependent bool

	// LocalDiscriminator is not 0; RemoteDiscriminator is while nobody is heard.
	LocalDiscriminator, RemoteDiscriminator uint32
	// TransmitInterval is the interval of our packets as negotiated, before
	// jitter; it is 0 when the peer wants no periodic packets. DetectionTime is how
	// long the peer may be silent, RemoteDetectionTime how long we may; both are 0
	// while nobody is heard.
	TransmitInterval, DetectionTime, RemoteDetectionTime time.Duration
	// What the peer asked for in its last packet.
	RemoteDesiredMinTx, RemoteRequiredMinRx, RemoteRequiredMinEchoRx time.Duration
	RemoteMultiplier                                                 uint8
	// RemoteDemand is set when the peer wants no periodic packets while Up (RFC 5880 6.6).
	RemoteDemand bool
	// Polling is set while the peer has not confirmed our intervals (RFC 5880 6.5).
	Polling bool
	// EchoOffered is set when we offer the peer to send its echo packets back.
	EchoOffered bool

	Counters Counters
}

// Failed reports whether the protocol that the session serves should take its
// peer for lost: the session was up and went down, and not because somebody shut
// it down at the peer (RFC 5882 3.2).
func (s Status) Failed() bool {
	return s.State != Up && s.Downs > 0 && s.LastDown.Cause.failure() && !s.PeerAdminDown
}

// Counters count since the session was made. A session that was removed and comes back
// starts at 0.
type Counters struct {
	// Received counts packets by verdict; those that are not Accepted were dropped.
	Received [verdictCount]uint64
	// Sent counts control packets, SendErrors those that the kernel did not take.
	Sent, SendErrors uint64
	// Echoes counts the peer's echo packets that we sent back. Those that the
	// kernel forwarded are not seen.
	Echoes uint64
}

// Dropped returns the sum of the received packets that were not Accepted.
func (c Counters) Dropped() uint64 {
	var sum uint64
	for v, n := range c.Received {
		if Verdict(v) != Accepted {
			sum += n
		}
	}
	return sum
}

// Stats are counters of packets that belong to no session.
type Stats struct {
	// Dropped counts them by verdict; [Accepted] is always 0.
	Dropped [verdictCount]uint64
	// Echoes counts echo packets that were not sent back: not from a peer with
	// EchoMode, or not from the link.
	Echoes uint64
	// SocketErrors counts how often a socket could not be opened or failed.
	SocketErrors uint64
}

// fill writes what the session knows into a status.
func (s *session) fill(out *Status) {
	h := s.history
	out.State, out.Since = s.state, h.since
	out.Ups, out.Downs, out.LastDown = h.ups, h.downs, h.lastDown
	out.Diagnostic, out.RemoteDiagnostic = s.diagnostic, s.remoteDiagnostic
	out.RemoteState, out.PeerAdminDown = s.remoteState, h.peerAdminDown
	out.RemoteControlPlaneIndependent = s.remoteControlIndependent
	out.LocalDiscriminator, out.RemoteDiscriminator = s.localDiscr, s.remoteDiscr
	if s.remoteMinRx != 0 {
		out.TransmitInterval = s.txInterval()
	}
	out.DetectionTime = s.detectionTime()
	if s.remoteDiscr != 0 {
		interval := max(s.desiredMinTx, s.remoteMinRx)
		out.RemoteDetectionTime = time.Duration(s.config.DetectMultiplier) * interval
	}
	if !s.lastHeard.IsZero() {
		out.RemoteDesiredMinTx, out.RemoteRequiredMinRx = s.remoteDesiredMinTx, s.remoteMinRx
		out.RemoteRequiredMinEchoRx, out.RemoteMultiplier = s.remoteMinEchoRx, s.remoteMultiplier
	}
	out.RemoteDemand = s.remoteDemand
	out.Polling = s.poll.active
	out.EchoOffered = s.config.EchoMode
}
