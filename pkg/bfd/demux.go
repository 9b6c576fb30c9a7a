package bfd

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// entry is a session with what the speaker has for it.
type entry struct {
	key     Key
	session *session
	// sender is nil while it cannot be opened; link is the index of the key's link.
	sender sender
	link   int
	// failing counts sends in a row that failed. The error is logged once, until a packet
	// was sent.
	failing         int
	sendErrorLogged bool
	counters        Counters
	// logged is the history as far as it was logged.
	logged history
	// due and slot are of timers; slot is -1 when nothing is due.
	due  time.Time
	slot int
}

// matches reports whether a packet came by the path of the session: from its peer, and by
// its link and to its local address if it has them.
func (e *entry) matches(r role, d *datagram) bool {
	return e.key.Peer == d.from && e.key.Multihop == (r.kind == multihop) &&
		(!e.key.Local.IsValid() || e.key.Local == d.to) &&
		(e.key.Link == "" || e.link == d.link)
}

// sessions are the entries, as packets are demultiplexed to them (RFC 5880 6.3).
type sessions struct {
	byDiscriminator map[uint32]*entry
	// byPeer has those that a peer can begin with, the most specific first.
	byPeer map[netip.Addr][]*entry
}

func newSessions() sessions {
	return sessions{make(map[uint32]*entry), make(map[netip.Addr][]*entry)}
}

// discriminator returns one that no session has, not 0 (RFC 5880 6.8.1). It is random, so
// that a host that does not see our packets cannot guess it.
func (s sessions) discriminator() uint32 {
	for {
		d := rand.Uint32()
		if _, taken := s.byDiscriminator[d]; d != 0 && !taken {
			return d
		}
	}
}

func (s sessions) add(e *entry) {
	s.byDiscriminator[e.session.localDiscr] = e
	s.byPeer[e.key.Peer] = append(s.byPeer[e.key.Peer], e)
	slices.SortFunc(s.byPeer[e.key.Peer], func(a, b *entry) int {
		return cmp.Or(compareBool(b.key.Local.IsValid(), a.key.Local.IsValid()),
			compareBool(b.key.Link != "", a.key.Link != ""), a.key.compare(b.key))
	})
}

// hide removes the session from those that a packet without a discriminator finds.
func (s sessions) hide(e *entry) {
	list := slices.DeleteFunc(s.byPeer[e.key.Peer], func(x *entry) bool { return x == e })
	s.byPeer[e.key.Peer] = list
	if len(list) == 0 {
		delete(s.byPeer, e.key.Peer)
	}
}

func (s sessions) remove(e *entry) {
	s.hide(e)
	delete(s.byDiscriminator, e.session.localDiscr)
}

// find returns the session of a packet (RFC 5880 6.3 and 6.8.6, RFC 5881 3 and
// 5). The verdict is Accepted when the packet may be given to it;
// otherwise the entry is the one that the packet was meant for, or nil.
func (s sessions) find(r role, d *datagram, p Packet) (*entry, Verdict) {
	var e *entry
	if p.YourDiscriminator != 0 {
		e = s.byDiscriminator[p.YourDiscriminator]
		if e == nil {
			return nil, UnknownDiscriminator
		}
		if !e.matches(r, d) {
			return e, WrongPeer
		}
	} else {
		if p.State != Down && p.State != AdminDown {
			return nil, StateWithoutDiscriminator
		}
		e = s.ofPeer(r, d)
		if e == nil {
			return nil, UnknownPeer
		}
	}
	atLeast := maxTTL
	if e.key.Multihop {
		atLeast = int(e.session.config.MinimumTTL)
	}
	if d.ttl < atLeast {
		return e, WrongTTL
	}
	return e, Accepted
}

// ofPeer returns the most specific session for the addresses of a packet.
func (s sessions) ofPeer(r role, d *datagram) *entry {
	list := s.byPeer[d.from]
	if i := slices.IndexFunc(list, func(e *entry) bool { return e.matches(r, d) }); i >= 0 {
		return list[i]
	}
	return nil
}
