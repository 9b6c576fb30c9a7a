package suite

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
)

// transcript is a command of docs/cli.md with the lines that it shows of what that prints.
type transcript struct {
	command string
	lines   []string
}

// transcripts returns those of docs/cli.md.
func transcripts(t *testing.T) []transcript {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(root, "docs", "cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	var out []transcript
	within := false
	for line := range strings.Lines(string(page)) {
		line, indented := strings.CutPrefix(strings.TrimRight(line, "\n"), "    ")
		command, begins := strings.CutPrefix(line, "$ kubectl berth ")
		switch {
		case indented && begins:
			out, within = append(out, transcript{command: command}), true
		case !indented:
			within = false
		case within && line != "...":
			last := &out[len(out)-1]
			last.lines = append(last.lines, line)
		}
	}
	return out
}

// likeAnywhere are the parts of lines that differ from one cluster, and from one moment, to another.
var likeAnywhere = []struct {
	part *regexp.Regexp
	like string
}{
	{regexp.MustCompile(`context \S+`), "context CONTEXT"},
	{regexp.MustCompile(`berth-controller-\S+`), "POD"},
	{regexp.MustCompile(`\b(\d+(ms|[dhms]))+\b`), "AGE"},
	{regexp.MustCompile(`node\d`), "NODE"},
	{regexp.MustCompile(`\d+`), "N"},
	{regexp.MustCompile(`\((HandOver|TakeOver|First|NodeGone)\)`), "(CAUSE)"},
	{regexp.MustCompile(`N addresses? on N nodes?`), "N addresses on N nodes"},
	{regexp.MustCompile(`N problems?, N warnings?`), "N problems, N warnings"},
	{regexp.MustCompile(`\s+`), " "},
}

// like returns a line without what differs from cluster to cluster.
func like(line string) string {
	for _, l := range likeAnywhere {
		line = l.part.ReplaceAllString(line, l.like)
	}
	return strings.TrimSpace(line)
}

// prints fails the test unless the command of a transcript prints its lines in the lab; which nodes, numbers
// and times they have may differ. The node that the page calls node1 is the one named.
func (b berth) prints(t *testing.T, shown transcript, node string) {
	t.Helper()
	out, problems, code := b.run(t, strings.Fields(strings.ReplaceAll(shown.command, "node1", node))...)
	if code > 1 {
		t.Fatalf("exit code %d: %s", code, problems)
	}
	var printed []string
	for line := range strings.Lines(out) {
		printed = append(printed, like(line))
	}
	for _, line := range shown.lines {
		if !slices.Contains(printed, like(line)) {
			t.Errorf("docs/cli.md shows %q (%s), which is not printed here:\n%s", line, like(line),
				strings.Join(printed, "\n"))
		}
	}
}

// ofTestCheck are the transcripts of a cluster in which all is well, which TestCheck has.
var ofTestCheck = []string{"check", "check --problems"}

// showsCheck compares the transcript of a command with what that prints now.
func (b berth) showsCheck(t *testing.T, command string) {
	t.Helper()
	for _, shown := range transcripts(t) {
		if shown.command == command {
			b.prints(t, shown, "node1")
			return
		}
	}
	t.Errorf("docs/cli.md does not show %s", command)
}

// shop is the cluster of the transcripts.
const shop = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: berth.io/v1beta1
kind: IPAddressPool
metadata: {name: lan}
spec: {addresses: [10.77.0.200-10.77.0.209], exclude: [10.77.0.209]}
---
apiVersion: berth.io/v1beta1
kind: IPAddressPool
metadata: {name: dmz}
spec: {addresses: [10.88.0.0/32], serviceAllocation: {namespaces: [shop]}}
---
apiVersion: berth.io/v1beta1
kind: L2Advertisement
metadata: {name: lan}
spec: {ipAddressPools: [lan]}
---
apiVersion: berth.io/v1beta1
kind: BGPAdvertisement
metadata: {name: dmz}
spec: {ipAddressPools: [dmz], communities: ["64512:100"]}
---
apiVersion: v1
kind: Service
metadata: {name: web, annotations: {berth.io/loadBalancerIPs: 10.77.0.200}}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  ipFamilies: [IPv4]
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: idle}
spec: {type: LoadBalancer, ipFamilies: [IPv4], selector: {app: idle}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: api, annotations: {berth.io/address-pool: dmz}}
spec: {type: LoadBalancer, ipFamilies: [IPv4], selector: {app: api}, ports: [{port: 443, targetPort: 8080}]}
`

// cart is a Service for which nothing is left.
const cart = `
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: cart, annotations: {berth.io/address-pool: dmz}}
spec: {type: LoadBalancer, ipFamilies: [IPv4], selector: {app: cart}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: metallb-system}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config, namespace: metallb-system}
data:
  config: |
    address-pools:
    - {name: default, protocol: layer2, addresses: [10.77.0.220-10.77.0.229]}
`

// TestTranscripts: what docs/cli.md shows is what the commands print in a cluster such as that of the page.
func TestTranscripts(t *testing.T) {
	fullOnly(t, "half a minute, for a page; TestCLI has the commands")
	needs(t, ipv4, "the page shows addresses of IPv4")
	b := buildBerth(t)
	router(t, peering.Router{Host: lab.HostRouter, Dynamic: true})
	apply(t, peering.Peer{Name: "tor", Address: lab.RouterAddresses.V4}.Manifest())
	const label = "node.kubernetes.io/exclude-from-external-load-balancers"
	cleanup(t, "label", "node", "node3", label+"-")
	kubectl(t, "label", "node", "node3", label+"=")
	apply(t, shop)
	apply(t, web("web", "node1", "node2"))
	apply(t, strings.ReplaceAll(web("api", "node1", "node2"), "{name: api}", "{name: api, namespace: shop}"))
	kubectl(t, "rollout", "status", "deployment/web", "--timeout=60s")
	kubectl(t, "rollout", "status", "deployment/api", "-n", "shop", "--timeout=60s")
	eventually(t, 20*time.Second, "api has its address", func() (bool, string) {
		addr := get(t, "get service api -n shop", ".status.loadBalancer.ingress[0].ip")
		return addr == "10.88.0.0", addr
	})
	apply(t, cart)
	owner := ownedBy(t, "10.77.0.200", "node1", "node2")
	eventually(t, 30*time.Second, "what is announced is told", func() (bool, string) {
		out, _, _ := b.run(t, "services", "-A")
		told := strings.Contains(out, "Announcing") && strings.Contains(out, "Announced") &&
			strings.Contains(out, "PoolsExhausted") && len(sentRoutes(t, b)) == 2
		return told, fmt.Sprint(out, sentRoutes(t, b))
	})
	// What is new is not called a problem at once.
	eventually(t, 30*time.Second, "a Service without an address is a problem", func() (bool, string) {
		out, _, _ := b.run(t, "status")
		return strings.Contains(out, "PoolsExhausted"), out
	})
	tried := 0
	for _, shown := range transcripts(t) {
		if slices.Contains(ofTestCheck, shown.command) {
			continue
		}
		tried++
		t.Run(shown.command, func(t *testing.T) { b.prints(t, shown, owner) })
	}
	if tried < 7 {
		t.Errorf("only %d transcripts: does this test still see them?", tried)
	}
}
