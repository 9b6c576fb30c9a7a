// Package serviceproxy asks the service proxy of this node, kube-proxy or another, what it
// has programmed. What reaches the node before, the proxy drops.
package serviceproxy

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Times of asking the service proxy.
const (
	// Interval is the time between two questions.
	Interval = 50 * time.Millisecond
	// askTimeout bounds one question.
	askTimeout = 500 * time.Millisecond
	// Grace is how long the proxy is asked. One that does not answer by then is one that
	// does not serve health checks.
	Grace = 5 * time.Second
)

// Until asks again and again until the answer is yes, or ctx ends.
func Until(ctx context.Context, ask func(context.Context) bool) bool {
	ticker := time.NewTicker(Interval)
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

// Programmed returns a function that asks the proxy of this node at the health check node
// port of a Service: it answers 200 while it has endpoints there. It is asked at the node's
// own address of the family, as the cluster knows it.
func Programmed(addresses func(context.Context) []netip.Addr) func(context.Context, netip.Addr, uint16) bool {
	client := proxyClient()
	return func(ctx context.Context, family netip.Addr, port uint16) bool {
		at := netip.AddrPortFrom(ofFamily(addresses(ctx), family), port)
		return saysOK(ctx, client, fmt.Sprintf("http://%s/", at))
	}
}

// saysOK reports whether the answer of the proxy is that all is well.
func saysOK(ctx context.Context, client *http.Client, url string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close() // the status says it all
	return response.StatusCode == http.StatusOK
}

// proxyClient asks the proxy of this node.
func proxyClient() *http.Client {
	dialer := net.Dialer{Timeout: askTimeout}
	return &http.Client{
		Timeout:   askTimeout,
		Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true},
		// Whoever has the port does not send the speaker elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ofFamily returns the first address of the same family as another, the first of all
// where none is, and none of none.
func ofFamily(addresses []netip.Addr, family netip.Addr) netip.Addr {
	for _, a := range addresses {
		if a.Is4() == family.Is4() {
			return a
		}
	}
	if len(addresses) > 0 {
		return addresses[0]
	}
	return netip.Addr{}
}

// proxyHosts returns where a proxy may listen: everywhere, only here, or on one of the
// node's addresses.
func proxyHosts(node []netip.Addr) []netip.Addr {
	return append([]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, node...)
}

// Healthy returns a function that asks the service proxy of this node at its health
// check port whether it works. One that has served nothing for long, or that knows that its
// node is to go, says that it does not.
func Healthy(port uint16, addresses func(context.Context) []netip.Addr) func(context.Context) bool {
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
