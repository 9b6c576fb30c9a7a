package services

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/controllertest"
	"github.com/berth-lb/berth/internal/controller/shared"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/internal/kube"
)

// TestOnlyServicesThatConcernBerthAreRemembered: however many there are, and whichever
// way the API server tells of them.
func TestOnlyServicesThatConcernBerthAreRemembered(t *testing.T) {
	with := shared.Shared{State: state.New(), Queues: shared.NewQueues()}
	o := NewOthers(with)
	other := func(name string, addrs ...string) *corev1.Service {
		return controllertest.Service(name, 0, func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalIPs = corev1.ServiceTypeClusterIP, addrs
		})
	}
	left := func(s *corev1.Service) *corev1.Service {
		meta.SetStatusCondition(&s.Status.Conditions, kube.Condition(
			v1beta1.ConditionAddressAssigned, true, v1beta1.ReasonAssigned, "", 0))
		return s
	}
	remembers := func(after string, naming, toLeave int) {
		t.Helper()
		if len(o.naming) != naming || len(o.left) != toLeave || len(with.State.Left()) != toLeave {
			t.Errorf("%s: it remembers %v and %v, and is to leave %v",
				after, o.naming, o.left, with.State.Left())
		}
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	ok(o.Replace([]any{
		other("plain"), other("edge", "192.0.2.1"), left(other("was")), left(other("both", "192.0.2.2")),
	}, ""))
	remembers("the first list", 2, 2)
	ok(o.Update(other("edge")))
	ok(o.Update(other("was")))
	remembers("two changes", 1, 1)
	ok(o.Add(other("new", "192.0.2.3")))
	ok(o.Delete(toolscache.DeletedFinalStateUnknown{Key: "default/new"}))
	remembers("one that came and went", 1, 1)
	ok(o.Replace([]any{other("plain")}, ""))
	remembers("a list without them", 0, 0)
	if err := o.Update("a Service"); err == nil {
		t.Error("what is no Service is taken for one")
	}
}
