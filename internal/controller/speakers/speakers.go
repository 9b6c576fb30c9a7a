// Package speakers is what the controller does about Speaker objects: which part of
// them it caches, and that those of nodes that are not ready say so.
package speakers

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/shared"
	"github.com/berth-lb/berth/internal/kube"
)

// Reconciler corrects the Speaker objects of nodes that are not ready.
// When a node dies, its speaker cannot take back what it said last.
//
// The speaker may well work: perhaps only the kubelet has stopped. It then
// sees that its object was changed, and writes it anew. So that the two never
// write in turn, the controller writes once for each time that the node's
// Ready condition changes, and not when the speaker has written since.
type Reconciler struct {
	cached client.Reader
	live   client.Reader // the API server
	writer client.StatusClient
	log    *slog.Logger
}

// New returns a Reconciler of Speaker objects.
func New(with shared.Shared) *Reconciler {
	return &Reconciler{
		cached: with.Cached,
		live:   with.Live,
		writer: with.Writer,
		log:    with.Log,
	}
}

// Reconcile corrects the Speaker of one node.
func (r *Reconciler) Reconcile(ctx context.Context, key reconcile.Request) (reconcile.Result, error) {
	var node corev1.Node
	if err := r.cached.Get(ctx, types.NamespacedName{Name: key.Name}, &node); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	ready := notReady(&node)
	if ready == nil {
		return reconcile.Result{}, nil
	}
	var speaker v1beta1.Speaker
	if err := r.live.Get(ctx, types.NamespacedName{Name: key.Name}, &speaker); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !stale(&speaker, ready.LastTransitionTime.Time) {
		return reconcile.Result{}, nil
	}
	before := speaker.DeepCopy()
	mark(&speaker.Status, *ready)
	// The lock: what the speaker may have written this moment stays.
	err := r.writer.Status().Patch(ctx, &speaker,
		client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	switch {
	case apierrors.IsConflict(err):
		return reconcile.Result{RequeueAfter: shared.StatusDelay}, nil
	case apierrors.IsNotFound(err):
		return reconcile.Result{}, nil
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("write status of Speaker %s: %w", key.Name, err)
	}
	r.log.Info("speaker of a node that is not ready", "node", key.Name, "reason", ready.Reason, "count",
		before.Status.Layer2.Count)
	return reconcile.Result{}, nil
}

// notReady returns the Ready condition of a node that is not ready; nil of one
// that is, or that does not say yet.
func notReady(node *corev1.Node) *corev1.NodeCondition {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
			return &c
		}
	}
	return nil
}

// stale reports whether a Speaker says what may no longer hold, now that its
// node is not ready since a time: it says that it announces, and said so
// before. Both times are of whole seconds. Of two within the same one the
// speaker's counts as earlier: to write once too often does no harm, as a
// speaker that works corrects it.
func stale(s *v1beta1.Speaker, since time.Time) bool {
	return meta.IsStatusConditionTrue(s.Status.Conditions, v1beta1.ConditionReady) &&
		!statusWritten(s).After(since)
}

// statusWritten returns when anybody last changed the status of a Speaker, by the
// clock of the API server, which keeps it for each who writes; zero when it
// does not say.
func statusWritten(s *v1beta1.Speaker) time.Time {
	var last time.Time
	for _, entry := range s.ManagedFields {
		if entry.Subresource == "status" && entry.Time != nil && entry.Time.After(last) {
			last = entry.Time.Time
		}
	}
	return last
}

// mark says in a status that it may no longer hold.
func mark(s *v1beta1.SpeakerStatus, ready corev1.NodeCondition) {
	message := fmt.Sprintf("The node is not ready; what its speaker last said may no longer hold. "+
		"The %d addresses that it announced by layer 2, and its BGP sessions, are not listed any more: "+
		"see which the Speakers of other nodes list. If this speaker works, it corrects this by itself. "+
		"Find out why the node has not been ready (%s) since %s.",
		s.Layer2.Count, ready.Reason, ready.LastTransitionTime.UTC().Format(time.RFC3339))
	meta.SetStatusCondition(&s.Conditions, kube.Condition(
		v1beta1.ConditionReady, false, v1beta1.ReasonNodeNotReady, message, 0))
	owned := s.Layer2.Claims()
	s.Layer2.Retained = owned[:min(len(owned), v1beta1.MaxSpeakerAnnouncements)]
	s.Layer2.Count, s.Layer2.Owned, s.Layer2.Addresses, s.Layer2.Announcements = 0, 0, "", nil
	s.BGP = v1beta1.SpeakerBGP{BootID: s.BGP.BootID}
}

// BecameNotReady passes nodes that are not ready when the controller starts,
// and each change of their Ready condition to not ready, or from one way of
// not being ready to another.
func BecameNotReady() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return notReady(e.Object.(*corev1.Node)) != nil },
		UpdateFunc: func(e event.UpdateEvent) bool {
			was, is := notReady(e.ObjectOld.(*corev1.Node)), notReady(e.ObjectNew.(*corev1.Node))
			return is != nil && (was == nil || was.Status != is.Status ||
				!was.LastTransitionTime.Equal(&is.LastTransitionTime))
		},
		DeleteFunc:  func(event.DeleteEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
}
