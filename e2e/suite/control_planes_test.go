package suite

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestControlPlanesOnly: every node carries the label that kubeadm puts on control planes. Addresses are
// announced all the same, until there is a node without it: that one takes them over, and no request is lost.
func TestControlPlanesOnly(t *testing.T) {
	const label = "node.kubernetes.io/exclude-from-external-load-balancers"
	nodes := cluster.NodeNames()
	for _, node := range nodes {
		kubectl(t, "label", "node", node, label+"=")
		cleanup(t, "label", "node", node, label+"-")
	}
	apply(t, web("control", nodes...))
	apply(t, pool("control", spans(95, 95)))
	apply(t, service("control", "control", ""))
	addr := hasAddress(t, "control")
	served(t, addr)
	before := ownedBy(t, addr)
	eventually(t, 5*time.Second, "the advertisement tells of the label", func() (bool, string) {
		got := condition(t, "l2advertisement control", "Ready")
		return strings.HasPrefix(got, "Accepted: ") &&
			strings.Contains(got, "Every node with a speaker carries the label "+label), got
	})

	// A worker joins, as far as the label tells.
	worker := nodes[0]
	if worker == before {
		worker = nodes[1]
	}
	c := startTraffic(t, addr, untilSure)
	time.Sleep(500 * time.Millisecond)
	kubectl(t, "label", "node", worker, label+"-")
	ownedBy(t, addr, worker)
	time.Sleep(500 * time.Millisecond)
	c.stop()
	requests, failed, longest := c.count()
	fmt.Printf("figure: the first node without the exclude label takes over: %d of %d requests failed, "+
		"longest without an answer %d ms\n",
		failed, requests, longest.Milliseconds())
	if failed > 0 {
		t.Errorf("%d of %d requests failed", failed, requests)
	}

	// An advertisement of nodes that are kept out says so.
	apply(t, pool("control", spans(95, 95), before))
	eventually(t, 5*time.Second, "the advertisement is not ready", func() (bool, string) {
		got := condition(t, "l2advertisement control", "Ready")
		return strings.HasPrefix(got, "NodesExcluded: ") &&
			strings.Contains(got, "kubectl label node "+before+" "+label+"-"), got
	})
	kubectl(t, "label", "node", before, label+"-")
	ownedBy(t, addr, before)
	eventually(t, 5*time.Second, "the advertisement is ready", func() (bool, string) {
		got := condition(t, "l2advertisement control", "Ready")
		return got == "Accepted: In force as written.", got
	})
}
