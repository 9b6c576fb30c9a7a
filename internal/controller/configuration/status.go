package configuration

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/announced"
	"github.com/berth-lb/berth/internal/controller/shared"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/config"
)

// newObject returns an empty object of a kind whose status has only conditions, and
// these; nil of other kinds.
func newObject(kind string) (client.Object, *[]metav1.Condition) {
	var o client.Object
	switch kind {
	case config.KindL2Advertisement:
		o = &v1beta1.L2Advertisement{}
	case config.KindBGPPeer:
		o = &v1beta1.BGPPeer{}
	case config.KindBGPAdvertisement:
		o = &v1beta1.BGPAdvertisement{}
	case config.KindBFDProfile:
		o = &v1beta1.BFDProfile{}
	case config.KindCommunity:
		o = &v1beta1.Community{}
	}
	return o, commonOf(o).conditions
}

// StatusReconciler keeps the status of one configuration object right.
type StatusReconciler struct {
	state  *state.State
	queues *shared.Queues
	cached client.Reader
	writer client.StatusClient
	events events.EventRecorder
	log    *slog.Logger

	missing missingSince
}

// NewStatus returns a StatusReconciler.
func NewStatus(with shared.Shared) *StatusReconciler {
	return &StatusReconciler{
		state:  with.State,
		queues: with.Queues,
		cached: with.Cached,
		writer: with.Writer,
		events: with.Events,
		log:    with.Log,
	}
}

// Reconcile writes the conditions and counts of one object.
func (r *StatusReconciler) Reconcile(ctx context.Context, key state.ObjectKey) (reconcile.Result, error) {
	select {
	case <-r.state.Adopted.C():
	case <-ctx.Done():
		return reconcile.Result{}, ctx.Err()
	}
	var again time.Duration
	var err error
	if key.Kind == config.KindIPAddressPool {
		again, err = r.pool(ctx, key)
	} else {
		again, err = r.conditions(ctx, key)
	}
	if apierrors.IsConflict(err) {
		// The cache lags behind the object.
		return reconcile.Result{RequeueAfter: shared.StatusDelay}, nil
	}
	return reconcile.Result{RequeueAfter: again}, client.IgnoreNotFound(err)
}

// pool writes the status of a pool, and wakes the Services that what has
// rested enough is for. It returns when to evaluate it again; 0 for not at all.
func (r *StatusReconciler) pool(ctx context.Context, key state.ObjectKey) (time.Duration, error) {
	now := time.Now()
	known, inForce := r.state.Pool(key.Name, now)
	if !inForce {
		return 0, nil
	}
	r.queues.Wake(known.Ready)

	var again time.Duration
	if !known.Rested.IsZero() {
		again = max(known.Rested.Sub(now), shared.StatusDelay)
	}
	var pool v1beta1.IPAddressPool
	if err := r.cached.Get(ctx, types.NamespacedName{Name: key.Name}, &pool); err != nil {
		return again, err
	}
	have := pool.DeepCopy()
	r.state.SetReason(key, known.Problem.Reason)
	changed := WritePool(&pool, known)
	r.setOutdated(&pool, key.Kind, known.Generation)
	if equality.Semantic.DeepEqual(have.Status, pool.Status) {
		return again, nil
	}
	return again, r.write(ctx, &pool, known.Problem, changed)
}

// conditions writes the status of an object that has only conditions. It returns
// when to evaluate it again; 0 for not at all.
func (r *StatusReconciler) conditions(ctx context.Context, key state.ObjectKey) (again time.Duration,
	err error) {
	if !r.state.HasRead(key) {
		r.missing.forget(key)
		return 0, nil // it is evaluated again once it was read
	}
	o, conditions := newObject(key.Kind)
	if err := r.cached.Get(ctx, types.NamespacedName{Name: key.Name}, o); err != nil {
		if apierrors.IsNotFound(err) {
			r.missing.forget(key)
		}
		return 0, err
	}
	have, before := o.DeepCopyObject(), slices.Clone(*conditions)
	p, generation := r.state.ProblemOf(key)
	if peer, is := o.(*v1beta1.BGPPeer); is {
		seen, err := r.onNodes(ctx, key.Name)
		if err != nil {
			return 0, err
		}
		peer.Status.Sessions, peer.Status.Established = seen.sessions, seen.established
		peer.Status.Families = announced.FamilyNames(seen.families)
		p = worse(p, seen.problem)
	}
	advertisement := key.Kind == config.KindL2Advertisement || key.Kind == config.KindBGPAdvertisement
	if advertisement && comesAfterReach(p) {
		found, err := r.reaches(ctx, key)
		if err != nil {
			return 0, err
		}
		again = r.missing.wait(key, generation, found.Reason, time.Now())
		if again == 0 || saysAlready(before, found.Reason, generation) {
			p = afterReach(p, found)
		}
	}
	r.state.SetReason(key, p.Reason)
	changed := setReady(p, generation, conditions)
	setObserved(o, p, generation)
	r.setOutdated(o, key.Kind, generation)
	if equality.Semantic.DeepEqual(have, o) {
		return again, nil
	}
	return again, r.write(ctx, o, p, changed)
}

// saysAlready reports whether the Ready condition of an object has a reason that was
// found for this generation of it.
func saysAlready(conditions []metav1.Condition, reason v1beta1.Reason, generation int64) bool {
	c := meta.FindStatusCondition(conditions, v1beta1.ConditionReady)
	return c != nil && c.Reason == string(reason) && c.ObservedGeneration == generation
}

// comesAfterReach reports whether what is wrong with an advertisement for want of nodes may come
// before what is known of it already.
func comesAfterReach(p config.Problem) bool {
	return p.Reason == v1beta1.ReasonAccepted || p.Reason == v1beta1.ReasonNoPeerForFamily
}

// afterReach returns what an advertisement's condition says of what is wrong with it, and of what
// was found for want of nodes. That no peer carries a family is of no interest where no speaker
// has any.
func afterReach(p, found config.Problem) config.Problem {
	if p.Reason == v1beta1.ReasonAccepted || found.Reason == v1beta1.ReasonProtocolDisabled {
		p.Reason, p.Message = found.Reason, found.Message
	}
	return p
}

// worse returns what a BGPPeer's condition says of what is wrong with it, and of what is
// wrong on nodes, where its reason is not "": there they have no session. Beside what
// sessions run with all the same, that comes first.
func worse(p, onNodes config.Problem) config.Problem {
	if onNodes.Reason == "" {
		return p
	}
	switch p.Reason {
	case v1beta1.ReasonAccepted:
		return onNodes
	case v1beta1.ReasonSameRouterID, v1beta1.ReasonBFDProfileNotFound, v1beta1.ReasonBFDEchoUnusable:
		onNodes.Message += " " + p.Message
		return onNodes
	}
	return p
}

// setReady sets the Ready condition to what is known of an object, and tells
// whether its reason or message differs from before.
func setReady(p config.Problem, generation int64, conditions *[]metav1.Condition) bool {
	before := meta.FindStatusCondition(*conditions, v1beta1.ConditionReady)
	changed := before == nil || before.Reason != string(p.Reason) || before.Message != p.Message
	meta.SetStatusCondition(conditions, kube.Condition(
		v1beta1.ConditionReady, p.Reason == v1beta1.ReasonAccepted, p.Reason, p.Message, generation))
	return changed
}

// write sends a changed status, and an Event when the Ready condition is
// among the changes and the object was or is in trouble.
func (r *StatusReconciler) write(ctx context.Context, want client.Object, p config.Problem,
	readyChanged bool) error {
	// An update, not a patch: zeros are to be stored as well.
	err := r.writer.Status().Update(ctx, want)
	if err != nil {
		return fmt.Errorf("write status of %s %s: %w", p.Kind, p.Name, err)
	}
	if !readyChanged {
		return nil
	}
	kind := corev1.EventTypeWarning
	if p.Reason == v1beta1.ReasonAccepted {
		kind = corev1.EventTypeNormal
	}
	r.events.Eventf(want, nil, kind, string(p.Reason), "Configure", "%s", kube.Note(p.Message))
	r.log.Info("configuration object evaluated", "kind", p.Kind, "name", p.Name, "reason", string(p.Reason),
		"message", p.Message)
	return nil
}
