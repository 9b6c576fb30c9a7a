package view

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/bgp"
)

// wantedPrefixes returns by prefix the addresses that it is announced for.
func (f *Facts) wantedPrefixes(
	decisions map[netip.Addr]announcement.BGPDecision,
) map[netip.Prefix][]netip.Addr {
	out := map[netip.Prefix][]netip.Addr{}
	for _, addr := range slices.SortedFunc(maps.Keys(decisions), netip.Addr.Compare) {
		for _, a := range decisions[addr].Advertisements {
			prefix := a.PrefixOf(addr)
			if !slices.Contains(out[prefix], addr) {
				out[prefix] = append(out[prefix], addr)
			}
		}
	}
	return out
}

// addWanted fills in for whom a route is, and reports whether a filter wants it.
func (f *Facts) addWanted(row *v1alpha1.Route, addrs []netip.Addr, want Filter) bool {
	wanted := false
	for _, addr := range addrs {
		row.Addresses = append(row.Addresses, addr.String())
		for _, s := range f.holders[addr] {
			if !slices.Contains(row.Services, s.key()) {
				row.Services = append(row.Services, s.key())
			}
			wanted = wanted || want.wantsService(s.Namespace, s.Name) && is(want.Pool, f.poolOf(s, addr)) &&
				(!want.Address.IsValid() || want.Address == addr)
		}
	}
	return wanted
}

func routeRow(node string, peer bgp.Peer, r bgp.Route) v1alpha1.Route {
	row := v1alpha1.Route{Node: node, Peer: peer.Name, Prefix: r.Prefix.String(), Prepend: r.Prepend}
	if peer.Internal() && r.LocalPref != 0 {
		row.LocalPref = new(r.LocalPref)
	}
	if r.HasMED {
		row.MED = new(r.MED)
	}
	for _, c := range r.Communities {
		row.Communities = append(row.Communities, c.String())
	}
	return row
}
