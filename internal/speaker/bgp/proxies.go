package bgp

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/berth-lb/berth/internal/notify"
	"github.com/berth-lb/berth/internal/speaker/serviceproxy"
	"github.com/berth-lb/berth/pkg/announcement"
)

// proxies finds out when this node's service proxy, kube-proxy or another, has
// programmed the endpoints of this node for a Service whose externalTrafficPolicy
// is Local. It may be a second late, and a route that comes before it attracts
// traffic that is dropped. The proxy says so at the Service's health check node
// port, which is there for external load balancers. Before it has written any
// rules, it is ready for no Service.
type proxies struct {
	ctx   context.Context // ends with the speaker
	node  string
	queue Requeuer
	// programmed asks the proxy at a health check node port of this node, for
	// addresses of one family: kube-proxy works for each family by itself.
	programmed func(ctx context.Context, family netip.Addr, port uint16) bool
	rules      notify.Latch // set when the proxy has written its rules, as far as that is waited for
	log        *slog.Logger
	slots      chan struct{} // bounds how many questions are open

	mu    sync.Mutex
	known map[netip.Addr]map[string]*proxyState // by address and Service
}

// proxyState is what is known of one Service with endpoints on this node.
type proxyState struct {
	port  uint16
	ready bool
	stop  context.CancelFunc
}

// openQuestions is how many the proxy is asked at once.
const openQuestions = 32

func newProxies(
	ctx context.Context, node string, queue Requeuer,
	programmed func(context.Context, netip.Addr, uint16) bool, rules notify.Latch, log *slog.Logger,
) *proxies {
	return &proxies{
		ctx:        ctx,
		node:       node,
		queue:      queue,
		programmed: programmed,
		rules:      rules,
		log:        log,
		slots:      make(chan struct{}, openQuestions),
		known:      map[netip.Addr]map[string]*proxyState{},
	}
}

// pending returns the Services of addr whose endpoints on this node the proxy is not known
// to have programmed. The first call for a Service starts asking the proxy.
func (p *proxies) pending(addr netip.Addr, services []announcement.Service) map[string]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.known[addr]
	now, out := map[string]*proxyState{}, map[string]bool{}
	if !p.rules.IsSet() {
		for _, s := range services {
			out[s.Name] = true
		}
		return out
	}
	for _, s := range services {
		if !s.Local || s.HealthCheckPort == 0 || s.Endpoints[p.node] == 0 {
			continue
		}
		one := before[s.Name]
		if one == nil || one.port != s.HealthCheckPort {
			one = p.start(addr, s)
		}
		now[s.Name] = one
		if !one.ready {
			out[s.Name] = true
		}
	}
	for name, one := range before {
		if now[name] != one {
			one.stop()
		}
	}
	p.known[addr] = now
	if len(now) == 0 {
		delete(p.known, addr)
	}
	return out
}

// start begins to ask the proxy.
func (p *proxies) start(addr netip.Addr, s announcement.Service) *proxyState {
	ctx, stop := context.WithTimeout(p.ctx, serviceproxy.Grace)
	one := &proxyState{port: s.HealthCheckPort, stop: stop}
	go func() {
		defer stop()
		took := p.await(ctx, addr, one.port)
		p.mu.Lock()
		one.ready = true
		p.mu.Unlock()
		if errors.Is(ctx.Err(), context.Canceled) {
			return // nobody waits for it any more
		}
		if !took {
			p.log.Warn("the service proxy does not confirm the endpoints of this node; continuing without",
				"services", []string{s.Name}, "address", addr.String())
		}
		p.queue.Requeue(addr)
	}()
	return one
}

// await asks until the proxy says yes or ctx ends.
func (p *proxies) await(ctx context.Context, family netip.Addr, port uint16) bool {
	return serviceproxy.Until(ctx, func(ctx context.Context) bool { return p.askOnce(ctx, family, port) })
}

// askOnce asks, and not about all Services at once.
func (p *proxies) askOnce(ctx context.Context, family netip.Addr, port uint16) bool {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
		return p.programmed(ctx, family, port)
	case <-ctx.Done():
		return false
	}
}
