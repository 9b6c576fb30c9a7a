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
	links := l.takeChanges()
	for _, key := range sortedKeys(l.ports) {
		p := l.ports[key]
		link, ok := links[key.link]
		switch {
		case len(l.wanted[key]) == 0:
			l.closePort(p, "withdrawn")
		case !ok:
			l.closePort(p, "link is gone")
		case !link.Up:
			l.closePort(p, "link is down")
		case !p.sameStation(link):
			l.closePort(p, "link has changed")
		default:
			p.prefixes = link.Prefixes
		}
	}
	maps.DeleteFunc(l.retries, func(key portKey, _ retry) bool { return len(l.wanted[key]) == 0 })
	problems := make(map[portKey]Problem)
	for _, key := range sortedKeys(l.wanted) {
		if problem := l.announceOn(key, links, now); problem != "" {
			problems[key] = problem
		}
	}
	l.mu.Lock()
	l.problems = problems
	l.mu.Unlock()
}

// takeChanges follows the changes of the desired state since the last pass, and
// returns the links. It forgets about delays when these are other than the last
// time.
func (l *loop) takeChanges() map[string]links.Link {
	l.mu.Lock()
	stale := l.stale
	l.stale = make(map[netip.Addr]struct{})
	next := make(map[netip.Addr]wish, len(stale))
	for addr := range stale {
		if w, ok := l.desired[addr]; ok {
			next[addr] = w
		}
	}
	links := l.links
	if l.linksSerial != l.seenLinks {
		l.seenLinks = l.linksSerial
		clear(l.retries)
	}
	l.mu.Unlock()
	for addr := range stale {
		l.follow(addr, next[addr])
	}
	return links
}

// follow brings one address from its last wish to the next one.
func (l *loop) follow(addr netip.Addr, next wish) {
	last := l.wishes[addr]
	for _, c := range last.claims {
		if _, still := next.on(c.link); !still {
			key := portKey{neighbor.ProtocolOf(addr), c.link}
			delete(l.wanted[key], addr)
			if len(l.wanted[key]) == 0 {
				delete(l.wanted, key)
			}
			l.markDiffering(key, addr)
		}
	}
	for _, c := range next.claims {
		key := portKey{neighbor.ProtocolOf(addr), c.link}
		if l.wanted[key] == nil {
			l.wanted[key] = make(map[netip.Addr]portClaim)
		}
		l.wanted[key][addr] = portClaim{claim: c, policy: next.policy, promiscuous: next.promiscuous}
		l.markDiffering(key, addr)
	}
	if len(next.claims) == 0 {
		delete(l.wishes, addr)
		return
	}
	l.wishes[addr] = next
}

func (l *loop) markDiffering(key portKey, addr netip.Addr) {
	if l.ports[key] == nil {
		return // a port that is opened looks at all
	}
	if l.differ[key] == nil {
		l.differ[key] = make(map[netip.Addr]struct{})
	}
	l.differ[key][addr] = struct{}{}
}

// announceOn makes one port announce exactly what is wanted, and opens it when it
// is not open. It returns why the addresses are not announced.
func (l *loop) announceOn(key portKey, links map[string]links.Link, now time.Time) Problem {
	link, ok := links[key.link]
	switch {
	case !ok:
		delete(l.retries, key)
		return ProblemLinkMissing
	case !link.Up:
		delete(l.retries, key)
		return ProblemLinkDown
	case !neighbor.IsStation(link.HardwareAddr):
		delete(l.retries, key)
		return ProblemNotEthernet
	}
	p, differ := l.ports[key], addresses(l.differ[key])
	if p == nil {
		if l.retries[key].at.After(now) {
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
		l.retries[key] = retry{delay: l.retries[key].delay}
		return ""
	}
	before := make(map[netip.Addr]portClaim, len(differ))
	for _, addr := range differ {
		if c, ok := p.claims[addr]; ok {
			before[addr] = c
		}
	}
	groupErr, err := p.pass(l.wanted[key], differ)
	if err != nil {
		l.closePort(p, "socket failed")
		l.failed(key, err, now)
		return ProblemSocket
	}
	if groupErr != nil {
		l.failed(key, groupErr, now)
	} else {
		l.retries[key] = retry{delay: l.retries[key].delay}
	}
	l.publish(p, before, differ, now)
	return ""
}

// publish starts bursts for the claims that are new on the port or changed, stops
// those of the claims that it has no more, and tells State about both. The
// addresses are those that may differ from before.
func (l *loop) publish(p *port, before map[netip.Addr]portClaim, differ []netip.Addr, now time.Time) {
	for _, addr := range differ {
		key := burstKey{p.key, addr}
		was, had := before[addr]
		is, has := p.claims[addr]
		switch {
		case had && !has:
			l.retract(key, "withdrawn")
		case has && !had, has && was.serial != is.serial:
			l.begin(p, key, is, now)
		case has && was.policy != is.policy && is.as == nil:
			l.bursts.adjust(key, is.policy, now)
		}
	}
}

// begin announces a claim, or stands in for its owner.
func (l *loop) begin(p *port, key burstKey, c portClaim, now time.Time) {
	live := liveClaim{claim: c.claim, since: now}
	l.mu.Lock()
	if was, ok := l.live[key]; ok && was.born == c.born {
		live.since = was.since
	}
	l.live[key] = live
	l.mu.Unlock()
	if c.as != nil {
		l.bursts.stop(key)
		l.log.Debug("standing in", "address", key.addr, "link", key.port.link, "mac", c.as.String())
		return
	}
	l.bursts.start(key, c.policy, now)
	l.log.Debug("announcing", "address", key.addr, "link", key.port.link, "mac", p.link.HardwareAddr.String())
}

// retract forgets an announcement.
func (l *loop) retract(key burstKey, reason string) {
	l.bursts.stop(key)
	l.mu.Lock()
	delete(l.live, key)
	l.mu.Unlock()
	l.log.Debug("withdrew", "address", key.addr, "link", key.port.link, "reason", reason)
}

// sortedKeys returns port keys by link, then by protocol.
func sortedKeys[V any](m map[portKey]V) []portKey {
	return slices.SortedFunc(maps.Keys(m), func(a, b portKey) int {
		return cmp.Or(cmp.Compare(a.link, b.link), cmp.Compare(a.protocol.String(), b.protocol.String()))
	})
}
