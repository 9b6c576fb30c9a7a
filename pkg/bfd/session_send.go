package bfd

import "time"

// maySend reports whether any packet may be sent: a passive session waits for
// its peer (6.8.7).
func (s *session) maySend() bool { return !s.config.Passive || s.remoteDiscr != 0 }

// maySendPeriodically reports whether periodic packets may be sent (6.8.7).
func (s *session) maySendPeriodically() bool {
	switch {
	case !s.maySend():
		return false
	case s.state == AdminDown:
		return s.farewell.left > 0 && s.remoteDiscr != 0
	case s.remoteMinRx == 0:
		return false
	case s.remoteDemand && s.state == Up && s.remoteState == Up:
		// The peer is in Demand mode (6.6): we are silent unless we poll.
		return s.poll.active
	default:
		return true
	}
}

// reschedule sets the deadlines after anything that they depend on may have
// changed. A periodic packet that was due at another interval than the present
// one is due at the present one, counted from the last (6.8.3).
func (s *session) reschedule(now time.Time) {
	if s.state == AdminDown {
		s.detectAt = s.farewell.until // the end, not a detection
	} else if after := s.detectionTime(); after > 0 {
		s.detectAt = s.lastHeard.Add(after)
	}
	if !s.maySendPeriodically() {
		s.sendAt = time.Time{}
		return
	}
	interval := s.txInterval()
	if s.state == AdminDown {
		interval = s.farewell.interval
	}
	if !s.sendAt.IsZero() && interval == s.scheduled {
		return
	}
	s.scheduled = interval
	s.sendAt = now
	if !s.lastSent.IsZero() {
		s.sendAt = s.lastSent.Add(s.jitter(interval))
	}
}

// jitter makes an interval shorter by up to a quarter, so that the packets of
// many sessions do not fall into step, and by at least a tenth when the peer
// waits for a single packet (6.8.7).
func (s *session) jitter(interval time.Duration) time.Duration {
	most := 1.0
	if s.config.DetectMultiplier == 1 {
		most = 0.9
	}
	return time.Duration(float64(interval) * (0.75 + (most-0.75)*s.random()))
}

// periodic returns a packet that is sent now and sets when the next is due.
func (s *session) periodic(now time.Time) Packet {
	p := s.packet()
	if p.Poll {
		s.poll.sent()
	}
	if s.state == AdminDown {
		s.farewell.left--
	}
	s.lastSent, s.sendAt = now, time.Time{}
	s.reschedule(now)
	return p
}

// notify sends a packet at once, between two periodic ones, because something has changed
// (6.8.7).
func (s *session) notify(now time.Time, before visible) outcome {
	out := outcome{changed: s.visible() != before}
	if s.maySend() {
		out.send, out.packet = true, s.periodic(now)
	}
	return out
}

// answer returns the packet that ends the peer's Poll Sequence (6.5). It cannot poll too.
func (s *session) answer() Packet {
	p := s.packet()
	p.Poll, p.Final = false, true
	return p
}

// packet returns the packet that describes the session now (6.8.7).
func (s *session) packet() Packet {
	p := Packet{
		Diagnostic:        s.diagnostic,
		State:             s.state,
		Poll:              s.poll.active,
		DetectMultiplier:  s.config.DetectMultiplier,
		MyDiscriminator:   s.localDiscr,
		YourDiscriminator: s.remoteDiscr,
		DesiredMinTx:      s.desiredMinTx,
		RequiredMinRx:     s.requiredMinRx,
	}
	if s.config.EchoMode {
		p.RequiredMinEchoRx = s.config.EchoInterval
	}
	return p
}
