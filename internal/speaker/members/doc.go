// Package members knows who is there: the other speakers, what they publish of
// themselves, what this node's probes and pings find, and what their Speaker objects
// tell. It publishes what this speaker says of itself, and keeps the membership of
// speakers supplied with peers and keys.
//
// What it makes of all that is a [presence.Snapshot], by the pure function
// [presence.Next]. A [Tracker] observes, calls it, and has addresses reconciled that the
// difference concerns.
package members
