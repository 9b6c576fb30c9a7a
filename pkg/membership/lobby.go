package membership

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
)

// lobbyLimits bound how many connections may be under way.
type lobbyLimits struct {
	// known and strange are how many may be at the handshake: from addresses of
	// nodes and members, and from any other. Strangers cannot take the places of
	// the known.
	known, strange int
	// guests is how many from one known address may be at the handshake.
	guests int
	// inside is how many may have done with it, and of these perSource from one
	// address.
	inside, perSource int
}

// The numbers are for memory: a connection costs some 20 KiB here and in the kernel.
var defaultLobbyLimits = lobbyLimits{
	known:     256,
	strange:   32,
	guests:    64,
	inside:    128,
	perSource: 8,
}

// guest is a connection at the handshake.
type guest struct {
	conn   net.Conn
	source netip.Addr
	known  bool
	// greeted is true when it has named a key that is known here.
	greeted bool
}

// lobby knows who is at the handshake, and how many from where have done with it.
// It is pure but for chance: whoever owns it has the lock and closes connections.
//
// A new connection always gets in, and another has to go if there is no room. It is one of
// the address that has most; not one that has named a key, if there are others, for the
// silent ones stay and members name it at once; and of those any one: whoever opens
// connections by the thousand would make the oldest go before it is done.
type lobby struct {
	limits lobbyLimits
	// pick returns a number below n.
	pick   func(n int) int
	guests []*guest
	inside map[netip.Addr]int
	total  int
}

func newLobby(l lobbyLimits) *lobby {
	return &lobby{limits: l, pick: rand.IntN, inside: make(map[netip.Addr]int)}
}

// enter takes a guest in. It returns the one that has to go for it, nil if none has.
func (l *lobby) enter(g *guest) *guest {
	var alike []*guest // of the same kind
	count := make(map[netip.Addr]int)
	for _, other := range l.guests {
		if other.known == g.known {
			alike = append(alike, other)
			count[other.source]++
		}
	}
	most := 0
	for _, n := range count {
		most = max(most, n)
	}
	var out *guest
	switch {
	case count[g.source] >= l.limits.guests:
		out = l.choose(alike, func(other *guest) bool { return other.source == g.source })
	case len(alike) >= l.limits.kind(g.known):
		out = l.choose(alike, func(other *guest) bool { return count[other.source] == most })
	}
	if out != nil {
		l.leave(out)
	}
	l.guests = append(l.guests, g)
	return out
}

func (l lobbyLimits) kind(known bool) int {
	if known {
		return l.known
	}
	return l.strange
}

// choose returns the one that has to go.
func (l *lobby) choose(guests []*guest, may func(*guest) bool) *guest {
	var silent, all []*guest
	for _, g := range guests {
		if may(g) {
			all = append(all, g)
			if !g.greeted {
				silent = append(silent, g)
			}
		}
	}
	if len(silent) > 0 {
		all = silent
	}
	return all[l.pick(len(all))]
}

// leave removes a guest. It reports false when it was shown out before.
func (l *lobby) leave(g *guest) bool {
	i := slices.Index(l.guests, g)
	if i >= 0 {
		l.guests = slices.Delete(l.guests, i, i+1)
	}
	return i >= 0
}

// goIn moves a guest inside. It reports false when it was shown out before, or
// there is no room.
func (l *lobby) goIn(g *guest) bool {
	if !l.leave(g) || l.total >= l.limits.inside || l.inside[g.source] >= l.limits.perSource {
		return false
	}
	l.total++
	l.inside[g.source]++
	return true
}

// goOut takes note that a connection that was inside has ended.
func (l *lobby) goOut(source netip.Addr) {
	l.total--
	if l.inside[source]--; l.inside[source] == 0 {
		delete(l.inside, source)
	}
}
