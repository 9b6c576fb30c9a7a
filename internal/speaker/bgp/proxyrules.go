package bgp

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/berth-lb/berth/internal/notify"
)

// proxyRules finds out whether this node's service proxy has written its rules
// since it was started. While a node boots, its kernel answers and its speaker
// works before the proxy has done so, and what is sent to its addresses then is
// dropped.
type proxyRules struct {
	// written asks the proxy; nil when it is not to be asked.
	written func(context.Context) bool
	queue   Requeuer
	log     *slog.Logger
	done    notify.Latch // set when it has, or was asked for long enough
}

// run asks until the proxy says yes, or for proxyGrace.
func (r *proxyRules) run(ctx context.Context) error {
	if r.written != nil {
		bounded, cancel := context.WithTimeout(ctx, proxyGrace)
		defer cancel()
		if !until(bounded, r.written) && ctx.Err() == nil {
			r.log.Warn("the service proxy does not report that it has written its rules; continuing without")
		}
	}
	r.done.Set()
	r.queue.RequeueAll()
	return nil
}

// until asks again and again until the answer is yes, or ctx ends.
func until(ctx context.Context, ask func(context.Context) bool) bool {
	ticker := time.NewTicker(proxyInterval)
	defer ticker.Stop()
	for !ask(ctx) {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
	return true
}

// proxyHealth is what kube-proxy answers at its health check port, as far as it is
// read. That it is healthy says nothing: it calls itself so while it starts.
type proxyHealth struct {
	// Healthy is missing where Status would be too: kube-proxy before Kubernetes
	// 1.33, and what stands in its place.
	Healthy *bool `json:"healthy"`
	// Status has the families of which it has written the rules at least once.
	Status map[string]struct{} `json:"status"`
}

// maxProxyHealth is how much of an answer is read.
const maxProxyHealth = 64 << 10

// rulesWritten returns a function that asks kube-proxy at its health check port
// on this node whether it has written the rules for all families of the node. One
// that cannot say so is not waited for.
func rulesWritten(port uint16, addresses func(context.Context) []netip.Addr) func(context.Context) bool {
	client := proxyClient()
	return func(ctx context.Context) bool {
		node := addresses(ctx)
		for _, host := range proxyHosts(node) {
			if health, ok := readProxyHealth(ctx, client, netip.AddrPortFrom(host, port)); ok {
				return len(node) > 0 && health.covers(node)
			}
		}
		return false
	}
}

// proxyHosts returns where a proxy may listen: everywhere, only here, or on one of the
// node's addresses.
func proxyHosts(node []netip.Addr) []netip.Addr {
	return append([]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, node...)
}

// ProxyHealthy returns a function that asks the service proxy of this node at its health
// check port whether it works. One that has served nothing for long, or that knows that its
// node is to go, says that it does not.
func ProxyHealthy(port uint16, addresses func(context.Context) []netip.Addr) func(context.Context) bool {
	client := proxyClient()
	return func(ctx context.Context) bool {
		for _, host := range proxyHosts(addresses(ctx)) {
			if saysOK(ctx, client, fmt.Sprintf("http://%s/healthz", netip.AddrPortFrom(host, port))) {
				return true
			}
		}
		return false
	}
}

// covers reports whether rules are written for the families of these addresses,
// as far as the proxy says.
func (h proxyHealth) covers(node []netip.Addr) bool {
	if h.Healthy == nil {
		return true
	}
	for _, a := range node {
		family := "IPv6"
		if a.Is4() {
			family = "IPv4"
		}
		if _, written := h.Status[family]; !written {
			return false
		}
	}
	return true
}

// readProxyHealth reads what kube-proxy says at an address, if it is there. One
// that is not healthy says it too.
func readProxyHealth(ctx context.Context, client *http.Client, at netip.AddrPort) (proxyHealth, bool) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/healthz", at), nil)
	if err != nil {
		return proxyHealth{}, false
	}
	response, err := client.Do(request)
	if err != nil {
		return proxyHealth{}, false
	}
	defer func() { _ = response.Body.Close() }() // the answer has been read
	var health proxyHealth
	text, err := io.ReadAll(io.LimitReader(response.Body, maxProxyHealth))
	return health, err == nil && json.Unmarshal(text, &health) == nil
}
