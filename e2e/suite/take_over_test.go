package suite

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/incumbent"
	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/watch"
)

// A migration is a cluster whose addresses another load balancer announces, one node for each, while a client
// sends to all of them.
type migration struct {
	eyes
	nodes     map[netip.Addr]string // that the other announces from
	announces map[string]*incumbent.Announcer
	begun     time.Time
}

// The Services of a migration have the addresses from migrationFirst on.
const (
	migrationFirst = 232
	migrationCount = 4
)

// migrationPool is what both load balancers have.
func migrationPool() string {
	return pool("moving", spans(migrationFirst, migrationFirst+migrationCount-1))
}

// underAnother makes Services whose addresses another load balancer has assigned and announces.
func underAnother(t *testing.T) *migration {
	t.Helper()
	needsBoth(t, "its addresses are of both families")
	nodes := cluster.NodeNames()
	apply(t, web("moving", nodes...))
	kubectl(t, "rollout", "status", "deployment/moving", "--timeout=60s")
	m := &migration{
		nodes:     map[netip.Addr]string{},
		announces: map[string]*incumbent.Announcer{},
	}
	for i := range migrationCount {
		name := fmt.Sprintf("moving%d", i)
		apply(t, echo(name, "moving", ""))
		v4, v6 := ipv4.at(migrationFirst+i), ipv6.at(migrationFirst+i)
		writes(t, name, fmt.Sprintf(`[{"ip":%q},{"ip":%q}]`, v4, v6))
		for _, text := range []string{v4, v6} {
			addr := netip.MustParseAddr(text)
			m.addresses = append(m.addresses, addr)
			m.nodes[addr] = nodes[i%len(nodes)]
		}
	}
	m.start(t)
	t.Cleanup(func() { m.end(t) })
	m.eyes = *watched(t, m.addresses)
	m.begun = m.served(t)
	return m
}

// start has the other load balancer announce the addresses.
func (m *migration) start(t *testing.T) {
	t.Helper()
	byNode := map[string][]netip.Addr{}
	for _, addr := range m.addresses {
		byNode[m.nodes[addr]] = append(byNode[m.nodes[addr]], addr)
	}
	for node, addresses := range byNode {
		a, err := incumbent.Start(t.Context(), cluster.Host(node), "eth0", addresses)
		if err != nil {
			t.Fatal(err)
		}
		m.announces[node] = a
	}
}

// end ends the other load balancer.
func (m *migration) end(t *testing.T) {
	t.Helper()
	for node, a := range m.announces {
		if err := a.Stop(); err != nil {
			t.Errorf("%s: %v", node, err)
		}
		delete(m.announces, node)
	}
}

// lost prints and judges what the client lost since the step before.
func (m *migration) lost(t *testing.T, step string) {
	t.Helper()
	to := m.served(t)
	loss, addr := m.longest(m.addresses, m.begun, to)
	sent, missed := 0, 0
	for _, addr := range m.addresses {
		o := m.traffic.Outage(addr, m.begun, to)
		sent, missed = sent+o.Sent, missed+o.Lost
	}
	fmt.Printf("figure: take-over, %s: %d of %d probes of %d addresses lost in %.0f s, %d of them for good; "+
		"an address for %d ms at most\n",
		step, missed, sent, len(m.addresses), to.Sub(m.begun).Seconds(), m.forGood(m.begun, to),
		loss.Milliseconds())
	if loss > fewLost {
		t.Errorf("%s: the client lost %s for %d ms", step, addr, loss.Milliseconds())
		m.tell(t, m.begun, to)
	}
	m.begun = to
}

// owned waits until one node announces each address by Berth, and returns the nodes.
func (m *migration) owned(t *testing.T) map[netip.Addr]string {
	t.Helper()
	out := map[netip.Addr]string{}
	for _, addr := range m.addresses {
		eventually(t, 30*time.Second, "Berth announces "+addr.String(), func() (bool, string) {
			nodes := announcers(t, addr)
			if len(nodes) == 1 {
				out[addr] = nodes[0]
			}
			return len(nodes) == 1, fmt.Sprint(nodes)
		})
	}
	return out
}

// adopted checks that every Service has the addresses that the other gave it.
func (m *migration) adopted(t *testing.T) {
	t.Helper()
	for i := range migrationCount {
		want := ipv4.at(migrationFirst+i) + " " + ipv6.at(migrationFirst+i)
		if got := address(t, fmt.Sprintf("moving%d", i)); got != want {
			t.Errorf("Service moving%d has %q, want %q", i, got, want)
		}
	}
}

// beside checks that Berth announces beside the other: it tells of each address that the other announces from
// another node than Berth does, and the client goes on sending to the other.
func (m *migration) beside(t *testing.T, owners map[netip.Addr]string) {
	t.Helper()
	apart := 0
	for _, addr := range m.addresses {
		if m.nodes[addr] == owners[addr] {
			continue
		}
		apart++
		what := "the Speaker of " + owners[addr] + " tells who else answers for " + addr.String()
		eventually(t, 20*time.Second, what, func() (bool, string) {
			got := conflicts(t, addr)
			return slices.ContainsFunc(got, func(c string) bool {
				return strings.Contains(c, `"OtherNode"`) &&
					strings.Contains(c, "Node "+m.nodes[addr]+" answers for") &&
					strings.Contains(c, "kubectl berth import --take-over")
			}), fmt.Sprint(got)
		})
		eventually(t, 10*time.Second, "an Event tells of "+addr.String(), func() (bool, string) {
			out := show(t, "get events -A", `{range .items[*]}{.reason}{" "}{.message}{"\n"}{end}`)
			for line := range strings.Lines(out) {
				if strings.HasPrefix(line, "AddressOtherNode ") && strings.Contains(line, addr.String()+" ") {
					return true, ""
				}
			}
			return false, out
		})
	}
	if apart == 0 {
		t.Error("both announce every address from the same node, which proves nothing")
	}
	m.sentTo(t, "the other's nodes", m.nodes)
}

// sentTo checks where the client sends.
func (m *migration) sentTo(t *testing.T, what string, nodes map[netip.Addr]string) {
	t.Helper()
	want := map[netip.Addr]watch.MAC{}
	for addr, node := range nodes {
		mac := watch.MAC{}
		if _, err := fmt.Sscanf(macOf(t, node), "%02x:%02x:%02x:%02x:%02x:%02x",
			&mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5]); err != nil {
			t.Fatal(err)
		}
		want[addr] = mac
	}
	eventually(t, 20*time.Second, "the client sends to "+what, func() (bool, string) {
		cache, err := watch.Neighbours(t.Context(), cluster, lab.HostClient)
		if err != nil {
			t.Fatal(err)
		}
		return watch.Astray(cache, want) == 0, fmt.Sprintf("%v, want %v", cache, want)
	})
}

// over waits until Berth has noticed that the other is gone: the owners do after ten seconds, and who checks
// them, if that has seen the other, at the next check.
func (m *migration) over(t *testing.T) {
	t.Helper()
	eventually(t, 90*time.Second, "no conflict is told of any more", func() (bool, string) {
		got := conflicts(t, m.addresses...)
		return len(got) == 0, fmt.Sprint(got)
	})
}

// TestTakeOver: Berth takes over from another load balancer that announces from the same nodes, and gives
// back to it. Each announces beside the other for a while, and the client loses nothing.
func TestTakeOver(t *testing.T) {
	m := underAnother(t)

	apply(t, migrationPool())
	owners := m.owned(t)
	m.adopted(t)
	m.beside(t, owners)
	m.lost(t, "Berth announces beside the other")

	m.end(t)
	gone := time.Now()
	m.over(t)
	fmt.Printf("figure: take-over: Berth has noticed after %.1f s that the other is gone\n",
		time.Since(gone).Seconds())
	m.sentTo(t, "Berth's owners", owners)
	m.lost(t, "the other is removed")

	m.start(t)
	m.sentTo(t, "the other's nodes", m.nodes)
	kubectl(t, "delete", "l2advertisement", "moving")
	for _, addr := range m.addresses {
		eventually(t, 10*time.Second, "Berth withdraws "+addr.String(), func() (bool, string) {
			nodes := announcers(t, addr)
			return len(nodes) == 0, fmt.Sprint(nodes)
		})
	}
	m.adopted(t)
	time.Sleep(3 * time.Second) // hosts verify what they know
	m.lost(t, "the other is back, and Berth announces no more")
}
