package watch

import (
	"net/netip"
	"slices"
	"time"
)

// replacedWithin is how soon a route that was deleted is there again when it is only replaced: FRR replaces
// routes of IPv6 by deleting them first, and the kernel tells of both.
const replacedWithin = 100 * time.Millisecond

// A Departure is how a route ceased to list a next hop.
type Departure struct {
	// First is when it ceased to for the first time; zero if it listed it all along.
	First time.Time
	// Listed: it lists it at the end.
	Listed bool
	// deleted: it ceased to because the route was deleted, and nothing else has happened to it since.
	deleted bool
}

// Departures judges events in the order in which they happened: what became of a next hop in the routes to
// these addresses, all of which listed it before.
func Departures(
	events []RouteEvent, isHop func(netip.Addr) bool, addresses []netip.Addr,
) map[netip.Addr]Departure {
	out := map[netip.Addr]Departure{}
	for _, addr := range addresses {
		out[addr] = Departure{Listed: true}
	}
	for _, e := range events {
		if d, asked := out[e.Prefix.Addr()]; asked && e.Prefix.IsSingleIP() {
			out[e.Prefix.Addr()] = d.after(e, slices.ContainsFunc(e.Hops, isHop))
		}
	}
	return out
}

// after reads an event of the route, or of another route to the same address; has tells whether the next hop
// is in it.
func (d Departure) after(e RouteEvent, has bool) Departure {
	switch {
	case e.Deleted && !has: // another route
	case e.Deleted && d.Listed:
		if d.First.IsZero() {
			d.First, d.deleted = e.At, true
		}
		d.Listed = false
	case !e.Deleted && has:
		if d.deleted && e.At.Sub(d.First) < replacedWithin {
			d.First = time.Time{}
		}
		d.Listed, d.deleted = true, false
	case !e.Deleted:
		if d.First.IsZero() {
			d.First = e.At
		}
		d.Listed, d.deleted = false, false
	}
	return d
}

// An Arrival is when an address came into a kernel's table.
type Arrival struct {
	First time.Time // with any next hop
	Full  time.Time // with as many as it should have
}

// Arrivals judges events in the order in which they happened: when each address had a route first, and when
// first with so many next hops.
func Arrivals(events []RouteEvent, hops int) map[netip.Addr]Arrival {
	out := map[netip.Addr]Arrival{}
	for _, e := range events {
		if e.Deleted || !e.Prefix.IsSingleIP() || len(e.Hops) == 0 {
			continue
		}
		a := out[e.Prefix.Addr()]
		if a.First.IsZero() {
			a.First = e.At
		}
		if a.Full.IsZero() && len(e.Hops) >= hops {
			a.Full = e.At
		}
		out[e.Prefix.Addr()] = a
	}
	return out
}
