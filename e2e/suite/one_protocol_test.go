package suite

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
	"github.com/berth-lb/berth/e2e/product"
)

// TestOneProtocol: the components layer-2-only and bgp-only take rights away, and Berth announces by the
// protocol that is left. Nothing asks for what it may not have, and an object of the other protocol is told
// that no speaker acts on it.
func TestOneProtocol(t *testing.T) {
	fullOnly(t, "a lab of its own; tools/install compares the rights, tests of the speaker what it reads")
	if !cluster.ProxyMode().Forwards() {
		t.Skip("without kube-proxy pods have to be told where the API server is")
	}
	useBareLab(t, "protocol", lab.Options{Nodes: 2})
	for _, role := range []string{"controller", "speaker"} {
		succeeds(t, cluster.LoadImage(t.Context(), filepath.Join(root, "dist", role+".tar")))
	}
	apply(t, web("web", "node1", "node2"))

	t.Run("layer 2", layer2Only)
	t.Run("BGP", bgpOnly)
}

// installWith applies the base with a component, and waits until every pod is of it.
func installWith(t *testing.T, component string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	succeeds(t, err)
	manifests, err := filepath.Abs(filepath.Join(root, "manifests"))
	succeeds(t, err)
	manifests, err = filepath.EvalSymlinks(manifests)
	succeeds(t, err)
	manifests, err = filepath.Rel(dir, manifests) // kustomize takes no absolute paths
	succeeds(t, err)
	text := fmt.Sprintf("resources: [%s]\ncomponents: [%s]\n", filepath.Join(manifests, "base"),
		filepath.Join(manifests, "components", component))
	succeeds(t, os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600))
	kubectl(t, "apply", "-k", dir)
	for _, workload := range []string{product.Controller, product.Speaker} {
		kubectl(t, "-n", system, "rollout", "status", workload, "--timeout=90s")
	}
}

// may reports whether the speakers may do something, by kubectl's words for it.
func may(t *testing.T, words ...string) bool {
	t.Helper()
	as := "--as=system:serviceaccount:" + system + ":berth-speaker"
	out, err := cluster.API().Kubectl(t.Context(), append([]string{"auth", "can-i", as}, words...)...)
	switch answer := strings.TrimSpace(string(out)); {
	case answer == "yes":
		return true
	case answer == "no" || err != nil && strings.Contains(err.Error(), "no"):
		return false
	default:
		t.Fatalf("kubectl auth can-i %v: %s %v", words, answer, err)
		return false
	}
}

// nothingForbidden looks through the logs of all processes of Berth for what they may not do.
func nothingForbidden(t *testing.T) {
	t.Helper()
	for _, component := range []string{"controller", "speaker"} {
		logs := kubectl(t, "-n", system, "logs", "-l", "app.kubernetes.io/component="+component, "--tail=-1")
		for line := range strings.Lines(logs) {
			if strings.Contains(line, "forbidden") || strings.Contains(line, `"level":"ERROR"`) {
				t.Errorf("%s: %s", component, line)
			}
		}
	}
}

// disabled waits until an object says that no speaker announces by its protocol.
func disabled(t *testing.T, object, says string) {
	t.Helper()
	eventually(t, 20*time.Second, object+" is of no speaker's protocol", func() (bool, string) {
		got := condition(t, object, "Ready")
		return strings.HasPrefix(got, "ProtocolDisabled: ") && strings.Contains(got, says), got
	})
}

// protocolsOf waits until the Speaker objects of all nodes list the protocols.
func protocolsOf(t *testing.T, want string) {
	t.Helper()
	for _, node := range cluster.NodeNames() {
		what := "the Speaker object of " + node + " lists its protocols"
		eventually(t, 10*time.Second, what, func() (bool, string) {
			got := get(t, "get speaker "+node, ".status.protocols[*]")
			return got == want, got
		})
	}
}

func layer2Only(t *testing.T) {
	installWith(t, "layer-2-only")
	for _, kind := range []string{"bgppeers", "bgpadvertisements", "bfdprofiles", "communities"} {
		if may(t, "list", kind+".berth.io") {
			t.Errorf("the speakers may list %s", kind)
		}
	}
	if may(t, "get", "secrets/passwords", "-n", system) ||
		!may(t, "get", "secrets/berth-memberlist", "-n", system) {
		t.Error("of Secrets the speakers may read others than the member Secret, or not that one")
	}
	apply(t, pool("first", spans(120, 120)))
	apply(t, service("first", "web", everyFamily()))
	for _, addr := range addressesOf(t, "first") {
		served(t, addr.String())
		ownedBy(t, addr.String())
	}
	protocolsOf(t, "Layer2")
	apply(t, onePeer("tor", lab.RouterAddresses).Manifest())
	apply(t, peering.Announced("routed", "198.51.100.0/28, 2001:db8:100::/124", ""))
	disabled(t, "bgppeer tor", "--bgp=false")
	disabled(t, "bgpadvertisement routed", "--bgp=false")
	nothingForbidden(t)
}

func bgpOnly(t *testing.T) {
	if _, err := os.Stat("/usr/lib/frr/bgpd"); err != nil {
		t.Fatal("needs FRR: `make deps` installs it")
	}
	kubectl(t, "delete", "secret", "-n", system, "berth-memberlist")
	installWith(t, "bgp-only")
	if may(t, "list", "l2advertisements.berth.io") {
		t.Error("the speakers may list L2Advertisements")
	}
	router(t, peering.Router{Host: lab.HostRouter, Dynamic: true})
	_, manifests := peers("first", lab.RouterAddresses)
	apply(t, manifests)
	apply(t, peering.Announced("routed", "198.51.100.0/28, 2001:db8:100::/124", ""))
	apply(t, echo("routed", "web", ""))
	addresses := addressesOf(t, "routed")
	routedTo(t, lab.HostRouter, addresses, cluster.NodeNames()...)
	fetched(t, addresses, false)
	protocolsOf(t, "BGP")
	for _, node := range cluster.NodeNames() {
		withoutLayer2(t, node)
	}

	apply(t, pool("lan", spans(121, 121)))
	apply(t, service("lan", "web", "loadBalancerIP: "+first().at(121)))
	hasAddress(t, "lan")
	disabled(t, "l2advertisement lan", "--layer2=false")
	eventually(t, 30*time.Second, "an Event tells why nobody announces it", func() (bool, string) {
		got := kubectl(t, "get", "events", "--field-selector=involvedObject.name=lan,reason=NoAdvertisement",
			"-o", "jsonpath={range .items[*]}{.message}{end}")
		return strings.Count(got, "--layer2=false") == 1, got
	})
	nothingForbidden(t)
}

// withoutLayer2 looks that the speaker of a node has no capability, no packet socket and no member port.
func withoutLayer2(t *testing.T, node string) {
	t.Helper()
	on := cluster.Node(node)
	pid := strings.TrimSpace(string(must(t)(on.Exec(t.Context(), "pgrep", "-xn", product.SpeakerProcess))))
	status := string(must(t)(on.Exec(t.Context(), "cat", "/proc/"+pid+"/status")))
	if !strings.Contains(status, "CapEff:\t0000000000000000") {
		t.Errorf("the speaker of %s has capabilities:\n%s", node, status)
	}
	sockets := string(must(t)(on.Exec(t.Context(), "ss", "-Hlntu")))
	if strings.Contains(sockets, fmt.Sprintf(":%d ", product.MemberPort)) {
		t.Errorf("on %s the member port is open:\n%s", node, sockets)
	}
	packets := string(must(t)(on.Exec(t.Context(), "ss", "-H0p")))
	if strings.Contains(packets, product.SpeakerProcess) {
		t.Errorf("the speaker of %s has packet sockets:\n%s", node, packets)
	}
}
