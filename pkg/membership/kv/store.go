package kv

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// MaxKey is the largest size of a key in bytes: room for the name of a node, which
	// may have 253, and a word before it.
	MaxKey = 300
	// MaxValue is the largest size of a value in bytes.
	MaxValue = 512
	// MaxEntries is how many values one member can have. Its tombstones are counted
	// apart.
	MaxEntries = 65536
	// Hidden is a key of the package that drives this one: [Store.Values] leaves it out
	// and [Store.SetPrefix] does not touch it.
	Hidden = ""
	// TombstoneTTL is how long a deletion is remembered.
	TombstoneTTL = time.Hour

	// entryCost and memberCost are what an entry and a member take in memory beside
	// their texts, about.
	entryCost  = 128
	memberCost = 512
	// incompleteFor is for how long a member counts as incompletely known after an entry
	// of it could not be kept. Whole states are exchanged more often, and what still
	// finds no room is missed again.
	incompleteFor = time.Minute
)

// Limits bound what a Store remembers; members share a key and trust each other, but a
// bug in one must not exhaust the memory of all.
type Limits struct {
	// Entries is how many values one member may have, and how many tombstones of it are
	// remembered. Of others twice as much is kept: a new value may arrive before the
	// deletion that made room for it.
	Entries int
	// Bytes is for all others together; the own entries are bounded by Entries.
	Bytes int
}

// DefaultLimits are those of a cluster of Berth.
var DefaultLimits = Limits{Entries: MaxEntries, Bytes: 64 << 20}

// Entry is the value of one key of one member, or the tombstone of one.
type Entry struct {
	// Value is never changed once it is stored.
	Value   []byte
	Deleted bool
	Version uint64
	// DeletedAt is when it was deleted, by this member's clock.
	DeletedAt time.Time
	// Oversize is true for one just read that is larger than this version takes. Its
	// value is missing.
	Oversize bool

	// fresh is true for own ones that were set or deleted in this life.
	fresh bool
}

// supersedes reports whether a was written after b: by its version, and for equal
// versions by something that all members agree on.
func (a Entry) supersedes(b Entry) bool {
	switch {
	case a.Version != b.Version:
		return a.Version > b.Version
	case a.Deleted != b.Deleted:
		return b.Deleted
	default:
		return bytes.Compare(a.Value, b.Value) > 0
	}
}

// sameAs reports whether both have the same value or none, whatever their versions.
func (a Entry) sameAs(b Entry) bool {
	return a.Deleted == b.Deleted && bytes.Equal(a.Value, b.Value)
}

// expired reports whether this is a tombstone that need not be remembered.
func (a Entry) expired(now time.Time) bool { return a.Deleted && now.Sub(a.DeletedAt) >= TombstoneTTL }

// memberEntries are the entries of one member.
type memberEntries struct {
	entries    map[string]Entry
	tombstones int // among entries
	bytes      int
	// values is what Store.Values returns of entries, shared with its callers; nil if it
	// must be made again.
	values map[string][]byte
	// revision is another after each change of entries; no two members share one.
	revision uint64
	// missed is when an entry of this member was last not kept, for want of room or
	// because it was too large.
	missed time.Time
}

// Store is what one member knows of the entries of all. Whoever owns it has the lock
// and the clock.
//
// There is one writer for the entries of a member: that member. Its versions only grow,
// also over restarts and with a clock that went back, because it learns from the others
// what it has written before, and continues above that.
type Store struct {
	self    string
	limits  Limits
	members map[string]*memberEntries
	// bytes is what the entries of all others take.
	bytes int
	// dropped counts entries that were not stored, for want of room or because they were
	// too large.
	dropped uint64
	// contradicted counts entries of this member that were merged and that it cannot
	// have written in an earlier life: they are later than its first one in this.
	contradicted uint64
	first        uint64
	// revision is that of the member changed last.
	revision uint64

	// highest is the highest version of an own entry ever seen.
	highest uint64
	// forgot is true once a tombstone of this life is forgotten, an hour after the
	// deletion. By then all entries from before the restart are known: whatever else comes
	// back is out of date.
	forgot bool
	// covered are the prefixes under which all was set again in this life.
	covered []string
}

// NewStore returns an empty Store for the member with the name self.
func NewStore(self string, l Limits) *Store {
	s := &Store{self: self, limits: l, members: make(map[string]*memberEntries)}
	s.member(self)
	return s
}

// next returns the version for an own entry that is written now: the time, so that a
// restarted member is above what it wrote before even before the others have told it, and
// in any case above all that it has seen of itself.
func (s *Store) next(now time.Time) uint64 {
	s.highest = max(s.highest+1, uint64(max(now.UnixNano(), 0)))
	return s.highest
}

// Set sets a key of this member, or deletes it when value is nil. changed is true when
// the others must learn of it; ok is false when there is no room.
func (s *Store) Set(now time.Time, key string, value []byte) (changed, ok bool) {
	e := Entry{Value: bytes.Clone(value), Deleted: value == nil, fresh: true}
	if e.Deleted {
		e.DeletedAt = now
	}
	own := s.members[s.self].entries
	old, exists := own[key]
	if exists && old.sameAs(e) {
		old.fresh = true
		own[key] = old
		return false, true
	}
	if !s.makeRoom(s.self, old, exists, e) {
		return false, false
	}
	e.Version = s.next(now)
	if s.first == 0 {
		s.first = e.Version
	}
	s.put(s.self, key, e)
	return true, true
}

// SetPrefix makes the values of this member under the prefix exactly these, also against
// what it had there before a restart and has yet to learn of. It returns the keys of
// which the others must learn, sorted; ok is false when some found no room.
func (s *Store) SetPrefix(
	now time.Time, prefix string, values map[string][]byte,
) (changed []string, ok bool) {
	if !slices.Contains(s.covered, prefix) {
		s.covered = append(s.covered, prefix)
	}
	// Deletions come first: they may make room.
	ok = true
	for _, key := range slices.Sorted(maps.Keys(s.members[s.self].entries)) {
		if _, stays := values[key]; key != Hidden && strings.HasPrefix(key, prefix) && !stays {
			if news, _ := s.Set(now, key, nil); news {
				changed = append(changed, key)
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		news, stored := s.Set(now, key, values[key])
		if news {
			changed = append(changed, key)
		}
		ok = ok && stored
	}
	slices.Sort(changed)
	return changed, ok
}

// Result is what became of an entry that was merged.
type Result int

// The results of a merge.
const (
	// Known is an entry that is known, or older than what is known.
	Known Result = iota
	// Merged is an entry that is news, to be passed on.
	Merged
	// Reasserted is an own entry that came back and does not hold: what this member has
	// written in this life was given a higher version, of which the others must learn.
	Reasserted
	// NoRoom is an entry that was not kept.
	NoRoom
)

// Merge merges an entry of a member, whoever sent it. It copies the value.
func (s *Store) Merge(now time.Time, member, key string, e Entry) Result {
	e.fresh = false
	if e.Oversize {
		s.miss(now, member)
		return NoRoom
	}
	if member == s.self {
		s.highest = max(s.highest, e.Version)
		return s.mergeOwn(now, key, e)
	}
	var old Entry
	var exists bool
	if m := s.members[member]; m != nil {
		old, exists = m.entries[key]
	}
	switch {
	case exists && !e.supersedes(old), !exists && e.expired(now):
		return Known
	case !s.makeRoom(member, old, exists, e), s.bytes+cost(key, e)-costIf(exists, key, old) > s.limits.Bytes:
		s.miss(now, member)
		return NoRoom
	}
	e.Value = bytes.Clone(e.Value)
	s.put(member, key, e)
	return Merged
}

// mergeOwn decides about an entry of this member that comes back. What was set or
// deleted in this life stays and is written again above the version that came; anything
// else was written before a restart and holds.
func (s *Store) mergeOwn(now time.Time, key string, e Entry) Result {
	old, exists := s.members[s.self].entries[key]
	switch {
	case exists && !e.supersedes(old), !exists && e.expired(now):
		return Known
	case exists && old.fresh && old.sameAs(e):
		old.Version = e.Version
		s.put(s.self, key, old)
		return Known
	case exists && old.fresh:
		s.contradict(e)
		old.Version = s.next(now)
		if old.Deleted {
			old.DeletedAt = now
		}
		s.put(s.self, key, old)
		return Reasserted
	case !exists && s.outOfDate(key):
		if e.Deleted {
			return Known
		}
		if !s.forgot {
			s.contradict(e)
		}
		tombstone := Entry{Deleted: true, Version: s.next(now), DeletedAt: now, fresh: true}
		s.makeRoom(s.self, old, exists, tombstone)
		s.put(s.self, key, tombstone)
		return Reasserted
	case !s.makeRoom(s.self, old, exists, e):
		s.dropped++ // of others, who know of it all the same
		return NoRoom
	}
	e.Value = bytes.Clone(e.Value)
	s.put(s.self, key, e)
	return Merged
}

// contradict counts what this member reasserts itself against and cannot have written.
func (s *Store) contradict(e Entry) {
	if s.first > 0 && e.Version > s.first {
		s.contradicted++
	}
}

// miss takes down that an entry of a member was not kept. Of a member that is not known
// at all nothing is taken down: those must not take memory.
func (s *Store) miss(now time.Time, member string) {
	s.dropped++
	if m := s.members[member]; m != nil {
		m.missed = now
	}
}

// outOfDate reports whether an own key that is no longer known, or not yet, was deleted in
// this life.
func (s *Store) outOfDate(key string) bool {
	return s.forgot ||
		slices.ContainsFunc(s.covered, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
}

// Has reports whether anything of a member is known.
func (s *Store) Has(member string) bool { return s.members[member] != nil }

// Members returns the names of all known members, sorted; this one is always among them.
func (s *Store) Members() []string { return slices.Sorted(maps.Keys(s.members)) }

// Values returns the values of a member, without Hidden. The map is shared and never
// changed.
func (s *Store) Values(member string) map[string][]byte {
	m := s.members[member]
	if m == nil {
		return nil
	}
	if m.values == nil {
		m.values = make(map[string][]byte, len(m.entries))
		for key, e := range m.entries {
			if !e.Deleted && key != Hidden {
				m.values[key] = e.Value
			}
		}
	}
	return m.values
}

// Revision returns a number that is another whenever the entries of a member are; zero
// when nothing is known of it.
func (s *Store) Revision(member string) uint64 {
	if m := s.members[member]; m != nil {
		return m.revision
	}
	return 0
}

// Incomplete reports whether a member may have more entries than are known of it.
func (s *Store) Incomplete(member string, now time.Time) bool {
	m := s.members[member]
	return m != nil && !m.missed.IsZero() && now.Sub(m.missed) < incompleteFor
}

// Get returns one entry, tombstones included.
func (s *Store) Get(member, key string) (Entry, bool) {
	m := s.members[member]
	if m == nil {
		return Entry{}, false
	}
	e, ok := m.entries[key]
	return e, ok
}

// Keys returns the keys of all entries of a member, tombstones and Hidden included,
// sorted: those with one prefix are together, and Hidden comes first.
func (s *Store) Keys(member string) []string {
	m := s.members[member]
	if m == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(m.entries))
}

// Dropped returns how many entries were not kept.
func (s *Store) Dropped() uint64 { return s.dropped }

// Contradicted returns how often this member reasserted itself against an entry of its
// own that it cannot have written.
func (s *Store) Contradicted() uint64 { return s.contradicted }

// Bytes returns about how much memory the entries of all others take.
func (s *Store) Bytes() int { return s.bytes }

// Forget forgets a member, except this one.
func (s *Store) Forget(member string) {
	m := s.members[member]
	if m == nil || member == s.self {
		return
	}
	s.bytes -= m.bytes
	delete(s.members, member)
}

// Expire forgets tombstones that are old.
func (s *Store) Expire(now time.Time) {
	for _, member := range s.Members() {
		for key, e := range s.members[member].entries {
			if e.expired(now) {
				s.remove(member, key)
			}
		}
	}
}

// makeRoom reports whether an entry may take the place of an old one of its member, if
// there is one. For a tombstone there always is room: when there are too many, the
// oldest half goes, so that this work is not done again with the next.
func (s *Store) makeRoom(member string, old Entry, exists bool, e Entry) bool {
	m := s.members[member]
	most := s.limits.Entries
	if member != s.self {
		most *= 2
	}
	switch {
	case m == nil || exists && old.Deleted == e.Deleted:
		return true
	case !e.Deleted:
		return len(m.entries)-m.tombstones < most
	case m.tombstones < most:
		return true
	}
	var tombstones []string
	for key, e := range m.entries {
		if e.Deleted {
			tombstones = append(tombstones, key)
		}
	}
	slices.SortFunc(tombstones, func(x, y string) int {
		if c := m.entries[x].DeletedAt.Compare(m.entries[y].DeletedAt); c != 0 {
			return c
		}
		return strings.Compare(x, y)
	})
	for _, key := range tombstones[:(len(tombstones)+1)/2] {
		s.remove(member, key)
	}
	return true
}

// member returns the entries of a member, none when it was not known.
func (s *Store) member(name string) *memberEntries {
	m := s.members[name]
	if m == nil {
		m = &memberEntries{entries: make(map[string]Entry)}
		s.members[name] = m
		s.touch(m)
		s.account(m, name, memberCost+len(name))
	}
	return m
}

func (s *Store) put(member, key string, e Entry) {
	m := s.member(member)
	old, exists := m.entries[key]
	m.entries[key] = e
	m.tombstones += count(e.Deleted) - count(exists && old.Deleted)
	s.touch(m)
	s.account(m, member, cost(key, e)-costIf(exists, key, old))
}

func (s *Store) remove(member, key string) {
	m := s.members[member]
	e := m.entries[key]
	if e.fresh && e.Deleted {
		s.forgot = true
	}
	delete(m.entries, key)
	m.tombstones -= count(e.Deleted)
	s.touch(m)
	s.account(m, member, -cost(key, e))
}

// touch drops the cached values of a member.
func (s *Store) touch(m *memberEntries) {
	s.revision++
	m.values, m.revision = nil, s.revision
}

func (s *Store) account(m *memberEntries, member string, delta int) {
	m.bytes += delta
	if member != s.self {
		s.bytes += delta
	}
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

func cost(key string, e Entry) int { return entryCost + len(key) + len(e.Value) }

func costIf(exists bool, key string, e Entry) int {
	if !exists {
		return 0
	}
	return cost(key, e)
}
