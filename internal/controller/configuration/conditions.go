package configuration

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/config"
)

// Tools that wait for an object to get ready (Flux, Helm) read three things only, as
// kstatus does: status.observedGeneration, and the conditions Ready and Stalled. An
// object whose generation has not been observed is in progress; a stalled one has
// failed.

// commonStatus is what the status of every kind that users write has.
type commonStatus struct {
	observed   *int64
	conditions *[]metav1.Condition
}

// commonOf returns the common part of an object's status, with nothing in it for other
// kinds.
func commonOf(o client.Object) commonStatus {
	switch o := o.(type) {
	case *v1beta1.IPAddressPool:
		return commonStatus{&o.Status.ObservedGeneration, &o.Status.Conditions}
	case *v1beta1.L2Advertisement:
		return commonStatus{&o.Status.ObservedGeneration, &o.Status.Conditions}
	case *v1beta1.BGPPeer:
		return commonStatus{&o.Status.ObservedGeneration, &o.Status.Conditions}
	case *v1beta1.BGPAdvertisement:
		return commonStatus{&o.Status.ObservedGeneration, &o.Status.Conditions}
	case *v1beta1.BFDProfile:
		return commonStatus{&o.Status.ObservedGeneration, &o.Status.Conditions}
	case *v1beta1.Community:
		return commonStatus{&o.Status.ObservedGeneration, &o.Status.Conditions}
	}
	return commonStatus{}
}

// setObserved writes into an object's status which generation the problem is about,
// and whether waiting can cure it.
func setObserved(o client.Object, p config.Problem, generation int64) {
	summarize(o)
	s := commonOf(o)
	*s.observed = generation
	if !p.Stalled() {
		meta.RemoveStatusCondition(s.conditions, v1beta1.ConditionStalled)
		return
	}
	meta.SetStatusCondition(s.conditions, kube.Condition(
		v1beta1.ConditionStalled, true, p.Reason, p.Message, generation))
}

// setOutdated writes into an object's status whether the definition of its kind is outdated. Until that is
// known the status says what it said before.
func (r *StatusReconciler) setOutdated(o client.Object, kind string, generation int64) {
	message, known := r.state.Outdated(kind)
	conditions := commonOf(o).conditions
	switch {
	case !known:
	case message == "":
		meta.RemoveStatusCondition(conditions, v1beta1.ConditionCRDOutdated)
	default:
		meta.SetStatusCondition(conditions, kube.Condition(
			v1beta1.ConditionCRDOutdated, true, v1beta1.ReasonCRDOutdated, message, generation))
	}
}

// summarize writes into an object's status what tables print of its spec.
func summarize(o client.Object) {
	switch o := o.(type) {
	case *v1beta1.L2Advertisement:
		o.Status.Summary = config.SummarizeL2Advertisement(&o.Spec)
	case *v1beta1.BGPAdvertisement:
		o.Status.Summary = config.SummarizeBGPAdvertisement(&o.Spec)
	case *v1beta1.Community:
		o.Status.Summary = config.SummarizeCommunity(&o.Spec)
	}
}
