// Package controllertest makes the API objects that the tests of the controller's
// packages share.
package controllertest

import (
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-lb/berth/api/v1beta1"
)

// Birth is when the oldest objects were made.
var Birth = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Key returns the key of a Service of a name.
func Key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "default", Name: name}
}

// Service returns an IPv4 Service of type LoadBalancer, some minutes younger than the
// oldest, after some changes.
func Service(name string, minutes int, changes ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:         "default",
			Name:              name,
			UID:               types.UID(name),
			CreationTimestamp: metav1.NewTime(Birth.Add(time.Duration(minutes) * time.Minute)),
		},
		Spec: corev1.ServiceSpec{
			Type:       corev1.ServiceTypeLoadBalancer,
			ClusterIP:  "10.96.0.1",
			ClusterIPs: []string{"10.96.0.1"},
			Ports:      []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}},
		},
	}
	for _, change := range changes {
		change(s)
	}
	return s
}

// Having gives a Service addresses in its status, as if by an earlier leader.
func Having(addresses ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		mode := corev1.LoadBalancerIPModeVIP
		for _, a := range addresses {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{
				IP:     netip.MustParseAddr(a).String(),
				IPMode: &mode,
			})
		}
	}
}

// DualStack makes a Service ask for an address of each family.
func DualStack(s *corev1.Service) {
	policy := corev1.IPFamilyPolicyRequireDualStack
	s.Spec.IPFamilyPolicy = &policy
	s.Spec.ClusterIPs = []string{"10.96.0.1", "fd96::1"}
}

// OfClass gives a Service a spec.loadBalancerClass.
func OfClass(class string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.LoadBalancerClass = &class }
}

// Pool returns a pool, some minutes younger than the oldest.
func Pool(name string, minutes int, ranges ...v1beta1.AddressRange) *v1beta1.IPAddressPool {
	return &v1beta1.IPAddressPool{
		ObjectMeta: metav1.ObjectMeta{
			Name:              name,
			UID:               types.UID(name),
			Generation:        1,
			CreationTimestamp: metav1.NewTime(Birth.Add(time.Duration(minutes) * time.Minute)),
		},
		Spec: v1beta1.IPAddressPoolSpec{Addresses: ranges},
	}
}

// BGPPeer returns a peer, after a change.
func BGPPeer(name string, change func(*v1beta1.BGPPeerSpec)) *v1beta1.BGPPeer {
	p := &v1beta1.BGPPeer{
		ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 4},
		Spec:       v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: 64513, PeerAddress: "10.0.0.1"},
	}
	if change != nil {
		change(&p.Spec)
	}
	return p
}

// BGPAdvertisement returns an advertisement, after a change.
func BGPAdvertisement(name string, change func(*v1beta1.BGPAdvertisementSpec)) v1beta1.BGPAdvertisement {
	a := v1beta1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}}
	if change != nil {
		change(&a.Spec)
	}
	return a
}

// SpeakerThat returns the Speaker of a node that reports sessions, given as "peer" for
// an established one, or as "peer reason problem".
func SpeakerThat(name string, reports ...string) *v1beta1.Speaker {
	s := &v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, text := range reports {
		words := strings.SplitN(text, " ", 3)
		session := v1beta1.BGPSession{Peer: words[0], State: v1beta1.BGPEstablished}
		if len(words) > 1 {
			session.State, session.Reason, session.Problem = v1beta1.BGPNotConfigured, words[1], words[2]
		}
		s.Status.BGP.Sessions = append(s.Status.BGP.Sessions, session)
	}
	return s
}

// SpeakerOn returns the Speaker of a node that has worked, with links that are up.
func SpeakerOn(name string, links ...string) *v1beta1.Speaker {
	s := &v1beta1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name}}
	s.Status.HasWorked, s.Status.ExcludeLabel = true, v1beta1.MarkHeeded
	for _, link := range links {
		s.Status.Links = append(s.Status.Links, v1beta1.SpeakerLink{Name: link, Up: true})
	}
	return s
}

// SpeakerWith returns the Speaker of a node with one link that has these prefixes.
func SpeakerWith(name string, prefixes ...string) *v1beta1.Speaker {
	return &v1beta1.Speaker{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status:     v1beta1.SpeakerStatus{Links: []v1beta1.SpeakerLink{{Name: "eth1", Prefixes: prefixes}}},
	}
}

// Node returns the node n1 with a Ready condition of that status since a time.
func Node(status corev1.ConditionStatus, since time.Time) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1"},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse},
			{
				Type:               corev1.NodeReady,
				Status:             status,
				Reason:             "NodeStatusUnknown",
				LastTransitionTime: metav1.NewTime(since),
			},
		}},
	}
}
