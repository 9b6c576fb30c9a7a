package view

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/pkg/config"
)

// PoolKinds are the kinds that Pools needs.
var PoolKinds = ServiceKinds

// PoolRows returns the pools that a filter wants, by name.
func (f *Facts) PoolRows(want Filter) v1alpha1.PoolList {
	out := v1alpha1.PoolList{
		TypeMeta: v1alpha1.TypeMeta("PoolList"),
		ListMeta: f.listMeta(),
		Items:    []v1alpha1.Pool{},
	}
	holdings := f.holdings()
	for i := range f.Pools {
		p := &f.Pools[i]
		if !is(want.Pool, p.Name) || !want.labelled(p.Labels) {
			continue
		}
		row := f.poolRow(p)
		row.Services = holdings[p.Name]
		if !f.poolMatches(row, want) || want.Problems && len(row.Problems) == 0 {
			continue
		}
		out.Items = append(out.Items, row)
	}
	return out
}

// holdings returns which Services hold which addresses, by pool.
func (f *Facts) holdings() map[string][]v1alpha1.Holding {
	out := map[string][]v1alpha1.Holding{}
	for _, s := range f.services {
		byPool := map[string][]string{}
		var pools []string
		for _, addr := range s.addresses {
			pool := f.poolOf(s, addr)
			if byPool[pool] == nil {
				pools = append(pools, pool)
			}
			byPool[pool] = append(byPool[pool], addr.String())
		}
		for _, pool := range pools {
			out[pool] = append(out[pool], v1alpha1.Holding{Service: s.key(), Addresses: byPool[pool]})
		}
	}
	return out
}

// poolMatches reports whether a pool has to do with what else is wanted.
func (f *Facts) poolMatches(row v1alpha1.Pool, want Filter) bool {
	if want.Address.IsValid() {
		if f.config == nil {
			return false
		}
		if p := f.config.PoolOf(want.Address); p == nil || p.Name != row.Name {
			return false
		}
	}
	if want.Service == "" && want.Namespace == "" && want.Node == "" && want.Peer == "" {
		return true
	}
	return slices.ContainsFunc(row.Services, func(h v1alpha1.Holding) bool {
		i := slices.IndexFunc(f.services, func(s *service) bool { return s.key() == h.Service })
		s := f.services[i]
		if !want.wantsService(s.Namespace, s.Name) {
			return false
		}
		none := mostDecided // nobody asks why
		also := Filter{Pool: row.Name, Node: want.Node, Peer: want.Peer}
		return f.serviceMatches(f.serviceRow(s, &none), also)
	})
}

// poolRow returns what becomes of a pool, without its Services.
func (f *Facts) poolRow(p *v1beta1.IPAddressPool) v1alpha1.Pool {
	row := v1alpha1.Pool{
		PoolUse:    f.poolUse(p),
		Drain:      p.Spec.Drain,
		Quota:      p.Spec.QuotaPerNamespace,
		OutOfRange: p.Status.OutOfRangeCount,
	}
	for _, text := range p.Spec.Addresses {
		row.Ranges = append(row.Ranges, string(text))
	}
	for _, text := range p.Spec.Exclude {
		row.Exclude = append(row.Exclude, string(text))
	}
	row.Reason, row.Message = f.readiness(config.KindIPAddressPool, p.ObjectMeta, p.Status.Conditions)
	f.addAdvertisements(p, &row)
	row.Problems = f.poolProblems(p, row)
	return row
}

// poolUse returns how full a pool is: as its controller counts it, or as the snapshot says
// if no controller has.
func (f *Facts) poolUse(p *v1beta1.IPAddressPool) v1alpha1.PoolUse {
	out := v1alpha1.PoolUse{Name: p.Name}
	s := p.Status
	four := v1alpha1.PoolSize{
		Assigned: s.AssignedIPv4,
		Free:     s.AvailableIPv4,
		Resting:  s.RestingIPv4,
		Excluded: s.ExcludedIPv4,
	}
	six := v1alpha1.PoolSize{
		Assigned: s.Assigned - s.AssignedIPv4,
		Free:     s.AvailableIPv6,
		Resting:  s.RestingIPv6,
		Excluded: s.ExcludedIPv6,
	}
	ready := meta.FindStatusCondition(s.Conditions, v1beta1.ConditionReady)
	if fresh := ready != nil && ready.ObservedGeneration == p.Generation; !fresh && f.planned != nil {
		if c, ok := f.planned.Pools[p.Name]; ok {
			four = v1alpha1.PoolSize{
				Assigned: c.Assigned4,
				Free:     c.Available4,
				Resting:  c.Resting4,
				Excluded: c.Excluded4,
			}
			six = v1alpha1.PoolSize{
				Assigned: c.Assigned6,
				Free:     c.Available6,
				Resting:  c.Resting6,
				Excluded: c.Excluded6,
			}
		}
	}
	out.IPv4, out.IPv6 = sized(four), sized(six)
	return out
}

// sized returns the counts of a family with their sum, nil if there is nothing.
func sized(s v1alpha1.PoolSize) *v1alpha1.PoolSize {
	for _, n := range []int64{s.Assigned, s.Free, s.Resting, s.Excluded} {
		if s.Size += n; s.Size < 0 {
			s.Size = math.MaxInt64 // counts are capped there too
		}
	}
	if s.Size == 0 {
		return nil
	}
	return &s
}

// addAdvertisements fills in which advertisements select a pool.
func (f *Facts) addAdvertisements(p *v1beta1.IPAddressPool, row *v1alpha1.Pool) {
	if f.config == nil {
		return
	}
	pool := f.config.Pool(p.Name)
	if pool == nil {
		return
	}
	for _, a := range f.config.L2Advertisements {
		if a.SelectsPool(pool) {
			row.L2Advertisements = append(row.L2Advertisements, a.Name)
		}
	}
	for _, a := range f.config.BGPAdvertisements {
		if a.SelectsPool(pool) {
			row.BGPAdvertisements = append(row.BGPAdvertisements, a.Name)
		}
	}
}

// poolProblems returns what is wrong with a pool, besides its Ready condition.
func (f *Facts) poolProblems(p *v1beta1.IPAddressPool, row v1alpha1.Pool) []v1alpha1.Problem {
	var out []v1alpha1.Problem
	add := func(severity v1alpha1.Severity, reason v1beta1.Reason, message string) {
		out = append(out, problem(severity, poolRef(p.Name), string(reason), message,
			"kubectl berth explain pool/"+p.Name))
	}
	if row.Reason != string(v1beta1.ReasonAccepted) && row.Reason != Unknown {
		add(v1alpha1.Error, v1beta1.Reason(row.Reason), row.Message)
	}
	for _, family := range []struct {
		name string
		size *v1alpha1.PoolSize
	}{{"IPv4", row.IPv4}, {"IPv6", row.IPv6}} {
		if s := family.size; s != nil && s.Free == 0 && s.Assigned > 0 {
			add(v1alpha1.Warning, v1beta1.ReasonPoolFull, fmt.Sprintf(
				"No %s address of pool %s is free (%d of %d are "+
					"assigned).", family.name, p.Name, s.Assigned, s.Size))
		}
	}
	if c := meta.FindStatusCondition(p.Status.Conditions, v1beta1.ConditionOutOfRange); c != nil {
		add(v1alpha1.Warning, v1beta1.Reason(c.Reason), c.Message)
	}
	advertised := len(row.L2Advertisements) + len(row.BGPAdvertisements)
	if f.config != nil && f.config.Pool(p.Name) != nil && advertised == 0 {
		add(v1alpha1.Warning, v1beta1.ReasonNoAdvertisement,
			"No L2Advertisement and no BGPAdvertisement selects the pool: nobody announces its addresses.")
	}
	return out
}

// poolByName returns a pool object, nil if there is none.
func (f *Facts) poolByName(name string) *v1beta1.IPAddressPool {
	for i := range f.Pools {
		if f.Pools[i].Name == name {
			return &f.Pools[i]
		}
	}
	return nil
}

// excludedBy returns which entry of which pool excludes an address, "" for none.
func (f *Facts) excludedBy(addr netip.Addr) (pool, entry string) {
	for i := range f.Pools {
		for _, text := range f.Pools[i].Spec.Exclude {
			if r, err := config.ParseExcluded(string(text)); err == nil && r.Contains(addr) {
				return f.Pools[i].Name, string(text)
			}
		}
	}
	return "", ""
}
