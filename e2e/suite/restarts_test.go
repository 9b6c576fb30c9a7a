package suite

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/product"
)

// twenty makes twenty Services with addresses and returns their names.
func twenty(t *testing.T, name, addresses string) []string {
	t.Helper()
	apply(t, pool(name, addresses))
	var all strings.Builder
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprintf("%s%d", name, i))
		all.WriteString(service(names[i], name, "") + "---\n")
	}
	apply(t, all.String())
	for _, n := range names {
		hasAddress(t, n)
	}
	return names
}

// TestControllerRestarts: however the controller goes and comes back, no
// address changes and no Service is written.
func TestControllerRestarts(t *testing.T) {
	names := twenty(t, "stay", first().span(180, 199))
	before := versions(t, names...)
	check := func(how string) {
		t.Helper()
		// What comes after has been through the queue behind what was there
		// before: once it has its address, the others were looked at.
		apply(t, service("stay-probe", "stay", "loadBalancerIP: "+inNoPool()))
		eventually(t, 30*time.Second, "the controller works again "+how, func() (bool, string) {
			got := condition(t, "service stay-probe", "berth.io/AddressAssigned")
			return strings.HasPrefix(got, "AddressNotInPool"), got
		})
		kubectl(t, "delete", "service", "stay-probe")
		if after := versions(t, names...); !maps.Equal(before, after) {
			t.Errorf("%s, Services were written:\n%v\n%v", how, before, after)
		}
	}

	kubectl(t, "delete", "pod", "-n", system, "-l", "app.kubernetes.io/component=controller",
		"--grace-period=0", "--force", "--wait=true")
	check("after all its pods were killed")

	kubectl(t, "delete", "deployment", "-n", system, "berth-controller", "--wait=true")
	key := get(t, "get secret -n "+system+" berth-memberlist", ".data.key")
	if err := product.Apply(t.Context(), cluster, root); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "rollout", "status", "-n", system, "deployment/berth-controller", "--timeout=60s")
	check("after its Deployment was deleted and applied again")
	if again := get(t, "get secret -n "+system+" berth-memberlist", ".data.key"); key == "" || again != key {
		t.Error("applying the manifests again changed the key of the speakers")
	}
}

// TestSecondReplicaTakesOver: when the leader dies without a word, the other
// replica assigns addresses.
func TestSecondReplicaTakesOver(t *testing.T) {
	apply(t, pool("lead", spans(130, 139)))
	before := leader(t)
	node := get(t, "get pod -n "+system+" "+before, ".spec.nodeName")
	start := time.Now()
	if err := cluster.Node(node).KillProcess("controller", 9); err != nil {
		t.Fatal(err)
	}
	apply(t, service("lead", "lead", ""))
	eventually(t, 30*time.Second, "an address from the new leader", func() (bool, string) {
		return address(t, "lead") != "", leader(t)
	})
	fmt.Printf("figure: leader killed to address from the next leader %.1f s\n", time.Since(start).Seconds())
}

// TestSpeakerRestarts: a client that asks for pages all the time gets them
// all while the owner's speaker is replaced.
func TestSpeakerRestarts(t *testing.T) {
	apply(t, web("again", "node1", "node2", "node3"))
	kubectl(t, "rollout", "status", "deployment/again", "--timeout=60s")
	apply(t, pool("again", spans(144, 144)))
	apply(t, service("again", "again", ""))
	addr := hasAddress(t, "again")
	served(t, addr)
	owner := ownedBy(t, addr)
	client := startTraffic(t, addr, untilSure)
	pod := get(t, "get pod -n "+system+" -l app.kubernetes.io/component=speaker "+
		"--field-selector spec.nodeName="+owner, ".items[0].metadata.name")
	kubectl(t, "delete", "pod", "-n", system, pod, "--wait=true")
	kubectl(t, "rollout", "status", "-n", system, "daemonset/berth-speaker", "--timeout=60s")
	ownedBy(t, addr)
	client.stop()
	requests, failed, longest := client.count()
	fmt.Printf(
		"figure: owner's speaker replaced: %d of %d requests failed, longest without an answer %d ms\n",
		failed, requests, longest.Milliseconds(),
	)
	if requests < 50 || failed > 0 {
		t.Errorf("%d of %d requests failed", failed, requests)
	}
}

// TestAPIServerStops: what is announced stays announced while the API server
// is away, and the cluster goes on when it is back.
func TestAPIServerStops(t *testing.T) {
	fullOnly(t, "half a minute; TestControlPlaneOutage has the API server away for longer")
	apply(t, web("away", "node1"))
	kubectl(t, "rollout", "status", "deployment/away", "--timeout=60s")
	apply(t, pool("away", spans(146, 147)))
	apply(t, service("away", "away", ""))
	addr := hasAddress(t, "away")
	served(t, addr)
	owner := ownedBy(t, addr)

	if err := cluster.Component(lab.APIServer).Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kubernetesAnew(t) })
	client := startTraffic(t, addr, untilSure)
	for range 10 { // longer than a leader's lease and than every probe of a member
		if got := answers(t, addr); len(got) != 1 || got[0] != owner {
			t.Errorf("without the API server %v answer for %s, want %s", got, addr, owner)
		}
		time.Sleep(time.Second)
	}
	client.stop()
	if requests, failed, _ := client.count(); requests < 50 || failed > 0 {
		t.Errorf("without the API server %d of %d requests failed", failed, requests)
	}
	if err := cluster.Component(lab.APIServer).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	apply(t, service("away-after", "away", ""))
	// An API server that ends in order takes itself out of the Service by which
	// pods reach it. It is there again once kube-proxy has heard of it, and that
	// waits up to half a minute and more between two tries.
	eventually(t, 2*time.Minute, "an address after the API server is back", func() (bool, string) {
		return address(t, "away-after") != "", leader(t)
	})
	fmt.Printf("figure: API server back to next assignment %.1f s\n", time.Since(start).Seconds())
	ownedBy(t, addr)
}
