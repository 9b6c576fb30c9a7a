package bgp

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/berth-lb/berth/api/v1beta1"
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
		time.Sleep(proxyInterval)
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
		time.Sleep(proxyGrace)
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
		time.Sleep(proxyInterval)
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
			if time.Since(begin) > 3*proxyGrace {
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

func TestAskProxy(t *testing.T) {
	status := http.StatusServiceUnavailable
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, `{"localEndpoints": 0}`)
	}))
	at := netip.MustParseAddrPort(server.Listener.Addr().String())
	own := []netip.Addr{netip.MustParseAddr("2001:db8::1"), at.Addr()}
	ask := askProxy(func(context.Context) []netip.Addr { return own })
	if ask(t.Context(), address, at.Port()) {
		t.Error("a proxy without endpoints is ready")
	}
	status = http.StatusOK
	if !ask(t.Context(), address, at.Port()) {
		t.Error("a proxy with endpoints is not ready")
	}
	server.Close()
	if ask(t.Context(), address, at.Port()) {
		t.Error("no proxy is ready")
	}
}

// kube-proxy takes endpoints up for each family by itself.
func TestProxyIsAskedInTheFamily(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, test := range []struct {
		story     string
		addresses []netip.Addr
		family    netip.Addr
		want      netip.Addr
	}{
		{"IPv4 of a node with both", []netip.Addr{v6, v4}, v4.Next(), v4},
		{"IPv6 of a node with both", []netip.Addr{v4, v6}, v6.Next(), v6},
		{"the other family, where there is no better", []netip.Addr{v4}, v6.Next(), v4},
		{"a node that is not known", nil, v4.Next(), netip.Addr{}},
	} {
		if got := ofFamily(test.addresses, test.family); got != test.want {
			t.Errorf("%s: asked at %s, want %s", test.story, got, test.want)
		}
	}
}
