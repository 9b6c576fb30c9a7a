package announcer

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

// Policy says how often an address is announced unasked. A field that is zero
// takes its value from the [Config].
type Policy struct {
	// Count is how many announcements a burst has; negative is as zero.
	Count int
	// Interval is the time between two of them; negative is as zero.
	Interval time.Duration
	// Refresh is the time between two announcements after the burst, each
	// shifted by up to a quarter of it at random, so that thousands of addresses
	// spread out. It mends what a neighbour that missed the whole burst still
	// believes. Negative is never.
	Refresh time.Duration
}

// or fills in what p leaves open.
func (p Policy) or(o Policy) Policy {
	if p.Count <= 0 {
		p.Count = o.Count
	}
	if p.Interval <= 0 {
		p.Interval = o.Interval
	}
	if p.Refresh == 0 {
		p.Refresh = o.Refresh
	}
	return p
}

// Manner is how an address is announced. A planned move may have two nodes answer for a
// while: the new owner those that ask all hosts, the owner before, which lingers, those
// that know it.
type Manner uint8

// The manners.
const (
	// Openly: all requests are answered, and the address is announced unasked.
	Openly Manner = iota
	// Quietly: all requests are answered, and nothing is sent unasked but defences
	// against strangers.
	Quietly
	// Lingering: requests are answered that were sent to this link alone, as hosts do
	// that verify what they know (RFC 1122 2.3.2.1, RFC 4861 7.3). Nothing is sent
	// unasked.
	Lingering
)

// Request is what one address should be on this node.
type Request struct {
	// Links are the names of the links on which the address is announced, and no
	// others. None withdraws it. Links that this node does not have, or not yet,
	// are remembered.
	Links []string
	// Policy says how often it is announced unasked.
	Policy Policy
	// As is, by link, the Ethernet address that answers give; on a link that is not
	// in it, that is the link's own. With another one this node stands in for the
	// owner, as a proxy (RFC 4861 7.2.8): answers still come from the link's own
	// Ethernet address, and nothing is sent unasked, neither burst nor refresh nor
	// defence. What is no address of one host is taken for the link's own.
	As map[string]net.HardwareAddr
	// Generation is announced with a new burst whenever it changes, although the
	// address was announced here before.
	Generation uint64
	// Manner is how the address is announced. A burst starts when it becomes Openly.
	Manner Manner
	// Promiscuous has the links take all frames that reach them, for devices that do
	// not deliver requests for addresses which no interface carries.
	Promiscuous bool
}

// wish is a Request as the announcer keeps it. It is replaced, never changed.
type wish struct {
	policy      Policy
	generation  uint64
	promiscuous bool
	// placements are sorted by link.
	placements []placement
}

// placement is one link of one address.
type placement struct {
	link string
	answering
	// serial is new each time when the address has to be announced anew.
	serial uint64
	// born is the serial with which answering began.
	born uint64
}

// answering is how requests are answered on a link.
type answering struct {
	// as is the Ethernet address that is answered; nil is the link's own.
	as     net.HardwareAddr
	manner Manner
}

// same reports whether two are the same.
func (a answering) same(o answering) bool { return a.manner == o.manner && bytes.Equal(a.as, o.as) }

// announces reports whether the address is announced unasked.
func (a answering) announces() bool { return a.as == nil && a.manner == Openly }

// defends reports whether the address is defended against claims of strangers. One that
// lingers, or stands in, leaves that to the owner.
func (a answering) defends() bool { return a.as == nil && a.manner != Lingering }

// on returns the placement of a link.
func (w wish) on(link string) (placement, bool) {
	for _, p := range w.placements {
		if p.link == link {
			return p, true
		}
	}
	return placement{}, false
}

// Set says what addr should be on this node, in place of what was said before.
// Setting what is already set does nothing. A link that is new for the address, a
// new generation, and the end of standing in each start a burst; a policy that
// differs holds for the rest of it. An address that no host can have (multicast,
// broadcast, unspecified, loopback or invalid) is ignored with a log entry.
//
// Set may be called from any goroutine, before, during and after Run, and never
// waits for a socket. When it returns, withdrawn addresses are not answered, and
// others are answered with the Ethernet address that was asked for.
func (a *Announcer) Set(addr netip.Addr, want Request) {
	addr = addr.Unmap().WithZone("")
	if !addr.IsValid() || !neighbor.CanOwn(addr) {
		a.log.Warn("cannot announce", "address", addr, "message", "not a unicast address")
		return
	}
	names := slices.Clone(want.Links)
	slices.Sort(names)
	names = slices.Compact(names)
	next := wish{
		policy:      want.Policy.or(a.config.policy()),
		generation:  want.Generation,
		promiscuous: want.Promiscuous,
	}
	for _, name := range names {
		p := placement{link: name, answering: answering{manner: want.Manner}}
		if as := want.As[name]; neighbor.IsStation(as) {
			p.as = slices.Clone(as)
		}
		next.placements = append(next.placements, p)
	}

	a.mu.Lock()
	changed := a.setLocked(addr, next)
	a.mu.Unlock()
	if changed {
		a.wake.Set()
	}
}

// setLocked changes what is desired of addr and reports whether it had to. The
// serials of next are still to be given.
func (a *Announcer) setLocked(addr netip.Addr, next wish) bool {
	old := a.desired[addr]
	samePlaces := slices.EqualFunc(old.placements, next.placements, func(x, y placement) bool {
		return x.link == y.link && x.same(y.answering)
	})
	sameTerms := old.policy == next.policy && old.generation == next.generation &&
		old.promiscuous == next.promiscuous
	if samePlaces && (sameTerms || len(next.placements) == 0) {
		return false
	}
	a.stale[addr] = struct{}{}
	for _, p := range old.placements {
		if _, still := next.on(p.link); !still && a.contests.forget(place{addr, p.link}) {
			a.changed.Set()
		}
	}
	if len(next.placements) == 0 {
		delete(a.desired, addr)
		return true
	}
	for i := range next.placements {
		p := &next.placements[i]
		before, known := old.on(p.link)
		switch {
		case !known || !bytes.Equal(before.as, p.as):
			a.serial++
			p.serial, p.born = a.serial, a.serial
		case before.manner != p.manner:
			a.serial++
			p.serial, p.born = a.serial, before.born
		case old.generation != next.generation:
			a.serial++
			p.serial, p.born = a.serial, before.born
		default:
			p.serial, p.born = before.serial, before.born
		}
	}
	a.desired[addr] = next
	return true
}

// answer reports whether addr is to be answered for on the link, and how.
func (a *Announcer) answer(addr netip.Addr, link string) (how answering, ok bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	p, ok := a.desired[addr].on(link)
	return p.answering, ok
}
