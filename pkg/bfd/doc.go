// Package bfd is Bidirectional Forwarding Detection (RFC 5880) in asynchronous
// mode over one hop (RFC 5881) and several (RFC 5883): it detects within a few packet
// intervals that the path to a peer has failed.
//
// The package is in two halves. The pure half has no goroutine, clock, socket
// or logger: the codec (packet.go) and the state machine of one session
// (session.go and its neighbours), which takes the time as a value and returns
// what to send. The other half, [Speaker], is a thin shell: whole desired
// states go in by [Speaker.Set], one goroutine owns all sessions, and
// [Speaker.State] returns what became of them.
//
// Sessions know nothing of the protocol that they serve. [Status.Failed] reports whether
// that protocol should take its peer for lost: a peer whose side was shut down (AdminDown)
// has not failed (RFC 5882 3.2).
//
// Authentication is not supported, so packets that carry it are dropped. Demand
// mode is never asked for; a peer that asks for it is obeyed. Echo packets are
// sent back and not sent; see docs/bfd.md.
package bfd
