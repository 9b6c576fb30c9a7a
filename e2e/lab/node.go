package lab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"
)

// ErrNodeDown is returned for a node that crashed and was not started again.
var ErrNodeDown = errors.New("the node is down; `lab start NODE` starts it")

// startNode starts process 1 of node i and does not wait for the node.
func (l *Lab) startNode(i int) error {
	node := NodeName(i)
	if err := makeCgroup(cgroupOf(l.options.Name, node)); err != nil {
		return err
	}
	// Not the caller's context: the node outlives the caller.
	cmd := exec.CommandContext(context.Background(), "/bin/sh", l.path("node.sh"))
	cmd.Dir = "/"
	cmd.Env = []string{
		"PATH=" + systemPath,
		"HOME=/root",
		"STATE=" + l.dir,
		"NODE=" + node,
		"PROXY_MODE=" + l.options.ProxyMode,
		"CLUSTER_CIDRS=" + l.clusterCIDRs(),
	}
	// The network namespace is that of the thread which starts it. Unsharing the mount namespace also makes every mount
	// private: what the node mounts is seen nowhere else.
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:       true,
		Cloneflags:   syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Unshareflags: syscall.CLONE_NEWNS,
	}
	err := l.RunIn(node, func() error { return l.spawn(cmd, node, l.nodeLog(node, "init")) })
	if err != nil {
		return fmt.Errorf("start %s: %w", node, err)
	}
	return nil
}

// waitNode waits until Kubernetes calls the node Ready, has heard of it after since, and its kube-proxy has written its
// rules. The error carries the end of the log that matters.
func (l *Lab) waitNode(ctx context.Context, node string, since time.Time) error {
	log := l.nodeLog(node, "kubelet")
	err := poll(ctx, startLimit, 100*time.Millisecond, node+" is not ready", func(ctx context.Context) error {
		if _, err := l.nodeProcess(node); err != nil {
			log = l.nodeLog(node, "init")
			return finalError{errors.New("it has ended")}
		}
		if err := l.checkNodeReady(ctx, node, since); err != nil {
			return err
		}
		if err := l.checkProxyReady(ctx, node); err != nil {
			log = l.nodeLog(node, "kube-proxy")
			return fmt.Errorf("kube-proxy: %w", err)
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		return withLog(err, log)
	}
	return err
}

// nodeProcess is process 1 of a node that runs.
func (l *Lab) nodeProcess(node string) (process, error) {
	p, err := readProcess(l.recordFile(node))
	if err != nil || !p.alive() {
		return process{}, fmt.Errorf("%s: %w", node, ErrNodeDown)
	}
	return p, nil
}

func (l *Lab) nodeLog(node, service string) string { return l.path("logs", node, service+".log") }

// runningNodes lists the nodes that are not down.
func (l *Lab) runningNodes() []string {
	var running []string
	for _, node := range l.NodeNames() {
		if _, err := l.nodeProcess(node); err == nil {
			running = append(running, node)
		}
	}
	return running
}
