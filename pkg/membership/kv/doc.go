// Package kv is a replicated map: for each member of a cluster a map from key to value,
// which only that member writes and of which all members have a copy. It is pure: it
// reads no clock, sends nothing and holds no lock. Package membership drives it.
//
// The model is a last-writer-wins map per member with tombstones, kept alike by
// anti-entropy. The [Store] holds what one member knows of all: each [Entry] has a version,
// the higher version wins wherever two meet, and a deletion leaves a tombstone for an hour,
// so that the older value cannot come back from a member that was unreachable. The
// [BroadcastQueue] says which entries are still to be gossiped, and a message, which
// [Packer] writes and [Unpack] reads, has any number of entries of any members: the news of
// a moment, or all that is known, for a member that was unreachable.
//
// The entries of a member survive its restart. It learns from the others what it had
// published before, and continues with higher versions; it reasserts what it has set or
// deleted in this life against whatever comes back.
package kv
