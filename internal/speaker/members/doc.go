// Package members knows which speakers there are. It observes what they publish, what
// this node's probes and pings find, and what their Speaker objects list. It publishes
// what this speaker knows, and supplies the membership of speakers with peers and keys.
//
// From its observations the pure function [presence.Next] makes a [presence.Snapshot]. A
// [Tracker] observes, calls it, and requeues the addresses that the difference concerns.
package members
