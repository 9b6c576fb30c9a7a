package membership

import (
	"cmp"
	"context"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// coalesce is how long statements wait for others after some were sent. What is
	// said after a quiet time goes at once.
	coalesce = 5 * time.Millisecond
	// directly is how many fellows get statements sent directly; when there are more,
	// these are chosen at random and the others hear by gossip.
	directly = 32
	// retransmit times the logarithm of the number of members is how often each
	// member gossips a statement, as memberlist does with its own news.
	retransmit = 4
	// minMessage is the room in bytes below which nothing is tried.
	minMessage = 32
	// maxState is the largest whole state that is exchanged, in bytes; memberlist
	// refuses more than 20 MiB.
	maxState = 16 << 20
)

// spreader sends what this member says directly to its fellows.
type spreader struct {
	view *view
	send func(to *memberlist.Node, message []byte) error
}

// run sends until ctx ends.
func (s *spreader) run(ctx context.Context) {
	pause := time.NewTimer(coalesce)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.view.spread:
		}
		s.deliver(s.view.takePending(false))
		pause.Reset(coalesce)
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}

// deliver is best effort: an error means that a datagram could not be sent, as it
// may get lost; gossip and the exchange of whole states repair both.
func (s *spreader) deliver(messages [][]byte, fellows []*memberlist.Node) {
	for _, message := range messages {
		for _, fellow := range fellows {
			_ = s.send(fellow, message)
		}
	}
}

// goodbye tells all fellows, also those thought dead, what they may not have heard yet, and that this member
// leaves. Twice, as datagrams get lost.
func (s *spreader) goodbye() {
	messages, fellows := s.view.takePending(true)
	for range 2 {
		s.deliver(messages, fellows)
	}
}

// takePending returns what this member has to say, in messages, and to whom, and
// leaves it to gossip too. With the last words comes what gossip has not done with.
func (v *view) takePending(last bool) ([][]byte, []*memberlist.Node) {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	if last {
		for r := range v.outbox.latest {
			if r.member == v.self {
				v.pending[r.key] = true
			}
		}
	}
	keys := slices.Sorted(maps.Keys(v.pending))
	if last {
		// Whoever hears the goodbye should have heard the rest.
		keys = append(slices.DeleteFunc(keys, func(key string) bool { return key == lifeKey }), lifeKey)
	}
	var messages [][]byte
	p := newPacker(maxMessage)
	for _, key := range keys {
		e, ok := v.store.get(v.self, key)
		if !ok {
			continue
		}
		v.outbox.add(ref{v.self, key})
		if !p.add(now, v.about(v.self, now), key, e) {
			messages = append(messages, p.message())
			p = newPacker(maxMessage)
			p.add(now, v.about(v.self, now), key, e)
		}
	}
	clear(v.pending)
	if m := p.message(); m != nil {
		messages = append(messages, m)
	}
	return messages, v.recipients(last)
}

// recipients returns the fellows to send to: those alive, or all of whom an address
// is known. They may be alive and think so of this member, too, although it cannot
// tell.
func (v *view) recipients(all bool) []*memberlist.Node {
	var out []*memberlist.Node
	for name, p := range v.people {
		switch {
		case name == v.self:
		case p.alive:
			out = append(out, new(p.node))
		case all && p.addr.IsValid():
			out = append(out, &memberlist.Node{Name: name, Addr: p.addr.Addr().AsSlice(), Port: p.addr.Port()})
		}
	}
	if len(out) > directly && !all {
		rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
		out = out[:directly]
	}
	slices.SortFunc(out, func(a, b *memberlist.Node) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// GetBroadcasts implements memberlist.Delegate: it fills what is left of a packet.
func (v *view) GetBroadcasts(overhead, limit int) [][]byte {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	alive := 0
	for _, p := range v.people {
		if p.alive {
			alive++
		}
	}
	if limit-overhead < minMessage {
		return nil
	}
	p := newPacker(min(limit-overhead, maxMessage))
	v.outbox.fill(transmissions(alive), func(r ref) placing {
		e, ok := v.store.get(r.member, r.key)
		switch {
		case !ok:
			return vanished
		case !p.add(now, v.about(r.member, now), r.key, e):
			return full
		default:
			return placed
		}
	})
	if m := p.message(); m != nil {
		return [][]byte{m}
	}
	return nil
}

func transmissions(members int) int {
	return retransmit * max(1, int(math.Ceil(math.Log10(float64(members+1)))))
}

// LocalState implements memberlist.Delegate: everything that is known, that of this
// member first.
func (v *view) LocalState(bool) []byte {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	others := slices.Sorted(maps.Keys(v.store.books))
	others = slices.DeleteFunc(others, func(name string) bool { return name == v.self })
	if len(others) > 0 {
		// Should it be too much, each is left out at times only.
		v.turn = (v.turn + 1) % len(others)
		others = slices.Concat(others[v.turn:], others[:v.turn])
	}
	p := newPacker(v.maxState)
	for _, name := range slices.Concat([]string{v.self}, others) {
		of := v.about(name, now)
		for _, key := range v.store.keys(name) {
			e, _ := v.store.get(name, key)
			if !p.add(now, of, key, e) {
				v.cut = true
				return p.message()
			}
		}
	}
	return p.message()
}
