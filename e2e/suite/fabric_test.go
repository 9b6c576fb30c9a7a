package suite

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
)

// suppress has ports of the switch suppress ARP and NDP, as those do that lead to other leaves of an EVPN
// fabric: what another port sends does not leave there when it looks like a probe or a gratuitous ARP.
func suppress(t *testing.T, hosts ...string) (end func()) {
	t.Helper()
	set := func(ctx context.Context, state string) (err error) {
		for _, host := range hosts {
			_, err = cluster.Host(lab.HostSwitch).Exec(ctx, "bridge", "link", "set", "dev", host,
				"neigh_suppress", state)
			if err != nil {
				return err
			}
		}
		return nil
	}
	end = func() {
		if err := set(context.WithoutCancel(t.Context()), "off"); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(end)
	if err := set(t.Context(), "on"); err != nil {
		t.Fatal(err)
	}
	return end
}

// TestSuppressingSwitch: hosts behind ports that suppress ARP and NDP learn of a new place of an address, one
// of them that has an address is found before it is announced, and the check of an owner behind one takes it
// for no dead one.
func TestSuppressingSwitch(t *testing.T) {
	withSettings(t, "BERTH_SELF_CHECK_INTERVAL=10s")
	end := suppress(t, lab.HostClient, lab.HostRouter)

	hidden := first().at(224)
	stranger := strings.TrimSpace(string(must(t)(cluster.Host(lab.HostRouter).Exec(t.Context(), "cat",
		"/sys/class/net/eth0/address"))))
	single := first().prefix(224)
	if err := cluster.Host(lab.HostRouter).AddAddresses(t.Context(), "eth0", single); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := cluster.Host(lab.HostRouter).RemoveAddresses(ctx, "eth0", single); err != nil {
			t.Error(err)
		}
	})

	// The IPv6 entry of the nodes' router moves, and IPv4 ones of everybody. The nodes know their router when
	// they have used it.
	for _, node := range cluster.NodeNames() {
		for _, f := range families() {
			must(t)(cluster.Node(node).Exec(t.Context(), "ping", "-c1", "-W5",
				f.of(lab.RouterAddresses).String()))
		}
	}
	addresses := at(223)
	learner := map[netip.Addr]string{}
	for _, addr := range addresses {
		host := map[family]string{ipv4: lab.HostClient, ipv6: lab.HostRouter}[familyOf(addr)]
		learner[addr] = host
		must(t)(cluster.Host(host).Exec(t.Context(), "ip", "neigh", "replace", addr.String(), "lladdr",
			"02:00:00:00:00:77", "dev", "eth0", "nud", "stale"))
	}
	apply(t, web("fabric", "node1"))
	kubectl(t, "rollout", "status", "deployment/fabric", "--timeout=60s")
	apply(t, pool("fabric", spans(223, 223)))
	apply(t, pool("hidden", first().span(224, 224)))
	asked := time.Now()
	apply(t, echo("fabric", "fabric", ""))
	apply(t, service("hidden", "fabric", "loadBalancerIP: "+hidden))
	for _, addr := range addresses {
		host := learner[addr]
		eventually(t, 20*time.Second, host+" learns where "+addr.String()+" is", func() (bool, string) {
			out := string(must(t)(cluster.Host(host).Exec(t.Context(), "ip", "neigh", "show",
				addr.String(), "dev", "eth0")))
			for _, node := range cluster.NodeNames() {
				if strings.Contains(out, macOf(t, node)) {
					return true, ""
				}
			}
			return false, out
		})
		fmt.Printf("figure: %s behind a port that suppresses ARP and NDP has learned the place of %s %.1f "+
			"s after its Service was made\n", host, addr, time.Since(asked).Seconds())
	}
	eventually(t, 15*time.Second, "an Event tells of the host that has "+hidden, func() (bool, string) {
		out := show(t, "get events -A", `{range .items[*]}{.reason}{" "}{.message}{"\n"}{end}`)
		for line := range strings.Lines(out) {
			if strings.HasPrefix(line, "Conflict "+hidden) && strings.Contains(line, stranger) {
				return true, ""
			}
		}
		return false, out
	})

	// Now the owners are behind such ports, and who checks them is not.
	end()
	var owners []string
	for _, addr := range addresses {
		eventually(t, 10*time.Second, "one node announces "+addr.String(), func() (bool, string) {
			owners = announcers(t, addr)
			return len(owners) == 1, fmt.Sprint(owners)
		})
		suppress(t, owners[0])
	}
	for start := time.Now(); time.Since(start) < checksTake(); time.Sleep(time.Second) {
		if got := conflicts(t, addresses...); len(got) > 0 {
			t.Fatalf("conflicts: %v", got)
		}
	}
}

// TestKernelOfANodeAnswers: a node has the address of a new Service on an interface, as in IPVS mode. Its
// owner announces it beside that, and who looks at the Service is told which node it is and what to do, until
// it is taken off.
func TestKernelOfANodeAnswers(t *testing.T) {
	if cluster.ProxyMode() == lab.ProxyIPVS {
		t.Skip("kube-proxy in IPVS mode with strictARP keeps the kernels from answering for other interfaces")
	}
	needs(t, ipv4, "kernels answer neighbour solicitations only at the interface that has the address")
	addr, single := ipv4.at(225), ipv4.prefix(225)
	if err := cluster.Node("node3").AddAddresses(t.Context(), "lo", single); err != nil {
		t.Fatal(err)
	}
	off := false
	takeOff := func(ctx context.Context) {
		if !off {
			off = true
			if err := cluster.Node("node3").RemoveAddresses(ctx, "lo", single); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(func() { takeOff(context.WithoutCancel(t.Context())) })
	apply(t, web("ipvs", "node1"))
	kubectl(t, "rollout", "status", "deployment/ipvs", "--timeout=60s")
	apply(t, pool("ipvs", ipv4.span(225, 225), "node2"))
	apply(t, service("ipvs", "ipvs", "loadBalancerIP: "+addr+"\n  "+ipv4.only()))
	eventually(t, 20*time.Second, "an Event names the node and what to do", func() (bool, string) {
		out := show(t, "get events -A", `{range .items[*]}{.reason}{" "}{.message}{"\n"}{end}`)
		for line := range strings.Lines(out) {
			if strings.HasPrefix(line, "AddressOtherNode ") && strings.Contains(line, addr) &&
				strings.Contains(line, "Node node3 answers") && strings.Contains(line, "strictARP") {
				return true, ""
			}
		}
		return false, out
	})
	eventually(t, 5*time.Second, "the Speaker says so too", func() (bool, string) {
		got := get(t, "get speaker node2", `.status.layer2.conflicts[*].message`)
		return strings.Contains(got, "Node node3 answers"), got
	})
	if got := announcers(t, netip.MustParseAddr(addr)); !slices.Equal(got, []string{"node2"}) {
		t.Errorf("it is announced by %v", got)
	}
	takeOff(t.Context())
	eventually(t, 30*time.Second, "the Speaker says so no more", func() (bool, string) {
		got := get(t, "get speaker node2", `.status.layer2.conflicts[*].message`)
		return !strings.Contains(got, "Node node3 answers"), got
	})
	ownedBy(t, addr, "node2")
	served(t, addr)
}
