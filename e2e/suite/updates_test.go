package suite

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/product"
	"github.com/berth-lb/berth/e2e/watch"
)

// updateLimit is for how long nobody may answer for an address while speakers are updated. What is measured
// is printed and is far less; but a machine whose few processors start containers lets every process wait.
const updateLimit = 700 * time.Millisecond

// strangersAsk has hosts that know no address ask for all of them, every ten milliseconds, until the test
// ends. A host that asks again and again is like many that ask once.
func strangersAsk(t *testing.T, addresses []netip.Addr) {
	t.Helper()
	asker, err := watch.StartAsker(cluster, lab.HostRouter, lab.RouterAddresses, addresses, probeEvery)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(asker.Stop)
}

// unanswered is the longest time between two times in which nobody answered for one of the addresses.
func (e *eyes) unanswered(addresses []netip.Addr, from, to time.Time) (longest time.Duration, at netip.Addr) {
	last := map[netip.Addr]time.Time{}
	for _, addr := range addresses {
		last[addr] = from
	}
	silent := func(addr netip.Addr, until time.Time) {
		if d := until.Sub(last[addr]); d > longest {
			longest, at = d, addr
		}
		last[addr] = until
	}
	for _, c := range e.capture.Claims(from) {
		if _, asked := last[c.Addr]; asked && c.At.Before(to) {
			silent(c.Addr, c.At)
		}
	}
	for _, addr := range addresses {
		silent(addr, to)
	}
	return longest, at
}

// update does something to the speakers and judges what clients saw: those that ask for the addresses for the
// first time, and one that knows them. No address moves, and no two nodes answer.
func (e *eyes) update(t *testing.T, what string, limit time.Duration, does func()) {
	t.Helper()
	before := e.owners(t)
	from := e.served(t)
	does()
	to := e.served(t)
	gap, addr := e.unanswered(e.addresses, from, to)
	loss, _ := e.longest(e.addresses, from, to)
	fmt.Printf("figure: %s, %d nodes: nobody answered for one of %d addresses for %d ms at most; "+
		"a client that knows them lost one for %d ms at most, and %d of its probes for good\n",
		what, len(cluster.NodeNames()), len(e.addresses), gap.Milliseconds(), loss.Milliseconds(),
		e.forGood(from, to))
	if gap > limit {
		t.Errorf("%s: nobody answered for %s for %d ms", what, addr, gap.Milliseconds())
	}
	if loss > fewLost {
		t.Errorf("%s: the client lost an address for %d ms", what, loss.Milliseconds())
		e.tell(t, from, to)
	}
	if after := e.owners(t); !maps.Equal(after, before) {
		t.Errorf("%s: addresses moved:\n%v\n%v", what, before, after)
	}
	for _, o := range watch.Overlaps(e.capture.Claims(from), 4*askEvery) {
		t.Errorf("%s: %s and %s answer for %s at once", what, o.First, o.Second, o.Addr)
	}
	for _, node := range cluster.NodeNames() {
		if got := get(t, "get speaker "+node, ".status.layer2.conflicts"); got != "" && got != "[]" {
			t.Errorf("%s: %s reports conflicts: %s", what, node, got)
		}
	}
}

// rolled waits until every node has a speaker of the present template, and no other.
func rolled(t *testing.T) {
	t.Helper()
	kubectl(t, "rollout", "status", "-n", system, product.Speaker, "--timeout=180s")
	eventually(t, time.Minute, "the old speakers are gone", func() (bool, string) {
		got := speakerPods(t)
		return len(got) == len(cluster.NodeNames()), fmt.Sprint(got)
	})
	whole(t)
}

func rollOut(t *testing.T) {
	t.Helper()
	kubectl(t, "rollout", "restart", "-n", system, product.Speaker)
	rolled(t)
}

// takeBack undoes the last change of the DaemonSet.
func takeBack(t *testing.T) {
	t.Helper()
	kubectl(t, "rollout", "undo", "-n", system, product.Speaker)
	rolled(t)
}

// speakerPods are the names of the pods of all speakers.
func speakerPods(t *testing.T) []string {
	t.Helper()
	return strings.Fields(get(t, "get pod -n "+system+" -l "+product.SpeakerPods, ".items[*].metadata.name"))
}

// TestUpdateOfOneNode: a cluster of one node has nobody who stands in. Its speaker is updated, and an update
// that cannot work is tried and taken back, also on a cordoned node with the label of a control plane.
// Clients that know no address are answered all the time.
func TestUpdateOfOneNode(t *testing.T) {
	needsBoth(t, "an update is the same with one family")
	useLab(t, "update", lab.Options{Nodes: 1})
	forwarded(t)
	kubectl(t, "label", "node", "node1", "node.kubernetes.io/exclude-from-external-load-balancers=")
	apply(t, web("only", "node1"))
	kubectl(t, "rollout", "status", "deployment/only", "--timeout=60s")
	apply(t, pool("only", "10.77.0.120/32, fd77::120/128"))
	apply(t, echo("only", "only", "externalTrafficPolicy: Local"))
	hasAddress(t, "only")
	whole(t)
	addresses := []netip.Addr{netip.MustParseAddr("10.77.0.120"), netip.MustParseAddr("fd77::120")}
	e := watched(t, addresses)
	strangersAsk(t, addresses)
	e.known(t)

	e.update(t, "rollout", updateLimit, func() { rollOut(t) })
	e.update(t, "rollback", updateLimit, func() { takeBack(t) })

	old := speakerPods(t)
	broken := func(what, kind, value string) {
		t.Helper()
		e.update(t, what, updateLimit, func() {
			kubectl(t, "set", kind, "-n", system, product.Speaker, value)
			eventually(t, time.Minute, "the new speaker fails", func() (bool, string) {
				got := get(t, "get pod -n "+system+" -l "+product.SpeakerPods,
					".items[*].status.containerStatuses[*].state.waiting.reason")
				return got != "" && got != "ContainerCreating", got
			})
			time.Sleep(5 * time.Second)
			if now := strings.Join(speakerPods(t), " "); !strings.Contains(now, old[0]) {
				t.Errorf("%s: the speaker that works is replaced: %s", what, now)
			}
			takeBack(t)
		})
	}
	broken("update to an image that does not exist",
		"image", "speaker=ghcr.io/berth-lb/speaker:missing")
	if full() { // a quarter of a minute: kubelet starts what crashes again and again
		broken("update with a setting that is refused",
			"env", "BERTH_MEMBER_PROFILE=nonsense")
	}

	e.update(t, "the only node is cordoned", updateLimit, func() {
		kubectl(t, "cordon", "node1")
		time.Sleep(3 * time.Second)
	})
	e.update(t, "rollout on the cordoned node", updateLimit, func() { rollOut(t) })
	kubectl(t, "uncordon", "node1")

	// Without a successor there is nobody until the next speaker has started.
	e.update(t, "the speaker's process is killed", lossLimit, func() {
		if err := cluster.Node("node1").KillProcess(product.SpeakerProcess, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		rolled(t)
	})
	e.update(t, "the speaker's pod is deleted", lossLimit, func() {
		kubectl(t, "delete", "pod", "-n", system, "-l", product.SpeakerPods, "--wait=true")
		rolled(t)
	})
}

// TestUpdateOfAll: the speakers of all nodes are updated under the eyes of clients that know no address.
func TestUpdateOfAll(t *testing.T) { checkUpdateOfAll(t) }

// TestUpdateOfNine does the same in a cluster of nine nodes.
func TestUpdateOfNine(t *testing.T) {
	fullOnly(t, "two minutes and nine nodes; TestUpdateOfAll has three")
	useLab(t, "nine", lab.Options{Nodes: 9})
	checkUpdateOfAll(t)
}

func checkUpdateOfAll(t *testing.T) {
	addresses := eight(t)
	whole(t)
	e := watched(t, addresses)
	strangersAsk(t, addresses)
	e.known(t)
	e.update(t, "rollout", updateLimit, func() { rollOut(t) })
	e.update(t, "rollback", updateLimit, func() { takeBack(t) })
}

// beforeSurge makes of the DaemonSet of speakers what it was before two of them could be on a node: every
// port is reserved, so the next pod is placed when the one before has gone, and nothing asks the new process
// whether it has started.
var beforeSurge = product.Patch{
	Target: "{kind: DaemonSet, name: berth-speaker}",
	Operations: `
- op: replace
  path: /spec/updateStrategy/rollingUpdate
  value: {maxUnavailable: 1}
- op: add
  path: /spec/template/spec/containers/0/ports
  value:
  - {name: metrics, containerPort: 9740}
  - {name: health, containerPort: 9741}
  - {name: member-tcp, containerPort: 7947, protocol: TCP}
  - {name: member-udp, containerPort: 7947, protocol: UDP}
- op: remove
  path: /spec/template/spec/containers/0/startupProbe
- op: replace
  path: /spec/template/spec/containers/0/livenessProbe/httpGet/port
  value: health
- op: replace
  path: /spec/template/spec/containers/0/readinessProbe/httpGet/port
  value: health
`,
}

// TestUpdateFromReservedPorts: a cluster with the manifests of before is given those of today, and those of
// before again.
func TestUpdateFromReservedPorts(t *testing.T) {
	fullOnly(t, "a minute and a lab of its own; TestUpdateOfAll has the updates that come after it")
	useBareLab(t, "ports", lab.Options{})
	checkUpdateFrom(t, beforeSurge)
}

// checkUpdateFrom installs the manifests with patches that reserve ports, and updates to the manifests as
// they are, and back.
func checkUpdateFrom(t *testing.T, before ...product.Patch) {
	if _, err := product.Install(t.Context(), cluster, root, before...); err != nil {
		t.Fatal(err)
	}
	addresses := eight(t)
	whole(t)
	e := watched(t, addresses)
	strangersAsk(t, addresses)
	e.known(t)
	reserved := func() string { // on each node, as the pods are in its network
		return get(t, "get pod -n "+system+" -l "+product.SpeakerPods,
			".items[0].spec.containers[0].ports[*].hostPort")
	}
	if got := reserved(); len(strings.Fields(got)) != 4 {
		t.Fatalf("the ports %q are reserved, want four", got)
	}
	for _, step := range []struct {
		story   string
		patches []product.Patch
	}{
		{"from the manifests with ports to those of today", nil},
		{"back to those with ports", before},
	} {
		e.update(t, step.story, updateLimit, func() {
			if err := product.Apply(t.Context(), cluster, root, step.patches...); err != nil {
				t.Fatal(err)
			}
			said := kubectl(t, "rollout", "status", "-n", system, product.Speaker, "--timeout=180s")
			fmt.Printf("figure: %s, rollout status:\n%s\n", step.story, said)
			rolled(t)
		})
		if got := reserved(); (got == "") != (step.patches == nil) {
			t.Errorf("%s: the ports %q are reserved", step.story, got)
		}
	}
}
