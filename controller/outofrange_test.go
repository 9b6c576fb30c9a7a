package main

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
)

// TestConditionNamesWhoHoldsAddressesOutOfRange: whoever wants to retire a range sees
// for whom it is still in use.
func TestConditionNamesWhoHoldsAddressesOutOfRange(t *testing.T) {
	shared := func(port int32) func(*corev1.Service) {
		return func(s *corev1.Service) {
			s.Annotations = map[string]string{
				v1beta1.AnnotationAllowSharedIP:   "x",
				v1beta1.AnnotationLoadBalancerIPs: "192.0.2.1",
			}
			s.Spec.Ports[0].Port = port
		}
	}
	plain := func(int) func(*corev1.Service) { return func(*corev1.Service) {} }
	for _, test := range []struct {
		story    string
		services []string
		change   func(int) func(*corev1.Service)
		says     string
	}{
		{
			"one", []string{"web"}, plain,
			"Services hold 1 address that the pool no longer contains: 192.0.2.0 (default/web). They keep",
		},
		{
			"two that share", []string{"web", "shop"},
			func(i int) func(*corev1.Service) { return shared(int32(80 + i)) },
			"hold 1 address that the pool no longer contains: 192.0.2.1 (default/shop and 1 more). They keep",
		},
		{
			"many", []string{"a", "b", "c", "d", "e", "f", "g"}, plain,
			"hold 7 addresses that the pool no longer contains: 192.0.2.0 (default/a), " +
				"192.0.2.1 (default/b), 192.0.2.2 (default/c), 192.0.2.3 (default/d), " +
				"192.0.2.4 (default/e), and 2 more. They keep",
		},
	} {
		t.Run(test.story, func(t *testing.T) {
			w := newWorld(t, lan("192.0.2.0/28"))
			for i, name := range test.services {
				w.create(service(name, i, test.change(i)))
				w.look(name)
			}
			w.editPool("lan", func(s *v1beta1.IPAddressPoolSpec) {
				s.Addresses = []v1beta1.AddressRange{"198.51.100.0/28"}
			})
			w.configure()
			w.judge(config.KindIPAddressPool, "lan")
			c := meta.FindStatusCondition(w.pool("lan").Status.Conditions, v1beta1.ConditionOutOfRange)
			if c == nil || !strings.Contains(c.Message, test.says) {
				t.Errorf("got %s, want %q", fmt.Sprint(c), test.says)
			}
			for _, name := range test.services {
				w.delete(name)
				w.look(name)
			}
			w.judge(config.KindIPAddressPool, "lan")
			after := w.pool("lan").Status.Conditions
			if c := meta.FindStatusCondition(after, v1beta1.ConditionOutOfRange); c != nil {
				t.Errorf("afterwards: %v", c)
			}
		})
	}
}
