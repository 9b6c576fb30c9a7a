package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/e2e/bench"
	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/peering"
)

// A bed is a lab with the product, routers, and what is measured in it.
type bed struct {
	*bench.Bed
	sets    map[string][]netip.Addr
	terms   terms
	settled bool // terms are in force
}

// The sets of Services. In each, every Service has an address of both families.
const (
	// setLocal: externalTrafficPolicy Local and a pod on each node.
	setLocal = "local"
	// setCluster: externalTrafficPolicy Cluster.
	setCluster = "cluster"
	// setMoving: externalTrafficPolicy Local, and pods on two of the nodes.
	setMoving = "moving"
)

// perSet is how many Services a set has.
const perSet = 4

// Labels app of pods that can be evicted: one on each node, and on two of the three.
const (
	appSpread = "spread"
	appMoving = "moving"
)

// deployment has its pods on different nodes. A pod that is to end serves for some seconds more, as it must
// wherever clients are to lose nothing.
func deployment(name string, replicas int) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 10
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: %[1]s}}}
      tolerations: [{operator: Exists, effect: NoExecute}]
      containers:
      - name: web
        image: lab.test/web:1
        # A pod that asks for nothing waits for hundreds of milliseconds while containers start on the same
        # processors.
        resources: {requests: {cpu: 200m}}
        env:
        - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
        lifecycle: {preStop: {sleep: {seconds: 5}}}
---
`, name, replicas)
}

func sets() []bench.Set {
	return []bench.Set{
		{Name: setLocal, Count: perSet, App: appSpread, Policy: corev1.ServiceExternalTrafficPolicyLocal},
		{Name: setCluster, Count: perSet, App: appSpread, Policy: corev1.ServiceExternalTrafficPolicyCluster},
		{Name: setMoving, Count: perSet, App: appMoving, Policy: corev1.ServiceExternalTrafficPolicyLocal},
	}
}

// makeBed brings everything up that all scenarios share, or nothing.
func makeBed(ctx context.Context, s settings) (*bed, error) {
	shared, err := bench.Make(ctx, s.Settings)
	if err != nil {
		return nil, err
	}
	b := &bed{Bed: shared, sets: map[string][]netip.Addr{}}
	if err := b.furnish(ctx); err != nil {
		return nil, errors.Join(err, b.close(context.WithoutCancel(ctx)))
	}
	return b, nil
}

func (b *bed) furnish(ctx context.Context) error {
	objects := deployment(appSpread, len(b.Lab.NodeNames())) + deployment(appMoving, 2) +
		peering.Announced("bgp", "198.51.100.0/24, 2001:db8:100::/120", "") + peering.BFDProfile("fast")
	if err := b.Apply(ctx, objects); err != nil {
		return err
	}
	for _, set := range sets() {
		addresses, err := b.MakeServices(ctx, set)
		if err != nil {
			return err
		}
		b.sets[set.Name] = addresses
	}
	return nil
}

// close ends what makeBed and settle have begun; a lab that was up before stays up.
func (b *bed) close(ctx context.Context) error {
	if b.Started {
		return b.Close(ctx)
	}
	return errors.Join(b.Lab.Router(lab.HostRouter).Stop(ctx), b.Lab.Router(lab.HostRouter2).Stop(ctx))
}

// terms are those on which nodes and routers speak with each other.
type terms struct {
	hold string // of the nodes, as in a BGPPeer; "" for the default
	// restart: the nodes ask routers to keep routes over a graceful restart; routerRestart: so do routers.
	restart, routerRestart bool
	bfd                    bool
	// second: there is a second router. Open: the client sends by it too, and nodes have sessions with it.
	second, open bool
}

func (t terms) router(host string, nodes []string) peering.Router {
	return peering.Router{Host: host, Nodes: nodes, GracefulRestart: t.routerRestart, BFD: t.bfd}
}

// peers returns the BGPPeers for one router, one for each family.
func (t terms) peers(r peering.Router) string {
	var manifests string
	for _, addr := range []netip.Addr{r.Addresses().V4, r.Addresses().V6} {
		p := peering.Peer{Name: r.Host + "-v4", Address: addr, HoldTime: t.hold, Restart: t.restart}
		if addr.Is6() {
			p.Name = r.Host + "-v6"
		}
		if t.bfd {
			p.BFDProfile = "fast"
		}
		manifests += p.Manifest()
	}
	return manifests
}

// routers returns the routers by which the client sends.
func (t terms) routers() []string {
	if t.open {
		return []string{lab.HostRouter, lab.HostRouter2}
	}
	return []string{lab.HostRouter}
}

// settle puts terms in force, and waits until all sessions are up and all routes are there.
func (b *bed) settle(ctx context.Context, t terms) error {
	if b.settled && b.terms == t {
		return b.whole(ctx, t)
	}
	b.settled = false
	nodes := b.Lab.NodeNames()
	for _, host := range []string{lab.HostRouter, lab.HostRouter2} {
		router := t.router(host, nodes)
		if host == lab.HostRouter2 {
			// It has no part in what follows, until it is opened.
			_ = b.Lab.Router(host).Crash(ctx) // it may never have been there
			if !t.open {
				if err := b.Delete(ctx, t.peers(router)); err != nil {
					return err
				}
			}
			if !t.second && !t.open {
				continue
			}
		}
		err := errors.Join(b.Lab.Router(host).Stop(ctx), b.Lab.Router(host).Start(ctx, router.Config()))
		if err != nil {
			return err
		}
		if host == lab.HostRouter || t.open {
			if err := b.Apply(ctx, t.peers(router)); err != nil {
				return err
			}
		}
	}
	if err := b.whole(ctx, t); err != nil {
		return err
	}
	if t.open {
		if err := b.Lab.Router(lab.HostRouter2).Open(ctx); err != nil {
			return err
		}
	}
	b.terms, b.settled = t, true
	return nil
}

// whole waits until all pods and speakers work, all sessions are up, those of BFD too, and every route has
// all next hops that it should.
func (b *bed) whole(ctx context.Context, t terms) error {
	if err := b.WaitReady(ctx); err != nil {
		return err
	}
	if err := b.published(ctx); err != nil {
		return err
	}
	for _, router := range t.routers() {
		if err := b.routed(ctx, t.router(router, b.Lab.NodeNames())); err != nil {
			return err
		}
	}
	return nil
}

// published waits until the EndpointSlices of the moving set name the nodes of its pods. Berth has no part in
// this, and it may take long: kube-controller-manager, whose caches are filled again up to a minute after the
// API server has returned, refuses to write slices while its own are out of date, and doubles its pauses.
func (b *bed) published(ctx context.Context) error {
	return bench.Poll(ctx, 5*time.Minute, "Kubernetes has published which nodes have pods", func() error {
		pods, err := b.podNodes(ctx, appMoving)
		if err != nil {
			return err
		}
		// A slice has the labels of its Service.
		published, err := b.API.DiscoveryV1().EndpointSlices("default").List(ctx, metav1.ListOptions{
			LabelSelector: "set=" + setMoving,
		})
		if err != nil {
			return err
		}
		return inSlices(published.Items, pods)
	})
}

// inSlices returns nil if there are EndpointSlices, and each has ready endpoints on exactly these nodes.
func inSlices(all []discoveryv1.EndpointSlice, nodes []string) error {
	if len(all) == 0 {
		return errors.New("there is no EndpointSlice")
	}
	want := slices.Sorted(slices.Values(nodes))
	for _, s := range all {
		var ready []string
		for _, e := range s.Endpoints {
			if e.Conditions.Ready != nil && *e.Conditions.Ready && e.NodeName != nil {
				ready = append(ready, *e.NodeName)
			}
		}
		if slices.Sort(ready); !slices.Equal(ready, want) {
			return fmt.Errorf("EndpointSlice %s has ready endpoints on %v, not on %v", s.Name, ready, want)
		}
	}
	return nil
}

// routed waits until all of a router's sessions are up, and its kernel has all routes. Sessions of BFD come
// up a second or more after those of BGP, which do not wait for them; a fault before that is not noticed by
// BFD.
func (b *bed) routed(ctx context.Context, router peering.Router) error {
	return bench.Poll(ctx, 2*time.Minute, "all routes are there", func() error {
		downs, err := peering.ReadDowns(ctx, b.Lab, router)
		if err != nil {
			return err
		}
		if err := complete(downs, router); err != nil {
			return err
		}
		for _, set := range sets() {
			want := b.Lab.NodeNames()
			if set.Name == setMoving {
				var err error
				if want, err = b.podNodes(ctx, appMoving); err != nil {
					return err
				}
				if len(want) != 2 {
					return fmt.Errorf("pods of %s are on %v", appMoving, want)
				}
			}
			if err := peering.Reached(ctx, b.Lab, router.Host, b.sets[set.Name], want...); err != nil {
				return err
			}
		}
		return nil
	})
}
