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
	"github.com/berth-lb/berth/e2e/watch"
)

// Nodes with two interfaces: eth0 leads to the management LAN, over which the speakers talk, svc0 to the
// service LAN, where the addresses and their clients are.

// TestStandInOnServiceLAN: while the owner's speaker is replaced, whoever asks on the LAN of the address is
// told the owner's link there, nobody answers on the management LAN, and no request is lost.
func TestStandInOnServiceLAN(t *testing.T) {
	addresses := aDualStack(t, "nics", "10.78.0.200/32, fd78::200/128")
	for _, addr := range addresses {
		served(t, addr.String())
	}
	e := onService(t, addresses)
	time.Sleep(time.Second)
	owners := serviceOwners(t, e)
	owner := owners[addresses[0]]
	addresses = slices.DeleteFunc(addresses, func(a netip.Addr) bool { return owners[a] != owner })
	want := hostMAC(t, owner, lab.ServiceLink)

	// The client's kernel asks anew all the time.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	forgot := make(chan int, 1)
	go func() {
		n := 0
		for ctx.Err() == nil {
			// Only what it knows: to take away what it is asking for fails the requests that wait for the
			// answer. It is an error while entries come back as soon as they are gone.
			_, _ = cluster.Client().Exec(ctx, "ip", "neigh", "flush", "dev", lab.ServiceLink,
				"nud", "reachable")
			n++
			time.Sleep(50 * time.Millisecond)
		}
		forgot <- n
	}()
	var clients []*traffic
	for _, addr := range addresses {
		clients = append(clients, startTraffic(t, addr.String(), untilSure))
	}
	time.Sleep(time.Second)
	from := time.Now()
	took := restartSpeaker(t, owner)
	time.Sleep(time.Second)
	to := time.Now()
	cancel()
	flushes := <-forgot
	for i, c := range clients {
		c.stop()
		requests, failed, longest := c.count()
		fmt.Printf("figure: speaker of the owner on svc0 replaced (%d ms): %d of %d requests to %s failed, "+
			"longest without an answer %d ms, %d times with an empty neighbour cache\n",
			took.Milliseconds(), failed, requests, addresses[i], longest.Milliseconds(), flushes)
		if failed > 0 || requests < 50 {
			t.Errorf("%d of %d requests to %s failed", failed, requests, addresses[i])
		}
	}
	for _, addr := range addresses {
		stated := map[string]int{}
		for _, c := range e.claimsSince(t, from) {
			if c.Addr == addr && c.At.Before(to) {
				stated[fmt.Sprintf("%s LAN: %s", c.LAN, c.MAC)]++
			}
		}
		if len(stated) != 1 || stated[fmt.Sprintf("%s LAN: %s", lab.ServiceLAN, want)] == 0 {
			t.Errorf("%s of %s (%s) was stated to be at %v", addr, owner, want, stated)
		}
	}
}

// serviceOwners names the node of each address by what is said on the service LAN.
func serviceOwners(t *testing.T, e *eyes) map[netip.Addr]string {
	t.Helper()
	nodes := map[string]string{}
	for _, node := range cluster.NodeNames() {
		nodes[hostMAC(t, node, lab.ServiceLink)] = node
	}
	var out map[netip.Addr]string
	eventually(t, 10*time.Second, "all addresses are claimed on the service LAN", func() (bool, string) {
		out = map[netip.Addr]string{}
		from := time.Now().Add(-500 * time.Millisecond)
		heard := slices.DeleteFunc(e.capture.Claims(from), func(c watch.Claim) bool {
			return c.Port == e.cutOff
		})
		for addr, mac := range watch.Owners(heard, from) {
			if node, known := nodes[mac.String()]; known {
				out[addr] = node
			}
		}
		return len(out) == len(e.addresses), fmt.Sprint(out)
	})
	return out
}

// moveLimit is how long a client of a LAN that a node has left may lose what the node had there. Nothing
// tells of it: links stay up and the speakers hear each other.
const moveLimit = 8 * time.Second

// TestServiceVLANDies: a node's port is taken out of the service VLAN. Its links keep their carrier and its
// speaker is heard on the management LAN; its addresses move all the same, and they stay where they are when
// the port is back.
func TestServiceVLANDies(t *testing.T) {
	apply(t, web("vlan", cluster.NodeNames()...))
	apply(t, pool("vlan", "10.78.0.208/30, fd78::208/126"))
	kubectl(t, "rollout", "status", "deployment/vlan", "--timeout=60s")
	var manifest strings.Builder
	for i := range 4 {
		manifest.WriteString(echo(fmt.Sprintf("vlan%d", i), "vlan", "externalTrafficPolicy: Local") + "---\n")
	}
	apply(t, manifest.String())
	var addresses []netip.Addr
	for i := range 4 {
		addresses = append(addresses, addressesOf(t, fmt.Sprintf("vlan%d", i))...)
	}
	whole(t)
	e := onService(t, addresses)
	from := e.served(t)
	before := serviceOwners(t, e)
	victim, owned := most(before)

	rejoined := false
	t.Cleanup(func() {
		if !rejoined {
			_ = cluster.Node(victim).JoinVLAN(context.WithoutCancel(t.Context()), lab.ServiceLAN)
		}
	})
	start := time.Now()
	if err := cluster.Node(victim).LeaveVLAN(t.Context(), lab.ServiceLAN); err != nil {
		t.Fatal(err)
	}
	e.cutOff = lab.ServiceLink + "-" + victim
	carrier := must(t)(cluster.Host(victim).Exec(t.Context(), "cat",
		"/sys/class/net/"+lab.ServiceLink+"/carrier"))
	if got := strings.TrimSpace(string(carrier)); got != "1" {
		t.Fatalf("%s of %s has carrier %q", lab.ServiceLink, victim, got)
	}
	time.Sleep(time.Second)
	away := e.served(t)
	loss, at := e.longest(owned, from, away)
	fmt.Printf(
		"figure: the service VLAN of the owner of %d addresses dies: the client lost one for %d ms at most\n",
		len(owned), loss.Milliseconds(),
	)
	if loss > moveLimit {
		t.Errorf("the client lost %s for %d ms, want at most %d",
			at, loss.Milliseconds(), moveLimit.Milliseconds())
	}
	after := serviceOwners(t, e)
	for _, addr := range owned {
		if after[addr] == victim {
			t.Errorf("%s is still at %s", addr, victim)
		}
	}
	for _, addr := range addresses {
		if before[addr] != victim && after[addr] != before[addr] {
			t.Errorf("%s moved from %s to %s", addr, before[addr], after[addr])
		}
	}
	time.Sleep(max(0, 15*time.Second-time.Since(start))) // a state that lasts is no flap
	if again := serviceOwners(t, e); fmt.Sprint(again) != fmt.Sprint(after) {
		t.Errorf("owners went on to change from %v to %v", after, again)
	}

	back := time.Now()
	rejoined, e.cutOff = true, ""
	if err := cluster.Node(victim).JoinVLAN(t.Context(), lab.ServiceLAN); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Second)
	end := e.served(t)
	loss, at = e.longest(addresses, away, end)
	changes := watch.Changes(onLAN(e.claimsSince(t, back), lab.ServiceLAN))
	fmt.Printf("figure: the service VLAN is back: the client lost an address for %d ms at most, "+
		"%d changes of place\n", loss.Milliseconds(), len(changes))
	if loss > fewLost {
		t.Errorf("the client lost %s for %d ms when the VLAN was back", at, loss.Milliseconds())
	}
	if now := serviceOwners(t, e); fmt.Sprint(now) != fmt.Sprint(after) {
		t.Errorf("owners changed from %v to %v when the VLAN was back", after, now)
	}
	for _, o := range watch.Overlaps(onLAN(e.capture.Claims(back), lab.ServiceLAN), 4*askEvery) {
		if o.Length() > twoAtOnce {
			t.Errorf("%s and %s answer for %s at once for %d ms",
				o.First, o.Second, o.Addr, o.Length().Milliseconds())
		}
	}
	eventually(t, 30*time.Second, "no conflict is left", func() (bool, string) {
		got := conflicts(t, addresses...)
		return len(got) == 0, fmt.Sprint(got)
	})
}

// onLAN returns the claims on one LAN.
func onLAN(claims []watch.Claim, lan lab.LAN) []watch.Claim {
	return slices.DeleteFunc(slices.Clone(claims), func(c watch.Claim) bool { return c.LAN != lan })
}

// TestTwoLinksInOneSubnet: where a node has two links in the subnet of an address one of them answers, and
// nobody takes that for a conflict.
func TestTwoLinksInOneSubnet(t *testing.T) {
	withSettings(t, "BERTH_SELF_CHECK_INTERVAL=10s")
	for i, node := range cluster.NodeNames() {
		second := lab.OnServiceLAN(lab.NodeAddresses(20 + i))
		if err := cluster.Node(node).AddLink(t.Context(), "svc1", lab.ServiceLAN, second); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := cluster.Node(node).RemoveLink(context.WithoutCancel(t.Context()), "svc1"); err != nil {
				t.Error(err)
			}
		})
	}
	addresses := aDualStack(t, "twin", "10.78.0.216/32, fd78::216/128")
	defer func() {
		if t.Failed() {
			t.Log("conflicts:", conflicts(t, addresses...))
			for _, addr := range addresses {
				t.Log(addr, "is announced by", announcers(t, addr),
					"and answered by", answerers(t, lab.HostClient, lab.ServiceLink, addr, 3))
			}
		}
	}()
	for _, addr := range addresses {
		served(t, addr.String())
	}
	start := time.Now()
	for _, addr := range addresses {
		var got []string
		eventually(t, 10*time.Second, "one link answers for "+addr.String(), func() (bool, string) {
			got = answerers(t, lab.HostClient, lab.ServiceLink, addr, 3)
			return len(got) == 1, fmt.Sprint(got)
		})
		fmt.Printf("figure: two links of each node in one subnet: %s is answered by %v\n", addr, got)
		for range 3 {
			if again := answerers(t, lab.HostClient, lab.ServiceLink, addr, 3); !slices.Equal(again, got) {
				t.Errorf("%s is answered by %v, before by %v", addr, again, got)
			}
		}
	}
	for time.Since(start) < checksTake() {
		if got := conflicts(t, addresses...); len(got) > 0 {
			t.Fatalf("conflicts: %v", got)
		}
		time.Sleep(time.Second)
	}
}
