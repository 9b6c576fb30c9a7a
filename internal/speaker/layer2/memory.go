package layer2

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
)

// memory remembers of each address its last decision and what came before. It is safe for
// concurrent use.
type memory struct {
	mu        sync.Mutex
	addresses map[netip.Addr]remembered
	serial    uint64 // of the last question
}

// remembered is what the speaker remembers of one address.
type remembered struct {
	// Decision is without its rejections: those of a thousand nodes for each of ten thousand
	// addresses would take hundreds of megabytes.
	announcement.Decision
	// changed is when the decision came to its reason, since when this node
	// began to announce the address, zero when it does not; handingOver is since
	// when it hands it over.
	changed     time.Time
	since       time.Time
	handingOver time.Time
	// quietSince is since when this node owns the address quietly, lingersSince since when
	// it lingers; zero when it does not.
	quietSince   time.Time
	lingersSince time.Time
	// highest is the highest generation that any claim of it had, burst what
	// makes the announcer announce it again.
	highest uint64
	burst   uint64
	// probe is what is known of the address on the LAN, asking the serial of
	// the question that is open, 0 for none.
	probe  announcement.Probe
	asking uint64
	// takeover is why and since when it was being taken, until it was
	// announced for the first time.
	takeover takeover
}

// takeover is one address on its way to this node.
type takeover struct {
	cause v1beta1.Cause
	// from is when the owner before was last known to be there or, where that
	// is not known, when this node decided.
	from time.Time
}

func newMemory() *memory { return &memory{addresses: map[netip.Addr]remembered{}} }

// adopt takes in what this speaker claimed before it was restarted. What
// another has claimed since is not this node's any more; nor is what it lingered for.
func (m *memory) adopt(
	own map[netip.Addr]announcement.Claim, others map[netip.Addr]map[string]announcement.Claim,
) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for addr, claim := range own {
		r := remembered{highest: claim.Generation}
		for _, other := range others[addr] {
			r.highest = max(r.highest, other.Generation)
		}
		if r.highest == claim.Generation && !claim.Lingers {
			r.Claim = &claim
		}
		m.addresses[addr] = r
	}
}

// of returns what is remembered of an address.
func (m *memory) of(addr netip.Addr) remembered {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.addresses[addr]
}

// record remembers the decision for an address, and returns what was
// remembered before and is now. Addresses that no Service has are forgotten.
func (m *memory) record(in announcement.Input, d announcement.Decision) (before, after remembered) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before = m.addresses[in.Address]
	after = before
	after.Decision = d
	after.Rejections = nil
	after.highest = in.Highest
	for _, claim := range in.Claims {
		after.highest = max(after.highest, claim.Generation)
	}
	if d.Claim != nil {
		after.highest = max(after.highest, d.Claim.Generation)
	}
	if before.Reason != d.Reason {
		after.changed = in.Now
	}
	if !d.Announce {
		after.since = time.Time{}
	} else if !before.Announce || before.StandInFor != d.StandInFor || before.LingersFor != d.LingersFor {
		after.since = in.Now
	}
	after.handingOver = sinceWhen(before.handingOver, d.HandingOver, in.Now)
	after.quietSince = sinceWhen(before.quietSince, d.Former != "", in.Now)
	after.lingersSince = sinceWhen(before.lingersSince, d.LingersFor != "", in.Now)
	// It is announced again when it is taken, and once more when the member that
	// had it has given it up.
	if d.Cause != "" || d.Announce && before.Contested && !d.Contested {
		after.burst++
	}
	switch {
	case d.Cause != "":
		after.takeover = takeover{d.Cause, in.Now}
	case !d.Announce:
		after.takeover = takeover{}
	}
	// What the LAN said is asked again when this node comes to own the address
	// another time.
	if !goesOnAsking(d) {
		after.probe, after.asking = announcement.Probe{}, 0
	}
	m.addresses[in.Address] = after
	if len(d.Services) == 0 && !d.Announce {
		delete(m.addresses, in.Address)
	}
	return before, after
}

// goesOnAsking reports whether the LAN is asked for an address, or may be, after a decision:
// this node is to announce it and does not yet, or another program answers for it too.
func goesOnAsking(d announcement.Decision) bool {
	switch d.Reason {
	case v1beta1.ReasonProbing,
		v1beta1.ReasonConflict,
		v1beta1.ReasonNodeAnswers,
		v1beta1.ReasonClaimsUnknown:
		return true
	}
	return len(d.Beside) > 0
}

// sinceWhen returns since when something is so: since before, if it was so already, and
// zero when it is not.
func sinceWhen(before time.Time, is bool, now time.Time) time.Time {
	switch {
	case !is:
		return time.Time{}
	case before.IsZero():
		return now
	}
	return before
}

// startProbe remembers that the LAN is being asked for an address, and returns
// the serial of this question. An earlier one is over.
func (m *memory) startProbe(addr netip.Addr) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.addresses[addr]
	m.serial++
	r.asking, r.probe.State = m.serial, announcement.ProbeAsking
	m.addresses[addr] = r
	return m.serial
}

// probing reports whether the answer to a question still matters.
func (m *memory) probing(addr netip.Addr, serial uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.addresses[addr].asking == serial
}

// setProbe remembers the answer to a question, if it still matters. Who had the
// address before it was free is remembered too.
func (m *memory) setProbe(addr netip.Addr, serial uint64, probe announcement.Probe) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, known := m.addresses[addr]
	if !known || r.asking != serial {
		return false
	}
	if probe.Holder == nil {
		probe.Holder = r.probe.Holder
	}
	r.probe = probe
	m.addresses[addr] = r
	return true
}

// missedSince remembers when the owner before was last known to be there, if the
// address is being taken.
func (m *memory) missedSince(addr netip.Addr, from time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.addresses[addr]; r.takeover.cause != "" {
		r.takeover.from = from
		m.addresses[addr] = r
	}
}

// took returns the takeover of an address that is announced now, once.
func (m *memory) took(addr netip.Addr) (takeover, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.addresses[addr]
	if r.takeover.cause == "" {
		return takeover{}, false
	}
	t := r.takeover
	r.takeover = takeover{}
	m.addresses[addr] = r
	return t, true
}

// known returns the addresses of which anything is remembered, sorted.
func (m *memory) known() []netip.Addr {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Keys(m.addresses), netip.Addr.Compare)
}

// all returns a copy of what is remembered.
func (m *memory) all() map[netip.Addr]remembered {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.addresses)
}

// announced returns what is remembered of what this node announces.
func (m *memory) announced() map[netip.Addr]remembered {
	out := m.all()
	maps.DeleteFunc(out, func(_ netip.Addr, r remembered) bool { return !r.Announce })
	return out
}

// lingering returns the addresses for which this node lingers, sorted.
func (m *memory) lingering() []netip.Addr {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []netip.Addr
	for addr, r := range m.addresses {
		if r.LingersFor != "" {
			out = append(out, addr)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// owns reports whether this node claims anything as its owner.
func (m *memory) owns() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.addresses {
		if r.Claim != nil && !r.Claim.Lingers {
			return true
		}
	}
	return false
}
