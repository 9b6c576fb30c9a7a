package reconcile

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
)

// newService is how long a new address may lack what usually follows a new Service, before
// Warnings warns its Services: EndpointSlices are written a second or so later, and a user
// may create pools and advertisements at the same time.
const newService = 5 * time.Second

// Warnings emits Events at Services whose address nobody announces, once for each reason.
// It belongs to one [Loop].
type Warnings struct {
	events *ServiceEvents
	known  map[netip.Addr][]warned // by protocol, in the order of Consider
}

// warned is the last state of an address and a protocol.
type warned struct {
	reason v1beta1.Reason
	// incomplete is since when the address has lacked something that may be about to come,
	// without a warning; zero if it lacks nothing, or the Services were warned.
	incomplete time.Time
}

// NewWarnings returns Warnings that are emitted as events.
func NewWarnings(e *ServiceEvents) *Warnings {
	return &Warnings{events: e, known: map[netip.Addr][]warned{}}
}

// Consider warns Services of what the protocols do with their address, if a warning is due.
// The protocols always come in the same order; if several have the same outcome, Consider
// warns once, in the words of the last. It returns after how long to call it again for a
// warning that is not due yet; 0 for none.
func (w *Warnings) Consider(now time.Time, addr netip.Addr, outcomes ...Outcome) (again time.Duration) {
	before := w.known[addr]
	if len(before) == 0 {
		before = make([]warned, len(outcomes))
	}
	after := make([]warned, len(outcomes))
	concerned := false
	said := map[v1beta1.Reason]bool{}
	for i, o := range slices.Backward(outcomes) {
		next, wait, due := before[i].next(o.Reason, now)
		after[i] = next
		concerned = concerned || o.Reason != "" && o.Reason != v1beta1.ReasonNoService
		if wait > 0 && (again == 0 || wait < again) {
			again = wait
		}
		if due && o.Warn && !said[o.Reason] {
			w.events.Emit(o.Services, addr.String(), corev1.EventTypeWarning, o.Reason,
				fmt.Sprintf("%s is not announced: %s", addr, o.Message))
		}
		said[o.Reason] = true
	}
	if w.known[addr] = after; !concerned {
		delete(w.known, addr)
	}
	return again
}

// next returns the state after reason, whether a warning is due, and otherwise after how
// long one will be.
func (w warned) next(reason v1beta1.Reason, now time.Time) (next warned, wait time.Duration, due bool) {
	next = warned{reason: reason}
	switch {
	case !comesByItself(reason):
		return next, 0, reason != w.reason
	case w.reason == "" || w.reason == v1beta1.ReasonNoService:
		next.incomplete = now // a new Service
	case w.incomplete.IsZero():
		return next, 0, reason != w.reason // it was announced before, or the Services know
	default:
		next.incomplete = w.incomplete
	}
	if wait = newService - now.Sub(next.incomplete); wait > 0 {
		return next, wait, false
	}
	next.incomplete = time.Time{}
	return next, 0, true
}

// comesByItself reports whether what is missing, according to a reason, may be about to
// come for a new Service.
func comesByItself(reason v1beta1.Reason) bool {
	switch reason {
	case v1beta1.ReasonNoPool, v1beta1.ReasonNoAdvertisement, v1beta1.ReasonNoEndpoint:
		return true
	}
	return false
}

// ServiceEvents emits Events at Services. It is safe for concurrent use.
type ServiceEvents struct {
	from client.Reader
	to   events.EventRecorder
}

// NewServiceEvents returns ServiceEvents that reads the Services with from.
func NewServiceEvents(from client.Reader, to events.EventRecorder) *ServiceEvents {
	return &ServiceEvents{from, to}
}

// Emit emits an Event at Services, given as namespace/name. Its action names the address,
// because two Events that differ only in their note count as one.
func (e *ServiceEvents) Emit(services []string, address, kind string, reason v1beta1.Reason, note string) {
	for _, name := range services {
		namespace, short, _ := strings.Cut(name, "/")
		var service corev1.Service
		// A Service that is gone gets no Event.
		name := types.NamespacedName{Namespace: namespace, Name: short}
		if e.from.Get(context.Background(), name, &service) == nil {
			e.to.Eventf(&service, nil, kind, string(reason), "Announce/"+address, "%s", kube.Note(note))
		}
	}
}
