package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
)

// imported is another load balancer of which Berth takes over the configuration.
type imported struct {
	from string
	// module has its CustomResourceDefinitions in the files that these patterns match; "" if it has none.
	module string
	crds   []string
	// manifest is how it is configured.
	manifest string
	// address is what its Service has: not the first that a pool of Berth's would give.
	address string
}

// importedOnes are those whose definitions the module proxy serves, and one that has none.
var importedOnes = []imported{
	{
		from:    "metallb",
		module:  "go.universe.tf/metallb@v0.16.2",
		crds:    []string{"config/crd/bases/metallb.io_*.yaml"},
		address: "10.77.0.233",
		manifest: `
apiVersion: v1
kind: Namespace
metadata: {name: metallb-system}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: metallb-system}
spec: {addresses: [10.77.0.230-10.77.0.234], avoidBuggyIPs: true}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: lan, namespace: metallb-system}
spec: {ipAddressPools: [lan], interfaces: [eth0]}
---
apiVersion: metallb.io/v1beta1
kind: BFDProfile
metadata: {name: fast, namespace: metallb-system}
spec: {receiveInterval: 300, transmitInterval: 300}
---
apiVersion: metallb.io/v1beta1
kind: Community
metadata: {name: names, namespace: metallb-system}
spec: {communities: [{name: far, value: "64512:1"}]}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor, namespace: metallb-system}
spec: {myASN: 64512, peerASN: 64500, peerAddress: 10.77.0.1, bfdProfile: fast, holdTime: 90s}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: far, namespace: metallb-system}
spec: {ipAddressPools: [lan], communities: [far], localPref: 100, peers: [tor]}
`,
	},
	{
		from:   "cilium",
		module: "github.com/cilium/cilium@v1.20.2",
		crds: []string{
			"pkg/k8s/apis/cilium.io/client/crds/*/ciliumloadbalancerippools.yaml",
			"pkg/k8s/apis/cilium.io/client/crds/*/ciliuml2announcementpolicies.yaml",
			"pkg/k8s/apis/cilium.io/client/crds/*/ciliumbgp*.yaml",
		},
		address: "10.77.0.238",
		manifest: `
apiVersion: cilium.io/v2
kind: CiliumLoadBalancerIPPool
metadata: {name: blue}
spec: {blocks: [{start: 10.77.0.236, stop: 10.77.0.239}]}
---
apiVersion: cilium.io/v2alpha1
kind: CiliumL2AnnouncementPolicy
metadata: {name: blue}
spec: {loadBalancerIPs: true, interfaces: ["^eth[0-9]+"]}
---
apiVersion: cilium.io/v2
kind: CiliumBGPClusterConfig
metadata: {name: racks}
spec:
  bgpInstances:
  - name: one
    localASN: 64512
    peers: [{name: leaf, peerASN: 64501, peerAddress: 10.77.0.3, peerConfigRef: {name: usual}}]
---
apiVersion: cilium.io/v2
kind: CiliumBGPPeerConfig
metadata: {name: usual}
spec:
  gracefulRestart: {enabled: true, restartTimeSeconds: 60}
  families: [{afi: ipv4, safi: unicast, advertisements: {matchLabels: {advertise: bgp}}}]
---
apiVersion: cilium.io/v2
kind: CiliumBGPAdvertisement
metadata: {name: services, labels: {advertise: bgp}}
spec:
  advertisements:
  - advertisementType: Service
    service: {addresses: [LoadBalancerIP]}
    selector: {matchLabels: {app: cilium}}
`,
	},
	{
		from:    "kube-vip",
		address: "10.77.0.243",
		manifest: `
apiVersion: v1
kind: ConfigMap
metadata: {name: kubevip, namespace: kube-system}
data: {range-global: 10.77.0.241-10.77.0.244}
`,
	},
}

// service returns the name of the Service that has its address.
func (o imported) service() string { return "of-" + o.from }

// definitions returns the CustomResourceDefinitions, as the module has them.
func (o imported) definitions(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", o.module)
	cmd.Dir = t.TempDir()
	raw, err := cmd.Output()
	var downloaded struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(raw, &downloaded); jsonErr != nil || err != nil {
		t.Fatalf("the module %s cannot be had: %v %s", o.module, err, downloaded.Error)
	}
	var out []string
	for _, pattern := range o.crds {
		files, err := filepath.Glob(filepath.Join(downloaded.Dir, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s has no %s: %v", o.module, pattern, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, string(text))
		}
	}
	return strings.Join(out, "\n---\n")
}

// configure makes what a cluster has with the other load balancer: its objects, and a Service with an address
// of it.
func (o imported) configure(t *testing.T) {
	t.Helper()
	create := func(manifest string) {
		_, err := cluster.API().KubectlInput(t.Context(), strings.NewReader(manifest),
			"apply", "--server-side", "-f", "-")
		if err != nil {
			t.Fatal(err)
		}
	}
	if o.module != "" {
		create(o.definitions(t))
		kubectl(t, "wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
	}
	create(o.manifest)
	create(service(o.service(), "imported", ""))
	kubectl(t, "patch", "service", o.service(), "--subresource=status", "--type=merge", "-p",
		fmt.Sprintf(`{"status":{"loadBalancer":{"ingress":[{"ip":%q}]}}}`, o.address))
}

// TestImport: what import prints of the objects of other load balancers, as their own definitions have them,
// is what Berth then works with: every Service keeps its address.
func TestImport(t *testing.T) {
	needs(t, ipv4, "what is imported does not depend on the family")
	fullOnly(t, "a minute, and modules of other products; stories of internal/cli import the same kinds")
	useBareLab(t, "import", lab.Options{Nodes: 1, Families: lab.IPv4Only})
	b := buildBerth(t)
	apply(t, web("imported", "node1"))
	kubectl(t, "apply", "--server-side", "-k", filepath.Join(absolute(t, root), "manifests", "crds"))
	for i, o := range importedOnes {
		t.Run(o.from, func(t *testing.T) {
			o.configure(t)
			manifests, report, code := b.run(t, "import", "--from", o.from)
			want := fmt.Sprintf("√ No Service would get another address: %d of %[1]d have one, and keep",
				i+1)
			if code > 1 || !strings.Contains(report, want) {
				t.Fatalf("exit code %d, the report does not say %q:\n%s\n%s", code, want, report, manifests)
			}
			_, err := cluster.API().KubectlInput(t.Context(), strings.NewReader(manifests),
				"apply", "-f", "-")
			if err != nil {
				t.Fatalf("%v:\n%s", err, manifests)
			}
		})
	}

	seen := followAddresses(t)
	install(t)
	for _, o := range importedOnes {
		eventually(t, time.Minute, o.from+"'s Service has its address from a pool", func() (bool, string) {
			got := condition(t, "service "+o.service(), "berth.io/AddressAssigned")
			return strings.Contains(got, "Assigned") && strings.Contains(got, o.address), got
		})
		ownedBy(t, o.address, "node1")
	}
	b.says(t, 0, "services", "of-metallb", "of-cilium", "of-kube-vip")
	for line := range strings.Lines(seen()) {
		fields := strings.Fields(line)
		kept := slices.ContainsFunc(importedOnes, func(o imported) bool {
			return slices.Equal(fields, []string{o.service(), o.address})
		})
		if !kept {
			t.Errorf("a Service had another address meanwhile: %s", line)
		}
	}
}

// absolute returns the absolute path of a folder.
func absolute(t *testing.T, folder string) string {
	t.Helper()
	out, err := filepath.Abs(folder)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// followAddresses follows the addresses of the Services, and returns what ends that and tells all that they
// were.
func followAddresses(t *testing.T) (seen func() string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cmd, err := cluster.Host(lab.HostControlPlane).Command(ctx, "kubectl", "get", "services", "--watch",
		"--no-headers", "--field-selector=metadata.name!=kubernetes",
		"-o", "custom-columns=N:.metadata.name,A:.status.loadBalancer.ingress[*].ip")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() string {
		cancel()
		_ = cmd.Wait() // it was killed
		if out.Len() == 0 {
			t.Error("no address was seen")
		}
		return out.String()
	}
}
