package suite

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
)

// TestOneNode: a cluster of one node with the label that kubeadm, Talos and kind put on control planes. An
// address of a pool is announced all the same, and another pool gives out the node's own address, which only
// the node's kernel answers for.
func TestOneNode(t *testing.T) {
	useLab(t, "one", lab.Options{Nodes: 1})
	const label = "node.kubernetes.io/exclude-from-external-load-balancers"
	kubectl(t, "label", "node", "node1", label+"=")
	apply(t, web("only", "node1"))
	apply(t, pool("announced", spans(120, 120)))
	apply(t, service("announced", "only", everyFamily()))
	addresses := addressesOf(t, "announced")
	for _, addr := range addresses {
		served(t, addr.String())
		ownedBy(t, addr.String(), "node1")
	}
	eventually(t, 5*time.Second, "the advertisement is ready", func() (bool, string) {
		got := condition(t, "l2advertisement announced", "Ready")
		return strings.HasPrefix(got, "Accepted: "), got
	})

	own := first().of(lab.NodeAddresses(1)).String()
	entry := first().host(lab.NodeAddresses(1)).String()
	given := strings.Replace(pool("own", entry), "spec: {", "spec: {allowNodeAddresses: true, ", 1)
	apply(t, pool("own", entry))
	eventually(t, 5*time.Second, "the pool says that the node has its only address", func() (bool, string) {
		got := condition(t, "ipaddresspool own", "Ready")
		return strings.HasPrefix(got, "NodeAddresses: ") && strings.Contains(got, "node1") &&
			strings.Contains(got, "allowNodeAddresses"), got
	})
	apply(t, given)
	apply(t, service("own", "only", "loadBalancerIP: "+own))
	if got := hasAddress(t, "own"); got != own {
		t.Fatalf("the Service has %s, want the node's address %s", got, own)
	}
	served(t, own)
	slices.SortFunc(addresses, netip.Addr.Compare)
	eventually(t, 10*time.Second, "the Speaker announces only the others", func() (bool, string) {
		got := get(t, "get speaker node1", ".status.layer2.announcements[*].address")
		return got == joined(addresses), got
	})
}
