package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
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
	decision, stale := r.decide(&service, nsLabels)
	if stale {
		return reconcile.Result{}, nil // the cache's update brings us back
	}
	err = r.apply(ctx, &service, decision)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		// The Service has changed or gone since it was cached; its event is
		// on the way.
		return reconcile.Result{}, nil
	}
	return reconcile.Result{}, err
}

// decide takes and records the decision for a Service. stale is set when the
// cache does not show the last write to the Service yet.
func (r *serviceReconciler) decide(service *corev1.Service, nsLabels labels.Set) (_ assignment.Decision, stale bool) {
	r.state.mu.Lock()
	key := client.ObjectKeyFromObject(service)
	if r.state.written[key] == service.ResourceVersion {
		r.state.mu.Unlock()
		return assignment.Decision{}, true
	}
	delete(r.state.written, key)
	decision, before, after := decideAndRecord(r.state, service, nsLabels)
	if decision.Assigned() {
		delete(r.state.waiting, key)
	} else {
		r.state.waiting[key] = service.CreationTimestamp.Time
	}
	r.state.mu.Unlock()
	r.told(before, after)
	return decision, false
}

// decideAndRecord asks assignment.Decide and records what it says. The
// caller holds the lock of s. It returns what the Service held before and
// holds now.
func decideAndRecord(s *state, service *corev1.Service, nsLabels labels.Set) (_ assignment.Decision, before, after []netip.Addr) {
	parsed, invalid := assignment.ParseService(service, nsLabels)
	held, _ := s.addresses.Held(parsed.Holder)
	decision := assignment.Decide(assignment.Input{
		Service:   parsed,
		Invalid:   invalid,
		Held:      held.Addresses,
		Config:    &s.config,
		Addresses: s.addresses,
	})
	if err := s.addresses.Assign(parsed.Holder, decision.Addresses, parsed.Terms); err != nil {
		// Decide has checked each address against the same record.
		panic(fmt.Sprintf("decision for %s cannot be recorded: %v", parsed.Holder, err))
	}
	return decision, held.Addresses, decision.Addresses
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

// leave ends Berth's part in a Service that another controller serves now.
func (r *serviceReconciler) leave(ctx context.Context, service *corev1.Service) error {
	freed := r.release(client.ObjectKeyFromObject(service))
	return r.clear(ctx, service, freed)
}

// release gives back what a Service holds, and returns it.
func (r *serviceReconciler) release(key types.NamespacedName) []netip.Addr {
	r.state.mu.Lock()
	freed := r.state.addresses.Release(allocator.Holder(key.String()))
	delete(r.state.waiting, key)
	delete(r.state.written, key)
	r.state.mu.Unlock()
	if len(freed) > 0 {
		r.log.Info("addresses freed", "service", key.String(), "addresses", freed)
	}
	r.told(freed, nil)
	return freed
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
		parsed, _ := assignment.ParseService(&services[i], nil) // what is wrong with it is told when it is looked at
		r.state.mu.Lock()
		err := r.state.addresses.Assign(parsed.Holder, parsed.Status, parsed.Terms)
		r.state.mu.Unlock()
		var conflict *allocator.ConflictError
		if errors.As(err, &conflict) {
			// Two Services with one address: the older keeps it.
			r.log.Warn("address in the status of two Services", "service", string(parsed.Holder), "address", conflict.Address.String(), "owner", string(conflict.Holder))
			continue
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
