package lab_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/image"
	"github.com/berth-lb/berth/e2e/lab"
)

// workload is a pod of the web image on each node.
const workload = `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: lab.test/web:1
        env:
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080, nodePort: 30080}
  - {name: echo, port: 7, targetPort: 8080, nodePort: 30007, protocol: UDP}
`

// up brings up a lab of two nodes that the test owns, or skips the test and says why.
func up(t *testing.T) *lab.Lab {
	t.Helper()
	if os.Getenv("BERTH_LAB_TEST") == "" {
		t.Skip("set BERTH_LAB_TEST=1, as root, to test the lab itself: " +
			"it takes a minute, and several more on a machine that has not built Kubernetes yet")
	}
	dir := t.TempDir()
	// The daemons of routers are not root.
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("BERTH_LAB_DIR", dir)
	l, err := lab.Up(t.Context(), lab.Options{
		Name:       "labtest",
		Nodes:      2,
		ServiceLAN: true,
		Progress:   t.Output(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
		checkNothingLeft(t, l)
	})
	return l
}

func checkNothingLeft(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, pattern := range []string{
		"/run/netns/labtest-*",
		"/sys/fs/cgroup/*/berth-lab/labtest",
		"/sys/fs/cgroup/berth-lab/labtest",
		l.Dir(),
	} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	if _, err := lab.Open("labtest"); !errors.Is(err, lab.ErrNotRunning) {
		t.Errorf("Open after Down: %v", err)
	}
}

// TestLab brings a lab up once and breaks it in every way it offers, in the order of the subtests.
func TestLab(t *testing.T) {
	l := up(t)
	kubectl := func(t *testing.T, args ...string) string {
		t.Helper()
		out, err := l.API().Kubectl(t.Context(), args...)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	_, err := l.API().KubectlInput(t.Context(), strings.NewReader(workload), "apply", "-f", "-")
	if err != nil {
		t.Fatal(err)
	}
	kubectl(t, "rollout", "status", "daemonset/web", "--timeout=60s")

	t.Run("a second Up of the name is refused", func(t *testing.T) {
		if _, err := lab.Up(t.Context(), lab.Options{Name: "labtest"}); !errors.Is(err, lab.ErrRunning) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("another program can open it", func(t *testing.T) {
		again, err := lab.Open("labtest")
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(again.NodeNames(), " "); got != "node1 node2" {
			t.Errorf("nodes %s", got)
		}
	})
	t.Run("pods answer clients near and far", func(t *testing.T) {
		checkAnswer(t, l, lab.HostClient, lab.NodeAddresses(1).V4.String(), "node=node1 client="+
			lab.ClientAddresses.V4.String())
		checkAnswer(t, l, lab.HostExt, lab.NodeAddresses(2).V6.String(), "node=node2 client=["+
			lab.ExtAddresses.V6.String()+"]")
		checkEcho(t, l)
	})
	t.Run("a Go client reaches the API server", func(t *testing.T) { checkAPI(t, l) })
	t.Run("a node shows only itself", func(t *testing.T) {
		out, err := l.Node("node1").Exec(t.Context(), "ps", "-e", "-o", "comm=")
		if err != nil {
			t.Fatal(err)
		}
		if ps := string(out); !strings.Contains(ps, "kubelet") ||
			strings.Count(ps, "kubelet") > 1 || strings.Contains(ps, "kube-apiserver") {
			t.Errorf("node1 runs:\n%s", ps)
		}
	})
	t.Run("a command that fails tells its status and its words", func(t *testing.T) {
		_, err := l.Node("node1").Exec(t.Context(), "sh", "-c", "echo the reason >&2; exit 3")
		failed := (*exec.ExitError)(nil)
		if !errors.As(err, &failed) || failed.ExitCode() != 3 ||
			!strings.Contains(err.Error(), "the reason") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a command ends with its context", func(t *testing.T) { checkCancel(t, l) })
	t.Run("a node restarts its services", func(t *testing.T) {
		if err := l.Node("node1").KillProcess("kube-proxy", syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "kube-proxy runs again", func() error {
			_, err := l.Node("node1").Exec(t.Context(), "pgrep", "-x", "kube-proxy")
			return err
		})
		if err := l.Node("node1").KillProcess("nonesuch", syscall.SIGKILL); err == nil {
			t.Error("killing nothing is no error")
		}
	})
	t.Run("crash and start, with an image loaded meanwhile", func(t *testing.T) { checkCrash(t, l) })
	t.Run("hang and unhang", func(t *testing.T) { checkHang(t, l) })
	t.Run("cut and heal", func(t *testing.T) {
		address := lab.NodeAddresses(1).V4.String()
		if err := l.Node("node1").Cut(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Client().Exec(t.Context(), "ping", "-c1", "-W1", address); err == nil {
			t.Error("node1 answers with its cable cut")
		}
		if err := l.Node("node1").Heal(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Client().Exec(t.Context(), "ping", "-c1", "-W2", address); err != nil {
			t.Error(err)
		}
	})
	t.Run("block and heal", func(t *testing.T) { checkBlock(t, l) })
	t.Run("part and heal", func(t *testing.T) { checkPart(t, l) })
	t.Run("leave the service LAN and join it", func(t *testing.T) { checkLeave(t, l) })
	t.Run("more links and addresses", func(t *testing.T) { checkLinks(t, l) })
	t.Run("drain and undrain", func(t *testing.T) {
		spec := func() string {
			return kubectl(t, "get", "node", "node1", "-o",
				"jsonpath={.spec.unschedulable} {.metadata.labels}")
		}
		if err := l.Node("node1").Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := spec(); !strings.HasPrefix(got, "true ") ||
			!strings.Contains(got, "exclude-from-external-load-balancers") {
			t.Errorf("drained: %s", got)
		}
		if err := l.Node("node1").Undrain(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := spec()
		if strings.HasPrefix(got, "true ") || strings.Contains(got, "exclude-from-external-load-balancers") {
			t.Errorf("undrained: %s", got)
		}
	})
	t.Run("routers speak BGP, end and come back", func(t *testing.T) { checkRouters(t, l) })
	t.Run("components stop and start", func(t *testing.T) { checkComponents(t, l) })
}

// pings tells whether a host answers another.
func pings(t *testing.T, l *lab.Lab, from string, to netip.Addr) bool {
	t.Helper()
	_, err := l.Host(from).Exec(t.Context(), "ping", "-c1", "-W1", to.String())
	return err == nil
}

// checkLeave: a node that has left the service LAN is heard there no more, keeps its carrier, and is on the
// other LAN all the while. What it had is as before once it is back.
func checkLeave(t *testing.T, l *lab.Lab) {
	ctx := t.Context()
	there, other := lab.OnServiceLAN(lab.NodeAddresses(1)), lab.OnServiceLAN(lab.NodeAddresses(2))
	expect := func(reached bool) {
		t.Helper()
		for _, addr := range []netip.Addr{there.V4, there.V6} {
			for _, from := range []string{lab.HostStranger, "node2"} {
				if got := pings(t, l, from, addr); got != reached {
					t.Errorf("%s reaches %s: %t, want %t", from, addr, got, reached)
				}
			}
		}
		if !pings(t, l, lab.HostClient, lab.NodeAddresses(1).V4) || !pings(t, l, lab.HostClient, other.V4) {
			t.Error("node1 is not on the management LAN, or node2 not on the service LAN")
		}
	}
	expect(true)
	node := l.Node("node1")
	for _, back := range []func(context.Context) error{
		func(ctx context.Context) error { return node.JoinVLAN(ctx, lab.ServiceLAN) }, node.Heal,
	} {
		if err := l.Node("node1").LeaveVLAN(ctx, lab.ServiceLAN); err != nil {
			t.Fatal(err)
		}
		expect(false)
		out, err := l.Node("node1").Exec(ctx, "cat", "/sys/class/net/svc0/carrier")
		if err != nil || strings.TrimSpace(string(out)) != "1" {
			t.Errorf("carrier %s, %v", out, err)
		}
		if err := back(ctx); err != nil {
			t.Fatal(err)
		}
		expect(true)
	}
	if err := l.Node("node1").LeaveVLAN(ctx, "other"); err == nil {
		t.Error("leaving no LAN is no error")
	}
}

// checkLinks: a node gets one more interface and more addresses, and loses them again.
func checkLinks(t *testing.T, l *lab.Lab) {
	ctx := t.Context()
	more := lab.OnServiceLAN(lab.NodeAddresses(20))
	if err := l.Node("node1").AddLink(ctx, "svc1", lab.ServiceLAN, more); err != nil {
		t.Fatal(err)
	}
	if !pings(t, l, lab.HostClient, more.V4) || !pings(t, l, lab.HostClient, more.V6) {
		t.Error("the new link does not answer")
	}
	if err := l.Node("node1").RemoveLink(ctx, "svc1"); err != nil {
		t.Fatal(err)
	}
	if pings(t, l, lab.HostClient, more.V4) {
		t.Error("the link answers after it was removed")
	}
	for _, err := range []error{
		l.Node("node1").AddLink(ctx, "eth1", lab.ServiceLAN, more),
		l.Node("node1").AddLink(ctx, "svc1", lab.ManagementLAN, more),
		l.Node("node1").RemoveLink(ctx, "svc0"),
		l.Node("node1").RemoveLink(ctx, "svc1"),
	} {
		if err == nil {
			t.Error("no error for what cannot be")
		}
	}
	addresses := []netip.Prefix{
		netip.MustParsePrefix("10.77.0.140/32"), netip.MustParsePrefix("fd77::140/128"),
	}
	for _, test := range []struct {
		do   func(context.Context, string, ...netip.Prefix) error
		want bool
	}{{l.Node("node1").AddAddresses, true}, {l.Node("node1").RemoveAddresses, false}} {
		if err := test.do(ctx, "eth0", addresses...); err != nil {
			t.Fatal(err)
		}
		for _, a := range addresses {
			// Whoever has asked before believes what it heard for a while.
			if _, err := l.Client().Exec(ctx, "ip", "neigh", "flush", "dev", "eth0"); err != nil {
				t.Log(err)
			}
			if got := pings(t, l, lab.HostClient, a.Addr()); got != test.want {
				t.Errorf("%s answers: %t, want %t", a, got, test.want)
			}
		}
	}
}

// checkAnswer fetches a page from a node port and compares the beginning of what matters.
func checkAnswer(t *testing.T, l *lab.Lab, from, address, want string) {
	t.Helper()
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return l.Host(from).Dial(ctx, network, address)
		},
	}}
	defer client.CloseIdleConnections()
	eventually(t, "an answer from "+address, func() error {
		response, err := client.Get("http://" + net.JoinHostPort(address, "30080"))
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err == nil && !strings.Contains(string(body), want) {
			t.Fatalf("%s at %s got %q, want %q", from, address, body, want)
		}
		return err
	})
}

func checkEcho(t *testing.T, l *lab.Lab) {
	t.Helper()
	// A datagram that came before the node's proxy had its rules is lost, and so is what comes from that port
	// after it.
	eventually(t, "an echo", func() error {
		conn, err := l.Client().Dial(t.Context(), "udp", lab.NodeAddresses(2).V4.String()+":30007")
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		if _, err := conn.Write([]byte("hi")); err != nil {
			return err
		}
		answer := make([]byte, 500)
		n, err := conn.Read(answer)
		text := string(answer[:n])
		if err == nil && (!strings.Contains(text, "node=node2") || !strings.Contains(text, `data="hi"`)) {
			t.Fatalf("answer %q", text)
		}
		return err
	})
}

func checkAPI(t *testing.T, l *lab.Lab) {
	conn, err := l.API().Dial(t.Context(), "tcp", "10.77.0.2:6443")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.LocalAddr().String(); !strings.HasPrefix(got, "10.77.0.2:") {
		t.Errorf("the connection starts at %s, outside the lab", got)
	}
	if _, err := l.API().Dial(t.Context(), "tcp", "example.org:80"); err == nil {
		t.Error("a name is no error")
	}
}

func checkCancel(t *testing.T, l *lab.Lab) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := l.Node("node1").Exec(ctx, "sleep", "4321"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	if _, err := l.Node("node1").Exec(t.Context(), "pgrep", "-f", "sleep 4321"); err == nil {
		t.Error("the command still runs")
	}
}

func checkCrash(t *testing.T, l *lab.Lab) {
	ctx := t.Context()
	if err := l.Node("node2").Crash(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Node("node2").Exec(ctx, "true"); !errors.Is(err, lab.ErrNodeDown) {
		t.Errorf("a command on a node that is down: %v", err)
	}
	if err := l.Node("node2").Crash(ctx); !errors.Is(err, lab.ErrNodeDown) {
		t.Errorf("a second crash: %v", err)
	}
	program := filepath.Join(t.TempDir(), "nothing")
	archive := filepath.Join(t.TempDir(), "nothing.tar")
	if err := os.WriteFile(program, []byte("nothing"), 0o755); err != nil {
		t.Fatal(err)
	}
	spec := image.Spec{Ref: "lab.test/nothing:1", Files: []image.File{{Source: program, Path: "/nothing"}}}
	if err := image.Build(spec, archive); err != nil {
		t.Fatal(err)
	}
	if err := l.LoadImage(ctx, archive); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := l.Node("node2").Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("node2 is Ready %.1f s after its start", time.Since(begin).Seconds())
	for _, node := range l.NodeNames() {
		out, err := l.Node(node).Exec(ctx, "ctr", "-n", "k8s.io", "images", "ls", "-q")
		if err != nil || !strings.Contains(string(out), "lab.test/nothing:1") {
			t.Errorf("%s has images %s, %v", node, out, err)
		}
	}
	checkAnswer(t, l, lab.HostClient, lab.NodeAddresses(2).V4.String(), "node=node2")
}

func checkHang(t *testing.T, l *lab.Lab) {
	ctx := t.Context()
	state := func() lab.NodeState {
		t.Helper()
		status, err := l.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return status.Nodes[0].State
	}
	if err := l.Node("node1").Hang(ctx); err != nil {
		t.Fatal(err)
	}
	if got := state(); got != lab.NodeHung {
		t.Errorf("node1 is %s", got)
	}
	// The kernel of a node that hangs still answers.
	if _, err := l.Client().Exec(ctx, "ping", "-c1", "-W2", lab.NodeAddresses(1).V4.String()); err != nil {
		t.Error(err)
	}
	if err := l.Node("node1").Unhang(ctx); err != nil {
		t.Fatal(err)
	}
	if got := state(); got != lab.NodeRunning {
		t.Errorf("node1 is %s", got)
	}
}

// checkBlock asks the kubelets' health port of each node from the others.
func checkBlock(t *testing.T, l *lab.Lab) {
	const port = 10250
	reaches := func(from string, to int) bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		target := netip.AddrPortFrom(lab.NodeAddresses(to).V4, port)
		conn, err := l.Host(from).Dial(ctx, "tcp", target.String())
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	check := func(when string, other, all bool) {
		t.Helper()
		for _, way := range []struct {
			from string
			to   int
			want bool
		}{{"node1", 2, other}, {"node2", 1, other}, {lab.HostClient, 1, all}, {lab.HostClient, 2, true}} {
			if got := reaches(way.from, way.to); got != way.want {
				t.Errorf("%s: %s reaches node%d: %t", when, way.from, way.to, got)
			}
		}
	}
	check("before", true, true)
	if err := l.Node("node1").Block(t.Context(), port, "node2"); err != nil {
		t.Fatal(err)
	}
	check("node1 from node2", false, true)
	if err := l.Node("node1").Block(t.Context(), port); err != nil {
		t.Fatal(err)
	}
	check("node1 from all", false, false)
	if err := l.Node("node1").Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("healed", true, true)
	if err := l.Node("node1").Block(t.Context(), port, "node7"); err == nil {
		t.Error("a node that is not there is no error")
	}
}

func checkPart(t *testing.T, l *lab.Lab) {
	// arping broadcasts: nothing that a neighbour cache knows helps.
	reaches := func(from string, to int) bool {
		_, err := l.Host(from).Exec(t.Context(), "arping", "-c1", "-w1", "-I", "eth0",
			lab.NodeAddresses(to).V4.String())
		return err == nil
	}
	if err := l.Network().Part(t.Context(), "node2", "node1"); err != nil {
		t.Fatal(err)
	}
	if reaches("node1", 2) || reaches("node2", 1) {
		t.Error("parted nodes reach each other")
	}
	if !reaches(lab.HostClient, 1) || !reaches(lab.HostClient, 2) {
		t.Error("the client does not reach both")
	}
	if err := l.Node("node1").Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !reaches("node1", 2) || !reaches("node2", 1) {
		t.Error("healed nodes do not reach each other")
	}
}

// checkRouters has the two routers speak with each other: the second announces two networks.
func checkRouters(t *testing.T, l *lab.Lab) {
	ctx := t.Context()
	if _, err := os.Stat("/usr/lib/frr/bgpd"); err != nil {
		t.Skip("needs Debian package frr")
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const first = `
router bgp 64601
 no bgp ebgp-requires-policy
 neighbor 10.77.0.3 remote-as 64602
 neighbor 10.77.0.3 timers 1 3
 neighbor 10.77.0.3 timers connect 1
 address-family ipv6 unicast
  neighbor 10.77.0.3 activate
`
	const second = `
router bgp 64602
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor 10.77.0.1 remote-as 64601
 neighbor 10.77.0.1 timers connect 1
 address-family ipv4 unicast
  network 198.51.100.0/24
 exit-address-family
 address-family ipv6 unicast
  network 2001:db8:1::/64
  neighbor 10.77.0.1 activate
`
	hops := func(want bool) {
		t.Helper()
		for prefix, hop := range map[string]netip.Addr{
			"198.51.100.0/24": lab.Router2Addresses.V4, "2001:db8:1::/64": lab.Router2Addresses.LinkLocal(),
		} {
			eventually(t, fmt.Sprintf("a route to %s: %t", prefix, want), func() error {
				routes, err := l.Host(lab.HostRouter).Routes(ctx, netip.MustParsePrefix(prefix).Addr())
				got := routes[netip.MustParsePrefix(prefix)]
				if err == nil && (len(got) == 1 && got[0] == hop) != want {
					err = fmt.Errorf("next hops %v", got)
				}
				return err
			})
		}
	}
	must(l.Router(lab.HostRouter).Start(ctx, lab.RouterConfig{BGP: first, BFD: "!\n"}))
	must(l.Router(lab.HostRouter2).Start(ctx, lab.RouterConfig{BGP: second}))
	hops(true)
	if out, err := l.Router(lab.HostRouter).Vtysh(ctx, "show bfd peers"); err != nil ||
		!strings.Contains(string(out), "BFD") {
		t.Errorf("bfdd says %q, %v", out, err)
	}
	if err := l.Router(lab.HostRouter).Start(ctx, lab.RouterConfig{}); err == nil {
		t.Error("starting a router that runs is no error")
	}
	must(l.Router(lab.HostRouter2).Stop(ctx))
	hops(false)
	must(l.Router(lab.HostRouter2).Restart(ctx))
	hops(true)
	must(l.Router(lab.HostRouter).Kill(ctx))
	time.Sleep(100 * time.Millisecond)
	hops(true) // the kernel goes on
	must(l.Router(lab.HostRouter).Restart(ctx))
	hops(true)
	// Both ways lead to ext, until one is dead.
	must(l.Router(lab.HostRouter2).Open(ctx))
	ways := func(want string) {
		t.Helper()
		for _, family := range []string{"-4", "-6"} {
			target := lab.NodeAddresses(1).V4
			if family == "-6" {
				target = lab.NodeAddresses(1).V6
			}
			used := map[string]bool{}
			for port := range 40 {
				out, err := l.Host(lab.HostExt).Exec(ctx, "ip", family, "route", "get", target.String(),
					"ipproto", "udp", "dport", fmt.Sprint(1000+port))
				must(err)
				fields := strings.Fields(string(out))
				used[fields[slices.Index(fields, "dev")+1]] = true
			}
			if got := strings.Join(slices.Sorted(maps.Keys(used)), " "); got != want {
				t.Errorf("ext sends to %s by %s, want %s", target, got, want)
			}
		}
	}
	ways("eth0 eth1")
	ping := func() {
		t.Helper()
		for _, addr := range []netip.Addr{lab.NodeAddresses(1).V4, lab.NodeAddresses(1).V6} {
			_, err := l.Host(lab.HostExt).Exec(ctx, "ping", "-c4", "-i0.05", "-W2", addr.String())
			must(err)
		}
	}
	ping()
	must(l.Router(lab.HostRouter2).Crash(ctx))
	hops(false)
	ways("eth0")
	ping()
	must(l.Router(lab.HostRouter2).Start(ctx, lab.RouterConfig{BGP: second}))
	hops(true)
	must(l.Router(lab.HostRouter2).Open(ctx))
	ways("eth0 eth1")
	ping()
	must(l.Router(lab.HostRouter).Crash(ctx))
	ways("eth1")
	ping()
	must(l.Router(lab.HostRouter).Open(ctx))
	err := l.Router(lab.HostRouter).Start(ctx, lab.RouterConfig{BGP: "router bgp 1\n neighbours are nice\n"})
	if err == nil ||
		!strings.Contains(err.Error(), "neighbours are nice") {
		t.Errorf("a line that FRR does not know: %v", err)
	}
}

func checkComponents(t *testing.T, l *lab.Lab) {
	ctx := t.Context()
	for _, name := range lab.ComponentNames() {
		if err := l.Component(name).Stop(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.API().Kubectl(ctx, "get", "nodes", "--request-timeout=1s"); err == nil {
		t.Error("the API server answers after it was stopped")
	}
	for _, name := range lab.ComponentNames() {
		begin := time.Now()
		if err := l.Component(name).Start(ctx); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s is ready after %.1f s", name, time.Since(begin).Seconds())
	}
	if err := l.Component(lab.Etcd).Start(ctx); err == nil {
		t.Error("a second etcd was started")
	}
	if err := l.Component(lab.APIServer).Kill(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.Component(lab.APIServer).Start(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := l.API().Kubectl(ctx, "get", "daemonset", "web"); err != nil {
		t.Error("the cluster has forgotten what it knew:", err)
	}
}

// eventually tries until it works, for half a minute.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	var err error
	deadline := time.Now().Add(30 * time.Second)
	for ; time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within 30 s: %v", what, err)
}
