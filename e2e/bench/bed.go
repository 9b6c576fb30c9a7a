package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/product"
)

// Labels app of the pods of the workload: one on each node; one on node1 only.
const (
	AppEverywhere = "echo"
	AppOnNode1    = "echo-one"
)

const (
	// EchoPort is the UDP port of every Service, answered by the lab's web image.
	EchoPort = 9
	nodePort = 30009 // answered by the node's own pod
)

// A Bed is a lab with the product and a workload in it.
type Bed struct {
	Lab *lab.Lab
	API *kubernetes.Clientset
	// Started is true if the lab is this program's own, to be taken down when it ends.
	Started bool
}

// workload: a pod on each node, one that is on node1 only, and a node port that shows whether the pod of a
// node answers.
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
        # A pod that asks for nothing waits for hundreds of milliseconds while containers start on the same
        # processors.
        resources: {requests: {cpu: 500m}}
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
        # A pod that asks for nothing waits for hundreds of milliseconds while containers start on the same
        # processors.
        resources: {requests: {cpu: 500m}}
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

// Make brings everything up that all scenarios share, or nothing.
func Make(ctx context.Context, s Settings) (*Bed, error) {
	l, started, err := upLab(ctx, s)
	b := &Bed{Lab: l, Started: started}
	if err == nil {
		err = b.furnish(ctx)
	}
	if err != nil {
		if l != nil {
			err = errors.Join(err, b.Close(context.WithoutCancel(ctx)))
		}
		return nil, err
	}
	return b, nil
}

// upLab opens the lab or brings it up with the product installed; started tells which.
func upLab(ctx context.Context, s Settings) (l *lab.Lab, started bool, err error) {
	if l, err = lab.Open(s.Lab); err == nil {
		return l, false, nil
	}
	// Nodes that are away for a moment are to stay Ready: what Kubernetes does to the pods of others is not
	// measured here.
	l, err = lab.Up(ctx, lab.Options{Name: s.Lab, NodeGrace: 40 * time.Second, Progress: os.Stderr})
	if err != nil {
		return nil, false, err
	}
	_, err = product.Install(ctx, l, s.Root)
	return l, true, err
}

// furnish makes what all sets of Services share, and waits until all works.
func (b *Bed) furnish(ctx context.Context) error {
	config, err := clientcmd.BuildConfigFromFlags("", b.Lab.API().Kubeconfig())
	if err != nil {
		return err
	}
	config.Dial, config.QPS, config.Timeout = b.Lab.API().Dial, -1, time.Minute
	if b.API, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	if err := b.Apply(ctx, workload); err != nil {
		return err
	}
	return b.WaitReady(ctx)
}

// Close takes the lab down if Make has brought it up.
func (b *Bed) Close(ctx context.Context) error {
	if !b.Started {
		return nil
	}
	return b.Lab.Down(ctx)
}

// Apply applies manifests.
func (b *Bed) Apply(ctx context.Context, manifest string) error {
	_, err := b.Lab.API().KubectlInput(ctx, strings.NewReader(manifest), "apply", "-f", "-")
	return err
}

// Delete deletes the objects of manifests, of which any may be missing.
func (b *Bed) Delete(ctx context.Context, manifest string) error {
	_, err := b.Lab.API().KubectlInput(ctx, strings.NewReader(manifest), "delete",
		"--ignore-not-found", "-f", "-")
	return err
}

// Poll tries until it works, or limit is over.
func Poll(ctx context.Context, limit time.Duration, what string, try func() error) error {
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

// WaitReady waits until every node's speaker and pod work, and the cluster has noticed.
func (b *Bed) WaitReady(ctx context.Context) error {
	return Poll(ctx, 2*time.Minute, "the cluster is whole", func() error {
		for i, node := range b.Lab.NodeNames() {
			if err := b.podAnswers(ctx, node, lab.NodeAddresses(i+1).V4); err != nil {
				return err
			}
		}
		return errors.Join(b.endpointsReady(ctx), product.Whole(ctx, b.Lab))
	})
}

func (b *Bed) podAnswers(ctx context.Context, node string, addr netip.Addr) error {
	conn, err := b.Lab.Host(lab.HostRouter).Dial(ctx, "udp", netip.AddrPortFrom(addr, nodePort).String())
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

// endpointsReady reads the EndpointSlices: only a node with a ready pod takes traffic of a Service with
// traffic policy Local.
func (b *Bed) endpointsReady(ctx context.Context) error {
	slices, err := b.API.DiscoveryV1().EndpointSlices("default").List(ctx, metav1.ListOptions{
		LabelSelector: "kubernetes.io/service-name=echo-node",
	})
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
	if want := len(b.Lab.NodeNames()); ready < want {
		return fmt.Errorf("%d of %d endpoints are ready", ready, want)
	}
	return nil
}
