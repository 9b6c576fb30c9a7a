package main

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
)

// TestUnknownAnnotationIsTold once, beside whatever else is the case.
func TestUnknownAnnotationIsTold(t *testing.T) {
	s := service("web", 0)
	s.Annotations = map[string]string{"berth.io/loadbalancerIPs": "10.77.0.5"}
	w := newWorld(t, pool("lan", 0, "10.77.0.0/24"), s)
	w.look("web")
	want := []string{"web Warning UnknownAnnotation", "web Normal Assigned"}
	if !slices.Equal(w.events, want) {
		t.Errorf("emitted %q, want %q", w.events, want)
	}
	var have corev1.Service
	if err := w.api.Get(t.Context(), key("web"), &have); err != nil {
		t.Fatal(err)
	}
	c := meta.FindStatusCondition(have.Status.Conditions, v1beta1.ConditionAddressAssigned)
	if c == nil || c.Status != metav1.ConditionTrue ||
		!strings.HasSuffix(c.Message, "from pool lan. Berth does not know the annotation "+
			"berth.io/loadbalancerIPs: did you mean berth.io/loadBalancerIPs?") {
		t.Errorf("the condition is %+v", c)
	}
	w.restart()
	w.look("web")
	w.didNothing()
}
