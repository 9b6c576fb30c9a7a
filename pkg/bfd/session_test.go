package bfd

import (
	"fmt"
	"testing"
	"time"
)

const ms = time.Millisecond

// t0 is when the stories begin.
var t0 = time.Unix(1_000_000, 0)

// half is a source of jitter that always gives the middle: 87.5 % of an interval.
func half() float64 { return 0.5 }

func fast() SessionConfig {
	return SessionConfig{ReceiveInterval: 100 * ms, TransmitInterval: 100 * ms, DetectMultiplier: 3}
}

// subject is a session under test with a clock and what it sent.
type subject struct {
	*session
	t    testing.TB
	now  time.Time
	sent []Packet
	at   []time.Time
}

func newSubject(t testing.TB, config SessionConfig) *subject {
	return &subject{session: newSession(t0, sessionStart{config, 7, half}), t: t, now: t0}
}

func (s *subject) take(out outcome) outcome {
	if out.send {
		s.sent, s.at = append(s.sent, out.packet), append(s.at, s.now)
	}
	return out
}

// pass lets time go by, with everything that is due in it.
func (s *subject) pass(d time.Duration) {
	s.t.Helper()
	end := s.now.Add(d)
	for n := 0; !s.next().IsZero() && !s.next().After(end); n++ {
		if n > 100_000 {
			s.t.Fatal("something is due for ever")
		}
		if s.next().After(s.now) {
			s.now = s.next()
		}
		s.take(s.tick(s.now))
		if s.gone(s.now) {
			break
		}
	}
	s.now = end
}

// peer is a packet of a peer that runs at 100 ms and knows us.
func peer(state State) Packet {
	return Packet{
		State:             state,
		DetectMultiplier:  3,
		MyDiscriminator:   9,
		YourDiscriminator: 7,
		DesiredMinTx:      100 * ms,
		RequiredMinRx:     100 * ms,
	}
}

func (s *subject) hear(p Packet) outcome {
	verdict, out := s.receive(s.now, p)
	if verdict != Accepted && verdict != Leaving && verdict != Authenticated {
		s.t.Errorf("receive says %s", verdict)
	}
	return s.take(out)
}

func (s *subject) last() Packet {
	s.t.Helper()
	if len(s.sent) == 0 {
		s.t.Fatal("nothing was sent")
	}
	return s.sent[len(s.sent)-1]
}

// clear forgets what was sent so far.
func (s *subject) clear() { s.sent, s.at = nil, nil }

// up is a session that came up and confirmed its intervals.
func up(t testing.TB, config SessionConfig) *subject {
	s := newSubject(t, config)
	s.hear(peer(Down))
	s.hear(peer(Up))
	final := peer(Up)
	final.Final = true
	for range 3 { // one sequence for each change of state, at most
		s.pass(s.txInterval())
		s.hear(final)
	}
	if s.state != Up || s.poll.active {
		t.Fatalf("not up: %+v", s.session)
	}
	s.clear()
	return s
}

// TestStateMachine is RFC 5880 6.8.6, every pair of states.
func TestStateMachine(t *testing.T) {
	for _, test := range []struct {
		our, heard, want State
		diagnostic       Diagnostic
		cause            Cause
	}{
		{Down, AdminDown, Down, DiagNone, ""},
		{Down, Down, Init, DiagNone, ""},
		{Down, Init, Up, DiagNone, ""},
		{Down, Up, Down, DiagNone, ""},
		{Init, AdminDown, Down, DiagNeighborDown, ""},
		{Init, Down, Init, DiagNone, ""},
		{Init, Init, Up, DiagNone, ""},
		{Init, Up, Up, DiagNone, ""},
		{Up, AdminDown, Down, DiagNeighborDown, CausePeerAdminDown},
		{Up, Down, Down, DiagNeighborDown, CausePeerDown},
		{Up, Init, Up, DiagNone, ""},
		{Up, Up, Up, DiagNone, ""},
		{AdminDown, AdminDown, AdminDown, DiagNone, ""},
		{AdminDown, Down, AdminDown, DiagNone, ""},
		{AdminDown, Init, AdminDown, DiagNone, ""},
		{AdminDown, Up, AdminDown, DiagNone, ""},
	} {
		t.Run(fmt.Sprintf("%s hears %s", test.our, test.heard), func(t *testing.T) {
			s := newSubject(t, fast())
			s.state = test.our
			s.remoteDiscr = 9
			if test.our == AdminDown {
				s.farewell.until = s.now.Add(time.Second)
			}
			out := s.hear(peer(test.heard))
			if s.state != test.want || s.diagnostic != test.diagnostic ||
				s.history.lastDown.Cause != test.cause {
				t.Errorf("got %s, %s, %q", s.state, s.diagnostic, s.history.lastDown.Cause)
			}
			if moved := test.our != test.want; out.send != moved || moved && out.packet.State != test.want {
				t.Errorf("6.8.7: a change is told at once, and only a change: %+v", out)
			}
			if s.remoteDiscr != 9 || s.remoteState != test.heard {
				t.Errorf("remote discriminator %d, state %s", s.remoteDiscr, s.remoteState)
			}
		})
	}
}

func TestTheFirstPackets(t *testing.T) {
	s := newSubject(t, fast())
	s.pass(3400 * ms)
	if len(s.sent) != 4 {
		t.Errorf("sent %d packets in 3.4 s, want 4: one at once and then one every 875 ms", len(s.sent))
	}
	for _, p := range s.sent {
		want := Packet{
			State:            Down,
			DetectMultiplier: 3,
			MyDiscriminator:  7,
			DesiredMinTx:     time.Second,
			RequiredMinRx:    100 * ms,
		}
		if p != want {
			t.Errorf("sent %+v, want %+v", p, want)
		}
	}
}

func TestUpIsTheIntervalThatWasSet(t *testing.T) {
	s := up(t, fast())
	s.pass(ms)
	s.hear(peer(Up))
	if p := s.packet(); p.DesiredMinTx != 100*ms || p.YourDiscriminator != 9 || p.State != Up {
		t.Errorf("says %+v", p)
	}
	if got := s.detectionTime(); got != 300*ms {
		t.Errorf("detection time %s", got)
	}
}

// TestNegotiatedIntervals is RFC 5880 6.8.2 and 6.8.4.
func TestNegotiatedIntervals(t *testing.T) {
	for _, test := range []struct {
		story              string
		ours               SessionConfig
		peerTx, peerRx     time.Duration
		peerMultiplier     uint8
		transmit, detector time.Duration
	}{
		{"equal", fast(), 100 * ms, 100 * ms, 3, 100 * ms, 300 * ms},
		{"the peer cannot receive so fast", fast(), 100 * ms, 400 * ms, 3, 400 * ms, 300 * ms},
		{"the peer does not want to send so fast", fast(), 500 * ms, 100 * ms, 3, 100 * ms, 1500 * ms},
		{"the peer sends faster than we want", fast(), 10 * ms, 10 * ms, 3, 100 * ms, 300 * ms},
		{"the peer's multiplier counts for us", fast(), 100 * ms, 100 * ms, 5, 100 * ms, 500 * ms},
		{"defaults", SessionConfig{}, 10 * ms, 10 * ms, 3, 300 * ms, 900 * ms},
	} {
		t.Run(test.story, func(t *testing.T) {
			s := up(t, test.ours)
			p := peer(Up)
			p.DesiredMinTx = test.peerTx
			p.RequiredMinRx = test.peerRx
			p.DetectMultiplier = test.peerMultiplier
			s.hear(p)
			if s.txInterval() != test.transmit || s.detectionTime() != test.detector {
				t.Errorf("got %s and %s, want %s and %s", s.txInterval(), s.detectionTime(), test.transmit,
					test.detector)
			}
		})
	}
}

func TestSilenceIsAFailure(t *testing.T) {
	s := up(t, fast())
	s.hear(peer(Up))
	s.pass(299 * ms)
	if s.state != Up {
		t.Fatal("down before the detection time")
	}
	s.clear()
	s.pass(ms)
	if s.state != Down || s.diagnostic != DiagTimeExpired || s.remoteDiscr != 0 {
		t.Errorf("after the detection time: %s, %s, discriminator %d", s.state, s.diagnostic, s.remoteDiscr)
	}
	if p := s.last(); p.State != Down || p.Diagnostic != DiagTimeExpired || p.DesiredMinTx != time.Second ||
		p.Poll {
		t.Errorf("told %+v", p)
	}
	if d := s.history.lastDown; d.Cause != CauseSilence || d.From != Up || !d.At.Equal(s.now) ||
		s.history.downs != 1 {
		t.Errorf("remembers %+v", s.history)
	}
	s.clear()
	s.pass(1800 * ms)
	if len(s.sent) != 2 {
		t.Errorf("%d packets in 1.8 s, want 2: not being Up means one a second (6.8.3)", len(s.sent))
	}
}

func TestSilenceInInitIsNoFallFromUp(t *testing.T) {
	s := newSubject(t, fast())
	s.hear(peer(Down))
	s.pass(time.Second)
	if s.state != Down || s.diagnostic != DiagTimeExpired || s.history.downs != 0 {
		t.Errorf("%s, %s, %+v", s.state, s.diagnostic, s.history)
	}
}

func TestADownPeerThatFallsSilentIsForgotten(t *testing.T) {
	s := newSubject(t, fast())
	p := peer(AdminDown)
	p.RequiredMinRx = 0
	s.hear(p)
	s.pass(299 * ms)
	if s.remoteDiscr != 9 {
		t.Fatal("forgotten too early")
	}
	s.clear()
	s.pass(2 * time.Second)
	if s.remoteDiscr != 0 || s.state != Down || s.diagnostic != DiagNone {
		t.Errorf("6.8.1: discriminator %d, %s, %s", s.remoteDiscr, s.state, s.diagnostic)
	}
	if len(s.sent) == 0 {
		t.Error("what a forgotten peer asked for is forgotten too")
	}
	if !s.history.peerAdminDown {
		t.Error("it is still true that it was shut down when it was heard last")
	}
}

func TestAPeerThatWantsNoPackets(t *testing.T) {
	s := up(t, fast())
	p := peer(Up)
	p.RequiredMinRx = 0
	for range 20 {
		s.hear(p)
		s.pass(100 * ms)
	}
	if len(s.sent) != 0 {
		t.Errorf("6.8.7: sent %d", len(s.sent))
	}
	p.Poll = true
	if out := s.hear(p); !out.send || !out.packet.Final {
		t.Error("a poll is answered all the same")
	}
	s.hear(peer(Down))
	if s.last().State != Down {
		t.Error("and a change of state told")
	}
}

func TestPassive(t *testing.T) {
	config := fast()
	config.Passive = true
	s := newSubject(t, config)
	s.pass(time.Minute)
	if len(s.sent) != 0 {
		t.Fatalf("6.8.7: sent %d before the peer spoke", len(s.sent))
	}
	s.hear(peer(Down))
	if s.state != Init || s.last().State != Init {
		t.Error("speaks when it is spoken to")
	}
	s.pass(time.Minute)
	n := len(s.sent)
	s.pass(time.Minute)
	if s.state != Down || len(s.sent) != n {
		t.Errorf("%s; falls silent again when the peer does", s.state)
	}
}

// TestDemand is RFC 5880 6.6 from the side that obeys.
func TestDemand(t *testing.T) {
	s := up(t, fast())
	p := peer(Up)
	p.Demand = true
	beat := func(n int) {
		for range n {
			s.hear(p)
			s.pass(100 * ms)
		}
	}
	beat(1)
	s.clear()
	beat(10)
	if len(s.sent) != 0 {
		t.Errorf("sent %d while the peer demands silence", len(s.sent))
	}
	p.Poll = true
	s.hear(p)
	p.Poll = false
	if len(s.sent) != 1 || !s.last().Final {
		t.Fatalf("a poll is answered once: %+v", s.sent)
	}
	s.clear()
	config := fast()
	config.ReceiveInterval = 200 * ms
	s.take(s.configure(s.now, config))
	beat(3)
	if len(s.sent) < 3 || !s.last().Poll {
		t.Fatalf("our own poll goes on until it is answered: %+v", s.sent)
	}
	p.Final = true
	beat(1)
	p.Final = false
	s.clear()
	beat(5)
	if len(s.sent) != 0 {
		t.Errorf("sent %d after the poll", len(s.sent))
	}
	p.State = Init
	beat(3)
	if len(s.sent) == 0 {
		t.Error("demand counts only while both are Up")
	}
	s.pass(time.Minute)
	if s.state != Down {
		t.Error("silence of a peer in demand mode is a failure")
	}
}

func TestAPollIsAnsweredAtOnceAndBesidesTheRest(t *testing.T) {
	s := up(t, fast())
	s.hear(peer(Up))
	due := s.sendAt
	p := peer(Up)
	p.Poll = true
	out := s.hear(p)
	if !out.send || !out.packet.Final || out.packet.Poll {
		t.Errorf("answered %+v", out)
	}
	if !s.sendAt.Equal(due) {
		t.Error("the periodic packet has moved")
	}
}

func TestAnAnswerDoesNotPoll(t *testing.T) {
	s := newSubject(t, fast())
	s.hear(peer(Down))
	p := peer(Up)
	p.Poll = true
	out := s.hear(p) // comes up, which is a change of interval
	if !out.packet.Final || out.packet.Poll || out.packet.State != Up {
		t.Errorf("P and F never go together (6.5): %+v", out.packet)
	}
	s.pass(100 * ms)
	if p := s.last(); !p.Poll || p.Final {
		t.Errorf("the next one polls: %+v", p)
	}
}

// TestSlowerOnlyWhenThePeerKnows is RFC 5880 6.8.3.
func TestSlowerOnlyWhenThePeerKnows(t *testing.T) {
	s := up(t, fast())
	slow := fast()
	slow.TransmitInterval = 500 * ms
	s.take(s.configure(s.now, slow))
	if p := s.last(); p.DesiredMinTx != 500*ms || !p.Poll {
		t.Fatalf("told %+v", p)
	}
	if s.txInterval() != 100*ms {
		t.Error("slower before the peer knows")
	}
	p := peer(Up)
	p.Final = true
	s.hear(p)
	if s.txInterval() != 500*ms || s.packet().Poll {
		t.Error("not slower when it does")
	}
	s.take(s.configure(s.now, fast()))
	if s.txInterval() != 100*ms || s.sendAt.Sub(s.lastSent) > 100*ms {
		t.Error("faster is at once")
	}
}

func TestExpectMoreOnlyWhenThePeerKnows(t *testing.T) {
	config := fast()
	config.ReceiveInterval = time.Second
	s := up(t, config)
	s.hear(peer(Up))
	if s.detectionTime() != 3*time.Second {
		t.Fatal(s.detectionTime())
	}
	s.take(s.configure(s.now, fast()))
	if s.detectionTime() != 3*time.Second || s.last().RequiredMinRx != 100*ms {
		t.Error("expects more before the peer knows")
	}
	p := peer(Up)
	p.Final = true
	s.hear(p)
	if s.detectionTime() != 300*ms || !s.detectAt.Equal(s.now.Add(300*ms)) {
		t.Error("does not when it does")
	}
	s.take(s.configure(s.now, config))
	if s.detectionTime() != 3*time.Second || !s.detectAt.Equal(s.now.Add(3*time.Second)) {
		t.Error("expecting less is at once")
	}
}

func TestAMultiplierNeedsNoPoll(t *testing.T) {
	s := up(t, fast())
	config := fast()
	config.DetectMultiplier = 7
	s.take(s.configure(s.now, config))
	if p := s.last(); p.DetectMultiplier != 7 || p.Poll {
		t.Errorf("6.8.12: told %+v", p)
	}
}

func TestAFasterPeerIsServedAtOnce(t *testing.T) {
	s := up(t, fast())
	p := peer(Up)
	p.RequiredMinRx = 10 * time.Second
	s.hear(p)
	s.pass(200 * ms)
	s.clear()
	s.hear(peer(Up))
	if wait := s.sendAt.Sub(s.lastSent); wait > 100*ms {
		t.Errorf("6.8.3: the next packet is %s after the last", wait)
	}
}

func TestJitter(t *testing.T) {
	for _, test := range []struct {
		multiplier  uint8
		least, most time.Duration
	}{
		{3, 75 * ms, 100 * ms},
		{1, 75 * ms, 90 * ms},
	} {
		s := newSubject(t, SessionConfig{DetectMultiplier: test.multiplier})
		for _, end := range []struct {
			random float64
			want   time.Duration
		}{{0, test.least}, {1, test.most}} {
			s.random = func() float64 { return end.random }
			if got := s.jitter(100 * ms); got != end.want {
				t.Errorf("multiplier %d: %s, want %s", test.multiplier, got, end.want)
			}
		}
		s.random = random
		for range 1000 {
			if got := s.jitter(100 * ms); got < test.least || got > test.most {
				t.Fatalf("multiplier %d: %s", test.multiplier, got)
			}
		}
	}
}

func TestAdminDownOfThePeerIsNoFailure(t *testing.T) {
	s := up(t, fast())
	out := s.hear(peer(AdminDown))
	var status Status
	s.fill(&status)
	if !out.changed || status.State != Down || status.Diagnostic != DiagNeighborDown || status.Failed() ||
		!status.PeerAdminDown {
		t.Errorf("%+v", status)
	}
	s.pass(time.Minute)
	s.fill(&status)
	if status.Failed() || !status.PeerAdminDown {
		t.Errorf("nor when the peer falls silent after it: %+v", status)
	}
	s.hear(peer(Down))
	s.hear(peer(Up))
	s.fill(&status)
	if status.State != Up || status.PeerAdminDown {
		t.Errorf("and it comes back: %+v", status)
	}
	s.hear(peer(Down))
	s.fill(&status)
	if !status.Failed() || status.Downs != 2 {
		t.Errorf("Down is a failure: %+v", status)
	}
	s.hear(peer(AdminDown))
	s.fill(&status)
	if status.Failed() {
		t.Error("until somebody shuts it down")
	}
}

// TestLeave is RFC 5880 6.8.16.
func TestLeave(t *testing.T) {
	t.Run("the peer answers", func(t *testing.T) {
		s := up(t, fast())
		s.take(s.leave(s.now))
		want := Packet{
			State:             AdminDown,
			Diagnostic:        DiagAdminDown,
			DetectMultiplier:  3,
			MyDiscriminator:   7,
			YourDiscriminator: 9,
			DesiredMinTx:      time.Second,
			RequiredMinRx:     100 * ms,
		}
		if len(s.sent) != 1 || s.last() != want || s.gone(s.now) {
			t.Fatalf("sent %+v", s.sent)
		}
		s.hear(peer(Up)) // was on its way
		if s.gone(s.now) {
			t.Error("gone while the peer thinks it is up")
		}
		s.hear(peer(Down))
		if !s.gone(s.now) {
			t.Error("not gone when the peer knows")
		}
	})
	t.Run("the peer does not answer", func(t *testing.T) {
		s := up(t, fast())
		s.take(s.leave(s.now))
		s.pass(299 * ms)
		if len(s.sent) != 3 || s.gone(s.now) {
			t.Errorf("told %d times in a detection time, want 3", len(s.sent))
		}
		s.pass(ms)
		if !s.gone(s.now) || len(s.sent) != 3 {
			t.Error("stays for ever")
		}
	})
	t.Run("there was never a peer", func(t *testing.T) {
		s := newSubject(t, fast())
		if out := s.leave(s.now); out.send || !s.gone(s.now) {
			t.Errorf("told nobody %+v", out)
		}
	})
}

func TestAuthenticationIsRefused(t *testing.T) {
	s := up(t, fast())
	p := peer(Down)
	p.Authenticated = true
	if verdict, out := s.receive(s.now, p); verdict != Authenticated || out != (outcome{}) || s.state != Up {
		t.Errorf("got %s %+v", verdict, out)
	}
}

func TestARestartedPeer(t *testing.T) {
	s := up(t, fast())
	p := peer(Down)
	p.MyDiscriminator, p.YourDiscriminator = 10, 0
	s.hear(p)
	if s.state != Down || s.remoteDiscr != 10 || s.history.lastDown.Cause != CausePeerDown {
		t.Fatalf("%s, %d, %+v", s.state, s.remoteDiscr, s.history)
	}
	s.hear(p)
	p.State = Init
	p.YourDiscriminator = 7
	s.hear(p)
	if s.state != Up || s.history.ups != 2 {
		t.Errorf("%s after it came back", s.state)
	}
}

func TestEchoIsOfferedWhenAsked(t *testing.T) {
	s := newSubject(t, fast())
	if s.packet().RequiredMinEchoRx != 0 {
		t.Error("offered without EchoMode")
	}
	config := fast()
	config.EchoMode = true
	s.configure(s.now, config)
	if got := s.packet().RequiredMinEchoRx; got != 50*ms {
		t.Errorf("offered every %s", got)
	}
}

// TestPollSequences: answers to an earlier sequence do not end a later one.
func TestPollSequences(t *testing.T) {
	for _, test := range []struct {
		story string
		// s: start, p: a packet with Poll, f: an answer that ends nothing, F: one
		// that ends the sequence.
		script string
	}{
		{"asked and answered", "s p F"},
		{"asked three times, answered three times", "s p p p F f f"},
		{"an answer before anybody asked", "s f p F"},
		{"an answer from nowhere", "f"},
		{"a change while under way: another sequence", "s p s f p F"},
		{"with an answer of the first under way", "s p p s f f p f F"},
		{"a new one while answers of the last are under way", "s p p p F s p f f F"},
		{"answers that were lost cost some packets", "s p p p p p p F s p f p f p f p F"},
	} {
		t.Run(test.story, func(t *testing.T) {
			var p poll
			for i, op := range test.script {
				switch op {
				case 's':
					p.start()
				case 'p':
					p.sent()
				case 'f', 'F':
					if got := p.answered(); got != (op == 'F') {
						t.Fatalf("answer %d of %q ended a sequence: %t", i, test.script, got)
					}
				}
			}
			if p.active {
				t.Errorf("still active: %+v", p)
			}
		})
	}
}

// TestWatchersHearThatAPeerIsHeard: also while the session is down, since who waits
// for a peer wants to know whether there is one.
func TestWatchersHearThatAPeerIsHeard(t *testing.T) {
	s := newSubject(t, fast())
	shut := peer(AdminDown)
	for range 2 {
		if out := s.hear(shut); !out.changed || s.state != Down || s.remoteDiscr == 0 {
			t.Errorf("a peer that is shut down is heard, told: %v: %+v", out.changed, s.session)
		}
		if out := s.hear(shut); out.changed {
			t.Error("the same again is told")
		}
		told := false
		for range 20 {
			before := s.visible()
			s.pass(100 * ms)
			told = told || s.visible() != before
		}
		if !told || s.remoteDiscr != 0 {
			t.Errorf("the peer is silent, told: %v: %+v", told, s.session)
		}
	}
	// One that goes from Up to silence was Down when it was heard last.
	s = up(t, fast())
	s.hear(peer(Down))
	s.now = s.now.Add(time.Minute)
	if out := s.take(s.tick(s.now)); !out.changed {
		t.Error("that a peer that was Down is heard no more is not told")
	}
}
