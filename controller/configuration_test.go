package main

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
)

func (w *world) pool(name string) *v1beta1.IPAddressPool {
	w.t.Helper()
	var p v1beta1.IPAddressPool
	if err := w.api.Get(w.t.Context(), types.NamespacedName{Name: name}, &p); err != nil {
		w.t.Fatal(err)
	}
	return &p
}

// ready checks the reason in the Ready condition of a pool.
func (w *world) ready(name string, want v1beta1.Reason) {
	w.t.Helper()
	p := w.pool(name)
	c := meta.FindStatusCondition(p.Status.Conditions, v1beta1.ConditionReady)
	if c == nil || c.Reason != string(want) ||
		(c.Status == metav1.ConditionTrue) != (want == v1beta1.ReasonAccepted) ||
		c.ObservedGeneration != p.Generation {
		w.t.Errorf("the Ready condition of %s is %+v, want the reason %s", name, c, want)
	}
}

func TestPoolIsCounted(t *testing.T) {
	w := newWorld(t, lan("192.0.2.0-192.0.2.9", "2001:db8::/126"), service("web", 0),
		service("shop", 1, dualStack))
	w.look("web", "shop")
	w.forget()
	w.judge(config.KindIPAddressPool, "lan")
	w.did([]string{"lan"}, []string{"lan Normal Accepted"})
	w.ready("lan", v1beta1.ReasonAccepted)
	want := v1beta1.IPAddressPoolStatus{
		Assigned:      3,
		AssignedIPv4:  2,
		AssignedIPv6:  1,
		AvailableIPv4: 8,
		AvailableIPv6: 3,
	}
	got := w.pool("lan").Status
	got.Conditions = nil
	if got.Assigned != want.Assigned || got.AssignedIPv4 != want.AssignedIPv4 ||
		got.AssignedIPv6 != want.AssignedIPv6 ||
		got.AvailableIPv4 != want.AvailableIPv4 || got.AvailableIPv6 != want.AvailableIPv6 {
		t.Errorf("the counts are %+v, want %+v", got, want)
	}

	w.judge(config.KindIPAddressPool, "lan")
	w.didNothing()

	// A change of the counts is a write, and not an Event.
	w.delete("web")
	w.look("web")
	w.judge(config.KindIPAddressPool, "lan")
	w.did([]string{"lan"}, nil)
	if got := w.pool("lan").Status; got.AssignedIPv4 != 1 || got.AvailableIPv4 != 9 {
		t.Errorf("after a Service is deleted the counts are %+v", got)
	}
}

func TestCountsThatDoNotFitAreCapped(t *testing.T) {
	const most = 1<<63 - 1
	w := newWorld(t, lan("2001:db8::/32", "192.0.2.0/24"))
	w.judge(config.KindIPAddressPool, "lan")
	if got := w.pool("lan").Status; got.AvailableIPv6 != most || got.AvailableIPv4 != 256 {
		t.Errorf("the counts are %+v", got)
	}
}

func TestTroubleAndItsEndAreToldOnce(t *testing.T) {
	w := newWorld(t, lan("192.0.2.0/25"), pool("younger", 1, "192.0.2.0/24"))
	look := func() {
		t.Helper()
		w.judge(config.KindIPAddressPool, "lan")
		w.judge(config.KindIPAddressPool, "younger")
	}
	look()
	w.did([]string{"lan", "younger"}, []string{"lan Normal Accepted", "younger Warning Overlapping"})
	w.ready("lan", v1beta1.ReasonAccepted)
	w.ready("younger", v1beta1.ReasonOverlapping)
	look()
	w.didNothing()

	younger := w.pool("younger")
	younger.Spec.Addresses = []v1beta1.AddressRange{"192.0.2.128/25"}
	younger.Generation++
	if err := w.api.Update(t.Context(), younger); err != nil {
		t.Fatal(err)
	}
	w.configure()
	look()
	w.did([]string{"younger"}, []string{"younger Normal Accepted"})
	w.ready("younger", v1beta1.ReasonAccepted)
}

func TestAdvertisementOfAMissingPool(t *testing.T) {
	w := newWorld(t, lan("192.0.2.0/24"), &v1beta1.L2Advertisement{
		ObjectMeta: metav1.ObjectMeta{Name: "ads", UID: "ads"},
		Spec:       v1beta1.L2AdvertisementSpec{IPAddressPools: []string{"lan", "typo"}},
	})
	w.judge(config.KindL2Advertisement, "ads")
	w.did([]string{"ads"}, []string{"ads Warning PoolNotFound"})
	w.judge(config.KindL2Advertisement, "ads")
	w.didNothing()
	w.create(pool("typo", 1, "198.51.100.0/24"))
	w.configure()
	w.judge(config.KindL2Advertisement, "ads")
	w.did([]string{"ads"}, []string{"ads Normal Accepted"})
}

func TestObjectThatIsGoneHasNoStatus(t *testing.T) {
	w := newWorld(t)
	w.judge(config.KindIPAddressPool, "gone")
	w.judge(config.KindL2Advertisement, "gone")
	w.didNothing()
}

// TestConfigurationHasEverythingLookedAt: the Services that wait come before
// those that have addresses, and those of other controllers not at all.
func TestConfigurationHasEverythingLookedAt(t *testing.T) {
	w := newWorld(t, lan("192.0.2.1/32"), service("a-has", 0), service("z-waits", 1),
		service("theirs", 2, ofClass("example.com/other")))
	w.look("a-has", "z-waits")
	w.forget()
	w.configure()
	if len(w.woken) < 2 || w.woken[0] != "z-waits" || !slices.Contains(w.woken, "a-has") ||
		slices.Contains(w.woken, "theirs") {
		t.Errorf("woken are %q", w.woken)
	}
}
