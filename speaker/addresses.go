package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/announcement"
)

// addressReconciler keeps the announcement of one address right: gather,
// decide, apply.
type addressReconciler struct {
	view      *view
	announcer interface {
		Set(addr netip.Addr, links []string)
	}
	events events.EventRecorder
	log    *slog.Logger
	told   func() // has the Speaker object written again
}

// Reconcile looks at one address.
func (r *addressReconciler) Reconcile(ctx context.Context, addr netip.Addr) (reconcile.Result, error) {
	for _, ready := range []chan struct{}{r.view.state.configured, r.view.state.settled} {
		select {
		case <-ready:
		case <-ctx.Done():
			return reconcile.Result{}, ctx.Err()
		}
	}
	in, err := r.view.gather(ctx, addr)
	if err != nil {
		return reconcile.Result{}, err
	}
	r.apply(addr, announcement.Decide(in), in.Alive)
	return reconcile.Result{}, nil
}

// apply gives a decision to the announcer, remembers it, and tells of it
// where it differs from the one before.
func (r *addressReconciler) apply(addr netip.Addr, d announcement.Decision, alive sets.Set[string]) {
	r.announcer.Set(addr, d.Links)
	before := r.view.state.record(addr, d, time.Now())
	if before.Announce == d.Announce && before.Reason == d.Reason && before.Owner == d.Owner &&
		slices.Equal(before.Links, d.Links) && slices.Equal(before.Services, d.Services) {
		return
	}
	r.told()
	log := r.log.With("address", addr.String(), "owner", d.Owner, "services", d.Services, "reason", string(d.Reason), "message", d.Message)
	switch {
	case d.Announce && !before.Announce:
		log.Info("address taken", "links", d.Links)
		r.event(d, corev1.EventTypeNormal, "Announcing", fmt.Sprintf("Node %s announces %s on %s.", r.view.node, addr, strings.Join(d.Links, ", ")))
	case !d.Announce && before.Announce:
		log.Info("address given up")
	default:
		log.Info("decision changed", "links", d.Links)
	}
	// Why nobody announces an address is told once: by its owner, or by the
	// first of all speakers where it has none.
	unannounced := d.Owner == r.view.node || d.Owner == "" && r.view.node == first(alive)
	if unannounced && !d.Announce && d.Reason != before.Reason {
		r.event(d, corev1.EventTypeWarning, string(d.Reason), fmt.Sprintf("%s is not announced: %s", addr, d.Message))
	}
}

// first is the first of a set of nodes by name, "" of none.
func first(nodes sets.Set[string]) string {
	if list := sets.List(nodes); len(list) > 0 {
		return list[0]
	}
	return ""
}

// event tells the Services of an address what became of it.
func (r *addressReconciler) event(d announcement.Decision, kind, reason, note string) {
	for _, name := range d.Services {
		namespace, short := splitName(name)
		var service corev1.Service
		// One that is gone has nobody to be told.
		if r.view.cached.Get(context.Background(), types.NamespacedName{Namespace: namespace, Name: short}, &service) == nil {
			r.events.Eventf(&service, nil, kind, reason, "Announce", "%s", kube.Note(note))
		}
	}
}
