package announcement

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/bgp"
	"github.com/berth-lb/berth/pkg/config"
)

// BGPInput is everything that DecideBGP looks at.
type BGPInput struct {
	Address  netip.Addr
	Services []Service // those that have the address
	Config   *config.Config
	Nodes    []Node
	// Speakers are those of all nodes that are known, by node.
	Speakers map[string]Speaker
	// Basis is that of this Config, Nodes and Speakers, for callers that decide for many
	// addresses; else nil.
	Basis *Basis

	Node string // this node
	// Settled is set when it is known which speakers are present.
	Settled bool
	// Unproxied are the Services for which the service proxy of this node is not
	// known to be ready, by name.
	Unproxied map[string]bool
	// Before is the decision before this one, the zero value for none.
	Before BGPDecision
	Now    time.Time
}

// BGPDecision is what this node does with one address by BGP.
type BGPDecision struct {
	// Announce is set when this node announces the address to its peers.
	Announce bool
	// LeavingSince is since when it does so only to ask routers to prefer other
	// nodes, until the route is withdrawn; zero when it does not.
	LeavingSince time.Time
	// Advertisements say how, by name; empty unless Announce, or where no session
	// carries the family.
	Advertisements []*bgp.Advertisement
	// Endpoints are the usable ones on this node, of all the Services with the
	// address.
	Endpoints int
	// Services are the names of those that are concerned.
	Services []string
	// Reason is "" when BGP is not concerned: no BGPAdvertisement selects the
	// pool.
	Reason  v1beta1.Reason
	Message string
}

// Equal tells whether two decisions are the same.
func (d BGPDecision) Equal(o BGPDecision) bool {
	return d.Announce == o.Announce && d.LeavingSince.Equal(o.LeavingSince) && d.Endpoints == o.Endpoints &&
		d.Reason == o.Reason && d.Message == o.Message && slices.Equal(d.Services, o.Services) &&
		slices.Equal(d.Advertisements, o.Advertisements)
}

// Route returns what [bgp.Plan] is to make of the decision for an address; ok is false if
// it is to make nothing of it. It makes something of one that would be announced if a
// session carried its family: so it is known of which peers that is to be said.
func (d BGPDecision) Route(addr netip.Addr) (route bgp.Address, ok bool) {
	if !d.Announce && d.Reason != v1beta1.ReasonNoPeerForFamily {
		return bgp.Address{}, false
	}
	return bgp.Address{
		Address:        addr,
		Advertisements: d.Advertisements,
		Endpoints:      d.Endpoints,
		LeavingSince:   d.LeavingSince,
	}, true
}

// DecideBGP says whether this node announces an address by BGP, and how. Every
// node decides for itself, and the routers spread traffic over all that do.
//
// It does so whoever else is heard: the session with a router tells better than
// membership or the API server whether traffic can come this way.
//
// The rules, in their order:
//
//  1. A pool must contain the address, a Service must have it, and a
//     BGPAdvertisement must select both. What is a node's own is announced by
//     nobody.
//  2. Some Service with the address must have a usable endpoint, or one of which the
//     control plane does not know whether it is (see [Unheard]).
//  3. This node must be selected by such an advertisement, have a network, and
//     have a usable endpoint of every Service whose externalTrafficPolicy is
//     Local.
//  4. The settings of this node's speaker must not turn BGP off, and the node must have
//     a peer of such an advertisement, and one whose session may carry the address's
//     family.
//  5. A node does not begin before its service proxy has taken up the endpoints
//     that rule 3 asks for.
//  6. A node with the exclude label leaves, where other nodes are without it (see
//     marksOf). A cordoned node leaves when another that is neither, and whose speaker
//     is present, passes rules 3 and 4; else it goes on. A node that leaves announces
//     the address for a while, in another way; one that has not announced it before
//     does not begin. Nor does a cordoned node begin before it knows which speakers are
//     present.
func DecideBGP(in BGPInput) BGPDecision {
	pools := poolsOf(in.Config, in.Address)
	switch {
	case len(in.Services) == 0:
		return BGPDecision{
			Reason:  v1beta1.ReasonNoService,
			Message: "No Service that Berth handles has the address.",
		}
	case len(pools) == 0:
		return BGPDecision{
			Services: names(in.Services),
			Reason:   v1beta1.ReasonNoPool,
			Message:  "No IPAddressPool contains the address.",
		}
	case !slices.ContainsFunc(in.Config.BGPAdvertisements, func(a *config.BGPAdvertisement) bool {
		return slices.ContainsFunc(pools, a.SelectsPool)
	}):
		return BGPDecision{}
	}
	if reason, message := in.basis().nodeOwn(in.Address, pools[0]); reason != "" {
		return BGPDecision{Services: names(in.Services), Reason: reason, Message: message}
	}
	_, services := advertised(in.Config.BGPAdvertisements, pools, in.Services)
	if len(services) == 0 {
		return BGPDecision{
			Services: names(in.Services),
			Reason:   v1beta1.ReasonNoAdvertisement,
			Message: fmt.Sprintf("No BGPAdvertisement selects pool %s and a Service with the address.",
				pools[0].Name),
		}
	}
	d := BGPDecision{Services: names(services)}
	services = slices.DeleteFunc(services, func(s Service) bool { return !s.Ready })
	ads, _ := advertised(in.Config.BGPAdvertisements, pools, services)
	self := slices.IndexFunc(in.Nodes, func(n Node) bool { return n.Name == in.Node })
	switch {
	case len(services) == 0:
		d.Reason, d.Message = v1beta1.ReasonNoEndpoint, "No Service with the address has a ready endpoint."
		return d
	case self < 0:
		d.Reason, d.Message = v1beta1.ReasonNodeUnknown, "The API server does not know this node."
		return d
	}
	node := in.Nodes[self]
	if d.Reason, d.Message = unfit(node, ads, services); d.Reason != "" {
		return d
	}
	switch d.Reason, d.Message = unreached(in, node, ads); d.Reason {
	case "":
	case v1beta1.ReasonNoPeerForFamily:
		of := labelsOf(services)
		d.Advertisements = in.Config.BGPAdvertisementsFor(in.Address, pools[0], of, node.Labels)
		return d
	default:
		return d
	}
	if d.Reason, d.Message = unproxied(in, services); d.Reason != "" && !in.Before.Announce {
		return d
	}
	if d.Reason, d.Message = leaves(in, node, ads, services); d.Reason != "" && !in.Before.Announce {
		return d
	}
	if d.Reason != "" {
		d.LeavingSince = in.Before.LeavingSince
		if d.LeavingSince.IsZero() {
			d.LeavingSince = in.Now
		}
	}
	d.announce(in, pools[0], node, services)
	return d
}

// announce fills in how the address is announced.
func (d *BGPDecision) announce(in BGPInput, pool *config.Pool, node Node, services []Service) {
	d.Announce = true
	for _, s := range services {
		d.Endpoints += s.Endpoints[node.Name]
	}
	d.Advertisements = in.Config.BGPAdvertisementsFor(in.Address, pool, labelsOf(services), node.Labels)
	if d.Reason == "" {
		var by []string
		for _, a := range d.Advertisements {
			by = append(by, a.Name)
		}
		d.Reason = v1beta1.ReasonAnnounced
		d.Message = fmt.Sprintf("This node announces the address to its BGP peers, by BGPAdvertisement %s.",
			strings.Join(by, ", "))
	}
	d.Message += assumed(services)
}

func labelsOf(services []Service) []labels.Set {
	var out []labels.Set
	for _, s := range services {
		out = append(out, s.Labels)
	}
	return out
}

// unfit says why a node cannot take the traffic of the address, or "".
func unfit(n Node, ads []*config.BGPAdvertisement, services []Service) (v1beta1.Reason, string) {
	if n.NetworkUnavailable {
		return v1beta1.ReasonNetworkUnavailable, "The network of this node is unavailable."
	}
	if !slices.ContainsFunc(ads, func(a *config.BGPAdvertisement) bool { return a.SelectsNode(n.Labels) }) {
		return v1beta1.ReasonNodeNotSelected, "No BGPAdvertisement of the address selects this node."
	}
	for _, s := range services {
		if s.Local && s.Endpoints[n.Name] == 0 {
			return v1beta1.ReasonNoLocalEndpoint,
				fmt.Sprintf("externalTrafficPolicy of Service %s is Local, "+
					"and it has no ready endpoint on this node.", s.Name)
		}
	}
	return "", ""
}

// unreached says why no router can be told of the address by a node, or "".
func unreached(in BGPInput, n Node, ads []*config.BGPAdvertisement) (v1beta1.Reason, string) {
	if in.Speakers[n.Name].NoBGP {
		return v1beta1.ReasonProtocolDisabled,
			"The speaker of this node does not announce by BGP (--bgp=false)."
	}
	reached, families := in.Config.Reached(ads, n.Labels)
	family := bgp.FamilyOf(in.Address)
	switch {
	case !reached:
		return v1beta1.ReasonPeerNotFound,
			"No BGPPeer of the BGPAdvertisements of the address selects this node."
	case !families.Has(family):
		return v1beta1.ReasonNoPeerForFamily, fmt.Sprintf("No session of this node with a peer "+
			"of the address's BGPAdvertisements carries %s: set dualStackAddressFamily at a BGPPeer, "+
			"or create one with an %s peerAddress.", family, family)
	}
	return "", ""
}

// basis returns the basis of the decision.
func (in BGPInput) basis() *Basis {
	if in.Basis.IsOf(in.Config, in.Nodes, in.Speakers) {
		return in.Basis
	}
	return BasisOf(in.Config, in.Nodes, in.Speakers)
}

// unproxied says for which Service traffic would come too early, or "".
func unproxied(in BGPInput, services []Service) (v1beta1.Reason, string) {
	for _, s := range services {
		if in.Unproxied[s.Name] {
			return v1beta1.ReasonProxyNotReady,
				fmt.Sprintf("The service proxy of this node has not programmed Service %s yet.", s.Name)
		}
	}
	return "", ""
}

// leaves says why a node that is fit leaves the address to others, or "".
func leaves(
	in BGPInput, n Node, ads []*config.BGPAdvertisement, services []Service,
) (v1beta1.Reason, string) {
	marks := marksOf(in.Nodes, in.Speakers)
	if !in.Settled { // of no other speaker is it known that it has not worked
		marks.excludes = slices.ContainsFunc(in.Nodes, func(other Node) bool { return !other.Excluded })
	}
	if marks.excluded(n) {
		return v1beta1.ReasonNodeExcluded, "This node has the label " + v1beta1.LabelExcludeNode + "."
	}
	switch {
	case !marks.cordoned(n), !in.Settled && in.Before.Announce:
		return "", ""
	case !in.Settled:
		return v1beta1.ReasonStarting,
			"This node is cordoned, and it is not known yet whether other nodes can announce the address."
	}
	for _, other := range in.Nodes {
		marked := marks.cordoned(other) || marks.excluded(other)
		if other.Name == n.Name || marked || in.Speakers[other.Name].Presence != Present {
			continue
		}
		reason, _ := unfit(other, ads, services)
		if reason == "" {
			reason, _ = unreached(in, other, ads)
		}
		if reason == "" {
			return v1beta1.ReasonNodeCordoned,
				fmt.Sprintf("This node is cordoned, and others are not, such as %s.", other.Name)
		}
	}
	return "", ""
}
