package suite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/product"
)

const system = product.Namespace

// kubectl runs kubectl and fails the test when it fails.
func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := cluster.API().Kubectl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// apply applies manifests and deletes their objects when the test ends.
func apply(t *testing.T, manifest string) {
	t.Helper()
	_, err := cluster.API().KubectlInput(t.Context(), strings.NewReader(manifest), "apply", "-f", "-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := cluster.API().KubectlInput(ctx, strings.NewReader(manifest), "delete",
			"--ignore-not-found", "-f", "-")
		if err != nil {
			t.Error("clean up:", err)
		}
	})
}

// cleanup runs kubectl when the test ends.
func cleanup(t *testing.T, args ...string) {
	t.Helper()
	t.Cleanup(func() {
		if _, err := cluster.API().Kubectl(context.WithoutCancel(t.Context()), args...); err != nil {
			t.Error("clean up:", err)
		}
	})
}

// refused applies a manifest that the API server must refuse, and returns
// what it says.
func refused(t *testing.T, manifest string) string {
	t.Helper()
	_, err := cluster.API().KubectlInput(t.Context(), strings.NewReader(manifest), "apply", "-f", "-")
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("not refused (%v):\n%s", err, manifest)
	}
	return err.Error()
}

// eventually waits until a condition holds and returns how long that took.
// It fails the test, with what was last seen, after limit.
func eventually(t *testing.T, limit time.Duration, what string, holds func() (bool, string)) time.Duration {
	t.Helper()
	start := time.Now()
	for {
		ok, seen := holds()
		if ok {
			return time.Since(start)
		}
		if time.Since(start) > limit {
			t.Fatalf("not after %s: %s; last seen: %s", limit, what, seen)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// hasAddress waits until a Service has an address and returns it.
func hasAddress(t *testing.T, service string) string {
	t.Helper()
	var addr string
	eventually(t, 10*time.Second, service+" has an address", func() (bool, string) {
		addr = address(t, service)
		return addr != "", condition(t, "service "+service, "berth.io/AddressAssigned")
	})
	return addr
}

// answers asks the LAN who has an address, as a client does, and names the
// nodes that answer.
func answers(t *testing.T, addr string) []string {
	t.Helper()
	var nodes []string
	for _, mac := range answerers(t, lab.HostClient, "eth0", netip.MustParseAddr(addr), 1) {
		nodes = append(nodes, nodeOf(t, mac))
	}
	return nodes
}

// nodeOf names the node with a link-layer address.
func nodeOf(t *testing.T, mac string) string {
	t.Helper()
	hw, err := net.ParseMAC(mac)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range cluster.NodeNames() {
		if out := macOf(t, name); out == hw.String() {
			return name
		}
	}
	return "stranger " + mac
}

var macs sync.Map

func macOf(t *testing.T, node string) string {
	t.Helper()
	if mac, ok := macs.Load(node); ok {
		return mac.(string)
	}
	out, err := cluster.Node(node).Exec(t.Context(), "cat", "/sys/class/net/eth0/address")
	if err != nil {
		t.Fatal(err)
	}
	mac := strings.TrimSpace(string(out))
	macs.Store(node, mac)
	return mac
}

// ownedBy waits until exactly one node answers for an address and it is one
// of those wanted (any, when none is named); it returns the node.
func ownedBy(t *testing.T, addr string, want ...string) string {
	t.Helper()
	var got []string
	what := fmt.Sprintf("%s is answered by one of %v", addr, want)
	eventually(t, 15*time.Second, what, func() (bool, string) {
		got = answers(t, addr)
		ok := len(got) == 1 && (len(want) == 0 || strings.Contains(strings.Join(want, " "), got[0]))
		return ok, fmt.Sprint(got)
	})
	return got[0]
}

// page asks for http://addr/ from a host of the lab, on a new connection.
func page(ctx context.Context, host, addr string, limit time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, to string) (net.Conn, error) {
			return dial(ctx, host, to)
		},
	}}
	if netip.MustParseAddr(addr).Is6() {
		addr = "[" + addr + "]"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return strings.TrimSpace(string(body)), err
}

// dial connects a host of the lab by TCP with an address, from a port that no connection had for long.
func dial(ctx context.Context, host, to string) (conn net.Conn, err error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{Port: freshPort()}}
	err = cluster.Host(host).Run(func() error {
		conn, err = dialer.DialContext(ctx, "tcp", to)
		return err
	})
	return conn, err
}

// usedPorts counts the source ports that requests had.
var usedPorts atomic.Uint32

// freshPort is a source port that no request had for long. A node that was asked before its proxy had any
// rules goes on sending what comes from that port to nowhere for two minutes (conntrack), and the kernel
// chooses ports again within seconds.
func freshPort() int {
	const first, last = 10000, 21999 // below those of package watch and those that the kernel chooses
	return first + int(usedPorts.Add(1))%(last-first)
}

// forwarded skips the rest of a test in a cluster whose nodes forward nothing: no client is served there.
func forwarded(t *testing.T) {
	t.Helper()
	if mode := cluster.ProxyMode(); !mode.Forwards() {
		t.Skipf("the nodes forward nothing to pods: this cluster has kube-proxy in mode %s", mode)
	}
}

// served waits until the client on the LAN gets the page at an address.
func served(t *testing.T, addr string) (line string, took time.Duration) {
	t.Helper()
	forwarded(t)
	took = eventually(t, 15*time.Second, "a page at "+addr, func() (bool, string) {
		var err error
		line, err = page(t.Context(), lab.HostClient, addr, 300*time.Millisecond)
		return err == nil, fmt.Sprint(err)
	})
	return line, took
}

// field takes one value out of the workload's answer: pod=… node=… client=….
func field(line, name string) string {
	for _, part := range strings.Fields(line) {
		if value, ok := strings.CutPrefix(part, name+"="); ok {
			return value
		}
	}
	return ""
}

// traffic is a client that asks for a page every few milliseconds, each time
// on a new connection, until it is stopped.
type traffic struct {
	mu       sync.Mutex
	requests int
	failed   int
	longest  time.Duration // without an answer
	stop     func()
}

// tellsFailures is how many failed requests a client puts into the test's log.
const tellsFailures = 5

// requestInterval is the pause between two requests.
const requestInterval = 10 * time.Millisecond

// untilSure is how long one request may take. It tells a lost packet, which TCP sends again after a second
// (RFC 6298), from a machine that is busy.
const untilSure = 900 * time.Millisecond

func startTraffic(t *testing.T, addr string, limit time.Duration) *traffic {
	t.Helper()
	forwarded(t)
	ctx, cancel := context.WithCancel(t.Context())
	c := &traffic{}
	done := make(chan struct{})
	c.stop = func() { cancel(); <-done }
	t.Cleanup(c.stop)
	go func() {
		defer close(done)
		first := time.Now()
		lastGood := first
		for ctx.Err() == nil {
			asked := time.Now()
			_, err := page(ctx, lab.HostClient, addr, limit)
			if ctx.Err() != nil {
				return
			}
			took := time.Since(asked)
			c.mu.Lock()
			c.requests++
			if err != nil {
				if c.failed++; c.failed <= tellsFailures {
					t.Logf("request %d, %.3f s after the first, failed after %.3f s: %v",
						c.requests, asked.Sub(first).Seconds(), took.Seconds(), err)
				}
			} else {
				c.longest = max(c.longest, time.Since(lastGood))
				lastGood = time.Now()
			}
			c.mu.Unlock()
			time.Sleep(requestInterval)
		}
	}()
	return c
}

func (c *traffic) count() (requests, failed int, longest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests, c.failed, c.longest
}

// versions returns the resource versions of Services: they tell of every write.
func versions(t *testing.T, services ...string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, s := range services {
		out[s] = get(t, "get service "+s, ".metadata.resourceVersion") + " " + address(t, s)
	}
	return out
}

// leader is the pod that leads the controllers.
func leader(t *testing.T) string {
	t.Helper()
	holder := get(t, "get lease -n "+system+" berth-controller", ".spec.holderIdentity")
	pod, _, _ := strings.Cut(holder, "_")
	return pod
}

func toJSON(v any) string {
	out, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(out)
}
