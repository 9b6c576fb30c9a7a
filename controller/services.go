package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/pkg/allocator"
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

	// wake has Services looked at again; poolChanged has a pool's status
	// written again.
	wake        func([]types.NamespacedName)
	poolChanged func(name string)

	metrics *metrics
}

// Reconcile looks at one Service.
func (r *serviceReconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	select {
	case <-r.state.adopted:
	case <-ctx.Done():
		return reconcile.Result{}, ctx.Err()
	}
	var service corev1.Service
	err := r.cached.Get(ctx, request.NamespacedName, &service)
	switch {
	case apierrors.IsNotFound(err):
		return reconcile.Result{}, r.gone(ctx, request.NamespacedName)
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("read Service: %w", err)
	case !assignment.Serves(&service, r.class):
		return reconcile.Result{}, r.leave(ctx, &service)
	}
	nsLabels, err := namespaceLabels(ctx, r.cached, service.Namespace)
	if err != nil {
		return reconcile.Result{}, err
	}
	decision, stale, err := r.decide(&service, nsLabels)
	if err != nil || stale {
		return reconcile.Result{}, err // when stale, the cache's update brings us back
	}
	err = r.apply(ctx, &service, decision)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		// The Service has changed or gone since it was cached; its event is
		// on the way.
		return reconcile.Result{}, nil
	}
	return reconcile.Result{}, err
}

// decide takes and records the decision for a Service, and tells whom it
// concerns. stale is set when the cache does not show the last write to the
// Service yet.
func (r *serviceReconciler) decide(service *corev1.Service, nsLabels labels.Set) (_ assignment.Decision, stale bool, err error) {
	before, after, decision, err := r.state.decide(service, nsLabels)
	if err != nil || decision == nil {
		return assignment.Decision{}, decision == nil, err
	}
	r.told(before.Addresses, after.Addresses)
	if len(before.Addresses) > 0 && !reflect.DeepEqual(before.Terms, after.Terms) {
		// Who could not share with it before perhaps can now.
		r.wake(r.state.waitingOldestFirst())
	}
	return *decision, false, nil
}

// told has the pools counted again whose addresses were taken or freed, and
// wakes who waits for what was freed.
func (r *serviceReconciler) told(before, after []netip.Addr) {
	freed := false
	for _, addr := range before {
		if !slices.Contains(after, addr) {
			freed = true
			r.touched(addr)
		}
	}
	for _, addr := range after {
		if !slices.Contains(before, addr) {
			r.touched(addr)
		}
	}
	if freed {
		r.wake(r.state.waitingOldestFirst())
	}
}

func (r *serviceReconciler) touched(addr netip.Addr) {
	r.state.mu.Lock()
	pool, ok := r.state.addresses.PoolOf(addr)
	r.state.mu.Unlock()
	if ok {
		r.poolChanged(pool)
	}
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

// leave ends Berth's part in a Service that Berth does not serve any more. It
// is the last step that frees the addresses, so that it is done again when
// one before fails.
func (r *serviceReconciler) leave(ctx context.Context, service *corev1.Service) error {
	key := client.ObjectKeyFromObject(service)
	if err := r.clear(ctx, service, r.state.held(key).Addresses); err != nil {
		return err
	}
	r.release(key)
	return nil
}

// release gives back what a Service holds.
func (r *serviceReconciler) release(key types.NamespacedName) {
	r.state.mu.Lock()
	freed := r.state.addresses.Release(allocator.Holder(key.String()))
	delete(r.state.waiting, key)
	delete(r.state.written, key)
	r.state.mu.Unlock()
	if len(freed) > 0 {
		r.log.Info("addresses freed", "service", key.String(), "addresses", freed)
	}
	r.told(freed, nil)
}

// adopt records the addresses that Services have by their status, oldest
// Service first, before anything is assigned. It asks the API server rather
// than the cache, which may not show what the leader before has written last.
func (r *serviceReconciler) adopt(ctx context.Context) error {
	select {
	case <-r.state.configured:
	case <-ctx.Done():
		return nil
	}
	services, err := r.servicesWithAddresses(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(services, func(a, b corev1.Service) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	var adopted []types.NamespacedName
	for i := range services {
		for _, conflict := range r.state.adopt(&services[i]) {
			// Two Services with one address: the older keeps it.
			r.log.Warn("address in the status of two Services", "service", string(assignment.HolderOf(&services[i])),
				"address", conflict.Address.String(), "owner", string(conflict.Holder))
		}
		adopted = append(adopted, client.ObjectKeyFromObject(&services[i]))
	}
	r.log.Info("addresses adopted", "count", len(adopted))
	close(r.state.adopted)
	// One that was deleted since may never have been in the cache.
	r.wake(adopted)
	return nil
}

// servicesWithAddresses asks the API server for the Services that Berth
// serves and that have addresses. It tries until it succeeds or ctx ends.
func (r *serviceReconciler) servicesWithAddresses(ctx context.Context) ([]corev1.Service, error) {
	var out []corev1.Service
	err := wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		out = nil
		page := &client.ListOptions{
			FieldSelector: fields.OneTermEqualSelector("spec.type", string(corev1.ServiceTypeLoadBalancer)),
			Limit:         500,
		}
		for {
			var list corev1.ServiceList
			if err := r.live.List(ctx, &list, page); err != nil {
				r.log.Warn("cannot list Services to adopt their addresses; trying again", "error", err)
				return false, nil
			}
			for _, s := range list.Items {
				if assignment.Serves(&s, r.class) && len(s.Status.LoadBalancer.Ingress) > 0 {
					out = append(out, s)
				}
			}
			if page.Continue = list.Continue; page.Continue == "" {
				return true, nil
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list Services to adopt their addresses: %w", err)
	}
	return out, nil
}
