package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/kube"
	"github.com/berth-lb/berth/pkg/config"
)

// kstatus is what Flux and Helm read out of an object as the API server shows it.
func (w *world) kstatus(o client.Object) (of status.Status, why string) {
	w.t.Helper()
	if err := w.api.Get(w.t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
		w.t.Fatal(err)
	}
	return kstatusOf(w.t, o)
}

func kstatusOf(t *testing.T, o client.Object) (of status.Status, why string) {
	t.Helper()
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{Object: tree}
	kinds, _, err := kube.Scheme().ObjectKinds(o)
	if err != nil {
		t.Fatal(err)
	}
	u.SetGroupVersionKind(kinds[0])
	result, err := status.Compute(u)
	if err != nil {
		t.Fatal(err)
	}
	return result.Status, result.Message
}

// setObserved sets status.observedGeneration.
func setObserved(t *testing.T, o client.Object, generation int64) {
	t.Helper()
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := unstructured.SetNestedField(tree, generation, "status", "observedGeneration"); err != nil {
		t.Fatal(err)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(tree, o); err != nil {
		t.Fatal(err)
	}
}

// userKind is a kind that users write, and how a test spoils an object of it.
type userKind struct {
	kind string
	new  func() client.Object
	// spoil makes the object one that cannot be understood.
	spoil func(client.Object)
	// repair undoes that.
	repair func(client.Object)
}

// nonsense are selectors that cannot be understood.
var nonsense = []metav1.LabelSelector{{
	MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Like"}},
}}

var userKinds = []userKind{
	{
		kind: config.KindIPAddressPool,
		new:  func() client.Object { return lan("192.0.2.0/24") },
		spoil: func(o client.Object) {
			o.(*v1beta1.IPAddressPool).Spec.Addresses = []v1beta1.AddressRange{"127.0.0.1/32"}
		},
		repair: func(o client.Object) {
			o.(*v1beta1.IPAddressPool).Spec.Addresses = []v1beta1.AddressRange{"192.0.2.0/25"}
		},
	},
	{
		kind:   config.KindL2Advertisement,
		new:    func() client.Object { return &v1beta1.L2Advertisement{} },
		spoil:  func(o client.Object) { o.(*v1beta1.L2Advertisement).Spec.NodeSelectors = nonsense },
		repair: func(o client.Object) { o.(*v1beta1.L2Advertisement).Spec.NodeSelectors = nil },
	},
	{
		kind: config.KindBGPPeer,
		new: func() client.Object {
			return bgpPeer("x", nil)
		},
		spoil:  func(o client.Object) { o.(*v1beta1.BGPPeer).Spec.NodeSelectors = nonsense },
		repair: func(o client.Object) { o.(*v1beta1.BGPPeer).Spec.NodeSelectors = nil },
	},
	{
		kind: config.KindBGPAdvertisement,
		new:  func() client.Object { return &v1beta1.BGPAdvertisement{} },
		spoil: func(o client.Object) {
			o.(*v1beta1.BGPAdvertisement).Spec.NodeSelectors = nonsense
		},
		repair: func(o client.Object) { o.(*v1beta1.BGPAdvertisement).Spec.NodeSelectors = nil },
	},
	{
		kind: config.KindBFDProfile,
		new:  func() client.Object { return &v1beta1.BFDProfile{} },
		spoil: func(o client.Object) {
			much := intstr.FromString("2h")
			o.(*v1beta1.BFDProfile).Spec.ReceiveInterval = &much
		},
		repair: func(o client.Object) { o.(*v1beta1.BFDProfile).Spec.ReceiveInterval = nil },
	},
	{
		kind: config.KindCommunity,
		new:  func() client.Object { return &v1beta1.Community{} },
		spoil: func(o client.Object) {
			aliases := []v1beta1.CommunityAlias{{Name: "a", Value: "99999:1"}}
			o.(*v1beta1.Community).Spec.Communities = aliases
		},
		repair: func(o client.Object) { o.(*v1beta1.Community).Spec.Communities = nil },
	},
}

// TestToolsThatWaitSeeHowAnObjectFares: for every kind that users write, whoever waits
// by kstatus waits while the controller has not read the object, succeeds when it is in
// force, and gives up when it cannot be understood.
func TestToolsThatWaitSeeHowAnObjectFares(t *testing.T) {
	for _, k := range userKinds {
		t.Run(k.kind, func(t *testing.T) {
			o := k.new()
			o.SetName("x")
			o.SetUID("x")
			o.SetGeneration(1)
			o.SetFinalizers([]string{"example.com/hold"})
			setObserved(t, o, -1) // the default: see the test of an API server in manifests
			w := newWorld(t, o, &v1beta1.BGPPeer{
				ObjectMeta: metav1.ObjectMeta{Name: "router", UID: "router", Generation: 1},
				Spec:       v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: 64513, PeerAddress: "192.0.2.9"},
			})
			is := func(state string, want status.Status) {
				t.Helper()
				if got, why := w.kstatus(o); got != want {
					t.Errorf("%s: %s (%s), want %s", state, got, why, want)
				}
			}
			edit := func(change func(client.Object)) {
				t.Helper()
				change(o)
				o.SetGeneration(o.GetGeneration() + 1)
				if err := w.api.Update(t.Context(), o); err != nil {
					t.Fatal(err)
				}
			}
			judge := func() {
				t.Helper()
				w.configure()
				w.judge(k.kind, "x")
			}

			is("fresh", status.InProgressStatus)
			judge()
			is("in force", status.CurrentStatus)
			edit(k.spoil)
			is("edited", status.InProgressStatus)
			judge()
			is("invalid", status.FailedStatus)
			edit(k.repair)
			is("corrected, not read yet", status.InProgressStatus)
			judge()
			is("corrected", status.CurrentStatus)
			w.forget()
			w.judge(k.kind, "x")
			w.didNothing()
			if err := w.api.Delete(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			is("being deleted", status.TerminatingStatus)
		})
	}
}

// TestObjectsOfAnOutdatedKindSayIt: an object has the condition CRDOutdated while the
// definition of its kind is older than the controller. A controller that has not compared
// them yet changes nothing, and tools that wait for the object do not mind.
func TestObjectsOfAnOutdatedKindSayIt(t *testing.T) {
	for _, k := range userKinds {
		t.Run(k.kind, func(t *testing.T) {
			o := k.new()
			o.SetName("x")
			o.SetUID("x")
			o.SetGeneration(1)
			w := newWorld(t, o, &v1beta1.BGPPeer{
				ObjectMeta: metav1.ObjectMeta{Name: "router", UID: "router", Generation: 1},
				Spec:       v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: 64513, PeerAddress: "192.0.2.9"},
			})
			says := func(want string) {
				t.Helper()
				w.configure()
				w.judge(k.kind, "x")
				if err := w.api.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
					t.Fatal(err)
				}
				tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
				if err != nil {
					t.Fatal(err)
				}
				got := ""
				conditions, _, _ := unstructured.NestedSlice(tree, "status", "conditions")
				for _, c := range conditions {
					if c := c.(map[string]any); c["type"] == v1beta1.ConditionCRDOutdated {
						got = fmt.Sprint(c["status"], " ", c["message"])
					}
				}
				if got != want {
					t.Errorf("the condition says %q, want %q", got, want)
				}
				if got, why := kstatusOf(t, o); got != status.CurrentStatus {
					t.Errorf("tools that wait see %s: %s", got, why)
				}
			}
			says("")
			w.state.SetOutdated(k.kind, "It is old.")
			says("True It is old.")
			w.state.SetOutdated("Other", "")
			says("True It is old.")
			w.state.SetOutdated(k.kind, "")
			says("")
		})
	}
}

// TestObjectIsNotJudgedBeforeItIsRead: the status is looked at for other reasons too,
// such as a speaker's news.
func TestObjectIsNotJudgedBeforeItIsRead(t *testing.T) {
	w := newWorld(t)
	for _, k := range userKinds {
		o := k.new()
		o.SetName("x")
		o.SetUID("x")
		o.SetGeneration(1)
		w.create(o)
		w.judge(k.kind, "x")
	}
	w.didNothing()
}

// TestWhatMayStillComeIsInProgress: what an object misses may be part of the same
// change, and is applied a moment later.
func TestWhatMayStillComeIsInProgress(t *testing.T) {
	missing := &v1beta1.L2Advertisement{
		ObjectMeta: metav1.ObjectMeta{Name: "x", UID: "x", Generation: 1},
		Spec:       v1beta1.L2AdvertisementSpec{IPAddressPools: []string{"lan"}},
	}
	w := newWorld(t, missing)
	w.judge(config.KindL2Advertisement, "x")
	if got, why := w.kstatus(missing); got != status.InProgressStatus || !strings.Contains(why, "lan") {
		t.Errorf("without its pool the advertisement is %s (%s)", got, why)
	}
	w.create(lan("192.0.2.0/24"))
	w.configure()
	w.judge(config.KindL2Advertisement, "x")
	if got, why := w.kstatus(missing); got != status.CurrentStatus {
		t.Errorf("with its pool the advertisement is %s (%s)", got, why)
	}
}

// TestKstatusOfWhatBerthWritesBeside: a Speaker is ready or not, and what Berth writes
// into the status of a Service neither makes kstatus wait nor has it give up: it looks
// at no condition of a Service but Reconciling and Stalled, which are not Berth's to
// set there.
func TestKstatusOfWhatBerthWritesBeside(t *testing.T) {
	for _, test := range []struct {
		story string
		ready bool
		want  status.Status
	}{
		{"a speaker that announces", true, status.CurrentStatus},
		{"a speaker of a node that is not ready", false, status.InProgressStatus},
	} {
		s := &v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: "node1", Generation: 1}}
		s.Status.Conditions = []metav1.Condition{
			kube.Condition(v1beta1.ConditionReady, test.ready, v1beta1.ReasonAnnouncing, "x", 0),
		}
		if got, why := kstatusOf(t, s); got != test.want {
			t.Errorf("%s is %s (%s), want %s", test.story, got, why, test.want)
		}
	}

	w := newWorld(t, lan("192.0.2.0/32"), service("web", 0), service("shop", 1))
	w.look("web", "shop")
	w.has("web", v1beta1.ReasonAssigned, "192.0.2.0")
	w.has("shop", v1beta1.ReasonPoolsExhausted)
	for _, name := range []string{"web", "shop"} {
		s := w.get(name)
		s.Status.Conditions = append(s.Status.Conditions,
			kube.Condition(v1beta1.ConditionBGPAnnounced, false, v1beta1.ReasonNoSession, "x", 0))
		if got, why := kstatusOf(t, s); got != status.CurrentStatus {
			t.Errorf("Service %s is %s (%s)", name, got, why)
		}
	}
}

// TestTablesSayWhatEmptyMeans: kubectl prints nothing for an empty list.
func TestTablesSayWhatEmptyMeans(t *testing.T) {
	l2 := &v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: "x", Generation: 1}}
	bgp := &v1beta1.BGPAdvertisement{
		ObjectMeta: metav1.ObjectMeta{Name: "x", Generation: 1},
		Spec:       v1beta1.BGPAdvertisementSpec{Peers: []string{"router"}},
	}
	w := newWorld(t, l2, bgp)
	w.judge(config.KindL2Advertisement, "x")
	w.judge(config.KindBGPAdvertisement, "x")
	w.kstatus(l2)
	w.kstatus(bgp)
	wantL2 := v1beta1.L2AdvertisementSummary{Pools: "*", Nodes: "*", Interfaces: "by subnet"}
	if got := l2.Status.Summary; got != wantL2 {
		t.Errorf("of the L2Advertisement: %+v, want %+v", got, wantL2)
	}
	wantBGP := v1beta1.BGPAdvertisementSummary{Pools: "*", Nodes: "*", Peers: "router"}
	if got := bgp.Status.Summary; got != wantBGP {
		t.Errorf("of the BGPAdvertisement: %+v, want %+v", got, wantBGP)
	}
}

// TestPeerSaysWhichFamiliesItsSessionsCarry: an operator sees in the table that IPv6
// goes nowhere by a peer.
func TestPeerSaysWhichFamiliesItsSessionsCarry(t *testing.T) {
	speaks := func(node string, state v1beta1.BGPSessionState,
		families ...v1beta1.BGPFamily) *v1beta1.Speaker {
		s := &v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: node}}
		s.Status.BGP.Sessions = []v1beta1.BGPSession{{Peer: "x", State: state, Families: families}}
		return s
	}
	for _, test := range []struct {
		story    string
		speakers []client.Object
		want     []v1beta1.BGPFamily
	}{
		{"no session is established", []client.Object{speaks("n1", v1beta1.BGPConnecting)}, nil},
		{"sessions for IPv4", []client.Object{
			speaks("n1", v1beta1.BGPEstablished, v1beta1.BGPFamilyIPv4),
			speaks("n2", v1beta1.BGPEstablished, v1beta1.BGPFamilyIPv4),
		}, []v1beta1.BGPFamily{v1beta1.BGPFamilyIPv4}},
		{"one node's session carries both", []client.Object{
			speaks("n1", v1beta1.BGPEstablished, v1beta1.BGPFamilyIPv4),
			speaks("n2", v1beta1.BGPEstablished, v1beta1.BGPFamilyIPv4, v1beta1.BGPFamilyIPv6),
		}, []v1beta1.BGPFamily{v1beta1.BGPFamilyIPv4, v1beta1.BGPFamilyIPv6}},
	} {
		peer := bgpPeer("x", nil)
		w := newWorld(t, append(test.speakers, peer)...)
		w.judge(config.KindBGPPeer, "x")
		w.kstatus(peer)
		if !slices.Equal(peer.Status.Families, test.want) {
			t.Errorf("%s: %v, want %v", test.story, peer.Status.Families, test.want)
		}
		w.forget()
		w.judge(config.KindBGPPeer, "x")
		w.didNothing()
	}
}
