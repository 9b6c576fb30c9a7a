// Package services keeps the status of Services of type LoadBalancer right: which
// addresses they have, and why, and what becomes of them by BGP. It also reads what
// Services of other types name in spec.externalIPs.
package services

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
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

	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-lb/berth/internal/controller/announced"
	"github.com/berth-lb/berth/internal/controller/shared"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/pkg/assignment"
)

// Reconciler keeps the status of one Service right: gather, decide, apply.
type Reconciler struct {
	state  *state.State
	queues *shared.Queues
	cached client.Reader // caches
	live   client.Reader // the API server
	writer client.StatusClient
	events events.EventRecorder
	log    *slog.Logger
	class  string // spec.loadBalancerClass served

	metrics   *metrics
	announced *announced.Reporter // what Services are to say of what becomes of them by BGP
}

// New returns a Reconciler of Services.
func New(with shared.Shared, reporter *announced.Reporter) *Reconciler {
	return &Reconciler{
		state:     with.State,
		queues:    with.Queues,
		cached:    with.Cached,
		live:      with.Live,
		writer:    with.Writer,
		events:    with.Events,
		log:       with.Log,
		class:     with.Class,
		metrics:   newMetrics(with),
		announced: reporter,
	}
}

// Metrics returns what is measured of Services, pools and configuration objects.
func (r *Reconciler) Metrics() prometheus.Collector { return r.metrics }

// Reconcile gathers, decides and applies for one Service.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	select {
	case <-r.state.Adopted.C():
	case <-ctx.Done():
		return reconcile.Result{}, ctx.Err()
	}
	var service corev1.Service
	err := r.cached.Get(ctx, request.NamespacedName, &service)
	switch {
	case apierrors.IsNotFound(err):
		r.setExternalIPs(request.NamespacedName, nil)
		return reconcile.Result{}, r.gone(ctx, request.NamespacedName)
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("read Service: %w", err)
	}
	r.setExternalIPs(request.NamespacedName, assignment.ExternalIPsOf(&service))
	if !assignment.Serves(&service, r.class) {
		return reconcile.Result{}, r.leave(ctx, &service)
	}
	nsLabels, err := namespaceLabels(ctx, r.cached, service.Namespace)
	if err != nil {
		return reconcile.Result{}, err
	}
	decided, err := r.state.Decide(&service, nsLabels, time.Now())
	if err != nil || decided.Stale {
		return reconcile.Result{}, err // when stale, the cache's update brings us back
	}
	r.queues.Propagate(decided.Effect)
	err = r.apply(ctx, &service, decided.Decision)
	r.queues.Announced.Set()
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		// The Service has changed or gone since it was cached; its event is
		// on the way.
		return reconcile.Result{}, nil
	}
	return reconcile.Result{}, err
}

// setExternalIPs records what a Service of type LoadBalancer names in spec.externalIPs.
func (r *Reconciler) setExternalIPs(key types.NamespacedName, addrs []netip.Addr) {
	r.queues.Propagate(r.state.SetExternalIPs(key, state.SourceLoadBalancers, addrs, time.Now()))
}

// gone gives back what a Service held that is no longer in the cache: it was
// deleted, or is no longer of type LoadBalancer. The cache may also lag behind
// what was adopted, so the API server has the last word.
func (r *Reconciler) gone(ctx context.Context, key types.NamespacedName) error {
	if !r.state.Knows(key) {
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
func (r *Reconciler) leave(ctx context.Context, service *corev1.Service) error {
	key := client.ObjectKeyFromObject(service)
	given := r.state.Given(key)
	if len(given) == 0 && service.Spec.Type != corev1.ServiceTypeLoadBalancer {
		given, _ = assignment.Wrote(service) // nobody else gives a Service of another type anything
	}
	if err := r.clear(ctx, service, given); err != nil {
		return err
	}
	if r.state.Reserve(service, time.Now()) {
		return nil
	}
	r.release(key)
	return nil
}

// release gives back what a Service holds.
func (r *Reconciler) release(key types.NamespacedName) {
	freed, e := r.state.Release(key, time.Now())
	if len(freed) > 0 {
		r.log.Info("addresses freed", "service", key.String(), "addresses", freed)
	}
	r.queues.Propagate(e)
}

// Adopt records the addresses that Services have by their status, oldest
// Service first, before anything is assigned. It asks the API server rather
// than the cache, which may not show what the leader before has written last.
func (r *Reconciler) Adopt(ctx context.Context) error {
	select {
	case <-r.state.Configured.C():
	case <-ctx.Done():
		return nil
	}
	select {
	case <-r.state.Synced.C():
	case <-ctx.Done():
		return nil
	}
	services, err := r.servicesWithAddresses(ctx)
	if err != nil {
		return err
	}
	adopted, conflicts := r.state.AdoptAll(services, r.class, time.Now())
	for _, c := range conflicts {
		r.log.Warn("address in the status of two Services", "service", c.Service.String(),
			"address", c.Address.String(), "holder", string(c.Holder))
	}
	r.log.Info("addresses adopted", "count", len(adopted))
	r.state.Adopted.Set()
	// One that was deleted since may never have been in the cache.
	r.queues.WakeLast(adopted)
	// No cache has those that are not of type LoadBalancer any more.
	r.queues.WakeLast(r.state.Left())
	return nil
}

// servicesWithAddresses asks the API server, page by page, for the Services of type
// LoadBalancer that have addresses, whoever gave them, or name external IPs. It tries
// until it succeeds or ctx ends.
func (r *Reconciler) servicesWithAddresses(ctx context.Context) ([]corev1.Service, error) {
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
