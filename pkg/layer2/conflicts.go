package layer2

import (
	"bytes"
	"cmp"
	"net"
	"net/netip"
	"slices"
	"time"
)

const (
	// defendInterval is the least time between two defences of an address on a
	// link (DEFEND_INTERVAL of RFC 5227 1.1).
	defendInterval = 10 * time.Second
	// conflictMemory is how long a claim is remembered that is not repeated.
	conflictMemory = 10 * time.Minute
	// maxClaimants bounds the claimants of one address on one link, for a hostile
	// host can make up Ethernet addresses. The one unheard for longest makes room.
	maxClaimants = 8
)

// Conflict is another host that claims an address which is announced here.
type Conflict struct {
	Addr netip.Addr
	// Link is where the claim was heard.
	Link string
	// MAC is the Ethernet address at which the address is said to be.
	MAC net.HardwareAddr
	// First and Last are when the first and the last such claim was heard, Count
	// is how many.
	First, Last time.Time
	Count       uint64
	// Fellow is true when MAC is one of those given to SetFellows. Then it is no
	// conflict but a handover, for a while at least.
	Fellow bool
}

// Conflicts returns the other hosts that claimed addresses which are announced
// here, sorted by address, link and Ethernet address. One is forgotten when the
// address is withdrawn from the link, or when it was silent for ten minutes.
// Changed tells of new and forgotten ones, not of repeated claims.
func (a *Announcer) Conflicts() []Conflict {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.contests.list()
}

// SetFellows tells the Ethernet addresses of the fellow nodes, in place of those
// told before. Fellows claim addresses rightfully when they take over, so their
// claims are not defended against.
func (a *Announcer) SetFellows(macs []net.HardwareAddr) {
	fellows := make(macSet, len(macs))
	for _, mac := range macs {
		fellows.add(mac)
	}
	a.mu.Lock()
	a.fellows = fellows
	changed := a.contests.setFellows(fellows)
	a.mu.Unlock()
	if changed {
		signal(a.changed)
	}
}

// heard takes notice of a claim that a reader has judged, and has it defended
// against when that is due.
func (a *Announcer) heard(key burstKey, claimant net.HardwareAddr, now time.Time) {
	trusted := a.guard.open()
	a.mu.Lock()
	w := a.desired[key.addr]
	_, announced := w.on(key.port.link)
	if !announced { // withdrawn just now
		a.mu.Unlock()
		return
	}
	_, live := a.live[key]
	fellow := a.fellows.has(claimant) || bytes.Equal(claimant, w.as)
	fresh, defend := a.contests.note(foreignClaim{
		place:     place{key.addr, key.port.link},
		mac:       claimant,
		fellow:    fellow,
		defenders: trusted && live && w.as == nil,
	}, now)
	if defend {
		a.defences = append(a.defences, key)
	}
	a.mu.Unlock()
	if fresh && !fellow {
		a.log.Warn("another host claims the address", "address", key.addr, "link", key.port.link, "mac", claimant.String())
	}
	if fresh {
		signal(a.changed)
	}
	if fresh || defend {
		signal(a.wake)
	}
}

// forgetSilent forgets conflicts that were not heard of for long, and returns
// when there may be the next to forget; zero is never.
func (a *Announcer) forgetSilent(now time.Time) time.Time {
	a.mu.Lock()
	forgot, next := a.contests.expire(now)
	a.mu.Unlock()
	if forgot {
		signal(a.changed)
	}
	return next
}

// place is one address on one link.
type place struct {
	addr netip.Addr
	link string
}

// foreignClaim is one claim that was heard.
type foreignClaim struct {
	place
	mac    net.HardwareAddr
	fellow bool
	// defenders is whether this node would defend the address at all.
	defenders bool
}

// contests are the claims of others, by what they claim. It is pure: the caller
// has the clock and the lock.
type contests struct {
	of map[place]*contest
	// next is not after the time at which the first claim is to be forgotten.
	next time.Time
}

type contest struct {
	claimants []Conflict
	// defended is when the last defence was ordered.
	defended time.Time
}

func newContests() *contests { return &contests{of: make(map[place]*contest)} }

// note records a claim. It reports whether the claimant is new, or changed sides,
// and whether the address is to be defended by one announcement (RFC 5227
// 2.4 (c)).
func (c *contests) note(heard foreignClaim, now time.Time) (fresh, defend bool) {
	at := c.of[heard.place]
	if at == nil {
		at = &contest{}
		c.of[heard.place] = at
	}
	if c.next.IsZero() {
		c.next = now.Add(conflictMemory)
	}
	i := slices.IndexFunc(at.claimants, func(known Conflict) bool { return bytes.Equal(known.MAC, heard.mac) })
	if i < 0 {
		fresh = true
		i = at.room()
		at.claimants[i] = Conflict{
			Addr: heard.addr, Link: heard.link, MAC: slices.Clone(heard.mac), First: now, Fellow: heard.fellow,
		}
	}
	known := &at.claimants[i]
	fresh = fresh || known.Fellow != heard.fellow
	known.Last, known.Fellow = now, heard.fellow
	known.Count++
	if heard.fellow || !heard.defenders || (!at.defended.IsZero() && now.Sub(at.defended) < defendInterval) {
		return fresh, false
	}
	at.defended = now
	return fresh, true
}

// room returns the index of a free claimant, taken from the one that was unheard
// for longest when there are too many.
func (c *contest) room() int {
	if len(c.claimants) < maxClaimants {
		c.claimants = append(c.claimants, Conflict{})
		return len(c.claimants) - 1
	}
	oldest := 0
	for i, known := range c.claimants {
		if known.Last.Before(c.claimants[oldest].Last) {
			oldest = i
		}
	}
	return oldest
}

// forget forgets all claims of a place and reports whether there were any.
func (c *contests) forget(p place) bool {
	_, known := c.of[p]
	delete(c.of, p)
	return known
}

// expire forgets claimants that were silent for long. It reports whether there
// were any, and when to look again; zero is never.
func (c *contests) expire(now time.Time) (forgot bool, next time.Time) {
	if c.next.IsZero() || now.Before(c.next) {
		return false, c.next
	}
	c.next = time.Time{}
	for p, at := range c.of {
		before := len(at.claimants)
		at.claimants = slices.DeleteFunc(at.claimants, func(known Conflict) bool {
			return now.Sub(known.Last) >= conflictMemory
		})
		forgot = forgot || len(at.claimants) < before
		if len(at.claimants) == 0 {
			delete(c.of, p)
		}
		for _, known := range at.claimants {
			if due := known.Last.Add(conflictMemory); c.next.IsZero() || due.Before(c.next) {
				c.next = due
			}
		}
	}
	return forgot, c.next
}

// setFellows judges the known claimants anew and reports whether any changed.
func (c *contests) setFellows(fellows macSet) (changed bool) {
	for _, at := range c.of {
		for i := range at.claimants {
			known := &at.claimants[i]
			if fellow := fellows.has(known.MAC); fellow != known.Fellow {
				known.Fellow, changed = fellow, true
			}
		}
	}
	return changed
}

// list returns all claimants, sorted. They share nothing that changes.
func (c *contests) list() []Conflict {
	var out []Conflict
	for _, at := range c.of {
		out = append(out, at.claimants...)
	}
	slices.SortFunc(out, func(x, y Conflict) int {
		return cmp.Or(x.Addr.Compare(y.Addr), cmp.Compare(x.Link, y.Link), bytes.Compare(x.MAC, y.MAC))
	})
	return out
}
