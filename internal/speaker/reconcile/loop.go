package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/announcement"
)

const (
	// PartSize is how many addresses are reconciled with the same Inputs. To gather these
	// takes as long as to decide for some addresses, and a change has to wait until the
	// part ends.
	PartSize = 64
	// retry is how soon an address is reconciled again if its inputs could not be read.
	retry = time.Second
)

// Source supplies a [Loop] with the inputs of decisions.
type Source interface {
	// Inputs gathers what all decisions of one moment have in common.
	Inputs(context.Context) (Inputs, error)
	// Services returns the Services that have an address, by name.
	Services(context.Context, netip.Addr) ([]announcement.Service, error)
	// Addresses returns the addresses of all Services, sorted.
	Addresses(context.Context) ([]netip.Addr, error)
	// UrgentFirst sorts addresses: those whose clients wait come first.
	UrgentFirst([]netip.Addr) []netip.Addr
}

// LoopConfig is what a [Loop] works with.
type LoopConfig struct {
	Queue    *Queue
	Source   Source
	Layer2   Protocol // decides nothing before Inputs are settled, or Resume is called
	BGP      Protocol
	Warnings *Warnings
	// Configured is set when there is a configuration. Nothing is reconciled before.
	Configured notify.Latch
	Loops      *kube.Loops
	Logger     *slog.Logger
}

// A Loop takes addresses from a [Queue], gathers the inputs of decisions, and calls the
// protocols.
type Loop struct {
	c LoopConfig
	// deciding is held while a part is reconciled: a decision must not be recorded
	// after one that saw more.
	deciding sync.Mutex
}

// NewLoop returns a Loop. It does nothing before [Loop.Run].
func NewLoop(c LoopConfig) *Loop { return &Loop{c: c} }

// Run reconciles the addresses of the queue until ctx ends.
func (l *Loop) Run(ctx context.Context) error {
	select {
	case <-l.c.Configured.C():
	case <-ctx.Done():
		return nil
	}
	pass := l.c.Loops.Loop("addresses")
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.c.Queue.news.C():
		}
		for more := true; more && ctx.Err() == nil; {
			pass.Begin()
			more = l.Next(ctx)
			pass.End()
		}
	}
}

// Next reconciles the next addresses of the queue, and reports whether there may be more.
func (l *Loop) Next(ctx context.Context) (more bool) {
	if l.c.Queue.takeAll() {
		all, err := l.all(ctx)
		if err != nil {
			l.c.Logger.Error("cannot list addresses", "error", err)
			time.AfterFunc(retry, func() { l.c.Queue.RequeueAll() })
			return true
		}
		l.c.Queue.begin(l.c.Source.UrgentFirst(l.c.Queue.backlogFirst(all)))
	}

	next := l.c.Queue.take(PartSize)
	if len(next) == 0 {
		return false
	}
	if err := l.part(ctx, next, false); err != nil {
		if ctx.Err() == nil {
			l.c.Logger.Error("cannot reconcile addresses", "error", err)
		}
		for _, addr := range next {
			l.c.Queue.RequeueAfter(addr, retry)
		}
		return true
	}
	l.c.Queue.done(next)
	return true
}

// all returns every address that a Service has or a protocol remembers, sorted.
func (l *Loop) all(ctx context.Context) ([]netip.Addr, error) {
	all, err := l.c.Source.Addresses(ctx)
	if err != nil {
		return nil, err
	}
	all = slices.Concat(all, l.c.Layer2.Known(), l.c.BGP.Known())
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all), nil
}

// Reconcile reconciles addresses now, whatever is in the queue, and returns when it is
// done.
func (l *Loop) Reconcile(ctx context.Context, addrs []netip.Addr) error {
	return l.inParts(ctx, addrs, false)
}

// Resume reconciles every address now by both protocols, although Inputs are not settled
// yet: its caller knows which other speakers are alive, and is about to publish that this
// one is ready. When Resume returns, this node announces what it owns.
func (l *Loop) Resume(ctx context.Context) error {
	all, err := l.all(ctx)
	if err != nil {
		return err
	}
	return l.inParts(ctx, all, true)
}

func (l *Loop) inParts(ctx context.Context, addrs []netip.Addr, resumes bool) error {
	var errs []error
	for part := range slices.Chunk(addrs, PartSize) {
		errs = append(errs, l.part(ctx, part, resumes))
	}
	return errors.Join(errs...)
}

// part reconciles addresses with the same inputs; by layer 2 when these are settled, or
// the speaker resumes.
func (l *Loop) part(ctx context.Context, addrs []netip.Addr, resumes bool) error {
	l.deciding.Lock()
	defer l.deciding.Unlock()
	// All parts together may take longer than a loop may stall; this one does not.
	l.c.Loops.Loop("addresses").Step()
	in, err := l.c.Source.Inputs(ctx)
	if err != nil {
		return err
	}
	in.reporter = in.Reporter()

	defer l.c.BGP.Flush()
	defer l.c.Layer2.Flush()
	for _, addr := range addrs {
		services, err := l.c.Source.Services(ctx, addr)
		if err != nil {
			return err
		}
		l.one(in, Address{Addr: addr, Services: services}, in.Settled || resumes)
	}
	return nil
}

// one has BGP reconcile one address, because each node announces there by itself, and layer
// 2 if the speaker knows which others are alive.
func (l *Loop) one(in Inputs, a Address, layer2 bool) {
	byBGP := l.c.BGP.Reconcile(in, a)
	l.requeue(a.Addr, byBGP.Recheck, in.Now)
	if !layer2 {
		return
	}
	a.Elsewhere = byBGP.Reason != ""
	byLayer2 := l.c.Layer2.Reconcile(in, a)
	l.requeue(a.Addr, byLayer2.Recheck, in.Now)

	if wait := l.c.Warnings.Consider(in.Now, a.Addr, byLayer2, byBGP); wait > 0 {
		l.c.Queue.RequeueAfter(a.Addr, wait)
	}
}

func (l *Loop) requeue(addr netip.Addr, at, now time.Time) {
	if !at.IsZero() {
		l.c.Queue.RequeueAfter(addr, max(at.Sub(now), 1))
	}
}
