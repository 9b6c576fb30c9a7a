package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/prober"
	"github.com/berth-lb/berth/pkg/membership"
)

// watch follows what changes by itself: links, members, probes and time. It
// keeps the picture of the fellows right, tells them what this node sees, and
// has addresses looked at.
type watch struct {
	view      *view
	fellows   *fellowship
	members   members
	prober    nodeProber
	announcer fellowListener
	links     linkSource
	log       *slog.Logger

	all     func()           // has every address looked at
	one     func(netip.Addr) // has one looked at
	told    func()           // has the Speaker object written again
	changed chan struct{}    // of one: objects, configuration or pings changed
	pinging sync.Map         // node -> struct{}, while it is pinged
	pings   sync.WaitGroup
	looking sync.Mutex // what is seen later is told later
}

// members is the membership of speakers, of which this one is a member.
type members interface {
	Run(context.Context) error
	Changed() <-chan struct{}
	Members() []membership.Member
	Settled() bool
	SetPeers([]netip.AddrPort)
	SetNodes([]netip.Addr)
	SetKeys([][]byte) error
	Say(key string, value []byte) error
	SayAll(prefix string, values map[string][]byte) error
	Ping(ctx context.Context, node string) error
	Confirm(context.Context) error
}

// nodeProber probes the kernels of other nodes.
type nodeProber interface {
	Changed() <-chan struct{}
	SetLinks([]links.Link)
	SetTargets([]prober.Target)
	LinkReach() prober.LinkReach
}

// fellowListener tells fellows' frames from those of strangers.
type fellowListener interface {
	SetLinks([]links.Link)
	SetFellows([]net.HardwareAddr)
}

// linkSource knows the links of this node.
type linkSource interface {
	Changed() <-chan struct{}
	Links() []links.Link
}

// again has watch look again.
func (w *watch) again() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// run watches until ctx ends.
func (w *watch) run(ctx context.Context) error {
	defer w.pings.Wait()
	pass := w.view.state.loops.Loop("watch")
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.links.Changed():
			now := w.links.Links()
			w.announcer.SetLinks(now)
			w.prober.SetLinks(now)
		case <-w.members.Changed():
		case <-w.prober.Changed():
		case <-w.changed:
		case <-timer.C:
		}
		begin := time.Now()
		pass.Begin()
		due := w.look(ctx)
		pass.End()
		w.rest(ctx, time.Since(begin))
		timer.Reset(due)
	}
}

// rest lets news gather for some times as long as the last look took, so that
// thousands of claims, which come in hundreds of messages, are looked at
// together and leave the processor to those who act on them.
func (*watch) rest(ctx context.Context, took time.Duration) {
	const times, most = 4, 50 * time.Millisecond
	select {
	case <-ctx.Done():
	case <-time.After(min(times*took, most)):
	}
}

// look looks at everything once, and returns how long nothing will be due.
func (w *watch) look(ctx context.Context) time.Duration {
	const idle = time.Hour
	w.looking.Lock()
	defer w.looking.Unlock()
	moved, back := w.view.lookAtLinks()
	if moved {
		w.say(saysLink, linkValues(w.view.ownLinks()))
	}
	if back {
		w.fellows.wasBlind(time.Now())
		w.comeBack(ctx)
	}
	w.say(saysProbe, w.fellows.ownReports())
	now := time.Now()
	claimed, fellows := w.fellows.look(now)
	w.ping(ctx)
	p := w.fellows.current()
	w.prober.SetTargets(p.targets(w.view.node, w.view.ownLinks(), w.prober.LinkReach().Doubtful))
	w.announcer.SetFellows(p.macs())
	switch {
	case moved || fellows:
		w.all()
		w.told()
	default:
		for _, addr := range claimed {
			w.one(addr)
		}
	}
	if p.recheck.IsZero() {
		return idle
	}
	return min(max(p.recheck.Sub(now), time.Millisecond), idle)
}

// comeBack has this node, which is returning, ask its fellows before it
// announces anything. Each return asks by itself: what an earlier one was told
// is from before the links were lost again.
func (w *watch) comeBack(ctx context.Context) {
	w.pings.Go(func() {
		bounded, cancel := context.WithTimeout(ctx, confirmTimeout)
		defer cancel()
		if err := w.members.Confirm(bounded); err != nil && ctx.Err() == nil {
			w.log.Warn("no fellow answers; going on alone", "error", err)
		}
		w.look(ctx)
		w.view.returning.Add(-1)
		w.all()
	})
}

func (w *watch) say(prefix string, values map[string][]byte) {
	if err := w.members.SayAll(prefix, values); err != nil {
		w.log.Error("cannot tell the fellows", "error", err)
	}
}

// ping asks the speakers that are in question, again and again until they are
// not any more.
func (w *watch) ping(ctx context.Context) {
	if ctx.Err() != nil {
		return // nobody waits for it any more
	}
	for node, answered := range w.fellows.questionable() {
		if _, busy := w.pinging.LoadOrStore(node, struct{}{}); busy {
			continue
		}
		w.pings.Go(func() {
			if w.fellows.pinged(node, w.pingOne(ctx, node)) {
				w.again()
			}
			select {
			case <-ctx.Done():
			case <-time.After(pingPause(time.Since(answered))):
			}
			w.pinging.Delete(node)
			w.again()
		})
	}
}

// refusalTimeout is how long a node's kernel may take to refuse a connection.
const refusalTimeout = 200 * time.Millisecond

// pingOne asks one speaker, and when it does not answer, its kernel whether
// anybody listens at its port.
func (w *watch) pingOne(ctx context.Context, node string) pingResult {
	out := pingResult{failed: w.members.Ping(ctx, node) != nil}
	if peer := w.fellows.peer(node); out.failed && peer.IsValid() {
		dialer := net.Dialer{Timeout: refusalTimeout}
		conn, err := dialer.DialContext(ctx, "tcp", peer.String())
		if err == nil {
			_ = conn.Close() // nothing was said
		}
		out.refused = errors.Is(err, syscall.ECONNREFUSED)
	}
	out.at = time.Now()
	return out
}

// pingPause is how long a speaker is left alone after a ping, when the kernel
// of its node last answered so long ago.
func pingPause(silent time.Duration) time.Duration {
	if silent < 10*time.Second {
		return 100 * time.Millisecond
	}
	return 2 * time.Second
}

// macs are the hardware addresses of all fellows.
func (p picture) macs() []net.HardwareAddr {
	var out []net.HardwareAddr
	for _, f := range p.fellows {
		for _, l := range f.Links {
			out = append(out, l.HardwareAddr)
		}
	}
	return out
}
