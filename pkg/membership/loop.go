package membership

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// leaveTimeout bounds the goodbye.
	leaveTimeout = time.Second
	// maxJoins bounds how many joins are under way at one time.
	maxJoins = 16
)

// loop is the goroutine of Run and what it owns.
type loop struct {
	*Membership
	list *memberlist.Memberlist
	// peers are the known ones, told is true when they were ever set.
	peers []netip.AddrPort
	told  bool
	// queue are the peers to try next, joining those being tried, and tried those
	// that were tried at least once since they became known.
	queue   []netip.AddrPort
	joining map[netip.AddrPort]bool
	tried   map[netip.AddrPort]bool
	results chan joinResult
	// last are the members as they were last logged.
	last []entry
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
		joining:    make(map[netip.AddrPort]bool),
		tried:      make(map[netip.AddrPort]bool),
		results:    make(chan joinResult),
	}
}

func (l *loop) run(ctx context.Context) {
	defer l.stop()
	ticker := time.NewTicker(l.config.RejoinInterval)
	defer ticker.Stop()
	l.readNews()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.news:
			l.readNews()
		case <-l.view.look:
			l.lookAtMembers()
		case <-ticker.C:
			l.enqueueMissing()
		case r := <-l.results:
			l.joined(r)
		}
		l.startJoins()
		l.checkSettled()
	}
}

// readNews takes over what the user has set.
func (l *loop) readNews() {
	t := l.takeTask()
	if t.newMeta {
		// The news is in the queue of broadcasts when this returns; waiting until
		// it was sent, which the timeout ends, is of no use. There is no other error.
		_ = l.list.UpdateNode(time.Nanosecond)
	}
	if t.newPeers {
		l.peers, l.told = t.peers, t.told
		for peer := range l.tried {
			if !slices.Contains(l.peers, peer) {
				delete(l.tried, peer)
			}
		}
		l.enqueueMissing()
		l.startJoins()
		l.checkSettled()
	}
}

// enqueueMissing queues the peers that are not alive.
func (l *loop) enqueueMissing() {
	alive := l.view.members()
	l.queue = slices.DeleteFunc(slices.Clone(l.peers), func(p netip.AddrPort) bool { return isAlive(alive, p) })
}

// startJoins starts joins from the queue as far as the limit lets it.
func (l *loop) startJoins() {
	if len(l.queue) == 0 {
		return
	}
	alive := l.view.members()
	for len(l.queue) > 0 && len(l.joining) < maxJoins {
		peer := l.queue[0]
		l.queue = l.queue[1:]
		// The last join may have brought more than its peer.
		if l.joining[peer] || isAlive(alive, peer) {
			continue
		}
		l.joining[peer] = true
		go func() {
			_, err := l.list.Join([]string{peer.String()})
			l.results <- joinResult{peer, err}
		}()
	}
}

// joined handles the end of a join. Failures are logged when a peer is first
// found to be missing, not with every try.
func (l *loop) joined(r joinResult) {
	delete(l.joining, r.peer)
	first := !l.tried[r.peer]
	l.tried[r.peer] = true
	if r.err == nil {
		l.settle("joined a peer")
		return
	}
	if first {
		l.log.Info("peer does not answer", "address", r.peer, "error", fmt.Errorf("join: %w", r.err))
	}
}

// checkSettled finds out whether everybody was asked.
func (l *loop) checkSettled() {
	switch {
	case len(l.view.members()) > 1:
		l.settle("met a member")
	case !l.told:
	case len(l.peers) == 0:
		l.settle("no peers")
	case !slices.ContainsFunc(l.peers, func(p netip.AddrPort) bool { return !l.tried[p] }):
		l.settle("no peer answers")
	}
}

// lookAtMembers logs who came and went.
func (l *loop) lookAtMembers() {
	now := l.view.members()
	for _, e := range now {
		i := indexOf(l.last, e.Name)
		switch {
		case i < 0:
			l.log.Info("member alive", "node", e.Name, "address", e.Addr)
		case l.last[i].Addr != e.Addr || l.last[i].port != e.port:
			l.log.Info("member moved", "node", e.Name, "address", e.Addr)
		case !bytes.Equal(l.last[i].Meta, e.Meta):
			l.log.Debug("member says", "node", e.Name, "bytes", len(e.Meta))
		}
	}
	for _, e := range l.last {
		if indexOf(now, e.Name) < 0 {
			l.log.Info("member gone", "node", e.Name, "address", e.Addr)
		}
	}
	l.last = now
}

// stop leaves and waits for what runs.
func (l *loop) stop() {
	if err := l.list.Leave(leaveTimeout); err != nil {
		l.log.Warn("cannot say goodbye", "error", err)
	}
	if err := l.list.Shutdown(); err != nil {
		l.log.Warn("cannot shut down", "error", err)
	}
	for len(l.joining) > 0 {
		r := <-l.results
		delete(l.joining, r.peer)
	}
	l.lines.muted.Store(true)
	l.view.close()
}

func isAlive(alive []entry, peer netip.AddrPort) bool {
	return slices.ContainsFunc(alive, func(e entry) bool { return netip.AddrPortFrom(e.Addr, e.port) == peer })
}

func indexOf(entries []entry, name string) int {
	return slices.IndexFunc(entries, func(e entry) bool { return e.Name == name })
}
