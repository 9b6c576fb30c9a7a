// Package configuration puts what users write in force, all objects together, and keeps
// the status of each of them right: whether it is in force, and why not.
package configuration

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/shared"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/config"
)

// Reconciler reads all configuration objects whenever one of them changes, puts them in
// force together, and has every Service reconciled.
type Reconciler struct {
	state     *state.State
	queues    *shared.Queues
	cached    client.Reader
	live      client.Reader // the API server
	log       *slog.Logger
	class     string
	namespace string // Berth's own
}

// New returns a Reconciler of the configuration as a whole.
func New(with shared.Shared) *Reconciler {
	return &Reconciler{
		state:     with.State,
		queues:    with.Queues,
		cached:    with.Cached,
		live:      with.Live,
		log:       with.Log,
		class:     with.Class,
		namespace: with.Namespace,
	}
}

// Reconcile puts the configuration in force. It asks the API server: with a
// cache that does not show a pool yet, Services would lose its addresses.
func (r *Reconciler) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	objects, err := r.gather(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}

	now := time.Now()
	recheck, problems := r.state.SetConfig(objects, now)
	for _, p := range problems {
		r.log.Debug("configuration problem", "kind", p.Kind, "name", p.Name,
			"reason", string(p.Reason), "message", p.Message)
	}

	for _, key := range r.state.Objects() {
		r.queues.Objects.Add(key)
	}
	r.queues.Announced.Set()
	if err := r.wakeServices(ctx); err != nil || recheck.IsZero() {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: recheck.Sub(now)}, nil
}

// gather reads all that config.Parse takes into account.
func (r *Reconciler) gather(ctx context.Context) (config.Objects, error) {
	objects, err := kube.ConfigObjects(ctx, r.live)
	if err != nil {
		return config.Objects{}, err
	}
	var nodes corev1.NodeList
	if err := r.cached.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return config.Objects{}, fmt.Errorf("list Nodes: %w", err)
	}
	var speakers v1beta1.SpeakerList
	if err := r.cached.List(ctx, &speakers, client.UnsafeDisableDeepCopy); err != nil {
		return config.Objects{}, fmt.Errorf("list Speakers: %w", err)
	}
	return WithNodes(objects, r.namespace, nodes.Items, speakers.Items), nil
}

// WithNodes returns configuration objects completed by what is to be known of nodes:
// their labels, which nobody may change, and the addresses that they have, as their
// statuses and their Speakers say. namespace is Berth's own.
func WithNodes(
	objects config.Objects, namespace string, nodes []corev1.Node, speakers []v1beta1.Speaker,
) config.Objects {
	objects.NodeLabels = map[string]map[string]string{}
	for i := range nodes {
		objects.NodeLabels[nodes[i].Name] = nodes[i].Labels
	}
	objects.NodeAddresses = config.NodeAddresses(nodes, speakers)
	// The speakers read Secrets, and say what they miss.
	objects.Namespace, objects.SecretsUnread = namespace, true
	return objects
}

// wakeServices has every Service reconciled, those that wait for an address first.
func (r *Reconciler) wakeServices(ctx context.Context) error {
	var services corev1.ServiceList
	if err := r.cached.List(ctx, &services, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list Services: %w", err)
	}
	r.queues.Wake(r.state.Waiting())
	var rest []types.NamespacedName
	for i := range services.Items {
		if assignment.Serves(&services.Items[i], r.class) {
			rest = append(rest, client.ObjectKeyFromObject(&services.Items[i]))
		}
	}
	// They may all have to be written. A new Service does not wait for that.
	r.queues.WakeLast(rest)
	return nil
}

// NodeChanged passes changes of a node's addresses and labels, and not its
// heartbeats.
func NodeChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return !slices.Equal(e.ObjectOld.(*corev1.Node).Status.Addresses,
			e.ObjectNew.(*corev1.Node).Status.Addresses) ||
			!maps.Equal(e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels())
	}}
}

// LinksChanged passes changes of what a Speaker lists of its node's links, as far
// as that is cached.
func LinksChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*v1beta1.Speaker), e.ObjectNew.(*v1beta1.Speaker)
		return !slices.EqualFunc(before.Status.Links, after.Status.Links,
			func(a, b v1beta1.SpeakerLink) bool {
				return a.Name == b.Name && slices.Equal(a.Prefixes, b.Prefixes)
			})
	}}
}
