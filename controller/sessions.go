package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/bgp"
	"github.com/berth-lb/berth/pkg/config"
)

// trimSpeaker keeps of a cached Speaker what its node does by BGP, what it says of
// BGPPeers that cannot be in force on it, the addresses of its links, and what
// advertisements ask of nodes. Counts of routes, which change with every Service, are
// not kept.
func trimSpeaker(in any) (any, error) {
	s, ok := in.(*v1beta1.Speaker)
	if !ok {
		return in, nil
	}
	s.ManagedFields, s.Annotations, s.Labels = nil, nil, nil
	said := s.Status.BGP
	kept := v1beta1.SpeakerBGP{Count: said.Count, AddressCount: said.AddressCount, Addresses: said.Addresses}
	for _, session := range s.Status.BGP.Sessions {
		short := v1beta1.BGPSession{Peer: session.Peer, Reason: session.Reason, Problem: session.Problem}
		if session.State == v1beta1.BGPEstablished {
			short.State = session.State
			short.Families = familyNames(familiesOf(session))
		}
		kept.Sessions = append(kept.Sessions, short)
	}
	var links []v1beta1.SpeakerLink
	for _, l := range s.Status.Links {
		links = append(links, v1beta1.SpeakerLink{Name: l.Name, Up: l.Up, Prefixes: l.Prefixes})
	}
	s.Status = v1beta1.SpeakerStatus{
		HasWorked:    s.Status.Worked(),
		ExcludeLabel: s.Status.ExcludeLabel,
		Links:        links,
		BGP:          kept,
	}
	return s, nil
}

// saidOfPeer is what a speaker says of one BGPPeer.
type saidOfPeer struct {
	problem  string       // why it cannot be in force on the node
	up       bool         // whether it has a session
	families bgp.Families // of the session
}

// saidOfPeers is what a speaker says of BGPPeers, by their names.
func saidOfPeers(s *v1beta1.Speaker) map[string]saidOfPeer {
	out := map[string]saidOfPeer{}
	for _, session := range s.Status.BGP.Sessions {
		out[session.Peer] = saidOfPeer{session.Problem, session.State == v1beta1.BGPEstablished, familiesOf(session)}
	}
	return out
}

// familyNames are families as the API writes them.
func familyNames(families bgp.Families) (out []v1beta1.BGPFamily) {
	for _, f := range families.List() {
		out = append(out, v1beta1.BGPFamily(f.String()))
	}
	return out
}

// sessionsDelay gathers changes of many sessions into one write to a BGPPeer.
const sessionsDelay = time.Second

// peersOfSpeakers has the status of those BGPPeers looked at of which a speaker
// says something else than before, and of all when there is a speaker more or less.
// again is called when what it announces has changed.
func peersOfSpeakers(state *state, again func()) handler.TypedEventHandler[client.Object, objectKey] {
	type queue = workqueue.TypedRateLimitingInterface[objectKey]
	all := func(q queue) {
		again()
		c, _ := state.configuration()
		for _, p := range c.BGPPeers {
			q.AddAfter(objectKey{config.KindBGPPeer, p.Name}, sessionsDelay)
		}
	}
	return handler.TypedFuncs[client.Object, objectKey]{
		CreateFunc: func(_ context.Context, _ event.CreateEvent, q queue) { all(q) },
		DeleteFunc: func(_ context.Context, _ event.DeleteEvent, q queue) { all(q) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			before, after := e.ObjectOld.(*v1beta1.Speaker), e.ObjectNew.(*v1beta1.Speaker)
			if saysOtherOfBGP(before, after) {
				again()
			}
			was, is := saidOfPeers(before), saidOfPeers(after)
			for _, of := range []map[string]saidOfPeer{was, is} {
				for peer := range of {
					if was[peer] != is[peer] {
						q.AddAfter(objectKey{config.KindBGPPeer, peer}, sessionsDelay)
					}
				}
			}
		},
	}
}

// seenOfPeer is what is known of a BGPPeer on all nodes.
type seenOfPeer struct {
	// problem says on which nodes it is not in force; its reason is "" when on none.
	problem config.Problem
	// sessions is on how many nodes with a speaker it should have one, established on
	// how many it has.
	sessions, established int32
	// families are those that established sessions carry.
	families bgp.Families
}

// onNodes reads what speakers say of a BGPPeer.
func (r *statusReconciler) onNodes(ctx context.Context, peer string) (seenOfPeer, error) {
	var speakers v1beta1.SpeakerList
	if err := r.cached.List(ctx, &speakers, client.UnsafeDisableDeepCopy); err != nil {
		return seenOfPeer{}, fmt.Errorf("list Speakers: %w", err)
	}
	c, nodes := r.state.configuration()
	return seenOnNodes(c.BGPPeer(peer), peer, nodes, speakers.Items), nil
}

// seenOnNodes sums up what speakers say of a BGPPeer. It has no parsed form, nil,
// when it is not in force and never was.
func seenOnNodes(
	p *config.BGPPeer, peer string, nodes map[string]map[string]string, speakers []v1beta1.Speaker,
) seenOfPeer {
	out := seenOfPeer{problem: config.Problem{Kind: config.KindBGPPeer, Name: peer}}
	named := map[string][]string{} // nodes, by problem
	count := 0
	for i := range speakers {
		s := &speakers[i]
		if nodeLabels, known := nodes[s.Name]; known && p != nil && p.SelectsNode(nodeLabels) {
			out.sessions++
		}
		for _, session := range s.Status.BGP.Sessions {
			switch {
			case session.Peer != peer:
				continue
			case session.State == v1beta1.BGPEstablished:
				out.established++
				out.families |= familiesOf(session)
			}
			if session.Problem == "" {
				continue
			}
			if reason := v1beta1.Reason(session.Reason); out.problem.Reason != v1beta1.ReasonSecretNotFound {
				out.problem.Reason = reason
			}
			named[session.Problem] = append(named[session.Problem], s.Name)
			count++
		}
	}
	var told []string
	for _, problem := range slices.Sorted(maps.Keys(named)) {
		told = append(told, fmt.Sprintf("On %s: %s", someOf(named[problem]), strings.TrimSuffix(problem, ".")))
	}
	if count > 0 {
		out.problem.Message = fmt.Sprintf("Not in force as written on nodes, of which there are %d. %s.", count, strings.Join(told, ". "))
	}
	return out
}

// mostNodes is how many nodes a message names.
const mostNodes = 20

// someOf lists nodes for a person, a few of many.
func someOf(nodes []string) string {
	slices.Sort(nodes)
	if len(nodes) > mostNodes {
		return fmt.Sprintf("%s and %d more", strings.Join(nodes[:mostNodes], ", "), len(nodes)-mostNodes)
	}
	return strings.Join(nodes, ", ")
}
