package bfd

import (
	"time"
)

const (
	// slowInterval is the interval of our packets while the session is not Up, the
	// least that 6.8.3 allows. Sessions that are to be slower once Up use it too, or they
	// would need minutes to get there.
	slowInterval = time.Second
	// initialMinRx is what is assumed of a peer that was not heard (6.8.1).
	initialMinRx = time.Microsecond
)

// session is one end of a session: the state machine of RFC 5880 6.8, to which
// the section numbers here belong. It is pure: time comes in as a value, packets
// go out as values. After every call, next says when to call tick.
type session struct {
	config SessionConfig
	// random returns numbers in [0, 1), for jitter.
	random func() float64

	// The state variables of 6.8.1.
	state, remoteState       State
	localDiscr, remoteDiscr  uint32
	diagnostic               Diagnostic
	desiredMinTx             time.Duration
	requiredMinRx            time.Duration
	remoteMinRx              time.Duration
	remoteDemand             bool
	remoteDesiredMinTx       time.Duration
	remoteMinEchoRx          time.Duration
	remoteMultiplier         uint8
	remoteDiagnostic         Diagnostic
	remoteControlIndependent bool

	// txInForce and rxInForce are the intervals that deadlines follow, which may be an
	// earlier desiredMinTx and requiredMinRx until the peer has confirmed the new one
	// (6.8.3).
	txInForce, rxInForce time.Duration
	poll                 poll

	// lastSent is the last packet that was not an answer to a poll; lastHeard the
	// last one that counted. They are zero if there was none.
	lastSent, lastHeard time.Time
	// sendAt is when the next periodic packet is due, at the interval scheduled;
	// detectAt when the peer is taken for silent. Zero is never.
	sendAt, detectAt time.Time
	scheduled        time.Duration

	farewell farewell
	history  history
}

// farewell is how an AdminDown session ends.
type farewell struct {
	interval time.Duration
	// left is how many more packets are sent; until is when it ends anyway.
	left  int
	until time.Time
}

// sessionStart is what a session begins with.
type sessionStart struct {
	config        SessionConfig
	discriminator uint32 // not 0
	random        func() float64
}

// newSession returns a session in the state Down that has heard nobody. Unless
// it is passive, its first packet is due at once.
func newSession(now time.Time, start sessionStart) *session {
	s := &session{
		config:      start.config.WithDefaults(),
		random:      start.random,
		state:       Down,
		remoteState: Down,
		localDiscr:  start.discriminator,
		remoteMinRx: initialMinRx,
		history:     history{since: now},
	}
	s.setIntervals()
	s.reschedule(now)
	return s
}

// outcome is what follows from an input.
type outcome struct {
	// send says that packet has to be sent now.
	send   bool
	packet Packet
	// changed is set when something visible has changed.
	changed bool
}

// next returns when tick has to be called, and zero if nothing will be due.
func (s *session) next() time.Time {
	switch {
	case s.sendAt.IsZero():
		return s.detectAt
	case s.detectAt.IsZero() || s.sendAt.Before(s.detectAt):
		return s.sendAt
	default:
		return s.detectAt
	}
}

// silent reports whether the detection time is over (6.8.4). The caller sees to
// it that every packet that has arrived was received before it calls tick.
func (s *session) silent(now time.Time) bool {
	return !s.detectAt.IsZero() && !now.Before(s.detectAt)
}

// tick does what is due.
func (s *session) tick(now time.Time) outcome {
	before := s.visible()
	if s.silent(now) {
		s.forgetPeer()
		// 6.8.4: in Down and AdminDown silence is no news.
		if s.state == Init || s.state == Up {
			s.move(now, step{to: Down, diagnostic: DiagTimeExpired, cause: CauseSilence})
			s.reschedule(now)
			return s.notify(now, before)
		}
		s.reschedule(now)
	}
	out := outcome{changed: s.visible() != before}
	if !s.sendAt.IsZero() && !now.Before(s.sendAt) {
		out.send, out.packet = true, s.periodic(now)
	}
	return out
}

// forgetPeer resets what is known of a peer that was not heard for a detection time: 6.8.1
// demands it of the discriminator. What the peer asked for goes with it, else one that
// wanted no packets would have to send first after it came back.
func (s *session) forgetPeer() {
	s.remoteDiscr = 0
	s.remoteState = Down
	s.remoteMinRx = initialMinRx
	s.remoteDemand = false
	s.detectAt = time.Time{}
	s.poll.cancel()
	s.txInForce, s.rxInForce = s.desiredMinTx, s.requiredMinRx
}

// configure changes the configuration of a running session. What the peer has to
// know is sent at once (6.8.7) and, where it has to agree, polled for (6.8.3).
func (s *session) configure(now time.Time, config SessionConfig) outcome {
	before, packet := s.visible(), s.packet()
	s.config = config.WithDefaults()
	s.setIntervals()
	s.reschedule(now)
	if s.packet() == packet || s.remoteDiscr == 0 {
		return outcome{}
	}
	return s.notify(now, before)
}

// leave takes the session to AdminDown (6.8.16): the peer is sent that state, so that it
// does not take the end for a failure. After it the session only waits to be gone.
func (s *session) leave(now time.Time) outcome {
	before, interval := s.visible(), s.txInterval()
	s.move(now, step{to: AdminDown, diagnostic: DiagAdminDown, cause: CauseRemoved})
	s.poll.cancel() // answers are not read any more
	s.detectAt = time.Time{}
	s.farewell = farewell{
		interval: interval,
		left:     int(s.config.DetectMultiplier),
		until:    now.Add(time.Duration(s.config.DetectMultiplier) * interval),
	}
	s.reschedule(now)
	if s.remoteDiscr == 0 {
		return outcome{changed: true}
	}
	return s.notify(now, before)
}

// gone reports whether a session that leaves can be forgotten: its peer has
// answered, was never there, or had a detection time to hear of it.
func (s *session) gone(now time.Time) bool {
	answered := s.remoteState == Down || s.remoteState == AdminDown
	return s.state == AdminDown && (s.remoteDiscr == 0 || answered || !now.Before(s.farewell.until))
}

// step is a change of state.
type step struct {
	to         State
	diagnostic Diagnostic
	cause      Cause
}

// move changes the state, and the intervals with it: not being Up means to send
// slowly (6.8.3). The diagnostic stays when the state gets better, so that the
// peer can read why it was bad.
func (s *session) move(now time.Time, to step) {
	from := s.state
	s.state = to.to
	if to.diagnostic != DiagNone {
		s.diagnostic = to.diagnostic
	}
	s.setIntervals()
	s.history.record(Transition{
		At:               now,
		From:             from,
		To:               to.to,
		Cause:            to.cause,
		Diagnostic:       s.diagnostic,
		RemoteDiagnostic: s.remoteDiagnostic,
	})
}

// setIntervals sets the advertised intervals to what configuration and state demand, and
// polls a peer that is heard (6.8.3). While the session is Up, we go on sending fast until
// the peer has confirmed that we shall be slower, and go on expecting little until it has
// confirmed that it has to be faster.
func (s *session) setIntervals() {
	tx, rx := s.config.TransmitInterval, s.config.ReceiveInterval
	if s.state != Up {
		tx = slowInterval
	}
	if tx == s.desiredMinTx && rx == s.requiredMinRx {
		return
	}
	s.desiredMinTx, s.requiredMinRx = tx, rx
	if s.state != Up || s.remoteDiscr == 0 || tx < s.txInForce {
		s.txInForce = tx
	}
	if s.state != Up || s.remoteDiscr == 0 || rx > s.rxInForce {
		s.rxInForce = rx
	}
	if s.remoteDiscr != 0 {
		s.poll.start()
	}
}

// txInterval returns the interval of our periodic packets, before jitter (6.8.7).
func (s *session) txInterval() time.Duration { return max(s.txInForce, s.remoteMinRx) }

// detectionTime returns how long the peer may be silent (6.8.4, asynchronous mode). It is
// 0 while no peer is heard.
func (s *session) detectionTime() time.Duration {
	if s.remoteDiscr == 0 {
		return 0
	}
	return time.Duration(s.remoteMultiplier) * max(s.rxInForce, s.remoteDesiredMinTx)
}
