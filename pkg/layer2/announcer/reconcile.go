package announcer

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/neighbor"
)

// reconcile brings the ports to the desired state.
func (l *loop) reconcile(now time.Time) {
	all := l.takeChanges()
	for _, key := range l.ports.Keys() {
		link, ok := all[key.link]
		fits, _ := l.ports.Fits(key, link)
		switch {
		case len(l.wanted[key]) == 0:
			l.closePort(key, "withdrawn")
		case !ok:
			l.closePort(key, "link is gone")
		case !link.Up:
			l.closePort(key, "link is down")
		case !fits:
			l.closePort(key, "link has changed")
		default:
			p, _ := l.ports.Get(key)
			p.prefixes = link.Prefixes
		}
	}
	l.ports.Retain(func(key portKey) bool { return len(l.wanted[key]) > 0 })
	problems := make(map[portKey]Problem)
	for _, key := range slices.SortedFunc(maps.Keys(l.wanted), comparePortKeys) {
		if problem := l.announceOn(key, all, now); problem != "" {
			problems[key] = problem
		}
	}
	l.a.mu.Lock()
	l.a.problems = problems
	l.a.passing = false
	close(l.a.passed)
	l.a.passed = make(chan struct{})
	l.a.mu.Unlock()
}

// takeChanges follows the changes of the desired state since the last pass, and
// returns the links. It forgets about delays when these are other than the last
// time.
func (l *loop) takeChanges() map[string]links.Link {
	l.a.mu.Lock()
	stale := l.a.stale
	l.a.stale, l.a.passing = make(map[netip.Addr]struct{}), true
	next := make(map[netip.Addr]wish, len(stale))
	for addr := range stale {
		if w, ok := l.a.desired[addr]; ok {
			next[addr] = w
		}
	}
	all := l.a.links
	if l.a.linksSerial != l.seenLinks {
		l.seenLinks = l.a.linksSerial
		l.ports.Retain(func(portKey) bool { return false })
	}
	l.a.mu.Unlock()
	for addr := range stale {
		l.follow(addr, next[addr])
	}
	return all
}

// follow brings one address from its last wish to the next one.
func (l *loop) follow(addr netip.Addr, next wish) {
	last := l.wishes[addr]
	for _, c := range last.placements {
		if _, still := next.on(c.link); !still {
			key := portKey{neighbor.ProtocolOf(addr), c.link}
			delete(l.wanted[key], addr)
			if len(l.wanted[key]) == 0 {
				delete(l.wanted, key)
			}
			l.markDiffering(key, addr)
		}
	}
	for _, c := range next.placements {
		key := portKey{neighbor.ProtocolOf(addr), c.link}
		if l.wanted[key] == nil {
			l.wanted[key] = make(map[netip.Addr]portPlacement)
		}
		l.wanted[key][addr] = portPlacement{placement: c, policy: next.policy, promiscuous: next.promiscuous}
		l.markDiffering(key, addr)
	}
	if len(next.placements) == 0 {
		delete(l.wishes, addr)
		return
	}
	l.wishes[addr] = next
}

func (l *loop) markDiffering(key portKey, addr netip.Addr) {
	if _, open := l.ports.Get(key); !open {
		return // a port that is opened looks at all
	}
	if l.differ[key] == nil {
		l.differ[key] = make(map[netip.Addr]struct{})
	}
	l.differ[key][addr] = struct{}{}
}

// announceOn makes one port announce exactly what is wanted, and opens it when it
// is not open. It returns why the addresses are not announced.
func (l *loop) announceOn(key portKey, all map[string]links.Link, now time.Time) Problem {
	link, ok := all[key.link]
	switch {
	case !ok:
		l.ports.Forget(key)
		return ProblemLinkMissing
	case !link.Up:
		l.ports.Forget(key)
		return ProblemLinkDown
	case !neighbor.IsStation(link.HardwareAddr):
		l.ports.Forget(key)
		return ProblemNotEthernet
	}
	p, open := l.ports.Get(key)
	differ := addresses(l.differ[key])
	if !open {
		if wait, _ := l.ports.Wait(key, now); wait > 0 {
			return ProblemSocket
		}
		var err error
		if p, err = l.openPort(key, link, now); err != nil {
			l.failed(key, err, now)
			return ProblemSocket
		}
		differ = addresses(l.wanted[key])
	}
	delete(l.differ, key)
	if len(differ) == 0 && len(p.unjoined) == 0 && p.isPromiscuous == (p.promiscuous > 0) {
		l.ports.Worked(key)
		return ""
	}
	before := make(map[netip.Addr]portPlacement, len(differ))
	for _, addr := range differ {
		if c, ok := p.placements[addr]; ok {
			before[addr] = c
		}
	}
	groupErr, err := p.pass(l.wanted[key], differ)
	if err != nil {
		l.closePort(key, "socket failed")
		l.failed(key, err, now)
		return ProblemSocket
	}
	if groupErr != nil {
		l.failed(key, groupErr, now)
	} else {
		l.ports.Worked(key)
	}
	l.publish(p, before, differ, now)
	return ""
}

// publish starts bursts for the placements that are new on the port or changed, stops
// those of what it has no more, and records both for State. The
// addresses are those that may differ from before.
func (l *loop) publish(p *port, before map[netip.Addr]portPlacement, differ []netip.Addr, now time.Time) {
	for _, addr := range differ {
		key := burstKey{p.key, addr}
		was, had := before[addr]
		is, has := p.placements[addr]
		switch {
		case had && !has:
			l.retract(key, "withdrawn")
		case has && !had, has && was.serial != is.serial:
			l.begin(p, key, is, now)
		case has && was.policy != is.policy && is.announces():
			l.bursts.adjust(key, is.policy, now)
		}
	}
}

// begin announces an address, or answers without announcing it.
func (l *loop) begin(p *port, key burstKey, c portPlacement, now time.Time) {
	live := livePlacement{placement: c.placement, since: now}
	l.a.mu.Lock()
	if was, ok := l.a.live[key]; ok && was.born == c.born {
		live.since = was.since
	}
	l.a.live[key] = live
	l.a.mu.Unlock()
	if !c.announces() {
		l.bursts.stop(key)
		mac := p.link.HardwareAddr
		if c.as != nil {
			mac = c.as
		}
		l.a.log.Debug("answering without announcing",
			"address", key.addr, "link", key.port.link, "mac", mac.String())
		return
	}
	l.bursts.start(key, c.policy, now)
	l.a.log.Debug("announcing",
		"address", key.addr, "link", key.port.link, "mac", p.link.HardwareAddr.String())
}

// retract forgets an announcement.
func (l *loop) retract(key burstKey, why string) {
	l.bursts.stop(key)
	l.a.mu.Lock()
	delete(l.a.live, key)
	l.a.mu.Unlock()
	l.a.log.Debug("withdrew", "address", key.addr, "link", key.port.link, "message", why)
}

// comparePortKeys orders by link, then by protocol.
func comparePortKeys(a, b portKey) int {
	return cmp.Or(cmp.Compare(a.link, b.link), cmp.Compare(a.protocol, b.protocol))
}
