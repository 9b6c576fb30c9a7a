package suite

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/product"
)

// TestHostIPs: in a dual-stack cluster one kubelet reports IPv4 first, one IPv6 first, and one IPv6 only, so
// that the speakers' pods have host IPs of different families. All speakers choose the family that the nodes
// have in common. Then the first node reports IPv4 only, and its next speaker has none in common with the
// others: both sides say so, and no address moves, until that is put right as the condition says.
func TestHostIPs(t *testing.T) {
	ownFamilies(t)
	fullOnly(t, "a minute, for kubelets that differ; TestOneFamily shows that speakers meet over IPv6")
	useBareLab(t, "hostips", lab.Options{Nodes: 3, Families: lab.DualStack})
	report := func(node string, families lab.Families) {
		t.Helper()
		if err := cluster.Node(node).ReportFamilies(t.Context(), families); err != nil {
			t.Fatal(err)
		}
	}
	report("node2", lab.DualStackIPv6First)
	report("node3", lab.IPv6Only)
	install(t)
	hostIPs(t, "10.77.0.11 fd77::11", "fd77::12 10.77.0.12", "fd77::13")
	// A kubelet that starts anew calls its pods not ready for a moment: with policy Local their node would be
	// left for that.
	addresses := eightOf(t, "Cluster")
	whole(t)
	memberAddresses(t, "fd77::11", "fd77::12", "fd77::13")

	e := watched(t, addresses)
	e.known(t)
	from := e.served(t)
	before := e.owners(t)
	stayed := func(when string) {
		t.Helper()
		to := e.served(t)
		moved := 0
		for addr, node := range e.owners(t) {
			if node != before[addr] {
				moved++
				t.Errorf("%s: %s moved from %s to %s", when, addr, before[addr], node)
			}
		}
		loss, at := e.longest(addresses, from, to)
		fmt.Printf("figure: %s: %d addresses moved, the client lost one for %d ms at most\n",
			when, moved, loss.Milliseconds())
		if loss > fewLost {
			t.Errorf("%s: the client lost %s for %s", when, at, loss)
		}
		e.clear(t, from)
		from = to
	}

	report("node1", lab.IPv4Only)
	kubectl(t, "delete", "pod", "-n", system, speakers(t)["node1"].pod, "--wait=false")
	for node, others := range map[string][]string{
		"node1": {"node2", "node3"},
		"node2": {"node1"},
		"node3": {"node1"},
	} {
		eventually(t, time.Minute, node+" says that others have another family", func() (bool, string) {
			got := condition(t, "speaker "+node, "MembersReachable")
			return strings.HasPrefix(got, "OtherFamily: ") &&
				strings.Contains(got, "those of "+strings.Join(others, ", ")+" at "), got
		})
	}
	hostIPs(t, "10.77.0.11", "fd77::12 10.77.0.12", "fd77::13")
	memberAddresses(t, "10.77.0.11", "fd77::12", "fd77::13")
	// Long enough for all that is waited for before a node counts as gone.
	time.Sleep(15 * time.Second)
	stayed("one speaker has no family in common with the others")

	report("node1", lab.DualStack)
	kubectl(t, "rollout", "restart", "-n", system, product.Speaker)
	kubectl(t, "rollout", "status", "-n", system, product.Speaker, "--timeout=90s")
	whole(t)
	memberAddresses(t, "fd77::11", "fd77::12", "fd77::13")
	for _, node := range cluster.NodeNames() {
		eventually(t, 30*time.Second, node+" reaches the others", func() (bool, string) {
			got := get(t, "get speaker "+node, `.status.conditions[?(@.type=="MembersReachable")].status`)
			return got == "True", condition(t, "speaker "+node, "MembersReachable")
		})
	}
	stayed("all speakers have a family in common again")
}

// hostIPs waits until the speakers' pods have these host IPs, in the order of the nodes.
func hostIPs(t *testing.T, want ...string) {
	t.Helper()
	for i, node := range cluster.NodeNames() {
		what := "the speaker's pod of " + node + " has host IPs " + want[i]
		eventually(t, 30*time.Second, what, func() (bool, string) {
			got := get(t, "get pods -n "+system+" -l "+product.SpeakerPods+" --field-selector spec.nodeName="+
				node, ".items[*].status.hostIPs[*].ip")
			return got == want[i], got
		})
	}
}

// memberAddresses waits until the speakers are reached at these addresses, in the order of the nodes.
func memberAddresses(t *testing.T, want ...string) {
	t.Helper()
	for i, node := range cluster.NodeNames() {
		at := netip.AddrPortFrom(netip.MustParseAddr(want[i]), product.MemberPort).String()
		eventually(t, 10*time.Second, "the speaker of "+node+" is reached at "+at, func() (bool, string) {
			got := get(t, "get speaker "+node, ".status.memberAddress")
			return got == at, got
		})
	}
}
