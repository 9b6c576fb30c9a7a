package main

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
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/config"
)

// configReconciler reads all configuration objects whenever one of them
// changes, puts them in force together, and has every Service looked at.
type configReconciler struct {
	state  *state
	cached client.Reader
	live   client.Reader // the API server
	log    *slog.Logger
	class  string
	// namespace is Berth's own.
	namespace string

	wake          func([]types.NamespacedName)
	wakeLast      func([]types.NamespacedName) // when no other waits to be looked at
	objectChanged func(objectKey)              // has an object's status written again
	bgp           *bgpTeller
}

// objectKey names a configuration object.
type objectKey struct {
	Kind string
	Name string
}

// Reconcile puts the configuration in force. It asks the API server: with a
// cache that does not show a pool yet, Services would lose its addresses.
func (r *configReconciler) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	objects, err := kube.ConfigObjects(ctx, r.live)
	if err != nil {
		return reconcile.Result{}, err
	}
	if objects.NodeAddresses, objects.NodeLabels, err = ofNodes(ctx, r.cached); err != nil {
		return reconcile.Result{}, err
	}
	// The speakers read Secrets, and say what they miss.
	objects.Namespace, objects.SecretsUnread = r.namespace, true
	now := time.Now()
	recheck, problems := r.state.setConfig(objects, now)
	for _, p := range problems {
		r.log.Debug("configuration problem", "kind", p.Kind, "name", p.Name, "reason", string(p.Reason), "message", p.Message)
	}
	for key := range generations(objects) {
		r.objectChanged(key)
	}
	r.bgp.again()
	var services corev1.ServiceList
	if err := r.cached.List(ctx, &services); err != nil {
		return reconcile.Result{}, fmt.Errorf("list Services: %w", err)
	}
	r.wake(r.state.waitingOldestFirst())
	var rest []types.NamespacedName
	for i := range services.Items {
		if assignment.Serves(&services.Items[i], r.class) {
			rest = append(rest, client.ObjectKeyFromObject(&services.Items[i]))
		}
	}
	// They may all have to be written. A new Service does not wait for that.
	r.wakeLast(rest)
	if recheck.IsZero() {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{RequeueAfter: recheck.Sub(now)}, nil
}

// generations are those of all configuration objects.
func generations(o config.Objects) map[objectKey]int64 {
	out := map[objectKey]int64{}
	for _, p := range o.Pools {
		out[objectKey{config.KindIPAddressPool, p.Name}] = p.Generation
	}
	for _, a := range o.L2Advertisements {
		out[objectKey{config.KindL2Advertisement, a.Name}] = a.Generation
	}
	for _, p := range o.BGPPeers {
		out[objectKey{config.KindBGPPeer, p.Name}] = p.Generation
	}
	for _, a := range o.BGPAdvertisements {
		out[objectKey{config.KindBGPAdvertisement, a.Name}] = a.Generation
	}
	for _, p := range o.BFDProfiles {
		out[objectKey{config.KindBFDProfile, p.Name}] = p.Generation
	}
	for _, c := range o.Communities {
		out[objectKey{config.KindCommunity, c.Name}] = c.Generation
	}
	return out
}

// newObject is an empty object of a kind whose status has only conditions, and
// these; nil of other kinds.
func newObject(kind string) (client.Object, *[]metav1.Condition) {
	switch kind {
	case config.KindL2Advertisement:
		o := &v1beta1.L2Advertisement{}
		return o, &o.Status.Conditions
	case config.KindBGPPeer:
		o := &v1beta1.BGPPeer{}
		return o, &o.Status.Conditions
	case config.KindBGPAdvertisement:
		o := &v1beta1.BGPAdvertisement{}
		return o, &o.Status.Conditions
	case config.KindBFDProfile:
		o := &v1beta1.BFDProfile{}
		return o, &o.Status.Conditions
	case config.KindCommunity:
		o := &v1beta1.Community{}
		return o, &o.Status.Conditions
	}
	return nil, nil
}

// statusReconciler keeps the status of one configuration object right.
type statusReconciler struct {
	state  *state
	cached client.Reader
	writer client.StatusClient
	events events.EventRecorder
	log    *slog.Logger
	wake   func([]types.NamespacedName)

	missing missingSince
}

// statusDelay gathers many changes of a pool's counts into one write.
const statusDelay = 300 * time.Millisecond

// Reconcile writes the conditions and counts of one object.
func (r *statusReconciler) Reconcile(ctx context.Context, key objectKey) (reconcile.Result, error) {
	select {
	case <-r.state.adopted:
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
		return reconcile.Result{RequeueAfter: statusDelay}, nil
	}
	return reconcile.Result{RequeueAfter: again}, client.IgnoreNotFound(err)
}

// pool writes the status of a pool, and wakes the Services that what has
// rested enough is for. It returns when to look again; 0 for not at all.
func (r *statusReconciler) pool(ctx context.Context, key objectKey) (time.Duration, error) {
	now := time.Now()
	r.state.mu.Lock()
	inForce := r.state.config.Pool(key.Name)
	if inForce == nil {
		r.state.mu.Unlock()
		return 0, nil
	}
	c := r.state.countsLocked(inForce, now)
	ready := r.state.ready(key.Name)
	r.state.mu.Unlock()
	r.wake(ready)

	var again time.Duration
	if !c.Rested.IsZero() {
		again = max(c.Rested.Sub(now), statusDelay)
	}
	var pool v1beta1.IPAddressPool
	if err := r.cached.Get(ctx, types.NamespacedName{Name: key.Name}, &pool); err != nil {
		return again, err
	}
	have := pool.DeepCopy()
	fill(&pool.Status, c)
	p, generation := r.problem(key)
	changed := setReady(p, generation, &pool.Status.Conditions)
	setObserved(&pool, p, generation)
	if equality.Semantic.DeepEqual(have.Status, pool.Status) {
		return again, nil
	}
	return again, r.write(ctx, &pool, p, changed)
}

// fill writes counts into the status of a pool.
func fill(s *v1beta1.IPAddressPoolStatus, c poolCounts) {
	s.AssignedIPv4, s.AssignedIPv6, s.Assigned = c.Assigned4, c.Assigned6, c.Assigned4+c.Assigned6
	s.AvailableIPv4, s.AvailableIPv6 = c.Available4, c.Available6
	s.RestingIPv4, s.RestingIPv6 = c.Resting4, c.Resting6
	s.ExcludedIPv4, s.ExcludedIPv6 = c.Excluded4, c.Excluded6
	tellOfNodes(s, c)
	s.OutOfRange, s.OutOfRangeCount = nil, int64(len(c.Outside))
	for _, r := range c.OutsideRanges {
		s.OutOfRange = append(s.OutOfRange, config.RangeText(r))
	}
	setOutOfRange(s, len(c.Outside), c.OutsideTold)
}

// tellOfNodes sets the condition that tells which addresses of a pool nodes have.
func tellOfNodes(s *v1beta1.IPAddressPoolStatus, c poolCounts) {
	if c.OfNodesTold == "" {
		meta.RemoveStatusCondition(&s.Conditions, v1beta1.ConditionNodeAddresses)
		return
	}
	reason, what := v1beta1.ReasonNotGivenOut, "are not given out, but Services that have one of them keep it"
	if c.GivesOfNodes {
		reason, what = v1beta1.ReasonGivenOut, "are given out and announced by nobody (allowNodeAddresses)"
	}
	meta.SetStatusCondition(&s.Conditions, kube.Condition(v1beta1.ConditionNodeAddresses, true, reason,
		fmt.Sprintf("Nodes have addresses of the pool, which %s: %s.", what, c.OfNodesTold), 0))
}

// conditions writes the status of an object that has only conditions. It returns
// when to look again; 0 for not at all.
func (r *statusReconciler) conditions(ctx context.Context, key objectKey) (again time.Duration, err error) {
	if !r.state.hasRead(key) {
		return 0, nil // it is looked at again once it was read
	}
	o, conditions := newObject(key.Kind)
	if err := r.cached.Get(ctx, types.NamespacedName{Name: key.Name}, o); err != nil {
		return 0, err
	}
	have, before := o.DeepCopyObject(), slices.Clone(*conditions)
	p, generation := r.problem(key)
	if peer, is := o.(*v1beta1.BGPPeer); is {
		seen, err := r.onNodes(ctx, key.Name)
		if err != nil {
			return 0, err
		}
		peer.Status.Sessions, peer.Status.Established = seen.sessions, seen.established
		peer.Status.Families = familyNames(seen.families)
		p = worse(p, seen.problem)
	}
	advertisement := key.Kind == config.KindL2Advertisement || key.Kind == config.KindBGPAdvertisement
	if advertisement && p.Reason == v1beta1.ReasonAccepted {
		found, err := r.reaches(ctx, key)
		if err != nil {
			return 0, err
		}
		again = r.missing.wait(key, found.Reason, time.Now())
		if again == 0 || saysAlready(before, found.Reason, generation) {
			p.Reason, p.Message = found.Reason, found.Message
		}
	}
	changed := setReady(p, generation, conditions)
	setObserved(o, p, generation)
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

// worse is what a BGPPeer's condition says of what is wrong with it, and of what is
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

// problem is what is wrong with an object, or that nothing is, and the
// generation of the object that this was said of.
func (r *statusReconciler) problem(key objectKey) (config.Problem, int64) {
	r.state.mu.Lock()
	defer r.state.mu.Unlock()
	for _, p := range r.state.problems {
		if p.Kind == key.Kind && p.Name == key.Name {
			return p, r.state.judged[key]
		}
	}
	return config.Problem{Kind: key.Kind, Name: key.Name, Reason: v1beta1.ReasonAccepted, Message: inForce}, r.state.judged[key]
}

// write sends a changed status, and an Event when the Ready condition is
// among the changes and the object was or is in trouble.
func (r *statusReconciler) write(ctx context.Context, want client.Object, p config.Problem, readyChanged bool) error {
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
	r.log.Info("configuration object judged", "kind", p.Kind, "name", p.Name, "reason", string(p.Reason), "message", p.Message)
	return nil
}
