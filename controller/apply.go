package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/assignment"
)

// apply writes a decision into the status of a Service: one write when
// anything differs, none otherwise, and an Event for a write.
//
// The write fails with a conflict when the Service has changed since it was
// cached.
func (r *serviceReconciler) apply(ctx context.Context, service *corev1.Service, d assignment.Decision) error {
	want := service.DeepCopy()
	if !slices.Equal(assignment.StatusAddresses(service), d.Addresses) {
		want.Status.LoadBalancer.Ingress = ingress(d.Addresses)
	}
	meta.SetStatusCondition(&want.Status.Conditions, kube.Condition(
		v1beta1.ConditionAddressAssigned, d.Assigned(), d.Reason, d.Message, 0))
	written, err := r.write(ctx, service, want)
	if err != nil || !written {
		return err
	}
	if len(d.Addresses) > 0 {
		if waited, ok := r.state.waited(client.ObjectKeyFromObject(service), time.Now()); ok {
			r.metrics.latency.Observe(waited.Seconds())
		}
	}
	r.announce(service, d)
	return nil
}

// clear takes Berth's condition, and the addresses that Berth gave, out of
// the status of a Service that Berth no longer serves.
func (r *serviceReconciler) clear(ctx context.Context, service *corev1.Service, freed []netip.Addr) error {
	want := service.DeepCopy()
	meta.RemoveStatusCondition(&want.Status.Conditions, v1beta1.ConditionAddressAssigned)
	if len(freed) > 0 && slices.Equal(assignment.StatusAddresses(service), freed) {
		want.Status.LoadBalancer.Ingress = nil
	}
	_, err := r.write(ctx, service, want)
	return err
}

// write sends the difference between two statuses, if there is any, on the
// condition that the Service has not changed meanwhile.
func (r *serviceReconciler) write(ctx context.Context, have, want *corev1.Service) (written bool, err error) {
	if equality.Semantic.DeepEqual(have.Status, want.Status) {
		return false, nil
	}
	basedOn := have.ResourceVersion
	patch, err := difference(have, want)
	if err != nil {
		return false, err
	}
	if err := r.writer.Status().Patch(ctx, want, patch); err != nil {
		return false, fmt.Errorf("write status: %w", err)
	}
	if want.ResourceVersion != basedOn {
		r.state.wrote(client.ObjectKeyFromObject(have), basedOn)
	}
	return true, nil
}

// statusPatch is a JSON merge patch (RFC 7386) of what Berth writes of a
// Service. A null takes something away.
type statusPatch struct {
	Metadata struct {
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
	Status struct {
		LoadBalancer *ingressPatch   `json:"loadBalancer,omitempty"`
		Conditions   *conditionPatch `json:"conditions,omitempty"`
	} `json:"status"`
}

type ingressPatch struct {
	Ingress []corev1.LoadBalancerIngress `json:"ingress"`
}

type conditionPatch []metav1.Condition

// difference is the patch that makes the status of one Service that of the
// other. The API server refuses it when the Service has changed meanwhile.
func difference(have, want *corev1.Service) (client.Patch, error) {
	var p statusPatch
	p.Metadata.ResourceVersion = have.ResourceVersion
	if !equality.Semantic.DeepEqual(have.Status.LoadBalancer, want.Status.LoadBalancer) {
		p.Status.LoadBalancer = &ingressPatch{want.Status.LoadBalancer.Ingress}
	}
	if !equality.Semantic.DeepEqual(have.Status.Conditions, want.Status.Conditions) {
		p.Status.Conditions = (*conditionPatch)(&want.Status.Conditions)
	}
	text, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode a status: %w", err)
	}
	return client.RawPatch(types.MergePatchType, text), nil
}

// announce tells of a change that was written: an Event and a log line, unless
// only the wording of the message has changed.
func (r *serviceReconciler) announce(service *corev1.Service, d assignment.Decision) {
	before := meta.FindStatusCondition(service.Status.Conditions, v1beta1.ConditionAddressAssigned)
	if before != nil && before.Reason == string(d.Reason) && slices.Equal(assignment.StatusAddresses(service), d.Addresses) {
		return
	}
	kind := corev1.EventTypeNormal
	if !d.Assigned() {
		kind = corev1.EventTypeWarning
	}
	r.events.Eventf(service, nil, kind, string(d.Reason), "AssignAddress", "%s", kube.Note(d.Message))
	r.log.Info("assignment changed", "service", string(assignment.HolderOf(service)),
		"addresses", d.Addresses, "reason", string(d.Reason), "message", d.Message)
	r.metrics.decisions.WithLabelValues(string(d.Reason)).Inc()
}

func ingress(addrs []netip.Addr) []corev1.LoadBalancerIngress {
	mode := corev1.LoadBalancerIPModeVIP
	var out []corev1.LoadBalancerIngress
	for _, addr := range addrs {
		out = append(out, corev1.LoadBalancerIngress{IP: addr.String(), IPMode: &mode})
	}
	return out
}
