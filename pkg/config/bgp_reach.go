package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/bgp"
)

// Families returns those that sessions of the peer may carry, on a node with these labels:
// none where no session can be. What annotations of the node say is not known here, and
// may be anything.
func (p *BGPPeer) Families(nodeLabels labels.Set) bgp.Families {
	if p.both || p.peer.Interface != "" {
		return bgp.DualStack
	}
	address := p.peer.Address
	switch from, perNode := p.perNode["peerAddress"]; {
	case perNode && from.label == "":
		return bgp.DualStack
	case perNode && nodeLabels.Has(from.label):
		var err error
		if address, err = parseHost(strings.TrimSpace(nodeLabels[from.label])); err != nil {
			return 0
		}
	}
	if !address.IsValid() {
		return 0
	}
	return bgp.FamilyOf(address)
}

// Reached reports whether a node with these labels may have sessions with peers of
// advertisements that select it, and which families these carry. It leaves out only what
// certainly is not so.
func (c *Config) Reached(
	ads []*BGPAdvertisement, nodeLabels labels.Set,
) (reached bool, families bgp.Families) {
	for _, p := range c.BGPPeers {
		if p.rival != nil || !p.SelectsNode(nodeLabels) {
			continue
		}
		if slices.ContainsFunc(ads, func(a *BGPAdvertisement) bool {
			return a.SelectsNode(nodeLabels) && a.Reaches(p.Name)
		}) {
			reached = true
			families |= p.Families(nodeLabels)
		}
	}
	return reached, families
}

// carriedBy returns the families in which a peer may get routes of the advertisement from
// any of these nodes, and reports whether there is such a node. Where no nodes are known,
// there may be any.
func (a *BGPAdvertisement) carriedBy(
	p *BGPPeer, nodes map[string]map[string]string,
) (some bool, families bgp.Families) {
	_, differs := p.perNode["peerAddress"]
	switch {
	case len(nodes) == 0 && differs:
		return true, bgp.DualStack
	case len(nodes) == 0:
		return true, p.Families(nil)
	}
	for _, set := range nodes {
		if !a.SelectsNode(set) || !p.SelectsNode(set) {
			continue
		}
		some = true
		if families |= p.Families(set); !differs || families == bgp.DualStack {
			break // the other nodes have nothing to add
		}
	}
	return some, families
}

// lookForFamilies sets the families in which addresses of the advertisement can reach a
// router, and returns which of its pools have others.
func (a *BGPAdvertisement) lookForFamilies(c *Config, nodes map[string]map[string]string) []Problem {
	var peers []string
	shared := false
	a.Carried = 0
	for _, p := range c.BGPPeers {
		if p.rival != nil || !a.Reaches(p.Name) {
			continue
		}
		peers = append(peers, p.Name)
		some, families := a.carriedBy(p, nodes)
		shared = shared || some
		a.Carried |= families
	}
	switch {
	case len(peers) == 0, selectsNone(a.Nodes, nodes): // told as such
		return nil
	case !shared:
		return []Problem{{KindBGPAdvertisement, a.Name, v1beta1.ReasonPeerNotFound, fmt.Sprintf(
			"No node that spec.nodeSelectors selects has a session with a peer of this advertisement "+
				"(%s), so no router is told. Correct spec.nodeSelectors or spec.peers, or the "+
				"nodeSelectors of the peers.",
			fewOf(peers))}}
	}
	var out []Problem
	for _, family := range (bgp.DualStack &^ a.Carried).List() {
		var pools []string
		for _, p := range c.Pools {
			if p.Gone.IsZero() && a.SelectsPool(p) && p.families().Has(family) {
				pools = append(pools, p.Name)
			}
		}
		if len(pools) > 0 {
			message := fmt.Sprintf("Pools have %s addresses (%s), and no session with a peer of this "+
				"advertisement (%s) carries %s: no router is told of them. Set dualStackAddressFamily to "+
				"true at a BGPPeer whose router takes %s routes, create a BGPPeer with an %s peerAddress, "+
				"or have the advertisement select other pools.",
				family, fewOf(pools), fewOf(peers), family, family, family)
			out = append(out, Problem{KindBGPAdvertisement, a.Name, v1beta1.ReasonNoPeerForFamily, message})
		}
	}
	return out
}

// families returns those of which the pool has addresses.
func (p *Pool) families() (out bgp.Families) {
	for _, r := range p.Ranges {
		out |= bgp.FamilyOf(r.From())
	}
	return out
}

// findSameRouterIDs returns the problems of peers that have one router see several nodes of one AS
// with the same BGP identifier, as far as labels of nodes tell. Of peers that have the
// same router by its address, all nodes count.
func findSameRouterIDs(c *Config, nodes map[string]map[string]string) map[*BGPPeer]Problem {
	type identity struct{ router, asn, id string }
	type user struct {
		peer *BGPPeer
		node string
	}
	users := map[identity][]user{}
	for _, p := range c.BGPPeers {
		if p.rival != nil || !p.mayHaveRouterID() {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(nodes)) {
			if !p.SelectsNode(nodes[name]) {
				continue
			}
			key := identity{p.routerOn(nodes[name]), p.localASNOn(nodes[name]), p.routerIDOn(nodes[name])}
			if key.asn != "" && key.id != "" {
				users[key] = append(users[key], user{p, name})
			}
		}
	}
	found := map[*BGPPeer][]string{}
	for _, key := range slices.SortedFunc(maps.Keys(users), func(a, b identity) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.router, b.router), cmp.Compare(a.asn, b.asn))
	}) {
		var names []string
		for _, u := range users[key] {
			names = append(names, u.node)
		}
		slices.Sort(names)
		if names = slices.Compact(names); len(names) < 2 {
			continue
		}
		for i, u := range users[key] {
			first := slices.IndexFunc(users[key], func(o user) bool { return o.peer == u.peer })
			if first == i {
				found[u.peer] = append(found[u.peer], fmt.Sprintf("%s is that of %s", key.id, fewOf(names)))
			}
		}
	}
	out := map[*BGPPeer]Problem{}
	for p, texts := range found {
		out[p] = Problem{KindBGPPeer, p.Name, v1beta1.ReasonSameRouterID, fmt.Sprintf(
			"spec.routerID: nodes have the same BGP identifier, which must differ within an AS (RFC "+
				"6286), and routers may refuse all but one of them: %s. Leave routerID out, so that each "+
				"node uses its own IPv4 address, give each node its own with perNode.routerID, or have "+
				"nodeSelectors select one node.",
			fewOf(texts))}
	}
	return out
}

// mayHaveRouterID reports whether nodes are given a BGP identifier.
func (p *BGPPeer) mayHaveRouterID() bool {
	_, perNode := p.perNode["routerID"]
	return perNode || p.peer.RouterID.IsValid()
}

// routerIDOn returns the BGP identifier that a node with these labels is given, "" where it
// is given none or that is not known here.
func (p *BGPPeer) routerIDOn(nodeLabels labels.Set) string {
	from, perNode := p.perNode["routerID"]
	switch {
	case perNode && from.label == "":
		return ""
	case perNode && nodeLabels.Has(from.label):
		return strings.TrimSpace(nodeLabels[from.label])
	case p.peer.RouterID.IsValid():
		return p.peer.RouterID.String()
	}
	return ""
}

// localASNOn returns the AS number by which a node with these labels calls itself, "" where
// that is not known here.
func (p *BGPPeer) localASNOn(nodeLabels labels.Set) string {
	from, perNode := p.perNode["myASN"]
	switch {
	case p.local != 0:
		return strconv.FormatUint(uint64(p.local), 10)
	case perNode && from.label == "":
		return ""
	case perNode && nodeLabels.Has(from.label):
		return strings.TrimSpace(nodeLabels[from.label])
	}
	return strconv.FormatUint(uint64(p.peer.LocalASN), 10)
}

// routerOn returns a name of the router that a node with these labels has a session with. Two
// peers have the same router by this name only if they certainly have; one peer that
// finds its router on each node has one by this name.
func (p *BGPPeer) routerOn(nodeLabels labels.Set) string {
	address := ""
	if p.peer.Address.IsValid() {
		address = p.peer.Address.String()
	}
	if from, perNode := p.perNode["peerAddress"]; perNode && nodeLabels.Has(from.label) {
		address = strings.TrimSpace(nodeLabels[from.label])
	} else if perNode && from.label == "" || address == "" {
		return "of " + p.Name
	}
	return fmt.Sprintf("%s %s %d", address, p.peer.VRF, p.peer.Port)
}

// fewOf returns names for a person, the first of many.
func fewOf(names []string) string {
	const most = 8
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
