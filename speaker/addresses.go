package main

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

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
	r.apply(addr, announcement.Decide(in))
	return reconcile.Result{}, nil
}

// apply gives a decision to the announcer, remembers it, and tells of it
// where it differs from the one before.
func (r *addressReconciler) apply(addr netip.Addr, d announcement.Decision) {
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
		log.Info("announcing", "links", d.Links)
		r.event(d, "Announcing", "Node %s announces %s on %s.", r.view.node, addr, strings.Join(d.Links, ", "))
	case !d.Announce && before.Announce:
		log.Info("withdrew")
	default:
		log.Debug("decision changed", "links", d.Links)
	}
}

// event tells the Services of an address that this node announces it now.
func (r *addressReconciler) event(d announcement.Decision, reason, format string, args ...any) {
	for _, name := range d.Services {
		namespace, short := splitName(name)
		var service corev1.Service
		key := types.NamespacedName{Namespace: namespace, Name: short}
		if err := r.view.cached.Get(context.Background(), key, &service); client.IgnoreNotFound(err) == nil && err == nil {
			r.events.Eventf(&service, nil, corev1.EventTypeNormal, reason, "Announce", format, args...)
		}
	}
}
