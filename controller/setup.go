package main

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/config"
)

// serviceWorkers is how many status writes are under way at once. Decisions
// are taken one at a time whatever the number.
const serviceWorkers = 16

// setupControllers wires watches to reconcilers. It returns the reconciler of
// Services, whose adopt is still to be run.
func setupControllers(
	mgr manager.Manager, recorder events.EventRecorder, s processSettings, state *state, log *slog.Logger,
) (*serviceReconciler, error) {
	m := newMetrics(state)
	for _, collector := range []prometheus.Collector{m, &state.loops} {
		if err := ctrlmetrics.Registry.Register(collector); err != nil {
			return nil, err
		}
	}
	configurations := &kube.Queue[reconcile.Request]{}
	services, statuses := &kube.Queue[reconcile.Request]{}, &kube.Queue[objectKey]{}
	wake := func(keys []types.NamespacedName) {
		for _, key := range keys {
			services.Add(reconcile.Request{NamespacedName: key})
		}
	}
	wakeLast := func(keys []types.NamespacedName) {
		for _, key := range keys {
			services.AddLast(reconcile.Request{NamespacedName: key})
		}
	}
	teller := newBGPTeller(state, mgr.GetCache(), s.Kube.Class, wakeLast, log)
	service := &serviceReconciler{
		state: state, cached: mgr.GetCache(), live: mgr.GetAPIReader(), writer: mgr.GetClient(),
		events: recorder, log: log, class: s.Kube.Class, wake: wake, wakeLast: wakeLast, metrics: m, bgp: teller,
		poolChanged: func(name string) { statuses.AddAfter(objectKey{config.KindIPAddressPool, name}, statusDelay) },
	}
	configuration := &configReconciler{
		state: state, cached: mgr.GetCache(), live: mgr.GetAPIReader(), log: log, class: s.Kube.Class, wake: wake, wakeLast: wakeLast,
		namespace: s.Kube.Namespace, objectChanged: statuses.Add, bgp: teller,
	}
	status := &statusReconciler{state: state, cached: mgr.GetCache(), writer: mgr.GetClient(), events: recorder, log: log, wake: wake}

	err := ctrl.NewControllerManagedBy(mgr).Named("service").
		For(&corev1.Service{}).
		WatchesMetadata(namespaceKind(), waitersOf(state), builder.WithPredicates(predicate.LabelChangedPredicate{})).
		WatchesRawSource(services).
		WithOptions(controller.Options{MaxConcurrentReconciles: serviceWorkers}).
		Complete(service)
	if err != nil {
		return nil, err
	}
	// A cluster without any object has a configuration too.
	configurations.Add(kube.WholeConfig)
	whole := ctrl.NewControllerManagedBy(mgr).Named("configuration").WatchesRawSource(configurations).
		Watches(&corev1.Node{}, kube.ToWholeConfig(), builder.WithPredicates(nodeChanged())).
		Watches(&v1beta1.Speaker{}, kube.ToWholeConfig(), builder.WithPredicates(linksChanged()))
	for _, kind := range kube.ConfigKinds() {
		whole = whole.Watches(kind, kube.ToWholeConfig(), builder.WithPredicates(kube.ConfigChanged()))
	}
	if err := whole.Complete(configuration); err != nil {
		return nil, err
	}
	speaker := &speakerReconciler{cached: mgr.GetCache(), live: mgr.GetAPIReader(), writer: mgr.GetClient(), log: log}
	err = ctrl.NewControllerManagedBy(mgr).Named("speaker").
		For(&corev1.Node{}, builder.WithPredicates(becameNotReady())).
		Complete(speaker)
	if err != nil {
		return nil, err
	}
	return service, builder.TypedControllerManagedBy[objectKey](mgr).Named("status").
		WatchesRawSource(statuses).
		Watches(&v1beta1.Speaker{}, peersOfSpeakers(state, teller.again)).
		Watches(&v1beta1.Speaker{}, advertisementsOfSpeakers(state)).
		Complete(status)
}

// nodeChanged passes changes of a node's addresses and labels, and not its
// heartbeats.
func nodeChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return !slices.Equal(e.ObjectOld.(*corev1.Node).Status.Addresses, e.ObjectNew.(*corev1.Node).Status.Addresses) ||
			!maps.Equal(e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels())
	}}
}

// linksChanged passes changes of what a Speaker lists of its node's links, as far
// as that is cached.
func linksChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*v1beta1.Speaker), e.ObjectNew.(*v1beta1.Speaker)
		return !slices.EqualFunc(before.Status.Links, after.Status.Links, func(a, b v1beta1.SpeakerLink) bool {
			return a.Name == b.Name && slices.Equal(a.Prefixes, b.Prefixes)
		})
	}}
}

// waitersOf are the waiting Services of a namespace, whose new labels may
// make a pool select them.
func waitersOf(state *state) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(_ context.Context, ns client.Object) []reconcile.Request {
		var out []reconcile.Request
		for _, key := range state.waitingOldestFirst() {
			if key.Namespace == ns.GetName() {
				out = append(out, reconcile.Request{NamespacedName: key})
			}
		}
		return out
	})
}
