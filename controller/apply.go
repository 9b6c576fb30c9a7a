package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
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
	patch := client.MergeFromWithOptions(have.DeepCopy(), client.MergeFromWithOptimisticLock{})
	if err := r.writer.Status().Patch(ctx, want, patch); err != nil {
		return false, fmt.Errorf("write status: %w", err)
	}
	if want.ResourceVersion != basedOn {
		r.state.mu.Lock()
		r.state.written[client.ObjectKeyFromObject(have)] = basedOn
		r.state.mu.Unlock()
	}
	return true, nil
}

// announce tells of a change that was written: an Event, a log line, and how
// long the Service waited for its first address.
func (r *serviceReconciler) announce(service *corev1.Service, d assignment.Decision) {
	kind := corev1.EventTypeNormal
	if !d.Assigned() {
		kind = corev1.EventTypeWarning
	}
	r.events.Eventf(service, nil, kind, string(d.Reason), "AssignAddress", "%s", kube.Note(d.Message))
	r.log.Info("assignment changed", "service", string(assignment.HolderOf(service)),
		"addresses", d.Addresses, "reason", string(d.Reason), "message", d.Message)
	r.metrics.decisions.WithLabelValues(string(d.Reason)).Inc()
	if len(assignment.StatusAddresses(service)) == 0 && len(d.Addresses) > 0 {
		r.metrics.latency.Observe(time.Since(service.CreationTimestamp.Time).Seconds())
	}
}

func ingress(addrs []netip.Addr) []corev1.LoadBalancerIngress {
	mode := corev1.LoadBalancerIPModeVIP
	var out []corev1.LoadBalancerIngress
	for _, addr := range addrs {
		out = append(out, corev1.LoadBalancerIngress{IP: addr.String(), IPMode: &mode})
	}
	return out
}
