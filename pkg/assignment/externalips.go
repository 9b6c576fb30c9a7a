package assignment

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/allocator"
)

// Namer is a Service as one source of them shows it. A Service that changes its type
// goes from one source to another, in no order.
type Namer struct {
	Service allocator.Holder
	Source  string
}

// ExternalIPs knows which Services name which addresses in spec.externalIPs. A
// service proxy takes the traffic of such an address for the Service that names it,
// on every node and whoever else has the address. The zero value is empty and ready
// for use.
type ExternalIPs struct {
	named  map[Namer][]netip.Addr
	namers map[netip.Addr][]Namer // sorted
}

// ExternalIPsOf returns the addresses that a Service names and for which service proxies
// take traffic: a Service without a cluster IP takes none.
func ExternalIPsOf(s *corev1.Service) []netip.Addr {
	if s.Spec.Type == corev1.ServiceTypeExternalName || s.Spec.ClusterIP == corev1.ClusterIPNone {
		return nil
	}
	var out []netip.Addr
	for _, text := range s.Spec.ExternalIPs {
		if addr, err := netip.ParseAddr(text); err == nil && !slices.Contains(out, addr.Unmap()) {
			out = append(out, addr.Unmap())
		}
	}
	return out
}

// Set notes what a Service names, in place of what it named before, and returns the
// addresses for which that makes a difference.
func (e *ExternalIPs) Set(namer Namer, addrs []netip.Addr) (changed []netip.Addr) {
	if e.named == nil {
		e.named, e.namers = map[Namer][]netip.Addr{}, map[netip.Addr][]Namer{}
	}
	order := func(a, b Namer) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Source, b.Source))
	}
	before := e.named[namer]
	for _, addr := range before {
		if slices.Contains(addrs, addr) {
			continue
		}
		changed = append(changed, addr)
		e.namers[addr] = slices.DeleteFunc(e.namers[addr], func(n Namer) bool { return n == namer })
		if len(e.namers[addr]) == 0 {
			delete(e.namers, addr)
		}
	}
	for _, addr := range addrs {
		if slices.Contains(before, addr) {
			continue
		}
		changed = append(changed, addr)
		i, _ := slices.BinarySearchFunc(e.namers[addr], namer, order)
		e.namers[addr] = slices.Insert(e.namers[addr], i, namer)
	}
	if e.named[namer] = slices.Clone(addrs); len(addrs) == 0 {
		delete(e.named, namer)
	}
	return changed
}

// Withholding says that Services name an address, and which is the first of them. A
// Service that alone names it may have it.
func (e *ExternalIPs) Withholding(addr netip.Addr) (allocator.Withholding, bool) {
	namers := e.namers[addr]
	if len(namers) == 0 {
		return allocator.Withholding{}, false
	}
	first := namers[0].Service
	w := allocator.Withholding{
		Reason: string(v1beta1.ReasonExternalIP),
		Why:    fmt.Sprintf("Service %s names it in spec.externalIPs", first),
	}
	if !slices.ContainsFunc(namers, func(n Namer) bool { return n.Service != first }) {
		w.For = first
	}
	return w, true
}

// Withholding says why an address is not given out, of what nodes and Services say
// of it: a node that has it for sure comes first, one that only reports it last.
func Withholding(
	ofNode allocator.Withholding, isOfNode bool, external *ExternalIPs, addr netip.Addr,
) (allocator.Withholding, bool) {
	if isOfNode && !ofNode.OnRequest {
		return ofNode, true
	}
	if w, ok := external.Withholding(addr); ok {
		return w, true
	}
	return ofNode, isOfNode
}
