package main

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
)

// peers are what membership was told last.
type peers []netip.AddrPort

// SetPeers makes p a membership.
func (p *peers) SetPeers(list []netip.AddrPort) { *p = list }

func speakerOf(name, address string) client.Object {
	return &v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1beta1.SpeakerStatus{MemberAddress: address}}
}

func TestFellowsAreFoundByTheirSpeakerObjects(t *testing.T) {
	for _, test := range []struct {
		story    string
		speakers []client.Object
		want     []string
	}{
		{"a cluster without speakers", nil, nil},
		{"this one alone", []client.Object{speakerOf("node1", "192.0.2.1:7947")}, nil},
		{"all others", []client.Object{speakerOf("node1", "192.0.2.1:7947"), speakerOf("node2", "192.0.2.2:7947"), speakerOf("node3", "[2001:db8::3]:7947")},
			[]string{"192.0.2.2:7947", "[2001:db8::3]:7947"}},
		{"one that has not said its address yet", []client.Object{speakerOf("node2", ""), speakerOf("node3", "192.0.2.3:7947")}, []string{"192.0.2.3:7947"}},
		{"one that says nonsense", []client.Object{speakerOf("node2", "192.0.2.2"), speakerOf("node4", "node4:7947"), speakerOf("node3", "192.0.2.3:7947")}, []string{"192.0.2.3:7947"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			var got peers
			told := 0
			r := &fellowReconciler{
				cached: fake.NewClientBuilder().WithScheme(kube.Scheme()).WithObjects(test.speakers...).Build(),
				node:   "node1", members: &got, fellows: newFellowship("node1", patience, nil, nil), told: func() { told++ },
			}
			if _, err := r.Reconcile(t.Context(), reconcile.Request{}); err != nil {
				t.Fatal(err)
			}
			var texts []string
			for _, p := range got {
				texts = append(texts, p.String())
			}
			if !slices.Equal(texts, test.want) {
				t.Errorf("got %q, want %q", texts, test.want)
			}
			if told != 1 {
				t.Errorf("this node's own object was looked at %d times", told)
			}
		})
	}
}

func TestFellowsStayWhenTheyCannotBeRead(t *testing.T) {
	before := peers{netip.MustParseAddrPort("192.0.2.2:7947")}
	got := slices.Clone(before)
	away := errors.New("away")
	r := &fellowReconciler{node: "node1", members: &got, told: func() {}, cached: fake.NewClientBuilder().WithScheme(kube.Scheme()).
		WithInterceptorFuncs(interceptor.Funcs{
			List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error { return away },
		}).Build()}
	if _, err := r.Reconcile(t.Context(), reconcile.Request{}); !errors.Is(err, away) {
		t.Errorf("got %v", err)
	}
	if !slices.Equal(got, before) {
		t.Errorf("membership was told %v", got)
	}
}

// nodes are the addresses that membership was told last.
type nodes []netip.Addr

// SetNodes makes n a membership.
func (n *nodes) SetNodes(list []netip.Addr) { *n = list }

func TestAddressesOfNodesAreTold(t *testing.T) {
	node := func(name string, addresses ...corev1.NodeAddress) client.Object {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Addresses: addresses}}
	}
	var got nodes
	r := &nodeReconciler{members: &got, cached: fake.NewClientBuilder().WithScheme(kube.Scheme()).WithObjects(
		node("node1",
			corev1.NodeAddress{Type: corev1.NodeHostName, Address: "192.0.2.9"},
			corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "192.0.2.1"},
			corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "2001:db8::1"}),
		node("node2"),
		node("node3",
			corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "198.51.100.3"},
			corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "nonsense"}),
	).Build()}
	if _, err := r.Reconcile(t.Context(), reconcile.Request{}); err != nil {
		t.Fatal(err)
	}
	want := nodes{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("198.51.100.3")}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
