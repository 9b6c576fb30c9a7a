package suite

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
	"github.com/berth-lb/berth/e2e/product"
	"github.com/berth-lb/berth/e2e/recipe"
	"github.com/berth-lb/berth/e2e/traefik"
)

// The nodes on which the ingress controller runs, and the one with the pods of what it leads to. So what a
// client loses when one of the first fails is not lost further on.
var ingressNodes = []string{"node1", "node2"}

const workloadNode = "node3"

// Hosts of what is reached through the ingress controller.
const (
	shopHost = "shop.test"
	blogHost = "blog.test"
	wikiHost = "wiki.test" // by Gateway API
)

// Ports at which a second Gateway listens.
const (
	plainPort   = 9000 // TCP
	securedPort = 8443 // TLS, which ends there
)

// A backend is a Service, and the host and path at which it is reached.
type backend struct{ service, host, path string }

var backends = []backend{
	{"shop", shopHost, "/"},
	{"cart", shopHost, "/cart"},
	{"blog", blogHost, "/"},
	{"editor", blogHost, "/edit"},
}

// workloads returns a Deployment and a Service for each backend.
func workloads() string {
	var all strings.Builder
	for _, b := range backends {
		fmt.Fprintf(&all, `%[2]s---
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec: {selector: {app: %[1]s}, ports: [{port: 80, targetPort: 8080}]}
---`, b.service, web(b.service, workloadNode))
	}
	return strings.TrimSuffix(all.String(), "---")
}

// ingress returns an Ingress for all backends, with the certificate in a Secret.
func ingress(name, secret string) string {
	paths := map[string][]string{}
	for _, b := range backends {
		paths[b.host] = append(paths[b.host], fmt.Sprintf(
			"{path: %s, pathType: Prefix, backend: {service: {name: %s, port: {number: 80}}}}",
			b.path, b.service))
	}
	return fmt.Sprintf(`
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: %[1]s}
spec:
  ingressClassName: %[2]s
  tls: [{secretName: %[3]s, hosts: [%[4]s, %[5]s]}]
  rules:
  - {host: %[4]s, http: {paths: [%[6]s]}}
  - {host: %[5]s, http: {paths: [%[7]s]}}
`, name, traefik.Class, secret, shopHost, blogHost,
		strings.Join(paths[shopHost], ", "), strings.Join(paths[blogHost], ", "))
}

// gateway returns a Gateway with the certificate in a Secret, and a route from wikiHost to a Service.
func gateway(name, secret, service string) string {
	return fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: %[1]s}
spec:
  gatewayClassName: %[2]s
  listeners:
  - {name: web, protocol: HTTP, port: 80}
  - {name: websecure, protocol: HTTPS, port: 443, tls: {certificateRefs: [{name: %[3]s}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %[1]s}
spec:
  parentRefs: [{name: %[1]s}]
  hostnames: [%[4]s]
  rules: [{backendRefs: [{name: %[5]s, port: 80}]}]
`, name, traefik.Class, secret, wikiHost, service)
}

// streams returns a Gateway that hands on connections, with a TCPRoute and a TLSRoute to a Service.
func streams(name, secret, service string) string {
	return fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: %[1]s}
spec:
  gatewayClassName: %[2]s
  listeners:
  - {name: plain, protocol: TCP, port: %[6]d}
  - {name: secured, protocol: TLS, port: %[7]d, tls: {mode: Terminate, certificateRefs: [{name: %[3]s}]}}
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: %[1]s}
spec:
  parentRefs: [{name: %[1]s, sectionName: plain}]
  rules: [{backendRefs: [{name: %[5]s, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: %[1]s}
spec:
  parentRefs: [{name: %[1]s, sectionName: secured}]
  hostnames: [%[4]s]
  rules: [{backendRefs: [{name: %[5]s, port: 80}]}]
`, name, traefik.Class, secret, wikiHost, service, plainPort, securedPort)
}

// TestIngress: an ingress controller behind an address of Berth's, for a client on the LAN and one behind two
// routers that speak BGP. Each gets the pages of four Services by two hosts and two paths, over TLS, HTTP/2
// and HTTP/3; the pods are told the clients' own addresses; Ingress and two Gateways say which address it is.
// Then the controller's pods are rolled, and their node is drained and crashes, while both clients ask.
func TestIngress(t *testing.T) {
	forwarded(t)
	if err := traefik.Load(t.Context(), cluster, os.Stdout); err != nil {
		t.Fatal(err)
	}
	gatewayCRDs(t)
	t.Run("documentation", checkSamples)
	roots, secret := certificate(t, "front", shopHost, blogHost, wikiHost)
	apply(t, secret+"---"+workloads())
	apply(t, pool("ingress", "10.77.0.226/32, fd77::226/128"))
	apply(t, peering.Announced("ingress-routed", "198.51.100.200/32, 2001:db8:100::c8/128", ""))
	twoRouters(t)
	const routedService = "traefik-routed"
	apply(t, traefik.Manifests(traefik.Options{
		Nodes:   ingressNodes,
		Pool:    "ingress",
		Gateway: true,
		Ports:   []uint16{plainPort, securedPort},
	})+"---"+traefik.LoadBalancer(routedService, "ingress-routed", plainPort, securedPort))
	apply(t, ingress("front", "front"))
	apply(t, gateway("front", "front", "shop"))
	apply(t, streams("side", "front", "cart"))
	controllerReady(t)

	onLAN := addressesOf(t, traefik.Service+" -n "+traefik.Namespace)
	routed := addressesOf(t, routedService+" -n "+traefik.Namespace)
	for _, host := range []string{lab.HostRouter, lab.HostRouter2} {
		routedTo(t, host, routed, ingressNodes...)
	}
	var ways []way
	for i := range onLAN { // in the order of the lab's families
		ways = append(ways,
			way{name: "over layer 2", host: lab.HostClient, to: onLAN[i], roots: roots},
			way{name: "over BGP", host: lab.HostExt, to: routed[i], roots: roots})
	}

	t.Run("pages", func(t *testing.T) {
		for _, w := range ways {
			checkPages(t, w)
		}
	})
	t.Run("status", func(t *testing.T) { checkIngressStatus(t, onLAN) })
	t.Run("gateway", func(t *testing.T) {
		checkGatewayStatus(t, onLAN)
		for _, w := range ways {
			checkRoutes(t, w)
		}
	})
	ofFirst := ways[:2]
	t.Run("websocket", func(t *testing.T) { checkWebsocket(t, ofFirst) })
	for _, f := range ingressFaults() {
		t.Run(f.name, func(t *testing.T) {
			if f.slow != "" {
				fullOnly(t, f.slow)
			}
			f.check(t, ofFirst)
		})
	}
}

// gatewayCRDs installs the CRDs of Gateway API until the test ends.
func gatewayCRDs(t *testing.T) {
	t.Helper()
	crds, err := lab.GatewayCRDs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// What kubectl would keep of them in an annotation is too long for one.
	kubectl(t, "apply", "--server-side", "-k", crds)
	cleanup(t, "delete", "--ignore-not-found", "-k", crds)
	for _, kind := range []string{"gatewayclasses", "gateways", "httproutes", "tcproutes", "tlsroutes"} {
		kubectl(t, "wait", "--for=condition=Established", "--timeout=30s",
			"crd/"+kind+".gateway.networking.k8s.io")
	}
}

// checkSamples: the API server takes what docs/ingress.md and docs/gateway-api.md show.
func checkSamples(t *testing.T) {
	for _, name := range []string{"ingress.md", "gateway-api.md"} {
		page, err := os.ReadFile(filepath.Join(root, "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		sections, err := recipe.Parse(string(page))
		if err != nil || len(sections) == 0 {
			t.Fatalf("%s: %d sections with objects, %v", name, len(sections), err)
		}
		for _, section := range sections {
			for _, block := range section.Blocks {
				_, err := cluster.API().KubectlInput(t.Context(), strings.NewReader(block.Text),
					"apply", "--dry-run=server", "-f", "-")
				if err != nil {
					t.Errorf("%s:%d: %v", name, block.Line, err)
				}
			}
		}
	}
}

// twoRouters has both routers take routes from the nodes, and the client behind them send by both, until the
// test ends. Their sessions are over the first family of the lab and carry all. BFD watches them.
func twoRouters(t *testing.T) {
	t.Helper()
	manifests := peering.BFDProfile("ingress")
	hosts := []string{lab.HostRouter, lab.HostRouter2}
	both := len(families()) > 1
	var routers []peering.Router
	for _, host := range hosts {
		r := peering.Router{Host: host, Dynamic: true, Both: both, BFD: true}
		routers = append(routers, r)
		manifests += peering.Peer{
			Name:       "ingress-" + host,
			Address:    cluster.Families().Of(r.Addresses())[0],
			Restart:    true,
			BFDProfile: "ingress",
			More:       fmt.Sprintf("dualStackAddressFamily: %v", both),
		}.Manifest()
		router(t, r)
	}
	t.Cleanup(func() {
		// The client behind the routers goes back to the first one.
		if err := cluster.Router(lab.HostRouter2).Crash(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	apply(t, manifests)
	for _, r := range routers {
		want := 2 * len(cluster.NodeNames()) // BGP and BFD
		eventually(t, 30*time.Second, "all sessions of "+r.Host+" are up", func() (bool, string) {
			downs, err := peering.ReadDowns(t.Context(), cluster, r)
			up := 0
			for _, d := range downs {
				if d.Up {
					up++
				}
			}
			return up == want, fmt.Sprint(downs, err)
		})
	}
	if err := cluster.Router(lab.HostRouter2).Open(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// controllerReady waits until the ingress controller has as many pods as it should, all of them ready and
// none about to end.
func controllerReady(t *testing.T) {
	t.Helper()
	kubectl(t, "rollout", "status", "-n", traefik.Namespace, traefik.Deployment, "--timeout=120s")
	eventually(t, time.Minute, "no pod of the ingress controller is left over", func() (bool, string) {
		got := strings.Fields(get(t, "get pods -n "+traefik.Namespace+" -l app="+traefik.App,
			".items[*].metadata.name"))
		return len(got) == len(ingressNodes), fmt.Sprint(got)
	})
}

func checkPages(t *testing.T, w way) {
	for _, b := range backends {
		for _, scheme := range []struct {
			name  string
			major int
		}{{"http", 1}, {"https", 2}} {
			url := scheme.name + "://" + b.host + b.path
			got := w.served(t, url)
			pod, host := field(got.line, "pod"), field(got.line, "host")
			if !strings.HasPrefix(pod, b.service+"-") || host != b.host {
				t.Errorf("%s %s to %s: %q, want a pod of %s", url, w.name, w.to, got.line, b.service)
			}
			if got.major != scheme.major {
				t.Errorf("%s %s was answered by HTTP/%d, want HTTP/%d", url, w.name, got.major, scheme.major)
			}
			if from := field(got.line, "forwarded"); from != got.from.String() {
				t.Errorf("%s %s: the pod was told of the client %q, it is %s", url, w.name, from, got.from)
			}
		}
	}
	for _, b := range backends {
		url := "https://" + b.host + b.path
		got, err := w.getHTTP3(t.Context(), url, 5*time.Second)
		if err != nil {
			t.Errorf("%s %s by HTTP/3: %v", url, w.name, err)
			continue
		}
		if !strings.HasPrefix(field(got.line, "pod"), b.service+"-") || got.major != 3 ||
			field(got.line, "forwarded") != got.from.String() {
			t.Errorf("%s %s from %s: HTTP/%d %q, want HTTP/3 and a pod of %s that was told of the client",
				url, w.name, got.from, got.major, got.line, b.service)
		}
	}
	if _, err := w.get(t.Context(), "http://nobody.test/", 5*time.Second); err == nil ||
		!strings.HasPrefix(err.Error(), "404") {
		t.Errorf("a host that no Ingress names: %v, want 404", err)
	}
}

// checkIngressStatus: the Ingress has the addresses of the controller's Service.
func checkIngressStatus(t *testing.T, addresses []netip.Addr) {
	eventually(t, 30*time.Second, "the Ingress says which addresses it has", func() (bool, string) {
		got := get(t, "get ingress front", ".status.loadBalancer.ingress[*].ip")
		return got == joined(addresses), got
	})
}

// joined writes addresses as kubectl does.
func joined(addresses []netip.Addr) string {
	var texts []string
	for _, a := range addresses {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, " ")
}

// checkGatewayStatus: both Gateways are programmed, and share the addresses of the controller's Service.
func checkGatewayStatus(t *testing.T, addresses []netip.Addr) {
	for _, name := range []string{"front", "side"} {
		eventually(t, 30*time.Second, "the Gateway "+name+" is programmed", func() (bool, string) {
			got := get(t, "get gateway "+name, `.status.conditions[?(@.type=="Programmed")].status`) + " " +
				get(t, "get gateway "+name, ".status.addresses[*].value")
			return got == "True "+joined(addresses), got
		})
	}
}

// checkRoutes: an HTTPRoute, a TCPRoute and a TLSRoute lead to their Services.
func checkRoutes(t *testing.T, w way) {
	for _, url := range []string{"http://" + wikiHost + "/", "https://" + wikiHost + "/"} {
		got := w.served(t, url)
		if !strings.HasPrefix(field(got.line, "pod"), "shop-") ||
			field(got.line, "forwarded") != got.from.String() {
			t.Errorf("%s %s: %q, want a pod of shop that was told of %s", url, w.name, got.line, got.from)
		}
	}
	w.http1 = true // the pods speak no other version, and what is handed on is not looked into
	for _, url := range []string{
		fmt.Sprintf("http://%s:%d/", wikiHost, plainPort),
		fmt.Sprintf("https://%s:%d/", wikiHost, securedPort),
	} {
		if got := w.served(t, url); !strings.HasPrefix(field(got.line, "pod"), "cart-") {
			t.Errorf("%s %s: %q, want a pod of cart", url, w.name, got.line)
		}
	}
}

// checkWebsocket: a connection stays open while all speakers are replaced.
func checkWebsocket(t *testing.T, ways []way) {
	whole(t)
	var open []*live
	for _, w := range ways {
		l := openLive(t, w, shopHost)
		if !strings.HasPrefix(field(l.line, "pod"), "shop-") ||
			field(l.line, "forwarded") != l.from.String() {
			t.Errorf("a websocket %s from %s begins with %q", w.name, l.from, l.line)
		}
		open = append(open, l)
	}
	kubectl(t, "rollout", "restart", "-n", system, product.Speaker)
	kubectl(t, "rollout", "status", "-n", system, product.Speaker, "--timeout=120s")
	whole(t)
	for i, w := range ways {
		fmt.Printf("figure: all speakers replaced: a websocket %s stays open, its slowest echo took %d ms\n",
			w.name, open[i].open(t).Milliseconds())
	}
}

// An ingressFault is something that happens to the node by which the client on the LAN is served, which the
// ingress controller has a pod on.
type ingressFault struct {
	name  string
	fault func(t *testing.T, victim string)
	mend  func(t *testing.T, victim string)
	// limit is how long a client may have no answer.
	limit time.Duration
	// slow says why only the full suite has it; "" if every suite has.
	slow string
}

func ingressFaults() []ingressFault {
	nothing := func(*testing.T, string) {}
	return []ingressFault{
		{
			name: "ingress rolled",
			fault: func(t *testing.T, _ string) {
				kubectl(t, "rollout", "restart", "-n", traefik.Namespace, traefik.Deployment)
				controllerReady(t)
			},
			mend:  nothing,
			limit: fewLost,
			slow:  "half a minute; TestBGP has pods of a Local Service come and go",
		},
		{
			name: "node of ingress drained",
			fault: func(t *testing.T, victim string) {
				kubectl(t, "drain", victim, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s")
			},
			mend: func(t *testing.T, victim string) {
				_, err := cluster.API().Kubectl(context.WithoutCancel(t.Context()), "uncordon", victim)
				if err != nil {
					t.Error(err)
				}
			},
			limit: fewLost,
			slow:  "20 s; TestFailover drains nodes",
		},
		{
			name: "node of ingress crashed",
			fault: func(t *testing.T, victim string) {
				if err := cluster.Node(victim).Crash(t.Context()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second) // a moment ago all were served
			},
			mend: func(t *testing.T, victim string) {
				if err := cluster.Node(victim).Start(context.WithoutCancel(t.Context())); err != nil {
					t.Error(err)
				}
			},
			limit: lossLimit,
			slow:  "a quarter of a minute; TestFailover crashes nodes",
		},
	}
}

// check has clients ask while something happens and is mended, prints what they lose, and what becomes of a
// connection that each has open.
func (f ingressFault) check(t *testing.T, ways []way) {
	whole(t)
	controllerReady(t)
	victim := ownedBy(t, ways[0].to.String(), ingressNodes...)
	var asked []*requests
	var open []*live
	from := time.Now()
	for _, w := range ways {
		r := startRequests(t, w, "https://"+shopHost+"/")
		asked = append(asked, r)
		from = r.served(t)
	}
	for _, w := range ways {
		open = append(open, openLive(t, w, shopHost))
	}
	mended := false
	t.Cleanup(func() {
		if !mended {
			f.mend(t, victim)
		}
	})
	begin := time.Now()
	f.fault(t, victim)
	to := make([]time.Time, len(ways))
	for i, w := range ways {
		to[i] = asked[i].served(t)
		o := asked[i].outage(from, to[i])
		fmt.Printf("figure: %s: a client %s lost %d ms, %d ms with what was answered late; of %d requests "+
			"%d failed and %d were answered late; its websocket %s\n",
			f.name, w.name, o.Dropped.Milliseconds(), o.Longest.Milliseconds(), o.Sent, o.Lost-o.Late, o.Late,
			open[i].fate(begin))
		if o.Dropped > f.limit {
			t.Errorf("%s: a client %s had no answer for %d ms, want at most %d",
				f.name, w.name, o.Dropped.Milliseconds(), f.limit.Milliseconds())
		}
	}
	mended = true
	f.mend(t, victim)
	whole(t)
	controllerReady(t)
	kubectl(t, "rollout", "status", "-n", system, product.Controller, "--timeout=120s")
	for i, w := range ways {
		if o := asked[i].outage(to[i], asked[i].served(t)); o.Dropped > fewLost {
			t.Errorf("%s: a client %s had no answer for %d ms when that was mended",
				f.name, w.name, o.Dropped.Milliseconds())
		}
	}
}
