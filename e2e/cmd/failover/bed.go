package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/product"
)

const (
	echoPort = 9     // of every Service: UDP, answered by the lab's web image
	nodePort = 30009 // answered by the node's own pod
)

// A bed is a lab with the product and what is measured in it.
type bed struct {
	lab     *lab.Lab
	started bool
	api     *kubernetes.Clientset
	macs    map[[6]byte]string // of the nodes, with their names
	sets    map[string][]netip.Addr
}

// workload: a pod on each node, one that is on node1 only, and a node port that shows whether the pod of a node answers.
const workload = `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: echo}
spec:
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations: [{operator: Exists}]
      containers:
      - name: web
        image: lab.test/web:1
        # Without a share of its own it would wait while a node boots on the same processors.
        resources: {requests: {cpu: 300m}}
        env:
        - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: echo-one}
spec:
  selector: {matchLabels: {app: echo-one}}
  template:
    metadata: {labels: {app: echo-one}}
    spec:
      nodeSelector: {kubernetes.io/hostname: node1}
      terminationGracePeriodSeconds: 1
      tolerations: [{operator: Exists}]
      containers:
      - name: web
        image: lab.test/web:1
        # Without a share of its own it would wait while a node boots on the same processors.
        resources: {requests: {cpu: 300m}}
        env:
        - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: echo-node}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  selector: {app: echo}
  ports: [{port: 9, protocol: UDP, targetPort: 8080, nodePort: 30009}]
`

// makeBed brings everything up that all scenarios share, or nothing.
func makeBed(ctx context.Context, s settings) (*bed, error) {
	l, started, err := upLab(ctx, s)
	b := &bed{lab: l, started: started, macs: map[[6]byte]string{}, sets: map[string][]netip.Addr{}}
	if err == nil {
		err = b.furnish(ctx)
	}
	if err != nil {
		if l != nil {
			err = errors.Join(err, b.close(context.WithoutCancel(ctx)))
		}
		return nil, err
	}
	return b, nil
}

// furnish makes what all sets share, and waits until all works.
func (b *bed) furnish(ctx context.Context) error {
	config, err := clientcmd.BuildConfigFromFlags("", b.lab.Kubeconfig())
	if err != nil {
		return err
	}
	config.Dial, config.QPS, config.Timeout = b.lab.DialContext, -1, time.Minute
	if b.api, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	for _, node := range b.lab.NodeNames() {
		out, err := b.lab.Exec(ctx, node, "cat", "/sys/class/net/eth0/address")
		if err != nil {
			return err
		}
		hw, err := net.ParseMAC(strings.TrimSpace(string(out)))
		if err != nil {
			return err
		}
		b.macs[[6]byte(hw)] = node
	}
	if _, err := b.lab.KubectlInput(ctx, strings.NewReader(workload), "apply", "-f", "-"); err != nil {
		return err
	}
	return b.waitReady(ctx)
}

func (b *bed) close(ctx context.Context) error {
	if !b.started {
		return nil
	}
	return b.lab.Down(ctx)
}

// The sets of Services. In each, every Service has an address of both families.
const (
	// setLocal: externalTrafficPolicy Local and a pod on each node. What a client loses when a node dies is due to the
	// address alone: no proxy still sends to a pod of the dead node.
	setLocal = "local"
	// setCluster: externalTrafficPolicy Cluster, announced by node2 and node3, and the only pod is on node1.
	setCluster = "cluster"
	// setMany: as setCluster, 1,000 Services, all announced by node2 as long as it is there.
	setMany = "many"
)

// A kind is how a set is made.
type kind struct {
	count            int
	pool             string
	nodes, preferred string // of the L2Advertisement
	app              string
	policy           corev1.ServiceExternalTrafficPolicy
}

func kinds() map[string]kind {
	const others = "[{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [node2, node3]}]}]"
	const second = "[{weight: 100, preference: {matchLabels: {kubernetes.io/hostname: node2}}}]"
	return map[string]kind{
		setLocal:   {32, "10.77.0.160/27, fd77::a00/123", "[]", "[]", "echo", corev1.ServiceExternalTrafficPolicyLocal},
		setCluster: {32, "10.77.0.192/27, fd77::b00/123", others, "[]", "echo-one", corev1.ServiceExternalTrafficPolicyCluster},
		setMany:    {1000, "10.99.0.0/22, fd77::1:0/118", others, second, "echo-one", corev1.ServiceExternalTrafficPolicyCluster},
	}
}

// A set is what a scenario announces.
type set struct {
	addresses []netip.Addr // all of them
	probed    []netip.Addr // those that are sent to and asked for
}

// maxProbed bounds how many addresses are sent to: the client must not keep the machine busy.
const maxProbed = 64

// makeSet makes the Services of a set, unless an earlier scenario has.
func (b *bed) makeSet(ctx context.Context, name string) (set, error) {
	kind := kinds()[name]
	if _, made := b.sets[name]; !made {
		if name == setMany {
			// These are not in the LAN's subnet: a route makes the client resolve them there.
			if _, err := b.lab.Exec(ctx, lab.HostClient, "ip", "route", "replace", "10.99.0.0/22", "dev", "eth0"); err != nil {
				return set{}, err
			}
		}
		manifest := fmt.Sprintf(`
apiVersion: berth.io/v1beta1
kind: IPAddressPool
metadata: {name: %[1]s}
spec: {addresses: [%[2]s], serviceAllocation: {serviceSelectors: [{matchLabels: {set: %[1]s}}]}}
---
apiVersion: berth.io/v1beta1
kind: L2Advertisement
metadata: {name: %[1]s}
spec: {ipAddressPools: [%[1]s], nodeSelectors: %[3]s, preferredNodeSelectors: %[4]s}
`, name, kind.pool, kind.nodes, kind.preferred)
		if _, err := b.lab.KubectlInput(ctx, strings.NewReader(manifest), "apply", "-f", "-"); err != nil {
			return set{}, err
		}
		if err := b.makeServices(ctx, name, kind); err != nil {
			return set{}, err
		}
		addresses, err := b.waitAddresses(ctx, name, 2*kind.count)
		if err != nil {
			return set{}, err
		}
		b.sets[name] = addresses
	}
	all := b.sets[name]
	step := max(1, len(all)/maxProbed)
	out := set{addresses: all}
	for i := 0; i < len(all) && len(out.probed) < maxProbed; i += step {
		out.probed = append(out.probed, all[i])
	}
	return out, nil
}

// makeServices creates the Services of a set.
func (b *bed) makeServices(ctx context.Context, set string, k kind) error {
	names := make(chan string)
	var workers sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for range 8 {
		workers.Go(func() {
			for name := range names {
				_, err := b.api.CoreV1().Services("default").Create(ctx, &corev1.Service{
					ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"set": set}},
					Spec: corev1.ServiceSpec{
						Type:                          corev1.ServiceTypeLoadBalancer,
						Selector:                      map[string]string{"app": k.app},
						IPFamilyPolicy:                new(corev1.IPFamilyPolicyRequireDualStack),
						ExternalTrafficPolicy:         k.policy,
						AllocateLoadBalancerNodePorts: new(false),
						Ports:                         []corev1.ServicePort{{Port: echoPort, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromInt32(8080)}},
					},
				}, metav1.CreateOptions{})
				if err != nil && !apierrors.IsAlreadyExists(err) {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	for i := range k.count {
		names <- fmt.Sprintf("%s%04d", set, i)
	}
	close(names)
	workers.Wait()
	return errors.Join(errs...)
}

// waitAddresses waits until the Services have all their addresses, and returns these sorted, IPv4 first.
func (b *bed) waitAddresses(ctx context.Context, set string, count int) ([]netip.Addr, error) {
	var addresses []netip.Addr
	err := poll(ctx, 2*time.Minute, "the Services of set "+set+" have addresses", func() error {
		list, err := b.api.CoreV1().Services("default").List(ctx, metav1.ListOptions{LabelSelector: "set=" + set})
		if err != nil {
			return err
		}
		addresses = nil
		for _, s := range list.Items {
			for _, i := range s.Status.LoadBalancer.Ingress {
				addresses = append(addresses, netip.MustParseAddr(i.IP))
			}
		}
		if len(addresses) != count {
			return fmt.Errorf("%d of %d", len(addresses), count)
		}
		return nil
	})
	slices.SortFunc(addresses, netip.Addr.Compare)
	return addresses, err
}

// poll tries until it works, or limit is over.
func poll(ctx context.Context, limit time.Duration, what string, try func() error) error {
	for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		err := try()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Since(begin) > limit:
			return fmt.Errorf("not after %s: %s: %w", limit, what, err)
		}
	}
}

// waitReady waits until every node's speaker and pod work, and the cluster has noticed.
func (b *bed) waitReady(ctx context.Context) error {
	return poll(ctx, 2*time.Minute, "the cluster is whole", func() error {
		for i, node := range b.lab.NodeNames() {
			if err := b.podAnswers(ctx, node, lab.NodeAddresses(i+1).V4); err != nil {
				return err
			}
		}
		return errors.Join(b.endpointsReady(ctx), product.Whole(ctx, b.lab))
	})
}

func (b *bed) podAnswers(ctx context.Context, node string, addr netip.Addr) error {
	conn, err := b.lab.DialFrom(ctx, lab.HostRouter, "udp", netip.AddrPortFrom(addr, nodePort).String())
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost
	_ = conn.SetDeadline(time.Now().Add(300 * time.Millisecond))
	if _, err := conn.Write([]byte("?")); err != nil {
		return fmt.Errorf("pod of %s: %w", node, err)
	}
	answer := make([]byte, 500)
	n, err := conn.Read(answer)
	if err != nil {
		return fmt.Errorf("pod of %s: %w", node, err)
	}
	if !strings.Contains(string(answer[:n]), "node="+node+" ") {
		return fmt.Errorf("pod of %s: another answers: %s", node, answer[:n])
	}
	return nil
}

// endpointsReady reads the EndpointSlices: only a node with a ready pod may own an address of a Service with traffic policy
// Local.
func (b *bed) endpointsReady(ctx context.Context) error {
	slices, err := b.api.DiscoveryV1().EndpointSlices("default").List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=echo-node"})
	if err != nil {
		return err
	}
	ready := 0
	for _, s := range slices.Items {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready != nil && *e.Conditions.Ready {
				ready++
			}
		}
	}
	if want := len(b.lab.NodeNames()); ready < want {
		return fmt.Errorf("%d of %d endpoints are ready", ready, want)
	}
	return nil
}
