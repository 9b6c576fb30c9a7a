package bgp

import "net/netip"

// Action is what has to happen to a session.
type Action uint8

// The actions.
const (
	Keep  Action = iota // it stays as it is, also when it is not up
	Start               // the peer is new
	Reset               // what was agreed at its start has changed
	Retry               // as Keep, but one that is not up is tried again at once
	Stop                // the peer is gone
)

func (a Action) String() string {
	return [...]string{"keep", "start", "reset", "retry", "stop"}[a]
}

// Change is what one peer's session has to do to get from one state to the
// next.
type Change struct {
	Peer   Peer // as it shall be; for Stop, as it was
	Action Action
	// Field is what caused a Reset or Retry.
	Field string
	// Announce are routes that are new or have other attributes, Withdraw
	// prefixes that are no longer announced; both by prefix. After Start they
	// are all routes of the peer, and so they are with Reset and Retry, where
	// the session begins with nothing, and when next hops have changed.
	Announce []Route
	Withdraw []netip.Prefix
}

// Diff returns the changes that lead from one state to the next, in the order of the
// peers' names. Peers that need nothing are left out. Both states are as Plan returns
// them.
func Diff(from, to []Desired) []Change {
	var out []Change
	i, j := 0, 0
	for i < len(from) || j < len(to) {
		switch {
		case j == len(to) || i < len(from) && from[i].Peer.Name < to[j].Peer.Name:
			out = append(out, Change{Peer: from[i].Peer, Action: Stop})
			i++
		case i == len(from) || to[j].Peer.Name < from[i].Peer.Name:
			out = append(out, Change{Peer: to[j].Peer, Action: Start, Announce: to[j].Routes})
			j++
		default:
			if c, needed := diff(from[i], to[j]); needed {
				out = append(out, c)
			}
			i, j = i+1, j+1
		}
	}
	return out
}

// diff returns what one peer needs, and reports whether it needs anything.
func diff(from, to Desired) (Change, bool) {
	c := Change{Peer: to.Peer}
	c.Action, c.Field = actionFor(from.Peer, to.Peer)
	c.Announce, c.Withdraw = DiffRoutes(from.Routes, to.Routes)
	nextHops := from.Peer.NextHop4 != to.Peer.NextHop4 || from.Peer.NextHop6 != to.Peer.NextHop6
	if c.Action != Keep || nextHops {
		c.Announce = to.Routes
	}
	return c, from.Peer != to.Peer || len(c.Announce)+len(c.Withdraw) > 0
}

// actionFor returns what a changed peer needs, and the field that causes it. Passwords go
// into the socket, and most else into the OPEN message, so only a new session has them.
// Next hops go with the routes, and the time of graceful shutdown is for the end.
func actionFor(from, to Peer) (Action, string) {
	for _, f := range []struct {
		name string
		same bool
	}{
		{"myASN", from.LocalASN == to.LocalASN},
		{"peerASN", from.PeerASN == to.PeerASN},
		{"routerID", from.RouterID == to.RouterID},
		{"peerAddress", from.Address == to.Address},
		{"interface", from.Interface == to.Interface},
		{"peerPort", from.Port == to.Port},
		{"sourceAddress", from.Source == to.Source},
		{"vrf", from.VRF == to.VRF},
		{"ebgpMultiHop", from.Multihop == to.Multihop},
		{"ttlSecurity", from.TTLSecurity == to.TTLSecurity},
		{"passive", from.Passive == to.Passive},
		{"password", from.Password == to.Password},
		{"holdTime", from.Hold == to.Hold},
		{"keepaliveTime", from.Keepalive == to.Keepalive},
		{"dualStackAddressFamily", from.Families == to.Families},
		{"capabilities", from.Offer == to.Offer},
		{"enableGracefulRestart", from.GracefulRestart == to.GracefulRestart},
		{"longLivedStaleTime", from.LongLived == to.LongLived},
	} {
		if !f.same {
			return Reset, f.name
		}
	}
	if from.Connect != to.Connect {
		return Retry, "connectTime"
	}
	return Keep, ""
}

// DiffRoutes returns the changes that lead from one list of routes to another. Both are
// sorted by prefix, and so is what it returns.
func DiffRoutes(from, to []Route) (announce []Route, withdraw []netip.Prefix) {
	i, j := 0, 0
	for i < len(from) || j < len(to) {
		order := -1
		switch {
		case i == len(from):
			order = 1
		case j < len(to):
			order = comparePrefix(from[i].Prefix, to[j].Prefix)
		}
		switch {
		case order < 0:
			withdraw = append(withdraw, from[i].Prefix)
			i++
		case order > 0:
			announce = append(announce, to[j])
			j++
		default:
			if !from[i].Equal(to[j]) {
				announce = append(announce, to[j])
			}
			i, j = i+1, j+1
		}
	}
	return announce, withdraw
}
