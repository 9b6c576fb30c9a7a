package suite

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/product"
	"github.com/berth-lb/berth/e2e/watch"
)

// What the suite demands. Figures are printed; `make bench-failover` measures them many times over.
const (
	// lossLimit is far more than a takeover takes: a busy machine must not fail the suite.
	lossLimit = 5 * time.Second
	// holdLimit is for a node that hangs: its kernel answers, so it keeps what it owns for a while.
	holdLimit = 10 * time.Second
	// fewLost is how much of the traffic may be lost where Berth loses nothing: on a machine whose few
	// processors start containers at the same moment, every process waits its turn, the client and the pods
	// too.
	fewLost = 700 * time.Millisecond
	// twoAtOnce is for how long two nodes may answer for one address, while one hands over to the other.
	twoAtOnce = time.Second

	probeEvery = 10 * time.Millisecond
	askEvery   = 50 * time.Millisecond
)

// echo is a Service with an address of each family of the lab that answers datagrams at port 9.
func echo(name, app, more string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %s}
spec:
  type: LoadBalancer
  %s
  selector: {app: %s}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: echo, port: 9, protocol: UDP, targetPort: 8080}]
  %s
`, name, everyFamily(), app, more)
}

// eyes are a client that sends all the time, and a judge who sees every frame.
type eyes struct {
	addresses []netip.Addr
	traffic   *watch.Traffic // nil where nodes forward nothing
	capture   *watch.Capture
	// cutOff is the port of the switch, if any, whose frames nobody gets.
	cutOff string
}

// watched begins to look at addresses on the LAN of eth0, until the test ends.
func watched(t *testing.T, addresses []netip.Addr) *eyes {
	t.Helper()
	return watchedBy(t, addresses, lab.HostRouter, "eth0", lab.RouterAddresses)
}

// watchedBy is watched with the host, its link and its addresses there that asks for the addresses.
func watchedBy(t *testing.T, addresses []netip.Addr, host, link string, from lab.Addresses) *eyes {
	t.Helper()
	capture, err := watch.StartCapture(cluster, addresses)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := capture.Stop(); err != nil {
			t.Error(err)
		}
	})
	asker, err := watch.StartAskerOn(cluster, host, link, from, addresses, askEvery)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(asker.Stop)
	e := &eyes{addresses: addresses, capture: capture}
	if !cluster.ProxyMode().Forwards() {
		return e
	}
	e.traffic, err = watch.StartTraffic(watch.TrafficConfig{
		Lab:       cluster,
		Host:      lab.HostClient,
		Addresses: addresses,
		Port:      9,
		Interval:  probeEvery,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.traffic.Stop)
	return e
}

// served waits until the client has lost nothing for a moment, and returns when that moment began.
func (e *eyes) served(t *testing.T) time.Time {
	t.Helper()
	forwarded(t)
	var to time.Time
	eventually(t, 30*time.Second, "the client is served at all addresses", func() (bool, string) {
		to = time.Now().Add(-100 * time.Millisecond)
		ok, silent := e.traffic.Steady(to.Add(-500*time.Millisecond), to)
		return ok, fmt.Sprintf("%d are silent: %v", len(silent), silent)
	})
	return to
}

// known makes sure that the client sends to the owners: one that was led astray before would not notice what
// becomes of them.
func (e *eyes) known(t *testing.T) {
	t.Helper()
	forwarded(t)
	if err := watch.ForgetNeighbours(t.Context(), cluster, lab.HostClient); err != nil {
		t.Fatal(err)
	}
	eventually(t, 15*time.Second, "the client sends to the owners", func() (bool, string) {
		from := time.Now().Add(-500 * time.Millisecond)
		cache, err := watch.Neighbours(t.Context(), cluster, lab.HostClient)
		if err != nil {
			t.Fatal(err)
		}
		owners := watch.Owners(e.capture.Claims(from), from)
		return len(owners) == len(e.addresses) && watch.Astray(cache, owners) == 0, fmt.Sprint(cache, owners)
	})
}

// owners names the node of each address by what was last said on the LAN.
func (e *eyes) owners(t *testing.T) map[netip.Addr]string {
	t.Helper()
	var out map[netip.Addr]string
	eventually(t, 10*time.Second, "all addresses are claimed", func() (bool, string) {
		out = map[netip.Addr]string{}
		from := time.Now().Add(-500 * time.Millisecond)
		for addr, mac := range watch.Owners(e.capture.Claims(from), from) {
			out[addr] = nodeOf(t, mac.String())
		}
		return len(out) == len(e.addresses), fmt.Sprint(out)
	})
	return out
}

// most is the node that owns the most addresses, and what it owns.
func most(owners map[netip.Addr]string) (node string, owned []netip.Addr) {
	byNode := map[string][]netip.Addr{}
	for addr, name := range owners {
		byNode[name] = append(byNode[name], addr)
	}
	for _, name := range cluster.NodeNames() {
		if len(byNode[name]) > len(byNode[node]) {
			node = name
		}
	}
	owned = byNode[node]
	slices.SortFunc(owned, netip.Addr.Compare)
	return node, owned
}

// ownedAt counts the addresses that a node owns.
func ownedAt(owners map[netip.Addr]string, node string) (n int) {
	for _, owner := range owners {
		if owner == node {
			n++
		}
	}
	return n
}

// longest is the longest loss of any of the addresses between two times.
func (e *eyes) longest(addresses []netip.Addr, from, to time.Time) (loss time.Duration, at netip.Addr) {
	for _, addr := range addresses {
		if o := e.traffic.Outage(addr, from, to); o.Longest > loss {
			loss, at = o.Longest, addr
		}
	}
	return loss, at
}

// forGood counts the probes between two times that were not answered at all. Others are answered late, and
// count as lost too: the machine was busy.
func (e *eyes) forGood(from, to time.Time) (n int) {
	for _, addr := range e.addresses {
		o := e.traffic.Outage(addr, from, to)
		n += o.Lost - o.Late
	}
	return n
}

// tell writes into the test's log what the client lost of each address, and who said meanwhile to have it.
func (e *eyes) tell(t *testing.T, from, to time.Time) {
	t.Helper()
	said := map[netip.Addr]map[string]int{}
	for _, c := range e.capture.Claims(from) {
		if said[c.Addr] == nil {
			said[c.Addr] = map[string]int{}
		}
		if c.At.Before(to) {
			said[c.Addr][nodeOf(t, c.MAC.String())]++
		}
	}
	for _, addr := range e.addresses {
		if o := e.traffic.Outage(addr, from, to); o.Lost > 0 {
			t.Logf("%s: %d of %d probes lost, %d of them answered late, %d ms at most, "+
				"the last %d ms after the beginning; claimed by %v",
				addr, o.Lost, o.Sent, o.Late, o.Longest.Milliseconds(), o.Last.Milliseconds(), said[addr])
		}
	}
}

// clear fails the test if two nodes answered for one address for too long.
func (e *eyes) clear(t *testing.T, since time.Time) {
	t.Helper()
	for _, o := range watch.Overlaps(e.capture.Claims(since), 4*askEvery) {
		if o.Length() > twoAtOnce {
			t.Errorf("%s and %s answer for %s at once for %d ms",
				o.First, o.Second, o.Addr, o.Length().Milliseconds())
		}
	}
}

// whole waits until all speakers work.
func whole(t *testing.T) {
	t.Helper()
	eventually(t, time.Minute, "all speakers work", func() (bool, string) {
		err := product.Whole(t.Context(), cluster)
		return err == nil, fmt.Sprint(err)
	})
}

// eight makes eight Services with a pod on each node, and returns their addresses, of each family of the
// lab. Traffic policy Local: the client's loss is Berth's alone, and not that of kube-proxy, which sends to
// pods of a dead node until Kubernetes notices.
func eight(t *testing.T) []netip.Addr {
	t.Helper()
	return eightOf(t, "Local")
}

// eightOf is eight with this traffic policy.
func eightOf(t *testing.T, policy string) []netip.Addr {
	t.Helper()
	apply(t, web("over", cluster.NodeNames()...))
	apply(t, pool("over", "10.77.0.200/29, fd77::200/125"))
	kubectl(t, "rollout", "status", "deployment/over", "--timeout=60s")
	var all strings.Builder
	for i := range 8 {
		all.WriteString(echo(fmt.Sprintf("over%d", i), "over", "externalTrafficPolicy: "+policy) + "---\n")
	}
	apply(t, all.String())
	var addresses []netip.Addr
	for i := range 8 {
		addresses = append(addresses, addressesOf(t, fmt.Sprintf("over%d", i))...)
	}
	return addresses
}

// A trial breaks something of the node that owns the most, and mends it.
type trial struct {
	name  string
	fault func(t *testing.T, victim string)
	mend  func(t *testing.T, victim string)
	// lasts is how long it is looked at after the fault at least.
	lasts time.Duration
	// limit is how long the client may lose an address.
	limit time.Duration
	// moves: all addresses of the victim are elsewhere afterwards; otherwise none is.
	moves bool
	// backLimit is how long the client may lose an address when the fault is mended.
	backLimit time.Duration
}

func trials() []trial {
	try := func(do func(*lab.Node, context.Context) error) func(*testing.T, string) {
		return func(t *testing.T, victim string) {
			t.Helper()
			// Also when the test has ended: what is broken must be mended.
			if err := do(cluster.Node(victim), context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		}
	}
	nothing := func(*testing.T, string) {}
	return []trial{
		{"crash", try((*lab.Node).Crash), try((*lab.Node).Start), time.Second, lossLimit, true, fewLost},
		{"cable", try((*lab.Node).Cut), try((*lab.Node).Heal), time.Second, lossLimit, true, fewLost},
		{"hang", try((*lab.Node).Hang), try((*lab.Node).Unhang), time.Second, holdLimit, true, fewLost},
		{"kill", func(t *testing.T, victim string) {
			if err := cluster.Node(victim).KillProcess(product.SpeakerProcess, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}, nothing, 3 * time.Second, fewLost, false, fewLost},
		{"upgrade", func(t *testing.T, _ string) {
			kubectl(t, "rollout", "restart", "-n", system, product.Speaker)
			kubectl(t, "rollout", "status", "-n", system, product.Speaker, "--timeout=60s")
		}, nothing, time.Second, fewLost, false, fewLost},
		{"drain", try((*lab.Node).Drain), try((*lab.Node).Undrain), 3 * time.Second, fewLost, true, fewLost},
	}
}

// TestFailover breaks the owner in each way, under traffic over all families: the loss is short, there is
// none where it is planned, two nodes never answer at once for long, and what has moved stays when the node
// is back.
func TestFailover(t *testing.T) {
	addresses := eight(t)
	for _, trial := range trials() {
		t.Run(trial.name, func(t *testing.T) { trial.run(t, addresses) })
	}
	t.Run("all restart at once", func(t *testing.T) { checkAllRestart(t, addresses) })
	t.Run("frozen speaker", func(t *testing.T) { checkFrozen(t, addresses) })
	t.Run("failback", func(t *testing.T) { checkFailback(t, addresses) })
}

// run breaks the node that owns the most of the addresses, judges what the client lost, mends it, and judges
// again.
func (trial trial) run(t *testing.T, addresses []netip.Addr) {
	t.Helper()
	whole(t)
	e := watched(t, addresses)
	e.known(t)
	from := e.served(t)
	victim, owned := most(e.owners(t))
	mended := false
	t.Cleanup(func() {
		if !mended {
			trial.mend(t, victim)
		}
	})
	start := time.Now()
	trial.fault(t, victim)
	time.Sleep(max(0, trial.lasts-time.Since(start)))
	to := e.served(t)
	loss, at := e.longest(owned, from, to)
	next := e.owners(t)
	fmt.Printf("figure: %s of the owner of %d addresses: the client lost one for %d ms at most\n",
		trial.name, len(owned), loss.Milliseconds())
	if loss > trial.limit {
		t.Errorf("the client lost %s for %d ms, want at most %d",
			at, loss.Milliseconds(), trial.limit.Milliseconds())
		e.tell(t, from, to)
	}
	for _, addr := range owned {
		if moved := next[addr] != victim; moved != trial.moves {
			t.Errorf("%s was at %s and is at %s", addr, victim, next[addr])
		}
	}
	mended = true
	trial.mend(t, victim)
	whole(t)
	end := e.served(t)
	if loss, at := e.longest(addresses, to, end); loss > trial.backLimit {
		t.Errorf("the client lost %s for %d ms when it was mended", at, loss.Milliseconds())
		e.tell(t, to, end)
	}
	for addr, node := range e.owners(t) {
		if node != next[addr] {
			t.Errorf("%s was at %s and moved to %s when %s came back", addr, next[addr], node, victim)
		}
	}
	e.clear(t, from)
}

// TestManyMoves has addresses move again and again, as soon as they have moved. A kernel may hear of the next
// move within a second of the last one (its locktime, arp(7)), and verifies what it knows every second. Hosts
// that ask are always answered, and a client that knows the addresses follows each move.
func TestManyMoves(t *testing.T) {
	fullOnly(t, "twenty seconds; TestFailover moves addresses once in each way")
	const rounds = 4
	addresses := eight(t)
	whole(t)
	verifiesOften(t, lab.HostClient)
	e := watched(t, addresses)
	strangersAsk(t, addresses)
	e.known(t)
	from := e.served(t)
	moves := 0
	for range rounds {
		for _, node := range cluster.NodeNames() {
			moves += e.movedFrom(t, node)
		}
	}
	to := e.served(t)
	gap, unanswered := e.unanswered(addresses, from, to)
	loss, at := e.longest(addresses, from, to)
	fmt.Printf("figure: %d moves of %d addresses within %.1f s: nobody answered for one for %d ms at most; "+
		"a client that knows them lost one for %d ms at most, and %d of its probes for good\n",
		moves, len(addresses), to.Sub(from).Seconds(), gap.Milliseconds(), loss.Milliseconds(),
		e.forGood(from, to))
	// A busy machine answers late; what is not answered at all is Berth's.
	if gap > lossLimit {
		t.Errorf("nobody answered for %s for %d ms", unanswered, gap.Milliseconds())
	}
	if n := e.forGood(from, to); n > 0 || loss > lossLimit {
		t.Errorf("the client lost %s for %d ms, and %d probes for good", at, loss.Milliseconds(), n)
		e.tell(t, from, to)
	}
	e.clear(t, from)
}

// movedFrom cordons a node until others answer for all addresses, and returns how many it had.
func (e *eyes) movedFrom(t *testing.T, node string) (moves int) {
	t.Helper()
	moves = ownedAt(e.owners(t), node)
	kubectl(t, "cordon", node)
	cleanup(t, "uncordon", node)
	eventually(t, 10*time.Second, "others have what "+node+" had", func() (bool, string) {
		left := ownedAt(e.owners(t), node)
		return left == 0, fmt.Sprintf("it has %d", left)
	})
	kubectl(t, "uncordon", node)
	return moves
}

// checkAllRestart deletes the pods of all speakers at once, again and again. No address moves.
func checkAllRestart(t *testing.T, addresses []netip.Addr) {
	runs := restarts(t)
	whole(t)
	e := watched(t, addresses)
	e.known(t)
	from := e.served(t)
	before := e.owners(t)
	moved := 0
	var longest time.Duration
	for run := range runs {
		pods := speakers(t)
		kubectl(t, "delete", "pods", "-n", system, "-l", product.SpeakerPods, "--wait=false")
		eventually(t, time.Minute, "all are other pods", func() (bool, string) {
			now := speakers(t)
			for node, was := range pods {
				if now[node].pod == "" || now[node].pod == was.pod || !now[node].ready {
					return false, fmt.Sprint(now)
				}
			}
			return true, ""
		})
		whole(t)
		to := e.served(t)
		loss, _ := e.longest(addresses, from, to)
		if longest = max(longest, loss); loss > fewLost {
			e.tell(t, from, to)
		}
		from = to
		for addr, node := range e.owners(t) {
			if node != before[addr] {
				t.Errorf("run %d: %s moved from %s to %s", run+1, addr, before[addr], node)
				moved++
			}
			before[addr] = node
		}
	}
	fmt.Printf("figure: all speakers restarted at once %d times: "+
		"%d addresses moved, the client lost one for %d ms at most\n",
		runs, moved, longest.Milliseconds())
	if longest > lossLimit {
		t.Errorf("the client lost an address for %d ms", longest.Milliseconds())
	}
}

// checkFrozen stops the owner's speaker only, for so long that its addresses are looked after by others. When
// it goes on it answers for none that another has taken over.
func checkFrozen(t *testing.T, addresses []netip.Addr) {
	whole(t)
	e := watched(t, addresses)
	e.known(t)
	from := e.served(t)
	victim, owned := most(e.owners(t))
	signal := func(s syscall.Signal) {
		t.Helper()
		if err := cluster.Node(victim).KillProcess(product.SpeakerProcess, s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	time.Sleep(4 * time.Second)
	signal(syscall.SIGCONT)
	time.Sleep(2 * time.Second)
	whole(t)
	to := e.served(t)
	loss, _ := e.longest(owned, from, to)
	fmt.Printf(
		"figure: speaker frozen for 4 s, owner of %d addresses: the client lost one for %d ms at most\n",
		len(owned), loss.Milliseconds(),
	)
	if loss > lossLimit {
		t.Errorf("the client lost an address for %d ms", loss.Milliseconds())
	}
	// Stricter than while a healthy owner hands over: whoever wakes up must look before it speaks.
	for _, o := range watch.Overlaps(e.capture.Claims(from), 4*askEvery) {
		if o.Length() > 2*askEvery {
			t.Errorf("%s and %s answer for %s at once for %d ms",
				o.First, o.Second, o.Addr, o.Length().Milliseconds())
		}
	}
}

// checkFailback asks for addresses to return to a node that returns.
func checkFailback(t *testing.T, addresses []netip.Addr) {
	whole(t)
	kubectl(t, "patch", "l2advertisement", "over", "--type=merge", "-p", `{"spec":{"failback":"Immediate"}}`)
	e := watched(t, addresses)
	time.Sleep(2 * time.Second) // what moves moves in that time
	// Now everything is where the hash wants it.
	var before map[netip.Addr]string
	eventually(t, 10*time.Second, "addresses have found their places", func() (bool, string) {
		before = e.owners(t)
		time.Sleep(500 * time.Millisecond)
		return fmt.Sprint(before) == fmt.Sprint(e.owners(t)), fmt.Sprint(before)
	})
	victim, owned := most(before)
	if err := cluster.Node(victim).Cut(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 15*time.Second, "others have taken over", func() (bool, string) {
		now := e.owners(t)
		return !slices.ContainsFunc(owned, func(a netip.Addr) bool {
			return now[a] == victim
		}), fmt.Sprint(now)
	})
	if err := cluster.Node(victim).Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the addresses are back at "+victim, func() (bool, string) {
		now := e.owners(t)
		return fmt.Sprint(now) == fmt.Sprint(before), fmt.Sprint(now)
	})
}
