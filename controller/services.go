package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/pkg/assignment"
)

// serviceReconciler keeps the status of one Service right: gather, decide,
// apply.
type serviceReconciler struct {
	state  *state
	cached client.Reader // caches
	live   client.Reader // the API server
	writer client.StatusClient
	events events.EventRecorder
	log    *slog.Logger
	class  string // spec.loadBalancerClass served

	// wake has Services looked at again, wakeLast when no other waits to be;
	// poolChanged has a pool's status written again.
	wake        func([]types.NamespacedName)
	wakeLast    func([]types.NamespacedName)
	poolChanged func(name string)

	metrics *metrics
	// bgp is what Services are to say of what becomes of them by BGP.
	bgp *bgpTeller
}

// Reconcile looks at one Service.
func (r *serviceReconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	select {
	case <-r.state.adopted.C():
	case <-ctx.Done():
		return reconcile.Result{}, ctx.Err()
	}
	var service corev1.Service
	err := r.cached.Get(ctx, request.NamespacedName, &service)
	switch {
	case apierrors.IsNotFound(err):
		r.told(r.state.names(request.NamespacedName, ofLoadBalancers, nil))
		return reconcile.Result{}, r.gone(ctx, request.NamespacedName)
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("read Service: %w", err)
	}
	r.told(r.state.names(request.NamespacedName, ofLoadBalancers, assignment.ExternalIPsOf(&service)))
	if !assignment.Serves(&service, r.class) {
		return reconcile.Result{}, r.leave(ctx, &service)
	}
	nsLabels, err := namespaceLabels(ctx, r.cached, service.Namespace)
	if err != nil {
		return reconcile.Result{}, err
	}
	decided, err := r.state.decide(&service, nsLabels, time.Now())
	if err != nil || decided.Stale {
		return reconcile.Result{}, err // when stale, the cache's update brings us back
	}
	r.told(decided.effect)
	err = r.apply(ctx, &service, decided.Decision)
	r.bgp.again()
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		// The Service has changed or gone since it was cached; its event is
		// on the way.
		return reconcile.Result{}, nil
	}
	return reconcile.Result{}, err
}

// told has pools counted again and Services looked at that a change concerns.
func (r *serviceReconciler) told(e effect) {
	for _, pool := range e.Pools {
		r.poolChanged(pool)
	}
	r.wake(e.Wake)
}

// gone gives back what a Service held that is no longer in the cache: it was
// deleted, or is no longer of type LoadBalancer. The cache may also lag behind
// what was adopted, so the API server has the last word.
func (r *serviceReconciler) gone(ctx context.Context, key types.NamespacedName) error {
	if !r.state.knows(key) {
		return nil
	}
	var service corev1.Service
	err := r.live.Get(ctx, key, &service)
	switch {
	case apierrors.IsNotFound(err):
		r.release(key)
		return nil
	case err != nil:
		return fmt.Errorf("read Service that is not in the cache: %w", err)
	case assignment.Serves(&service, r.class):
		return nil // its event is on the way
	}
	return r.leave(ctx, &service)
}

// leave ends Berth's part in a Service that Berth does not serve any more, or
// never did. It is the last step that frees the addresses, so that it is done
// again when one before fails. Those that another load balancer gave the
// Service are in use all the same.
func (r *serviceReconciler) leave(ctx context.Context, service *corev1.Service) error {
	key := client.ObjectKeyFromObject(service)
	given := r.state.given(key)
	if len(given) == 0 && service.Spec.Type != corev1.ServiceTypeLoadBalancer {
		given, _ = assignment.Wrote(service) // nobody else gives a Service of another type anything
	}
	if err := r.clear(ctx, service, given); err != nil {
		return err
	}
	if r.state.reserve(service, time.Now()) {
		return nil
	}
	r.release(key)
	return nil
}

// release gives back what a Service holds.
func (r *serviceReconciler) release(key types.NamespacedName) {
	freed, e := r.state.release(key, time.Now())
	if len(freed) > 0 {
		r.log.Info("addresses freed", "service", key.String(), "addresses", freed)
	}
	r.told(e)
}

// adopt records the addresses that Services have by their status, oldest
// Service first, before anything is assigned. It asks the API server rather
// than the cache, which may not show what the leader before has written last.
func (r *serviceReconciler) adopt(ctx context.Context) error {
	select {
	case <-r.state.configured.C():
	case <-ctx.Done():
		return nil
	}
	select {
	case <-r.state.synced.C():
	case <-ctx.Done():
		return nil
	}
	services, err := r.servicesWithAddresses(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(services, func(a, b corev1.Service) int {
		ours, theirs := assignment.Serves(&a, r.class), assignment.Serves(&b, r.class)
		if ours != theirs { // what Berth gave counts before what others did
			return map[bool]int{true: -1, false: 1}[ours]
		}
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for i := range services {
		s := &services[i]
		r.state.names(client.ObjectKeyFromObject(s), ofLoadBalancers, assignment.ExternalIPsOf(s))
	}
	var adopted []types.NamespacedName
	for i := range services {
		if len(services[i].Status.LoadBalancer.Ingress) == 0 {
			continue
		}
		if !assignment.Serves(&services[i], r.class) {
			r.state.reserve(&services[i], time.Now())
			continue
		}
		for _, conflict := range r.state.adopt(&services[i], time.Now()) {
			// Two Services with one address: the older keeps it.
			r.log.Warn("address in the status of two Services", "service", string(assignment.HolderOf(&services[i])),
				"address", conflict.Address.String(), "owner", string(conflict.Holder))
		}
		adopted = append(adopted, client.ObjectKeyFromObject(&services[i]))
	}
	r.log.Info("addresses adopted", "count", len(adopted))
	r.state.adopted.Set()
	// One that was deleted since may never have been in the cache.
	r.wakeLast(adopted)
	// No cache has those that are not of type LoadBalancer any more.
	r.wakeLast(r.state.toLeave())
	return nil
}

// servicesWithAddresses asks the API server, page by page, for the Services of type
// LoadBalancer that have addresses, whoever gave them, or name external IPs. It tries
// until it succeeds or ctx ends.
func (r *serviceReconciler) servicesWithAddresses(ctx context.Context) ([]corev1.Service, error) {
	selector := fields.OneTermEqualSelector("spec.type", string(corev1.ServiceTypeLoadBalancer))
	found := map[types.NamespacedName]corev1.Service{}
	err := wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		clear(found) // of an attempt that failed
		page := &client.ListOptions{FieldSelector: selector, Limit: 500}
		for {
			var list corev1.ServiceList
			if err := r.live.List(ctx, &list, page); err != nil {
				r.log.Warn("cannot list Services; trying again", "error", err)
				return false, nil
			}
			for _, s := range list.Items {
				if len(s.Status.LoadBalancer.Ingress) > 0 || len(s.Spec.ExternalIPs) > 0 {
					found[client.ObjectKeyFromObject(&s)] = s
				}
			}
			if page.Continue = list.Continue; page.Continue == "" {
				return true, nil
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list Services: %w", err)
	}
	return slices.Collect(maps.Values(found)), nil
}
