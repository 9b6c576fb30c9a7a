package configuration

import (
	"cmp"
	"slices"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/state"
	"github.com/berth-lb/berth/pkg/config"
)

// Judge returns what the Ready condition of each configuration object comes to say, by
// what the controller remembers and the speakers report, sorted by kind and name: also of
// those of which nothing is wrong. Interfaces that no node has are among it, although the
// controller waits for InterfaceGracePeriod before it reports them.
func Judge(s *state.State, speakers []v1beta1.Speaker) []config.Problem {
	c, nodes := s.Configuration()
	places := placesOf(nodes, speakers)
	var out []config.Problem
	for _, key := range s.Objects() {
		p, _ := s.ProblemOf(key)
		if key.Kind == config.KindBGPPeer {
			p = worse(p, seenOnNodes(c.BGPPeer(key.Name), key.Name, nodes, speakers).problem)
		}
		if asks, found := reachOf(c, key); found && comesAfterReach(p) {
			p = afterReach(p, asks.judge(places))
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b config.Problem) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// WritePool writes into the status of a pool what is known of it, and reports whether the
// reason or the message of its Ready condition differs from before.
func WritePool(pool *v1beta1.IPAddressPool, known state.Pool) (changed bool) {
	fill(&pool.Status, known.PoolCounts)
	changed = setReady(known.Problem, known.Generation, &pool.Status.Conditions)
	setObserved(pool, known.Problem, known.Generation)
	return changed
}
