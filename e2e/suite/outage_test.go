package suite

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/product"
)

// TestNobodyIsHeard: the port of speakers is blocked between all nodes, and each speaker
// reports so; then the API server stops. For a minute each address is answered by its owner
// and by nobody else. When both are back nothing has moved, and new Services are announced
// as soon as the nodes reach the API server again.
func TestNobodyIsHeard(t *testing.T) {
	fullOnly(t, "two and a half minutes; TestControlPlaneOutage has both faults at once for half a minute")
	names := twenty(t, "deaf", first().span(230, 249))
	for _, app := range []string{"deaf", "heard"} {
		apply(t, web(app, "node1", "node2", "node3"))
		kubectl(t, "rollout", "status", "deployment/"+app, "--timeout=60s")
	}
	owners := map[string]string{}
	for _, n := range names {
		addr := hasAddress(t, n)
		owners[addr] = ownedBy(t, addr)
	}
	check := func(when string) {
		t.Helper()
		for addr, owner := range owners {
			if got := answers(t, addr); len(got) != 1 || got[0] != owner {
				t.Errorf("%s: %s is answered by %v, and was by %s", when, addr, got, owner)
			}
		}
	}
	heard := func(want string) {
		t.Helper()
		for _, node := range cluster.NodeNames() {
			eventually(t, 2*time.Minute, "the Speaker of "+node+" says "+want, func() (bool, string) {
				got := condition(t, "speaker "+node, "MembersReachable")
				return strings.HasPrefix(got, want), got
			})
		}
	}

	for _, node := range cluster.NodeNames() {
		if err := cluster.Node(node).Block(t.Context(), product.MemberPort); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, node := range cluster.NodeNames() {
			if err := cluster.Node(node).Heal(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		}
		kubernetesAnew(t)
	})
	start := time.Now()
	heard("NoMemberReachable")
	fmt.Printf("figure: port blocked to the condition of all speakers %.1f s\n", time.Since(start).Seconds())
	check("the port is blocked")

	if err := cluster.Component(lab.APIServer).Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(time.Minute); time.Now().Before(until); {
		check("the API server is away too")
	}
	if err := cluster.Component(lab.APIServer).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); {
		check("the API server is back")
	}
	for _, node := range cluster.NodeNames() {
		if err := cluster.Node(node).Heal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	kubernetes := get(t, "get service kubernetes", ".spec.clusterIP")
	// The API server that stopped has taken itself out of the Service kubernetes. Until the proxy of a node
	// watches again, no pod there reaches it.
	for _, node := range cluster.NodeNames() {
		eventually(t, 2*time.Minute, node+" reaches the Service kubernetes", func() (bool, string) {
			out, err := cluster.Node(node).Exec(t.Context(), "timeout", "1", "bash", "-c",
				"exec 3<>/dev/tcp/"+kubernetes+"/443")
			return err == nil, string(out)
		})
	}
	fmt.Printf("figure: API server back to all service proxies %.1f s\n", time.Since(start).Seconds())
	// However long it was away, Berth watches again at once. The controllers of Kubernetes do not: until
	// the EndpointSlice controller has caught up, a new Service has no endpoint.
	fresh, start := twenty(t, "heard", first().span(180, 199)), time.Now()
	for _, n := range fresh {
		eventually(t, 3*time.Minute, n+" has a ready endpoint", func() (bool, string) {
			got := get(t, "get endpointslices -l kubernetes.io/service-name="+n,
				".items[*].endpoints[*].conditions.ready")
			return strings.Contains(got, "true"), got
		})
	}
	fmt.Printf("figure: new Services to their endpoints %.1f s\n", time.Since(start).Seconds())
	for _, n := range fresh {
		addr := hasAddress(t, n)
		eventually(t, 10*time.Second, addr+" is announced", func() (bool, string) {
			return len(answers(t, addr)) > 0, "nobody answers"
		})
	}
	heard("AllMembersReachable")
	check("all is well again")
	after := map[string]string{}
	for addr := range owners {
		after[addr] = ownedBy(t, addr)
	}
	if !maps.Equal(owners, after) {
		t.Errorf("owned were %v, and are %v", owners, after)
	}
}

// TestKubeletsAreNotHeard: kubelets and service proxies of all nodes do not reach the API server, and the
// speakers do. Kubernetes calls every pod not ready, node by node, while all go on answering: the client
// notices nothing, neither then nor when all are heard again. With traffic policy Cluster nothing moves;
// with Local an address moves to a node that has a ready endpoint, as long as there is one.
func TestKubeletsAreNotHeard(t *testing.T) {
	fullOnly(t, "a minute, of a fault that the control plane makes")
	if !cluster.ProxyMode().Forwards() {
		t.Skip("without a service proxy, nothing goes on forwarding")
	}
	for _, policy := range []string{"Cluster", "Local"} {
		t.Run(policy, func(t *testing.T) { checkKubeletsAreNotHeard(t, policy) })
	}
}

func checkKubeletsAreNotHeard(t *testing.T, policy string) {
	addresses := eightOf(t, policy)
	// Pods of the suite leave a node that is not heard after 3 s, those of others after five minutes.
	kubectl(t, "patch", "deployment", "over", "--type=json", "--patch",
		`[{"op": "remove", "path": "/spec/template/spec/tolerations/0/tolerationSeconds"}]`)
	kubectl(t, "rollout", "status", "deployment/over", "--timeout=60s")
	ready := func() string {
		t.Helper()
		return get(t, "get endpointslices -l kubernetes.io/service-name!=kubernetes",
			".items[*].endpoints[*].conditions.ready")
	}
	whole(t)
	e := watched(t, addresses)
	e.known(t)
	before := e.owners(t)
	from := e.served(t)

	t.Cleanup(func() { // whatever happens, they must go on
		signalAll(t, "kubelet", syscall.SIGCONT)
		signalAll(t, "kube-proxy", syscall.SIGCONT)
	})
	signalAll(t, "kube-proxy", syscall.SIGSTOP)
	signalAll(t, "kubelet", syscall.SIGSTOP)
	start := time.Now()
	eventually(t, time.Minute, "no endpoint is ready", func() (bool, string) {
		got := ready()
		return !strings.Contains(got, "true"), got
	})
	fmt.Printf("figure: %s: kubelets silent to no endpoint ready %.1f s\n",
		policy, time.Since(start).Seconds())
	time.Sleep(5 * time.Second) // nothing may happen meanwhile
	if now := e.owners(t); policy == "Cluster" && !maps.Equal(before, now) {
		t.Errorf("owned were %v, and while nobody is heard are %v", before, now)
	}
	signalAll(t, "kubelet", syscall.SIGCONT)
	start = time.Now()
	eventually(t, 2*time.Minute, "all endpoints are ready again", func() (bool, string) {
		got := ready()
		return !strings.Contains(got, "false"), got
	})
	fmt.Printf("figure: %s: kubelets heard again to all endpoints ready %.1f s\n",
		policy, time.Since(start).Seconds())
	to := time.Now()
	// A service proxy that goes on takes up what it has missed step by step, and sends nothing to pods that
	// it hears not to be ready until it hears the opposite.
	signalAll(t, "kube-proxy", syscall.SIGCONT)
	whole(t)
	e.served(t)

	loss, at := e.longest(addresses, from, to)
	fmt.Printf("figure: %s: all kubelets silent and back: client loses %d ms at most\n",
		policy, loss.Milliseconds())
	if loss > fewLost {
		t.Errorf("the client has lost %s for %v", at, loss)
		e.tell(t, from, to)
	}
	if after := e.owners(t); policy == "Cluster" && !maps.Equal(before, after) {
		t.Errorf("owned were %v, and are %v", before, after)
	}
	e.clear(t, from)
}

// signalAll signals a program on all nodes.
func signalAll(t *testing.T, program string, s syscall.Signal) {
	t.Helper()
	for _, node := range cluster.NodeNames() {
		if err := cluster.Node(node).KillProcess(program, s); err != nil {
			t.Error(err)
		}
	}
}
