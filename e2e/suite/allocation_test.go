package suite

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestShrunkPool: an address that an edit takes out of its pool stays with
// its Service, and announced, until the pool says Move.
func TestShrunkPool(t *testing.T) {
	apply(t, web("shrunk", "node1"))
	kubectl(t, "rollout", "status", "deployment/shrunk", "--timeout=60s")
	f := first()
	apply(t, pool("shrunk", f.span(112, 115)))
	apply(t, service("shrunk", "shrunk", "loadBalancerIP: "+f.at(115)))
	addr := hasAddress(t, "shrunk")
	served(t, addr)
	// Asking for nothing any more, the Service keeps what it has.
	kubectl(t, "patch", "service", "shrunk", "--type=json", "-p",
		`[{"op":"remove","path":"/spec/loadBalancerIP"}]`)

	client := startTraffic(t, addr, untilSure)
	kubectl(t, "patch", "ipaddresspool", "shrunk", "--type=merge", "-p",
		fmt.Sprintf(`{"spec":{"addresses":[%q]}}`, f.span(112, 114)))
	eventually(t, 5*time.Second, "the pool tells of it", func() (bool, string) {
		got := get(t, "get ipaddresspool shrunk", ".status.outOfRange") +
			condition(t, "ipaddresspool shrunk", "OutOfRange")
		want := fmt.Sprintf("[%q]HeldOutside: Services hold 1 address that", f.at(115))
		return strings.HasPrefix(got, want), got
	})
	eventually(t, 5*time.Second, "more traffic", func() (bool, string) {
		requests, _, _ := client.count()
		return requests > 150, fmt.Sprint(requests)
	})
	client.stop()
	if requests, failed, _ := client.count(); failed > 0 {
		t.Errorf("%d of %d requests failed while the pool was edited", failed, requests)
	}
	if got := address(t, "shrunk"); got != addr {
		t.Errorf("the address changed from %s to %s", addr, got)
	}

	kubectl(t, "patch", "ipaddresspool", "shrunk", "--type=merge", "-p", `{"spec":{"onShrink":"Move"}}`)
	eventually(t, 5*time.Second, "the Service moves", func() (bool, string) {
		got := address(t, "shrunk")
		return got == f.at(112), got
	})
	served(t, f.at(112))
}

// TestReplacedPool: a pool that is deleted and created again with the same
// range, as some tools do to change it, changes nothing for its Services.
func TestReplacedPool(t *testing.T) {
	apply(t, web("replaced", "node1"))
	kubectl(t, "rollout", "status", "deployment/replaced", "--timeout=60s")
	apply(t, pool("replaced", spans(116, 117)))
	apply(t, service("replaced", "replaced", ""))
	addr := hasAddress(t, "replaced")
	served(t, addr)
	before := versions(t, "replaced")
	client := startTraffic(t, addr, untilSure)
	kubectl(t, "delete", "ipaddresspool", "replaced")
	time.Sleep(3 * time.Second)
	apply(t, pool("replaced", spans(116, 117)))
	eventually(t, 5*time.Second, "the new pool counts the address", func() (bool, string) {
		got := get(t, "get ipaddresspool replaced", ".status.assigned")
		return got == "1", got
	})
	client.stop()
	requests, failed, _ := client.count()
	if failed > 0 || requests < 100 {
		t.Errorf("%d of %d requests failed while the pool was replaced", failed, requests)
	}
	if after := versions(t, "replaced"); after["replaced"] != before["replaced"] {
		t.Errorf("the Service was written: %s, before %s", after["replaced"], before["replaced"])
	}
}

// TestPoolRules: what a pool may say of who gets what, seen from outside.
func TestPoolRules(t *testing.T) {
	f := first()
	apply(t, pool("rules", f.span(10, 13)+", "+f.span(104, 107)))
	exclude := func(more string, entries ...string) string {
		return fmt.Sprintf(`{"spec":{"exclude":%s,%s}}`, toJSON(entries), more)
	}
	kubectl(t, "patch", "ipaddresspool", "rules", "--type=merge", "-p",
		exclude(`"quotaPerNamespace":1,"reuseDelay":"3s"`, f.at(10), f.span(104, 105)))
	// The nodes have those that end in 11 to 13; 10, 104 and 105 are excluded.
	eventually(t, 5*time.Second, "excluded are counted", func() (bool, string) {
		got := show(t, "get ipaddresspool rules",
			fmt.Sprintf("{.status.excluded%[1]s} {.status.available%[1]s}", f))
		return got == "6 2", got
	})
	apply(t, service("rules1", "rules", ""))
	if got := hasAddress(t, "rules1"); got != f.at(106) {
		t.Errorf("got %s, want the first that is neither excluded nor a node's", got)
	}
	apply(t, service("rules2", "rules", ""))
	pending := func(want string) {
		t.Helper()
		eventually(t, 5*time.Second, want, func() (bool, string) {
			got := condition(t, "service rules2", "berth.io/AddressAssigned")
			return strings.Contains(got, want), got
		})
	}
	pending("pool rules: namespace default holds as many of its addresses as quotaPerNamespace allows, " +
		"1 (QuotaReached)")
	kubectl(t, "patch", "ipaddresspool", "rules", "--type=merge", "-p",
		`{"spec":{"quotaPerNamespace":2,"drain":true}}`)
	pending("pool rules: drain is true: the pool gives nothing new (PoolDraining)")
	kubectl(t, "patch", "ipaddresspool", "rules", "--type=merge", "-p",
		exclude(`"drain":false`, f.at(10), f.span(104, 105), f.at(107)))
	pending(fmt.Sprintf("pool rules: every %s address is held or not given out, "+
		"such as %s: node node1 has it", f, f.at(11)))
	kubectl(t, "delete", "service", "rules1")
	// What comes free rests; then the oldest that waits for it gets it.
	apply(t, service("rules3", "rules", ""))
	want := fmt.Sprintf("pool rules: every %s address is held or rests, the first until ", f)
	eventually(t, 5*time.Second, want, func() (bool, string) {
		got := condition(t, "service rules3", "berth.io/AddressAssigned")
		return strings.Contains(got, want), got
	})
	if got := address(t, "rules2"); got != "" {
		t.Errorf("%s did not rest", got)
	}
	eventually(t, 10*time.Second, "the rest is over", func() (bool, string) {
		got := address(t, "rules2")
		return got == f.at(106), condition(t, "service rules2", "berth.io/AddressAssigned")
	})
	const kind = "apiVersion: berth.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: rules}\n"
	got := refused(t, fmt.Sprintf("%sspec: {addresses: [%s], exclude: [%s]}\n",
		kind, f.span(104, 107), f.span(9, 1)))
	if !strings.Contains(got, "the range is inverted") {
		t.Errorf("an inverted exclusion is refused with %s", got)
	}
	got = refused(t, fmt.Sprintf("%sspec: {addresses: [%s], reuseDelay: -1s}\n", kind, f.span(104, 107)))
	if !strings.Contains(got, "must be from 0s to 8760h") {
		t.Errorf("a negative delay is refused with %s", got)
	}
}
