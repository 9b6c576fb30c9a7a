package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
)

// Routes reads the host's kernel table of the family of like: the next hops of each prefix, sorted.
func (h *Host) Routes(ctx context.Context, like netip.Addr) (map[netip.Prefix][]netip.Addr, error) {
	family := "-4"
	if like.Is6() {
		family = "-6"
	}
	out, err := h.Exec(ctx, tool("ip"), "-j", family, "route", "show")
	if err != nil {
		return nil, err
	}
	routes, err := parseRoutes(out)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.name, err)
	}
	return routes, nil
}

// routeJSON is the part that the lab reads of what `ip -j route` prints: a single next hop stands in the
// route itself. Via is there for a next hop of the other family.
type routeJSON struct {
	Destination string `json:"dst"` // an address for a prefix of full length, or "default"
	hopJSON
	NextHops []hopJSON `json:"nexthops"`
}

type hopJSON struct {
	Gateway netip.Addr `json:"gateway"`
	Via     struct {
		Host netip.Addr `json:"host"`
	} `json:"via"`
}

// parseRoutes leaves out routes without a next hop, and those whose destination is no prefix.
func parseRoutes(text []byte) (map[netip.Prefix][]netip.Addr, error) {
	var all []routeJSON
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("routes: %w", err)
	}
	routes := map[netip.Prefix][]netip.Addr{}
	for _, r := range all {
		prefix, err := netip.ParsePrefix(r.Destination)
		if addr, addrErr := netip.ParseAddr(r.Destination); addrErr == nil {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			continue
		}
		for _, h := range append(r.NextHops, r.hopJSON) {
			switch {
			case h.Gateway.IsValid():
				routes[prefix] = append(routes[prefix], h.Gateway)
			case h.Via.Host.IsValid():
				routes[prefix] = append(routes[prefix], h.Via.Host)
			}
		}
	}
	for prefix, hops := range routes {
		slices.SortFunc(hops, netip.Addr.Compare)
		routes[prefix] = slices.Compact(hops)
	}
	return routes, nil
}
