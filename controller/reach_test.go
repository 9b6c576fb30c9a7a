package main

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
)

// placed is a node with a speaker that has worked and has these links, and with
// labels given as "key=value".
func placed(name string, links []string, set ...string) place {
	p := place{name: name, labels: labels.Set{}, speaks: true, worked: true, excludeLabel: v1beta1.MarkHeeded, links: links}
	for _, text := range set {
		key, value, _ := strings.Cut(text, "=")
		p.labels[key] = value
	}
	return p
}

const excludeLabel = v1beta1.LabelExcludeNode + "="

func TestWhichNodesAnAdvertisementReaches(t *testing.T) {
	eth := []string{"eth0", "eth1"}
	control, worker := placed("control", eth, "role=control", excludeLabel), placed("worker", eth, "role=worker")
	with := func(p place, change func(*place)) place {
		change(&p)
		return p
	}
	ignoring := func(p *place) { p.excludeLabel = v1beta1.MarkIgnored }
	for _, test := range []struct {
		story      string
		role       string   // that it selects, "" for all
		interfaces []string // that it names
		places     []place
		reason     v1beta1.Reason
		says       string
	}{
		{"no node is known", "edge", nil, nil, v1beta1.ReasonAccepted, inForce},
		{"all", "", nil, []place{control, worker}, v1beta1.ReasonAccepted, inForce},
		{"none", "edge", nil, []place{control, worker}, v1beta1.ReasonNoNodeSelected, "spec.nodeSelectors selects no node"},
		{"only nodes that are excluded", "control", nil, []place{control, worker}, v1beta1.ReasonNodesExcluded,
			"kubectl label node control node.kubernetes.io/exclude-from-external-load-balancers-."},
		{"unless their speakers ignore the label", "control", nil, []place{with(control, ignoring), worker}, v1beta1.ReasonAccepted, inForce},
		{"or do not say whether they do, as those of an earlier version", "control", nil,
			[]place{with(control, func(p *place) { p.excludeLabel = "" }), worker}, v1beta1.ReasonAccepted, inForce},
		{"an excluded one without any speaker announces nothing either", "control", nil,
			[]place{with(control, func(p *place) { p.excludeLabel, p.speaks, p.worked = "", false, false }), worker},
			v1beta1.ReasonNodesExcluded, "On them: control."},
		{"one of them is not excluded", "control", nil, []place{control, placed("control2", eth, "role=control")}, v1beta1.ReasonAccepted, inForce},
		{"all nodes of the cluster are excluded, so none is", "", nil, []place{control, placed("control2", eth, excludeLabel)},
			v1beta1.ReasonAccepted, "Every node with a speaker carries the label node.kubernetes.io/exclude-from-external-load-balancers"},
		{"the others have had no speaker", "", nil, []place{control, {name: "windows", labels: labels.Set{}}}, v1beta1.ReasonAccepted, inForce},
		{"so it is when just those are selected that are excluded", "control", nil, []place{control, {name: "windows", labels: labels.Set{}}},
			v1beta1.ReasonAccepted, "keeps none of them from announcing"},
		{"an interface that a node has", "", []string{"eth1"}, []place{placed("a", eth[:1]), placed("b", eth)}, v1beta1.ReasonAccepted, inForce},
		{"one that none has", "", []string{"eth9", "eth8"}, []place{placed("a", eth[:1]), placed("b", eth)}, v1beta1.ReasonNoInterface,
			"an interface named eth9, eth8 that is up and can carry ARP or NDP. Correct spec.interfaces or spec.interfacePatterns, " +
				"or spec.nodeSelectors. The nodes have: eth0, eth1."},
		{"one that only a node has which is not selected", "worker", []string{"eth1"}, []place{control, placed("worker", eth[:1], "role=worker")},
			v1beta1.ReasonNoInterface, "eth1"},
		{"one that none has, as far as they have said which they have", "", []string{"eth9"},
			[]place{placed("a", eth), placed("b", nil)}, v1beta1.ReasonAccepted, inForce},
		{"one that none has of those with a speaker", "", []string{"eth9"},
			[]place{placed("a", eth), {name: "windows", labels: labels.Set{}}}, v1beta1.ReasonNoInterface, "eth9"},
		{"and no speaker is there at all", "", []string{"eth9"}, []place{{name: "a"}}, v1beta1.ReasonAccepted, inForce},
	} {
		t.Run(test.story, func(t *testing.T) {
			r := reach{
				kind: config.KindL2Advertisement, name: "x", interfaces: test.interfaces,
				selects: func(l labels.Set) bool { return test.role == "" || l["role"] == test.role },
				names:   func(name string) bool { return slices.Contains(test.interfaces, name) },
			}
			got := r.judge(test.places)
			if got.Reason != test.reason || !strings.Contains(got.Message, test.says) || got.Kind != r.kind || got.Name != r.name {
				t.Errorf("got %+v\nwant %s: %s", got, test.reason, test.says)
			}
		})
	}
}

// labelledNode is a node with labels.
func labelledNode(name string, set map[string]string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: set}}
}

// speakerOn is the Speaker of a node, with links that are up.
func speakerOn(name string, links ...string) *v1beta1.Speaker {
	s := &v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name}}
	s.Status.HasWorked, s.Status.ExcludeLabel = true, v1beta1.MarkHeeded
	for _, link := range links {
		s.Status.Links = append(s.Status.Links, v1beta1.SpeakerLink{Name: link, Up: true})
	}
	return s
}

// TestInterfaceOfNoNodeIsToldInTime: speakers list a link that is excluded by its name
// only once an advertisement names it, so its absence is not told at once; and what was
// told before a restart of the controller stays told.
func TestInterfaceOfNoNodeIsToldInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ad := &v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: "x", Generation: 4, UID: "x"}}
		ad.Spec.Interfaces = []string{"wg0"}
		w := newWorld(t, ad, labelledNode("n1", nil), speakerOn("n1", "eth0"))
		key := objectKey{config.KindL2Advertisement, "x"}
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
				t.Errorf("the condition is %+v, want %s; again in %s, want %s", c, want, got.RequeueAfter, again)
			}
		}
		looks(v1beta1.ReasonAccepted, interfacePatience)
		time.Sleep(interfacePatience - time.Second)
		looks(v1beta1.ReasonAccepted, time.Second)
		time.Sleep(time.Second)
		looks(v1beta1.ReasonNoInterface, 0)

		w.restart()
		looks(v1beta1.ReasonNoInterface, interfacePatience)
		w.didNothing()
		time.Sleep(interfacePatience)
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
		looks(v1beta1.ReasonAccepted, interfacePatience)
		time.Sleep(interfacePatience)
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
		looks(v1beta1.ReasonAccepted, interfacePatience)
		time.Sleep(interfacePatience)
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
		kind := map[bool]string{true: config.KindL2Advertisement, false: config.KindBGPAdvertisement}[ad == client.Object(l2)]
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

// TestSpeakersHaveAdvertisementsLookedAt, when they say what those depend on.
func TestSpeakersHaveAdvertisementsLookedAt(t *testing.T) {
	change := func(f func(*v1beta1.SpeakerStatus)) *v1beta1.Speaker {
		s := speakerOn("n", "eth0")
		f(&s.Status)
		return s
	}
	for _, test := range []struct {
		story         string
		before, after *v1beta1.Speaker
		looked        bool
	}{
		{"a speaker comes", nil, speakerOn("n"), true},
		{"it goes", speakerOn("n"), nil, true},
		{"it announces more", speakerOn("n", "eth0"), change(func(s *v1beta1.SpeakerStatus) { s.Layer2.Count = 7 }), false},
		{"it has another link", speakerOn("n"), speakerOn("n", "eth0"), true},
		{"a link goes down", speakerOn("n", "eth0"), change(func(s *v1beta1.SpeakerStatus) { s.Links[0].Up = false }), true},
		{"it ignores the label", speakerOn("n", "eth0"), change(func(s *v1beta1.SpeakerStatus) { s.ExcludeLabel = v1beta1.MarkIgnored }), true},
		{"it is ready for the first time", change(func(s *v1beta1.SpeakerStatus) { s.HasWorked = false }), speakerOn("n", "eth0"), true},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t, &v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, bgpPeer("tor", nil))
			q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[objectKey]())
			defer q.ShutDown()
			added := &recordedKeys{TypedRateLimitingInterface: q}
			h := advertisementsOfSpeakers(w.state)
			switch {
			case test.before == nil:
				h.Create(context.Background(), event.CreateEvent{Object: test.after}, added)
			case test.after == nil:
				h.Delete(context.Background(), event.DeleteEvent{Object: test.before}, added)
			default:
				h.Update(context.Background(), event.UpdateEvent{ObjectOld: test.before, ObjectNew: test.after}, added)
			}
			if got := slices.Equal(added.keys, []objectKey{{config.KindL2Advertisement, "x"}}); got != test.looked {
				t.Errorf("looked at are %v", added.keys)
			}
		})
	}
}

// recordedKeys remembers what was added.
type recordedKeys struct {
	workqueue.TypedRateLimitingInterface[objectKey]
	keys []objectKey
}

// AddAfter remembers a key.
func (q *recordedKeys) AddAfter(key objectKey, _ time.Duration) { q.keys = append(q.keys, key) }
