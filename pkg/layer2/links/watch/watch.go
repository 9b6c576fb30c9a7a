package watch

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/layer2/links"
)

const (
	// lookInterval is the least time between two snapshots of the links. The
	// first event after a quiet time is looked at at once.
	lookInterval = 20 * time.Millisecond
	// watchRetry is the delay before a failed subscription or snapshot is tried
	// again.
	watchRetry = time.Second
	// routeInterval is how often the links are looked at when two of them are in
	// one subnet or one has an address without a subnet: then routes count too, of
	// which no event tells.
	routeInterval = 10 * time.Second
)

// Watcher knows the links of this node from what the kernel tells of them.
// An event only says "look again", then a whole snapshot is taken and compared
// with the last one, and Changed wakes when they differ. It does
// not poll, except on a node where routes count, see [links.NeedRoutes].
type Watcher struct {
	log     *slog.Logger
	changed notify.Signal

	mu    sync.Mutex
	links []links.Link
}

// New returns a watcher that knows nothing yet. The logger gets links
// that came, went or changed; nil means that nothing is logged.
func New(logger *slog.Logger) *Watcher {
	return &Watcher{
		log:     cmp.Or(logger, slog.New(slog.DiscardHandler)),
		changed: notify.NewSignal(),
	}
}

// Links returns the last snapshot, sorted by index; nil before the first. The
// caller may keep and change it.
func (w *Watcher) Links() []links.Link {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.links == nil {
		return nil
	}
	return links.Clone(w.links)
}

// Changed returns a channel of one: a value means that Links returns something
// else than when the last value was taken, and has one after the first snapshot.
// There is one channel for all callers.
func (w *Watcher) Changed() <-chan struct{} { return w.changed.C() }

// Run watches until ctx ends and then returns nil, when every goroutine it
// started has ended. It returns an error when the kernel refuses the first
// subscription; later ones are tried again every second. Run must not run twice
// at the same time.
func (w *Watcher) Run(ctx context.Context) error {
	sub, err := subscribeLinks()
	if err != nil {
		return fmt.Errorf("watch links: %w", err)
	}
	for sub != nil {
		if err := w.follow(ctx, sub); err != nil {
			w.log.Warn("link events interrupted", "error", err)
		}
		sub = w.resubscribe(ctx)
	}
	return nil
}

// resubscribe tries until it has a subscription, or returns nil when ctx ended.
func (w *Watcher) resubscribe(ctx context.Context) *linkEvents {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchRetry):
		}
		sub, err := subscribeLinks()
		if err == nil {
			return sub
		}
		w.log.Warn("link events interrupted", "error", err)
	}
}

// follow takes a snapshot at once and after events until the subscription fails
// (an error) or ctx ends (nil). It closes the subscription.
func (w *Watcher) follow(ctx context.Context, sub *linkEvents) error {
	look := notify.NewSignal()
	look.Set()
	var failure error // once failed is closed
	failed := make(chan struct{})
	go func() {
		defer close(failed)
		failure = sub.forward(look)
	}()
	defer func() {
		sub.close()
		<-failed
	}()
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-failed:
			return failure
		case <-look.C():
		case <-again:
		}
		again = nil
		if found, err := Read(); err == nil {
			w.store(found)
			if links.NeedRoutes(found) {
				again = time.After(routeInterval)
			}
		} else {
			w.log.Warn("cannot read links", "error", err)
			again = time.After(watchRetry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lookInterval):
		}
	}
}

// store keeps a snapshot and wakes whoever waits on Changed when it is new.
func (w *Watcher) store(found []links.Link) {
	slices.SortFunc(found, func(a, b links.Link) int { return cmp.Compare(a.Index, b.Index) })
	w.mu.Lock()
	old := w.links
	w.links = found
	w.mu.Unlock()
	if old != nil && slices.EqualFunc(old, found, links.Link.Equal) {
		return
	}
	w.logChanges(old, found)
	w.changed.Set()
}

func (w *Watcher) logChanges(old, found []links.Link) {
	before := make(map[int]links.Link, len(old))
	for _, l := range old {
		before[l.Index] = l
	}
	for _, l := range found {
		was, known := before[l.Index]
		delete(before, l.Index)
		if !known || !was.Equal(l) {
			w.log.Info("link",
				"link", l.Name, "up", l.Up, "mac", l.HardwareAddr.String(), "prefixes", l.Prefixes)
		}
	}
	for _, l := range old {
		if _, gone := before[l.Index]; gone {
			w.log.Info("link gone", "link", l.Name)
		}
	}
}
