package configuration

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/berth-lb/berth/internal/kube"
)

func TestOnlyKindsThatUsersWriteHaveTheCommonStatus(t *testing.T) {
	for _, o := range kube.ConfigKinds() {
		if s := commonOf(o); s.observed == nil || s.conditions == nil {
			t.Errorf("a %T has no common status", o)
		}
	}
	if s := commonOf(&corev1.Service{}); s.observed != nil || s.conditions != nil {
		t.Error("a Service has the common status of Berth's kinds")
	}
}
