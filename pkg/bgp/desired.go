package bgp

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Address is an address that this node may announce by BGP.
type Address struct {
	Address netip.Addr
	// Advertisements are those that select the address's pool, a Service with
	// the address, and this node.
	Advertisements []*Advertisement
	// Endpoints are the usable ones on this node, of all the Services with the
	// address.
	Endpoints int
	// LeavingSince is since when this node drains the address; zero when it does not.
	LeavingSince time.Time
}

// Planned is the outcome of Plan.
type Planned struct {
	Desired   []Desired // by name of the peer
	Conflicts []Conflict
	// Again is when to plan again although nothing changed, because routes have to be
	// withdrawn then; zero for never.
	Again time.Time
}

// Desired is which routes one peer shall have.
type Desired struct {
	Peer   Peer
	Routes []Route // by prefix
	// Uncarried are the families of prefixes that advertisements would announce to this
	// peer, and that no peer of the plan gets, as no session carries the family.
	Uncarried Families
}

// Families returns the families of the routes.
func (d Desired) Families() (out Families) {
	for _, r := range d.Routes {
		if out |= FamilyOf(r.Prefix.Addr()); out == DualStack {
			break
		}
	}
	return out
}

// Conflict is a route for which two advertisements set different values.
type Conflict struct {
	Peer   string
	Prefix netip.Prefix
	Field  string // localPref, med or asPathPrepend
	// Kept is the advertisement whose value counts, Ignored the younger one.
	Kept, Ignored string
}

// weightUnit is the link bandwidth of one endpoint in bytes a second. Only
// proportions matter. The number is so large that routers which count in
// megabits do not round it to nothing, and so small that some hundred
// endpoints fit into the 32 bits that others keep.
const (
	weightUnit = 10e6
	weightMin  = weightUnit / 10 // of a node without endpoints, which still forwards
	weightMax  = 4e9
)

// Plan returns which routes each peer shall have so that the addresses are announced, and
// where advertisements contradict each other. Duplicate names of peers are the caller's
// mistake: the first counts.
//
// The rules:
//
//  1. An advertisement announces, for each address, the prefix of its length that holds
//     the address, to those of its peers whose session carries the family.
//  2. A route has the communities of all advertisements that announce it.
//  3. Of LocalPref, MED and Prepend each, the oldest of them that sets it decides. Prepend
//     goes to external peers, LocalPref to internal ones.
//  4. When one of them asks for a weight, the route has a link bandwidth in proportion to
//     the endpoints of all its addresses.
//  5. Where the session of none of its peers carries the family of a prefix, each of them
//     has it among the uncarried.
//  6. A route all of whose addresses this node drains carries GRACEFUL_SHUTDOWN (RFC 8326)
//     for as long as its peer says, counted from the last of them, and is then withdrawn.
func Plan(now time.Time, peers []Peer, addresses []Address) Planned {
	prefixes := collect(addresses)
	sorted := slices.Clone(peers)
	slices.SortStableFunc(sorted, func(a, b Peer) int { return cmp.Compare(a.Name, b.Name) })
	sorted = slices.CompactFunc(sorted, func(a, b Peer) bool { return a.Name == b.Name })
	uncarried := findUncarried(sorted, prefixes)
	var out Planned
	for _, peer := range sorted {
		d := Desired{Peer: peer, Uncarried: uncarried[peer.Name]}
		// Most routes are made by the same few advertisements: compute once.
		known := map[string]Attributes{}
		for _, p := range prefixes {
			if !peer.Families.Has(FamilyOf(p.prefix.Addr())) {
				continue
			}
			reaching := p.reaching(peer.Name)
			end := p.leavingSince.Add(peer.GracefulShutdown)
			if len(reaching) == 0 || p.leaving() && !end.After(now) {
				continue
			}
			key := keyOf(reaching)
			attributes, ok := known[key]
			if !ok {
				attributes = merge(peer, reaching)
				known[key] = attributes
			}
			if slices.ContainsFunc(reaching, func(a *Advertisement) bool { return a.Weight }) {
				bandwidth := LinkBandwidth(peer.LocalASN, weight(p.endpoints))
				attributes.Communities = Unite(attributes.Communities, []Community{bandwidth})
			}
			out.Conflicts = append(out.Conflicts, contradictions(peer, p.prefix, reaching)...)
			if p.leaving() {
				attributes = attributes.Leaving()
				if out.Again.IsZero() || end.Before(out.Again) {
					out.Again = end
				}
			}
			d.Routes = append(d.Routes, Route{p.prefix, attributes})
		}
		out.Desired = append(out.Desired, d)
	}
	return out
}

// prefix is one to announce, with the advertisements that do, oldest first.
type prefix struct {
	prefix    netip.Prefix
	ads       []*Advertisement
	endpoints int
	// staying is set when this node does not drain all of its addresses; leavingSince is
	// since when it drains the last of those that it drains.
	staying      bool
	leavingSince time.Time
}

// leaving reports whether this node drains all addresses of the prefix.
func (p *prefix) leaving() bool { return !p.staying }

// collect returns the prefixes of all addresses, sorted.
func collect(addresses []Address) []*prefix {
	found := map[netip.Prefix]*prefix{}
	for _, a := range addresses {
		counted := map[netip.Prefix]bool{}
		for _, ad := range a.Advertisements {
			at := ad.PrefixOf(a.Address)
			p := found[at]
			if p == nil {
				p = &prefix{prefix: at}
				found[at] = p
			}
			if !slices.Contains(p.ads, ad) {
				p.ads = append(p.ads, ad)
			}
			if !counted[at] {
				counted[at] = true
				p.endpoints += a.Endpoints
				p.staying = p.staying || a.LeavingSince.IsZero()
				if a.LeavingSince.After(p.leavingSince) {
					p.leavingSince = a.LeavingSince
				}
			}
		}
	}
	out := make([]*prefix, 0, len(found))
	for _, p := range found {
		slices.SortFunc(p.ads, compareAge)
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *prefix) int { return comparePrefix(a.prefix, b.prefix) })
	return out
}

// findUncarried returns for each peer, by name, the families of prefixes that it would get
// if its session carried them, where that of no peer does.
func findUncarried(peers []Peer, prefixes []*prefix) map[string]Families {
	out := map[string]Families{}
	// Most prefixes have the same few advertisements.
	type kind struct {
		ads    string
		family Families
	}
	known := map[kind]bool{}
	for _, p := range prefixes {
		family := FamilyOf(p.prefix.Addr())
		this := kind{keyOf(p.ads), family}
		if known[this] {
			continue
		}
		known[this] = true
		reached := slices.DeleteFunc(slices.Clone(peers), func(peer Peer) bool {
			return len(p.reaching(peer.Name)) == 0
		})
		if slices.ContainsFunc(reached, func(peer Peer) bool { return peer.Families.Has(family) }) {
			continue
		}
		for _, peer := range reached {
			out[peer.Name] |= family
		}
	}
	return out
}

// comparePrefix orders prefixes by address, then by length.
func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// reaching returns the advertisements that announce the prefix to a peer, oldest first.
func (p *prefix) reaching(peer string) []*Advertisement {
	var out []*Advertisement
	for _, a := range p.ads {
		if a.reaches(peer) {
			out = append(out, a)
		}
	}
	return out
}

// keyOf returns a key that two lists of advertisements share only if they are the same.
func keyOf(ads []*Advertisement) string {
	var key []byte
	for _, a := range ads {
		key = append(append(key, a.Name...), 0)
	}
	return string(key)
}

// merge returns the attributes that advertisements give to a route.
func merge(peer Peer, oldestFirst []*Advertisement) Attributes {
	var out Attributes
	for _, a := range oldestFirst {
		if peer.Internal() {
			out.LocalPref = cmp.Or(out.LocalPref, a.LocalPref)
		} else {
			out.Prepend = cmp.Or(out.Prepend, a.Prepend)
		}
		if !out.HasMED && a.HasMED {
			out.MED, out.HasMED = a.MED, true
		}
		out.Communities = append(out.Communities, a.Communities...)
	}
	out.Communities = Unite(out.Communities)
	return out
}

// contradictions returns the values of younger advertisements that do not count.
func contradictions(peer Peer, at netip.Prefix, oldestFirst []*Advertisement) []Conflict {
	if len(oldestFirst) < 2 {
		return nil
	}
	var out []Conflict
	for _, field := range RouteFields {
		var kept *Advertisement
		for _, a := range oldestFirst {
			switch value, set := field.Of(a); {
			case !set || field.Internal != nil && *field.Internal != peer.Internal():
			case kept == nil:
				kept = a
			default:
				if first, _ := field.Of(kept); first != value {
					out = append(out, Conflict{peer.Name, at, field.Name, kept.Name, a.Name})
				}
			}
		}
	}
	return out
}

// RouteField is a field of an advertisement of which a route can have only one value.
type RouteField struct {
	Name string // as users write it
	// Internal is which peers get it: true for internal ones, false for external ones, nil
	// for all.
	Internal *bool
	// Of returns the value in an advertisement, and whether it is set there.
	Of func(*Advertisement) (value uint32, set bool)
}

// RouteFields are all fields of which a route can have only one value.
var RouteFields = []RouteField{
	{
		Name:     "localPref",
		Internal: new(true),
		Of:       func(a *Advertisement) (uint32, bool) { return a.LocalPref, a.LocalPref != 0 },
	},
	{
		Name: "med",
		Of:   func(a *Advertisement) (uint32, bool) { return a.MED, a.HasMED },
	},
	{
		Name:     "asPathPrepend",
		Internal: new(false),
		Of:       func(a *Advertisement) (uint32, bool) { return uint32(a.Prepend), a.Prepend != 0 },
	},
}

// weight returns the link bandwidth of a route with so many endpoints.
func weight(endpoints int) float32 {
	return float32(min(max(float64(endpoints)*weightUnit, weightMin), weightMax))
}
