package main

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/plan"
	"github.com/berth-lb/berth/pkg/assignment"
)

// anyService is a Service that has, asks for, shares and names addresses, or none.
func anyService(t *rapid.T, i int) *corev1.Service {
	s := service(fmt.Sprint("s", i), rapid.IntRange(0, 3).Draw(t, "age"))
	address := rapid.Custom(func(t *rapid.T) string {
		return fmt.Sprintf("192.0.2.%d", rapid.IntRange(1, 5).Draw(t, "host"))
	})
	if rapid.Bool().Draw(t, "has one") {
		having(address.Draw(t, "has"))(s)
	}
	if rapid.IntRange(0, 3).Draw(t, "of another class") == 0 {
		ofClass("example.com/other")(s)
	}
	if rapid.IntRange(0, 3).Draw(t, "names one") == 0 {
		s.Spec.ExternalIPs = []string{address.Draw(t, "names")}
	}
	s.Annotations = map[string]string{}
	if rapid.IntRange(0, 2).Draw(t, "asks for a pool") == 0 {
		pools := rapid.SampledFrom([]string{"lan", "more"})
		s.Annotations[v1beta1.AnnotationAddressPool] = pools.Draw(t, "pool")
	}
	if rapid.IntRange(0, 2).Draw(t, "asks for an address") == 0 {
		s.Annotations[v1beta1.AnnotationLoadBalancerIPs] = address.Draw(t, "asks")
	}
	if rapid.Bool().Draw(t, "shares") {
		s.Annotations[v1beta1.AnnotationAllowSharedIP] = "key"
	}
	s.Spec.Ports[0].Port = int32(rapid.IntRange(80, 82).Draw(t, "port"))
	return s
}

// TestThePlanIsWhatTheControllerDoes: of whatever objects, the plan says what a
// controller makes of them that starts at an API server with just these.
func TestThePlanIsWhatTheControllerDoes(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		pools := []*v1beta1.IPAddressPool{lan("192.0.2.1-192.0.2.3"), pool("more", 1, "192.0.2.4/32")}
		objects := []client.Object{pools[0], pools[1]}
		var in plan.Snapshot
		for _, p := range pools {
			in.Objects.Pools = append(in.Objects.Pools, *p)
		}
		for i := range rapid.IntRange(1, 6).Draw(r, "Services") {
			s := anyService(r, i)
			objects, in.Services = append(objects, s), append(in.Services, *s)
		}
		want, err := plan.Of(in, birth)
		if err != nil {
			r.Fatal(err)
		}

		w := newWorld(t, objects...)
		var queue []string
		for _, s := range oldestFirst(in.Services) {
			if assignment.Serves(&s, "") {
				queue = append(queue, s.Name)
			}
		}
		for len(queue) > 0 {
			name := queue[0]
			queue = queue[1:]
			w.woken = nil
			w.look(name)
			for _, other := range w.woken {
				if !slices.Contains(queue, other) {
					queue = append(queue, other)
				}
			}
		}
		for _, p := range want.Services {
			s := w.get(p.Key.Name)
			c := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionAddressAssigned)
			if c == nil || c.Reason != string(p.Reason) || c.Message != p.Message {
				r.Fatalf("the controller says %+v of %s, the plan %s: %s", c, p.Key.Name, p.Reason, p.Message)
			}
			if got := assignment.StatusAddresses(s); !p.LeaveStatus && !slices.Equal(got, p.Addresses) {
				r.Fatalf("the controller gives %s %v, the plan %v", p.Key.Name, got, p.Addresses)
			}
		}
	})
}

// oldestFirst returns Services in the order in which the plan decides about them.
func oldestFirst(services []corev1.Service) []corev1.Service {
	return slices.SortedStableFunc(slices.Values(services), func(a, b corev1.Service) int {
		return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
	})
}
