package announcer

import (
	"math/rand/v2"
	"time"
)

// sendDue sends announcements as far as they are due and the pacers let them. None
// are sent, and none are lost but defences, while the announcer is suspended.
func (l *loop) sendDue(now time.Time) {
	l.takeDefences()
	began := false
	for l.a.guard.open() {
		why, ok := l.bursts.peek(now)
		nobodyWaits := why == burstRepeats || why == refreshes
		if !ok || nobodyWaits && !l.repeats.AllowN(now, 1) || !l.pacer.AllowN(now, 1) {
			break
		}
		key, _ := l.bursts.take(now)
		began = l.send(key, why) || began
	}
	if began {
		l.a.changed.Set()
	}
}

// takeDefences schedules the defences that readers ask for.
func (l *loop) takeDefences() {
	l.a.mu.Lock()
	defences := l.a.defences
	l.a.defences = nil
	l.a.mu.Unlock()
	for _, key := range defences {
		l.bursts.defend(key)
	}
}

// send announces one address once, and reports whether it was for the first time.
// It may have been withdrawn since the last pass.
func (l *loop) send(key burstKey, why occasion) (first bool) {
	p, open := l.ports.Get(key.port)
	if !open {
		return false
	}
	how, ok := l.a.answer(key.addr, key.port.link)
	if !ok || !how.announces() && !(why == defends && how.defends()) {
		return false
	}
	if !p.sendAnnouncement(key.addr) {
		return false
	}
	p.counters.count(why)
	l.a.mu.Lock()
	defer l.a.mu.Unlock()
	live, ok := l.a.live[key]
	if !ok || !live.announced.IsZero() {
		return false
	}
	live.announced = time.Now()
	l.a.live[key] = live
	return true
}

// jitter shifts d by up to a quarter of it in either direction.
func jitter(d time.Duration) time.Duration {
	if d < 4 {
		return d
	}
	return d - d/4 + rand.N(d/2)
}
