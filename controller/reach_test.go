package main

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/configuration"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/pkg/config"
)

// labelledNode is a node with labels.
func labelledNode(name string, set map[string]string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: set}}
}

// TestInterfaceOfNoNodeIsToldInTime: speakers list a link that is excluded by its name
// only once an advertisement names it, so its absence is not told at once; and what was
// told before a restart of the controller stays told.
func TestInterfaceOfNoNodeIsToldInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ad := &v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: "x", Generation: 4, UID: "x"}}
		ad.Spec.Interfaces = []string{"wg0"}
		w := newWorld(t, ad, labelledNode("n1", nil), speakerOn("n1", "eth0"))
		key := state.ObjectKey{Kind: config.KindL2Advertisement, Name: "x"}
		looks := func(want v1beta1.Reason, again time.Duration) {
			t.Helper()
			got, err := w.status.Reconcile(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			var have v1beta1.L2Advertisement
			if err := w.api.Get(t.Context(), types.NamespacedName{Name: "x"}, &have); err != nil {
				t.Fatal(err)
			}
			c := meta.FindStatusCondition(have.Status.Conditions, v1beta1.ConditionReady)
			if c == nil || c.Reason != string(want) || got != (reconcile.Result{RequeueAfter: again}) {
				t.Errorf("the condition is %+v, want %s; again in %s, want %s",
					c, want, got.RequeueAfter, again)
			}
		}
		looks(v1beta1.ReasonAccepted, configuration.InterfaceGracePeriod)
		time.Sleep(configuration.InterfaceGracePeriod - time.Second)
		looks(v1beta1.ReasonAccepted, time.Second)
		time.Sleep(time.Second)
		looks(v1beta1.ReasonNoInterface, 0)

		w.restart()
		looks(v1beta1.ReasonNoInterface, configuration.InterfaceGracePeriod)
		w.didNothing()
		time.Sleep(configuration.InterfaceGracePeriod)
		looks(v1beta1.ReasonNoInterface, 0)

		// Another interface: no speaker has had time to list it.
		edit := func() {
			t.Helper()
			if err := w.api.Get(t.Context(), types.NamespacedName{Name: "x"}, ad); err != nil {
				t.Fatal(err)
			}
			ad.Spec.Interfaces = []string{"wg1"}
			ad.Generation++
			if err := w.api.Update(t.Context(), ad); err != nil {
				t.Fatal(err)
			}
			w.configure()
		}
		edit()
		looks(v1beta1.ReasonAccepted, configuration.InterfaceGracePeriod)
		time.Sleep(configuration.InterfaceGracePeriod)
		looks(v1beta1.ReasonNoInterface, 0)

		// It is deleted, and created again as it was.
		if err := w.api.Delete(t.Context(), ad); err != nil {
			t.Fatal(err)
		}
		w.configure()
		w.judge(key.Kind, key.Name)
		again := ad.DeepCopy()
		again.ResourceVersion, again.Status = "", v1beta1.L2AdvertisementStatus{}
		again.Spec.Interfaces = []string{"wg0"}
		w.create(again)
		w.configure()
		looks(v1beta1.ReasonAccepted, configuration.InterfaceGracePeriod)
		time.Sleep(configuration.InterfaceGracePeriod)
		looks(v1beta1.ReasonNoInterface, 0)

		changed := speakerOn("n1", "eth0", "wg0")
		if err := w.api.Delete(t.Context(), speakerOn("n1")); err != nil {
			t.Fatal(err)
		}
		w.create(changed)
		looks(v1beta1.ReasonAccepted, 0)
	})
}

// TestConditionsTellOfNodes: what labels of nodes and their speakers make of an
// advertisement is in its condition.
func TestConditionsTellOfNodes(t *testing.T) {
	control := []metav1.LabelSelector{{MatchLabels: map[string]string{"role": "control"}}}
	labelled := labelledNode("n1", map[string]string{"role": "control", v1beta1.LabelExcludeNode: ""})
	l2 := &v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: "x", UID: "x"}}
	l2.Spec.NodeSelectors = control
	bgp := &v1beta1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: "x", UID: "x"}}
	bgp.Spec.NodeSelectors = control
	for _, ad := range []client.Object{l2, bgp} {
		kind := map[bool]string{
			true:  config.KindL2Advertisement,
			false: config.KindBGPAdvertisement,
		}[ad == client.Object(l2)]
		w := newWorld(t, ad, bgpPeer("tor", nil), labelled, speakerOn("n1", "eth0"))
		w.judge(kind, "x")
		w.create(labelledNode("n2", nil))
		w.create(speakerOn("n2", "eth0"))
		w.configure()
		w.judge(kind, "x")
		want := []string{"x Normal Accepted", "x Warning NodesExcluded"}
		if !slices.Equal(w.events, want) {
			t.Errorf("of a %s it tells %q, want %q", kind, w.events, want)
		}
	}
	l2.Spec.NodeSelectors[0].MatchLabels = map[string]string{"role": "edge"}
	w := newWorld(t, l2, labelled)
	w.judge(config.KindL2Advertisement, "x")
	if want := []string{"x Warning NoNodeSelected"}; !slices.Equal(w.events, want) {
		t.Errorf("of an advertisement of no node it tells %q, want %q", w.events, want)
	}
}
