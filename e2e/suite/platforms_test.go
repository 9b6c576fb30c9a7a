package suite

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
)

// svclb is a DaemonSet as ServiceLB of k3s makes one for each Service, which runs nowhere here.
const svclb = `
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: svclb-leftover-1a2b3c
  namespace: kube-system
  labels: {svccontroller.k3s.cattle.io/nodeselector: "false", svccontroller.k3s.cattle.io/svcname: leftover}
spec:
  selector: {matchLabels: {app: svclb-leftover-1a2b3c}}
  template:
    metadata: {labels: {app: svclb-leftover-1a2b3c, svccontroller.k3s.cattle.io/svcname: leftover}}
    spec:
      nodeSelector: {nowhere: "true"}
      containers: [{name: lb-tcp-80, image: "docker.io/rancher/klipper-lb:v0.4.13"}]
`

// TestServiceLBLeftovers: a cluster of k3s whose ServiceLB was switched off after it had served: its pods and
// the addresses of nodes in a Service's status are left. The user is told of both before the install, the
// Service gets an address of a pool, and when the pods are gone nothing is to be told.
func TestServiceLBLeftovers(t *testing.T) {
	fullOnly(t, "half a minute; TestStatusThatOthersWrote has the status, tests of check the pods")
	needs(t, ipv4, "what the commands say does not depend on the family")
	b := buildBerth(t)
	apply(t, svclb)
	apply(t, web("leftover", "node1"))
	apply(t, service("leftover", "leftover", ""))
	node := first().of(lab.NodeAddresses(1)).String()
	writes(t, "leftover", `[{"ip":"`+node+`"}]`)
	b.says(t, 1, "check --pre", "ServiceLB of k3s")

	apply(t, pool("leftover", spans(122, 122)))
	addr := hasAddressThat(t, "leftover", func(addr string) bool { return addr != node })
	served(t, addr)
	ownedBy(t, addr)
	told(t, "leftover", "Assigned: "+addr)

	kubectl(t, "delete", "daemonset", "-n", "kube-system", "svclb-leftover-1a2b3c", "--wait")
	eventually(t, 20*time.Second, "nothing is told of ServiceLB", func() (bool, string) {
		out, problems, _ := b.run(t, "check", "--pre")
		return !strings.Contains(out+problems, "ServiceLB"), out + problems
	})
}

// hasAddressThat waits until a Service has one address for which a condition holds.
func hasAddressThat(t *testing.T, service string, is func(string) bool) (addr string) {
	t.Helper()
	eventually(t, 20*time.Second, service+" has another address", func() (bool, string) {
		addr = address(t, service)
		return addr != "" && !strings.Contains(addr, " ") && is(addr), addr
	})
	return addr
}

// TestDockerNetwork: the network of Docker in which nodes of kind and minikube are. It is a wide subnet, the
// nodes have its first addresses, and the pool is of its end: each node announces there, and the host that
// runs Docker is served.
func TestDockerNetwork(t *testing.T) {
	fullOnly(t, "ten seconds; TestStraightLine announces in the nodes' own subnet")
	needs(t, ipv4, "the network of Docker is of this family unless somebody asks for more")
	const from, to = "172.18.255.200", "172.18.255.250"
	wide := func(last byte) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 18, 0, last}), 16)
	}
	given := map[string]netip.Prefix{lab.HostClient: wide(1)}
	for i, node := range cluster.NodeNames() {
		given[node] = wide(byte(2 + i))
	}
	for host, address := range given {
		succeeds(t, cluster.Host(host).AddAddresses(t.Context(), "eth0", address))
		t.Cleanup(func() { _ = cluster.Host(host).RemoveAddresses(t.Context(), "eth0", address) })
	}
	apply(t, web("docker", cluster.NodeNames()...))
	apply(t, pool("docker", from+"-"+to))
	apply(t, service("docker", "docker", "ipFamilies: [IPv4]"))
	addr := hasAddress(t, "docker")
	if addr != from {
		t.Errorf("the address is %s, want the first of the pool, %s", addr, from)
	}
	served(t, addr)
	ownedBy(t, addr)
	eventually(t, 10*time.Second, "the pool is ready", func() (bool, string) {
		got := condition(t, "ipaddresspool docker", "Ready")
		return strings.HasPrefix(got, "Accepted: "), got
	})
}

// TestPodSecurity: a cluster in which Pod Security restricts every namespace, as Talos has it: a namespace
// without labels gets no speakers. The check before an install tells that, and so does the DaemonSet; with
// the label of the manifests everything starts.
func TestPodSecurity(t *testing.T) {
	fullOnly(t, "a lab of its own; tests of the manifests have the labels, those of check what is said")
	needs(t, ipv4, "what the commands say does not depend on the family")
	useLab(t, "security", lab.Options{Nodes: 1})
	const label = "pod-security.kubernetes.io/enforce"
	b := buildBerth(t)
	kubectl(t, "label", "namespace", system, label+"=restricted", "--overwrite")
	kubectl(t, "-n", system, "delete", "pod", "-l", "app.kubernetes.io/component=speaker", "--wait")
	eventually(t, 30*time.Second, "the DaemonSet says why it has no pods", func() (bool, string) {
		got := kubectl(t, "get", "events", "-n", system, "--field-selector=reason=FailedCreate",
			"-o", "jsonpath={range .items[*]}{.message}{end}")
		return strings.Contains(got, "violates PodSecurity \"restricted"), got
	})
	out, problems, code := b.run(t, "check")
	if code != 1 || !strings.Contains(out, label) {
		t.Errorf("check ends with %d and does not name the label:\n%s%s", code, out, problems)
	}

	kubectl(t, "label", "namespace", system, label+"=privileged", "--overwrite")
	// A DaemonSet that failed tries again, ever more seldom.
	kubectl(t, "-n", system, "rollout", "restart", "daemonset/berth-speaker")
	kubectl(t, "-n", system, "rollout", "status", "daemonset/berth-speaker", "--timeout=90s")
	apply(t, web("security", "node1"))
	apply(t, pool("security", spans(120, 120)))
	apply(t, service("security", "security", ""))
	addr := hasAddress(t, "security")
	served(t, addr)
	if out, _, _ := b.run(t, "check", "--problems"); strings.Contains(out, label) {
		t.Errorf("the label is right, and check says\n%s", out)
	}
}
