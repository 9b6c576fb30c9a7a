package view

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/pkg/announcement"
)

// NodeKinds are the kinds that Nodes needs.
var NodeKinds = slices.Concat(ServiceKinds, []snapshot.Kind{snapshot.Pods})

// reasonNoSpeaker is the word for a node without a Speaker object.
const reasonNoSpeaker = "NoSpeaker"

// NodeRows returns the nodes that a filter wants, by name, with what their speakers say.
func (f *Facts) NodeRows(want Filter) v1alpha1.NodeList {
	out := v1alpha1.NodeList{
		TypeMeta: v1alpha1.TypeMeta("NodeList"),
		ListMeta: v1alpha1.ListMeta{Unread: f.Unread()},
		Items:    []v1alpha1.Node{},
	}
	names := map[string]bool{}
	for i := range f.Nodes {
		names[f.Nodes[i].Name] = true
	}
	for i := range f.Speakers {
		names[f.Speakers[i].Name] = true
	}
	for _, name := range sortedKeys(names) {
		if !is(want.Node, name) || !f.nodeLabelled(name, want) || !f.nodeMatches(name, want) {
			continue
		}
		if row := f.nodeRow(name); !want.Problems || len(row.Problems) > 0 {
			out.Items = append(out.Items, row)
		}
	}
	return out
}

func (f *Facts) nodeLabelled(name string, want Filter) bool {
	if want.Labels == nil || want.Labels.Empty() {
		return true
	}
	n := f.node(name)
	return n != nil && want.labelled(n.Labels)
}

// nodeMatches reports whether a node has to do with what else is wanted: it has a session
// with the peer, or announces such an address.
func (f *Facts) nodeMatches(name string, want Filter) bool {
	if want.Peer != "" && !f.hasSession(name, want.Peer) {
		return false
	}
	if want.Pool == "" && want.Service == "" && want.Namespace == "" && !want.Address.IsValid() {
		return true
	}
	for addr, holders := range f.holders {
		if want.Address.IsValid() && addr != want.Address || !f.announces(name, addr) {
			continue
		}
		for _, s := range holders {
			if want.wantsService(s.Namespace, s.Name) && is(want.Pool, f.poolOf(s, addr)) {
				return true
			}
		}
	}
	return false
}

// announces reports whether a node says that it announces an address.
func (f *Facts) announces(node string, addr netip.Addr) bool {
	return slices.ContainsFunc(f.layer2[addr], func(a v1alpha1.Announcer) bool { return a.Node == node }) ||
		slices.ContainsFunc(f.bgp, func(n bgpNode) bool { return n.node == node && n.set.Contains(addr) })
}

// nodeRow returns what is known of a node.
func (f *Facts) nodeRow(name string) v1alpha1.Node {
	row := v1alpha1.Node{Name: name, Reason: reasonNoSpeaker}
	s, n := f.speaker(name), f.node(name)
	if s != nil {
		fillNode(&row, s)
	}
	if !f.Has(snapshot.Speakers) {
		row.Reason = Unknown
	}
	if n != nil {
		row.Marks = marksOf(announcement.ParseNode(n), s)
	}
	if r, absent := f.reports[name]; absent {
		row.Presence, row.PresenceReason = r.Presence.String(), string(r.Reason)
	}
	row.Problems = f.nodeProblems(row, s, n != nil)
	return row
}

// fillNode fills in what the Speaker object of a node says.
func fillNode(row *v1alpha1.Node, s *v1beta1.Speaker) {
	row.Stage, row.Version = string(s.Status.Stage), s.Status.Version
	row.MemberAddress, row.Reason = s.Status.MemberAddress, Unknown
	if c := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionReady); c != nil {
		row.Reason, row.Message, row.Since = c.Reason, c.Message, c.LastTransitionTime
	}
	l2 := s.Status.Layer2
	row.Owned, row.StandsInFor = int(l2.Owned), int(l2.Count-l2.Owned)
	row.Conflicts, row.BGPAddresses = int(l2.ConflictCount), s.Status.BGP.AddressCount
	row.BGP = v1alpha1.SessionsState{
		Sessions: int(s.Status.BGP.Count),
		Up:       int(s.Status.BGP.Established),
	}
	row.BFD = v1alpha1.SessionsState{Sessions: int(s.Status.BFD.Count), Up: int(s.Status.BFD.Up)}
	for _, m := range s.Status.AbsentMembers {
		row.Misses = append(row.Misses, m.Name)
	}
	if more := int(s.Status.AbsentCount) - len(row.Misses); more > 0 {
		row.Misses = append(row.Misses, fmt.Sprintf("and %d more", more))
	}
	for _, l := range s.Status.Links {
		row.Links = append(row.Links, v1alpha1.Link{
			Name:     l.Name,
			Up:       l.Up,
			Prefixes: l.Prefixes,
			Problem:  l.Problem,
		})
	}
}

// marksOf returns the marks of a node, and what they mean to its speaker.
func marksOf(n announcement.Node, s *v1beta1.Speaker) []string {
	var out []string
	add := func(mark string, ignored bool) {
		if ignored {
			mark += " (ignored)"
		}
		out = append(out, mark)
	}
	if n.Excluded {
		add("Excluded", s != nil && s.Status.ExcludeLabel == v1beta1.MarkIgnored)
	}
	if n.Cordoned {
		add("Cordoned", s != nil && s.Status.Cordon == v1beta1.MarkIgnored)
	}
	return out
}

// nodeProblems returns what is wrong with the speaker of a node.
func (f *Facts) nodeProblems(row v1alpha1.Node, s *v1beta1.Speaker, isNode bool) []v1alpha1.Problem {
	var out []v1alpha1.Problem
	add := func(severity v1alpha1.Severity, reason, message string) {
		out = append(out, problem(severity, speakerRef(row.Name), reason, message,
			"kubectl berth explain node/"+row.Name))
	}
	if s == nil {
		if isNode && f.wantsSpeaker(row.Name) {
			add(v1alpha1.Error, reasonNoSpeaker, "The node has a speaker's pod, and no Speaker object.")
		}
		return out
	}
	if ready := meta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionReady); ready == nil ||
		ready.Status != "True" {
		add(v1alpha1.Error, row.Reason, row.Message)
	}
	for _, c := range s.Status.Conditions {
		if c.Type != v1beta1.ConditionReady && c.Status == "False" {
			add(v1alpha1.Error, c.Reason, c.Message)
		}
	}
	if r, absent := f.reports[row.Name]; absent && r.Presence != announcement.Present {
		add(v1alpha1.Error, string(r.Reason), seenBy(r)+".")
	}
	for _, l := range row.Links {
		if l.Problem != "" {
			add(v1alpha1.Warning, "Link", l.Name+": "+l.Problem)
		}
	}
	return out
}

// wantsSpeaker reports whether there is a pod of a speaker on a node.
func (f *Facts) wantsSpeaker(node string) bool {
	for i := range f.Pods {
		p := &f.Pods[i]
		if p.Spec.NodeName == node && p.Labels["app.kubernetes.io/component"] == "speaker" {
			return true
		}
	}
	return false
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	out := make([]K, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
