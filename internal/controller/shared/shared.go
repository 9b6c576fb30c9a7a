// Package shared is what all reconcilers of the controller are given: its memory, its
// clients, and the queues by which they wake one another.
package shared

import (
	"log/slog"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/config"
)

// Shared is what a reconciler is made from.
type Shared struct {
	State  *state.State
	Queues *Queues

	Cached client.Reader // caches
	Live   client.Reader // the API server
	Writer client.StatusClient
	Events events.EventRecorder
	Log    *slog.Logger

	Class     string // spec.loadBalancerClass of the Services that are served
	Namespace string // Berth's own

	AddressMetrics bool // whether each address of a Service has a metric
}

// StatusDelay gathers many changes of what an object's status says into one write.
const StatusDelay = 300 * time.Millisecond

// Queues are where keys wait to be reconciled. They are safe for concurrent use.
type Queues struct {
	Services  kube.Queue[reconcile.Request]
	Objects   kube.Queue[state.ObjectKey] // whose status is to be written
	Announced notify.Signal               // what becomes of Services by BGP is to be evaluated
}

// NewQueues returns Queues in which nothing waits.
func NewQueues() *Queues { return &Queues{Announced: notify.NewSignal()} }

// Wake has Services reconciled, in this order.
func (q *Queues) Wake(keys []types.NamespacedName) {
	for _, key := range keys {
		q.Services.Add(reconcile.Request{NamespacedName: key})
	}
}

// WakeLast has Services reconciled when no other waits to be.
func (q *Queues) WakeLast(keys []types.NamespacedName) {
	for _, key := range keys {
		q.Services.AddLast(reconcile.Request{NamespacedName: key})
	}
}

// Propagate has those Services reconciled, and the status of those pools written, that
// a change of holdings concerns.
func (q *Queues) Propagate(e state.Effect) {
	for _, pool := range e.Pools {
		q.Objects.AddAfter(state.ObjectKey{Kind: config.KindIPAddressPool, Name: pool}, StatusDelay)
	}
	q.Wake(e.Wake)
}
