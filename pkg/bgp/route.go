package bgp

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Attributes are the path attributes of a route besides its next hop.
type Attributes struct {
	// LocalPref is for internal peers; 0 stands for the usual 100, and with the
	// community GracefulShutdown for 0.
	LocalPref uint32
	// MED is sent when HasMED is set.
	MED    uint32
	HasMED bool
	// Prepend is how many times more than once LocalASN stands in the AS path
	// towards external peers.
	Prepend int
	// Communities are sorted, each once. Link bandwidth is among them.
	Communities []Community
}

// Equal reports whether a peer would see the same.
func (a Attributes) Equal(b Attributes) bool {
	return a.LocalPref == b.LocalPref && a.MED == b.MED && a.HasMED == b.HasMED && a.Prepend == b.Prepend &&
		slices.Equal(a.Communities, b.Communities)
}

// Leaving returns the attributes of a route that every router shall avoid, because it is
// about to be withdrawn. Internal peers that do not know the community see the lowest
// LOCAL_PREF (RFC 8326, 4).
func (a Attributes) Leaving() Attributes {
	a.LocalPref = 0
	a.Communities = Unite(a.Communities, []Community{GracefulShutdown})
	return a
}

// Route is a prefix that is announced to a peer.
type Route struct {
	Prefix netip.Prefix // masked
	Attributes
}

// Equal reports whether two routes are the same to a peer.
func (r Route) Equal(s Route) bool { return r.Prefix == s.Prefix && r.Attributes.Equal(s.Attributes) }

// Advertisement is how addresses are announced, as a BGPAdvertisement says.
type Advertisement struct {
	Name string
	// Created orders advertisements: the older one decides, of the same age
	// the one whose name is first.
	Created time.Time

	Length4, Length6 int // of the prefixes announced
	LocalPref        uint32
	MED              uint32
	HasMED           bool
	Prepend          int
	Communities      []Community
	Weight           bool     // by usable endpoints
	Peers            []string // empty for all
}

// compareAge orders advertisements, older first.
func compareAge(a, b *Advertisement) int {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name))
}

// PrefixOf returns what an advertisement announces for an address.
func (a *Advertisement) PrefixOf(addr netip.Addr) netip.Prefix {
	length := a.Length6
	if addr.Is4() {
		length = a.Length4
	}
	return netip.PrefixFrom(addr, length).Masked()
}

// reaches reports whether a peer gets the routes of the advertisement.
func (a *Advertisement) reaches(peer string) bool {
	return len(a.Peers) == 0 || slices.Contains(a.Peers, peer)
}
