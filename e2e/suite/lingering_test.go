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

const (
	// lingerFor is how long the former owner lingers in the suite. In real life it is minutes.
	lingerFor = 20 * time.Second
	// An entry of a neighbour cache is verified after these times, in ms and in s. The defaults of Linux,
	// half a minute and five seconds, would outlast the test.
	reachableTime, delayTime = "500", "1"
)

// A cohort is a client with connections that it opens and leaves alone.
type cohort struct {
	name  string
	host  string
	conns []*watch.Connections
}

// TestLingering cordons the owner of an address under a thousand open connections, without and with
// lingerPeriod. With it none is lost as long as the former owner lingers, though neighbour caches verify what
// they know all the time; those that are still open at the end are reset then. New clients go to the new
// owner, and stay.
func TestLingering(t *testing.T) {
	fullOnly(t, "two minutes; TestKernelsKeepToWhoLingers shows the core with real kernels")
	forwarded(t)
	apply(t, web("over", "node1", "node2", "node3"))
	apply(t, pool("over", "10.77.0.200/32, fd77::200/128"))
	kubectl(t, "rollout", "status", "deployment/over", "--timeout=60s")
	apply(t, echo("over", "over", "externalTrafficPolicy: Cluster"))
	addresses := addressesOf(t, "over")
	everyNodeForwards(t, addresses)
	for _, host := range []string{lab.HostClient, lab.HostRouter, lab.HostStranger, lab.HostControlPlane} {
		verifiesOften(t, host)
	}
	t.Run("without", func(t *testing.T) { checkWithoutLingering(t, addresses) })
	kubectl(t, "patch", "l2advertisement", "over", "--type=merge", "-p",
		fmt.Sprintf(`{"spec":{"handOver":{"lingerPeriod":"%s"}}}`, lingerFor))
	t.Run("with", func(t *testing.T) { checkLingering(t, addresses) })
	t.Run("the former owner crashes", func(t *testing.T) { checkFormerCrashes(t, addresses) })
}

// verifiesOften has a host's kernel verify entries of its neighbour cache every second or two, until the test
// ends.
func verifiesOften(t *testing.T, host string) {
	t.Helper()
	for _, family := range []string{"ipv4", "ipv6"} {
		for name, value := range map[string]string{
			"base_reachable_time_ms": reachableTime,
			"delay_first_probe_time": delayTime,
		} {
			key := fmt.Sprintf("net.%s.neigh.eth0.%s", family, name)
			before, err := cluster.Host(host).Exec(t.Context(), "sysctl", "-n", key)
			if err != nil {
				t.Fatal(err)
			}
			set := func(ctx context.Context, value string) {
				if _, err := cluster.Host(host).Exec(ctx, "sysctl", "-w", key+"="+value); err != nil {
					t.Error(err)
				}
			}
			set(t.Context(), value)
			t.Cleanup(func() { set(context.WithoutCancel(t.Context()), strings.TrimSpace(string(before))) })
		}
	}
}

// opens opens connections of a host with each of the addresses, each with a message a second.
func opens(t *testing.T, name, host string, addresses []netip.Addr, count int) cohort {
	t.Helper()
	c := cohort{name: name, host: host}
	for _, addr := range addresses {
		conns, err := watch.OpenConnections(t.Context(), watch.ConnectionsConfig{
			Lab:      cluster,
			Host:     host,
			To:       netip.AddrPortFrom(addr, 80),
			Count:    count / len(addresses),
			Interval: time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conns.Close)
		c.conns = append(c.conns, conns)
	}
	return c
}

// fates is what became of a cohort.
func (c cohort) fates(from, to time.Time) watch.Fates {
	var out watch.Fates
	for _, conns := range c.conns {
		for _, one := range conns.All() {
			out = append(out, one.Fate(from, to, quietLimit))
		}
	}
	return out
}

// entries names the nodes by which the connections of the cohort enter the cluster.
func (c cohort) entries(t *testing.T) (nodes []string) {
	t.Helper()
	for _, conns := range c.conns {
		for _, one := range conns.All() {
			nodes = append(nodes, entered(t, one, "Cluster"))
		}
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// ends closes all connections of the cohort, as a client does that has what it wanted.
func (c cohort) ends() {
	for _, conns := range c.conns {
		conns.Close()
	}
}

// judge prints what became of a cohort, and fails the test unless that is so of all of it.
func (c cohort) judge(t *testing.T, when string, want watch.Ending, from, to time.Time) {
	t.Helper()
	fates := c.fates(from, to)
	fmt.Printf("figure: lingering, %s, %s: %s\n", when, c.name, fates)
	if n := len(fates.Of(want)); n < len(fates) {
		t.Errorf("%s, %s: %d of %d are %s, want all", when, c.name, n, len(fates), want)
	}
}

// ownersOf names the nodes that own addresses according to their Speaker objects: nothing is asked on the
// LAN, where each answer may change what a host knows.
func ownersOf(t *testing.T, addresses []netip.Addr) (owners []string) {
	t.Helper()
	for _, addr := range addresses {
		for _, node := range cluster.NodeNames() {
			rows := get(t, "get speaker "+node, `.status.layer2.announcements[?(@.generation>0)].address`)
			if slices.Contains(strings.Fields(rows), addr.String()) {
				owners = append(owners, node)
			}
		}
	}
	return owners
}

// cordoned cordons the node that owns the addresses until the test ends, and returns it and when that was.
func cordoned(t *testing.T, addresses []netip.Addr) (owner string, at time.Time) {
	t.Helper()
	owner = ownersOf(t, addresses)[0]
	at = time.Now()
	kubectl(t, "cordon", owner)
	cleanup(t, "uncordon", owner)
	return owner, at
}

// sameOwner has one node own all of the addresses.
func sameOwner(t *testing.T, addresses []netip.Addr) {
	t.Helper()
	whole(t)
	one := func() (bool, string) {
		owners := ownersOf(t, addresses)
		nodes := slices.Compact(slices.Clone(owners))
		return len(owners) == len(addresses) && len(nodes) == 1, fmt.Sprint(owners)
	}
	eventually(t, 15*time.Second, "all addresses are owned", func() (bool, string) {
		owners := ownersOf(t, addresses)
		return len(owners) == len(addresses), fmt.Sprint(owners)
	})
	if ok, _ := one(); ok {
		return
	}
	keeps := ownersOf(t, addresses)[0]
	for _, node := range cluster.NodeNames() {
		if node != keeps {
			kubectl(t, "cordon", node)
			cleanup(t, "uncordon", node)
		}
	}
	eventually(t, 15*time.Second, "one node owns all addresses", one)
	for _, node := range cluster.NodeNames() {
		kubectl(t, "uncordon", node)
	}
	time.Sleep(lingerFor) // until nobody lingers
}

// askedBy names the nodes that answer a host which asks all.
func askedBy(t *testing.T, host string, addr netip.Addr) (nodes []string) {
	t.Helper()
	out, _ := cluster.Host(host).Exec(t.Context(), "arping", "-b", "-c", "2", "-w", "2",
		"-I", "eth0", addr.String())
	for _, mac := range anyMAC.FindAllString(string(out), -1) {
		if node := nodeOf(t, mac); !slices.Contains(nodes, node) {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

func checkWithoutLingering(t *testing.T, addresses []netip.Addr) {
	sameOwner(t, addresses)
	all := opens(t, "1,000 connections", lab.HostClient, addresses, 1000)
	time.Sleep(2 * time.Second)
	owner, at := cordoned(t, addresses)
	if got := all.entries(t); !slices.Equal(got, []string{owner}) {
		t.Errorf("they enter by %v, want %s, the owner", got, owner)
	}
	time.Sleep(8 * time.Second)
	all.judge(t, "without lingerPeriod, after a cordon", watch.Reset, at, time.Now())
}

func checkLingering(t *testing.T, addresses []netip.Addr) {
	sameOwner(t, addresses)
	v4 := addresses[slices.IndexFunc(addresses, netip.Addr.Is4)]
	short := opens(t, "those that end meanwhile", lab.HostClient, addresses, 400)
	long := opens(t, "those that do not", lab.HostClient, addresses, 400)
	far := opens(t, "those from behind a router", lab.HostExt, addresses, 200)
	forgetful := opens(t, "of a client that forgets", lab.HostControlPlane, addresses, 20)
	time.Sleep(2 * time.Second)
	before := neighbours(t, lab.HostRouter, addresses)

	former, at := cordoned(t, addresses)
	eventually(t, 5*time.Second, former+" says that it lingers", func() (bool, string) {
		got := get(t, "get speaker "+former, `.status.layer2.announcements[*].lingersFor`)
		return len(strings.Fields(got)) == 2, got
	})
	if got := askedBy(t, lab.HostStranger, v4); len(got) != 1 || got[0] == former {
		t.Errorf("%v answer who asks all, want the new owner alone", got)
	}
	forget(t, lab.HostStranger)
	fresh := opens(t, "of a new client", lab.HostStranger, addresses, 50)
	for _, c := range []cohort{short, long, far, forgetful} {
		if got := c.entries(t); !slices.Equal(got, []string{former}) {
			t.Errorf("%s enter by %v, want %s, the owner", c.name, got, former)
		}
	}
	if got := fresh.entries(t); slices.Contains(got, former) {
		t.Errorf("those of a new client enter by %v, want the new owner", got)
	}
	half := at.Add(lingerFor / 2)
	time.Sleep(time.Until(half))
	short.judge(t, "with lingerPeriod, while it lasts", watch.Open, at, time.Now())
	short.ends()
	forgotten := time.Now()
	forget(t, lab.HostControlPlane)
	time.Sleep(time.Until(at.Add(lingerFor - 3*time.Second)))
	now := time.Now()
	long.judge(t, "with lingerPeriod, while it lasts", watch.Open, at, now)
	far.judge(t, "with lingerPeriod, while it lasts", watch.Open, at, now)
	fresh.judge(t, "with lingerPeriod, while it lasts", watch.Open, at, now)
	forgetful.judge(t, "with lingerPeriod, since it has forgotten", watch.Reset, forgotten, now)
	if after := neighbours(t, lab.HostRouter, addresses); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the router's entries were %v and are %v", before, after)
	}

	time.Sleep(time.Until(at.Add(lingerFor + 7*time.Second)))
	now = time.Now()
	long.judge(t, "with lingerPeriod, when it is over", watch.Reset, at, now)
	far.judge(t, "with lingerPeriod, when it is over", watch.Reset, at, now)
	fresh.judge(t, "with lingerPeriod, when it is over", watch.Open, at, now)
	got := get(t, "get speaker "+former, ".status.layer2.announcements")
	if strings.Contains(got, "lingersFor") {
		t.Errorf("%s still lingers: %s", former, got)
	}
	if got := conflicts(t, addresses...); len(got) > 0 {
		t.Errorf("conflicts: %v", got)
	}
}

// forget has a host drop what its neighbour cache has.
func forget(t *testing.T, host string) {
	t.Helper()
	for _, family := range []string{"-4", "-6"} {
		_, err := cluster.Host(host).Exec(t.Context(), "ip", family, "neigh", "flush", "dev", "eth0")
		if err != nil {
			t.Log(err) // entries come back as soon as they are gone
		}
	}
}

// checkFormerCrashes: the new owner announces the address as soon as the former is gone, long before the time
// is over.
func checkFormerCrashes(t *testing.T, addresses []netip.Addr) {
	sameOwner(t, addresses)
	e := watched(t, addresses)
	e.known(t)
	e.served(t)
	former, _ := cordoned(t, addresses)
	eventually(t, 5*time.Second, former+" says that it lingers", func() (bool, string) {
		got := get(t, "get speaker "+former, `.status.layer2.announcements[*].lingersFor`)
		return len(strings.Fields(got)) == 2, got
	})
	from := time.Now().Add(-200 * time.Millisecond)
	if err := cluster.Node(former).Crash(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Node(former).Start(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	time.Sleep(time.Second)
	to := e.served(t)
	loss, at := e.longest(addresses, from, to)
	fmt.Printf("figure: lingering, the former owner crashes: "+
		"a client that knows it lost %s for %d ms at most\n", at, loss.Milliseconds())
	if loss > lossLimit {
		t.Errorf("the client lost %s for %d ms", at, loss.Milliseconds())
	}
}

// neighbours is where a host sends what it has for addresses.
func neighbours(t *testing.T, host string, addresses []netip.Addr) map[netip.Addr]watch.MAC {
	t.Helper()
	cache, err := watch.Neighbours(t.Context(), cluster, host)
	if err != nil {
		t.Fatal(err)
	}
	out := map[netip.Addr]watch.MAC{}
	for _, addr := range addresses {
		out[addr] = cache[addr]
	}
	return out
}
