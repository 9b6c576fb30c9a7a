package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/pkg/config"
)

func TestConditionsOfBGPKinds(t *testing.T) {
	selects := func(s *v1beta1.BGPPeerSpec) {
		s.NodeSelectors = []metav1.LabelSelector{{MatchLabels: map[string]string{"rack": "1"}}}
	}
	withSecret := func(s *v1beta1.BGPPeerSpec) { s.PasswordSecret = &v1beta1.SecretReference{Name: "tor"} }
	withBFD := func(s *v1beta1.BGPPeerSpec) { s.BFDProfile = "fast" }
	profile := &v1beta1.BFDProfile{ObjectMeta: metav1.ObjectMeta{Name: "fast"}}
	for _, test := range []struct {
		story   string
		objects []client.Object
		reason  v1beta1.Reason
		says    []string
	}{
		{"a peer", []client.Object{bgpPeer("x", nil), speakerThat("n1", "x", "y NotConfigured other")},
			v1beta1.ReasonAccepted, nil},
		{"a peer whose Secret nobody misses",
			[]client.Object{bgpPeer("x", withSecret)}, v1beta1.ReasonAccepted, nil},
		{"a peer whose Secret is missing", []client.Object{
			bgpPeer("x", withSecret),
			speakerThat("n2", "x SecretNotFound no password."),
			speakerThat("n1", "x SecretNotFound no password."),
			speakerThat("n3", "x NotConfigured no label"),
		},
			v1beta1.ReasonSecretNotFound, []string{
				"On n1, n2: no password.", "On n3: no label.", "on 3 nodes",
			}},
		{"a peer that asks for what nodes do not have",
			[]client.Object{bgpPeer("x", nil), speakerThat("n1", "x NotConfigured no label")},
			v1beta1.ReasonNotConfigured, []string{"On n1: no label."}},
		{"a peer that is wrong anyway", []client.Object{bgpPeer("x", func(s *v1beta1.BGPPeerSpec) {
			s.PeerAddress = "tor"
		}),
			speakerThat("n1", "x NotConfigured no label")},
			v1beta1.ReasonInvalid, []string{"spec.peerAddress"}},
		{"a peer of no node", []client.Object{bgpPeer("x", selects), node(corev1.ConditionTrue, time.Time{})},
			v1beta1.ReasonNoNodeSelected,
			[]string{"spec.nodeSelectors"}},
		{"a peer with BFD", []client.Object{bgpPeer("x", withBFD), profile}, v1beta1.ReasonAccepted, nil},
		{"a peer that gives two nodes one router ID", []client.Object{
			bgpPeer("x", func(s *v1beta1.BGPPeerSpec) { s.RouterID = "10.0.0.9" }),
			namedNode("n1"),
			namedNode("n2"),
			speakerThat("n1", "x"),
		}, v1beta1.ReasonSameRouterID, []string{"n1, n2"}},
		{"and one of them lacks more, which is worse", []client.Object{
			bgpPeer("x", func(s *v1beta1.BGPPeerSpec) { s.RouterID = "10.0.0.9" }),
			namedNode("n1"),
			namedNode("n2"),
			speakerThat("n1", "x NotConfigured no source."),
		}, v1beta1.ReasonNotConfigured,
			[]string{"On n1: no source. spec.routerID: ", "n1, n2"}},
		{"a peer with BFD, and worse",
			[]client.Object{bgpPeer("x", withBFD), profile, speakerThat("n1", "x NotConfigured no label")},
			v1beta1.ReasonNotConfigured, []string{"On n1"}},
		{"a peer with a profile that is not there",
			[]client.Object{bgpPeer("x", withBFD)}, v1beta1.ReasonBFDProfileNotFound, []string{"fast"}},
		{"an advertisement", []client.Object{
			&v1beta1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: "x", Generation: 4}},
			bgpPeer("p", nil),
		},
			v1beta1.ReasonAccepted, nil},
		{"an advertisement to nobody", []client.Object{
			&v1beta1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: "x", Generation: 4}},
		},
			v1beta1.ReasonPeerNotFound, []string{"Create a BGPPeer"}},
		{"an advertisement of a pool that is not there",
			[]client.Object{&v1beta1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: "x", Generation: 4},
				Spec: v1beta1.BGPAdvertisementSpec{IPAddressPools: []string{"gone"}}}},
			v1beta1.ReasonPoolNotFound,
			[]string{"gone"}},
		{"communities",
			[]client.Object{&v1beta1.Community{ObjectMeta: metav1.ObjectMeta{Name: "x", Generation: 4}}},
			v1beta1.ReasonAccepted, nil},
		{"a profile", []client.Object{
			&v1beta1.BFDProfile{ObjectMeta: metav1.ObjectMeta{Name: "x", Generation: 4}},
		}, v1beta1.ReasonAccepted, nil},
	} {
		t.Run(test.story, func(t *testing.T) {
			key := state.ObjectKey{Kind: kindOf(test.objects[0]), Name: "x"}
			w := newWorld(t, test.objects...)
			w.judge(key.Kind, key.Name)
			o := test.objects[0].DeepCopyObject().(client.Object)
			if err := w.api.Get(t.Context(), types.NamespacedName{Name: "x"}, o); err != nil {
				t.Fatal(err)
			}
			c := readyOf(t, o)
			if c == nil || c.Reason != string(test.reason) ||
				(c.Status == metav1.ConditionTrue) != (test.reason == v1beta1.ReasonAccepted) ||
				c.ObservedGeneration != 4 {
				t.Fatalf("the condition is %+v", c)
			}
			for _, text := range test.says {
				if !strings.Contains(c.Message, text) {
					t.Errorf("the message is %q, want %q in it", c.Message, text)
				}
			}
			w.forget()
			w.judge(key.Kind, key.Name)
			w.didNothing()
		})
	}
}

func kindOf(o client.Object) string {
	switch o.(type) {
	case *v1beta1.BGPPeer:
		return config.KindBGPPeer
	case *v1beta1.BGPAdvertisement:
		return config.KindBGPAdvertisement
	case *v1beta1.Community:
		return config.KindCommunity
	}
	return config.KindBFDProfile
}

func namedNode(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// TestSessionsOfAPeerAreCounted: its row tells how many there should be, and how many
// are established.
func TestSessionsOfAPeerAreCounted(t *testing.T) {
	inRack := func(name, rack string) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name:   name,
			Labels: map[string]string{"rack": rack},
		}}
	}
	ofRack := func(rack string) func(*v1beta1.BGPPeerSpec) {
		return func(s *v1beta1.BGPPeerSpec) {
			s.NodeSelectors = []metav1.LabelSelector{{MatchLabels: map[string]string{"rack": rack}}}
		}
	}
	connecting := speakerThat("n2", "x")
	connecting.Status.BGP.Sessions[0].State = v1beta1.BGPConnecting
	for _, test := range []struct {
		story   string
		change  func(*v1beta1.BGPPeerSpec)
		objects []client.Object
		want    string
	}{
		{"nodes without a speaker", nil, []client.Object{inRack("n1", "1")}, "0 of 0"},
		{"all up", nil, []client.Object{
			inRack("n1", "1"), inRack("n2", "1"), speakerThat("n1", "x"), speakerThat("n2", "x"),
		}, "2 of 2"},
		{"one tries", nil, []client.Object{
			inRack("n1", "1"), inRack("n2", "1"), speakerThat("n1", "x"), connecting,
		}, "1 of 2"},
		{"one says nothing", nil, []client.Object{
			inRack("n1", "1"), inRack("n2", "1"), speakerThat("n1", "x"), speakerThat("n2"),
		}, "1 of 2"},
		{"other peers do not count",
			nil, []client.Object{inRack("n1", "1"), speakerThat("n1", "y", "z")}, "0 of 1"},
		{"nodes that it does not select do not count", ofRack("1"),
			[]client.Object{
				inRack("n1", "1"), inRack("n2", "2"), speakerThat("n1", "x"), speakerThat("n2"),
			}, "1 of 1"},
		{"one lacks what it needs",
			nil, []client.Object{inRack("n1", "1"), speakerThat("n1", "x NotConfigured no label")}, "0 of 1"},
		{"a node is gone, and its Speaker not yet", nil, []client.Object{speakerThat("n1")}, "0 of 0"},
		{"a peer that cannot be understood", func(s *v1beta1.BGPPeerSpec) { s.PeerAddress = "tor" },
			[]client.Object{inRack("n1", "1"), speakerThat("n1")}, "0 of 0"},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t, append(test.objects, bgpPeer("x", test.change))...)
			w.judge(config.KindBGPPeer, "x")
			var peer v1beta1.BGPPeer
			if err := w.api.Get(t.Context(), types.NamespacedName{Name: "x"}, &peer); err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprintf("%d of %d", peer.Status.Established, peer.Status.Sessions)
			if got != test.want {
				t.Errorf("%s sessions are established, want %s", got, test.want)
			}
			w.forget()
			w.judge(config.KindBGPPeer, "x")
			w.didNothing()
		})
	}
}

// readyOf is the Ready condition of an object.
func readyOf(t *testing.T, o client.Object) *metav1.Condition {
	t.Helper()
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		t.Fatal(err)
	}
	var has struct {
		Status struct {
			Conditions []metav1.Condition `json:"conditions"`
		} `json:"status"`
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(tree, &has); err != nil {
		t.Fatal(err)
	}
	return meta.FindStatusCondition(has.Status.Conditions, v1beta1.ConditionReady)
}
