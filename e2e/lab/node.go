package lab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// ErrNodeDown is returned for a node that crashed and was not started again.
var ErrNodeDown = errors.New("the node is down; `lab start NODE` starts it")

// boot starts process 1 of the node and does not wait for the node.
func (n *Node) boot() error {
	if err := makeCgroup(cgroupOf(n.lab.options.Name, n.name)); err != nil {
		return err
	}
	// Not the caller's context: the n.name outlives the caller.
	cmd := exec.CommandContext(context.Background(), "/bin/sh", n.lab.path("node.sh"))
	cmd.Dir = "/"
	proxy := n.lab.options.ProxyMode.command(n.name, n.lab.options.Families.clusterCIDRs())
	cmd.Env = []string{
		"PATH=" + systemPath,
		"HOME=/root",
		"STATE=" + n.lab.dir,
		"NODE=" + n.name,
		"PROXY=" + strings.Join(proxy, " "),
	}
	// The network namespace is that of the thread which starts it. Unsharing the mount namespace also makes
	// every mount private: what the n.name mounts is seen nowhere else.
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:       true,
		Cloneflags:   syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Unshareflags: syscall.CLONE_NEWNS,
	}
	err := n.Run(func() error { return n.lab.spawn(cmd, n.name, n.log("init")) })
	if err != nil {
		return fmt.Errorf("start %s: %w", n.name, err)
	}
	return nil
}

// wait waits until Kubernetes calls the node Ready, has heard of it after since, and its kube-proxy has
// written its rules. The error carries the end of the log that matters.
func (n *Node) wait(ctx context.Context, since time.Time) error {
	log := n.log("kubelet")
	failure := n.name + " is not ready"
	err := poll(ctx, startLimit, 100*time.Millisecond, failure, func(ctx context.Context) error {
		if _, err := n.process(); err != nil {
			log = n.log("init")
			return finalError{errors.New("it has ended")}
		}
		if err := n.lab.API().checkNodeReady(ctx, n.name, since); err != nil {
			return err
		}
		if err := n.checkProxy(ctx); err != nil {
			log = n.log("kube-proxy")
			return fmt.Errorf("kube-proxy: %w", err)
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		return withLog(err, log)
	}
	return err
}

// process is process 1 of a node that runs.
func (n *Node) process() (process, error) {
	p, err := readProcess(n.lab.recordFile(n.name))
	if err != nil || !p.alive() {
		return process{}, fmt.Errorf("%s: %w", n.name, ErrNodeDown)
	}
	return p, nil
}

func (n *Node) log(service string) string { return n.lab.path("logs", n.name, service+".log") }

// runningNodes lists the nodes that are not down.
func (l *Lab) runningNodes() []string {
	var running []string
	for _, node := range l.NodeNames() {
		if _, err := l.Node(node).process(); err == nil {
			running = append(running, node)
		}
	}
	return running
}
