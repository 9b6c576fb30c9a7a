package prober

import (
	"cmp"
	"hash/fnv"
	"net"
	"net/netip"
	"slices"
	"time"
)

// slotCount is into how many slots an interval is divided. Probes that fall
// into one slot are sent together, so that hundreds of targets cost few wake-ups.
const slotCount = 8

// book keeps what is known of the targets of one protocol on one link. It is
// pure: the caller has the clock and the socket.
//
// Each target has a phase of the interval at which it is probed. When its next
// turn comes, pass first judges the probe before.
type book struct {
	interval time.Duration
	misses   int
	epoch    time.Time
	// tracks are sorted by node, then by address.
	tracks []*track
	// news is true when something of what Changed tells has changed.
	news bool
}

// trackKey is what makes two targets of one link the same.
type trackKey struct {
	node string
	addr netip.Addr
}

func (k trackKey) compare(o trackKey) int {
	return cmp.Or(cmp.Compare(k.node, o.node), k.addr.Compare(o.addr))
}

// track is what is known of one target.
type track struct {
	trackKey
	on  string // the link of the node
	mac net.HardwareAddr
	// frame is the probe; nil as long as none can be sent.
	frame []byte
	phase time.Duration
	due   time.Time
	// sent is when the probe was sent that has no answer yet, zero without one.
	sent time.Time
	// known is true when it has answered since it became a target.
	known      bool
	lastAnswer time.Time
	// missed probes in a row had no answer. void probes in a row told nothing:
	// they could not be sent, or frames were lost before they could be read.
	missed, void int
}

// reach is the state of the target alone.
func (t *track) reach(misses int) Reach {
	r := Reach{LastAnswer: t.lastAnswer, Missed: t.missed}
	switch {
	case !t.known:
		r.State = Unknown
	case t.missed < misses:
		r.State = Answers
	default:
		r.State = Silent
	}
	return r
}

// outlook is the part of a Reach that is worth telling.
type outlook struct {
	state  Reachability
	missed bool
}

func outlookOf(r Reach) outlook { return outlook{r.State, r.Missed > 0} }

func newBook(interval time.Duration, misses int, now time.Time) *book {
	return &book{interval: interval, misses: misses, epoch: now}
}

// set makes the targets exactly these; of two that are the same the first counts.
func (b *book) set(targets []Target) {
	old := b.tracks
	b.tracks = make([]*track, 0, len(targets))
	for _, target := range targets {
		key := trackKey{target.Node, target.Addr}
		t := &track{trackKey: key, phase: b.phase(key)}
		at, ok := slices.BinarySearchFunc(old, key, func(t *track, k trackKey) int { return t.compare(k) })
		if ok {
			t = old[at]
		}
		t.mac, t.on = target.MAC, target.On
		b.tracks = append(b.tracks, t)
	}
	slices.SortStableFunc(b.tracks, func(x, y *track) int { return x.compare(y.trackKey) })
	b.tracks = slices.CompactFunc(b.tracks, func(x, y *track) bool { return x.trackKey == y.trackKey })
}

// phase spreads targets over the interval, always in the same way.
func (b *book) phase(key trackKey) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key.node))
	_, _ = h.Write(key.addr.AsSlice())
	sum := h.Sum32()
	sum ^= sum >> 16 // the low bits alone are poorly mixed
	sum ^= sum >> 8
	return b.interval * time.Duration(sum%slotCount) / slotCount
}

// turn is the first turn of the target that is not before a time.
func (b *book) turn(t *track, notBefore time.Time) time.Time {
	first := b.epoch.Add(t.phase)
	ahead := notBefore.Sub(first)
	turns := ahead / b.interval
	if ahead > turns*b.interval {
		turns++
	}
	return first.Add(turns * b.interval)
}

// frames gives each target its probe: what make returns, nil when the target
// cannot be asked. A target that can be asked for the first time gets a turn.
func (b *book) frames(now time.Time, makeFrame func(*track) []byte) {
	for _, t := range b.tracks {
		could := t.frame != nil
		t.frame = makeFrame(t)
		switch {
		case t.frame == nil:
			b.forget(t)
		case !could:
			t.due = b.turn(t, now)
		}
	}
}

// next returns when the next turn of a target comes, false when none will.
func (b *book) next() (time.Time, bool) {
	var next time.Time
	for _, t := range b.tracks {
		if t.frame != nil && (next.IsZero() || t.due.Before(next)) {
			next = t.due
		}
	}
	return next, !next.IsZero()
}

// answered notes an answer of an address and returns how many targets have it.
func (b *book) answered(addr netip.Addr, now time.Time) int {
	n := 0
	for _, t := range b.tracks {
		if t.addr != addr {
			continue
		}
		n++
		b.change(t, func() {
			t.known = true
			t.lastAnswer = now
			t.sent = time.Time{}
			t.missed, t.void = 0, 0
		})
	}
	return n
}

// pass judges the probes of all targets whose turn has come and returns those
// targets, to be probed now, and the number of misses. The caller has read the
// queue empty after it looked at the clock for now; lost says that the kernel
// dropped frames of that queue, so that an answer may have been among them.
func (b *book) pass(now time.Time, lost bool) (turn []*track, misses int) {
	for _, t := range b.tracks {
		if t.frame == nil || t.due.After(now) {
			continue
		}
		switch {
		case t.sent.IsZero():
			// Answered, or never sent.
		case lost:
			b.voided(t)
		default:
			misses++
			b.change(t, func() { t.missed++; t.void = 0 })
		}
		t.sent = time.Time{}
		t.due = b.turn(t, now.Add(b.interval/2))
		turn = append(turn, t)
	}
	return turn, misses
}

// probed notes that a probe was sent, or could not be. The next turn leaves an
// answer at least three quarters of an interval: after a delay a turn is left
// out, and never are two probes sent close to each other to make up for it.
func (b *book) probed(t *track, now time.Time, sent bool) {
	if sent {
		t.sent = now
	} else {
		b.voided(t)
	}
	t.due = b.turn(t, now.Add(b.interval*3/4))
}

// voided notes that a probe told nothing. After as many in a row as make a node
// silent, what was known before is too old to be told.
func (b *book) voided(t *track) {
	t.void++
	if t.void >= b.misses {
		b.forget(t)
	}
}

// forget makes a target unknown.
func (b *book) forget(t *track) {
	b.change(t, func() {
		t.known = false
		t.sent = time.Time{}
		t.missed, t.void = 0, 0
	})
}

// invalidate makes all targets unknown and takes their probes away: the link is gone.
func (b *book) invalidate() {
	for _, t := range b.tracks {
		t.frame = nil
		b.forget(t)
	}
}

// dropInFlight forgets the probes on their way, whose answers cannot be read any
// more, and nothing else: the socket is replaced.
func (b *book) dropInFlight() {
	for _, t := range b.tracks {
		t.sent = time.Time{}
	}
}

// change changes a target and notes whether that is news.
func (b *book) change(t *track, do func()) {
	before := outlookOf(t.reach(b.misses))
	do()
	if outlookOf(t.reach(b.misses)) != before {
		b.news = true
	}
}

// addTo adds what is known of the targets to what is known of the nodes.
func (b *book) addTo(nodes map[string]Reach) {
	for _, t := range b.tracks {
		r := t.reach(b.misses)
		if other, ok := nodes[t.node]; ok {
			r = bestReach(r, other)
		}
		nodes[t.node] = r
	}
}

// bestReach is what two ways to ask a node say together.
func bestReach(a, b Reach) Reach {
	rank := func(r Reachability) int { return slices.Index([]Reachability{Unknown, Silent, Answers}, r) }
	best := a
	switch order := cmp.Compare(rank(a.State), rank(b.State)); {
	case order < 0:
		best = b
	case order == 0:
		best.Missed = min(a.Missed, b.Missed)
	}
	if best.LastAnswer = a.LastAnswer; b.LastAnswer.After(a.LastAnswer) {
		best.LastAnswer = b.LastAnswer
	}
	return best
}
