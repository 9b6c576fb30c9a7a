package kube

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/reference"
	ctrl "sigs.k8s.io/controller-runtime"
)

// The pace of Events, which is that of a kubelet (eventRecordQPS), how many are sent
// at once, and how many may wait for their turn. Few are sent at once: Events come in
// the moment in which addresses move, and each costs the API server as much as a write.
const (
	eventRate  = 50 // in a second
	eventBurst = 10
	eventQueue = 10_000
)

// Events is an event recorder with a pace. A node that takes over thousands of
// addresses has as many Events to send, and nothing must wait for them: sent all at
// once, they would keep the processors of the speaker and of the API server busy for
// seconds. An Event that has to wait is sent late, in its order and with the time at
// which it is sent.
type Events struct {
	recorder events.EventRecorder
	scheme   *runtime.Scheme
	log      *slog.Logger
	waiting  chan pendingEvent
	full     atomic.Bool
}

// pendingEvent is one that waits for its turn.
type pendingEvent struct {
	regarding                  *corev1.ObjectReference
	kind, reason, action, note string
}

// EventRecorder adds a recorder to a manager.
func EventRecorder(mgr ctrl.Manager, name string, log *slog.Logger) (*Events, error) {
	e := newEvents(mgr.GetEventRecorder(name), mgr.GetScheme(), log)
	return e, mgr.Add(e)
}

// newEvents returns a recorder that queues Events until it is started.
func newEvents(recorder events.EventRecorder, scheme *runtime.Scheme, log *slog.Logger) *Events {
	return &Events{recorder: recorder, scheme: scheme, log: log, waiting: make(chan pendingEvent, eventQueue)}
}

// Eventf implements events.EventRecorder; Berth's Events have no related
// object. It never waits: what comes when 10,000 wait already is lost.
func (e *Events) Eventf(regarding, _ runtime.Object, kind, reason, action, note string, args ...any) {
	about, err := reference.GetReference(e.scheme, regarding)
	if err != nil {
		e.log.Error("cannot send an Event", "reason", reason, "error", err)
		return
	}
	select {
	case e.waiting <- pendingEvent{about, kind, reason, action, fmt.Sprintf(note, args...)}:
	default:
		if !e.full.Swap(true) {
			e.log.Warn("too many Events wait for their turn; further ones are lost until there is room",
				"count", eventQueue)
		}
	}
}

// Start sends Events until ctx ends.
func (e *Events) Start(ctx context.Context) error {
	pace := rate.NewLimiter(eventRate, eventBurst)
	for {
		select {
		case <-ctx.Done():
			return nil
		case next := <-e.waiting:
			if pace.Wait(ctx) != nil {
				return nil // ctx has ended
			}
			e.recorder.Eventf(next.regarding, nil, next.kind, next.reason, next.action, "%s", next.note)
		}
		if len(e.waiting) == 0 {
			e.full.Store(false)
		}
	}
}

// NeedLeaderElection has the manager start it on every replica.
func (*Events) NeedLeaderElection() bool { return false }
