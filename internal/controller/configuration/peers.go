package configuration

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/announced"
	"github.com/berth-lb/berth/pkg/bgp"
	"github.com/berth-lb/berth/pkg/config"
)

// saidOfPeer is what a speaker says of one BGPPeer.
type saidOfPeer struct {
	problem  string       // why it cannot be in force on the node
	up       bool         // whether it has a session
	families bgp.Families // of the session
}

// saidOfPeers returns what a speaker says of BGPPeers, by their names.
func saidOfPeers(s *v1beta1.Speaker) map[string]saidOfPeer {
	out := map[string]saidOfPeer{}
	for _, session := range s.Status.BGP.Sessions {
		out[session.Peer] = saidOfPeer{
			problem:  session.Problem,
			up:       session.State == v1beta1.BGPEstablished,
			families: announced.FamiliesOf(session),
		}
	}
	return out
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
func (r *StatusReconciler) onNodes(ctx context.Context, peer string) (seenOfPeer, error) {
	var speakers v1beta1.SpeakerList
	if err := r.cached.List(ctx, &speakers, client.UnsafeDisableDeepCopy); err != nil {
		return seenOfPeer{}, fmt.Errorf("list Speakers: %w", err)
	}
	c, nodes := r.state.Configuration()
	return seenOnNodes(c.BGPPeer(peer), peer, nodes, speakers.Items), nil
}

// seenOnNodes sums up what speakers say of a BGPPeer. It has no parsed form, nil,
// when it is not in force and never was.
func seenOnNodes(
	p *config.BGPPeer, peer string, nodes map[string]map[string]string, speakers []v1beta1.Speaker,
) seenOfPeer {
	off := disabled(config.KindBGPPeer, peer, v1beta1.ProtocolBGP, placesOf(nodes, speakers))
	if off.Reason != "" {
		return seenOfPeer{problem: off}
	}
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
				out.families |= announced.FamiliesOf(session)
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
	var parts []string
	for _, problem := range slices.Sorted(maps.Keys(named)) {
		parts = append(parts, fmt.Sprintf("On %s: %s", someOf(named[problem]),
			strings.TrimSuffix(problem, ".")))
	}
	if count > 0 {
		on := "1 node"
		if count > 1 {
			on = fmt.Sprintf("%d nodes", count)
		}
		out.problem.Message = fmt.Sprintf("Not in force as written on %s. %s.", on, strings.Join(parts, ". "))
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
