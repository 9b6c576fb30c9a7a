package bfd

import (
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// pair is two sessions with a path between them that takes a while, can be cut
// in each direction, and keeps the order of packets.
type pair struct {
	t     *rapid.T
	now   time.Time
	ends  [2]*session
	cut   [2]bool // of what the end sends
	delay time.Duration
	air   []flying
	// late is by how much timers may be late.
	late  time.Duration
	count int
	// last and lastAt are of the last packet of each end that was no answer.
	lastAt [2]time.Time
	last   [2]Packet
}

type flying struct {
	to int
	at time.Time
	p  Packet
}

func newPair(t *rapid.T, configs [2]SessionConfig) *pair {
	p := &pair{t: t, now: t0, delay: 2 * ms, late: 5 * ms}
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)).Float64
	for i := range p.ends {
		p.ends[i] = newSession(t0, sessionStart{configs[i], uint32(100 + i), random})
	}
	return p
}

func (p *pair) take(from int, out outcome) {
	if !out.send {
		return
	}
	p.count++
	if out.packet.Poll && out.packet.Final {
		p.t.Fatal("a packet with Poll and Final")
	}
	if out.packet.MyDiscriminator != uint32(100+from) {
		p.t.Fatalf("the discriminator is %d now", out.packet.MyDiscriminator)
	}
	p.checkRate(from, out.packet)
	if !p.cut[from] {
		p.air = append(p.air, flying{1 - from, p.now.Add(p.delay), out.packet})
	}
}

// checkRate: packets that say nothing new keep three quarters of the interval
// that was agreed on (RFC 5880 6.8.7).
func (p *pair) checkRate(from int, packet Packet) {
	if packet.Final {
		return
	}
	if e := p.ends[from]; packet == p.last[from] && p.now.Sub(p.lastAt[from]) < e.txInterval()*3/4 {
		p.t.Fatalf("end %d repeats itself after %s at %s", from, p.now.Sub(p.lastAt[from]), e.txInterval())
	}
	p.last[from], p.lastAt[from] = packet, p.now
}

// pass lets time go by. Packets that have arrived are received before timers
// are looked at, as the loop does it.
func (p *pair) pass(d time.Duration) {
	end := p.now.Add(d)
	for steps := 0; ; steps++ {
		if steps > 200_000 {
			p.t.Fatal("no end of it")
		}
		next, who := end, -1
		for i, e := range p.ends {
			if at := e.next(); !at.IsZero() {
				if at = at.Add(p.late); at.Before(next) {
					next, who = at, i
				}
			}
		}
		if len(p.air) > 0 && !p.air[0].at.After(next) {
			f := p.air[0]
			p.air = p.air[1:]
			p.now = later(p.now, f.at)
			_, out := p.ends[f.to].receive(p.now, f.p)
			p.take(f.to, out)
			continue
		}
		p.now = later(p.now, next)
		if who < 0 {
			return
		}
		p.take(who, p.ends[who].tick(p.now))
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (p *pair) bothUp() bool { return p.ends[0].state == Up && p.ends[1].state == Up }

func drawConfig(t *rapid.T, who string) SessionConfig {
	return SessionConfig{
		ReceiveInterval: time.Duration(rapid.SampledFrom([]int{50, 100, 300, 1000, 3000}).Draw(t,
			who+" receives")) * ms,
		TransmitInterval: time.Duration(rapid.SampledFrom([]int{50, 100, 300, 1000, 3000}).Draw(t,
			who+" sends")) * ms,
		DetectMultiplier: uint8(rapid.IntRange(2, 5).Draw(t, who+" multiplies")),
	}
}

// TestNothingButThePathTakesSessionsDown: whatever intervals are set when, at
// which end and how often, a session that is Up stays Up, and both ends agree
// in the end. When the path is cut, both are down after the detection time; when
// it is mended, both come up.
func TestNothingButThePathTakesSessionsDown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		configs := [2]SessionConfig{drawConfig(t, "a"), drawConfig(t, "b")}
		p := newPair(t, configs)
		p.delay = time.Duration(rapid.SampledFrom([]int{1, 40, 300}).Draw(t, "delay")) * ms
		p.pass(20 * time.Second)
		if !p.bothUp() {
			t.Fatalf("not up: %s and %s", p.ends[0].state, p.ends[1].state)
		}
		for range rapid.IntRange(0, 8).Draw(t, "changes") {
			i := rapid.IntRange(0, 1).Draw(t, "end")
			configs[i] = drawConfig(t, "it")
			p.take(i, p.ends[i].configure(p.now, configs[i]))
			p.pass(time.Duration(rapid.SampledFrom([]int{0, 1, 10, 60, 150, 400, 1000, 3000}).Draw(t,
				"pause")) * ms)
			if p.ends[0].history.downs+p.ends[1].history.downs > 0 || !p.bothUp() {
				t.Fatal("a change took the session down")
			}
		}
		p.pass(30 * time.Second)
		p.checkAgreement(configs)
		p.checkCut(rapid.SampledFrom([][2]bool{{true, true}, {true, false}, {false, true}}).Draw(t, "cut"))
	})
}

// checkAgreement: every poll is over and what is in force is what was set.
func (p *pair) checkAgreement(configs [2]SessionConfig) {
	if !p.bothUp() || p.ends[0].history.downs+p.ends[1].history.downs > 0 {
		p.t.Fatal("went down by itself")
	}
	for i, e := range p.ends {
		c, other := configs[i], configs[1-i]
		if e.poll.active || e.txInterval() != max(c.TransmitInterval, other.ReceiveInterval) {
			p.t.Fatalf("end %d sends every %s, polling %t; set were %+v", i, e.txInterval(), e.poll.active,
				configs)
		}
		if want := time.Duration(other.DetectMultiplier) * max(c.ReceiveInterval,
			other.TransmitInterval); e.detectionTime() != want {
			p.t.Fatalf("end %d detects after %s, want %s", i, e.detectionTime(), want)
		}
	}
}

// checkCut cuts what one or both ends send, and mends it.
func (p *pair) checkCut(cut [2]bool) {
	longest := max(p.ends[0].detectionTime(), p.ends[1].detectionTime())
	p.cut = cut
	// Who still hears is told by the other end.
	p.pass(longest + 2*p.delay + 2*p.late + ms)
	for i, e := range p.ends {
		if e.state == Up || e.history.downs != 1 {
			p.t.Fatalf("end %d is %s after %s of cut %v", i, e.state, longest, cut)
		}
	}
	p.pass(10 * time.Second)
	if p.ends[0].state == Up || p.ends[1].state == Up {
		p.t.Fatal("up over half a path")
	}
	p.cut = [2]bool{}
	p.pass(30 * time.Second)
	if !p.bothUp() {
		p.t.Fatalf("not up again: %s and %s", p.ends[0].state, p.ends[1].state)
	}
}

// TestLossBelowTheMultiplier: lost packets, fewer in a row than the multiplier,
// take nothing down and leave no poll without an end.
func TestLossBelowTheMultiplier(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		config := SessionConfig{ReceiveInterval: 50 * ms, TransmitInterval: 100 * ms, DetectMultiplier: 4}
		p := newPair(t, [2]SessionConfig{config, config})
		p.pass(5 * time.Second)
		for range 10 {
			if rapid.Bool().Draw(t, "change") {
				i := rapid.IntRange(0, 1).Draw(t, "end")
				changed := config
				changed.TransmitInterval = time.Duration(rapid.IntRange(100, 1000).Draw(t, "interval")) * ms
				p.cut[i] = rapid.Bool().Draw(t, "the news is lost")
				p.take(i, p.ends[i].configure(p.now, changed))
			}
			p.cut = [2]bool{rapid.Bool().Draw(t, "a is lost"), rapid.Bool().Draw(t, "b is lost")}
			p.pass(180 * ms)
			p.cut = [2]bool{}
			p.pass(time.Duration(rapid.IntRange(1010, 1500).Draw(t, "good time")) * ms)
		}
		p.pass(5 * time.Second)
		if !p.bothUp() || p.ends[0].history.downs+p.ends[1].history.downs > 0 {
			t.Fatal("loss took the session down")
		}
		if p.ends[0].poll.active || p.ends[1].poll.active {
			t.Fatal("a poll without end")
		}
	})
}
