package suite

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
	"github.com/berth-lb/berth/e2e/product"
	"github.com/berth-lb/berth/e2e/stranger"
	"github.com/berth-lb/berth/e2e/watch"
)

// Ports of a speaker that everybody on the network reaches.
const (
	healthPort  = 9741
	metricsPort = 9740
)

// from dials as a host of the lab.
func from(host string) stranger.Dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		return cluster.Host(host).Dial(ctx, network, address)
	}
}

// target is a port of a node, by the family by which the nodes talk to each other.
func target(t *testing.T, node string, port uint16) string {
	t.Helper()
	i := slices.Index(cluster.NodeNames(), node)
	if i < 0 {
		t.Fatalf("no node %q", node)
	}
	return netip.AddrPortFrom(first().of(lab.NodeAddresses(i+1)), port).String()
}

// together samples what the speakers say of each other until the test ends or stop is called, and fails the
// test when one of them saw fewer than all.
func together(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() {
		for ctx.Err() == nil {
			var list struct {
				Items []struct{ Status struct{ AbsentCount int } }
			}
			// What fails is asked again.
			_ = cluster.API().Get(ctx, "/apis/berth.io/v1beta1/speakers", &list)
			for _, s := range list.Items {
				if s.Status.AbsentCount != 0 {
					t.Errorf("a speaker misses %d others, want none: %+v", s.Status.AbsentCount, list.Items)
					return
				}
			}
			time.Sleep(300 * time.Millisecond)
		}
	})
	stop = func() { cancel(); wait.Wait() }
	t.Cleanup(stop)
	return stop
}

// TestStrangerAtMemberPort: streams that announce 20 MiB each, from a host of the LAN, from a pod, and from a
// node's own address; others that never say anything whole; and datagrams. No speaker restarts or comes near
// its limit of memory, they stay together, and what is announced is served without a loss.
func TestStrangerAtMemberPort(t *testing.T) {
	addresses := aDualStack(t, "attacked", spans(220, 220))
	whole(t)
	e := watched(t, addresses)
	e.known(t)
	owners := e.owners(t)
	victim := owners[addresses[0]]
	nodes := slices.DeleteFunc(slices.Clone(cluster.NodeNames()), func(n string) bool { return n == victim })
	const streams, gigabit = 60, 125_000_000
	flood := func(host string, howLong time.Duration) stranger.StreamResult {
		return stranger.Flood(t.Context(), stranger.Streams{
			Dial:   from(host),
			Target: target(t, victim, product.MemberPort),
			Count:  streams,
			For:    howLong,
			Rate:   gigabit,
		})
	}
	for _, test := range []struct {
		name   string
		full   bool
		attack func(t *testing.T) string
	}{
		{"flood from the LAN", false,
			func(*testing.T) string { return fmt.Sprintf("%+v", flood(lab.HostStranger, 10*time.Second)) }},
		{"flood from a pod", true, func(t *testing.T) string { return floodFromPod(t, victim, nodes[0]) }},
		{"flood from a node", true,
			func(*testing.T) string { return fmt.Sprintf("%+v", flood(nodes[0], 10*time.Second)) }},
		{"trickle and datagrams", false, func(t *testing.T) string {
			var trickled stranger.StreamResult
			var sent int
			var err error
			var both sync.WaitGroup
			both.Go(func() {
				trickled = stranger.Trickle(t.Context(), stranger.Streams{
					Dial:   from(lab.HostStranger),
					Target: target(t, victim, product.MemberPort),
					Count:  200,
					For:    10 * time.Second,
				})
			})
			both.Go(func() {
				sent, err = stranger.Datagrams(
					t.Context(),
					from(lab.HostStranger),
					target(t, victim, product.MemberPort),
					5000,
					10*time.Second,
				)
			})
			both.Wait()
			if err != nil {
				t.Error(err)
			}
			return fmt.Sprintf("%+v, %d datagrams", trickled, sent)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.full {
				fullOnly(t, "a quarter of a minute; the same flood comes from the LAN")
			}
			whole(t)
			before := speakers(t)
			begin := e.served(t)
			stop := together(t)
			did := test.attack(t)
			stop()
			to := e.served(t)
			loss, at := e.longest(addresses, begin, to)
			fmt.Printf("figure: %s: %s: the client lost an address for %d ms at most, "+
				"the speaker had %d MiB at most\n",
				test.name, did, loss.Milliseconds(), bearable(t, victim))
			if loss > fewLost {
				t.Errorf("the client lost %s for %d ms", at, loss.Milliseconds())
			}
			unharmed(t, before)
			if now := e.owners(t); fmt.Sprint(now) != fmt.Sprint(owners) {
				t.Errorf("owners are %v, and were %v", now, owners)
			}
			e.clear(t, begin)
		})
	}
}

// floodFromPod has a pod on one node flood the member port of another.
func floodFromPod(t *testing.T, victim, on string) string {
	t.Helper()
	apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: stranger}
spec:
  nodeName: %s
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: stranger
    image: %s
    args: [flood, --target, "%s", --count, "60", --for, 10s]
`, on, lab.StrangerImage, target(t, victim, product.MemberPort)))
	eventually(t, 40*time.Second, "the pod has ended", func() (bool, string) {
		got := get(t, "get pod stranger", ".status.phase")
		return got == "Succeeded", got
	})
	return "{" + kubectl(t, "logs", "stranger") + "}"
}

// TestStrangerAtHealthPort: four thousand connections to the health port on which nothing is sent, and then
// as many on which nothing comes after a first request. The kubelet's probes are answered all the while, and
// no connection is kept for long.
func TestStrangerAtHealthPort(t *testing.T) {
	for _, test := range []struct {
		name, first string
		lasts       time.Duration
	}{
		{"silent", "", 12 * time.Second},
		// Three probes in a row that fail are ten seconds each apart.
		{"silent after a request", "GET /healthz HTTP/1.1\r\nHost: stranger\r\n\r\n", 42 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.first != "" {
				fullOnly(t, "three quarters of a minute; another flood of the port is tried")
			}
			checkHealthPort(t, test.name, test.first, test.lasts)
		})
	}
}

func checkHealthPort(t *testing.T, name, first string, lasts time.Duration) {
	whole(t)
	const victim, connections = "node1", 4000
	before := speakers(t)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	attacked := make(chan stranger.StreamResult, 1)
	start := time.Now()
	go func() {
		attacked <- stranger.Idle(ctx, stranger.Streams{
			Dial:   from(lab.HostStranger),
			Target: target(t, victim, healthPort),
			Count:  connections,
			First:  []byte(first),
			For:    lasts,
		})
	}()
	unready, asked, files, slowest := 0, 0, 0, time.Duration(0)
	probe := http.Client{Timeout: time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       from(victim),
	}}
	var result stranger.StreamResult
	for done := false; !done; {
		select {
		case result = <-attacked:
			done = true
		case <-time.After(time.Second):
		}
		if !speakers(t)[victim].ready {
			unready++
		}
		// As the kubelet asks: from the node itself, at its address.
		asked++
		sent := time.Now()
		response, err := probe.Get("http://" + target(t, victim, healthPort) + "/healthz")
		if err != nil {
			t.Errorf("%s after the attack began the health port does not answer: %v",
				time.Since(start).Round(time.Second), err)
			continue
		}
		_ = response.Body.Close()
		slowest = max(slowest, time.Since(sent))
		files = max(files, openFiles(t, victim))
	}
	fmt.Printf("figure: %d connections to the health port, %s: %+v; "+
		"%d questions answered, the slowest after %d ms; the speaker had %d files open and %d MiB at most\n",
		connections, name, result, asked, slowest.Milliseconds(), files, bearable(t, victim))
	if files > openLimit {
		t.Errorf("the speaker had %d files open, want at most %d", files, openLimit)
	}
	if unready > 0 {
		t.Errorf("the speaker was not ready %d of %d times", unready, asked)
	}
	unharmed(t, before)
	whole(t)
}

// openLimit is how many files and connections a speaker may have open, whoever connects.
const openLimit = 500

// openFiles is how many the speaker of a node has open.
func openFiles(t *testing.T, node string) int {
	t.Helper()
	out, err := cluster.Node(node).Exec(t.Context(), "sh", "-c", "ls /proc/$(pgrep -o -x speaker)/fd | wc -l")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestStrangerAtMetrics: six requests a second with tokens that nobody gave out, and then a hundred. Whoever
// has a good one is answered each time.
func TestStrangerAtMetrics(t *testing.T) {
	whole(t)
	const victim = "node1"
	token := metricsReader(t)
	before := speakers(t)
	url := "https://" + target(t, victim, metricsPort) + "/metrics"
	scraper := stranger.Client(from(lab.HostClient), 5*time.Second)
	for _, test := range []struct {
		perSecond int
		lasts     time.Duration
	}{{6, 15 * time.Second}, {100, 8 * time.Second}} {
		t.Run(fmt.Sprintf("%d a second", test.perSecond), func(t *testing.T) {
			if test.perSecond < 100 {
				fullOnly(t, "a quarter of a minute; more requests are tried")
			}
			bogus := make(chan map[int]int, 1)
			go func() {
				client := stranger.Client(from(lab.HostStranger), 5*time.Second)
				bogus <- stranger.Requests(t.Context(), client, url, test.perSecond, test.lasts)
			}()
			time.Sleep(4 * time.Second) // whatever is counted is spent by then
			good := map[int]int{}
			for range int(test.lasts/time.Second) - 4 {
				status, body, err := stranger.Scrape(t.Context(), scraper, url, token)
				if err != nil {
					t.Log(err)
				}
				if status == http.StatusOK && !bytes.Contains(body, []byte("berth_")) {
					t.Errorf("a page without metrics: %.200s", body)
				}
				good[status]++
				time.Sleep(time.Second)
			}
			answers := <-bogus
			fmt.Printf("figure: %d bogus requests a second, answered %v: the good one was answered %v\n",
				test.perSecond, answers, good)
			if len(good) != 1 || good[http.StatusOK] == 0 {
				t.Errorf("answers to the good token: %v", good)
			}
			if answers[http.StatusOK] > 0 {
				t.Errorf("answers to bogus tokens: %v", answers)
			}
		})
	}
	unharmed(t, before)
}

// TestForgedClaims: a host claims the addresses of Services with a new link-layer address in every frame, a
// thousand times a second. What the speakers log, and tell in Events and objects, stays within bounds, and
// the owners stay.
func TestForgedClaims(t *testing.T) {
	addresses := aDualStack(t, "forged", spans(221, 221))
	whole(t)
	e := watched(t, addresses)
	e.served(t)
	owners := e.owners(t)
	before := speakers(t)
	api := clientset(t)
	howLong := 10 * time.Second
	if full() {
		howLong *= 2
	}
	var forger *stranger.Forger
	err := cluster.Host(lab.HostStranger).Run(func() (err error) {
		forger, err = stranger.Claims{
			Link:      "eth0",
			Addresses: addresses,
			MACs:      5000,
			PerSecond: 1000,
			For:       howLong,
		}.Open()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	writes := requestsServed(t, api, `resource="speakers"`)
	events := requestsServed(t, api, `resource="events"`)
	frames := forger.Run(t.Context())
	time.Sleep(time.Second)
	writes = requestsServed(t, api, `resource="speakers"`) - writes
	events = requestsServed(t, api, `resource="events"`) - events
	lines := 0
	for _, s := range before {
		out := kubectl(t, "logs", "-n", system, s.pod, "--since-time="+start.UTC().Format(time.RFC3339))
		lines += strings.Count(out, "\n") + 1
	}
	fmt.Printf("figure: %d frames of forged claims in %s: %d log lines, %d writes of Speakers, "+
		"%d writes of Events, by %d speakers\n",
		frames, howLong, lines, writes, events, len(before))
	// For each address and link a line in ten seconds, from each speaker, and some for what begins and ends.
	bound := len(before) * len(addresses) * (int(howLong/(10*time.Second)) + 3) * 2
	for what, n := range map[string]int{"log lines": lines, "writes of Events": events} {
		if n > bound {
			t.Errorf("%d %s, want at most %d", n, what, bound)
		}
	}
	// Objects are written once a second at most whatever happens.
	if most := len(before) * (int(howLong/time.Second) + 5); writes > most {
		t.Errorf("%d writes of Speakers, want at most %d", writes, most)
	}
	unharmed(t, before)
	// They are remembered for minutes.
	found := conflicts(t, addresses...)
	fmt.Printf("figure: the Speakers tell of %d conflicts about %d addresses\n", len(found), len(addresses))
	if most := len(before) * len(addresses) * 8; len(found) == 0 || len(found) > most {
		t.Errorf("%d conflicts, want some and at most %d", len(found), most)
	}
	if err := watch.ForgetNeighbours(t.Context(), cluster, lab.HostClient); err != nil {
		t.Fatal(err)
	}
	e.served(t)
	if now := e.owners(t); fmt.Sprint(now) != fmt.Sprint(owners) {
		t.Errorf("owners are %v, and were %v", now, owners)
	}
}

// TestRefreshFlood: a router comes up with a node, asks for all routes thousands of times a second, and takes
// none. The speaker bears it, another router keeps its sessions and hears of changes, and what is announced
// by layer 2 is served.
func TestRefreshFlood(t *testing.T) {
	fullOnly(t, "a minute and a half, for a router that the user has configured and that attacks")
	if _, err := os.Stat("/usr/lib/frr/bgpd"); err != nil {
		t.Fatal("needs FRR: `make deps` installs it")
	}
	router(t, peering.Router{Host: lab.HostRouter, Both: true})
	apply(t, onePeer("calm", lab.RouterAddresses).Manifest())
	addresses := aDualStack(t, "flooded", spans(222, 222))
	apply(t, peering.Announced("flood", "198.18.0.0/22, 2001:db8:18::/118", ""))
	routes := manyRoutes(t, 300)
	established(t, "calm")
	routedTo(t, lab.HostRouter, routes[len(routes)-2:], cluster.NodeNames()...)
	whole(t)
	e := watched(t, addresses)
	e.known(t)
	begin := e.served(t)
	const victim = "node1"
	flooder := onePeer("flooder", lab.StrangerAddresses)
	// One speaker is to have all of it.
	flooder.More += "nodeSelectors: [{matchLabels: {kubernetes.io/hostname: " + victim + "}}]"

	for _, reads := range []bool{false, true} {
		name := map[bool]string{false: "it reads nothing", true: "it reads"}[reads]
		t.Run(name, func(t *testing.T) {
			before, sessions := speakers(t), calmSessions(t)
			var listener net.Listener
			err := cluster.Host(lab.HostStranger).Run(func() (err error) {
				listener, err = net.Listen("tcp",
					netip.AddrPortFrom(first().of(lab.StrangerAddresses), 179).String())
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan stranger.RouterResult, 1)
			r := stranger.Router{
				ASN:       peering.RouterASN,
				ID:        lab.StrangerAddresses.V4,
				Reads:     reads,
				PerSecond: 8000,
				Most:      200_000,
			}
			go func() { served <- r.Serve(t.Context(), listener, 20*time.Second) }()
			apply(t, flooder.Manifest())
			time.Sleep(8 * time.Second)
			// In the midst of it something changes.
			apply(t, strings.Replace(echo("flooded-late", "flooded", ""), "metadata: {name: flooded-late}",
				"metadata: {name: flooded-late, annotations: {berth.io/address-pool: flood}}", 1))
			late := addressesOf(t, "flooded-late")
			took := routedTo(t, lab.HostRouter, late, cluster.NodeNames()...)
			result := <-served
			fmt.Printf("figure: ROUTE-REFRESH flood, %s: %d sessions, %d refreshes; a change reached the "+
				"other router %d ms after it had addresses; the speaker had %d MiB at most\n",
				name, result.Sessions, result.Refreshes, took.Milliseconds(), bearable(t, victim))
			if result.Sessions == 0 {
				t.Errorf("no session came up: %v", result.Ended)
			}
			unharmed(t, before)
			if after := calmSessions(t); !slices.Equal(sessions, after) {
				t.Errorf("sessions with the other router were reset:\n%v\n%v", sessions, after)
			}
		})
	}
	to := e.served(t)
	if loss, at := e.longest(addresses, begin, to); loss > fewLost {
		t.Errorf("a client of the LAN lost %s for %d ms", at, loss.Milliseconds())
	}
}

// calmSessions tells since when the sessions with the calm router are up.
func calmSessions(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, node := range cluster.NodeNames() {
		out = append(out, node+" "+session(t, node, "calm", "state")+" "+session(t, node, "calm", "since"))
	}
	return out
}

// manyRoutes makes so many Services in pool flood, with the pods of flooded, and returns their addresses, of
// each family of the lab, once all have them.
func manyRoutes(t *testing.T, count int) []netip.Addr {
	t.Helper()
	api := clientset(t)
	// each does the same for every Service, some at a time.
	each := func(ctx context.Context, do func(context.Context, int) error) {
		var group errgroup.Group
		group.SetLimit(16)
		for i := range count {
			group.Go(func() error { return do(ctx, i) })
		}
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	}
	name := func(i int) string { return fmt.Sprintf("flood%d", i) }
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
		defer cancel()
		each(ctx, func(ctx context.Context, i int) error {
			return api.CoreV1().Services("default").Delete(ctx, name(i), metav1.DeleteOptions{})
		})
	})
	policy := corev1.IPFamilyPolicyPreferDualStack
	each(t.Context(), func(ctx context.Context, i int) error {
		_, err := api.CoreV1().Services("default").Create(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{
				Name:        name(i),
				Labels:      map[string]string{"flood": "yes"},
				Annotations: map[string]string{"berth.io/address-pool": "flood"},
			},
			Spec: corev1.ServiceSpec{
				Type:                          corev1.ServiceTypeLoadBalancer,
				IPFamilyPolicy:                &policy,
				AllocateLoadBalancerNodePorts: new(false),
				Selector:                      map[string]string{"app": "flooded"},
				Ports:                         []corev1.ServicePort{{Port: 80}},
			},
		}, metav1.CreateOptions{})
		return err
	})
	var routes []netip.Addr
	eventually(t, 60*time.Second, "all have addresses", func() (bool, string) {
		routes = nil
		list, err := api.CoreV1().Services("default").List(t.Context(), metav1.ListOptions{
			LabelSelector: "flood=yes",
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range list.Items {
			for _, ingress := range s.Status.LoadBalancer.Ingress {
				routes = append(routes, netip.MustParseAddr(ingress.IP))
			}
		}
		return len(routes) == len(families())*count, fmt.Sprint(len(routes))
	})
	return routes
}
