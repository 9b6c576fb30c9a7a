package output

import (
	"testing"
	"time"

	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// What is not there is not the same as what could not be read.
func TestTheControllerInOneLine(t *testing.T) {
	two, one := int32(2), int32(1)
	for _, test := range []struct {
		story string
		state *v1alpha1.ControllerState
		want  string
	}{
		{"it could not be read", nil, "could not be read"},
		{"there is none", &v1alpha1.ControllerState{}, "there is none"},
		{"nobody leads", &v1alpha1.ControllerState{Replicas: &two, Ready: &one}, "1 of 2 ready"},
		{"one leads", &v1alpha1.ControllerState{Replicas: &two, Ready: &two, Leader: "pod-a"},
			"2 of 2 ready, pod-a leads"},
		{"the Deployment could not be read", &v1alpha1.ControllerState{Leader: "pod-a"}, "pod-a leads"},
	} {
		t.Run(test.story, func(t *testing.T) {
			lines := StatusLines(v1alpha1.Status{Controller: test.state}, time.Time{})
			if got := lines[0][1]; got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
