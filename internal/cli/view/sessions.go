package view

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/pkg/config"
)

// SessionRows returns the sessions that a filter wants, by node and peer.
func (f *Facts) SessionRows(want Filter) v1alpha1.SessionList {
	out := v1alpha1.SessionList{
		TypeMeta: v1alpha1.TypeMeta("SessionList"),
		ListMeta: v1alpha1.ListMeta{Unread: f.Unread()},
		Items:    []v1alpha1.Session{},
	}
	for i := range f.Speakers {
		s := &f.Speakers[i]
		if !is(want.Node, s.Name) || !f.nodeMatches(s.Name, want) {
			continue
		}
		for _, row := range f.sessionsOf(s) {
			if is(want.Peer, row.Peer) && f.peerLabelled(row.Peer, want) &&
				(!want.Problems || len(row.Problems) > 0) {
				out.Items = append(out.Items, row)
			}
		}
		if more := int(s.Status.BGP.Count) - len(s.Status.BGP.Sessions); more > 0 {
			out.Remarks = append(out.Remarks, fmt.Sprintf(
				"%d more sessions of node %s are not listed in its Speaker object.", more, s.Name))
		}
	}
	slices.SortStableFunc(out.Items, func(a, b v1alpha1.Session) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Peer, b.Peer))
	})
	return out
}

func (f *Facts) peerLabelled(peer string, want Filter) bool {
	if want.Labels == nil || want.Labels.Empty() {
		return true
	}
	i := slices.IndexFunc(f.BGPPeers, func(p v1beta1.BGPPeer) bool { return p.Name == peer })
	return i >= 0 && want.labelled(f.BGPPeers[i].Labels)
}

// sessionsOf returns the sessions that a speaker lists, and those that the configuration
// asks for and it does not list.
func (f *Facts) sessionsOf(s *v1beta1.Speaker) []v1alpha1.Session {
	bfd := map[string]*v1alpha1.BFD{}
	for _, b := range s.Status.BFD.Sessions {
		bfd[b.Peer] = &v1alpha1.BFD{
			State:         string(b.State),
			Since:         b.Since,
			Problem:       b.Problem,
			Downs:         b.Downs,
			LastDownCause: b.LastDownCause,
			DetectionTime: b.DetectionTime,
		}
	}
	var out []v1alpha1.Session
	listed := map[string]bool{}
	for _, b := range s.Status.BGP.Sessions {
		listed[b.Peer] = true
		row := sessionRow(s.Name, b)
		row.BFD = bfd[b.Peer]
		row.Problems = sessionProblems(row)
		out = append(out, row)
	}
	if len(s.Status.BGP.Sessions) < int(s.Status.BGP.Count) {
		return out // those that are missing may be among the rest
	}
	for _, name := range f.peersOf(s.Name) {
		if !listed[name] {
			row := v1alpha1.Session{
				Node:    s.Name,
				Peer:    name,
				State:   Unknown,
				Problem: "The BGPPeer selects the node, whose speaker does not list the session.",
			}
			row.Problems = sessionProblems(row)
			out = append(out, row)
		}
	}
	return out
}

// peersOf returns the BGPPeers that select a node, by name; none if that is not known.
func (f *Facts) peersOf(node string) []string {
	n := f.node(node)
	if n == nil || f.config == nil {
		return nil
	}
	var out []string
	for _, p := range f.config.PeersOn(cluster.ParseNode(n)) {
		out = append(out, p.Name)
	}
	return out
}

func sessionRow(node string, b v1beta1.BGPSession) v1alpha1.Session {
	row := v1alpha1.Session{
		Node:           node,
		Peer:           b.Peer,
		State:          string(b.State),
		Since:          b.Since,
		LocalAddress:   b.LocalAddress,
		RemoteAddress:  b.RemoteAddress,
		LocalASN:       b.LocalASN,
		PeerASN:        b.PeerASN,
		AdvertisedIPv4: b.AdvertisedIPv4,
		AdvertisedIPv6: b.AdvertisedIPv6,
		Withheld:       b.Withheld,
		Reason:         b.Reason,
		Problem:        b.Problem,
		LastError:      b.LastError,
		LastErrorTime:  b.LastErrorTime,
		LastEnd:        b.LastEnd,
		LastEndTime:    b.LastEndTime,
		Notification:   b.LastNotification,
	}
	for _, family := range b.Families {
		row.Families = append(row.Families, string(family))
	}
	return row
}

// sessionProblems returns what is wrong with a session.
func sessionProblems(row v1alpha1.Session) []v1alpha1.Problem {
	var out []v1alpha1.Problem
	object := v1alpha1.Ref{Kind: "bgppeer", Name: row.Peer}
	add := func(severity v1alpha1.Severity, reason, message string) {
		out = append(out, problem(severity, object, reason, "Node "+row.Node+": "+message,
			fmt.Sprintf("kubectl berth sessions --peer %s --node %s -o wide", row.Peer, row.Node)))
	}
	switch {
	case row.State == Unknown:
		add(v1alpha1.Warning, Unknown, row.Problem)
	case row.State != string(v1beta1.BGPEstablished):
		why := cmp.Or(row.Problem, row.LastError, row.LastEnd, "There is no session.")
		add(v1alpha1.Error, row.State, why)
	case row.Problem != "":
		add(v1alpha1.Warning, row.Reason, row.Problem)
	}
	if row.Withheld != "" {
		add(v1alpha1.Warning, "Withheld", row.Withheld)
	}
	if row.BFD != nil && row.BFD.State != string(v1beta1.BFDUp) {
		why := cmp.Or(row.BFD.Problem, row.BFD.LastDownCause, "BFD is not up.")
		add(v1alpha1.Error, "BFD"+row.BFD.State, why)
	}
	return out
}

// SessionKinds are the kinds that Sessions needs, RouteKinds those that Routes does.
var (
	SessionKinds = ServiceKinds
	RouteKinds   = ServiceKinds
)

// errNoRoutes is returned if too little could be read to plan routes.
var errNoRoutes = errors.New("what the nodes announce cannot be computed")

// RouteRows returns what each node is to tell each peer, as far as a filter wants it. It is
// computed by the code of the speakers; what the routers make of it is not known.
func (f *Facts) RouteRows(want Filter) (v1alpha1.RouteList, error) {
	out := v1alpha1.RouteList{
		TypeMeta: v1alpha1.TypeMeta("RouteList"),
		ListMeta: f.listMeta(),
		Items:    []v1alpha1.Route{},
	}
	if f.speakers == nil {
		return out, fmt.Errorf("%w: %s", errNoRoutes, f.whyNoSpeakers())
	}
	out.Remarks = append(out.Remarks, remarkPlanned)
	for i := range f.Nodes {
		node := f.Nodes[i].Name
		if !is(want.Node, node) || f.speaker(node) == nil {
			continue
		}
		rows, err := f.routesOf(node, want)
		if err != nil {
			return out, err
		}
		out.Items = append(out.Items, rows...)
	}
	slices.SortStableFunc(out.Items, func(a, b v1alpha1.Route) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Peer, b.Peer))
	})
	return out, nil
}

// remarkPlanned says what routes are.
const remarkPlanned = "Computed from API objects: what a service proxy that is not ready holds back, " +
	"and what a router makes of a route, is not known from here."

// routesOf returns the routes of one node.
func (f *Facts) routesOf(node string, want Filter) ([]v1alpha1.Route, error) {
	planned, err := f.speakers.Routes(node, f.addresses())
	if err != nil {
		return nil, err
	}
	states := map[string]v1alpha1.Session{}
	for _, s := range f.sessionsOf(f.speaker(node)) {
		states[s.Peer] = s
	}
	wanted := f.wantedPrefixes(planned.Decisions)
	var out []v1alpha1.Route
	for _, d := range planned.Desired {
		if !is(want.Peer, d.Peer.Name) || !f.peerLabelled(d.Peer.Name, want) {
			continue
		}
		for _, r := range d.Routes {
			row := routeRow(node, d.Peer, r)
			session := states[d.Peer.Name]
			row.Session = cmp.Or(session.State, Unknown)
			if row.Session != string(v1beta1.BGPEstablished) {
				row.Problems = session.Problems
			}
			if f.addWanted(&row, wanted[r.Prefix], want) && (!want.Problems || len(row.Problems) > 0) {
				out = append(out, row)
			}
		}
	}
	return out, nil
}

// noSession says for a node and a peer with which it has none why, by the configuration.
func noSession(p config.PeerOn) string {
	switch {
	case p.Rival != nil:
		return p.Conflicting(p.Rival).Message
	case p.Err != nil:
		return p.Err.Error()
	}
	return ""
}
