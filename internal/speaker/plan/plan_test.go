package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/config"
)

var (
	start = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	web   = netip.MustParseAddr("192.0.2.10")
)

// town is a cluster of three nodes on one LAN, on which node1 owns the address of a Service
// with endpoints everywhere.
type town struct {
	nodes    []corev1.Node
	speakers []v1beta1.Speaker
	service  corev1.Service
	slice    discoveryv1.EndpointSlice
	objects  config.Objects
}

func newTown() *town {
	w := &town{}
	for i, name := range []string{"node1", "node2", "node3"} {
		w.nodes = append(w.nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
		s := v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name}}
		s.Status.MemberAddress = "192.0.2." + string(rune('1'+i)) + ":7947"
		s.Status.Stage, s.Status.HasWorked = v1beta1.StageReady, true
		s.Status.Links = []v1beta1.SpeakerLink{{
			Name:       "eth0",
			MACAddress: "02:00:00:00:00:0" + string(rune('1'+i)),
			Up:         true,
			Prefixes:   []string{"192.0.2." + string(rune('1'+i)) + "/24"},
		}}
		s.Status.Conditions = []metav1.Condition{{
			Type:   v1beta1.ConditionReady,
			Status: metav1.ConditionTrue,
			Reason: string(v1beta1.ReasonAnnouncing),
		}}
		w.speakers = append(w.speakers, s)
		w.slice.Endpoints = append(w.slice.Endpoints, discoveryv1.Endpoint{NodeName: &w.nodes[i].Name})
	}
	w.speakers[0].Status.Layer2 = v1beta1.SpeakerLayer2{
		Count:         1,
		Owned:         1,
		Announcements: []v1beta1.Layer2Announcement{{Address: web.String(), Generation: 4}},
	}
	w.service = corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer},
	}
	w.service.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: web.String()}}
	w.slice.ObjectMeta = metav1.ObjectMeta{
		Namespace: "default",
		Name:      "web-1",
		Labels:    map[string]string{discoveryv1.LabelServiceName: "web"},
	}
	w.slice.AddressType = discoveryv1.AddressTypeIPv4
	w.objects.Pools = []v1beta1.IPAddressPool{{
		ObjectMeta: metav1.ObjectMeta{Name: "lan"},
		Spec:       v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{"192.0.2.0/24"}},
	}}
	w.objects.L2Advertisements = []v1beta1.L2Advertisement{{ObjectMeta: metav1.ObjectMeta{Name: "lan"}}}
	return w
}

func (w *town) plan(t *testing.T) *Plan {
	t.Helper()
	c, problems := config.Parse(w.objects, config.Config{}, start)
	for _, p := range problems {
		t.Logf("%s %s: %s", p.Kind, p.Name, p.Message)
	}
	return Of(Snapshot{
		Services:       []corev1.Service{w.service},
		EndpointSlices: []discoveryv1.EndpointSlice{w.slice},
		Nodes:          w.nodes,
		Speakers:       w.speakers,
		Config:         &c,
	}, start)
}

// misses has a speaker report of another that it is gone.
func (w *town) misses(by int, node string, presence v1beta1.MemberPresence, reason v1beta1.Reason) {
	s := &w.speakers[by].Status
	s.AbsentCount++
	s.AbsentMembers = append(s.AbsentMembers, v1beta1.AbsentMember{
		Name:     node,
		Presence: presence,
		Reason:   string(reason),
	})
}

// TestWhoOwnsAnAddress, and why not the others, as the speakers decide it.
func TestWhoOwnsAnAddress(t *testing.T) {
	for story, test := range map[string]struct {
		change func(*town)
		owner  string // "" for nobody; "other" for node2 or node3
		of     string // a node
		why    v1beta1.Reason
	}{
		"the owner stays": {func(*town) {}, "node1", "node2", ""},
		"the owner is gone, say the others": {func(w *town) {
			w.misses(1, "node1", v1beta1.MemberGone, v1beta1.ReasonNodeSilent)
			w.misses(2, "node1", v1beta1.MemberGone, v1beta1.ReasonNodeSilent)
		}, "other", "node1", v1beta1.ReasonNodeSilent},
		"one of the two that watch it says so": {func(w *town) {
			w.misses(1, "node1", v1beta1.MemberGone, v1beta1.ReasonNodeSilent)
		}, "other", "node1", v1beta1.ReasonNodeSilent},
		"whoever does not work is not asked": {func(w *town) {
			w.misses(1, "node1", v1beta1.MemberGone, v1beta1.ReasonNodeSilent)
			w.speakers[1].Status.Conditions[0].Reason = string(v1beta1.ReasonNodeNotReady)
		}, "node1", "node2", v1beta1.ReasonNodeHeld},
		"its speaker restarts, say the others": {func(w *town) {
			w.misses(1, "node1", v1beta1.MemberHeld, v1beta1.ReasonNodeHeld)
			w.misses(2, "node1", v1beta1.MemberHeld, v1beta1.ReasonNodeHeld)
		}, "node1", "node1", ""},
		"nobody is ready": {func(w *town) {
			w.slice.Endpoints = nil
		}, "", "node1", ""},
		"it has only endpoints elsewhere": {func(w *town) {
			w.service.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
			w.slice.Endpoints = w.slice.Endpoints[1:]
		}, "other", "node1", v1beta1.ReasonNoLocalEndpoint},
		"the owner is excluded": {func(w *town) {
			w.nodes[0].Labels = map[string]string{v1beta1.LabelExcludeNode: ""}
		}, "other", "node1", v1beta1.ReasonNodeExcluded},
		"it does not announce by layer 2": {func(w *town) {
			w.speakers[1].Status.Protocols = []v1beta1.Protocol{v1beta1.ProtocolBGP}
		}, "node1", "node2", v1beta1.ReasonProtocolDisabled},
		"nobody announces by layer 2": {func(w *town) {
			for i := range w.speakers {
				w.speakers[i].Status.Protocols = []v1beta1.Protocol{v1beta1.ProtocolBGP}
				w.speakers[i].Status.Layer2, w.speakers[i].Status.MemberAddress = v1beta1.SpeakerLayer2{}, ""
			}
		}, "", "node1", v1beta1.ReasonProtocolDisabled},
		"the owner ignores that": {func(w *town) {
			w.nodes[0].Labels = map[string]string{v1beta1.LabelExcludeNode: ""}
			w.speakers[0].Status.ExcludeLabel = v1beta1.MarkIgnored
		}, "node1", "node1", ""},
	} {
		t.Run(story, func(t *testing.T) {
			w := newTown()
			test.change(w)
			d, err := w.plan(t).Layer2(web)
			if err != nil {
				t.Fatal(err)
			}
			owner := d.Owner
			if owner == "node2" || owner == "node3" {
				owner = "other"
			}
			if owner != test.owner || d.WhyNot(test.of) != test.why {
				t.Errorf("the owner is %q, and %s is rejected for %q (%s), want %q and %q",
					d.Owner, test.of, d.WhyNot(test.of), d.Message, test.owner, test.why)
			}
		})
	}
}

// TestWhoWouldTakeOver is another node, or nobody.
func TestWhoWouldTakeOver(t *testing.T) {
	p := newTown().plan(t)
	d, err := p.Layer2Without(web, "node1")
	if err != nil || d.Owner == "" || d.Owner == "node1" {
		t.Errorf("without node1 it is %q, %v", d.Owner, err)
	}
	again, _ := p.Layer2(web)
	if again.Owner != "node1" || p.Speaker("node1").Presence != announcement.Present {
		t.Errorf("asking has changed the plan: %q owns it", again.Owner)
	}
}

// TestRoutes are those of DecideBGP and bgp.Plan for each node.
func TestRoutes(t *testing.T) {
	w := newTown()
	w.objects.L2Advertisements = nil
	w.objects.BGPAdvertisements = []v1beta1.BGPAdvertisement{{ObjectMeta: metav1.ObjectMeta{Name: "all"}}}
	w.objects.BGPPeers = []v1beta1.BGPPeer{{
		ObjectMeta: metav1.ObjectMeta{Name: "tor"},
		Spec:       v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: 64513, PeerAddress: "192.0.2.254"},
	}}
	w.service.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	w.slice.Endpoints = w.slice.Endpoints[:2]
	p := w.plan(t)
	for node, want := range map[string]int{"node1": 1, "node2": 1, "node3": 0} {
		r, err := p.Routes(node, []netip.Addr{web})
		if err != nil || len(r.Desired) != 1 || len(r.Desired[0].Routes) != want {
			t.Errorf("%s: %+v, %v, want %d routes", node, r.Desired, err, want)
		}
		if d := r.Decisions[web]; want == 0 && d.Reason != v1beta1.ReasonNoLocalEndpoint {
			t.Errorf("%s announces nothing for %s", node, d.Reason)
		}
	}
	w.speakers[0].Status.Protocols = []v1beta1.Protocol{v1beta1.ProtocolLayer2}
	if r, err := w.plan(t).Routes("node1", []netip.Addr{web}); err != nil || len(r.Desired) > 0 {
		t.Errorf("a speaker that does not announce by BGP has %+v, %v", r.Desired, err)
	}
	if _, err := p.Routes("node9", nil); err == nil {
		t.Error("a node that is not there has routes")
	}
}

// TestReports: two speakers report a node. If the cluster is split, the larger part is believed.
func TestReports(t *testing.T) {
	const gone, held, present = v1beta1.MemberGone, v1beta1.MemberHeld, v1beta1.MemberPresent
	type miss struct {
		by, node int
		presence v1beta1.MemberPresence
	}
	for _, test := range []struct {
		story   string
		nodes   int
		misses  []miss
		stopped int // a speaker that does not work
		want    string
	}{
		{"nobody misses anybody", 3, nil, 0, ""},
		{"two report a node", 4, []miss{{1, 4, gone}, {2, 4, gone}}, 0, "node4 Gone by node1 node2"},
		{"so far one does", 4, []miss{{2, 4, gone}}, 0, "node4 Gone by node2"},
		{"they say different things, and the worse counts", 4,
			[]miss{{1, 4, held}, {2, 4, gone}, {3, 4, held}}, 0, "node4 Gone by node1 node2 node3"},
		{"whoever does not work is not asked", 4,
			[]miss{{1, 4, gone}, {2, 4, held}}, 1, "node4 Held by node2"},
		{"a node is cut off, and misses all others", 4,
			[]miss{{1, 4, gone}, {2, 4, gone}, {4, 1, gone}, {4, 2, gone}, {4, 3, gone}}, 0,
			"node4 Gone by node1 node2"},
		{"two of five are cut off", 5,
			[]miss{{1, 4, gone}, {2, 4, gone}, {2, 5, gone}, {3, 5, gone},
				{4, 1, gone}, {4, 2, gone}, {4, 3, gone}, {5, 1, gone}, {5, 2, gone}, {5, 3, gone}}, 0,
			"node4 Gone by node1 node2, node5 Gone by node2 node3"},
		{"two nodes miss each other: either may be cut off", 2,
			[]miss{{1, 2, gone}, {2, 1, gone}}, 0, "node1 Gone by node2, node2 Gone by node1"},
		{"three miss each other, for each has another fault", 3,
			[]miss{{1, 2, gone}, {2, 3, gone}, {3, 1, gone}}, 0,
			"node1 Gone by node3, node2 Gone by node1, node3 Gone by node2"},
		{"all are there, and do not read what one publishes", 3,
			[]miss{{1, 3, present}, {2, 3, present}, {3, 1, present}}, 0,
			"node1 Present by node3, node3 Present by node1 node2"},
		{"two nodes are gone, for different reasons", 6,
			[]miss{{1, 5, gone}, {2, 5, gone}, {3, 6, held}, {4, 6, held}}, 0,
			"node5 Gone by node1 node2, node6 Held by node3 node4"},
	} {
		t.Run(test.story, func(t *testing.T) {
			var speakers []v1beta1.Speaker
			for n := range test.nodes {
				reason := v1beta1.ReasonAnnouncing
				if n+1 == test.stopped {
					reason = v1beta1.ReasonStopped
				}
				s := v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node%d", n+1)}}
				s.Status.Conditions = []metav1.Condition{{
					Type:   v1beta1.ConditionReady,
					Reason: string(reason),
				}}
				for _, m := range test.misses {
					if m.by == n+1 {
						s.Status.AbsentMembers = append(s.Status.AbsentMembers, v1beta1.AbsentMember{
							Name:     fmt.Sprintf("node%d", m.node),
							Presence: m.presence,
						})
					}
				}
				speakers = append(speakers, s)
			}
			var got []string
			for node, r := range Reported(speakers) {
				got = append(got, fmt.Sprintf("%s %s by %s", node, r.Presence, strings.Join(r.By, " ")))
			}
			slices.Sort(got)
			if all := strings.Join(got, ", "); all != test.want {
				t.Errorf("reported is %s, want %s", all, test.want)
			}
		})
	}
}
