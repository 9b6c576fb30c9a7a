package bgp

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/speaker/reconcile"
)

func TestRulesWritten(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, test := range []struct {
		story  string
		code   int
		answer string
		node   []netip.Addr
		want   bool
	}{
		{"it starts: healthy, and no rules", 200, `{"lastUpdated":"2026-01-01T00:00:00Z","healthy":true}`,
			[]netip.Addr{v4}, false},
		{"rules of both families", 200,
			`{"healthy":true,"status":{"IPv4":{"healthy":true},"IPv6":{"healthy":true}}}`,
			[]netip.Addr{v4, v6}, true},
		{"rules of one of two", 200, `{"healthy":true,"status":{"IPv4":{"healthy":true}}}`,
			[]netip.Addr{v4, v6}, false},
		{"rules of the only one", 200, `{"healthy":true,"status":{"IPv6":{"healthy":true}}}`,
			[]netip.Addr{v6}, true},
		{"it lags behind, and has written them once", 503,
			`{"healthy":false,"status":{"IPv4":{"healthy":false}}}`, []netip.Addr{v4}, true},
		{"an older one, which does not say", 200,
			`{"lastUpdated":"2026-01-01T00:00:00Z","currentTime":"2026-01-01T00:00:00Z","nodeEligible":true}`,
			[]netip.Addr{v4, v6}, true},
		{"nobody knows the node's addresses yet", 200, `{"healthy":true,"status":{"IPv4":{"healthy":true}}}`,
			nil, false},
		{"somebody else has the port", 200, `<html>`, []netip.Addr{v4}, false},
		{"and answers without end", 200, fmt.Sprintf(`{"healthy":true,"status":{"IPv4":{}},"x":%q}`,
			make([]byte, maxProxyHealth)), []netip.Addr{v4}, false},
	} {
		t.Run(test.story, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/healthz" {
					t.Errorf("asked for %s", r.URL.Path)
				}
				w.WriteHeader(test.code)
				_, _ = fmt.Fprint(w, test.answer)
			}))
			defer server.Close()
			_, text, _ := net.SplitHostPort(server.Listener.Addr().String())
			port, _ := strconv.Atoi(text)
			ask := rulesWritten(uint16(port), func(context.Context) []netip.Addr { return test.node })
			if got := ask(t.Context()); got != test.want {
				t.Errorf("the rules are written is %t", got)
			}
			server.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if ask(ctx) {
				t.Error("nobody is there, and the rules are written")
			}
		})
	}
}

// TestRulesAreWaitedFor: as long as kube-proxy is expected to say something, and
// no longer.
func TestRulesAreWaitedFor(t *testing.T) {
	begin := time.Time{}
	after := func(d time.Duration) func(context.Context) bool {
		return func(context.Context) bool { return time.Since(begin) >= d }
	}
	for _, test := range []struct {
		story   string
		written func(context.Context) bool
		want    time.Duration
	}{
		{"they are there", after(0), 0},
		{"they come", after(2 * time.Second), 2 * time.Second},
		{"they never come", after(time.Hour), proxyGrace},
		{"nobody is asked", nil, 0},
	} {
		t.Run(test.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin = time.Now()
				queue := reconcile.NewQueue()
				r := &proxyRules{
					written: test.written,
					queue:   queue,
					log:     slog.New(slog.DiscardHandler),
					done:    notify.NewLatch(),
				}
				if err := r.run(t.Context()); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begin); took != test.want || !r.done.IsSet() {
					t.Errorf("it took %s, want %s", took, test.want)
				}
				if sweeps := queue.RequeueAll() - 1; sweeps != 1 {
					t.Errorf("every address was requeued %d times", sweeps)
				}
			})
		})
	}
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
