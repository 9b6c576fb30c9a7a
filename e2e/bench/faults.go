package bench

import (
	"context"
	"errors"
	"slices"

	"github.com/berth-lb/berth/e2e/lab"
	"github.com/berth-lb/berth/e2e/product"
)

// OtherThan is the node after this one.
func OtherThan(l *lab.Lab, node string) string {
	nodes := l.NodeNames()
	return nodes[(slices.Index(nodes, node)+1)%len(nodes)]
}

// Each does something to every node.
func Each(l *lab.Lab, do func(node string) error) error {
	var errs []error
	for _, node := range l.NodeNames() {
		errs = append(errs, do(node))
	}
	return errors.Join(errs...)
}

// Upgrade has the DaemonSet replace the speakers' pods, one after another, and waits until it has.
func Upgrade(ctx context.Context, l *lab.Lab) error {
	_, err := l.API().Kubectl(ctx, "rollout", "restart", "-n", product.Namespace, product.Speaker)
	if err != nil {
		return err
	}
	_, err = l.API().Kubectl(ctx, "rollout", "status", "-n", product.Namespace, product.Speaker,
		"--timeout=120s")
	return err
}

// RenewSpeaker replaces the speaker's pod of a node: the kubelet starts a container that ends often ever more
// slowly, and a new pod starts afresh.
func RenewSpeaker(ctx context.Context, l *lab.Lab, node string) error {
	_, err := l.API().Kubectl(ctx, "delete", "pod", "-n", product.Namespace, "-l", product.SpeakerPods,
		"--field-selector", "spec.nodeName="+node, "--wait=true")
	return err
}
