package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
	"github.com/berth-lb/berth/e2e/watch"
)

// A routerWatch looks at the router during a run: at the routes in its kernel and at its sessions, as far as
// the scenario asks.
type routerWatch struct {
	b      *bed
	node   string
	router peering.Router
	routes *watch.Routes // nil: nobody asks
	gone   bool          // the node's routes must go
	kept   bool          // no route may lose a next hop
	before peering.Downs // nil: nobody asks
}

// watchRouter begins, when all is well.
func (b *bed) watchRouter(ctx context.Context, sc scenario, node string) (*routerWatch, error) {
	w := &routerWatch{
		b:      b,
		node:   node,
		router: sc.terms.router(lab.HostRouter, b.Lab.NodeNames()),
		gone:   sc.gone,
		kept:   sc.kept,
	}
	if sc.steady || sc.terms.bfd {
		var err error
		if w.before, err = peering.ReadDowns(ctx, b.Lab, w.router); err != nil {
			return nil, err
		}
	}
	if sc.gone || sc.kept {
		var err error
		if w.routes, err = watch.StartRoutes(b.Lab, lab.HostRouter); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// complete returns an error unless all sessions that there should be are up: one for each node and family, of
// BGP and, where there is BFD, of that.
func complete(downs peering.Downs, router peering.Router) error {
	want := 2 * len(router.Nodes)
	if router.BFD {
		want *= 2
	}
	if len(downs) != want {
		return fmt.Errorf("%s has %d sessions of BGP and BFD, not %d", router.Host, len(downs), want)
	}
	for _, name := range slices.Sorted(maps.Keys(downs)) {
		if !downs[name].Up {
			return fmt.Errorf("%s: %s: not up", router.Host, name)
		}
	}
	return nil
}

// judge fills in what was seen from the fault until mending begins.
func (w *routerWatch) judge(ctx context.Context, r *result, addresses []netip.Addr) error {
	if w.before != nil {
		now, err := peering.ReadDowns(ctx, w.b.Lab, w.router)
		if err != nil {
			return err
		}
		r.Watched, r.Down = len(w.before), now.Since(w.before)
	}
	if !w.gone {
		return nil
	}
	// What the kernel has told is compared with what it has: it does not tell when a next hop that routes
	// share is removed.
	hops, err := peering.Hops(ctx, w.b.Lab, lab.HostRouter, addresses...)
	if err != nil {
		return err
	}
	still := r.judgeRoutes(w.routes.Events(r.At), addresses, w.isNode(w.node))
	for _, addr := range addresses {
		if told, has := slices.Contains(still, addr), slices.Contains(hops[addr], w.node); told != has {
			return fmt.Errorf("the router's kernel has %s as next hop to %s: %t; by what it told: %t",
				w.node, addr, has, told)
		}
	}
	return nil
}

// judgeRoutes tells when the last route of each family ceased to have the node as a next hop, and returns the
// addresses whose routes have it.
func (r *result) judgeRoutes(
	events []watch.RouteEvent, addresses []netip.Addr, isNode func(netip.Addr) bool,
) (still []netip.Addr) {
	for _, family := range families {
		var last time.Time
		all := true
		mine := family.addresses(addresses)
		departures := watch.Departures(events, isNode, mine)
		for _, addr := range mine {
			d := departures[addr]
			if d.Listed {
				still = append(still, addr)
			}
			if all = all && !d.First.IsZero(); d.First.After(last) {
				last = d.First
			}
		}
		if all && len(mine) > 0 {
			*family.gone(r) = new(last.Sub(r.At).Milliseconds())
		}
	}
	r.Still = len(still)
	return still
}

// judgeEnd fills in what was seen from the fault until all is whole again.
func (w *routerWatch) judgeEnd(r *result, addresses []netip.Addr) {
	if !w.kept {
		return
	}
	events := w.routes.Events(r.At)
	for _, node := range w.router.Nodes {
		r.judgeKept(events, addresses, node, w.isNode(node))
	}
}

// judgeKept tells of which routes a node ceased to be a next hop, be it for a moment.
func (r *result) judgeKept(
	events []watch.RouteEvent, addresses []netip.Addr, node string, isNode func(netip.Addr) bool,
) {
	departures := watch.Departures(events, isNode, addresses)
	for _, family := range families {
		left := slices.DeleteFunc(family.addresses(addresses), func(addr netip.Addr) bool {
			return departures[addr].First.IsZero()
		})
		if len(left) == 0 {
			continue
		}
		first := slices.MinFunc(left, func(a, b netip.Addr) int {
			return departures[a].First.Compare(departures[b].First)
		})
		r.NotKept = append(r.NotKept,
			fmt.Sprintf("%s was taken from the routes to %d %s addresses, first that to %s after %d ms",
				node, len(left), family.name, first, departures[first].First.Sub(r.At).Milliseconds()))
	}
}

func (w *routerWatch) isNode(node string) func(netip.Addr) bool {
	return func(hop netip.Addr) bool { return peering.NodeOf(w.b.Lab, hop) == node }
}

// stop ends it. The error tells if something was missed.
func (w *routerWatch) stop() error {
	if w.routes == nil {
		return nil
	}
	return w.routes.Stop()
}
