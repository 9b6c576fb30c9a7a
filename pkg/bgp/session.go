package bgp

import (
	"net/netip"
	"time"
)

// SessionState is what a session is doing.
type SessionState string

// The states.
const (
	// SessionHeld: the session waits until all routes are known, so that a
	// graceful restart ends with all of them.
	SessionHeld SessionState = "Held"
	// SessionAwaitingBFD: a strict session waits until BFD is up with the router. Where BFD
	// hears nothing, there may be a session meanwhile, on which nothing is announced.
	SessionAwaitingBFD SessionState = "AwaitingBFD"
	// SessionConnecting: no TCP connection yet. Session.LastError says why the
	// last attempt failed.
	SessionConnecting SessionState = "Connecting"
	// SessionDamped: the session has ended again and again soon after it began, so
	// the next attempt waits longer than usual.
	SessionDamped SessionState = "Damped"
	// SessionListening: a passive session waits for the router.
	SessionListening SessionState = "Listening"
	// SessionOpening: there is a connection, and OPENs are exchanged.
	SessionOpening SessionState = "Opening"
	// SessionEstablished: routes are announced.
	SessionEstablished SessionState = "Established"
	// SessionLeaving: the session ends in order.
	SessionLeaving SessionState = "Leaving"
)

// Session is what is known of one session.
type Session struct {
	Peer  string // name
	State SessionState
	// Since is when State began.
	Since time.Time
	// LastError says in words why the session ended or the last attempt
	// failed, "" when nothing has gone wrong yet. It outlives the next
	// success: LastErrorAt tells how old it is.
	LastError   string
	LastErrorAt time.Time
	// Ended says in words why the last session ended that was established, "" when
	// none has. What attempts fail with afterwards does not change it.
	Ended   string
	EndedAt time.Time
	// Notification is the router's last NOTIFICATION, in words and with nothing that could
	// confuse a terminal, "" when there was none. What attempts fail with afterwards does
	// not change it. NotificationAt is when it came first since there was a session.
	Notification   string
	NotificationAt time.Time
	// Flaps is how many sessions in a row were short, while State is
	// SessionDamped.
	Flaps int

	// Router is the address, without a zone, at which a router was found that is only known
	// by its link; the zero Addr before.
	Router netip.Addr

	// What follows holds while the session is established.

	Local, Remote     netip.Addr
	LocalASN, PeerASN uint32
	Families          Families      // that both sides carry
	Hold, Keepalive   time.Duration // agreed; 0 for no limit
	MD5               bool          // the connection is authenticated
	// Omitted names the capabilities that were left out because the router has
	// refused them, "" for none.
	Omitted string
	// GracefulRestart is set when the router retains routes over a restart, and LongLived is
	// for how long as a last resort.
	GracefulRestart bool
	LongLived       time.Duration
	// Advertised4 and Advertised6 count the prefixes announced.
	Advertised4, Advertised6 int
	// Withheld says in words which routes are not announced for want of a next
	// hop, "" for none.
	Withheld string
	// Handed is the number of the state, as Set of package gobgp returned it,
	// whose routes the session was last given, HandedAt when that was. A state
	// that changes nothing for the session is not counted.
	Handed   uint64
	HandedAt time.Time
	// Ignored counts the UPDATE messages that the router has sent since the peer was made,
	// all of which are discarded without being parsed. Changed does not report that it grows.
	Ignored uint64
}
