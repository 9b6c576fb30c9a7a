package membership

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// leaveTimeout bounds the goodbye.
	leaveTimeout = time.Second
	// forgetEvery is how often is looked for what is old.
	forgetEvery = time.Minute
)

// loop is the goroutine of Run and what it owns.
type loop struct {
	*Membership
	list     *memberlist.Memberlist
	spreader *spreader
	// peers are the known ones, told is true when they were ever set.
	peers []netip.AddrPort
	told  bool
	// queue has the members to join, tried those that were tried at least once since
	// they became known.
	queue   *joinQueue
	tried   map[netip.AddrPort]bool
	results chan joinResult
	// last are the members as they were last logged.
	last []acquaintance
	// lost are the losses that were logged.
	lost losses
	// nodes are the addresses that were set.
	nodes []netip.Addr
	// refused is when it was last logged that something was refused, contradicted how
	// many contradictions were logged and when.
	refused      time.Time
	contradicted struct {
		count uint64
		at    time.Time
	}
}

// joinResult is the end of an attempt to join a peer.
type joinResult struct {
	peer netip.AddrPort
	err  error
}

func newLoop(m *Membership, list *memberlist.Memberlist) *loop {
	return &loop{
		Membership: m,
		list:       list,
		spreader:   &spreader{view: m.view, send: list.SendBestEffort},
		queue:      newJoinQueue(),
		tried:      make(map[netip.AddrPort]bool),
		results:    make(chan joinResult),
	}
}

// work takes part until ctx ends.
func (l *loop) work(ctx context.Context) {
	var spreading sync.WaitGroup
	spreading.Go(func() { l.spreader.run(ctx) })
	defer spreading.Wait()
	ticker := time.NewTicker(l.config.RejoinInterval)
	defer ticker.Stop()
	forget := time.NewTicker(forgetEvery)
	defer forget.Stop()
	l.readNews()
	for {
		l.config.Pass.End()
		select {
		case <-ctx.Done():
			return
		case <-l.news:
			l.config.Pass.Begin()
			l.readNews()
		case <-l.view.look:
			l.config.Pass.Begin()
			l.lookAtMembers()
		case now := <-ticker.C:
			l.config.Pass.Begin()
			l.enqueueMissing()
			l.applyKeys(now)
			l.tellRefused(now)
			l.tellContradicted(now)
		case now := <-forget.C:
			l.config.Pass.Begin()
			l.view.forget(now)
		case r := <-l.results:
			l.config.Pass.Begin()
			l.joined(r)
		}
		l.startJoins()
		l.checkSettled()
	}
}

// readNews takes over what the user has set.
func (l *loop) readNews() {
	t := l.takeTask()
	if t.newNodes {
		l.nodes = t.nodes
		l.knowHosts()
	}
	if t.newPeers {
		l.peers, l.told = t.peers, t.told
		for peer := range l.tried {
			if !slices.Contains(l.peers, peer) {
				delete(l.tried, peer)
			}
		}
		l.knowHosts()
		l.enqueueMissing()
		l.startJoins()
		l.checkSettled()
	}
}

// knowHosts has the transport know whose connections have room of their own: nodes,
// peers, and members, also those that are dead, for they may come back.
func (l *loop) knowHosts() {
	known := append(slices.Clone(l.nodes), l.config.AdvertiseAddr)
	for _, p := range l.peers {
		known = append(known, p.Addr())
	}
	for _, a := range l.view.acquaintances() {
		known = append(known, a.addr.Addr())
	}
	l.hosts.know(known...)
}

// applyKeys has the keys be used whose time has come.
func (l *loop) applyKeys(now time.Time) {
	changed, err := l.keys.tick(now)
	if err != nil {
		l.log.Error("cannot use the member keys", "error", err)
	}
	if changed {
		l.log.Info("another member key encrypts now")
	}
}

// tellRefused logs that something was refused, now and then.
func (l *loop) tellRefused(now time.Time) {
	if now.Sub(l.refused) < tellEvery {
		return
	}
	if n, last := l.counter.takeRefused(); n > 0 {
		l.refused = now
		l.log.Warn("connections or packets to the member port were refused",
			"count", n, "address", last.source, "reason", string(last.why))
	}
}

// tellContradicted logs that this member had to contradict, now and then.
func (l *loop) tellContradicted(now time.Time) {
	n := l.view.contradictions()
	if n == l.contradicted.count || now.Sub(l.contradicted.at) < tellEvery {
		return
	}
	l.log.Warn("others say of this node what it has not said; it was corrected",
		"count", n-l.contradicted.count, "message", "a second node has this name, the clock went back, or somebody forges")
	l.contradicted.count, l.contradicted.at = n, now
}

// enqueueMissing queues the peers that are not alive, and the dead whether they are
// peers or not: one side of a torn cluster may see the other alive again while that
// one does not, and then only the latter asks.
func (l *loop) enqueueMissing() {
	all := l.view.acquaintances()
	missing := slices.DeleteFunc(slices.Clone(l.peers), func(p netip.AddrPort) bool { return isAlive(all, p) })
	for _, a := range all {
		if a.state == Dead && a.addr.IsValid() && !slices.Contains(missing, a.addr) {
			missing = append(missing, a.addr)
		}
	}
	l.queue.set(missing)
}

// startJoins starts joins from the queue as far as the limit lets it.
func (l *loop) startJoins() {
	if len(l.queue.waiting) == 0 {
		return
	}
	alive := l.view.acquaintances()
	for {
		// The last join may have brought more than its peer.
		peer, ok := l.queue.next(func(p netip.AddrPort) bool { return isAlive(alive, p) })
		if !ok {
			return
		}
		go func() {
			_, err := l.list.Join([]string{peer.String()})
			l.results <- joinResult{peer, err}
		}()
	}
}

// joined handles the end of a join. Failures are logged when a peer is first
// found to be missing, not with every try.
func (l *loop) joined(r joinResult) {
	l.queue.done(r.peer)
	first := !l.tried[r.peer]
	l.tried[r.peer] = true
	if r.err == nil {
		// Not with one that was not understood.
		if l.view.hasMet() {
			l.settle("joined a peer")
		}
		return
	}
	if first {
		l.log.Info("peer does not answer", "address", r.peer, "error", fmt.Errorf("join: %w", r.err))
	}
}

// checkSettled finds out whether everybody was asked.
func (l *loop) checkSettled() {
	switch {
	case l.view.hasMet():
		l.settle("met a member")
	case !l.told:
	case len(l.peers) == 0:
		l.settle("no peers")
	case !slices.ContainsFunc(l.peers, func(p netip.AddrPort) bool { return !l.tried[p] }):
		l.settle("no peer answers, or none that is understood")
	}
}

// lookAtMembers logs who came and went.
func (l *loop) lookAtMembers() {
	now := l.view.acquaintances()
	for _, a := range now {
		i := indexOf(l.last, a.name)
		was := Dead
		if i >= 0 {
			was = l.last[i].state
		}
		switch {
		case a.state == Alive && was != Alive:
			l.log.Info("member alive", "node", a.name, "address", a.addr.Addr())
			l.lookAtFormat(a)
		case a.state == Alive && l.last[i].addr != a.addr:
			l.log.Info("member moved", "node", a.name, "address", a.addr.Addr())
			l.lookAtFormat(a)
		case a.state == Alive && l.last[i].format != a.format: // it was away for too short to be seen
			l.lookAtFormat(a)
		case a.state != Alive && was == Alive:
			l.log.Info("member gone", "node", a.name, "address", a.addr.Addr(), "reason", a.state)
		}
	}
	for _, a := range l.last {
		if a.state == Alive && indexOf(now, a.name) < 0 {
			l.log.Info("member gone", "node", a.name, "address", a.addr.Addr(), "reason", Dead)
		}
	}
	l.last = now
	l.knowHosts()
	l.lookAtLosses()
}

// lookAtFormat logs that a member and this one do not understand each other.
func (l *loop) lookAtFormat(a acquaintance) {
	if !a.format.Readable() {
		l.log.Warn("member speaks a format that this version does not read; what it says is not known",
			"node", a.name, "format", a.format)
	}
	if !a.format.reads(formatMajor) {
		l.log.Warn("member does not read the format of this version; it does not know what this one says",
			"node", a.name, "format", a.format)
	}
}

// lookAtLosses logs each kind of loss once.
func (l *loop) lookAtLosses() {
	now := l.view.losses()
	if now.dropped > 0 && l.lost.dropped == 0 {
		l.log.Warn("members say more than is remembered", "count", now.dropped)
	}
	if now.refused > 0 && l.lost.refused == 0 {
		l.log.Warn("messages of members cannot be read", "count", now.refused)
	}
	if now.cut && !l.lost.cut {
		l.log.Warn("members say more than fits into an exchange")
	}
	l.lost = now
}

// leave says what is left to say, and goodbye.
func (l *loop) leave() {
	l.view.say(lifeKey, lifeValue(lifeLeft, netip.AddrPortFrom(l.config.AdvertiseAddr, l.config.Port)))
	l.spreader.goodbye()
	if err := l.list.Leave(leaveTimeout); err != nil {
		l.log.Warn("cannot say goodbye", "error", err)
	}
}

// end waits for what runs.
func (l *loop) end() {
	l.setRunning(nil)
	if err := l.list.Shutdown(); err != nil {
		l.log.Warn("cannot shut down", "error", err)
	}
	for len(l.queue.underWay) > 0 {
		l.queue.done((<-l.results).peer)
	}
	l.lines.muted.Store(true)
	l.view.close()
}
