package main

import (
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/berth-lb/berth/api/v1beta1"
)

// TestFormerAddressesOfAServiceAreRequeued: an address that a Service has lost must be
// withdrawn, so a change wakes the old address as well as the new one.
func TestFormerAddressesOfAServiceAreRequeued(t *testing.T) {
	at := func(kind corev1.ServiceType, addresses ...string) *corev1.Service {
		s := &corev1.Service{Spec: corev1.ServiceSpec{Type: kind}}
		for _, a := range addresses {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{
				IP: a,
			})
		}
		return s
	}
	lb := corev1.ServiceTypeLoadBalancer
	for _, test := range []struct {
		story string
		tell  func(addressQueue)
		want  []string
	}{
		{"created", func(q addressQueue) {
			serviceAddresses("").Create(t.Context(),
				event.CreateEvent{Object: at(lb, "192.0.2.1", "2001:db8::1")}, q)
		}, []string{"192.0.2.1", "2001:db8::1"}},
		{"moved", func(q addressQueue) {
			serviceAddresses("").Update(t.Context(),
				event.UpdateEvent{ObjectOld: at(lb, "192.0.2.1"), ObjectNew: at(lb, "192.0.2.2")}, q)
		}, []string{"192.0.2.1", "192.0.2.2"}},
		{"no longer of the type", func(q addressQueue) {
			serviceAddresses("").Update(
				t.Context(),
				event.UpdateEvent{ObjectOld: at(lb, "192.0.2.1"), ObjectNew: at(corev1.ServiceTypeClusterIP)},
				q,
			)
		}, []string{"192.0.2.1"}},
		{"deleted", func(q addressQueue) {
			serviceAddresses("").Delete(t.Context(), event.DeleteEvent{Object: at(lb, "192.0.2.1")}, q)
		}, []string{"192.0.2.1"}},
		{"of another class", func(q addressQueue) {
			serviceAddresses("example.com/ours").Create(
				t.Context(),
				event.CreateEvent{Object: at(lb, "192.0.2.1")},
				q,
			)
		}, nil},
		{"with a name instead of an address", func(q addressQueue) {
			serviceAddresses("").Create(t.Context(), event.CreateEvent{Object: at(lb, "")}, q)
		}, nil},
	} {
		t.Run(test.story, func(t *testing.T) {
			q := workqueue.NewTypedRateLimitingQueue(
				workqueue.DefaultTypedControllerRateLimiter[netip.Addr](),
			)
			defer q.ShutDown()
			test.tell(q)
			var got []string
			for q.Len() > 0 {
				addr, _ := q.Get()
				got = append(got, addr.String())
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("woken are %q, want %q", got, test.want)
			}
		})
	}
}

func TestHeartbeatsOfNodesWakeNobody(t *testing.T) {
	unavailable := func(status corev1.ConditionStatus) *corev1.Node {
		n := node("node1")
		n.Status.Conditions = []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()},
			{Type: corev1.NodeNetworkUnavailable, Status: status},
		}
		return n
	}
	kubelet := func(ready corev1.ConditionStatus) *corev1.Node {
		n := node("node1")
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
		return n
	}
	labelled := node("node1")
	labelled.Labels = map[string]string{v1beta1.LabelExcludeNode: ""}
	cordoned := node("node1")
	cordoned.Spec.Unschedulable = true
	for _, test := range []struct {
		story         string
		before, after *corev1.Node
		wakes         bool
	}{
		{"a heartbeat", unavailable(corev1.ConditionFalse), unavailable(corev1.ConditionFalse), false},
		{"its network is lost", unavailable(corev1.ConditionFalse), unavailable(corev1.ConditionTrue), true},
		{"its kubelet is not heard", kubelet(corev1.ConditionTrue), kubelet(corev1.ConditionUnknown), true},
		{"its kubelet is heard again", kubelet(corev1.ConditionUnknown), kubelet(corev1.ConditionTrue), true},
		{"its kubelet says that it is not ready",
			kubelet(corev1.ConditionTrue), kubelet(corev1.ConditionFalse), false},
		{"it is excluded", node("node1"), labelled, true},
		{"it is cordoned", node("node1"), cordoned, true},
	} {
		t.Run(test.story, func(t *testing.T) {
			got := nodeChanged().Update(event.UpdateEvent{ObjectOld: test.before, ObjectNew: test.after})
			if got != test.wakes {
				t.Errorf("it wakes is %t", got)
			}
		})
	}
}

func speakerOf(name, address string) client.Object {
	return &v1beta1.Speaker{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status:     v1beta1.SpeakerStatus{MemberAddress: address},
	}
}

// TestOnlyChangesThatMatterWakeOthers: a busy member writes its object every second,
// and that wakes nobody.
func TestOnlyChangesThatMatterWakeOthers(t *testing.T) {
	change := func(f func(*v1beta1.SpeakerStatus)) *v1beta1.Speaker {
		s := speakerOf("node2", "192.0.2.2:7947").(*v1beta1.Speaker)
		f(&s.Status)
		return s
	}
	renewed := change(func(s *v1beta1.SpeakerStatus) { s.RenewTime = new(metav1.NowMicro()) })
	for _, test := range []struct {
		story         string
		before, after client.Object
		on            string
		wakes         bool
	}{
		{"it announces more", speakerOf("node2", "192.0.2.2:7947"),
			change(func(s *v1beta1.SpeakerStatus) { s.Layer2.Count = 7 }), "node1", false},
		{"the same, seen by itself", speakerOf("node2", "192.0.2.2:7947"),
			change(func(s *v1beta1.SpeakerStatus) { s.Layer2.Count = 7 }), "node2", true},
		{"it has another address",
			speakerOf("node2", "192.0.2.2:7947"), speakerOf("node2", "192.0.2.22:7947"), "node1", true},
		{"its node has a working speaker for the first time", speakerOf("node2", "192.0.2.2:7947"),
			change(func(s *v1beta1.SpeakerStatus) { s.HasWorked = true }), "node1", true},
		{"it ignores the exclude label", speakerOf("node2", "192.0.2.2:7947"),
			change(func(s *v1beta1.SpeakerStatus) { s.ExcludeLabel = v1beta1.MarkIgnored }), "node1", true},
		{"it ignores a cordon", speakerOf("node2", "192.0.2.2:7947"),
			change(func(s *v1beta1.SpeakerStatus) { s.Cordon = v1beta1.MarkIgnored }), "node1", true},
		{"it leaves", speakerOf("node2", "192.0.2.2:7947"),
			change(func(s *v1beta1.SpeakerStatus) { s.Stage = v1beta1.StageLeaving }), "node1", true},
		{"it does not hear this one", speakerOf("node2", "192.0.2.2:7947"),
			change(suspects("node1", v1beta1.ReasonNodeHeld)), "node1", true},
		{"it does not hear another", speakerOf("node2", "192.0.2.2:7947"),
			change(suspects("node3", v1beta1.ReasonNodeHeld)), "node1", false},
		{"it shows that it works", speakerOf("node2", "192.0.2.2:7947"), renewed, "node1", true},
		{"it has shown so before", renewed, renewed.DeepCopy(), "node1", false},
	} {
		t.Run(test.story, func(t *testing.T) {
			got := speakerChanged(test.on).Update(event.UpdateEvent{
				ObjectOld: test.before,
				ObjectNew: test.after,
			})
			if got != test.wakes {
				t.Errorf("it wakes is %t", got)
			}
		})
	}
}
