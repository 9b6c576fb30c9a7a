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

	"github.com/berth-lb/berth/pkg/membership/kv"
)

const (
	// coalesce is how long entries wait for others after some were sent. An entry that is
	// published after a quiet time goes at once.
	coalesce = 5 * time.Millisecond
	// directly is how many members get entries sent directly; when there are more, these
	// are chosen at random and the others learn by gossip.
	directly = 32
	// retransmit times the logarithm of the number of members is how often each member
	// gossips an entry, as memberlist does with its own news.
	retransmit = 4
	// minMessage is the room in bytes below which nothing is tried.
	minMessage = 32
	// maxMessage is the largest message that goes into a datagram, in bytes. With what
	// memberlist and IPv6 put around it, it fits into an Ethernet frame.
	maxMessage = 1200
	// maxState is the largest whole state that is exchanged, in bytes; memberlist
	// refuses more than 20 MiB.
	maxState = 16 << 20
)

// spreader sends what this member publishes directly to the others.
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
		case <-s.view.outgoing.C():
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

// deliver is best effort: an error means that a datagram could not be sent, as it may
// get lost; gossip and the exchange of whole states repair both.
func (s *spreader) deliver(messages [][]byte, to []*memberlist.Node) {
	for _, message := range messages {
		for _, node := range to {
			_ = s.send(node, message)
		}
	}
}

// leave sends all others, also those thought dead, what they may not have received yet,
// and that this member leaves. It does so twice, as datagrams get lost.
func (s *spreader) leave() {
	messages, to := s.view.takePending(true)
	for range 2 {
		s.deliver(messages, to)
	}
}

// takePending returns what this member has to send, in messages, and to whom, and leaves
// it to gossip too. When it leaves, what gossip has not done with goes along.
func (v *view) takePending(leaving bool) ([][]byte, []*memberlist.Node) {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	if leaving {
		for _, key := range v.queue.Of(v.self) {
			v.pending[key] = true
		}
	}
	keys := slices.Sorted(maps.Keys(v.pending))
	if leaving {
		// Whoever learns that this member leaves should know the rest by then.
		keys = append(slices.DeleteFunc(keys, func(key string) bool { return key == lifeKey }), lifeKey)
	}
	var messages [][]byte
	p := kv.NewPacker(maxMessage)
	for _, key := range keys {
		e, ok := v.store.Get(v.self, key)
		if !ok {
			continue
		}
		v.queue.Add(kv.Ref{Member: v.self, Key: key})
		if !p.Add(now, v.section(v.self, now), key, e) {
			messages = append(messages, p.Message())
			p = kv.NewPacker(maxMessage)
			p.Add(now, v.section(v.self, now), key, e)
		}
	}
	clear(v.pending)
	if m := p.Message(); m != nil {
		messages = append(messages, m)
	}
	return messages, v.recipients(leaving)
}

// recipients returns the other members to send to: those alive, or with all set all
// whose address is known. These may be alive, and see this member alive, although it does
// not see them.
func (v *view) recipients(all bool) []*memberlist.Node {
	var out []*memberlist.Node
	for name, m := range v.members {
		if name != v.self && (m.alive || all && m.addr.IsValid()) {
			out = append(out, &memberlist.Node{
				Name: name,
				Addr: m.addr.Addr().AsSlice(),
				Port: m.addr.Port(),
				PMax: m.protocol,
			})
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
	if v.queue.Empty() || limit-overhead < minMessage {
		return nil
	}
	alive := 0
	for _, m := range v.members {
		if m.alive {
			alive++
		}
	}
	p := kv.NewPacker(min(limit-overhead, maxMessage))
	v.queue.Fill(transmissions(alive), func(r kv.Ref) kv.Placement {
		e, ok := v.store.Get(r.Member, r.Key)
		switch {
		case !ok:
			return kv.Vanished
		case !p.Add(now, v.section(r.Member, now), r.Key, e):
			return kv.Full
		default:
			return kv.Placed
		}
	})
	if m := p.Message(); m != nil {
		return [][]byte{m}
	}
	return nil
}

func transmissions(members int) int {
	return retransmit * max(1, int(math.Ceil(math.Log10(float64(members+1)))))
}

// LocalState implements memberlist.Delegate: it returns everything that is known, that
// of this member first.
func (v *view) LocalState(bool) []byte {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	others := slices.DeleteFunc(v.store.Members(), func(name string) bool { return name == v.self })
	if len(others) > 0 {
		// Should it be too much, each is left out at times only.
		v.turn = (v.turn + 1) % len(others)
		others = slices.Concat(others[v.turn:], others[:v.turn])
	}
	p := kv.NewPacker(v.maxState)
	for _, name := range slices.Concat([]string{v.self}, others) {
		of := v.section(name, now)
		for _, key := range v.store.Keys(name) {
			e, _ := v.store.Get(name, key)
			if !p.Add(now, of, key, e) {
				v.cut = true
				return p.Message()
			}
		}
	}
	return p.Message()
}
