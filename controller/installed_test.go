package main

import (
	"slices"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
)

// leaseOf returns the lease of a controller that renewed it last at a time.
func leaseOf(renewed time.Time) *coordinationv1.Lease {
	lease := &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{
		HolderIdentity:       new("berth-controller-1"),
		LeaseDurationSeconds: new(int32(6)),
		RenewTime:            &metav1.MicroTime{Time: renewed},
	}}
	lease.Namespace, lease.Name = "berth-system", leaseName
	return lease
}

// conditionReady is the condition Ready of a generation.
func conditionReady(
	status metav1.ConditionStatus, generation int64, reason, message string,
) []metav1.Condition {
	return []metav1.Condition{{
		Type:               v1beta1.ConditionReady,
		Status:             status,
		ObservedGeneration: generation,
		Reason:             reason,
		Message:            message,
	}}
}

func speakerOf(node string, conditions []metav1.Condition) *v1beta1.Speaker {
	s := &v1beta1.Speaker{Status: v1beta1.SpeakerStatus{Conditions: conditions}}
	s.Name = node
	return s
}

func poolOf(generation int64, conditions []metav1.Condition) *v1beta1.IPAddressPool {
	p := &v1beta1.IPAddressPool{Status: v1beta1.IPAddressPoolStatus{Conditions: conditions}}
	p.Name, p.Generation = "lan", generation
	return p
}

// TestInstalled: what `helm test` says of an installation.
func TestInstalled(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	fine := conditionReady(metav1.ConditionTrue, 1, "Accepted", "")
	whole := []client.Object{leaseOf(now), speakerOf("node1", fine), poolOf(1, fine)}
	with := func(o ...client.Object) []client.Object { return append(slices.Clone(whole), o...) }
	starting := conditionReady(metav1.ConditionFalse, 1, "Starting", "It looks for the others.")
	invalid := conditionReady(metav1.ConditionFalse, 1, "Invalid", "No address.")
	var advertisement v1beta1.L2Advertisement
	advertisement.Name, advertisement.Generation = "lan", 1

	for _, test := range []struct {
		story   string
		objects []client.Object
		want    []string
	}{
		{"everything works", whole, nil},
		{"nothing has begun", nil, []string{"No controller leads.", "No speaker has reported."}},
		{"the controller has ended", append(slices.Clone(whole[1:]), leaseOf(now.Add(-time.Minute))),
			[]string{"No controller leads."}},
		{"a speaker says why it is not ready",
			with(speakerOf("node2", starting)),
			[]string{"The speaker of node2 is not ready: Starting: It looks for the others."}},
		{"another has said nothing", with(speakerOf("node2", nil)),
			[]string{"The speaker of node2 is not ready."}},
		{"a pool cannot be understood",
			[]client.Object{whole[0], whole[1], poolOf(1, invalid)},
			[]string{"IPAddressPool lan is not ready: Invalid: No address."}},
		{"a pool was edited since", []client.Object{whole[0], whole[1], poolOf(2, fine)},
			[]string{"IPAddressPool lan has not been read."}},
		{"an advertisement has no condition yet", with(&advertisement),
			[]string{"L2Advertisement lan has not been read."}},
	} {
		t.Run(test.story, func(t *testing.T) {
			api := fake.NewClientBuilder().WithScheme(kube.Scheme()).WithObjects(test.objects...).Build()
			found, err := readInstallation(t.Context(), api, "berth-system")
			if err != nil {
				t.Fatal(err)
			}
			if got := found.missing(now); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestEveryKindIsTested: no kind that users write is left out of the test of an installation.
func TestEveryKindIsTested(t *testing.T) {
	var objects []client.Object
	for _, kind := range kube.ConfigKinds() {
		kind.SetName("x")
		objects = append(objects, kind)
	}
	api := fake.NewClientBuilder().WithScheme(kube.Scheme()).WithObjects(objects...).Build()
	found, err := readInstallation(t.Context(), api, "berth-system")
	if err != nil {
		t.Fatal(err)
	}
	if len(found.objects) != len(kube.ConfigKinds()) {
		t.Errorf("of %d kinds %d are read", len(kube.ConfigKinds()), len(found.objects))
	}
}
