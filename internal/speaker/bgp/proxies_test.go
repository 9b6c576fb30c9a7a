package bgp

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/speaker/serviceproxy"
)

func localService(w *world) {
	changes(w, "web", &corev1.Service{}, func(s *corev1.Service) {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		s.Spec.HealthCheckNodePort = 31234
	})
}

// TestRouteWaitsForTheProxy: a node with a new endpoint attracts traffic when
// kube-proxy knows of the endpoint, and not before; and a restarted speaker does
// not say that it has replayed all routes while it waits.
func TestRouteWaitsForTheProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := routedWorld(t, append(service("web"), node("node1"), peer("tor", nil))...)
		localService(w)
		w.look()
		w.tells("tor")
		if got := w.c.decisions.get(address).Reason; got != v1beta1.ReasonProxyNotReady || w.bgp.complete {
			t.Errorf("the reason is %q; all is known is %t", got, w.bgp.complete)
		}
		time.Sleep(time.Second)
		w.look()
		w.tells("tor")
		w.proxy.Store(true)
		time.Sleep(serviceproxy.Interval)
		synctest.Wait()
		if w.proxyAnswers.Load() != 1 {
			t.Errorf("it is looked again %d times", w.proxyAnswers.Load())
		}
		w.look()
		w.tells("tor 192.0.2.10/32")
		if !w.bgp.complete {
			t.Error("all is known, and the session is not told")
		}

		// What is announced stays, whatever the proxy says now.
		w.proxy.Store(false)
		w.look()
		w.tells("tor 192.0.2.10/32")

		// The endpoint goes, and comes back.
		w.ready("web", false)
		w.look()
		w.tells("tor")
		w.ready("web", true)
		w.look()
		w.tells("tor")
		time.Sleep(serviceproxy.Grace)
		synctest.Wait()
		w.look()
		w.tells("tor 192.0.2.10/32") // it was waited for long enough
	})
}

// TestAnswersAreReconciledBeforeAllIsKnown: where the proxy has answered, and its addresses
// wait in the queue, a restarted speaker does not say that it has replayed all routes:
// routers would drop those of the addresses that wait.
func TestAnswersAreReconciledBeforeAllIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := routedWorld(t, append(service("web"), node("node1"), peer("tor", nil))...)
		localService(w)
		w.look()
		w.proxy.Store(true)
		time.Sleep(serviceproxy.Interval)
		synctest.Wait()
		if w.proxyAnswers.Load() != 1 {
			t.Fatal("the proxy has not answered")
		}
		w.routes.plan(t.Context())
		if w.bgp.complete {
			t.Error("the address waits in the queue, and the session is told that all is known")
		}
		w.reconcile()
		w.tells("tor 192.0.2.10/32")
		if !w.bgp.complete {
			t.Error("all is known, and the session is not told")
		}
	})
}

// TestNewEndpointsDoNotHoldSessionsBack: where something new comes all the time,
// sessions that wait until all is known begin nevertheless.
func TestNewEndpointsDoNotHoldSessionsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := routedWorld(t, append(service("web"), node("node1"), peer("tor", nil))...)
		localService(w)
		for begin := time.Now(); !w.bgp.complete; time.Sleep(100 * time.Millisecond) {
			w.ready("web", false)
			w.look()
			w.ready("web", true)
			w.look()
			w.planned()
			if time.Since(begin) > 3*serviceproxy.Grace {
				t.Fatal("all is never known")
			}
		}
	})
}

// TestNobodyWaitsForWhatIsGone: an endpoint that goes while the proxy is asked is
// not asked for any more.
func TestNobodyWaitsForWhatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := routedWorld(t, append(service("web"), node("node1"), peer("tor", nil))...)
		localService(w)
		w.look()
		if len(w.c.proxies.known) != 1 {
			t.Fatal("the proxy is not asked")
		}
		if err := w.api.DeleteAllOf(t.Context(), &discoveryv1.EndpointSlice{}); err != nil {
			t.Fatal(err)
		}
		w.look()
		synctest.Wait()
		if w.proxyAnswers.Load() != 0 || len(w.c.proxies.known) != 0 {
			t.Errorf("answered %d times, known %v", w.proxyAnswers.Load(), w.c.proxies.known)
		}
	})
}

// TestRouteWaitsForTheRules: no Service's route comes before kube-proxy has written
// any rules, and until then not all is known.
func TestRouteWaitsForTheRules(t *testing.T) {
	w := routedWorld(t, append(service("web"), node("node1"), peer("tor", nil))...)
	rules := notify.NewLatch()
	w.c.proxies.rules = rules
	w.look()
	w.tells("tor")
	if got := w.c.decisions.get(address).Reason; got != v1beta1.ReasonProxyNotReady || w.bgp.complete {
		t.Errorf("the reason is %q; all is known is %t", got, w.bgp.complete)
	}
	rules.Set()
	w.look()
	w.tells("tor 192.0.2.10/32")
	if !w.bgp.complete {
		t.Error("all is known, and the session is not told")
	}
}
