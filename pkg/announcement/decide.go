// Package announcement is the speaker's decision for one address: which node
// answers for it, on which links, and why. It is pure: no clock, client, log
// or lock. Speakers with the same view come to the same decision without
// asking each other.
//
// The rules for layer 2, in their order:
//
//  1. A pool must contain the address, a Service must have it, and an
//     L2Advertisement must select both.
//  2. Some Service with the address must have a usable endpoint.
//  3. A node is a candidate when an advertisement selects it, its speaker is
//     alive, it is neither excluded by label nor without network, and it has
//     a usable endpoint of every Service whose externalTrafficPolicy is Local.
//  4. Among the candidates the highest preference weight wins, then the
//     highest rendezvous hash of address and name.
//  5. The owner announces on the interfaces that the advertisements name;
//     where they name none, on those whose subnet holds the address, else on
//     all that can carry it.
package announcement

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
	"github.com/berth-lb/berth/pkg/layer2"
)

// Input is everything that Decide looks at.
type Input struct {
	Address  netip.Addr
	Services []Service // those that have the address
	Config   *config.Config
	Nodes    []Node
	Alive    sets.Set[string] // nodes whose speaker is a live member

	Node  string        // this node
	Links []layer2.Link // this node's
	// ExcludeLinks are not chosen unless an advertisement names them.
	ExcludeLinks []*regexp.Regexp
}

// Decision is the outcome for one address.
type Decision struct {
	// Announce is set when this node answers for the address, on Links.
	Announce bool
	Links    []string // sorted; empty unless Announce
	// Owner is the node that answers for the address, "" for none.
	Owner string
	// Services are the names of those that are concerned.
	Services []string
	Reason   v1beta1.Reason
	Message  string
	// Rejections are the nodes that are no candidate, in the order given.
	Rejections []Rejection
}

// Rejection says why one node is no candidate.
type Rejection struct {
	Node   string
	Reason v1beta1.Reason
}

// Decide says which node answers for an address and, if it is this one, on
// which links.
func Decide(in Input) Decision {
	pool := in.Config.PoolOf(in.Address)
	switch {
	case len(in.Services) == 0:
		return Decision{Reason: v1beta1.ReasonNoService, Message: "No Service that Berth serves has the address."}
	case pool == nil:
		return Decision{Services: names(in.Services), Reason: v1beta1.ReasonNoPool, Message: "No IPAddressPool contains the address."}
	}
	ads, services := advertised(in, pool)
	if len(services) == 0 {
		return Decision{Services: names(in.Services), Reason: v1beta1.ReasonNoAdvertisement,
			Message: fmt.Sprintf("No L2Advertisement selects pool %s and a Service with the address.", pool.Name)}
	}
	d := Decision{Services: names(services)}
	services = slices.DeleteFunc(services, func(s Service) bool { return !s.Ready })
	if len(services) == 0 {
		d.Reason, d.Message = v1beta1.ReasonNoEndpoint, "No Service with the address has a ready endpoint."
		return d
	}
	candidates, rejections := filter(in, ads, services)
	d.Rejections = rejections
	owner, ok := layer2.Elect(in.Address, candidates)
	switch {
	case !ok:
		d.Reason, d.Message = v1beta1.ReasonNoCandidate, "No node can announce the address: "+listed(rejections)+"."
		return d
	case owner != in.Node:
		d.Owner, d.Reason, d.Message = owner, v1beta1.ReasonNotOwner, fmt.Sprintf("Node %s announces the address.", owner)
		return d
	}
	d.Owner = owner
	links, why := layer2.Choose(in.Address, in.Links, selection(in, ads))
	if len(links) == 0 {
		d.Reason, d.Message = v1beta1.ReasonNoLink, fmt.Sprintf("This node owns the address but has no link for it: %s.", why)
		return d
	}
	d.Announce, d.Reason, d.Links = true, v1beta1.ReasonOwner, linkNames(links)
	d.Message = fmt.Sprintf("This node announces the address on %s: %s.", strings.Join(d.Links, ", "), why)
	return d
}

// advertised are the advertisements that apply to the address, and the
// Services that at least one of them selects.
func advertised(in Input, pool *config.Pool) (ads []*config.L2Advertisement, services []Service) {
	selected := sets.New[string]()
	for _, a := range in.Config.L2Advertisements {
		if !a.SelectsPool(pool) {
			continue
		}
		applies := false
		for _, s := range in.Services {
			if a.SelectsService(s.Labels) {
				selected.Insert(s.Name)
				applies = true
			}
		}
		if applies {
			ads = append(ads, a)
		}
	}
	for _, s := range in.Services {
		if selected.Has(s.Name) {
			services = append(services, s)
		}
	}
	return ads, services
}

// filter sorts the nodes into those that may announce, with their weight,
// and those that may not.
func filter(in Input, ads []*config.L2Advertisement, services []Service) (may []layer2.Candidate, mayNot []Rejection) {
	for _, n := range in.Nodes {
		if reason := rejected(n, in.Alive, ads, services); reason != "" {
			mayNot = append(mayNot, Rejection{n.Name, reason})
			continue
		}
		c := layer2.Candidate{Name: n.Name}
		for _, a := range ads {
			if a.SelectsNode(n.Labels) {
				c.Weight += a.Weight(n.Labels)
			}
		}
		may = append(may, c)
	}
	return may, mayNot
}

// rejected says why a node may not announce, or "".
func rejected(n Node, alive sets.Set[string], ads []*config.L2Advertisement, services []Service) v1beta1.Reason {
	switch {
	case n.Excluded:
		return v1beta1.ReasonNodeExcluded
	case n.NetworkUnavailable:
		return v1beta1.ReasonNetworkUnavailable
	case !slices.ContainsFunc(ads, func(a *config.L2Advertisement) bool { return a.SelectsNode(n.Labels) }):
		return v1beta1.ReasonNodeNotSelected
	case !alive.Has(n.Name):
		return v1beta1.ReasonSpeakerNotAlive
	case slices.ContainsFunc(services, func(s Service) bool { return s.Local && !s.Endpoints.Has(n.Name) }):
		return v1beta1.ReasonNoLocalEndpoint
	}
	return ""
}

// selection is what the advertisements that select this node say of its
// interfaces. One that names none leaves the choice open for all.
func selection(in Input, ads []*config.L2Advertisement) layer2.Selection {
	named := sets.New[string]()
	i := slices.IndexFunc(in.Nodes, func(n Node) bool { return n.Name == in.Node })
	for _, a := range ads {
		if !a.SelectsNode(in.Nodes[i].Labels) {
			continue
		}
		if len(a.Interfaces) == 0 {
			named = nil
			break
		}
		named.Insert(a.Interfaces...)
	}
	return layer2.Selection{Names: sets.List(named), Exclude: in.ExcludeLinks}
}

func names(services []Service) []string {
	var out []string
	for _, s := range services {
		out = append(out, s.Name)
	}
	slices.Sort(out)
	return out
}

func linkNames(links []layer2.Link) []string {
	var out []string
	for _, l := range links {
		out = append(out, l.Name)
	}
	slices.Sort(out)
	return out
}

// listed writes rejections for a person, a few of many.
func listed(rejections []Rejection) string {
	const most = 20
	if len(rejections) == 0 {
		return "the cluster has no nodes"
	}
	var out []string
	for i, r := range rejections {
		if i == most {
			out = append(out, fmt.Sprintf("and %d more", len(rejections)-most))
			break
		}
		out = append(out, fmt.Sprintf("%s (%s)", r.Node, r.Reason))
	}
	return strings.Join(out, ", ")
}
