package suite

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// many is how many Services the scale test makes.
func many() int {
	if full() {
		return 5000
	}
	return 500
}

// blocks writes the part of the scale test's pool from one block of 256 addresses of the first family up to
// another.
func blocks(from, to int) string {
	if first() == ipv4 {
		return fmt.Sprintf("10.100.%d.0-10.100.%d.255", from, to-1)
	}
	return fmt.Sprintf("fd10::%x00-fd10::%xff", from, to-1)
}

// allBlocks is how many the pool has.
const allBlocks = 32

// clientset talks to the lab's API server as administrator.
func clientset(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	config, err := restConfig(cluster)
	if err != nil {
		t.Fatal(err)
	}
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return api
}

// TestManyServices: 5,000 Services, or 500 where the suite is to be quick, are
// created as fast as the API server takes them, and each is given an address with
// one write; a restart writes nothing; an edit of the pool moves those that it
// must, and no other.
func TestManyServices(t *testing.T) {
	api := clientset(t)
	kubectl(t, "create", "namespace", "many")
	// So many take minutes to delete; nothing comes after this test, as the name of its file is the last.
	cleanup(t, "delete", "namespace", "many", "--wait=false")
	apply(t, fmt.Sprintf(`
apiVersion: berth.io/v1beta1
kind: IPAddressPool
metadata: {name: many}
spec: {addresses: [%s], onShrink: Move, serviceAllocation: {namespaces: [many]}}
`, blocks(0, allBlocks)))
	leaderWorks(t, "many-before")
	seen := watchAddresses(t, api)
	writes, cpu := statusWrites(t, api), controllerCPU(t)
	start := time.Now()
	created := createMany(t, api)
	createdIn := time.Since(start)
	eventually(t, 2*time.Minute, "all have addresses", func() (bool, string) {
		got := seen.count()
		return got == many(), strconv.Itoa(got)
	})
	assignedIn := time.Since(start)
	used := controllerCPU(t) - cpu
	var waits []time.Duration
	held := map[string]string{}
	for name, at := range created {
		waits = append(waits, seen.at(name).Sub(at))
		addr := seen.address(name)
		if other, twice := held[addr]; twice {
			t.Fatalf("%s and %s both have %s", name, other, addr)
		}
		held[addr] = name
	}
	slices.Sort(waits)
	written := settledWrites(t, api) - writes
	fmt.Printf("figure: %d Services created in %.1f s, all assigned after %.1f s; time to address p50 %d "+
		"ms, p99 %d ms; %d status writes; controller %.2f ms of CPU each, %d MiB resident\n",
		many(), createdIn.Seconds(), assignedIn.Seconds(), waits[many()/2].Milliseconds(),
		waits[many()*99/100].Milliseconds(),
		written, used.Seconds()*1000/float64(many()), controllerRSS(t)>>20)
	if written != many() {
		t.Errorf("%d status writes for %d Services", written, many())
	}

	restartWithMany(t, api)
	shrinkWithMany(t, api, held)
}

// leaderWorks waits until a controller leads and has looked at a Service. The
// one that the Lease names may have died with its node in an earlier test.
func leaderWorks(t *testing.T, probe string) {
	t.Helper()
	apply(t, service(probe, "many", "loadBalancerIP: "+inNoPool()))
	eventually(t, time.Minute, "the leader works", func() (bool, string) {
		got := condition(t, "service "+probe, "berth.io/AddressAssigned")
		return strings.HasPrefix(got, "AddressNotInPool"), got
	})
}

// restartWithMany replaces the controllers and counts what they write.
func restartWithMany(t *testing.T, api *kubernetes.Clientset) {
	t.Helper()
	writes := statusWrites(t, api)
	start := time.Now()
	kubectl(t, "delete", "pod", "-n", system, "-l", "app.kubernetes.io/component=controller", "--wait=true")
	kubectl(t, "rollout", "status", "-n", system, "deployment/berth-controller", "--timeout=60s")
	ready := time.Since(start)
	leaderWorks(t, "many-after")
	// One of them is the probe's.
	if got := statusWrites(t, api) - writes - 1; got != 0 {
		t.Errorf("%d status writes after a restart", got)
	}
	fmt.Printf("figure: controllers restarted with %d Services: all pods ready after %.1f s, no write\n",
		many(), ready.Seconds())
}

// shrinkWithMany takes a part of the pool away: who is in it moves, and
// nobody else.
func shrinkWithMany(t *testing.T, api *kubernetes.Clientset, held map[string]string) {
	t.Helper()
	writes := statusWrites(t, api)
	low, high, _ := strings.Cut(blocks(1, 2), "-")
	gone := func(text string) bool {
		addr := netip.MustParseAddr(text)
		return !addr.Less(netip.MustParseAddr(low)) && !netip.MustParseAddr(high).Less(addr)
	}
	kubectl(t, "patch", "ipaddresspool", "many", "--type=merge", "-p",
		fmt.Sprintf(`{"spec":{"addresses":[%q,%q]}}`, blocks(0, 1), blocks(2, allBlocks)))
	start := time.Now()
	var after map[string]string
	eventually(t, 30*time.Second, "nobody is in "+blocks(1, 2), func() (bool, string) {
		after = addresses(t, api)
		left := 0
		for addr := range after {
			if gone(addr) {
				left++
			}
		}
		return left == 0 && len(after) == many(), fmt.Sprint(left, " left, ", len(after), " addresses")
	})
	took := time.Since(start)
	moved := 0
	for addr, name := range held {
		switch {
		case gone(addr):
			moved++
		case after[addr] != name:
			t.Errorf("%s lost %s, which the pool still contains", name, addr)
		}
	}
	fmt.Printf("figure: pool edited: %d of %d Services moved within %.1f s, %d status writes\n",
		moved, many(), took.Seconds(), settledWrites(t, api)-writes)
	if got, want := settledWrites(t, api)-writes, min(many()-256, 256); got != moved || moved != want {
		t.Errorf("%d moved and %d were written, want %d", moved, got, want)
	}
}

// createMany creates the Services, and returns when the API server had each.
func createMany(t *testing.T, api *kubernetes.Clientset) map[string]time.Time {
	t.Helper()
	var mu sync.Mutex
	created := map[string]time.Time{}
	names := make(chan string)
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for name := range names {
				_, err := api.CoreV1().Services("many").Create(t.Context(), &corev1.Service{
					ObjectMeta: metav1.ObjectMeta{Name: name},
					Spec: corev1.ServiceSpec{
						Type: corev1.ServiceTypeLoadBalancer,
						// There are not so many node ports.
						AllocateLoadBalancerNodePorts: new(false),
						Ports:                         []corev1.ServicePort{{Port: 80}},
					},
				}, metav1.CreateOptions{})
				mu.Lock()
				created[name] = time.Now()
				mu.Unlock()
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range many() {
		names <- fmt.Sprintf("s%04d", i)
	}
	close(names)
	workers.Wait()
	return created
}

// addresses returns the addresses of all Services in the namespace, with their names.
func addresses(t *testing.T, api *kubernetes.Clientset) map[string]string {
	t.Helper()
	list, err := api.CoreV1().Services("many").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, s := range list.Items {
		for _, i := range s.Status.LoadBalancer.Ingress {
			out[i.IP] = s.Name
		}
	}
	return out
}

// sightings are the Services that were seen with an address.
type sightings struct {
	mu    sync.Mutex
	first map[string]sighting
}

type sighting struct {
	at      time.Time
	address string
}

func (s *sightings) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.first)
}

func (s *sightings) at(name string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first[name].at
}

func (s *sightings) address(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first[name].address
}

// watchAddresses notes when each Service of the namespace is seen with its
// first address.
func watchAddresses(t *testing.T, api *kubernetes.Clientset) *sightings {
	t.Helper()
	out := &sightings{first: map[string]sighting{}}
	see := func(object any) {
		s := object.(*corev1.Service)
		if len(s.Status.LoadBalancer.Ingress) == 0 {
			return
		}
		out.mu.Lock()
		defer out.mu.Unlock()
		if _, known := out.first[s.Name]; !known {
			out.first[s.Name] = sighting{time.Now(), s.Status.LoadBalancer.Ingress[0].IP}
		}
	}
	factory := informers.NewSharedInformerFactoryWithOptions(api, 0, informers.WithNamespace("many"))
	informer := factory.Core().V1().Services().Informer()
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    see,
		UpdateFunc: func(_, now any) { see(now) },
	}); err != nil {
		t.Fatal(err)
	}
	factory.Start(t.Context().Done())
	factory.WaitForCacheSync(t.Context().Done())
	return out
}

// readPattern matches the requests that only read.
var readPattern = regexp.MustCompile(`verb="(GET|LIST|WATCH)"`)

// statusWrites is how many writes of Service statuses the API server has
// served, by its own metrics.
func statusWrites(t *testing.T, api *kubernetes.Clientset) int {
	t.Helper()
	return requestsServed(t, api, `resource="services"`, `subresource="status"`, `code="200"`)
}

// settledWrites is statusWrites once it does not change for a moment: the API server
// counts a request a little after everybody sees what it has written.
func settledWrites(t *testing.T, api *kubernetes.Clientset) int {
	t.Helper()
	now := statusWrites(t, api)
	eventually(t, 30*time.Second, "nothing is written any more", func() (bool, string) {
		before := now
		time.Sleep(500 * time.Millisecond)
		now = statusWrites(t, api)
		return now == before, fmt.Sprint(before, " writes, then ", now)
	})
	return now
}

// requestsServed is how many requests with these labels, other than to read,
// the API server has served, by its own metrics.
func requestsServed(t *testing.T, api *kubernetes.Clientset, labels ...string) int {
	t.Helper()
	text, err := api.RESTClient().Get().AbsPath("/metrics").DoRaw(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for line := range strings.SplitSeq(string(text), "\n") {
		if !strings.HasPrefix(line, "apiserver_request_total{") || readPattern.MatchString(line) ||
			slices.ContainsFunc(labels, func(label string) bool { return !strings.Contains(line, label) }) {
			continue
		}
		n, err := strconv.ParseFloat(line[strings.LastIndex(line, " ")+1:], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += int(n)
	}
	return sum
}

// controllerFile reads a file of /proc of the leading controller.
func controllerFile(t *testing.T, file string) string {
	t.Helper()
	node := get(t, "get pod -n "+system+" "+leader(t), ".spec.nodeName")
	if !slices.Contains(cluster.NodeNames(), node) {
		t.Fatalf("the leader is on node %q", node)
	}
	out, err := cluster.Node(node).Exec(t.Context(), "sh", "-c", "cat /proc/$(pgrep -x controller)/"+file)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// controllerCPU is the processor time that the leading controller has used.
func controllerCPU(t *testing.T) time.Duration {
	t.Helper()
	// After the name in parentheses: state is field 3, utime 14, stime 15, in
	// hundredths of a second (proc(5)).
	stat := controllerFile(t, "stat")
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// controllerRSS is the resident memory of the leading controller in bytes.
func controllerRSS(t *testing.T) int64 {
	t.Helper()
	for line := range strings.SplitSeq(controllerFile(t, "status"), "\n") {
		if kib, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			number := strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kib), "kB"))
			n, err := strconv.ParseInt(number, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
