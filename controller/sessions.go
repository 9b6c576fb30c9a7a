package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
)

// trimSpeaker keeps of a cached Speaker what nodes say of BGPPeers that cannot
// be in force on them.
func trimSpeaker(in any) (any, error) {
	s, ok := in.(*v1beta1.Speaker)
	if !ok {
		return in, nil
	}
	s.ManagedFields, s.Annotations, s.Labels = nil, nil, nil
	var sessions []v1beta1.BGPSession
	for _, session := range s.Status.BGP.Sessions {
		if session.Problem != "" {
			sessions = append(sessions, v1beta1.BGPSession{Peer: session.Peer, Reason: session.Reason, Problem: session.Problem})
		}
	}
	s.Status = v1beta1.SpeakerStatus{BGP: v1beta1.SpeakerBGP{Sessions: sessions}}
	return s, nil
}

// problemsOf is what a speaker says of BGPPeers that cannot be in force on its
// node, by peer.
func problemsOf(s *v1beta1.Speaker) map[string]string {
	out := map[string]string{}
	for _, session := range s.Status.BGP.Sessions {
		if session.Problem != "" {
			out[session.Peer] = session.Problem
		}
	}
	return out
}

// peersOfSpeakers has the status of those BGPPeers looked at of which a speaker
// says something else than before.
func peersOfSpeakers() handler.TypedEventHandler[client.Object, objectKey] {
	type queue = workqueue.TypedRateLimitingInterface[objectKey]
	differ := func(before, after map[string]string, q queue) {
		for _, of := range []map[string]string{before, after} {
			for peer := range of {
				if before[peer] != after[peer] {
					q.AddAfter(objectKey{config.KindBGPPeer, peer}, statusDelay)
				}
			}
		}
	}
	of := func(o client.Object) map[string]string { return problemsOf(o.(*v1beta1.Speaker)) }
	return handler.TypedFuncs[client.Object, objectKey]{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { differ(nil, of(e.Object), q) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) { differ(of(e.ObjectOld), of(e.ObjectNew), q) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { differ(of(e.Object), nil, q) },
	}
}

// onNodes is what is wrong with a BGPPeer on nodes, by what their speakers say;
// the reason is "" when nothing is.
func onNodes(ctx context.Context, cached client.Reader, peer string) (config.Problem, error) {
	var speakers v1beta1.SpeakerList
	if err := cached.List(ctx, &speakers); err != nil {
		return config.Problem{}, fmt.Errorf("list Speakers: %w", err)
	}
	out := config.Problem{Kind: config.KindBGPPeer, Name: peer}
	nodes := map[string][]string{} // by problem
	count := 0
	for _, s := range speakers.Items {
		for _, session := range s.Status.BGP.Sessions {
			if session.Peer != peer || session.Problem == "" {
				continue
			}
			if reason := v1beta1.Reason(session.Reason); out.Reason != v1beta1.ReasonSecretNotFound {
				out.Reason = reason
			}
			nodes[session.Problem] = append(nodes[session.Problem], s.Name)
			count++
		}
	}
	var told []string
	for _, problem := range slices.Sorted(maps.Keys(nodes)) {
		told = append(told, fmt.Sprintf("On %s: %s", someOf(nodes[problem]), strings.TrimSuffix(problem, ".")))
	}
	if count > 0 {
		out.Message = fmt.Sprintf("Not in force as written on nodes, of which there are %d. %s.", count, strings.Join(told, ". "))
	}
	return out, nil
}

// someOf lists nodes for a person, a few of many.
func someOf(nodes []string) string {
	const most = 20
	slices.Sort(nodes)
	if len(nodes) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(nodes[:most], ", "), len(nodes)-most)
	}
	return strings.Join(nodes, ", ")
}
