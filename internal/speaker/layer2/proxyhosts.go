package layer2

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/berth-lb/berth/pkg/layer2/links"
	"github.com/berth-lb/berth/pkg/layer2/prober"
)

const (
	// controlCount is how many addresses that nobody should have a host must answer
	// for until it is taken for one that answers for all.
	controlCount = 2
	// controlTries bounds how many addresses are considered for these.
	controlTries = 32
	// controlMemory is for how long the result of asking counts, for a host on a link.
	controlMemory = 10 * time.Minute
	// controlHosts bounds the hosts that are known, for one host can make up Ethernet
	// addresses. Of more than those nothing is known.
	controlHosts = 256
	// controlAnswers is how many that answer for one address are asked about.
	controlAnswers = 4
)

// proxyFinder finds out whether a host that answers for an address answers for every
// one, as routers do with proxy ARP: it asks for two addresses that nobody should
// have. A host is asked about on a link once in ten minutes at most.
type proxyFinder struct {
	prober Prober
	view   *view

	mu    sync.Mutex
	known map[hostOn]*control
}

// hostOn is a host on a link of this node.
type hostOn struct {
	link string
	mac  string
	six  bool
}

// control is the result of asking for addresses that nobody should have.
type control struct {
	done chan struct{} // closed when there is one
	at   time.Time
	// answered is one of them for which the host answered as for all; invalid when it
	// did not.
	answered netip.Addr
}

func newProxyFinder(p Prober, v *view) *proxyFinder {
	return &proxyFinder{prober: p, view: v, known: map[hostOn]*control{}}
}

// answers returns an address that nobody should have and that a host answers for, as
// it does for addr, on one of the links; an invalid one when it does not, or that
// cannot be found out.
func (f *proxyFinder) answers(
	ctx context.Context, addr netip.Addr, links []string, mac net.HardwareAddr,
) netip.Addr {
	for _, link := range links {
		if got := f.on(ctx, addr, link, mac); got.IsValid() {
			return got
		}
	}
	return netip.Addr{}
}

func (f *proxyFinder) on(ctx context.Context, addr netip.Addr, link string, mac net.HardwareAddr) netip.Addr {
	at := hostOn{link, mac.String(), addr.Is6()}
	now := time.Now()
	f.mu.Lock()
	for host, c := range f.known {
		if now.Sub(c.at) >= controlMemory {
			delete(f.known, host)
		}
	}
	c, known := f.known[at]
	if !known && len(f.known) >= controlHosts {
		f.mu.Unlock()
		return netip.Addr{}
	}
	if !known {
		c = &control{done: make(chan struct{}), at: now}
		f.known[at] = c
	}
	f.mu.Unlock()
	if known {
		select {
		case <-c.done:
			return c.answered
		case <-ctx.Done():
			return netip.Addr{}
		}
	}
	defer close(c.done)
	answered, err := f.ask(ctx, link, mac, f.controls(addr, link))
	if err != nil { // nothing is known, so it is to be asked again
		f.mu.Lock()
		delete(f.known, at)
		f.mu.Unlock()
		return netip.Addr{}
	}
	c.answered = answered
	return answered
}

// ask returns the first of some addresses when a host answers for all of them.
func (f *proxyFinder) ask(
	ctx context.Context, link string, mac net.HardwareAddr, controls []netip.Addr,
) (netip.Addr, error) {
	if len(controls) < controlCount {
		return netip.Addr{}, nil
	}
	questions := make([]prober.Question, len(controls))
	for i, addr := range controls {
		questions[i] = prober.Question{
			Addr:     addr,
			Link:     link,
			Count:    1,
			Interval: 200 * time.Millisecond,
			AsHost:   true,
		}
	}
	out := controls[0]
	var errs []error
	for _, got := range askAll(ctx, f.prober, questions) {
		errs = append(errs, got.err)
		if !slices.ContainsFunc(got.Holders, func(h net.HardwareAddr) bool { return bytes.Equal(h, mac) }) {
			out = netip.Addr{}
		}
	}
	return out, errors.Join(errs...)
}

// controls returns addresses of a link's subnet with addr that nobody should have: none of
// this node or a member, and of no pool. Where pools leave too little of the subnet,
// they are some that no Service has.
func (f *proxyFinder) controls(addr netip.Addr, link string) []netip.Addr {
	all := f.view.links.Links()
	at := slices.IndexFunc(all, func(l links.Link) bool { return l.Name == link })
	if at < 0 {
		return nil
	}
	in := slices.IndexFunc(all[at].Prefixes, func(p netip.Prefix) bool {
		return !p.IsSingleIP() && p.Contains(addr)
	})
	if in < 0 {
		return nil
	}
	subnet := all[at].Prefixes[in]
	for _, m := range f.view.tracker.Current().Members {
		all = append(all, m.Links...)
	}
	ofNode := func(a netip.Addr) bool {
		return slices.ContainsFunc(all, func(l links.Link) bool {
			return slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool { return p.Addr() == a })
		})
	}
	config, _ := f.view.config.Current()
	out := controlAddresses(subnet, func(a netip.Addr) bool { return ofNode(a) || config.PoolOf(a) != nil })
	if len(out) < controlCount {
		held := f.view.memory.all()
		out = controlAddresses(subnet, func(a netip.Addr) bool {
			_, known := held[a]
			return known || ofNode(a)
		})
	}
	return out
}

// controlAddresses chooses addresses of a subnet, by a hash of it, that are neither
// its lowest nor its highest ones, where routers are, nor taken. There may be too few.
func controlAddresses(subnet netip.Prefix, taken func(netip.Addr) bool) []netip.Addr {
	const margin = 4
	subnet = subnet.Masked()
	bits := min(subnet.Addr().BitLen()-subnet.Bits(), 62)
	size := uint64(1) << bits
	if size <= 2*margin {
		return nil
	}
	var out []netip.Addr
	for try := range controlTries {
		hash := fnv.New64a()
		_, _ = hash.Write(binary.BigEndian.AppendUint16(subnet.Addr().AsSlice(), uint16(try))) // never fails
		a := plus(subnet.Addr(), margin+hash.Sum64()%(size-2*margin))
		if !taken(a) && !slices.Contains(out, a) {
			if out = append(out, a); len(out) == controlCount {
				break
			}
		}
	}
	return out
}

// plus returns the n-th address after the lowest one of a subnet that is large enough.
func plus(lowest netip.Addr, n uint64) netip.Addr {
	b := lowest.AsSlice()
	for i := len(b) - 1; i >= 0 && n > 0; i-- {
		b[i] |= byte(n)
		n >>= 8
	}
	out, _ := netip.AddrFromSlice(b)
	return out
}
