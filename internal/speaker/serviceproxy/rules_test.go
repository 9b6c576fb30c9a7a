package serviceproxy

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
		{"they never come", after(time.Hour), Grace},
		{"nobody is asked", nil, 0},
	} {
		t.Run(test.story, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin = time.Now()
				queue := reconcile.NewQueue()
				r := &Rules{
					written: test.written,
					queue:   queue,
					log:     slog.New(slog.DiscardHandler),
					done:    notify.NewLatch(),
				}
				if err := r.Run(t.Context()); err != nil {
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

func TestProgrammed(t *testing.T) {
	status := http.StatusServiceUnavailable
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, `{"localEndpoints": 0}`)
	}))
	at := netip.MustParseAddrPort(server.Listener.Addr().String())
	own := []netip.Addr{netip.MustParseAddr("2001:db8::1"), at.Addr()}
	ask := Programmed(func(context.Context) []netip.Addr { return own })
	if ask(t.Context(), at.Addr(), at.Port()) {
		t.Error("a proxy without endpoints is ready")
	}
	status = http.StatusOK
	if !ask(t.Context(), at.Addr(), at.Port()) {
		t.Error("a proxy with endpoints is not ready")
	}
	server.Close()
	if ask(t.Context(), at.Addr(), at.Port()) {
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
