package members

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster/clustertest"
	"github.com/berth-lb/berth/internal/speaker/presence"
)

func speakerOf(name, address string) client.Object {
	return &v1beta1.Speaker{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status:     v1beta1.SpeakerStatus{MemberAddress: address},
	}
}

func TestPeersAreFoundByTheirSpeakerObjects(t *testing.T) {
	for _, test := range []struct {
		story    string
		speakers []client.Object
		want     []string
	}{
		{"a cluster without speakers", nil, nil},
		{"this one alone", []client.Object{speakerOf("node1", "192.0.2.1:7947")}, nil},
		{"all others", []client.Object{
			speakerOf("node1", "192.0.2.1:7947"),
			speakerOf("node2", "192.0.2.2:7947"),
			speakerOf("node3", "[2001:db8::3]:7947"),
		},
			[]string{"192.0.2.2:7947", "[2001:db8::3]:7947"}},
		{"one that has not said its address yet",
			[]client.Object{speakerOf("node2", ""), speakerOf("node3", "192.0.2.3:7947")},
			[]string{"192.0.2.3:7947"}},
		{"one that says nonsense", []client.Object{
			speakerOf("node2", "192.0.2.2"),
			speakerOf("node4", "node4:7947"),
			speakerOf("node3", "192.0.2.3:7947"),
		}, []string{"192.0.2.3:7947"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t)
			<-w.Status.C()
			cached := clustertest.New(t, test.speakers...)
			_, err := NewObjects(cached, w.tracker).Reconcile(t.Context(), reconcile.Request{})
			if err != nil {
				t.Fatal(err)
			}
			var texts []string
			for _, p := range w.Peers {
				texts = append(texts, p.String())
			}
			if !slices.Equal(texts, test.want) {
				t.Errorf("got %q, want %q", texts, test.want)
			}
			if len(w.Status.C()) != 1 {
				t.Error("this node's own object is not looked at")
			}
		})
	}
}

func TestPeersStayWhenTheyCannotBeRead(t *testing.T) {
	before := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:7947")}
	w := newWorld(t)
	w.Peers = slices.Clone(before)
	away := errors.New("away")
	cached := interceptor.NewClient(clustertest.New(t), interceptor.Funcs{
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
			return away
		},
	})
	_, err := NewObjects(cached, w.tracker).Reconcile(t.Context(), reconcile.Request{})
	if !errors.Is(err, away) {
		t.Errorf("got %v", err)
	}
	if !slices.Equal(w.Peers, before) {
		t.Errorf("membership was told %v", w.Peers)
	}
}

// nodes are the addresses that membership was told last.
type nodes []netip.Addr

// SetNodes makes n a membership.
func (n *nodes) SetNodes(list []netip.Addr) { *n = list }

func TestMembershipIsGivenAddressesOfNodes(t *testing.T) {
	node := func(name string, addresses ...corev1.NodeAddress) client.Object {
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Status:     corev1.NodeStatus{Addresses: addresses},
		}
	}
	var got nodes
	r := NewNodes(clustertest.New(t,
		node("node1",
			corev1.NodeAddress{Type: corev1.NodeHostName, Address: "192.0.2.9"},
			corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "192.0.2.1"},
			corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "2001:db8::1"}),
		node("node2"),
		node("node3",
			corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "198.51.100.3"},
			corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "nonsense"}),
	), &got)
	if _, err := r.Reconcile(t.Context(), reconcile.Request{}); err != nil {
		t.Fatal(err)
	}
	want := nodes{
		netip.MustParseAddr("192.0.2.1"),
		netip.MustParseAddr("2001:db8::1"),
		netip.MustParseAddr("198.51.100.3"),
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestASuspicionBeyondTheListIsUnknown: a speaker that misses more members than its object takes
// may miss this one, unless the list shows that there was room for all whom it suspects.
func TestASuspicionBeyondTheListIsUnknown(t *testing.T) {
	absent := func(reason v1beta1.Reason) []v1beta1.AbsentMember {
		return []v1beta1.AbsentMember{{Name: "node2", Reason: string(reason)}}
	}
	for _, test := range []struct {
		story    string
		count    int32
		listed   []v1beta1.AbsentMember
		suspects bool
	}{
		{"it misses nobody", 0, nil, false},
		{"it misses another", 1, absent(v1beta1.ReasonNodeRenewing), false},
		{"it misses more than it lists, all of them suspected", 2, absent(v1beta1.ReasonNodeRenewing), true},
		{"it misses more, and had room for one that is dead", 2, absent(v1beta1.ReasonNodeSilent), false},
	} {
		status := v1beta1.SpeakerStatus{AbsentCount: test.count, AbsentMembers: test.listed}
		got := presence.SuspicionOf(&v1beta1.Speaker{Status: status}, "node1")
		if (got != "") != test.suspects {
			t.Errorf("%s: of node1 it says %q", test.story, got)
		}
	}
}
