package presence

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/berth-lb/berth/pkg/announcement"
)

// TestWitnessesFollowWhoIsAlive: whoever dies and comes, each node has the witnesses that it
// would have if they were chosen anew from all that are alive.
func TestWitnessesFollowWhoIsAlive(t *testing.T) {
	const steps = 300
	r := rand.New(rand.NewPCG(1, 2))
	var nodes []string
	for i := range 24 {
		nodes = append(nodes, fmt.Sprintf("node%d", i))
	}
	slices.Sort(nodes)
	some := func(of []string, part float64) []string {
		return slices.DeleteFunc(slices.Clone(of), func(string) bool { return r.Float64() > part })
	}

	var w witnesses
	alive := some(nodes, 0.5)
	for step := range steps {
		switch {
		case r.IntN(20) == 0: // a partition, or its end
			alive = some(nodes, r.Float64())
		case len(alive) > 0 && r.IntN(2) == 0:
			i := r.IntN(len(alive))
			alive = slices.Delete(slices.Clone(alive), i, i+1)
		default:
			alive = append(slices.Clone(alive), nodes[r.IntN(len(nodes))])
			slices.Sort(alive)
			alive = slices.Compact(alive)
		}
		known := some(nodes, 0.9) // others are new, or forgotten
		w = w.next(known, alive)
		for _, node := range known {
			if want := announcement.Witnesses(node, alive); !slices.Equal(w.of[node], want) {
				t.Fatalf("step %d: of %v %s has the witnesses %v, want %v",
					step, alive, node, w.of[node], want)
			}
		}
		if len(w.of) != len(known) {
			t.Fatalf("step %d: it remembers %d nodes of %d", step, len(w.of), len(known))
		}
	}
}
