package serviceproxy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"

	"github.com/berth-lb/berth/internal/notify"
)

// RulesConfig is what [Rules] works with.
type RulesConfig struct {
	// Port is where kube-proxy reports its health on this node; 0 if it is not to be asked.
	Port uint16
	// Addresses returns the node's own addresses, as the cluster knows them.
	Addresses func(context.Context) []netip.Addr
	Queue     interface{ RequeueAll() (number uint64) }
	Log       *slog.Logger
}

// Rules finds out whether this node's service proxy has written its rules since it was
// started. While a node boots, its kernel answers and its speaker works before the proxy has
// done so, and what is sent to its addresses then is dropped.
type Rules struct {
	// written asks the proxy; nil when it is not to be asked.
	written func(context.Context) bool
	queue   interface{ RequeueAll() (number uint64) }
	log     *slog.Logger
	done    notify.Latch
}

// NewRules returns Rules that ask nobody before [Rules.Run].
func NewRules(c RulesConfig) *Rules {
	out := &Rules{queue: c.Queue, log: c.Log, done: notify.NewLatch()}
	if c.Port != 0 {
		out.written = rulesWritten(c.Port, c.Addresses)
	}
	return out
}

// Written is set when the proxy has written its rules, or was asked for long enough.
func (r *Rules) Written() notify.Latch { return r.done }

// Run asks until the proxy says yes, for [Grace] at most, and then has every address
// reconciled.
func (r *Rules) Run(ctx context.Context) error {
	if r.written != nil {
		bounded, cancel := context.WithTimeout(ctx, Grace)
		defer cancel()
		if !Until(bounded, r.written) && ctx.Err() == nil {
			r.log.Warn("the service proxy does not report that it has written its rules; continuing without")
		}
	}
	r.done.Set()
	r.queue.RequeueAll()
	return nil
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
