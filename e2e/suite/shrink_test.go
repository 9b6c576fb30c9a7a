package suite

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// patience is a little more than a controller waits for a pool, or an address in it, to come back before it
// takes addresses away.
const patience = 35 * time.Second

// TestPoolShrinksWhileNobodyLeads: an edit takes an address out of its pool while there is no controller. The
// address stays with its Service, as the pool says, when there is one again.
func TestPoolShrinksWhileNobodyLeads(t *testing.T) {
	fullOnly(t, "a minute, most of it to see that nothing happens; TestShrunkPool edits a pool")
	apply(t, web("absent", "node1"))
	kubectl(t, "rollout", "status", "deployment/absent", "--timeout=60s")
	f := first()
	apply(t, pool("absent", f.span(118, 119)))
	apply(t, service("absent", "absent", ""))
	addr := hasAddress(t, "absent")
	served(t, addr)
	replicas := get(t, "get deployment -n "+system+" berth-controller", ".spec.replicas")
	kubectl(t, "scale", "-n", system, "deployment/berth-controller", "--replicas=0")
	cleanup(t, "rollout", "status", "-n", system, "deployment/berth-controller", "--timeout=60s")
	cleanup(t, "scale", "-n", system, "deployment/berth-controller", "--replicas="+replicas)
	const controllers = "app.kubernetes.io/component=controller"
	eventually(t, time.Minute, "no controller runs", func() (bool, string) {
		got := get(t, "get pods -n "+system+" -l "+controllers, ".items[*].metadata.name")
		return got == "", got
	})

	client := startTraffic(t, addr, untilSure)
	kubectl(t, "patch", "ipaddresspool", "absent", "--type=merge", "-p",
		fmt.Sprintf(`{"spec":{"addresses":[%q]}}`, f.span(119, 119)))
	time.Sleep(2 * time.Second)
	kubectl(t, "scale", "-n", system, "deployment/berth-controller", "--replicas="+replicas)
	kubectl(t, "rollout", "status", "-n", system, "deployment/berth-controller", "--timeout=60s")
	start := time.Now()
	stays := func() {
		t.Helper()
		if got := address(t, "absent"); got != addr {
			t.Fatalf("%s after the controllers came back the address is %q, it was %s",
				time.Since(start), got, addr)
		}
	}
	leads := eventually(t, time.Minute, "the pool tells of what it "+
		"no longer contains", func() (bool, string) {
		stays()
		got := get(t, "get ipaddresspool absent", ".status.outOfRange")
		return strings.Contains(got, addr), got
	})
	for time.Since(start) < patience {
		stays()
		time.Sleep(500 * time.Millisecond)
	}
	client.stop()
	requests, failed, _ := client.count()
	fmt.Printf("figure: pool edited while nobody led: the pool tells of it %d ms after the controllers are "+
		"back, %d of %d requests failed within %s\n",
		leads.Milliseconds(), failed, requests, patience)
	if failed > 0 || requests < 100 {
		t.Errorf("%d of %d requests failed", failed, requests)
	}
}
