package membership

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// MaxKey is the largest size of a statement's key in bytes: room for the name
	// of a node, which may have 253, and a word before it.
	MaxKey = 300
	// MaxValue is the largest size of a statement's value in bytes.
	MaxValue = 512
	// MaxStatements is how many things a member can say. What it has taken back is
	// counted apart.
	MaxStatements = 65536

	// memory is how long a deletion is remembered, so that the older value cannot
	// come back from a member that was away, and how long a member that is gone.
	memory = time.Hour
	// lifeKey is the key under which each member says that it is here, and where,
	// or that it has left. Users cannot say anything under it.
	lifeKey = ""
	// entryCost and bookCost are what an entry and a member take in memory beside
	// their texts, about.
	entryCost = 128
	bookCost  = 512
	// missing is for how long a member counts as incompletely known after
	// something that it says could not be kept. Whole states are exchanged more
	// often, and what still finds no room is missed again.
	missing = time.Minute
)

// limits bound what is remembered; members share a key and trust each other, but
// a bug in one must not exhaust the memory of all.
type limits struct {
	// entries is how much one member may say, and how many deletions of it are
	// remembered. Of others twice as much is kept: what is said anew may be heard
	// before what was taken back to make room for it.
	entries int
	bytes   int // of all others together; what this one says is bounded by entries
}

var defaultLimits = limits{entries: MaxStatements, bytes: 64 << 20}

// statement is one thing that a member says of itself, or takes back.
type statement struct {
	value   []byte // never changed once it is stored
	deleted bool
	version uint64
	// at is when it was taken back, by this member's clock.
	at time.Time
	// anew is true for own ones said or taken back in this life.
	anew bool
	// beyond is true for one just read that is larger than this version takes. Its
	// value is missing.
	beyond bool
}

// supersedes reports whether a is said after b: by its version, and for equal
// versions by something that all members agree on.
func (a statement) supersedes(b statement) bool {
	switch {
	case a.version != b.version:
		return a.version > b.version
	case a.deleted != b.deleted:
		return b.deleted
	default:
		return bytes.Compare(a.value, b.value) > 0
	}
}

// sameAs reports whether both say the same, whenever it was.
func (a statement) sameAs(b statement) bool {
	return a.deleted == b.deleted && bytes.Equal(a.value, b.value)
}

// expired reports whether this is a deletion that need not be remembered.
func (a statement) expired(now time.Time) bool { return a.deleted && now.Sub(a.at) >= memory }

// book holds what one member says.
type book struct {
	entries   map[string]statement
	deletions int // among entries
	bytes     int
	// said is what users get to see of entries, shared with them; nil when it must
	// be made anew.
	said map[string][]byte
	// revision is another after each change of entries; no two books share one.
	revision uint64
	// missed is when something of this member was last not kept, for want of room
	// or because it was too large.
	missed time.Time
}

// statements is what this member knows of what all say. It is pure: whoever owns
// it has the lock and the clock.
//
// There is one writer for what a member says: that member. The versions of its
// statements only grow, also over restarts and with a clock that went back,
// because it hears from the others what it said before and goes on above that.
type statements struct {
	self   string
	limits limits
	books  map[string]*book
	bytes  int
	// dropped counts what was not stored, for want of room or because it was too
	// large.
	dropped uint64
	// contradicted counts statements of this member that were heard and that it cannot
	// have made in an earlier life: they are later than its first one in this.
	contradicted uint64
	first        uint64
	// revision is that of the book changed last.
	revision uint64

	// highest is the highest version of an own statement ever seen.
	highest uint64
	// forgot is true when a deletion of this life is remembered no more, which is an
	// hour after it. What was said before a restart is known by then: whatever else
	// comes back is out of date.
	forgot bool
	// covered are the prefixes under which all was said anew in this life.
	covered []string
}

func newStatements(self string, l limits) *statements {
	s := &statements{self: self, limits: l, books: make(map[string]*book)}
	s.book(self)
	return s
}

// next returns the version for an own statement that is made now: the time, so
// that a restarted member is above what it said before even while nobody has told
// it, and in any case above all that it has seen of itself.
func (s *statements) next(now time.Time) uint64 {
	s.highest = max(s.highest+1, uint64(max(now.UnixNano(), 0)))
	return s.highest
}

// say makes an own statement, or takes it back when value is nil. It reports
// whether the others must hear of it, and false for ok when there is no room.
func (s *statements) say(now time.Time, key string, value []byte) (news, ok bool) {
	said := statement{value: bytes.Clone(value), deleted: value == nil, anew: true}
	if said.deleted {
		said.at = now
	}
	old, known := s.books[s.self].entries[key]
	if known && old.sameAs(said) {
		old.anew = true
		s.books[s.self].entries[key] = old
		return false, true
	}
	if !s.makeRoom(s.self, old, known, said) {
		return false, false
	}
	said.version = s.next(now)
	if s.first == 0 {
		s.first = said.version
	}
	s.put(s.self, key, said)
	return true, true
}

// sayAll makes what this member says under the prefix exactly this. It returns
// the keys of which the others must hear, sorted; ok is false when some found no
// room.
func (s *statements) sayAll(now time.Time, prefix string, values map[string][]byte) (news []string, ok bool) {
	if !slices.Contains(s.covered, prefix) {
		s.covered = append(s.covered, prefix)
	}
	// Taking back comes first: it may make room.
	ok = true
	own := s.books[s.self].entries
	for _, key := range slices.Sorted(maps.Keys(own)) {
		if _, stays := values[key]; key != lifeKey && strings.HasPrefix(key, prefix) && !stays {
			if changed, _ := s.say(now, key, nil); changed {
				news = append(news, key)
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		changed, stored := s.say(now, key, values[key])
		if changed {
			news = append(news, key)
		}
		ok = ok && stored
	}
	slices.Sort(news)
	return news, ok
}

// hearing is what became of a statement that was heard.
type hearing int

const (
	known    hearing = iota // or older than what is known
	heard                   // it is news, to be passed on
	objected                // it is an own one, and was said anew against what is told
	noRoom
)

// hear takes in what somebody says that a member says; it need not be that member.
// The value is copied.
func (s *statements) hear(now time.Time, member, key string, told statement) hearing {
	told.anew = false
	if told.beyond {
		s.miss(now, member)
		return noRoom
	}
	if member == s.self {
		s.highest = max(s.highest, told.version)
		return s.hearOwn(now, key, told)
	}
	var old statement
	var exists bool
	if b := s.books[member]; b != nil {
		old, exists = b.entries[key]
	}
	switch {
	case exists && !told.supersedes(old), !exists && told.expired(now):
		return known
	case !s.makeRoom(member, old, exists, told), s.bytes+cost(key, told)-costIf(exists, key, old) > s.limits.bytes:
		s.miss(now, member)
		return noRoom
	}
	told.value = bytes.Clone(told.value)
	s.put(member, key, told)
	return heard
}

// hearOwn decides about a statement of this member's own that comes back. What was
// said or taken back in this life stays and is said again above the version that
// came; anything else was said before a restart and holds.
func (s *statements) hearOwn(now time.Time, key string, told statement) hearing {
	old, exists := s.books[s.self].entries[key]
	switch {
	case exists && !told.supersedes(old), !exists && told.expired(now):
		return known
	case exists && old.anew && old.sameAs(told):
		old.version = told.version
		s.put(s.self, key, old)
		return known
	case exists && old.anew:
		s.notice(told)
		old.version = s.next(now)
		if old.deleted {
			old.at = now
		}
		s.put(s.self, key, old)
		return objected
	case !exists && s.outOfDate(key):
		if told.deleted {
			return known
		}
		if !s.forgot {
			s.notice(told)
		}
		anew := statement{deleted: true, version: s.next(now), at: now, anew: true}
		s.makeRoom(s.self, old, exists, anew)
		s.put(s.self, key, anew)
		return objected
	case !s.makeRoom(s.self, old, exists, told):
		s.dropped++ // of others, who know of it all the same
		return noRoom
	}
	told.value = bytes.Clone(told.value)
	s.put(s.self, key, told)
	return heard
}

// notice counts what this member contradicts and cannot have said.
func (s *statements) notice(told statement) {
	if s.first > 0 && told.version > s.first {
		s.contradicted++
	}
}

// miss takes down that something that a member says was not kept. Of a member that
// is not known at all nothing is taken down: strangers must not take memory.
func (s *statements) miss(now time.Time, member string) {
	s.dropped++
	if b := s.books[member]; b != nil {
		b.missed = now
	}
}

// incomplete reports whether the member may say more than is known of it.
func (b *book) incomplete(now time.Time) bool {
	return !b.missed.IsZero() && now.Sub(b.missed) < missing
}

// outOfDate reports whether an own statement that is not known any more, or not
// yet, was taken back in this life.
func (s *statements) outOfDate(key string) bool {
	return s.forgot ||
		slices.ContainsFunc(s.covered, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
}

// said returns what a member says, without what it has taken back. The map is
// shared and never changed.
func (s *statements) said(member string) map[string][]byte {
	b := s.books[member]
	if b == nil {
		return nil
	}
	if b.said == nil {
		b.said = make(map[string][]byte, len(b.entries))
		for key, e := range b.entries {
			if !e.deleted && key != lifeKey {
				b.said[key] = e.value
			}
		}
	}
	return b.said
}

// get returns one statement, deletions included.
func (s *statements) get(member, key string) (statement, bool) {
	b := s.books[member]
	if b == nil {
		return statement{}, false
	}
	e, ok := b.entries[key]
	return e, ok
}

// keys returns the keys of all that is known of a member, sorted, so that those
// with one prefix are together; lifeKey comes first.
func (s *statements) keys(member string) []string {
	b := s.books[member]
	if b == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(b.entries))
}

// forget forgets a member, except this one.
func (s *statements) forget(member string) {
	b := s.books[member]
	if b == nil || member == s.self {
		return
	}
	s.bytes -= b.bytes
	delete(s.books, member)
}

// expire forgets deletions that are old.
func (s *statements) expire(now time.Time) {
	for _, member := range slices.Sorted(maps.Keys(s.books)) {
		for key, e := range s.books[member].entries {
			if e.expired(now) {
				s.remove(member, key)
			}
		}
	}
}

// makeRoom reports whether a statement may take the place of an old one of its
// member, if there is one. For a deletion there always is room: when there are too
// many, the oldest half goes, so that this work is not done again with the next.
func (s *statements) makeRoom(member string, old statement, exists bool, e statement) bool {
	b := s.books[member]
	most := s.limits.entries
	if member != s.self {
		most *= 2
	}
	switch {
	case b == nil || exists && old.deleted == e.deleted:
		return true
	case !e.deleted:
		return len(b.entries)-b.deletions < most
	case b.deletions < most:
		return true
	}
	var deletions []string
	for key, e := range b.entries {
		if e.deleted {
			deletions = append(deletions, key)
		}
	}
	slices.SortFunc(deletions, func(x, y string) int {
		if c := b.entries[x].at.Compare(b.entries[y].at); c != 0 {
			return c
		}
		return strings.Compare(x, y)
	})
	for _, key := range deletions[:(len(deletions)+1)/2] {
		s.remove(member, key)
	}
	return true
}

func (s *statements) book(member string) *book {
	b := s.books[member]
	if b == nil {
		b = &book{entries: make(map[string]statement), bytes: bookCost + len(member)}
		s.books[member] = b
		s.changed(b)
		if member != s.self {
			s.bytes += b.bytes
		}
	}
	return b
}

func (s *statements) put(member, key string, e statement) {
	b := s.book(member)
	old, exists := b.entries[key]
	b.entries[key] = e
	b.deletions += count(e.deleted) - count(exists && old.deleted)
	s.changed(b)
	s.account(b, member, cost(key, e)-costIf(exists, key, old))
}

func (s *statements) remove(member, key string) {
	b := s.books[member]
	e := b.entries[key]
	if e.anew && e.deleted {
		s.forgot = true
	}
	delete(b.entries, key)
	b.deletions -= count(e.deleted)
	s.changed(b)
	s.account(b, member, -cost(key, e))
}

// changed has what users get to see of a book made anew.
func (s *statements) changed(b *book) {
	s.revision++
	b.said, b.revision = nil, s.revision
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

func (s *statements) account(b *book, member string, delta int) {
	b.bytes += delta
	if member != s.self {
		s.bytes += delta
	}
}

func cost(key string, e statement) int { return entryCost + len(key) + len(e.value) }

func costIf(exists bool, key string, e statement) int {
	if !exists {
		return 0
	}
	return cost(key, e)
}
