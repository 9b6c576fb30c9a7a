package assignment

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/pkg/allocator"
)

func object(annotations map[string]string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Annotations: annotations},
		Spec: corev1.ServiceSpec{
			Type:       corev1.ServiceTypeLoadBalancer,
			ClusterIPs: []string{"10.96.0.9", "fd96::9"},
			Ports: []corev1.ServicePort{
				{Protocol: corev1.ProtocolTCP, Port: 80},
				{Protocol: corev1.ProtocolUDP, Port: 53},
			},
			Selector: map[string]string{"app": "web"},
		},
	}
}

func TestServesByClass(t *testing.T) {
	class := "example.com/x"
	for _, test := range []struct {
		object string
		typ    corev1.ServiceType
		class  *string
		ours   string
		want   bool
	}{
		{"no class, none asked for", corev1.ServiceTypeLoadBalancer, nil, "", true},
		{"no class, one asked for", corev1.ServiceTypeLoadBalancer, nil, class, false},
		{"a class, none asked for", corev1.ServiceTypeLoadBalancer, &class, "", false},
		{"the class asked for", corev1.ServiceTypeLoadBalancer, &class, class, true},
		{"another type", corev1.ServiceTypeClusterIP, nil, "", false},
	} {
		s := &corev1.Service{Spec: corev1.ServiceSpec{Type: test.typ, LoadBalancerClass: test.class}}
		if got := Serves(s, test.ours); got != test.want {
			t.Errorf("%s: %v", test.object, got)
		}
	}
}

func TestParseService(t *testing.T) {
	o := object(map[string]string{
		"metallb.io/address-pool":    "lan",
		"berth.io/loadBalancerIPs":   " 192.0.2.9 , 2001:db8::9",
		"metallb.io/allow-shared-ip": "k",
		"berth.io/allow-shared-ip":   "k",
	})
	o.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	o.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "x"}, {IP: "192.0.2.9"}}
	got, err := ParseService(o, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Service{
		Holder:             "shop/web",
		Namespace:          "shop",
		Families:           []Family{IPv4, IPv6},
		RequestedPool:      "lan",
		RequestedAddresses: []netip.Addr{ip("192.0.2.9"), ip("2001:db8::9")},
		Terms: allocator.Terms{
			SharingKey: "k",
			Backends:   "shop/app=web",
			Group:      "shop",
			Ports:      []allocator.Port{{Protocol: "TCP", Number: 80}, {Protocol: "UDP", Number: 53}},
		},
		Status:    []netip.Addr{ip("192.0.2.9")},
		Hostnames: []string{"x"},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestRequestsThatCannotBe(t *testing.T) {
	for _, test := range []struct {
		story       string
		annotations map[string]string
		field       string // spec.loadBalancerIP
		err         string
	}{
		{"two spellings that differ", map[string]string{
			"berth.io/address-pool":   "a",
			"metallb.io/address-pool": "b",
		}, "", `berth.io/address-pool "a" and metallb.io/address-pool "b" contradict`},
		{"annotation and field that differ",
			map[string]string{"berth.io/loadBalancerIPs": "192.0.2.1"}, "192.0.2.2", "contradict each other"},
		{"no address",
			map[string]string{"berth.io/loadBalancerIPs": "192.0.2"}, "", `"192.0.2" is no address`},
		{"no address in the field",
			nil, "web.example.com", `spec.loadBalancerIP: "web.example.com" is no address`},
		{"two of one family",
			map[string]string{"berth.io/loadBalancerIPs": "192.0.2.1,192.0.2.2"}, "", "two IPv4 addresses"},
		{"a zone", map[string]string{"berth.io/loadBalancerIPs": "fe80::1%eth0"}, "", "is no address"},
	} {
		t.Run(test.story, func(t *testing.T) {
			o := object(test.annotations)
			o.Spec.LoadBalancerIP = test.field
			_, err := ParseService(o, nil)
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("err = %v, want %q in it", err, test.err)
			}
		})
	}
	single := object(map[string]string{"berth.io/loadBalancerIPs": "2001:db8::1"})
	single.Spec.ClusterIPs = []string{"10.96.0.9"}
	_, err := ParseService(single, nil)
	if err == nil || !strings.Contains(err.Error(), "no IPv6 cluster IP") {
		t.Errorf("an IPv6 address for an IPv4 Service: %v", err)
	}
	same := object(map[string]string{"berth.io/loadBalancerIPs": "192.0.2.1"})
	same.Spec.LoadBalancerIP = "192.0.2.1"
	if _, err := ParseService(same, nil); err != nil {
		t.Errorf("annotation and field that agree: %v", err)
	}
}
