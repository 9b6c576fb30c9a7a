package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/config"
	"github.com/berth-lb/berth/pkg/layer2"
	"github.com/berth-lb/berth/pkg/membership"
)

// world is the speaker of node1 without sockets and goroutines: a test says
// what is looked at when.
type world struct {
	t   *testing.T
	api client.Client

	alive []string      // nodes whose speakers are alive
	local []layer2.Link // links of node1

	// What the speaker did since the test last asked.
	set    []string // "address links" given to the announcer
	events []string // "object type reason"
	told   int      // how often the Speaker object was to be written

	state     *state
	addresses *addressReconciler
	object    *object
}

var address = netip.MustParseAddr("192.0.2.10")

// newWorld starts the speaker of node1, with a pool that has address and an
// L2Advertisement of everything.
func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	w := &world{t: t, alive: []string{"node1"}, local: []layer2.Link{link("eth0", "192.0.2.1/24")}}
	builder := fake.NewClientBuilder().WithScheme(kube.Scheme()).WithObjects(objects...).WithStatusSubresource(&v1beta1.Speaker{})
	if err := addIndexes(t.Context(), indexes{builder: builder}, ""); err != nil {
		t.Fatal(err)
	}
	w.api = builder.Build()
	w.state = newState()
	w.state.setConfig(config.Objects{
		Pools: []v1beta1.IPAddressPool{{
			ObjectMeta: metav1.ObjectMeta{Name: "lan"},
			Spec:       v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{"192.0.2.0/24"}},
		}},
		L2Advertisements: []v1beta1.L2Advertisement{{ObjectMeta: metav1.ObjectMeta{Name: "all"}}},
	}, time.Now())
	close(w.state.settled)
	log := slog.New(slog.DiscardHandler)
	v := &view{cached: w.api, state: w.state, members: w, links: w, node: "node1", excludeLinks: layer2.DefaultExclude()}
	w.object = &object{view: v, live: w.api, writer: w.api, log: log, address: netip.MustParseAddrPort("192.0.2.1:7947"), changed: make(chan struct{}, 1)}
	w.addresses = &addressReconciler{view: v, announcer: w, events: w, log: log, told: func() { w.told++ }}
	return w
}

// Members makes the world its own membership.
func (w *world) Members() []membership.Member {
	var out []membership.Member
	for _, name := range w.alive {
		out = append(out, membership.Member{Name: name})
	}
	return out
}

// Links makes the world its own link watcher.
func (w *world) Links() []layer2.Link { return w.local }

// Set makes the world its own announcer.
func (w *world) Set(addr netip.Addr, links []string) {
	w.set = append(w.set, strings.TrimSpace(addr.String()+" "+strings.Join(links, ",")))
}

// Eventf makes the world an event recorder.
func (w *world) Eventf(regarding, _ runtime.Object, kind, reason, _, note string, args ...any) {
	if note := fmt.Sprintf(note, args...); note == "" || strings.Contains(note, "%!") {
		w.t.Errorf("an Event with the note %q", note)
	}
	w.events = append(w.events, fmt.Sprintf("%s %s %s", regarding.(client.Object).GetName(), kind, reason))
}

// look has an address looked at.
func (w *world) look() {
	w.t.Helper()
	if _, err := w.addresses.Reconcile(w.t.Context(), address); err != nil {
		w.t.Fatal(err)
	}
}

// did checks the last thing given to the announcer, the Events, and whether
// the Speaker object was to be written, since the last time.
func (w *world) did(set string, told bool, events ...string) {
	w.t.Helper()
	if len(w.set) == 0 || w.set[len(w.set)-1] != set {
		w.t.Errorf("the announcer was given %q, want %q", w.set, set)
	}
	if !slices.Equal(w.events, events) {
		w.t.Errorf("emitted %q, want %q", w.events, events)
	}
	if (w.told > 0) != told {
		w.t.Errorf("the Speaker object was told %d times", w.told)
	}
	w.set, w.events, w.told = nil, nil, 0
}

// ready says of the only endpoint of a Service whether it is.
func (w *world) ready(service string, ready bool) {
	w.t.Helper()
	var s discoveryv1.EndpointSlice
	if err := w.api.Get(w.t.Context(), types.NamespacedName{Namespace: "default", Name: service}, &s); err != nil {
		w.t.Fatal(err)
	}
	s.Endpoints[0].Conditions.Ready = &ready
	if err := w.api.Update(w.t.Context(), &s); err != nil {
		w.t.Fatal(err)
	}
}

// indexes gives a fake client the indexes of the real cache.
type indexes struct {
	cache.Cache
	builder *fake.ClientBuilder
}

// IndexField implements client.FieldIndexer.
func (i indexes) IndexField(_ context.Context, o client.Object, field string, values client.IndexerFunc) error {
	i.builder.WithIndex(o, field, values)
	return nil
}

func link(name string, prefixes ...string) layer2.Link {
	l := layer2.Link{Index: 1, Name: name, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Up: true, Broadcast: true}
	for _, p := range prefixes {
		l.Prefixes = append(l.Prefixes, netip.MustParsePrefix(p))
	}
	return l
}

func node(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}}
}

// service is a Service that has address, with a ready endpoint on node1.
func service(name string) []client.Object {
	on, ready := "node1", true
	return []client.Object{
		&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer},
			Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{
				Ingress: []corev1.LoadBalancerIngress{{IP: address.String()}},
			}},
		},
		&discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
			Endpoints:  []discoveryv1.Endpoint{{NodeName: &on, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		},
	}
}
