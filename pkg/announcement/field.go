package announcement

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/berth-lb/berth/pkg/config"
	"github.com/berth-lb/berth/pkg/layer2/election"
)

// Field are the nodes from which the election by hash chooses the owner of an address that
// none of them claims, sorted by name: the candidates with the highest preference weight.
// All addresses that differ in nothing but themselves have the same.
type Field struct {
	Nodes []string
	// Immediate is set if claims do not count, because an advertisement has failback
	// Immediate.
	Immediate bool
}

// Advertised is by what an address is announced by ARP and NDP.
type Advertised struct {
	Ads []*config.L2Advertisement
	// Ready is set if one of the Services with the address that an advertisement selects
	// has a usable endpoint.
	Ready bool
	// Bound is set if one of these is Local. Then no other node than those in To, sorted,
	// is a candidate.
	Bound bool
	To    []string
}

// AdvertisedBy returns by what an address is announced, and which nodes that leaves.
func AdvertisedBy(in Input) Advertised {
	var out Advertised
	var services []Service
	out.Ads, services = asAdvertised(in)
	out.Ready = len(services) > 0
	for _, s := range services {
		if s.Local && (!out.Bound || len(s.Endpoints) < len(out.To)) {
			out.Bound, out.To = true, slices.Sorted(maps.Keys(s.Endpoints))
		}
	}
	return out
}

// asAdvertised returns the advertisements of an address, and the Services with it that they
// select and that have usable endpoints.
func asAdvertised(in Input) ([]*config.L2Advertisement, []Service) {
	pools := poolsOf(in.Config, in.Address)
	if len(pools) == 0 {
		return nil, nil
	}
	ads, services := advertised(in.Config.L2Advertisements, pools, in.Services)
	return ads, slices.DeleteFunc(services, func(s Service) bool { return !s.Ready })
}

// FieldOf returns the field of an address, whoever claims it: it is empty where Decide
// names no owner. That the address may be a node's own does not count.
func FieldOf(in Input) Field {
	ads, services := asAdvertised(in)
	if len(services) == 0 {
		return Field{}
	}
	in = in.based()
	in.Claims = nil
	candidates, _ := filter(in, ads, services)
	out := Field{Immediate: failbackImmediate(ads)}
	for _, c := range heaviest(candidates) {
		out.Nodes = append(out.Nodes, c.name)
	}
	slices.Sort(out.Nodes)
	return out
}

// Elect names the node of the field that owns an address which nobody claims, "" where the
// field is empty.
func (f Field) Elect(addr netip.Addr) string {
	candidates := make([]election.Candidate, len(f.Nodes))
	for i, name := range f.Nodes {
		candidates[i].Name = name
	}
	owner, _ := election.Elect(addr, candidates)
	return owner
}
