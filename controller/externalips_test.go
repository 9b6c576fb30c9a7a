package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cachetesting "k8s.io/client-go/tools/cache/testing"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/services"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/pkg/config"
)

// others are Services that are not of type LoadBalancer, at an API server.
type others struct {
	*cachetesting.FakeControllerSource
}

// IsWatchListSemanticsUnSupported tells client-go that it lists before it watches.
func (others) IsWatchListSemanticsUnSupported() bool { return true }

// naming is a Service of type ClusterIP that names external IPs.
func naming(name string, addrs ...string) *corev1.Service {
	return service(name, 0, func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeClusterIP
		s.Spec.ExternalIPs = addrs
	})
}

// TestExternalIPsOfOtherServices: what a Service of another type names is in use from
// the first read on, and as long as it is named.
func TestExternalIPsOfOtherServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, lan("192.0.2.1-192.0.2.2"), service("web", 0), service("waits", 1))
		source := others{cachetesting.NewFakeControllerSource()}
		source.Add(naming("plain"))
		source.Add(naming("edge", "192.0.2.1", "203.0.113.1"))
		with := w.shared
		with.State.Synced = notify.NewLatch()
		o := services.NewOthers(with)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if err := o.Run(ctx, source); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		if !w.state.Synced.IsSet() {
			t.Error("all are read, and it does not say so")
		}
		w.look("web", "waits")
		w.has("web", v1beta1.ReasonAssigned, "192.0.2.2")
		w.has("waits", v1beta1.ReasonPoolsExhausted)

		w.forget()
		source.Modify(naming("edge", "192.0.2.2"))
		synctest.Wait()
		if !slices.Contains(w.woken, "waits") || !slices.Contains(w.woken, "web") ||
			!slices.Contains(w.pools, "lan") {
			t.Errorf("woken are %q, and pools %q", w.woken, w.pools)
		}
		w.look("web", "waits")
		w.has("web", v1beta1.ReasonAssigned, "192.0.2.2") // what it has it keeps
		w.has("waits", v1beta1.ReasonAssigned, "192.0.2.1")

		source.Delete(naming("edge"))
		synctest.Wait()
		w.delete("web")
		w.create(service("next", 2))
		w.look("web", "next") // nobody names 192.0.2.2 any more
		w.has("next", v1beta1.ReasonAssigned, "192.0.2.2")
		stop()
		<-ended
		source.Shutdown()
	})
}

// TestExternalIPsOfServicesOfTypeLoadBalancer: they are known before anything is
// assigned, and of any class.
func TestExternalIPsOfServicesOfTypeLoadBalancer(t *testing.T) {
	external := func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"192.0.2.1"} }
	w := newWorld(
		t,
		lan("192.0.2.1-192.0.2.2"),
		service("theirs", 0, ofClass("example.com/other"), external),
		service("web", 1),
	)
	w.look("web")
	w.has("web", v1beta1.ReasonAssigned, "192.0.2.2")
	w.create(service("next", 2))
	w.look("next")
	w.has("next", v1beta1.ReasonPoolsExhausted)

	w.delete("theirs")
	w.forget()
	w.look("theirs")
	if !slices.Contains(w.woken, "next") {
		t.Errorf("woken are %q", w.woken)
	}
	w.look("next")
	w.has("next", v1beta1.ReasonAssigned, "192.0.2.1")
}

// TestNodesAndServicesMayWithholdTheSameAddress: it is withheld until neither does.
func TestNodesAndServicesMayWithholdTheSameAddress(t *testing.T) {
	w := newWorld(t, lan("192.0.2.1/32"), service("web", 0), nodeWith("n", "192.0.2.1"))
	addr := []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	w.state.SetExternalIPs(key("edge"), state.SourceOthers, addr, time.Now())
	w.look("web")
	if err := w.api.Delete(t.Context(), nodeWith("n")); err != nil {
		t.Fatal(err)
	}
	w.configure()
	w.look("web")
	w.has("web", v1beta1.ReasonPoolsExhausted)
	w.state.SetExternalIPs(key("edge"), state.SourceOthers, nil, time.Now())
	w.look("web")
	w.has("web", v1beta1.ReasonAssigned, "192.0.2.1")
}

// nodeWith is a Node whose status names addresses.
func nodeWith(name string, addrs ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, a := range addrs {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{
			Type:    corev1.NodeInternalIP,
			Address: a,
		})
	}
	return n
}

// TestThePoolTellsOfTheAddressesOfNodes: those that Speakers list too, and whether
// they are given out.
func TestThePoolTellsOfTheAddressesOfNodes(t *testing.T) {
	for _, test := range []struct {
		story     string
		ranges    v1beta1.AddressRange
		allow     bool
		ready     v1beta1.Reason
		condition string // reason and message of NodeAddresses; "" for none
		excluded  int64
		service   v1beta1.Reason
		addresses []string
	}{
		{"some", "192.0.2.10-192.0.2.12", false, v1beta1.ReasonAccepted,
			"NotAssignable Nodes have addresses of the pool, which are not given out, " +
				"but Services that have one of them keep it: " +
				"192.0.2.10 (node n), 192.0.2.11 (node m, eth1).",
			2, v1beta1.ReasonAssigned, []string{"192.0.2.12"}},
		{"all", "192.0.2.10-192.0.2.11", false, v1beta1.ReasonNodeAddresses,
			"NotAssignable Nodes have addresses of the pool, which are not given out, " +
				"but Services that have one of them keep it: " +
				"192.0.2.10 (node n), 192.0.2.11 (node m, eth1).", 2, v1beta1.ReasonNoEligiblePool, nil},
		{"all, and it gives them out", "192.0.2.10-192.0.2.11", true, v1beta1.ReasonAccepted,
			"Assignable Nodes have addresses of the pool, " +
				"which are given out and announced by nobody (allowNodeAddresses): " +
				"192.0.2.10 (node n), 192.0.2.11 (node m, eth1).",
			0, v1beta1.ReasonAssigned, []string{"192.0.2.10"}},
		{"none", "198.51.100.1/32", false,
			v1beta1.ReasonAccepted, "", 0, v1beta1.ReasonAssigned, []string{"198.51.100.1"}},
	} {
		t.Run(test.story, func(t *testing.T) {
			p := lan(test.ranges)
			p.Spec.AllowNodeAddresses = test.allow
			w := newWorld(t, p, service("web", 0), nodeWith("n", "192.0.2.10"), nodeWith("m", "10.0.0.1"),
				speakerWith("m", "192.0.2.11/24"))
			w.judge(config.KindIPAddressPool, "lan")
			status := w.pool("lan").Status
			c := meta.FindStatusCondition(status.Conditions, v1beta1.ConditionReady)
			if c.Reason != string(test.ready) {
				t.Errorf("Ready is %s: %s", c.Reason, c.Message)
			}
			var got string
			if c := meta.FindStatusCondition(status.Conditions, v1beta1.ConditionNodeAddresses); c != nil {
				got = fmt.Sprintf("%s %s", c.Reason, c.Message)
			}
			if got != test.condition {
				t.Errorf("it tells\n%q, want\n%q", got, test.condition)
			}
			if status.ExcludedIPv4 != test.excluded {
				t.Errorf("excluded are %d, want %d", status.ExcludedIPv4, test.excluded)
			}
			w.look("web")
			w.has("web", test.service, test.addresses...)
			w.forget()
			w.configure()
			w.judge(config.KindIPAddressPool, "lan")
			w.look("web")
			if len(w.events) > 0 {
				t.Errorf("Events when nothing has changed: %q", w.events)
			}
		})
	}
}

// TestANodeThatReportsWhatAServiceHasMovesNothing: what a cloud provider finds on a
// node and reports as the node's was given by Berth.
func TestANodeThatReportsWhatAServiceHasMovesNothing(t *testing.T) {
	p := lan("192.0.2.1-192.0.2.9")
	p.Spec.OnShrink = v1beta1.OnShrinkMove
	asking := func(s *corev1.Service) {
		s.Annotations = map[string]string{v1beta1.AnnotationLoadBalancerIPs: "192.0.2.5"}
	}
	w := newWorld(t, p, service("web", 0, asking), speakerWith("n", "10.0.0.1/24"))
	w.look("web")
	w.create(nodeWith("n", "10.0.0.1", "192.0.2.5"))
	w.configure()
	w.look("web")
	w.has("web", v1beta1.ReasonAssigned, "192.0.2.5")
	w.judge(config.KindIPAddressPool, "lan")
	if out := w.pool("lan").Status.OutOfRange; len(out) > 0 {
		t.Errorf("out of range are %q", out)
	}
	w.restart()
	w.look("web")
	w.has("web", v1beta1.ReasonAssigned, "192.0.2.5")

	w.delete("web")
	w.look("web")
	w.create(service("web", 1, asking))
	w.look("web")
	w.has("web", v1beta1.ReasonAssigned, "192.0.2.5")
}
