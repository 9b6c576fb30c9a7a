package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
)

func bgpPeer(name string, change func(*v1beta1.BGPPeerSpec)) *v1beta1.BGPPeer {
	p := &v1beta1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 4},
		Spec: v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: 64513, PeerAddress: "10.0.0.1"}}
	if change != nil {
		change(&p.Spec)
	}
	return p
}

// speakerThat says of sessions, given as "peer reason problem".
func speakerThat(name string, says ...string) *v1beta1.Speaker {
	s := &v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, text := range says {
		words := strings.SplitN(text, " ", 3)
		session := v1beta1.BGPSession{Peer: words[0], State: v1beta1.BGPEstablished}
		if len(words) > 1 {
			session.State, session.Reason, session.Problem = v1beta1.BGPNotConfigured, words[1], words[2]
		}
		s.Status.BGP.Sessions = append(s.Status.BGP.Sessions, session)
	}
	return s
}

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
		{"a peer", []client.Object{bgpPeer("x", nil), speakerThat("n1", "x", "y NotConfigured other")}, v1beta1.ReasonAccepted, nil},
		{"a peer whose Secret nobody misses", []client.Object{bgpPeer("x", withSecret)}, v1beta1.ReasonAccepted, nil},
		{"a peer whose Secret is missing", []client.Object{bgpPeer("x", withSecret), speakerThat("n2", "x SecretNotFound no password."),
			speakerThat("n1", "x SecretNotFound no password."), speakerThat("n3", "x NotConfigured no label")},
			v1beta1.ReasonSecretNotFound, []string{"On n1, n2: no password.", "On n3: no label.", "of which there are 3"}},
		{"a peer that asks for what nodes do not have", []client.Object{bgpPeer("x", nil), speakerThat("n1", "x NotConfigured no label")},
			v1beta1.ReasonNotConfigured, []string{"On n1: no label."}},
		{"a peer that is wrong anyway", []client.Object{bgpPeer("x", func(s *v1beta1.BGPPeerSpec) { s.PeerAddress = "tor" }),
			speakerThat("n1", "x NotConfigured no label")}, v1beta1.ReasonInvalid, []string{"spec.peerAddress"}},
		{"a peer of no node", []client.Object{bgpPeer("x", selects), node(corev1.ConditionTrue, time.Time{})}, v1beta1.ReasonNoNodeSelected,
			[]string{"spec.nodeSelectors"}},
		{"a peer with BFD", []client.Object{bgpPeer("x", withBFD), profile}, v1beta1.ReasonAccepted, nil},
		{"a peer that gives two nodes one router ID", []client.Object{bgpPeer("x", func(s *v1beta1.BGPPeerSpec) { s.RouterID = "10.0.0.9" }),
			namedNode("n1"), namedNode("n2"), speakerThat("n1", "x")}, v1beta1.ReasonSameRouterID, []string{"n1, n2"}},
		{"and one of them lacks more, which is worse", []client.Object{bgpPeer("x", func(s *v1beta1.BGPPeerSpec) { s.RouterID = "10.0.0.9" }),
			namedNode("n1"), namedNode("n2"), speakerThat("n1", "x NotConfigured no source.")}, v1beta1.ReasonNotConfigured,
			[]string{"On n1: no source. spec.routerID: ", "n1, n2"}},
		{"a peer with BFD, and worse", []client.Object{bgpPeer("x", withBFD), profile, speakerThat("n1", "x NotConfigured no label")},
			v1beta1.ReasonNotConfigured, []string{"On n1"}},
		{"a peer with a profile that is not there", []client.Object{bgpPeer("x", withBFD)}, v1beta1.ReasonBFDProfileNotFound, []string{"fast"}},
		{"an advertisement", []client.Object{&v1beta1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: "x", Generation: 4}}, bgpPeer("p", nil)},
			v1beta1.ReasonAccepted, nil},
		{"an advertisement to nobody", []client.Object{&v1beta1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: "x", Generation: 4}}},
			v1beta1.ReasonPeerNotFound, []string{"Create a BGPPeer"}},
		{"an advertisement of a pool that is not there", []client.Object{&v1beta1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: "x", Generation: 4},
			Spec: v1beta1.BGPAdvertisementSpec{IPAddressPools: []string{"gone"}}}}, v1beta1.ReasonPoolNotFound, []string{"gone"}},
		{"communities", []client.Object{&v1beta1.Community{ObjectMeta: metav1.ObjectMeta{Name: "x", Generation: 4}}}, v1beta1.ReasonAccepted, nil},
		{"a profile", []client.Object{&v1beta1.BFDProfile{ObjectMeta: metav1.ObjectMeta{Name: "x", Generation: 4}}}, v1beta1.ReasonAccepted, nil},
	} {
		t.Run(test.story, func(t *testing.T) {
			key := objectKey{kindOf(test.objects[0]), "x"}
			w := newWorld(t, test.objects...)
			w.judge(key.Kind, key.Name)
			o, conditions := newObject(key.Kind)
			if err := w.api.Get(t.Context(), types.NamespacedName{Name: "x"}, o); err != nil {
				t.Fatal(err)
			}
			c := meta.FindStatusCondition(*conditions, v1beta1.ConditionReady)
			if c == nil || c.Reason != string(test.reason) || (c.Status == metav1.ConditionTrue) != (test.reason == v1beta1.ReasonAccepted) ||
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

func TestManyNodesAreCounted(t *testing.T) {
	w := newWorld(t, bgpPeer("x", nil))
	for i := range 30 {
		w.create(speakerThat("n"+string(rune('a'+i)), "x NotConfigured no label"))
	}
	seen, err := w.status.onNodes(t.Context(), "x")
	if text := seen.problem.Message; err != nil || !strings.Contains(text, "and 10 more: no label") || !strings.Contains(text, "of which there are 30") {
		t.Errorf("got %+v, %v", seen, err)
	}
}

// TestSessionsOfAPeerAreCounted: its row tells how many there should be, and how many
// are established.
func TestSessionsOfAPeerAreCounted(t *testing.T) {
	inRack := func(name, rack string) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"rack": rack}}}
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
		{"all up", nil, []client.Object{inRack("n1", "1"), inRack("n2", "1"), speakerThat("n1", "x"), speakerThat("n2", "x")}, "2 of 2"},
		{"one tries", nil, []client.Object{inRack("n1", "1"), inRack("n2", "1"), speakerThat("n1", "x"), connecting}, "1 of 2"},
		{"one says nothing", nil, []client.Object{inRack("n1", "1"), inRack("n2", "1"), speakerThat("n1", "x"), speakerThat("n2")}, "1 of 2"},
		{"other peers do not count", nil, []client.Object{inRack("n1", "1"), speakerThat("n1", "y", "z")}, "0 of 1"},
		{"nodes that it does not select do not count", ofRack("1"),
			[]client.Object{inRack("n1", "1"), inRack("n2", "2"), speakerThat("n1", "x"), speakerThat("n2")}, "1 of 1"},
		{"one lacks what it needs", nil, []client.Object{inRack("n1", "1"), speakerThat("n1", "x NotConfigured no label")}, "0 of 1"},
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
			if got := fmt.Sprintf("%d of %d", peer.Status.Established, peer.Status.Sessions); got != test.want {
				t.Errorf("%s sessions are established, want %s", got, test.want)
			}
			w.forget()
			w.judge(config.KindBGPPeer, "x")
			w.didNothing()
		})
	}
}

// TestSpeakersHavePeersLookedAt, those of which they say something new.
func TestSpeakersHavePeersLookedAt(t *testing.T) {
	for _, test := range []struct {
		story         string
		before, after *v1beta1.Speaker
		want          []string
	}{
		{"a speaker comes, so there is one session more for any peer", nil, speakerThat("n", "x NotConfigured no label"), []string{"x", "y"}},
		{"it goes", speakerThat("n", "x NotConfigured no label"), nil, []string{"x", "y"}},
		{"a session is up", speakerThat("n", "x"), speakerThat("n", "x", "y"), []string{"y"}},
		{"a session is down", speakerThat("n", "x", "y"), speakerThat("n", "y"), []string{"x"}},
		{"it says the same", speakerThat("n", "x NotConfigured no label"), speakerThat("n", "x NotConfigured no label"), nil},
		{"what was wrong is right", speakerThat("n", "x NotConfigured no label"), speakerThat("n", "x"), []string{"x"}},
		{"another thing is wrong", speakerThat("n", "x NotConfigured no label", "y"), speakerThat("n", "x NotConfigured no annotation", "y"), []string{"x"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[objectKey]())
			defer q.ShutDown()
			added := &recordedQueue{TypedRateLimitingInterface: q}
			w := newWorld(t, bgpPeer("x", nil), bgpPeer("y", nil))
			h := peersOfSpeakers(w.state, func() {})
			switch {
			case test.before == nil:
				h.Create(context.Background(), event.CreateEvent{Object: test.after}, added)
			case test.after == nil:
				h.Delete(context.Background(), event.DeleteEvent{Object: test.before}, added)
			default:
				h.Update(context.Background(), event.UpdateEvent{ObjectOld: test.before, ObjectNew: test.after}, added)
			}
			if !slices.Equal(added.peers, test.want) {
				t.Errorf("looked at %q, want %q", added.peers, test.want)
			}
		})
	}
}

// recordedQueue remembers the peers that were added, each once.
type recordedQueue struct {
	workqueue.TypedRateLimitingInterface[objectKey]
	peers []string
}

// AddAfter remembers a peer.
func (q *recordedQueue) AddAfter(key objectKey, _ time.Duration) {
	if key.Kind == config.KindBGPPeer && !slices.Contains(q.peers, key.Name) {
		q.peers = append(q.peers, key.Name)
	}
}

func TestCachedSpeakersAreSmall(t *testing.T) {
	s := speakerThat("n", "x NotConfigured no label", "y", "z")
	s.Status.Members, s.Status.Layer2 = 3, announcing().Layer2
	s.Status.BGP.Addresses, s.Status.BGP.AddressCount, s.Status.BGP.BootID = []string{"192.0.2.0/28"}, new(int32(16)), "boot"
	s.Status.BGP.Count = 3
	s.Status.BGP.Sessions[0].State = v1beta1.BGPConnecting
	both := []v1beta1.BGPFamily{v1beta1.BGPFamilyIPv4, v1beta1.BGPFamilyIPv6}
	s.Status.BGP.Sessions[1].Families, s.Status.BGP.Sessions[1].AdvertisedIPv4 = both, 7
	s.Status.BGP.Sessions[2].Families, s.Status.BGP.Sessions[2].AdvertisedIPv4 = both, 7
	s.Status.BGP.Sessions[2].Withheld = "IPv6 routes: the node has no IPv6 address to be their next hop"
	want := v1beta1.SpeakerStatus{BGP: v1beta1.SpeakerBGP{Count: 3, AddressCount: new(int32(16)), Addresses: []string{"192.0.2.0/28"}, Sessions: []v1beta1.BGPSession{
		{Peer: "x", Reason: "NotConfigured", Problem: "no label"},
		{Peer: "y", State: v1beta1.BGPEstablished, Families: both},
		{Peer: "z", State: v1beta1.BGPEstablished, Families: both[:1]},
	}}}
	out, err := trimSpeaker(s)
	got, ok := out.(*v1beta1.Speaker)
	if err != nil || !ok {
		t.Fatalf("got %+v, %v", out, err)
	}
	if diff := cmp.Diff(want, got.Status); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if out, err := trimSpeaker("a tombstone"); out != "a tombstone" || err != nil {
		t.Errorf("what is no object becomes %v, %v", out, err)
	}
}
