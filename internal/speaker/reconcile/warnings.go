package reconcile

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
)

// newService is how long an address that was not announced before may lack what comes
// after a Service by itself, before its Services are warned: EndpointSlices are written a
// second or so later, and pools and advertisements may be created beside it.
const newService = 5 * time.Second

// Warnings emits an Event at Services once nobody announces their address, for each
// reason once. It belongs to one [Loop].
type Warnings struct {
	events *ServiceEvents
	known  map[netip.Addr][]warned // by protocol, in the order of Consider
}

// warned is what was last known of an address and a protocol.
type warned struct {
	reason v1beta1.Reason
	// incomplete is since when the address has lacked what may be about to come, and
	// nobody was warned; zero when it does not, or the Services were.
	incomplete time.Time
}

// NewWarnings returns Warnings that are emitted as events.
func NewWarnings(e *ServiceEvents) *Warnings {
	return &Warnings{events: e, known: map[netip.Addr][]warned{}}
}

// Consider takes in what the protocols do with an address, always in the same order. It
// returns after how long it must be called again for a warning that is not due yet; 0 for
// none. What several protocols say alike is said once.
func (w *Warnings) Consider(now time.Time, addr netip.Addr, outcomes ...Outcome) (again time.Duration) {
	before := w.known[addr]
	if len(before) == 0 {
		before = make([]warned, len(outcomes))
	}
	after := make([]warned, len(outcomes))
	concerned := false
	said := map[v1beta1.Reason]bool{}
	for i, o := range outcomes {
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

// next returns what is known with the reason of now, whether a warning is due with it,
// and after how long one will be that is not.
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

// comesByItself reports whether what a reason says is missing may be about to come for a
// new Service.
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

// NewServiceEvents returns ServiceEvents for Services that can be read.
func NewServiceEvents(from client.Reader, to events.EventRecorder) *ServiceEvents {
	return &ServiceEvents{from, to}
}

// Emit tells Services, given as namespace/name, what became of their address. The action
// names it: two Events that differ in nothing but their note count as one.
func (e *ServiceEvents) Emit(services []string, address, kind string, reason v1beta1.Reason, note string) {
	for _, name := range services {
		namespace, short, _ := strings.Cut(name, "/")
		var service corev1.Service
		// One that is gone has nobody to be told.
		if e.from.Get(context.Background(), types.NamespacedName{Namespace: namespace, Name: short}, &service) == nil {
			e.to.Eventf(&service, nil, kind, string(reason), "Announce/"+address, "%s", kube.Note(note))
		}
	}
}
