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
	Queue  *Queue
	Source Source
	// Protocols reconcile each address in this order.
	Protocols []Protocol
	Warnings  *Warnings
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
	for _, p := range l.c.Protocols {
		all = append(all, p.Known()...)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all), nil
}

// Reconcile reconciles addresses now, whatever is in the queue, and returns when it is
// done.
func (l *Loop) Reconcile(ctx context.Context, addrs []netip.Addr) error {
	return l.inParts(ctx, addrs, false)
}

// Resume reconciles every address now by all protocols, although Inputs are not settled
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

// part reconciles addresses with the same inputs; by all protocols when these are settled,
// or the speaker resumes.
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

	defer func() {
		for _, p := range slices.Backward(l.c.Protocols) {
			p.Flush()
		}
	}()
	for _, addr := range addrs {
		services, err := l.c.Source.Services(ctx, addr)
		if err != nil {
			return err
		}
		services, until := in.Unheard.Assume(services)
		l.requeue(addr, until, in.Now)

		l.one(in, Address{Addr: addr, Services: services}, in.Settled || resumes)
	}
	return nil
}

// one has the protocols reconcile one address, but those that need to know which other
// speakers are alive only when that is known.
func (l *Loop) one(in Inputs, a Address, known bool) {
	var outcomes []Outcome
	for _, p := range l.c.Protocols {
		if p.NeedsMembers() && !known {
			continue
		}
		o := p.Reconcile(in, a)
		l.requeue(a.Addr, o.Recheck, in.Now)
		a.Elsewhere = a.Elsewhere || o.Reason != ""
		outcomes = append(outcomes, o)
	}
	if len(outcomes) < len(l.c.Protocols) {
		return // what is missing may be about to come
	}
	if wait := l.c.Warnings.Consider(in.Now, a.Addr, outcomes...); wait > 0 {
		l.c.Queue.RequeueAfter(a.Addr, wait)
	}
}

func (l *Loop) requeue(addr netip.Addr, at, now time.Time) {
	if !at.IsZero() {
		l.c.Queue.RequeueAfter(addr, max(at.Sub(now), 1))
	}
}
