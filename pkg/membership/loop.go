package membership

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// leaveTimeout bounds how long memberlist may take to leave.
	leaveTimeout = time.Second
	// forgetEvery is how often is looked for what is old.
	forgetEvery = time.Minute
	// logEvery is how often at most it is logged that something was refused, or had to be
	// contradicted.
	logEvery = time.Minute
)

// loop is the goroutine of Run and what it owns.
type loop struct {
	m        *Membership
	list     *memberlist.Memberlist
	spreader *spreader
	// queue has the members to join, tried the peers that were tried at least once since
	// they became known.
	queue   *joinQueue
	tried   map[netip.AddrPort]bool
	results chan joinResult
	// logged is what was last logged of each kind.
	logged struct {
		members      []member
		losses       losses
		refused      time.Time
		contradicted uint64
		at           time.Time // of contradicted
	}
}

// joinResult is the end of an attempt to join a member.
type joinResult struct {
	addr netip.AddrPort
	err  error
}

func newLoop(m *Membership, list *memberlist.Memberlist) *loop {
	return &loop{
		m:        m,
		list:     list,
		spreader: &spreader{view: m.view, send: list.SendBestEffort},
		queue:    newJoinQueue(),
		tried:    make(map[netip.AddrPort]bool),
		results:  make(chan joinResult),
	}
}

// work takes part until ctx ends.
func (l *loop) work(ctx context.Context) {
	var spreading sync.WaitGroup
	spreading.Go(func() { l.spreader.run(ctx) })
	defer spreading.Wait()
	rejoin := time.NewTicker(l.m.config.RejoinInterval)
	defer rejoin.Stop()
	forget := time.NewTicker(forgetEvery)
	defer forget.Stop()
	pass := l.m.config.Pass
	for {
		pass.End()
		select {
		case <-ctx.Done():
			return
		case <-l.m.peersSet.C():
			pass.Begin()
			l.peersChanged()
		case <-l.m.nodesSet.C():
			pass.Begin()
			l.refreshHosts()
		case <-l.m.view.moved.C():
			pass.Begin()
			l.membersChanged()
		case now := <-rejoin.C:
			pass.Begin()
			l.enqueueMissing()
			l.applyKeys(now)
			l.logRefused(now)
			l.logContradicted(now)
		case now := <-forget.C:
			pass.Begin()
			l.m.view.forget(now)
		case r := <-l.results:
			pass.Begin()
			l.joined(r)
		}
		l.startJoins()
		l.checkSettled()
	}
}

// peersChanged records which peers there are now.
func (l *loop) peersChanged() {
	peers, _ := l.m.view.knownPeers()
	maps.DeleteFunc(l.tried, func(addr netip.AddrPort, _ bool) bool { return !slices.Contains(peers, addr) })
	l.refreshHosts()
	l.enqueueMissing()
}

// refreshHosts has the transport know whose connections have room of their own: nodes,
// peers, and members, also those that are dead, for they may come back.
func (l *loop) refreshHosts() {
	known := append(l.m.knownNodes(), l.m.config.AdvertiseAddr)
	peers, _ := l.m.view.knownPeers()
	for _, p := range peers {
		known = append(known, p.Addr())
	}
	for _, m := range l.m.view.snapshot() {
		known = append(known, m.addr.Addr())
	}
	l.m.hosts.know(known...)
}

// applyKeys has the keys be used whose time has come.
func (l *loop) applyKeys(now time.Time) {
	changed, err := l.m.keys.tick(now)
	if err != nil {
		l.m.log.Error("cannot use the member keys", "error", err)
	}
	if changed {
		l.m.log.Info("another member key encrypts now")
	}
}

// enqueueMissing queues the peers that are not alive, and the dead whether they are
// peers or not: one side of a torn cluster may see the other alive again while that
// one does not, and then only the latter asks.
func (l *loop) enqueueMissing() {
	members := l.m.view.snapshot()
	alive := aliveAddrs(members)
	peers, _ := l.m.view.knownPeers()
	missing := slices.DeleteFunc(slices.Clone(peers), func(addr netip.AddrPort) bool { return alive[addr] })
	for _, m := range members {
		if m.state == Dead && m.addr.IsValid() && !slices.Contains(missing, m.addr) {
			missing = append(missing, m.addr)
		}
	}
	l.queue.set(missing)
}

// startJoins starts joins from the queue as far as the limit lets it.
func (l *loop) startJoins() {
	if len(l.queue.waiting) == 0 {
		return
	}
	alive := aliveAddrs(l.m.view.snapshot())
	for {
		// The last join may have brought more than its peer.
		addr, ok := l.queue.next(func(addr netip.AddrPort) bool { return alive[addr] })
		if !ok {
			return
		}
		go func() {
			_, err := l.list.Join([]string{addr.String()})
			l.results <- joinResult{addr, err}
		}()
	}
}

// joined handles the end of a join. Failures are logged when a peer is first found to be
// missing, not with every try.
func (l *loop) joined(r joinResult) {
	l.queue.done(r.addr)
	first := !l.tried[r.addr]
	l.tried[r.addr] = true
	if r.err == nil {
		// Not with one that was not understood.
		if l.m.view.synced() {
			l.m.settle("joined a peer")
		}
		return
	}
	if first {
		l.m.log.Info("cannot join a speaker", "address", r.addr, "error", fmt.Errorf("join: %w", r.err))
	}
}

// checkSettled finds out whether everybody was asked.
func (l *loop) checkSettled() {
	peers, set := l.m.view.knownPeers()
	switch {
	case l.m.view.synced():
		l.m.settle("met a member")
	case !set:
	case len(peers) == 0:
		l.m.settle("no peers")
	case !slices.ContainsFunc(peers, func(addr netip.AddrPort) bool { return !l.tried[addr] }):
		l.m.settle("no peer answers, or none that is understood")
	}
}

// membersChanged logs who came and went, and what was lost.
func (l *loop) membersChanged() {
	last, now := l.logged.members, l.m.view.snapshot()
	l.logged.members = now
	for _, m := range now {
		was, known := find(last, m.name)
		switch {
		case m.state == Alive && was.state != Alive:
			l.m.log.Info("member alive", "node", m.name, "address", m.addr.Addr())
		case m.state == Alive && was.addr != m.addr:
			l.m.log.Info("member moved", "node", m.name, "address", m.addr.Addr())
		case m.state != Alive && was.state == Alive:
			l.m.log.Info("member gone", "node", m.name, "address", m.addr.Addr(), "state", m.state)
		}
		// It may have been gone too briefly to be seen, and come back as another version.
		if m.state == Alive && (!known || was.state != Alive || was.format != m.format) {
			l.logFormat(m)
		}
	}
	for _, m := range last {
		if _, still := find(now, m.name); m.state == Alive && !still {
			l.m.log.Info("member gone", "node", m.name, "address", m.addr.Addr(), "state", Dead)
		}
	}
	l.refreshHosts()
	l.logLosses()
}

// logFormat logs that a member and this one do not understand each other.
func (l *loop) logFormat(m member) {
	if !m.format.Readable() {
		l.m.log.Warn("member writes a format that this version does not read; what it publishes is not known",
			"node", m.name, "format", m.format)
	}
	if !m.format.reads(ownFormat.Major) {
		l.m.log.Warn("member does not read the format of this version; it misses what this one publishes",
			"node", m.name, "format", m.format)
	}
}

// logLosses logs each kind of loss once.
func (l *loop) logLosses() {
	last, now := l.logged.losses, l.m.view.losses()
	l.logged.losses = now
	if now.dropped > 0 && last.dropped == 0 {
		l.m.log.Warn("members publish more than is kept; entries were dropped", "count", now.dropped)
	}
	if now.refused > 0 && last.refused == 0 {
		l.m.log.Warn("messages of members cannot be read", "count", now.refused)
	}
	if now.cut && !last.cut {
		l.m.log.Warn("members publish more than fits into an exchange of the whole state")
	}
}

// logRefused logs that something was refused, now and then.
func (l *loop) logRefused(now time.Time) {
	if now.Sub(l.logged.refused) < logEvery {
		return
	}
	if n, last := l.m.counter.takeRefused(); n > 0 {
		l.logged.refused = now
		l.m.log.Warn("connections or packets to the member port were refused",
			"count", n, "address", last.source, "verdict", string(last.why))
	}
}

// logContradicted logs that this member had to contradict, now and then.
func (l *loop) logContradicted(now time.Time) {
	n := l.m.view.contradictions()
	if n == l.logged.contradicted || now.Sub(l.logged.at) < logEvery {
		return
	}
	l.m.log.Warn("others passed on entries of this node that it has not published; they were corrected",
		"count", n-l.logged.contradicted,
		"message", "a second node has this name, the clock went back, or somebody forges")
	l.logged.contradicted, l.logged.at = n, now
}

// leave publishes what is not published yet, and that this member leaves.
func (l *loop) leave() {
	l.m.view.publish(lifeKey, lifeValue(lifeLeft, l.m.address()))
	l.spreader.leave()
	if err := l.list.Leave(leaveTimeout); err != nil {
		l.m.log.Warn("cannot leave the membership", "error", err)
	}
}

// end waits for what runs.
func (l *loop) end() {
	l.m.setRunning(nil)
	if err := l.list.Shutdown(); err != nil {
		l.m.log.Warn("cannot shut memberlist down", "error", err)
	}
	for len(l.queue.underWay) > 0 {
		l.queue.done((<-l.results).addr)
	}
	l.m.lines.muted.Store(true)
	l.m.view.close()
}
