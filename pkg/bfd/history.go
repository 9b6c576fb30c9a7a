package bfd

import "time"

// Cause is why the state of a session got worse. It is empty for other transitions.
type Cause string

// The causes.
const (
	// CauseSilence: no packet came for the detection time. A failure.
	CauseSilence Cause = "DetectionTimeExpired"
	// CausePeerDown: the peer signals Down, because it does not hear us or has just started.
	// A failure.
	CausePeerDown Cause = "PeerSignaledDown"
	// CausePeerAdminDown: somebody shut the session down at the peer. This means nothing for
	// the path, so it is no failure (RFC 5882 3.2).
	CausePeerAdminDown Cause = "PeerAdminDown"
	// CauseRemoved: the session is not wanted any more, at this end.
	CauseRemoved Cause = "Removed"
)

// failure reports whether the path has to be taken for broken.
func (c Cause) failure() bool { return c == CauseSilence || c == CausePeerDown }

// Transition is a change of a session's state.
type Transition struct {
	At       time.Time
	From, To State
	Cause    Cause
	// Diagnostic is what we send to the peer with it, RemoteDiagnostic what the peer sent
	// last.
	Diagnostic, RemoteDiagnostic Diagnostic
}

// history is what a session remembers of its states.
type history struct {
	since time.Time
	// lastDown is the last transition out of Up.
	lastDown   Transition
	ups, downs uint64
	// peerAdminDown says that the last packet heard, however long ago, was of a
	// peer in AdminDown.
	peerAdminDown bool
}

func (h *history) record(t Transition) {
	h.since = t.At
	switch {
	case t.To == Up:
		h.ups++
	case t.From == Up:
		h.downs++
		h.lastDown = t
	}
}

// visible is what makes Changed fire when it differs from before.
type visible struct {
	state, remoteState           State
	diagnostic, remoteDiagnostic Diagnostic
	peerAdminDown                bool
	heard                        bool // is the peer, at present
	ups, downs                   uint64
}

func (s *session) visible() visible {
	return visible{
		s.state, s.remoteState, s.diagnostic, s.remoteDiagnostic,
		s.history.peerAdminDown, s.remoteDiscr != 0, s.history.ups, s.history.downs,
	}
}
