package view

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/berth-lb/berth/api/v1beta1"
)

func speakerWith(change func(*v1beta1.SpeakerStatus)) *v1beta1.Speaker {
	s := &v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: "node1"}}
	s.Status.Stage = v1beta1.StageReady
	change(&s.Status)
	return s
}

func nodeWith(change func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node1"}}
	change(n)
	return n
}

func poolWith(reason string, generation int64) *v1beta1.IPAddressPool {
	p := &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "lan", Generation: generation}}
	if reason != "" {
		p.Status.Conditions = []metav1.Condition{{Type: v1beta1.ConditionReady, Reason: reason}}
	}
	return p
}

func serviceWith(address string) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart"}}
	s.Spec.Type = corev1.ServiceTypeLoadBalancer
	if address != "" {
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address}}
		s.Status.Conditions = []metav1.Condition{{
			Type:    v1beta1.ConditionAddressAssigned,
			Reason:  string(v1beta1.ReasonAssigned),
			Message: address + " from pool lan.",
		}}
	}
	return s
}

// owning is a speaker that owns an address.
func owning(addresses ...string) *v1beta1.Speaker {
	return speakerWith(func(s *v1beta1.SpeakerStatus) {
		for _, a := range addresses {
			s.Layer2.Announcements = append(s.Layer2.Announcements, v1beta1.Layer2Announcement{
				Address:    a,
				Links:      []string{"eth0"},
				Services:   []string{"shop/cart"},
				Generation: 2,
			})
		}
		s.Layer2.Count = int32(len(addresses))
	})
}

// TestWhatAChangeTells, line by line.
func TestWhatAChangeTells(t *testing.T) {
	nothing := func(*v1beta1.SpeakerStatus) {}
	for _, test := range []struct {
		story         string
		before, after runtime.Object
		want          []string
	}{
		{"a Service gets an address", serviceWith(""), serviceWith("192.0.2.1"), []string{
			"service shop/cart Assigned: <none> → 192.0.2.1. 192.0.2.1 from pool lan.",
		}},
		{"it stays as it is", serviceWith("192.0.2.1"), serviceWith("192.0.2.1"), nil},
		{"it goes", serviceWith("192.0.2.1"), nil, []string{"service shop/cart Deleted: had 192.0.2.1"}},
		{"a node takes an address", speakerWith(nothing), owning("192.0.2.1"), []string{
			"speaker node1 Announcing: answers for 192.0.2.1 on eth0, generation 2 (shop/cart)",
		}},
		{"it gives it up", owning("192.0.2.1"), speakerWith(nothing), []string{
			"speaker node1 Withdrawn: no longer answers for 192.0.2.1 (shop/cart)",
		}},
		{
			"an address that has no room on the list any more is not given up",
			owning("192.0.2.1"),
			speakerWith(func(s *v1beta1.SpeakerStatus) { s.Layer2.Count = 300 }),
			nil,
		},
		{"its speaker restarts", speakerWith(nothing), speakerWith(func(s *v1beta1.SpeakerStatus) {
			s.Stage = v1beta1.StageRestarting
		}), []string{"speaker node1 StageRestarting: Ready → Restarting"}},
		{
			"it misses another, and hears it again",
			speakerWith(func(s *v1beta1.SpeakerStatus) {
				s.AbsentMembers = []v1beta1.AbsentMember{{Name: "node2", Presence: v1beta1.MemberGone}}
			}),
			speakerWith(func(s *v1beta1.SpeakerStatus) {
				s.AbsentMembers = []v1beta1.AbsentMember{{
					Name:     "node3",
					Presence: v1beta1.MemberHeld,
					Reason:   string(v1beta1.ReasonNodeHeld),
				}}
			}),
			[]string{
				"speaker node1 NodeHeld: sees node node3 as Held",
				"speaker node1 NodePresent: sees node node2 as Present again",
			},
		},
		{"a session ends", speakerWith(func(s *v1beta1.SpeakerStatus) {
			s.BGP.Sessions = []v1beta1.BGPSession{{Peer: "tor", State: v1beta1.BGPEstablished}}
		}), speakerWith(func(s *v1beta1.SpeakerStatus) {
			s.BGP.Sessions = []v1beta1.BGPSession{{
				Peer:      "tor",
				State:     v1beta1.BGPConnecting,
				LastError: "hold timer expired",
			}}
		}), []string{
			"speaker node1 Connecting: session with tor: Established → Connecting. hold timer expired",
		}},
		{
			"a node is cordoned",
			nodeWith(func(*corev1.Node) {}),
			nodeWith(func(n *corev1.Node) { n.Spec.Unschedulable = true }),
			[]string{"node node1 Cordoned: the node is cordoned"},
		},
		{"a pool is written", nil, poolWith("", 1), []string{"ipaddresspool lan Created: it is new"}},
		{"and judged", poolWith("", 1), poolWith("Accepted", 1), []string{"ipaddresspool lan Accepted: "}},
		{
			"and edited",
			poolWith("Accepted", 1),
			poolWith("Accepted", 2),
			[]string{"ipaddresspool lan Edited: it was edited"},
		},
		{"and deleted", poolWith("Accepted", 2), nil, []string{"ipaddresspool lan Deleted: it is gone"}},
	} {
		var got []string
		for _, d := range ChangesOf(test.before, test.after, "", metav1.NewTime(time.Unix(0, 0))) {
			got = append(got, d.Object+" "+d.Reason+": "+d.Message)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.story, got, test.want)
		}
	}
}

// TestAnEventAndAnObjectAreJoined when they tell the same.
func TestAnEventAndAnObjectAreJoined(t *testing.T) {
	event := func(component, message string, count int32) *corev1.Event {
		return &corev1.Event{
			InvolvedObject:      corev1.ObjectReference{Kind: "Service", Namespace: "shop", Name: "cart"},
			Reason:              string(v1beta1.ReasonAnnouncing),
			Message:             message,
			Count:               count,
			ReportingController: component,
		}
	}
	const taken = "Node node1 announces 192.0.2.1 on eth0 (First)."
	at := metav1.NewTime(time.Unix(0, 0))
	object := ChangesOf(speakerWith(func(*v1beta1.SpeakerStatus) {}), owning("192.0.2.1"), "", at)
	for _, test := range []struct {
		story         string
		before, after runtime.Object
		want          string // from whom the only line is
	}{
		{"the same address", nil, event("berth-speaker", taken, 1), FromEvent},
		{"somebody else's Event", nil, event("kubelet", taken, 1), FromObject},
		{"an Event that was " +
			"there", event("berth-speaker", taken, 1), event("berth-speaker", taken, 1), FromObject},
		{"again", event("berth-speaker", taken, 1), event("berth-speaker", taken, 2), FromEvent},
	} {
		got := Join(slices.Concat(object, ChangesOf(test.before, test.after, "", at)))
		if len(got) != 1 || got[0].From != test.want {
			t.Errorf("%s: %+v", test.story, got)
		}
	}
	other := "Node node2 announces 192.0.2.1 on eth0 (First)."
	both := slices.Concat(object, ChangesOf(nil, event("berth-speaker", other, 1), "", at))
	if got := Join(both); len(got) != 2 {
		t.Errorf("another node: %+v", got)
	}
}
