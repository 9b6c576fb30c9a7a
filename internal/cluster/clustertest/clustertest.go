// Package clustertest has clusters in memory for the tests of what reads one.
package clustertest

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/kube"
)

// Namespace is that of Berth in tests.
const Namespace = "berth-system"

// Address is that of the Services that [Service] makes.
var Address = netip.MustParseAddr("192.0.2.10")

// scheme is made once: that takes longer than most tests.
var scheme = sync.OnceValue(kube.Scheme)

// New returns an API server in memory that has objects, and the indexes of
// [cluster.AddIndexes].
func New(t *testing.T, objects ...client.Object) client.WithWatch {
	t.Helper()
	builder := fake.NewClientBuilder().WithScheme(scheme()).WithObjects(objects...).
		WithStatusSubresource(&v1beta1.Speaker{})
	if err := cluster.AddIndexes(t.Context(), indexes{builder}, ""); err != nil {
		t.Fatal(err)
	}
	return builder.Build()
}

// indexes gives a fake client the indexes of the real cache.
type indexes struct{ builder *fake.ClientBuilder }

// IndexField implements client.FieldIndexer.
func (i indexes) IndexField(
	_ context.Context, o client.Object, field string, values client.IndexerFunc,
) error {
	i.builder.WithIndex(o, field, values)
	return nil
}

// Node returns a Node.
func Node(name string, changes ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}}
	for _, change := range changes {
		change(n)
	}
	return n
}

// Service returns a Service that has [Address], and its EndpointSlice with a ready
// endpoint on node1.
func Service(name string) []client.Object {
	on, ready := "node1", true
	return []client.Object{
		&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer},
			Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{
				Ingress: []corev1.LoadBalancerIngress{{IP: Address.String()}},
			}},
		},
		&discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "default",
				Name:      name,
				Labels:    map[string]string{discoveryv1.LabelServiceName: name},
			},
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints: []discoveryv1.Endpoint{{
				NodeName:   &on,
				Conditions: discoveryv1.EndpointConditions{Ready: &ready},
			}},
		},
	}
}

// Pool returns an IPAddressPool that has [Address].
func Pool() *v1beta1.IPAddressPool {
	return &v1beta1.IPAddressPool{
		ObjectMeta: metav1.ObjectMeta{Name: "lan"},
		Spec:       v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{"192.0.2.0/24"}},
	}
}

// Change changes an object of an API server.
func Change[T client.Object](t *testing.T, api client.Client, name string, o T, change func(T)) {
	t.Helper()
	err := api.Get(t.Context(), types.NamespacedName{Namespace: namespaceOf(o), Name: name}, o)
	if err != nil {
		t.Fatal(err)
	}
	change(o)
	if err := api.Update(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

func namespaceOf(o client.Object) string {
	switch o.(type) {
	case *corev1.Service, *discoveryv1.EndpointSlice:
		return "default"
	case *corev1.Secret:
		return Namespace
	}
	return ""
}

// Ready says of the only endpoint of a Service whether it is ready.
func Ready(t *testing.T, api client.Client, service string, ready bool) {
	t.Helper()
	Change(t, api, service, &discoveryv1.EndpointSlice{}, func(s *discoveryv1.EndpointSlice) {
		s.Endpoints[0].Conditions.Ready = &ready
	})
}

// Events is an event recorder that remembers what was emitted. It is not safe for
// concurrent use.
type Events struct {
	T *testing.T
	// Emitted are the Events as "object type reason", Notes their texts.
	Emitted, Notes []string
}

// Eventf implements events.EventRecorder.
func (e *Events) Eventf(regarding, _ runtime.Object, kind, reason, _, note string, args ...any) {
	text := fmt.Sprintf(note, args...)
	if text == "" || strings.Contains(text, "%!") {
		e.T.Errorf("an Event with the note %q", text)
	}
	e.Notes = append(e.Notes, text)
	e.Emitted = append(e.Emitted, fmt.Sprintf("%s %s %s", regarding.(client.Object).GetName(), kind, reason))
}
