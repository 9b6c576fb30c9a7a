package announced

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/shared"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/internal/kube"
)

// Reporter has Services say what becomes of them by BGP.
type Reporter struct {
	state  *state.State
	cached client.Reader
	log    *slog.Logger
	class  string
	queues *shared.Queues

	mu    sync.Mutex
	pacer *pacer
}

// New returns a Reporter that has reported nothing.
func New(with shared.Shared) *Reporter {
	return &Reporter{
		state:  with.State,
		queues: with.Queues,
		cached: with.Cached,
		log:    with.Log,
		class:  with.Class,
		pacer:  newPacer(),
	}
}

// Run evaluates all Services whenever something has changed, until ctx ends.
func (b *Reporter) Run(ctx context.Context) error {
	select {
	case <-b.state.Adopted.C():
	case <-ctx.Done():
		return nil
	}
	b.queues.Announced.Set()
	timer := time.NewTimer(0)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.queues.Announced.C():
		case <-timer.C:
		}
		start := time.Now()
		again, err := b.Evaluate(ctx, start)
		if err != nil && ctx.Err() == nil {
			b.log.Error("cannot evaluate what is announced by BGP", "error", err)
			again = start.Add(troubleDelay)
		}
		// It takes no more than a tenth of the time, however much changes.
		pause := max(time.Second, 10*time.Since(start))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		timer.Stop()
		if !again.IsZero() {
			timer.Reset(time.Until(again))
		}
	}
}

// Evaluate gathers, evaluates, and has those Services reconciled that are due to be
// written. It returns when there will be more although nothing changes; zero for never.
func (b *Reporter) Evaluate(ctx context.Context, now time.Time) (again time.Time, err error) {
	in, have, err := b.gather(ctx)
	if err != nil {
		return time.Time{}, err
	}

	outcomes := Evaluate(in)
	want := map[types.NamespacedName]*Outcome{}
	for _, s := range in.services {
		if o, concerned := outcomes[s.key]; concerned {
			want[s.key] = &o
		} else {
			want[s.key] = nil
		}
	}
	b.mu.Lock()
	due, again := b.pacer.decide(now, want, have)
	b.mu.Unlock()

	b.queues.WakeLast(due)
	return again, nil
}

// gather reads what Evaluate takes into account, and what Services say now.
func (b *Reporter) gather(ctx context.Context) (Input, map[types.NamespacedName]*Outcome, error) {
	c, nodes := b.state.Configuration()
	var services corev1.ServiceList
	if err := b.cached.List(ctx, &services, client.UnsafeDisableDeepCopy); err != nil {
		return Input{}, nil, fmt.Errorf("list Services: %w", err)
	}
	var speakers v1beta1.SpeakerList
	if len(c.BGPAdvertisements) > 0 {
		if err := b.cached.List(ctx, &speakers, client.UnsafeDisableDeepCopy); err != nil {
			return Input{}, nil, fmt.Errorf("list Speakers: %w", err)
		}
	}
	have := map[types.NamespacedName]*Outcome{}
	for i := range services.Items {
		s := &services.Items[i]
		if c := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionBGPAnnounced); c != nil {
			have[client.ObjectKeyFromObject(s)] = &Outcome{v1beta1.Reason(c.Reason), c.Message}
		}
	}
	return InputOf(c, nodes, b.class, services.Items, speakers.Items), have, nil
}

// SetCondition makes the conditions of a Service say what becomes of it by BGP, as far as
// that is due.
func (b *Reporter) SetCondition(key types.NamespacedName, conditions *[]metav1.Condition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch s, known := b.pacer.released[key]; {
	case !known:
	case s == nil:
		meta.RemoveStatusCondition(conditions, v1beta1.ConditionBGPAnnounced)
	default:
		c := kube.Condition(v1beta1.ConditionBGPAnnounced, s.announced(), s.Reason, s.Message, 0)
		if s.unknown() {
			c.Status = metav1.ConditionUnknown
		}
		meta.SetStatusCondition(conditions, c)
	}
}
