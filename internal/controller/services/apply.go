package services

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
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
func (r *Reconciler) apply(ctx context.Context, service *corev1.Service, d assignment.Decision) error {
	want := service.DeepCopy()
	if !d.LeaveStatus {
		want.Status.LoadBalancer.Ingress = ingress(service.Status.LoadBalancer.Ingress, d.Addresses)
	}
	// What nobody acts on comes last: at the beginning stands what is read at adoption.
	unknown := assignment.UnknownAnnotations(service.Annotations)
	message := strings.TrimSpace(d.Message + " " + unknown)
	meta.SetStatusCondition(&want.Status.Conditions, kube.Condition(
		v1beta1.ConditionAddressAssigned, d.Assigned(), d.Reason, message, 0))
	r.announced.SetCondition(client.ObjectKeyFromObject(service), &want.Status.Conditions)
	written, err := r.write(ctx, service, want)
	if err != nil || !written {
		return err
	}
	if len(d.Addresses) > 0 && !d.LeaveStatus {
		if waited, ok := r.state.EndWait(client.ObjectKeyFromObject(service), time.Now()); ok {
			r.metrics.latency.Observe(waited.Seconds())
		}
	}
	r.report(service, d, unknown)
	r.reportBGP(service, want)
	return nil
}

// clear takes Berth's condition, and the addresses that Berth gave, out of
// the status of a Service that Berth no longer serves.
func (r *Reconciler) clear(ctx context.Context, service *corev1.Service, freed []netip.Addr) error {
	want := service.DeepCopy()
	meta.RemoveStatusCondition(&want.Status.Conditions, v1beta1.ConditionAddressAssigned)
	meta.RemoveStatusCondition(&want.Status.Conditions, v1beta1.ConditionBGPAnnounced)
	if len(freed) > 0 && slices.Equal(assignment.StatusAddresses(service), freed) {
		want.Status.LoadBalancer.Ingress = ingress(service.Status.LoadBalancer.Ingress, nil)
	}
	_, err := r.write(ctx, service, want)
	return err
}

// write sends the difference between two statuses, if there is any, on the
// condition that the Service has not changed meanwhile.
func (r *Reconciler) write(ctx context.Context, have, want *corev1.Service) (written bool, err error) {
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
		r.state.Wrote(client.ObjectKeyFromObject(have), basedOn)
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

// difference returns the patch that makes the status of one Service that of the
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

// report records a change that was written, in an Event and a log line, unless
// only the wording of the message has changed. unknown is what UnknownAnnotations says
// of the Service.
func (r *Reconciler) report(service *corev1.Service, d assignment.Decision, unknown string) {
	before := meta.FindStatusCondition(service.Status.Conditions, v1beta1.ConditionAddressAssigned)
	if unknown != "" && (before == nil || !strings.Contains(before.Message, unknown)) {
		r.events.Eventf(service, nil, corev1.EventTypeWarning, string(v1beta1.ReasonUnknownAnnotation),
			"AssignAddress", "%s", kube.Note(unknown))
	}
	if d.Leaving != "" && (before == nil || !strings.Contains(before.Message, d.Leaving)) {
		r.events.Eventf(service, nil, corev1.EventTypeWarning, string(v1beta1.ReasonPoolDeleted),
			"AssignAddress", "%s", kube.Note(d.Leaving))
		r.log.Warn("addresses are about to be lost", "service", string(assignment.HolderOf(service)),
			"addresses", d.Addresses, "reason", string(v1beta1.ReasonPoolDeleted), "message", d.Leaving)
	}
	same := d.LeaveStatus || slices.Equal(assignment.StatusAddresses(service), d.Addresses)
	if before != nil && before.Reason == string(d.Reason) && same {
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

// reportBGP records a change that was written of what becomes of a Service by BGP,
// unless only the wording has changed.
func (r *Reconciler) reportBGP(before, after *corev1.Service) {
	was := meta.FindStatusCondition(before.Status.Conditions, v1beta1.ConditionBGPAnnounced)
	is := meta.FindStatusCondition(after.Status.Conditions, v1beta1.ConditionBGPAnnounced)
	if is == nil || was != nil && was.Reason == is.Reason {
		return
	}
	kind := corev1.EventTypeNormal
	if is.Status == metav1.ConditionFalse {
		kind = corev1.EventTypeWarning
	}
	r.events.Eventf(after, nil, kind, is.Reason, "Announce", "%s", kube.Note(is.Message))
	r.log.Info("announcement by BGP changed", "service", string(assignment.HolderOf(after)),
		"reason", is.Reason, "message", is.Message)
}

// ingress returns the entries of a status that shall have these addresses, in place of
// those that it has. They stay as they are where they name the same addresses, and
// so do host names, which are somebody else's. But the mode is Berth's: packets come
// to nodes with the address as their destination, so it is VIP (KEP-1860); an entry
// that says Proxy has clients within the cluster leave the cluster for nothing.
func ingress(have []corev1.LoadBalancerIngress, addrs []netip.Addr) []corev1.LoadBalancerIngress {
	mode := corev1.LoadBalancerIPModeVIP
	var out, names []corev1.LoadBalancerIngress
	var had []netip.Addr
	for _, entry := range have {
		addr, err := netip.ParseAddr(entry.IP)
		if err != nil {
			names = append(names, entry)
			continue
		}
		had = append(had, addr.Unmap())
	}
	if slices.Equal(had, addrs) {
		out = slices.Clone(have)
		for i, entry := range out {
			if entry.IP != "" && entry.IPMode != nil && *entry.IPMode != mode {
				out[i].IPMode = &mode
			}
		}
		return out
	}
	for _, addr := range addrs {
		out = append(out, corev1.LoadBalancerIngress{IP: addr.String(), IPMode: &mode})
	}
	return append(out, names...)
}
