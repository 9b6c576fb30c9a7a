package bfd

import "time"

// receive takes a packet that was found to be for this session (6.8.6, from the
// authentication on).
func (s *session) receive(now time.Time, p Packet) (Verdict, outcome) {
	if p.Authenticated {
		return Authenticated, outcome{}
	}
	before := s.visible()
	s.remember(now, p)
	if s.state == AdminDown {
		return Leaving, outcome{changed: s.visible() != before}
	}
	if p.Final && s.poll.answered() {
		s.txInForce, s.rxInForce = s.desiredMinTx, s.requiredMinRx
	}
	moved := s.follow(now, p.State)
	s.reschedule(now)
	switch {
	case p.Poll:
		// 6.8.7: at once, and not in place of a periodic packet.
		return Accepted, outcome{send: s.maySend(), packet: s.answer(), changed: s.visible() != before}
	case moved:
		return Accepted, s.notify(now, before)
	default:
		return Accepted, outcome{changed: s.visible() != before}
	}
}

// remember records what the peer's packet says of the peer.
func (s *session) remember(now time.Time, p Packet) {
	s.lastHeard = now
	s.remoteDiscr = p.MyDiscriminator
	s.remoteState = p.State
	s.remoteDiagnostic = p.Diagnostic
	s.remoteDemand = p.Demand
	s.remoteMinRx = p.RequiredMinRx
	s.remoteDesiredMinTx = p.DesiredMinTx
	s.remoteMinEchoRx = p.RequiredMinEchoRx
	s.remoteMultiplier = p.DetectMultiplier
	s.remoteControlIndependent = p.ControlPlaneIndependent
	s.history.peerAdminDown = p.State == AdminDown
}

// follow is the state machine (6.2, 6.8.6): it reports whether the state of the
// peer changed ours.
func (s *session) follow(now time.Time, remote State) bool {
	was := s.state
	switch {
	case remote == AdminDown:
		if s.state != Down {
			s.move(now, step{to: Down, diagnostic: DiagNeighborDown, cause: CausePeerAdminDown})
		}
	case s.state == Down && remote == Down:
		s.move(now, step{to: Init})
	case s.state == Down && remote == Init:
		s.move(now, step{to: Up})
	case s.state == Init && (remote == Init || remote == Up):
		s.move(now, step{to: Up})
	case s.state == Up && remote == Down:
		s.move(now, step{to: Down, diagnostic: DiagNeighborDown, cause: CausePeerDown})
	}
	return s.state != was
}
