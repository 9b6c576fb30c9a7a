package main

import (
	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/configuration"
	"github.com/berth-lb/berth/internal/controller/services"
	"github.com/berth-lb/berth/internal/controller/shared"
	"github.com/berth-lb/berth/internal/controller/speakers"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/internal/kube"
)

// serviceWorkers is how many status writes are under way at once. Decisions
// are taken one at a time whatever the number.
const serviceWorkers = 16

// setupControllers has what is watched, and what waits in queues, reconciled.
func setupControllers(mgr manager.Manager, with shared.Shared, service *services.Reconciler) error {
	err := ctrl.NewControllerManagedBy(mgr).Named("service").
		For(&corev1.Service{}).
		WatchesMetadata(services.NamespaceKind(), services.WaitersOf(with.State),
			builder.WithPredicates(predicate.LabelChangedPredicate{})).
		WatchesRawSource(&with.Queues.Services).
		WithOptions(controller.Options{MaxConcurrentReconciles: serviceWorkers}).
		Complete(service)
	if err != nil {
		return err
	}

	// A cluster without any object has a configuration too.
	begin := &kube.Queue[reconcile.Request]{}
	begin.Add(kube.WholeConfig)
	whole := ctrl.NewControllerManagedBy(mgr).Named("configuration").
		WatchesRawSource(begin).
		Watches(&corev1.Node{}, kube.ToWholeConfig(), builder.WithPredicates(configuration.NodeChanged())).
		Watches(&v1beta1.Speaker{}, kube.ToWholeConfig(),
			builder.WithPredicates(configuration.LinksChanged()))
	for _, kind := range kube.ConfigKinds() {
		whole = whole.Watches(kind, kube.ToWholeConfig(), builder.WithPredicates(kube.ConfigChanged()))
	}
	if err := whole.Complete(configuration.New(with)); err != nil {
		return err
	}
	err = builder.TypedControllerManagedBy[state.ObjectKey](mgr).Named("status").
		WatchesRawSource(&with.Queues.Objects).
		Watches(&v1beta1.Speaker{}, configuration.PeersOfSpeakers(with)).
		Watches(&v1beta1.Speaker{}, configuration.AdvertisementsOfSpeakers(with)).
		Complete(configuration.NewStatus(with))
	if err != nil {
		return err
	}

	return ctrl.NewControllerManagedBy(mgr).Named("speaker").
		For(&corev1.Node{}, builder.WithPredicates(speakers.BecameNotReady())).
		Complete(speakers.New(with))
}
