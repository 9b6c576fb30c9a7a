// Package announced says what becomes of Services by BGP, as all speakers together list
// it, and reports it in a condition of each Service at a pace.
package announced

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/assignment"
	"github.com/berth-lb/berth/pkg/bgp"
	"github.com/berth-lb/berth/pkg/config"
)

// Input is everything that Evaluate takes into account.
type Input struct {
	config   *config.Config
	nodes    map[string]map[string]string // labels, by name
	services []service
	speakers []speaker
}

// InputOf returns what there is to evaluate of Services, of which a class is served,
// and of speakers. nodes are the labels of each node.
func InputOf(
	c *config.Config, nodes map[string]map[string]string, class string,
	services []corev1.Service, speakers []v1beta1.Speaker,
) Input {
	in := Input{config: c, nodes: nodes}
	for i := range services {
		s := &services[i]
		if assignment.Serves(s, class) {
			in.services = append(in.services, service{
				key:       client.ObjectKeyFromObject(s),
				labels:    s.Labels,
				addresses: assignment.StatusAddresses(s),
			})
		}
	}
	for i := range speakers {
		in.speakers = append(in.speakers, parseSpeaker(&speakers[i]))
	}
	return in
}

// service is a Service that Berth serves, with its addresses.
type service struct {
	key       types.NamespacedName
	labels    labels.Set
	addresses []netip.Addr
}

// speaker is what the speaker of a node says that it does by BGP.
type speaker struct {
	node string
	// announces are addresses that it announces, sorted. It announces others too
	// unless complete.
	announces []netipx.IPRange
	complete  bool
	sessions  []session // that are established
}

// session is an established session, and the families that it carries.
type session struct {
	peer     string
	families bgp.Families
}

// Outcome is what is said of a Service: who announces its addresses by BGP, to how
// many sessions.
type Outcome struct {
	Reason  v1beta1.Reason
	Message string
}

// announced reports whether all addresses reach a router.
func (s Outcome) announced() bool { return s.Reason == v1beta1.ReasonAnnounced }

// unknown reports whether it is not known.
func (s Outcome) unknown() bool { return s.Reason == v1beta1.ReasonNotListed }

// address is what is known of one address of one Service.
type address struct {
	addr    netip.Addr
	service int
	kind    int // of advertisements, see evaluation

	announcing, idle nodesOf // nodes with sessions for it, and without
	sessions         int
	listed           int // by speakers that do not list all
}

func (a address) compare(addr netip.Addr) int { return a.addr.Compare(addr) }

// nodesOf is a number of nodes, and the names of the first.
type nodesOf struct {
	count int
	names []string
}

// namedNodes is how many nodes a message names.
const namedNodes = 5

func (n *nodesOf) add(name string) {
	if n.count++; n.count <= namedNodes {
		n.names = append(n.names, name)
	}
}

func (n nodesOf) String() string {
	names := strings.Join(n.names, ", ")
	if more := n.count - len(n.names); more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("%s (%s)", counted(n.count, "node"), names)
}

// counted returns a number of things.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// Evaluate says what becomes of the addresses of each Service by BGP, as far as
// BGPAdvertisements select any of them. What is wrong with one address counts for
// the Service:
//
//  1. Sessions with peers of its advertisements must carry its family.
//  2. A node must announce it.
//  3. A node that does must have an established session for it.
//
// It takes time in proportion to the addresses that all nodes announce.
func Evaluate(in Input) map[types.NamespacedName]Outcome {
	j := evaluation{Input: in, kinds: map[string]int{}}
	j.collect()
	slices.SortFunc(in.speakers, func(a, b speaker) int { return cmp.Compare(a.node, b.node) })
	for _, s := range in.speakers {
		j.count(s)
	}
	byService := map[int][]address{}
	for _, a := range j.addresses {
		byService[a.service] = append(byService[a.service], a)
	}
	out := map[types.NamespacedName]Outcome{}
	for i, list := range byService {
		out[in.services[i].key] = j.sum(list)
	}
	return out
}

// evaluation is Evaluate at work.
type evaluation struct {
	Input
	addresses []address // sorted
	// kinds number the sets of advertisements that there are, by their names.
	kinds      map[string]int
	ads        [][]*config.BGPAdvertisement // by kind
	incomplete int                          // speakers that do not list all
}

// collect finds the addresses that are for BGP.
func (j *evaluation) collect() {
	for i, s := range j.services {
		for _, addr := range s.addresses {
			pool := j.config.PoolOf(addr)
			if pool == nil {
				continue
			}
			var ads []*config.BGPAdvertisement
			name := ""
			for _, a := range j.config.BGPAdvertisements {
				if a.SelectsPool(pool) && a.SelectsService(s.labels) {
					ads = append(ads, a)
					name += a.Name + " "
				}
			}
			if len(ads) == 0 {
				continue
			}
			kind, known := j.kinds[name]
			if !known {
				kind = len(j.ads)
				j.kinds[name], j.ads = kind, append(j.ads, ads)
			}
			j.addresses = append(j.addresses, address{addr: addr, service: i, kind: kind})
		}
	}
	slices.SortStableFunc(j.addresses, func(a, b address) int { return a.addr.Compare(b.addr) })
}

// count adds what one speaker announces.
func (j *evaluation) count(s speaker) {
	nodeLabels, known := j.nodes[s.node]
	if !known {
		return // the node is gone, and its speaker with it
	}
	if !s.complete {
		j.incomplete++
	}
	const unknown = -1
	sessions := slices.Repeat([]int{unknown}, 2*len(j.ads)) // by kind, for each IPv4 and IPv6
	for _, r := range s.announces {
		at, _ := slices.BinarySearchFunc(j.addresses, r.From(), address.compare)
		for ; at < len(j.addresses) && !r.To().Less(j.addresses[at].addr); at++ {
			a := &j.addresses[at]
			family := bgp.FamilyOf(a.addr)
			n := &sessions[2*a.kind+int(family-bgp.IPv4)]
			if *n == unknown {
				*n = s.sessionsFor(j.ads[a.kind], nodeLabels, family)
			}
			a.sessions += *n
			if *n > 0 {
				a.announcing.add(s.node)
			} else {
				a.idle.add(s.node)
			}
			if !s.complete {
				a.listed++
			}
		}
	}
}

// sessionsFor counts the sessions over which a node announces addresses of a family.
func (s speaker) sessionsFor(
	ads []*config.BGPAdvertisement, nodeLabels labels.Set, family bgp.Families,
) int {
	n := 0
	for _, session := range s.sessions {
		if session.families.Has(family) && slices.ContainsFunc(ads, func(a *config.BGPAdvertisement) bool {
			return a.SelectsNode(nodeLabels) && a.Reaches(session.peer)
		}) {
			n++
		}
	}
	return n
}

// sum sums up what becomes of the addresses of a Service.
func (j *evaluation) sum(list []address) Outcome {
	out := Outcome{Reason: v1beta1.ReasonAnnounced}
	of := map[string][]string{} // addresses, by what is said of them
	var said []string
	for _, a := range list {
		reason, text := j.outcomeOf(a)
		if out.announced() || out.unknown() && reason != v1beta1.ReasonAnnounced {
			out.Reason = reason
		}
		if of[text] == nil {
			said = append(said, text)
		}
		of[text] = append(of[text], a.addr.String())
	}
	var sentences []string
	for _, text := range said {
		sentences = append(sentences, strings.Join(of[text], ", ")+": "+text)
	}
	out.Message = strings.Join(sentences, " ")
	return out
}

// outcomeOf says what becomes of one address.
func (j *evaluation) outcomeOf(a address) (v1beta1.Reason, string) {
	ads, family := j.ads[a.kind], bgp.FamilyOf(a.addr)
	var names []string
	var carried bgp.Families
	for _, ad := range ads {
		names = append(names, ad.Name)
		carried |= ad.Carried
	}
	by := "BGPAdvertisement " + strings.Join(names, ", ")
	more := ""
	if unlisted := j.incomplete - a.listed; unlisted > 0 {
		more = fmt.Sprintf(" Perhaps from more: the Speaker objects of %s do not list all that they "+
			"announce.",
			counted(unlisted, "node"))
	}
	switch {
	case a.sessions > 0:
		text := fmt.Sprintf("announced by BGP from %s to %s, by %s.",
			a.announcing, counted(a.sessions, "session"), by)
		if a.idle.count > 0 {
			text += fmt.Sprintf(" Without an established session for it: %s.", a.idle)
		}
		return v1beta1.ReasonAnnounced, text + more
	case carried == 0:
		return v1beta1.ReasonPeerNotFound,
			fmt.Sprintf("no BGPPeer in force has sessions for %s, so no router is told.", by)
	case !carried.Has(family):
		return v1beta1.ReasonNoPeerForFamily, fmt.Sprintf("no session for %s carries %s, so no router is "+
			"told. Set dualStackAddressFamily to true at a BGPPeer whose router takes %s routes, or create "+
			"a BGPPeer with an %s peerAddress.",
			by, family, family, family)
	case more != "":
		return v1beta1.ReasonNotListed, "it is not known whether a node announces it." + more
	case a.idle.count > 0:
		return v1beta1.ReasonNoSession, fmt.Sprintf("no established session carries it; to be announced by "+
			"BGP from %s: see kubectl get bgppeers.", a.idle)
	}
	return v1beta1.ReasonNoNodeAnnounces, "no node announces it by BGP: no Service with it has a ready " +
		"endpoint, or no selected node can take its traffic. The log of each speaker says why."
}
