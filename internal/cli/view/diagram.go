package view

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// DashboardKinds are the kinds that the dashboard needs.
var DashboardKinds = slices.Concat(StatusKinds, []snapshot.Kind{snapshot.Events})

// Diagram is who tells what to whom: routers, nodes and addresses, with lines between them.
type Diagram struct {
	Routers, Nodes, Addresses Column
	// Sessions go from routers to nodes, Announcements from nodes to addresses.
	Sessions, Announcements []Line
	// Unknown says what is not drawn because it could not be read, or is not listed.
	Unknown []string
}

// Column is one column of a Diagram: those that need a look come before others, and More is
// how many there are besides.
type Column struct {
	Spots []Spot
	More  int
}

// Spot is a router, a node or an address in a Diagram.
type Spot struct {
	// Name is that of the router or the node, the address, or the Service that has none.
	Name string
	// Note is what stands under the name: of an address, who holds it.
	Note   string
	State  v1alpha1.StepState
	Reason string
	Text   string
	Ref    v1alpha1.Ref // what explains it
}

// LineKind is what a line of a Diagram stands for.
type LineKind string

// The kinds of lines.
const (
	LineSession LineKind = "session" // of BGP
	LineOwner   LineKind = "owner"   // the node answers by ARP and NDP
	LineStandIn LineKind = "standin" // and does so in the place of another
	LineBGP     LineKind = "bgp"     // the node announces the address to routers
	LineNext    LineKind = "next"    // the node would answer, if another died
)

// Line goes from a Spot to one of the next column, by their indexes.
type Line struct {
	From, To int
	Kind     LineKind
	State    v1alpha1.StepState
	Text     string
	// Lost is set in what would be if a node died: the line would not be there.
	Lost bool
}

// How much a Diagram has: more cannot be read by a person.
const (
	mostRouters   = 12
	mostNodes     = 30
	mostAddresses = 60
)

// Diagram returns who tells what to whom now.
func (f *Facts) Diagram() Diagram {
	addresses, announced := f.addressSpots()
	out := Diagram{Addresses: addresses}
	out.Nodes = f.nodeSpots(announced)
	out.Routers = f.routerSpots()
	f.drawSessions(&out)
	f.drawAnnouncements(&out, announced)
	if !f.Has(snapshot.Speakers) {
		out.Unknown = append(out.Unknown, "Which nodes announce what, and their sessions: the Speaker "+
			"objects could not be read.")
	} else if !f.layer2Complete || !f.bgpComplete {
		out.Unknown = append(out.Unknown, "Some announcements: some Speaker objects have no room to list "+
			"all that their nodes announce.")
	}
	if !f.Has(snapshot.Services) {
		out.Unknown = append(out.Unknown, "Some addresses: not all Services could be read.")
	}
	if !f.Has(snapshot.BGPPeers) {
		out.Unknown = append(out.Unknown, "Routers without a session: the BGPPeers could not be read.")
	}
	if !f.Has(snapshot.Nodes) {
		out.Unknown = append(out.Unknown, "Nodes without a speaker: the Nodes could not be read.")
	}
	return out
}

// rankOf puts what needs a look first.
func rankOf(s v1alpha1.StepState) int {
	return slices.Index([]v1alpha1.StepState{
		v1alpha1.StepProblem, v1alpha1.StepUnknown, v1alpha1.StepOK, v1alpha1.StepInfo,
	}, s)
}

// column keeps the first of what is there, those that need a look before others, and puts
// what it keeps in order.
func column(all []Spot, most int, order func(a, b Spot) int) Column {
	out := Column{Spots: all}
	if len(all) > most {
		slices.SortStableFunc(all, func(a, b Spot) int {
			return cmp.Compare(rankOf(a.State), rankOf(b.State))
		})
		out.Spots, out.More = all[:most], len(all)-most
	}
	slices.SortStableFunc(out.Spots, order)
	return out
}

func byName(a, b Spot) int { return cmp.Compare(a.Name, b.Name) }

// addressSpots returns the addresses of Services, and the Services that have none, with the
// nodes that announce each.
func (f *Facts) addressSpots() (Column, map[string]v1alpha1.ServiceAddress) {
	announced := map[string]v1alpha1.ServiceAddress{}
	var all []Spot
	decided := 0
	for _, s := range f.services {
		row := f.serviceRow(s, &decided)
		if len(row.Addresses) == 0 {
			all = append(all, Spot{
				Name:   row.Namespace + "/" + row.Name,
				Note:   "has no address",
				State:  stateOfReason(row.Reason, string(v1beta1.ReasonAssigned)),
				Reason: row.Reason,
				Text:   row.Message,
				Ref:    serviceRef(s),
			})
		}
		for _, a := range row.Addresses {
			if _, shared := announced[a.Address]; shared {
				continue
			}
			announced[a.Address] = a
			spot := Spot{
				Name:   a.Address,
				Note:   noteOf(row, a),
				State:  stateOf(announcedWell(a.Reason)),
				Reason: a.Reason,
				Text:   a.Message,
				Ref:    v1alpha1.Ref{Kind: "address", Name: a.Address},
			}
			if a.Reason == Unknown {
				spot.State = v1alpha1.StepUnknown
			}
			all = append(all, spot)
		}
	}
	first := func(s Spot) string {
		if a := announced[s.Name]; len(a.Layer2) > 0 {
			return a.Layer2[0].Node
		}
		return "\uffff" // after all nodes
	}
	return column(all, mostAddresses, func(a, b Spot) int {
		left, _ := netip.ParseAddr(a.Name)
		right, _ := netip.ParseAddr(b.Name)
		return cmp.Or(cmp.Compare(first(a), first(b)), left.Compare(right), cmp.Compare(a.Name, b.Name))
	}), announced
}

// stateOfReason returns the state of what is right for one reason alone.
func stateOfReason(reason, right string) v1alpha1.StepState {
	if reason == Unknown {
		return v1alpha1.StepUnknown
	}
	return stateOf(reason == right)
}

// noteOf says who holds an address, and who announces it if many nodes do.
func noteOf(s v1alpha1.Service, a v1alpha1.ServiceAddress) string {
	note := s.Namespace + "/" + s.Name
	if n := len(a.SharedWith); n > 0 {
		note += fmt.Sprintf(" and %d more", n)
	}
	if a.BGPCount > mostBGPNodes {
		note += fmt.Sprintf(", BGP from %d nodes", a.BGPCount)
	}
	return note
}

// nodeSpots returns the nodes, those that announce the addresses drawn before others.
func (f *Facts) nodeSpots(announced map[string]v1alpha1.ServiceAddress) Column {
	at := map[string]bool{}
	for _, a := range announced {
		for _, l := range a.Layer2 {
			at[l.Node] = true
		}
		for _, node := range a.BGP {
			at[node] = true
		}
	}
	var all []Spot
	for _, row := range f.NodeRows(Filter{}).Items {
		spot := Spot{
			Name:   row.Name,
			Note:   strings.Join(row.Marks, ", "),
			State:  v1alpha1.StepInfo,
			Reason: row.Reason,
			Text:   row.Message,
			Ref:    v1alpha1.Ref{Kind: "node", Name: row.Name},
		}
		switch {
		case len(row.Problems) > 0:
			spot.State, spot.Reason, spot.Text =
				v1alpha1.StepProblem, row.Problems[0].Reason, row.Problems[0].Message
		case row.Reason == Unknown:
			spot.State = v1alpha1.StepUnknown
		case at[row.Name] || f.speaker(row.Name) != nil && len(f.Nodes) <= mostNodes:
			spot.State = v1alpha1.StepOK
		}
		all = append(all, spot)
	}
	return column(all, mostNodes, byName)
}

// routerSpots returns the BGP peers, also those that only Speaker objects name.
func (f *Facts) routerSpots() Column {
	peers := map[string]*v1alpha1.SessionsState{}
	for i := range f.BGPPeers {
		peers[f.BGPPeers[i].Name] = &v1alpha1.SessionsState{}
	}
	unknown := map[string]int{}
	for i := range f.Speakers {
		for _, s := range f.sessionsOf(&f.Speakers[i]) {
			if peers[s.Peer] == nil {
				peers[s.Peer] = &v1alpha1.SessionsState{}
			}
			peers[s.Peer].Sessions++
			switch s.State {
			case string(v1beta1.BGPEstablished):
				peers[s.Peer].Up++
			case Unknown:
				unknown[s.Peer]++
			}
		}
	}
	var all []Spot
	for _, name := range sortedKeys(peers) {
		n := peers[name]
		spot := Spot{
			Name:  name,
			Note:  fmt.Sprintf("%d of %d established", n.Up, n.Sessions),
			State: stateOf(n.Up == n.Sessions && n.Sessions > 0),
			Ref:   v1alpha1.Ref{Kind: "peer", Name: name},
		}
		switch {
		case !f.Has(snapshot.Speakers):
			spot.State, spot.Note = v1alpha1.StepUnknown, "sessions not known"
		case n.Sessions == 0:
			spot.State, spot.Note = v1alpha1.StepInfo, "no sessions"
		case n.Up < n.Sessions && n.Up+unknown[name] == n.Sessions:
			spot.State = v1alpha1.StepUnknown
		}
		all = append(all, spot)
	}
	return column(all, mostRouters, byName)
}

// places returns the index of each Spot of a column by its name.
func places(c Column) map[string]int {
	out := map[string]int{}
	for i, s := range c.Spots {
		out[s.Name] = i
	}
	return out
}

// drawSessions adds a line for each session between what is drawn.
func (f *Facts) drawSessions(d *Diagram) {
	routers, nodes := places(d.Routers), places(d.Nodes)
	for i := range f.Speakers {
		to, drawn := nodes[f.Speakers[i].Name]
		if !drawn {
			continue
		}
		for _, s := range f.sessionsOf(&f.Speakers[i]) {
			from, drawn := routers[s.Peer]
			if !drawn {
				continue
			}
			text := fmt.Sprintf("%s and %s: %s", s.Node, s.Peer, s.State)
			if len(s.Problems) > 0 {
				text += ". " + s.Problems[0].Message
			}
			d.Sessions = append(d.Sessions, Line{
				From:  from,
				To:    to,
				Kind:  LineSession,
				State: stateOfReason(s.State, string(v1beta1.BGPEstablished)),
				Text:  text,
			})
		}
	}
}

// drawAnnouncements adds a line for each node that answers for an address, and for each that
// announces it by BGP where these are few.
func (f *Facts) drawAnnouncements(d *Diagram, announced map[string]v1alpha1.ServiceAddress) {
	nodes := places(d.Nodes)
	add := func(node string, to int, kind LineKind, text string) {
		if from, drawn := nodes[node]; drawn {
			d.Announcements = append(d.Announcements, Line{
				From:  from,
				To:    to,
				Kind:  kind,
				State: v1alpha1.StepOK,
				Text:  text,
			})
		}
	}
	for to, spot := range d.Addresses.Spots {
		a := announced[spot.Name]
		for _, l := range a.Layer2 {
			kind := LineOwner
			if l.StandInFor != "" {
				kind = LineStandIn
			}
			add(l.Node, to, kind, spot.Name+": "+f.tellAnnouncer(l))
		}
		if a.BGPCount > mostBGPNodes {
			continue // the Spot says how many
		}
		for _, node := range a.BGP {
			add(node, to, LineBGP, fmt.Sprintf("%s: %s announces it by BGP", spot.Name, node))
		}
	}
}
