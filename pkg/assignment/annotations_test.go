package assignment

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
)

func TestUnknownAnnotations(t *testing.T) {
	for _, test := range []struct {
		story string
		keys  []string
		want  string // "" for nothing
	}{
		{"all that there are", []string{
			v1beta1.AnnotationAddressPool,
			v1beta1.AnnotationLoadBalancerIPs,
			v1beta1.AnnotationAllowSharedIP,
			"metallb.io/address-pool",
			"metallb.io/loadBalancerIPs",
			"metallb.io/allow-shared-ip",
			"metallb.universe.tf/address-pool",
			"metallb.universe.tf/loadBalancerIPs",
			"metallb.universe.tf/allow-shared-ip",
		}, ""},
		{"those of others",
			[]string{"kubernetes.io/ingress.class", "example.berth.io/address", "berth.io"}, ""},
		{"what MetalLB has written",
			[]string{"metallb.io/ip-allocated-from-pool", "metallb.universe.tf/ip-allocated-from-pool"}, ""},
		{"a small letter", []string{"berth.io/loadbalancerIPs"},
			"Berth does not know the annotation berth.io/loadbalancerIPs: " +
				"did you mean berth.io/loadBalancerIPs?"},
		{"in MetalLB's spelling", []string{"metallb.io/addrss-pool"},
			"Berth does not know the annotation metallb.io/addrss-pool: " +
				"did you mean metallb.io/address-pool?"},
		{"in the former one", []string{"metallb.universe.tf/allow-share-ip"},
			"Berth does not know the annotation metallb.universe.tf/allow-share-ip: " +
				"did you mean metallb.universe.tf/allow-shared-ip?"},
		{"nothing like it", []string{"berth.io/weather"},
			"Berth does not know the annotation berth.io/weather. Those that it knows are " +
				"berth.io/address-pool, berth.io/loadBalancerIPs, berth.io/allow-shared-ip."},
		{"several, in order", []string{"berth.io/address-pools", "berth.io/address-poo"},
			"Berth does not know the annotation berth.io/address-poo: did you mean berth.io/address-pool? " +
				"Berth does not know the annotation berth.io/address-pools: " +
				"did you mean berth.io/address-pool?"},
	} {
		t.Run(test.story, func(t *testing.T) {
			annotations := map[string]string{}
			for _, key := range test.keys {
				annotations[key] = "x"
			}
			if got := UnknownAnnotations(annotations); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
	many := map[string]string{}
	for _, letter := range "abcdefghij" {
		many["berth.io/address-pool-"+string(letter)] = "x"
	}
	if got := UnknownAnnotations(many); !strings.HasSuffix(got, "And 7 more that it does not know.") {
		t.Errorf("of many it says %q", got)
	}
}

// TestPoolsAreReadBesideAHint: what stands behind the pools in a condition does not
// keep them from being read at adoption.
func TestPoolsAreReadBesideAHint(t *testing.T) {
	s := &corev1.Service{}
	s.Status.Conditions = []metav1.Condition{{
		Type:   v1beta1.ConditionAddressAssigned,
		Reason: string(v1beta1.ReasonAssigned),
		Message: "192.0.2.1 from pool lan, 2001:db8::1 from pool six. " +
			UnknownAnnotations(map[string]string{"berth.io/addrss-pool": ""}),
	}}
	_, got := Wrote(s)
	if len(got) != 2 || lost(s).IsValid() {
		t.Errorf("got %v, lost %s", got, lost(s))
	}
	for addr, pool := range got {
		if want := map[bool]string{true: "lan", false: "six"}[addr.Is4()]; pool != want {
			t.Errorf("%s is of pool %q, want %q", addr, pool, want)
		}
	}
}
