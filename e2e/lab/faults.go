package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// Cut pulls the node's cable at the switch, that of its first interface: both ends lose their carrier. The node itself runs on.
func (l *Lab) Cut(ctx context.Context, node string) error { return l.setCable(ctx, node, "down") }

// Heal plugs the node's cable in again, and takes back what Block, Part and LeaveVLAN did to it.
func (l *Lab) Heal(ctx context.Context, node string) error {
	if err := l.setCable(ctx, node, "up"); err != nil {
		return err
	}
	return l.mend(ctx, node)
}

func (l *Lab) setCable(ctx context.Context, node, state string) error {
	if err := l.checkNode(node); err != nil {
		return err
	}
	if _, err := l.nodeProcess(node); err != nil {
		return err
	}
	return ipBatch(ctx, l.netns(HostSwitch), "link set "+node+" "+state)
}

// setCables is setCable for all interfaces of a node.
func (l *Lab) setCables(ctx context.Context, node, state string) error {
	ports, err := l.portsOf(node)
	if err != nil {
		return err
	}
	var lines []string
	for _, port := range ports {
		lines = append(lines, "link set "+port+" "+state)
	}
	return ipBatch(ctx, l.netns(HostSwitch), lines...)
}

// Crash takes the power from a node: its cable goes dead and all its processes end at the same moment, without a word to
// anybody. What its kernel knew is gone; its disk stays. It returns when nothing of the node is left.
func (l *Lab) Crash(ctx context.Context, node string) error {
	if err := l.checkNode(node); err != nil {
		return err
	}
	p, err := l.nodeProcess(node)
	if err != nil {
		return err
	}
	if err := l.setCables(ctx, node, "down"); err != nil {
		return err
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	if err := p.waitEnd(ctx, 10*time.Second); err != nil {
		return fmt.Errorf("crash %s: %w", node, err)
	}
	return errors.Join(
		os.Remove(l.recordFile(node)),
		l.removeNodeNetwork(ctx, node),
		removeCgroup(ctx, cgroupOf(l.options.Name, node)),
	)
}

// Start boots a node that crashed, with its cable plugged in, and waits until Kubernetes calls it Ready.
func (l *Lab) Start(ctx context.Context, node string) error {
	if err := l.checkNode(node); err != nil {
		return err
	}
	if p, err := l.nodeProcess(node); err == nil {
		return fmt.Errorf("%s runs already, as process %d", node, p.PID)
	}
	// A node that ended by itself, and not by Crash, has left these.
	if _, err := os.Lstat(netnsDir + "/" + l.netns(node)); err == nil {
		err := errors.Join(l.removeNodeNetwork(ctx, node), removeCgroup(ctx, cgroupOf(l.options.Name, node)))
		if err != nil {
			return fmt.Errorf("clean up after %s: %w", node, err)
		}
	}
	since := time.Now()
	i := nodeIndex(node, l.options.Nodes)
	if err := l.addNodeNetwork(ctx, i); err != nil {
		return err
	}
	if err := l.startNode(i); err != nil {
		return err
	}
	return l.waitNode(ctx, node, since)
}

// excludeLabel keeps load balancers from a node, see the well-known labels of Kubernetes.
const excludeLabel = "node.kubernetes.io/exclude-from-external-load-balancers"

// Drain prepares a node for work on it: it is cordoned, and load balancers are to leave it. Its pods stay.
func (l *Lab) Drain(ctx context.Context, node string) error {
	if err := l.checkNode(node); err != nil {
		return err
	}
	if _, err := l.Kubectl(ctx, "cordon", node); err != nil {
		return err
	}
	_, err := l.Kubectl(ctx, "label", "--overwrite", "node", node, excludeLabel+"=")
	return err
}

// Undrain takes a node back into service.
func (l *Lab) Undrain(ctx context.Context, node string) error {
	if err := l.checkNode(node); err != nil {
		return err
	}
	_, err := l.Kubectl(ctx, "label", "node", node, excludeLabel+"-")
	_, uncordonErr := l.Kubectl(ctx, "uncordon", node)
	return errors.Join(err, uncordonErr)
}

// Hang stops every process of a node, containers included. Its kernel lives: it answers ARP and ping and forwards packets.
func (l *Lab) Hang(ctx context.Context, node string) error { return l.signalAll(ctx, node, "STOP") }

// Unhang lets the processes of a node that hangs go on.
func (l *Lab) Unhang(ctx context.Context, node string) error { return l.signalAll(ctx, node, "CONT") }

// signalAll signals every process in the node's process namespace but process 1. The kernel does it in one step, so that
// none escapes by forking.
func (l *Lab) signalAll(ctx context.Context, node, signal string) error {
	if err := l.checkNode(node); err != nil {
		return err
	}
	_, err := l.Exec(ctx, node, "/bin/sh", "-c", "kill -"+signal+" -1")
	return err
}

// KillProcess signals the processes of a node that run the program with this name, of which the kernel keeps 15 bytes. It is
// an error if there is none. The node starts containerd, kubelet and kube-proxy again a second after they end.
func (l *Lab) KillProcess(node, name string, signal syscall.Signal) error {
	if err := l.checkNode(node); err != nil {
		return err
	}
	init, err := l.nodeProcess(node)
	if err != nil {
		return err
	}
	all, err := processes()
	if err != nil {
		return err
	}
	name = name[:min(len(name), 15)]
	names := map[string]bool{}
	found := false
	for _, pid := range family(all, init.PID) {
		names[all[pid].command] = true
		if all[pid].command != name {
			continue
		}
		found = true
		p := process{PID: pid, Start: all[pid].start, Boot: init.Boot}
		if err := p.signal(signal); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("%s runs no %q; it runs %s", node, name, strings.Join(sortedKeys(names), ", "))
	}
	return nil
}
