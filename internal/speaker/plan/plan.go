// Package plan says what the speakers would decide about a snapshot of API objects: it
// runs the same code on them, and needs no cluster. What speakers know and API objects do
// not say, it does not know either: what is heard on the LAN now, what is known of an
// address there, and whether a node's service proxy is ready.
package plan

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/speaker/presence"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/bgp"
	"github.com/berth-lb/berth/pkg/config"
)

// Snapshot is a cluster at one moment, as its API objects show it.
type Snapshot struct {
	Services       []corev1.Service // of all types
	EndpointSlices []discoveryv1.EndpointSlice
	Nodes          []corev1.Node
	Speakers       []v1beta1.Speaker
	// Config is the configuration in force. It is not changed.
	Config *config.Config

	Class     string // spec.loadBalancerClass of the Services that Berth serves
	Namespace string // Berth's own
}

// Plan is what the speakers make of a Snapshot. It is not safe for concurrent use.
type Plan struct {
	config   *config.Config
	cluster  *cluster.Reader
	nodes    []announcement.Node
	byName   map[string]config.Node
	speakers map[string]announcement.Speaker
	claims   map[netip.Addr]map[string]announcement.Claim
	unheard  announcement.Unheard
	services map[netip.Addr][]announcement.Service // those that were asked for
	now      time.Time

	basis    *announcement.Basis // of config, nodes and speakers
	contests *contests           // what Owner knows, nil before it is asked
}

// restartGrace is the default of the setting --restart-hold. When a speaker fell silent no
// object says: that the grace period is over, the other speakers report.
const restartGrace = time.Minute

// Of returns the plan for a snapshot, as the speakers make it at the time now. It does not
// change the snapshot.
func Of(in Snapshot, now time.Time) *Plan {
	out := read(in, now)
	out.readSpeakers(in.Speakers)
	out.unheard = announcement.Unheard{}.Next(out.nodes, out.speakers, now)
	out.basis = announcement.BasisOf(out.config, out.nodes, out.speakers)
	return out
}

// read returns a plan that knows nothing of speakers yet.
func read(in Snapshot, now time.Time) *Plan {
	objects := make([]client.Object, 0, len(in.Services)+len(in.EndpointSlices))
	for i := range in.Services {
		objects = append(objects, &in.Services[i])
	}
	for i := range in.EndpointSlices {
		objects = append(objects, &in.EndpointSlices[i])
	}
	out := &Plan{
		config: in.Config,
		cluster: cluster.NewReader(
			cluster.NewSnapshot(in.Class, objects...), in.Class, in.Namespace, nil),
		byName:   map[string]config.Node{},
		services: map[netip.Addr][]announcement.Service{},
		now:      now,
	}
	for i := range in.Nodes {
		out.nodes = append(out.nodes, announcement.ParseNode(&in.Nodes[i]))
		out.byName[in.Nodes[i].Name] = cluster.ParseNode(&in.Nodes[i])
	}
	slices.SortFunc(out.nodes, func(a, b announcement.Node) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// readSpeakers takes the speakers for what their objects say of themselves, and for what
// the others say of them where they say something else.
func (p *Plan) readSpeakers(objects []v1beta1.Speaker) {
	obs := presence.Observations{
		Node:    nobody,
		Grace:   announcement.GracePeriods{Restart: restartGrace},
		Objects: map[string]presence.Object{},
	}
	for i := range objects {
		s := &objects[i]
		o := presence.ParseObject(s, nobody)
		obs.Objects[s.Name] = o
		obs.Members = append(obs.Members, presence.Observed{
			Name:       s.Name,
			Alive:      works(s),
			Left:       !works(s),
			State:      o.State,
			Published:  true,
			Incomplete: !o.Complete,
		})
	}
	seen := presence.Next(presence.Snapshot{}, obs, p.now)
	p.claims = seen.Claims
	p.speakers = map[string]announcement.Speaker{}
	for name, m := range seen.Members {
		p.speakers[name] = m.Speaker
	}
	for name, r := range Reported(objects) {
		s, known := p.speakers[name]
		if !known {
			continue
		}
		s.Presence, s.Reason = r.Presence, r.Reason
		p.speakers[name] = s
	}
}

// works reports whether a speaker works, as far as its object says.
func works(s *v1beta1.Speaker) bool {
	ready := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionReady)
	return ready != nil && ready.Reason != string(v1beta1.ReasonNodeNotReady) &&
		ready.Reason != string(v1beta1.ReasonStopped)
}

// Report is what other speakers report of the speaker of a node.
type Report struct {
	Presence announcement.Presence
	Reason   v1beta1.Reason
	Since    metav1.Time
	// By are the nodes whose speakers report it, sorted.
	By []string
}

// presences are the values of v1beta1.MemberPresence.
var presences = map[v1beta1.MemberPresence]announcement.Presence{
	v1beta1.MemberPresent: announcement.Present,
	v1beta1.MemberLeaving: announcement.Leaving,
	v1beta1.MemberHeld:    announcement.Held,
	v1beta1.MemberGone:    announcement.Gone,
}

// Reported returns what speakers that work report of others, by node. Where a part of them
// has lost the rest, the smaller part does not count; where these are of one size, both do.
// Of different reports of one node the worst counts.
func Reported(objects []v1beta1.Speaker) map[string]Report {
	working := map[string]*v1beta1.Speaker{}
	for i := range objects {
		if works(&objects[i]) {
			working[objects[i].Name] = &objects[i]
		}
	}

	smaller := smallerParts(working)
	out := map[string]Report{}
	for _, by := range sets.List(sets.KeySet(working)) {
		if smaller.Has(by) {
			continue
		}
		for _, m := range working[by].Status.AbsentMembers {
			r, reported := out[m.Name]
			if is := presences[m.Presence]; !reported || is < r.Presence {
				r = Report{Presence: is, Reason: v1beta1.Reason(m.Reason), Since: m.Since, By: r.By}
			}
			r.By = append(r.By, by)
			out[m.Name] = r
		}
	}
	return out
}

// smallerParts returns the speakers in parts of the cluster that others miss, and that are
// smaller than the part of these.
func smallerParts(working map[string]*v1beta1.Speaker) sets.Set[string] {
	apart := map[string][]string{} // by node, those that it misses and that miss it
	for name, s := range working {
		for _, m := range s.Status.AbsentMembers {
			if working[m.Name] != nil && m.Presence != v1beta1.MemberPresent {
				apart[name], apart[m.Name] = append(apart[name], m.Name), append(apart[m.Name], name)
			}
		}
	}

	out := sets.New[string]()
	part := map[string]int{} // 1 or 2
	for _, first := range sets.List(sets.KeySet(apart)) {
		if part[first] != 0 {
			continue
		}
		part[first] = 1
		var parts [3][]string
		split := true
		for next := []string{first}; len(next) > 0; next = next[1:] {
			name := next[0]
			parts[part[name]] = append(parts[part[name]], name)
			for _, other := range apart[name] {
				if part[other] == 0 {
					part[other] = 3 - part[name]
					next = append(next, other)
				}
				split = split && part[other] != part[name]
			}
		}
		// Where it is not split in two, some miss others that are no further away than the rest.
		switch {
		case split && len(parts[1]) < len(parts[2]):
			out.Insert(parts[1]...)
		case split && len(parts[2]) < len(parts[1]):
			out.Insert(parts[2]...)
		}
	}
	return out
}

// nobody is the name of a node that there cannot be. Decisions that hold for all nodes are
// asked for in its name.
const nobody = "(kubectl berth)"

// Speaker returns what is known of the speaker of a node, as the other nodes see it.
func (p *Plan) Speaker(node string) announcement.Speaker { return p.speakers[node] }

// Claims returns by node the claims of an address. It must not be changed.
func (p *Plan) Claims(addr netip.Addr) map[string]announcement.Claim { return p.claims[addr] }

// Services returns the Services that have an address, with their endpoints, by name.
func (p *Plan) Services(addr netip.Addr) ([]announcement.Service, error) {
	known, ok := p.services[addr]
	if ok {
		return known, nil
	}
	read, err := p.cluster.Services(context.Background(), addr)
	if err != nil {
		return nil, err
	}
	p.services[addr], _ = p.unheard.Assume(read)
	return p.services[addr], nil
}

// Layer2 says which node is to answer for an address, and why the others may not. What it
// says of probing and of conflicts is no more than that these are not known here: each is
// in the Speaker object of a node.
func (p *Plan) Layer2(addr netip.Addr) (announcement.Decision, error) {
	services, err := p.Services(addr)
	if err != nil {
		return announcement.Decision{}, err
	}
	return announcement.Decide(p.layer2Input(addr, services)), nil
}

func (p *Plan) layer2Input(addr netip.Addr, services []announcement.Service) announcement.Input {
	return announcement.Input{
		Address:  addr,
		Services: services,
		Config:   p.config,
		Nodes:    p.nodes,
		Speakers: p.speakers,
		Basis:    p.basis,
		Claims:   p.claims[addr],
		Node:     nobody,
		Now:      p.now,
	}
}

// Layer2Without is Layer2 for the moment after a node has died.
func (p *Plan) Layer2Without(addr netip.Addr, node string) (announcement.Decision, error) {
	services, err := p.Services(addr)
	if err != nil {
		return announcement.Decision{}, err
	}
	in := p.layer2Input(addr, services)
	in.Speakers = maps.Clone(in.Speakers)
	gone := in.Speakers[node]
	gone.Presence, gone.Reason = announcement.Gone, v1beta1.ReasonNodeSilent
	in.Speakers[node] = gone
	return announcement.Decide(in), nil
}

// BGP says what a node is to do with an address by BGP. Of one that drains it that is not
// known: it says that the node does not begin to announce it.
func (p *Plan) BGP(addr netip.Addr, node string) (announcement.BGPDecision, error) {
	services, err := p.Services(addr)
	if err != nil {
		return announcement.BGPDecision{}, err
	}
	return p.bgpOf(addr, node, services), nil
}

func (p *Plan) bgpOf(
	addr netip.Addr, node string, services []announcement.Service,
) announcement.BGPDecision {
	return p.decideBGP(addr, node, services, p.nodes)
}

// decideBGP decides as if there were no other nodes than these.
func (p *Plan) decideBGP(
	addr netip.Addr, node string, services []announcement.Service, nodes []announcement.Node,
) announcement.BGPDecision {
	return announcement.DecideBGP(announcement.BGPInput{
		Address:  addr,
		Services: services,
		Config:   p.config,
		Nodes:    nodes,
		Speakers: p.speakers,
		Basis:    p.basis,
		Node:     node,
		Settled:  true,
		Now:      p.now,
	})
}

// Routes are what a node is to tell its peers.
type Routes struct {
	bgp.Planned
	// Peers are all that select the node, also those with which it cannot have a session.
	Peers []config.PeerOn
	// Decisions are those for each address; none if no peer is in force.
	Decisions map[netip.Addr]announcement.BGPDecision
}

// Routes returns the routes that a node is to announce for these addresses.
func (p *Plan) Routes(node string, addrs []netip.Addr) (Routes, error) {
	self, known := p.byName[node]
	if !known {
		return Routes{}, fmt.Errorf("there is no Node %s", node)
	}
	out := Routes{Peers: p.config.PeersOn(self), Decisions: map[netip.Addr]announcement.BGPDecision{}}
	var peers []bgp.Peer
	for _, peer := range out.Peers {
		if peer.InForce() {
			peers = append(peers, peer.Peer)
		}
	}
	if len(peers) == 0 || p.speakers[node].NoBGP {
		return out, nil // no decision would make a route
	}

	var routes []bgp.Address
	for _, addr := range addrs {
		services, err := p.Services(addr)
		if err != nil {
			return Routes{}, err
		}
		d := p.bgpOf(addr, node, services)
		out.Decisions[addr] = d
		if route, ok := d.Route(addr); ok {
			routes = append(routes, route)
		}
	}
	out.Planned = bgp.Plan(p.now, peers, routes)
	return out, nil
}
