package view

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/config"
)

// CellState is what becomes of one address of a pool.
type CellState string

// The states of cells.
const (
	CellHeld     CellState = "Held"
	CellFree     CellState = "Free"
	CellResting  CellState = "FreeOrResting" // some rest, and which is not known
	CellExcluded CellState = "Excluded"
	CellUnknown  CellState = "Unknown"
)

// Strip is a pool with its addresses, one by one if they are few.
type Strip struct {
	v1alpha1.Pool
	// Cells are all addresses that the pool lists, sorted; none if they are more than a /24
	// has, or if Why says that they are not known.
	Cells []Cell
	Why   string
}

// Cell is one address of a pool.
type Cell struct {
	Address netip.Addr
	State   CellState
	// Holders are Services that have the address, as NAMESPACE/NAME.
	Holders []string
	Text    string
}

// mostCells is how many addresses of a pool are shown one by one.
const mostCells = 256

// StripOf returns a pool with its addresses; ok is false if there is none of that name.
func (f *Facts) StripOf(name string) (out Strip, ok bool) {
	p := f.poolByName(name)
	if p == nil {
		return out, false
	}
	return f.strip(p, f.foreign()), true
}

// Strips are pools, by name.
type Strips struct {
	List []Strip
	More int
	// Unknown says what is not known, "" for nothing.
	Unknown string
}

// Strips returns the pools with their addresses; of many, those with problems and the first.
func (f *Facts) Strips(most int) Strips {
	var out Strips
	if !f.Has(snapshot.Pools) {
		out.Unknown = "The pools could not be read."
	}
	pools := make([]*v1beta1.IPAddressPool, 0, len(f.Pools))
	for i := range f.Pools {
		pools = append(pools, &f.Pools[i])
	}
	slices.SortFunc(pools, func(a, b *v1beta1.IPAddressPool) int { return cmp.Compare(a.Name, b.Name) })
	if len(pools) > most {
		slices.SortStableFunc(pools, func(a, b *v1beta1.IPAddressPool) int {
			return cmp.Compare(len(f.poolRow(b).Problems), len(f.poolRow(a).Problems))
		})
		out.More, pools = len(pools)-most, pools[:most]
	}
	foreign := f.foreign()
	for _, p := range pools {
		out.List = append(out.List, f.strip(p, foreign))
	}
	return out
}

// foreign returns who has addresses among the Services that Berth does not handle.
func (f *Facts) foreign() map[netip.Addr]string {
	ours := map[string]bool{}
	for _, s := range f.services {
		ours[s.key()] = true
	}
	out := map[netip.Addr]string{}
	for i := range f.Services {
		s := &f.Services[i]
		key := s.Namespace + "/" + s.Name
		if ours[key] {
			continue
		}
		for _, addr := range assignment.StatusAddresses(s) {
			out[addr] = key
		}
	}
	return out
}

func (f *Facts) strip(p *v1beta1.IPAddressPool, foreign map[netip.Addr]string) Strip {
	out := Strip{Pool: f.poolRow(p)}
	if f.config == nil || f.config.Pool(p.Name) == nil {
		out.Why = "Which addresses are of the pool is not known: " + cmp.Or(
			f.missing(snapshot.ConfigKinds...), "its specification") + " could not be read."
		return out
	}
	var b netipx.IPSetBuilder
	for _, text := range p.Spec.Addresses {
		if r, err := config.ParseExcluded(string(text)); err == nil {
			b.AddRange(r)
		}
	}
	set, err := b.IPSet()
	if err != nil {
		out.Why = "Which addresses are of the pool is not known: " + err.Error()
		return out
	}
	pool := f.config.Pool(p.Name)
	resting := false
	for _, size := range []*v1alpha1.PoolSize{out.IPv4, out.IPv6} {
		resting = resting || size != nil && size.Resting > 0
	}
	for _, r := range set.Ranges() {
		for addr := r.From(); addr.IsValid(); addr = addr.Next() {
			if len(out.Cells) == mostCells {
				out.Cells = nil
				return out // there are too many
			}
			out.Cells = append(out.Cells, f.cell(pool, addr, foreign, resting))
			if addr == r.To() {
				break
			}
		}
	}
	return out
}

// cell says what becomes of one address that a pool lists.
func (f *Facts) cell(pool *config.Pool, addr netip.Addr, foreign map[netip.Addr]string, resting bool) Cell {
	out := Cell{Address: addr, State: CellFree, Text: "free"}
	for _, s := range f.holders[addr] {
		out.Holders = append(out.Holders, s.key())
	}
	node, ofNode := f.config.OfNode(addr)
	switch {
	case len(out.Holders) > 0:
		out.State, out.Text = CellHeld, "held by "+strings.Join(out.Holders, ", ")
	case foreign[addr] != "":
		out.State, out.Holders = CellHeld, []string{foreign[addr]}
		out.Text = "held by " + foreign[addr] + ", which Berth does not handle"
	case f.config.Excluded(addr) != "":
		out.State, out.Text = CellExcluded, f.config.Excluded(addr)
	case !pool.Contains(addr):
		out.State, out.Text = CellExcluded, "another pool has it"
	case ofNode && !pool.AllowNodeAddresses:
		out.State, out.Text = CellExcluded, node.String()
	case pool.AvoidBuggyIPs && addr.Is4() && (addr.As4()[3] == 0 || addr.As4()[3] == 255):
		out.State, out.Text = CellExcluded, "avoidBuggyIPs keeps it back"
	case !f.Has(snapshot.Services):
		out.State, out.Text = CellUnknown, "not known: not all Services could be read"
	case resting:
		out.State, out.Text = CellResting, "free or resting"
	}
	return out
}
