package announcement

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// KubeletReturn is how long what the cluster says of the pods of a node may be wrong after
// the kubelet of the node is heard again: the kubelet repairs the status of its pods within
// ten seconds, and the EndpointSlice controller may pause for a while after writes that
// failed.
const KubeletReturn = time.Minute

// Unheard are the nodes whose kubelets the control plane does not hear, or did not until a
// while ago, with the time when that was last so. Of the pods there it says that they are
// not ready, and does not know it: a whole cluster loses its endpoints when the kubelets do
// not reach the API server for a minute, while all pods answer.
type Unheard map[string]time.Time

// Next returns who is unheard at the time now. A node whose speaker is gone or leaves is
// not: of that one it is known that its pods get no traffic.
func (u Unheard) Next(nodes []Node, speakers map[string]Speaker, now time.Time) Unheard {
	var out Unheard
	for _, n := range nodes {
		last, known := u[n.Name]
		if n.ReadyUnknown {
			last, known = now, true
		}
		if !known || now.Sub(last) >= KubeletReturn || lost(speakers, n.Name) {
			continue
		}
		if out == nil {
			out = Unheard{}
		}
		out[n.Name] = last
	}
	return out
}

// lost reports whether the speaker of a node is known not to work. Of a node that has no
// speaker nothing is known.
func lost(speakers map[string]Speaker, node string) bool {
	s, known := speakers[node]
	return known && (s.Presence == Gone || s.Presence == Leaving)
}

// Assume returns the Services of an address as decisions are to see them: one that has no
// usable endpoint at all is taken to have those that are not ready on unheard nodes. It is
// no worse served by that: where they are dead, nobody else could answer. Until is when an
// endpoint is no longer assumed, although nothing changes; zero for never.
func (u Unheard) Assume(services []Service) (out []Service, until time.Time) {
	if len(u) == 0 {
		return services, time.Time{}
	}
	out = slices.Clone(services)
	for i := range out {
		s := &out[i]
		if s.Ready {
			continue
		}
		for node, count := range s.NotReady {
			last, unheard := u[node]
			if !unheard {
				continue
			}
			if s.Assumed == nil {
				s.Ready, s.Assumed = true, map[string]int{}
			}
			s.Assumed[node] = count
			if end := last.Add(KubeletReturn); until.IsZero() || end.Before(until) {
				until = end
			}
		}
		if s.Assumed != nil {
			s.Endpoints = s.Assumed
		}
	}
	return out, until
}

// assumed says as a sentence of which nodes endpoints are assumed to be ready, "" for none.
func assumed(services []Service) string {
	nodes := map[string]bool{}
	for _, s := range services {
		for node := range s.Assumed {
			nodes[node] = true
		}
	}
	if len(nodes) == 0 {
		return ""
	}
	names := slices.Sorted(maps.Keys(nodes))
	more := ""
	if len(names) > 3 {
		names, more = names[:3], fmt.Sprintf(" and %d more", len(names)-3)
	}
	return fmt.Sprintf(" No endpoint is ready, but the control plane does not hear the kubelets of %s%s, "+
		"or heard them again less than %v ago: so it does not know.",
		strings.Join(names, ", "), more, KubeletReturn)
}
