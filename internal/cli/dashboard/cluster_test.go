package dashboard

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/clitest"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/view"
)

// noon is when the stories happen.
var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// factsOf reads a cluster.
func factsOf(t testing.TB, server *clitest.Server) *view.Facts {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", server.Start(t))
	if err != nil {
		t.Fatal(err)
	}
	c, err := snapshot.NewClient(config, 500)
	if err != nil {
		t.Fatal(err)
	}
	s, err := snapshot.Gather(t.Context(), c, snapshot.Request{
		Kinds: view.DashboardKinds,
		Berth: "berth-system",
		Class: new(""),
		Now:   func() time.Time { return noon },
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := view.Of(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// rack is a cluster of six nodes and two routers with something of everything: addresses by
// ARP and by BGP, a stand-in, a session that is down, a pool that is full, resting addresses.
type rack struct {
	nodes, services int
	// name makes a name of its own of a plain one.
	name func(string) string
}

// lan is the range of the pool that most Services take addresses from. It has as many as there are Services.
func (r rack) lan() v1beta1.AddressRange {
	if r.services > 120 {
		return "192.0.0.0-192.0.255.255"
	}
	return "192.0.2.64-192.0.2.191"
}

// room is how many addresses the pool has that can be assigned.
func (r rack) room() int64 {
	if r.services > 120 {
		return 65530
	}
	return 122
}

// mask is the length of the prefix of the LAN.
func (r rack) mask() string {
	if r.services > 120 {
		return "/16"
	}
	return "/24"
}

// address is that of a Service.
func (r rack) address(i int) string {
	if r.services > 120 {
		return fmt.Sprintf("192.0.%d.%d", 4+i/256, i%256)
	}
	return fmt.Sprintf("192.0.2.%d", 64+i)
}

func (r rack) called(format string, values ...any) string {
	name := fmt.Sprintf(format, values...)
	if r.name != nil {
		return r.name(name)
	}
	return name
}

func (r rack) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:              name,
		Generation:        1,
		CreationTimestamp: metav1.NewTime(noon.Add(-72 * time.Hour)),
	}
}

func condition(kind string, good bool, reason, message string, age time.Duration) metav1.Condition {
	c := metav1.Condition{
		Type:               kind,
		Status:             metav1.ConditionFalse,
		Reason:             reason,
		Message:            message,
		ObservedGeneration: 1,
		LastTransitionTime: metav1.NewTime(noon.Add(-age)),
	}
	if good {
		c.Status = metav1.ConditionTrue
	}
	return c
}

func (r rack) accepted() []metav1.Condition {
	return []metav1.Condition{condition(v1beta1.ConditionReady, true, "Accepted", "In force as written.",
		72*time.Hour)}
}

// objects returns all of them.
func (r rack) objects() []client.Object {
	lan := &v1beta1.IPAddressPool{ObjectMeta: r.meta(r.called("lan"))}
	lan.Spec.Addresses = []v1beta1.AddressRange{r.lan()}
	lan.Spec.Exclude = []v1beta1.ExcludedRange{"192.0.2.128-192.0.2.131"}
	lan.Status.Assigned, lan.Status.AssignedIPv4 = int64(r.services), int64(r.services)
	lan.Status.AvailableIPv4 = r.room() - int64(r.services)
	lan.Status.RestingIPv4, lan.Status.ExcludedIPv4 = 2, 4
	dmz := &v1beta1.IPAddressPool{ObjectMeta: r.meta(r.called("dmz"))}
	dmz.Spec.Addresses = []v1beta1.AddressRange{"198.51.100.0/30"}
	dmz.Status.Assigned, dmz.Status.AssignedIPv4 = 4, 4
	six := &v1beta1.IPAddressPool{ObjectMeta: r.meta(r.called("six"))}
	six.Spec.Addresses = []v1beta1.AddressRange{"2001:db8:1::/112"}
	six.Status.AvailableIPv6 = 65536
	l2 := &v1beta1.L2Advertisement{ObjectMeta: r.meta("lan")}
	l2.Spec.IPAddressPools = []string{lan.Name}
	bgp := &v1beta1.BGPAdvertisement{ObjectMeta: r.meta("dmz")}
	bgp.Spec.IPAddressPools = []string{dmz.Name, six.Name}
	out := []client.Object{lan, dmz, six, l2, bgp, &corev1.Namespace{ObjectMeta: r.meta("shop")}}
	for i, name := range []string{"tor-a", "tor-b"} {
		p := &v1beta1.BGPPeer{ObjectMeta: r.meta(r.called("%s", name))}
		p.Spec = v1beta1.BGPPeerSpec{MyASN: 64512, PeerASN: 64500}
		p.Spec.PeerAddress = fmt.Sprintf("192.0.2.%d", i+1)
		p.Status.Conditions = r.accepted()
		out = append(out, p)
	}
	for _, p := range []*v1beta1.IPAddressPool{lan, dmz, six} {
		p.Status.Conditions = r.accepted()
	}
	l2.Status.Conditions, bgp.Status.Conditions = r.accepted(), r.accepted()
	for i := range r.nodes {
		out = append(out, r.node(i)...)
	}
	for i := range r.services {
		out = append(out, r.service(i, r.address(i), lan.Name)...)
	}
	for i := range 4 {
		out = append(out, r.service(1000+i, fmt.Sprintf("198.51.100.%d", i), dmz.Name)...)
	}
	waiting := r.service(2000, "", "")[0].(*corev1.Service)
	waiting.Annotations = map[string]string{v1beta1.AnnotationAddressPool: dmz.Name}
	waiting.Status.Conditions = []metav1.Condition{condition(v1beta1.ConditionAddressAssigned, false,
		"PoolsExhausted", "No IPv4 address: "+dmz.Name+" (PoolFull): every address is held.", 20*time.Minute)}
	return append(out, waiting)
}

// ageOf is how long a Service is where it is.
func ageOf(i int) time.Duration { return time.Duration(i%100*(i%100)+1) * 7 * time.Minute }

// owner is the node that answers for the address of a Service.
func (r rack) owner(i int) int { return i % max(1, r.nodes-1) }

func (r rack) node(i int) []client.Object {
	name, own := r.called("node%d", i+1), fmt.Sprintf("192.0.2.%d", 11+i)
	n := &corev1.Node{ObjectMeta: r.meta(name)}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: own}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	s := &v1beta1.Speaker{ObjectMeta: r.meta(name)}
	s.Status.Stage, s.Status.HasWorked, s.Status.Version = v1beta1.StageReady, true, "v0.4.0"
	s.Status.MemberAddress = own + ":7947"
	s.Status.Conditions = []metav1.Condition{condition(v1beta1.ConditionReady, true, "Announcing",
		"Announces what it owns.", 70*time.Hour)}
	s.Status.Links = []v1beta1.SpeakerLink{{
		Name:       "eth0",
		MACAddress: fmt.Sprintf("02:00:00:00:00:%02x", i+1),
		Up:         true,
		Prefixes:   []string{own + r.mask()},
	}}
	for v := range r.services {
		if r.owner(v) != i {
			continue
		}
		s.Status.Layer2.Announcements = append(s.Status.Layer2.Announcements, v1beta1.Layer2Announcement{
			Address:    r.address(v),
			Services:   []string{r.called("shop") + "/" + r.called("web%02d", v)},
			Links:      []string{"eth0"},
			Generation: int64(1 + v%3),
			Since:      metav1.NewTime(noon.Add(-ageOf(v))),
		})
	}
	s.Status.Layer2.Count = int32(len(s.Status.Layer2.Announcements))
	s.Status.Layer2.Owned = s.Status.Layer2.Count
	s.Status.BGP.Addresses, s.Status.BGP.AddressCount = []string{"198.51.100.0/30"}, new(int32(4))
	for _, peer := range []string{"tor-a", "tor-b"} {
		session := v1beta1.BGPSession{
			Peer:           r.called("%s", peer),
			State:          v1beta1.BGPEstablished,
			Since:          metav1.NewTime(noon.Add(-50 * time.Hour)),
			RemoteAddress:  "192.0.2.1",
			Families:       []v1beta1.BGPFamily{v1beta1.BGPFamilyIPv4},
			AdvertisedIPv4: 4,
		}
		if peer == "tor-b" && i == 1 {
			session.State, session.Since = v1beta1.BGPConnecting, metav1.NewTime(noon.Add(-3*time.Minute))
			session.LastError = r.called("connect to 192.0.2.2:179: connection refused")
		} else {
			s.Status.BGP.Established++
		}
		s.Status.BGP.Sessions = append(s.Status.BGP.Sessions, session)
		s.Status.BGP.Count++
	}
	return []client.Object{n, s}
}

func (r rack) service(i int, address, pool string) []client.Object {
	name, namespace := r.called("web%02d", i), r.called("shop")
	s := &corev1.Service{ObjectMeta: r.meta(name)}
	s.Namespace = namespace
	s.Spec = corev1.ServiceSpec{
		Type:                  corev1.ServiceTypeLoadBalancer,
		ClusterIPs:            []string{fmt.Sprintf("10.96.%d.%d", i/250, i%250+1)},
		IPFamilies:            []corev1.IPFamily{corev1.IPv4Protocol},
		ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyCluster,
		Selector:              map[string]string{"app": "web"},
		Ports:                 []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}},
	}
	if address != "" {
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address}}
		s.Status.Conditions = []metav1.Condition{condition(v1beta1.ConditionAddressAssigned, true, "Assigned",
			address+" from pool "+pool+".", 71*time.Hour)}
	}
	slice := &discoveryv1.EndpointSlice{ObjectMeta: r.meta(name + "-1")}
	slice.Namespace, slice.Labels = namespace, map[string]string{discoveryv1.LabelServiceName: name}
	slice.AddressType = discoveryv1.AddressTypeIPv4
	for n := range 2 {
		node := r.called("node%d", (i+n)%r.nodes+1)
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{fmt.Sprintf("10.244.%d.%d", n, i%250+1)},
			NodeName:   &node,
			Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
		})
	}
	if i%5 != 0 || address == "" {
		return []client.Object{s, slice}
	}
	owner := r.called("node%d", r.owner(i)+1)
	event := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name + ".1"},
		InvolvedObject: corev1.ObjectReference{
			Kind:      "Service",
			Namespace: namespace,
			Name:      name,
		},
		Reason:              "Announcing",
		Type:                corev1.EventTypeNormal,
		Message:             fmt.Sprintf("Node %s announces %s on eth0 (TakeOver).", owner, address),
		EventTime:           metav1.NewMicroTime(noon.Add(-ageOf(i))),
		ReportingController: "berth-speaker",
	}
	return []client.Object{s, slice, event}
}
