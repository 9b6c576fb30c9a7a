package announcer

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
	// reportInterval is the least time between two reports of new claimants of one
	// address on one link: they may be one host with many addresses.
	reportInterval = 10 * time.Second
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
	// Member is true when MAC is one of those given to SetMembers. Then it is no
	// conflict but a handover, for a while at least.
	Member bool
}

// Conflicts returns the other hosts that claimed addresses which are announced
// here, sorted by address, link and Ethernet address. One is forgotten when the
// address is withdrawn from the link, or when it was silent for ten minutes.
// Changed wakes for new and forgotten ones, not of repeated claims, and of new ones
// for one address on one link every ten seconds at most.
func (a *Announcer) Conflicts() []Conflict {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.contests.list()
}

// SetMembers sets the Ethernet addresses of the member nodes, in place of those set
// before. Members claim addresses rightfully when they take over, so their
// claims are not defended against.
func (a *Announcer) SetMembers(macs []net.HardwareAddr) {
	members := make(macSet, len(macs))
	for _, mac := range macs {
		members.add(mac)
	}
	a.mu.Lock()
	a.members = members
	changed := a.contests.setMembers(members)
	a.mu.Unlock()
	if changed {
		a.changed.Set()
	}
}

// heard takes notice of a claim that a reader has judged, and has it defended
// against when that is due.
func (a *Announcer) heard(key burstKey, claimant net.HardwareAddr, now time.Time) {
	trusted := a.guard.open()
	a.mu.Lock()
	here, announced := a.desired[key.addr].on(key.port.link)
	if !announced { // withdrawn just now
		a.mu.Unlock()
		return
	}
	_, live := a.live[key]
	member := a.members.has(claimant) || bytes.Equal(claimant, here.as)
	noted := a.contests.note(foreignClaim{
		place:     place{key.addr, key.port.link},
		mac:       claimant,
		member:    member,
		defenders: trusted && live && here.defends(),
	}, now)
	if noted.defend {
		a.defences = append(a.defences, key)
	}
	a.mu.Unlock()
	a.reportClaims(noted.news)
	if noted.news != nil || noted.later || noted.defend {
		a.wake.Set()
	}
}

// reportClaims logs claimants that are new, if there are any, and wakes whoever waits on
// Changed.
func (a *Announcer) reportClaims(news *claimNews) {
	if news == nil {
		return
	}
	if news.foreign != nil {
		a.log.Warn("another host claims the address", "address", news.addr, "link", news.link,
			"mac", news.foreign.String(), "count", news.claims)
	}
	a.changed.Set()
}

// forgetSilent forgets conflicts that were not heard of for long, and returns
// when there may be the next to forget; zero is never.
func (a *Announcer) forgetSilent(now time.Time) time.Time {
	a.mu.Lock()
	forgot, news, next := a.contests.expire(now)
	a.mu.Unlock()
	if forgot {
		a.changed.Set()
	}
	for _, n := range news {
		a.reportClaims(n)
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
	member bool
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
	// reported is when claimants were last reported, pending what is to be reported of those
	// that were new since, nil for nothing.
	reported time.Time
	pending  *claimNews
	// count is how many claims of strangers there were since then.
	count uint64
}

// claimNews is what is reported of new claimants of one address on one link: the last
// of the strangers, nil for none, and how many claims of strangers there were since
// the last report.
type claimNews struct {
	place
	foreign net.HardwareAddr
	claims  uint64
}

func newContests() *contests { return &contests{of: make(map[place]*contest)} }

// noted is what is to be done about a claim.
type noted struct {
	// news is what is to be reported of claimants that are new, or changed sides; nil
	// for nothing now.
	news *claimNews
	// later is set when something came up that is to be reported after a while.
	later bool
	// defend is set when the address is to be defended by one announcement (RFC
	// 5227 2.4 (c)).
	defend bool
}

// note records a claim.
func (c *contests) note(heard foreignClaim, now time.Time) noted {
	at := c.of[heard.place]
	if at == nil {
		at = &contest{}
		c.of[heard.place] = at
	}
	if c.next.IsZero() {
		c.next = now.Add(conflictMemory)
	}
	i := slices.IndexFunc(at.claimants, func(known Conflict) bool {
		return bytes.Equal(known.MAC, heard.mac)
	})
	fresh := i < 0
	if fresh {
		i = at.room()
		at.claimants[i] = Conflict{
			Addr:   heard.addr,
			Link:   heard.link,
			MAC:    slices.Clone(heard.mac),
			First:  now,
			Member: heard.member,
		}
	}
	known := &at.claimants[i]
	fresh = fresh || known.Member != heard.member
	known.Last, known.Member = now, heard.member
	known.Count++
	if !heard.member {
		at.count++
	}
	waiting := at.pending != nil
	if fresh {
		at.pending = &claimNews{place: heard.place}
		if !heard.member {
			at.pending.foreign = known.MAC
		}
	}
	out := noted{news: at.take(now)}
	if at.pending != nil && !waiting {
		out.later = true
		c.sooner(at.reported.Add(reportInterval))
	}
	if heard.member || !heard.defenders || (!at.defended.IsZero() && now.Sub(at.defended) < defendInterval) {
		return out
	}
	at.defended = now
	out.defend = true
	return out
}

// take returns what is to be reported now, nil for nothing.
func (c *contest) take(now time.Time) *claimNews {
	if c.pending == nil || !c.reported.IsZero() && now.Sub(c.reported) < reportInterval {
		return nil
	}
	news := c.pending
	news.claims = c.count
	c.reported, c.pending, c.count = now, nil, 0
	return news
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
// were any, and returns what is to be reported of others, and when to look again; zero
// is never.
func (c *contests) expire(now time.Time) (forgot bool, news []*claimNews, next time.Time) {
	if c.next.IsZero() || now.Before(c.next) {
		return false, nil, c.next
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
		if n := at.take(now); n != nil {
			news = append(news, n)
		}
		for _, known := range at.claimants {
			c.sooner(known.Last.Add(conflictMemory))
		}
		if at.pending != nil {
			c.sooner(at.reported.Add(reportInterval))
		}
	}
	return forgot, news, c.next
}

// sooner has the next look not later than a time.
func (c *contests) sooner(due time.Time) {
	if c.next.IsZero() || due.Before(c.next) {
		c.next = due
	}
}

// setMembers judges the known claimants anew and reports whether any changed.
func (c *contests) setMembers(members macSet) (changed bool) {
	for _, at := range c.of {
		for i := range at.claimants {
			known := &at.claimants[i]
			if member := members.has(known.MAC); member != known.Member {
				known.Member, changed = member, true
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
