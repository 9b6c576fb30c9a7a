package suite

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/product"
)

// TestStraightLine: objects are applied, a Service has an address, and a
// client that knows nothing of Kubernetes gets the page.
func TestStraightLine(t *testing.T) {
	apply(t, web("line", "node1"))
	kubectl(t, "rollout", "status", "deployment/line", "--timeout=60s")
	f := first()
	apply(t, pool("line", f.span(150, 159), "node3"))
	apply(t, service("line", "line", ""))

	var addr string
	assigned := eventually(t, 10*time.Second, "the Service has an address", func() (bool, string) {
		addr = address(t, "line")
		return addr != "", condition(t, "service line", "berth.io/AddressAssigned")
	})
	line, reached := served(t, addr)
	fmt.Printf("figure: Service applied to address %d ms, to page %d ms\n",
		assigned.Milliseconds(), (assigned + reached).Milliseconds())

	if assigned > 3*time.Second {
		t.Errorf("the address took %s; a second is promised", assigned)
	}
	if addr != f.at(150) {
		t.Errorf("address is %s, want the first of the pool", addr)
	}
	if owner := ownedBy(t, addr, "node3"); field(line, "node") != "node1" {
		t.Errorf("the owner %s has no pod, so node1 must serve: %s", owner, line)
	}
	got := condition(t, "service line", "berth.io/AddressAssigned")
	if got != "Assigned: "+f.at(150)+" from pool line." {
		t.Errorf("condition of the Service is %q", got)
	}
	if got := get(t, "get service line", ".status.loadBalancer.ingress[0].ipMode"); got != "VIP" {
		t.Errorf("ipMode is %q", got)
	}
	eventually(t, 5*time.Second, "pool counts", func() (bool, string) {
		got := get(t, "get ipaddresspool line", ".status.assigned") + " of " +
			get(t, "get ipaddresspool line", ".status.available"+string(f))
		return got == "1 of 9", got
	})
	eventually(t, 5*time.Second, "the Speaker object of the owner tells", func() (bool, string) {
		got := get(t, "get speaker node3",
			fmt.Sprintf(`.status.layer2.announcements[?(@.address=="%s")]`, f.at(150)))
		return strings.Contains(got, `"services":["default/line"]`) &&
			strings.Contains(got, `"links":["eth0"]`), got
	})
	if got := get(t, "get speaker node3", ".metadata.ownerReferences[0].kind"); got != "Node" {
		t.Errorf("the Speaker is owned by %q", got)
	}
	out := kubectl(t, "get", "events", "--field-selector",
		"involvedObject.name=line,reason=Assigned", "-o", "name")
	if strings.Count(out, "event") != 1 {
		t.Errorf("Events about the assignment: %q, want one", out)
	}
}

// TestAnotherFamily: a Service that names the families in the other order than the cluster has its addresses
// in that order, and both are announced.
func TestAnotherFamily(t *testing.T) {
	needsBoth(t, "there is no other order")
	order := families()
	slices.Reverse(order)
	apply(t, web("other", "node1"))
	apply(t, pool("other", spans(160, 161)))
	apply(t, service("other", "other", fmt.Sprintf("%s\n  ipFamilies: [%s, %s]",
		everyFamily(), order[0], order[1])))
	want := []string{order[0].at(160), order[1].at(160)}
	eventually(t, 10*time.Second, "both addresses", func() (bool, string) {
		got := address(t, "other")
		return got == strings.Join(want, " "), got
	})
	for _, addr := range want {
		line, _ := served(t, addr)
		if field(line, "node") != "node1" {
			t.Errorf("%s: %s", addr, line)
		}
		ownedBy(t, addr)
	}
}

// TestLocalTraffic: with externalTrafficPolicy Local the pod sees the client's
// own address, and only a node with a pod owns the address.
func TestLocalTraffic(t *testing.T) {
	checkOwnerFollowsPod(t, func(addr, node string) {
		client := familyOf(netip.MustParseAddr(addr)).of(lab.ClientAddresses)
		eventually(t, 5*time.Second, node+" serves", func() (bool, string) {
			line, _ := served(t, addr)
			if from, err := netip.ParseAddrPort(field(line, "client")); err != nil || from.Addr() != client {
				t.Errorf("got %q, want it for client %s", line, client)
			}
			return field(line, "node") == node, line
		})
	})
}

// checkOwnerFollowsPod moves the only pod of a Service with traffic policy Local. Each time that a node owns
// an address, because the pod is there, it is judged.
func checkOwnerFollowsPod(t *testing.T, judge func(addr, node string)) {
	t.Helper()
	apply(t, pool("local", spans(162, 163)))
	apply(t, service("local", "local", "externalTrafficPolicy: Local\n  "+everyFamily()))
	addresses := addressesOf(t, "local")
	for _, node := range []string{"node1", "node2"} {
		apply(t, web("local", node))
		kubectl(t, "rollout", "status", "deployment/local", "--timeout=60s")
		for _, addr := range addresses {
			ownedBy(t, addr.String(), node)
			judge(addr.String(), node)
		}
	}
}

// TestNoSharingUnasked: every Service has an address of its own, and none is
// given out twice.
func TestNoSharingUnasked(t *testing.T) {
	apply(t, pool("share", spans(164, 167)))
	seen := map[string]string{}
	for i := range 4 {
		name := fmt.Sprintf("share%d", i)
		apply(t, service(name, "share", ""))
		addr := hasAddress(t, name)
		if other, taken := seen[addr]; taken {
			t.Errorf("%s and %s both have %s", name, other, addr)
		}
		seen[addr] = name
	}
	apply(t, service("share-late", "share", ""))
	want := fmt.Sprintf("PoolsExhausted: No pool gives an %[1]s address: pool share: "+
		"every %[1]s address is held (PoolFull).", first())
	eventually(t, 5*time.Second, want, func() (bool, string) {
		got := condition(t, "service share-late", "berth.io/AddressAssigned")
		return got == want, got
	})
	// The one that waits gets what another gives back.
	freed := address(t, "share2")
	kubectl(t, "delete", "service", "share2")
	if got := hasAddress(t, "share-late"); got != freed {
		t.Errorf("share-late has %s, want %s", got, freed)
	}
}

// TestGivingBack: when a Service goes, or is no longer of type LoadBalancer,
// its addresses are free and nobody answers for them.
func TestGivingBack(t *testing.T) {
	apply(t, web("back", "node1"))
	apply(t, pool("back", spans(168, 168)))
	for _, way := range []struct{ name, verb string }{{"back1", "delete"}, {"back2", "change type"}} {
		apply(t, service(way.name, "back", everyFamily()))
		addresses := addressesOf(t, way.name)
		for _, addr := range addresses {
			ownedBy(t, addr.String())
		}
		if way.verb == "delete" {
			kubectl(t, "delete", "service", way.name)
		} else {
			kubectl(t, "patch", "service", way.name, "-p", `{"spec":{"type":"ClusterIP"}}`)
			eventually(t, 5*time.Second, "Berth's condition is gone", func() (bool, string) {
				got := get(t, "get service "+way.name, ".status")
				return got == `{"loadBalancer":{}}`, got
			})
		}
		for _, addr := range addresses {
			eventually(t, 5*time.Second, "nobody answers for "+addr.String(), func() (bool, string) {
				got := answers(t, addr.String())
				return len(got) == 0, fmt.Sprint(got)
			})
		}
	}
}

// TestExcludedNode: the label takes a node out of the election.
func TestExcludedNode(t *testing.T) {
	apply(t, web("excluded", "node1", "node2", "node3"))
	apply(t, pool("excluded", spans(169, 169)))
	apply(t, service("excluded", "excluded", everyFamily()))
	addresses := addressesOf(t, "excluded")
	before := ownedBy(t, addresses[0].String())
	const label = "node.kubernetes.io/exclude-from-external-load-balancers"
	kubectl(t, "label", "node", before, label+"=")
	cleanup(t, "label", "node", before, label+"-")
	after := map[netip.Addr]string{}
	for _, addr := range addresses {
		eventually(t, 10*time.Second, "another node owns "+addr.String(), func() (bool, string) {
			got := answers(t, addr.String())
			if len(got) == 1 {
				after[addr] = got[0]
			}
			return len(got) == 1 && got[0] != before, fmt.Sprint(got)
		})
	}
	// It comes back as a candidate; the addresses stay where they are.
	kubectl(t, "label", "node", before, label+"-")
	time.Sleep(time.Second)
	for _, addr := range addresses {
		ownedBy(t, addr.String(), after[addr])
	}
}

// TestRequests: a Service gets the address or pool it asks for, in Berth's,
// MetalLB's two and Kubernetes' spelling.
func TestRequests(t *testing.T) {
	f := first()
	apply(t, pool("asked", f.span(170, 179)))
	kubectl(t, "patch", "ipaddresspool", "asked", "--type=merge", "-p", `{"spec":{"autoAssign":false}}`)
	for i, test := range []struct{ annotation, field, want string }{
		{"berth.io/address-pool: asked", "", f.at(170)},
		{"metallb.io/address-pool: asked", "", f.at(171)},
		{"metallb.universe.tf/address-pool: asked", "", f.at(172)},
		{"berth.io/loadBalancerIPs: " + f.at(175), "", f.at(175)},
		{"metallb.io/loadBalancerIPs: " + f.at(176), "", f.at(176)},
		{"metallb.universe.tf/loadBalancerIPs: " + f.at(174), "", f.at(174)},
		{"", "loadBalancerIP: " + f.at(177), f.at(177)},
	} {
		name := fmt.Sprintf("asked%d", i)
		manifest := service(name, "asked", test.field)
		if test.annotation != "" {
			manifest = strings.Replace(manifest, "metadata: {name: "+name+"}",
				"metadata:\n  name: "+name+"\n  annotations:\n    "+test.annotation, 1)
		}
		apply(t, manifest)
		if got := hasAddress(t, name); got != test.want {
			t.Errorf("%s%s: got %s, want %s", test.annotation, test.field, got, test.want)
		}
	}
	// Another load balancer's Service is left alone.
	apply(t, service("asked-class", "asked", "loadBalancerClass: example.com/other"))
	apply(t, service("asked-after", "asked", "loadBalancerIP: "+f.at(178)))
	hasAddress(t, "asked-after")
	if got := get(t, "get service asked-class", ".status"); got != `{"loadBalancer":{}}` {
		t.Errorf("status of a Service of another class: %s", got)
	}
}

// TestOwnClass: with a class of its own, Berth handles the Services of that class and no others.
func TestOwnClass(t *testing.T) {
	const class = "example.com/lab"
	both := []string{product.Controller, product.Speaker}
	set := func(environment string) {
		t.Helper()
		kubectl(t, append(append([]string{"set", "env", "-n", system}, both...), environment)...)
		for _, what := range both {
			kubectl(t, "rollout", "status", "-n", system, what, "--timeout=60s")
		}
	}
	for _, what := range both {
		cleanup(t, "rollout", "status", "-n", system, what, "--timeout=60s")
	}
	cleanup(t, append(append([]string{"set", "env", "-n", system}, both...), "BERTH_LOAD_BALANCER_CLASS-")...)
	set("BERTH_LOAD_BALANCER_CLASS=" + class)
	apply(t, web("class", "node1"))
	kubectl(t, "rollout", "status", "deployment/class", "--timeout=60s")
	apply(t, pool("class", spans(182, 183)))
	apply(t, service("class-none", "class", ""))
	apply(t, service("class-ours", "class", "loadBalancerClass: "+class))
	addr := hasAddress(t, "class-ours")
	ownedBy(t, addr)
	served(t, addr)
	if got := get(t, "get service class-none", ".status"); got != `{"loadBalancer":{}}` {
		t.Errorf("status of a Service without a class: %s", got)
	}
}
