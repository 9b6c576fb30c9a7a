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

// Cut pulls the node's cable at the switch, that of its first interface: both ends lose their carrier. The
// node itself runs on.
func (n *Node) Cut(ctx context.Context) error { return n.setCable(ctx, "down") }

// Heal plugs the node's cable in again, and takes back what Block, Part and LeaveVLAN did to it.
func (n *Node) Heal(ctx context.Context) error {
	if err := n.setCable(ctx, "up"); err != nil {
		return err
	}
	return n.mend(ctx)
}

func (n *Node) setCable(ctx context.Context, state string) error {
	if err := n.check(); err != nil {
		return err
	}
	if _, err := n.process(); err != nil {
		return err
	}
	return ipBatch(ctx, n.lab.netns(HostSwitch), "link set "+n.name+" "+state)
}

// Crash takes the power from a node: its cable goes dead and all its processes end at the same moment,
// without a word to anybody. What its kernel knew is gone; its disk stays. It returns when nothing of the
// node is left.
func (n *Node) Crash(ctx context.Context) error {
	if err := n.check(); err != nil {
		return err
	}
	p, err := n.process()
	if err != nil {
		return err
	}
	if err := n.lab.Network().setPorts(ctx, n.name, "down"); err != nil {
		return err
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	if err := p.waitEnd(ctx, 10*time.Second); err != nil {
		return fmt.Errorf("crash %s: %w", n.name, err)
	}
	return errors.Join(
		os.Remove(n.lab.recordFile(n.name)),
		n.lab.Network().removeNode(ctx, n.name),
		removeCgroup(ctx, cgroupOf(n.lab.options.Name, n.name)),
	)
}

// Start boots a node that crashed, with its cable plugged in, and waits until Kubernetes calls it Ready.
func (n *Node) Start(ctx context.Context) error {
	if err := n.check(); err != nil {
		return err
	}
	if p, err := n.process(); err == nil {
		return fmt.Errorf("%s runs already, as process %d", n.name, p.PID)
	}
	// A n.name that ended by itself, and not by Crash, has left these.
	if _, err := os.Lstat(netnsDir + "/" + n.netns()); err == nil {
		err := errors.Join(
			n.lab.Network().removeNode(ctx, n.name),
			removeCgroup(ctx, cgroupOf(n.lab.options.Name, n.name)),
		)
		if err != nil {
			return fmt.Errorf("clean up after %s: %w", n.name, err)
		}
	}
	since := time.Now()
	if err := n.lab.Network().addNode(ctx, n.index()); err != nil {
		return err
	}
	if err := n.boot(); err != nil {
		return err
	}
	return n.wait(ctx, since)
}

// excludeLabel keeps load balancers from a node, see the well-known labels of Kubernetes.
const excludeLabel = "node.kubernetes.io/exclude-from-external-load-balancers"

// Drain prepares a node for work on it: it is cordoned, and load balancers are to leave it. Its pods stay.
func (n *Node) Drain(ctx context.Context) error {
	if err := n.check(); err != nil {
		return err
	}
	if _, err := n.lab.API().Kubectl(ctx, "cordon", n.name); err != nil {
		return err
	}
	_, err := n.lab.API().Kubectl(ctx, "label", "--overwrite", "node", n.name, excludeLabel+"=")
	return err
}

// Undrain takes a node back into service.
func (n *Node) Undrain(ctx context.Context) error {
	if err := n.check(); err != nil {
		return err
	}
	_, err := n.lab.API().Kubectl(ctx, "label", "node", n.name, excludeLabel+"-")
	_, uncordonErr := n.lab.API().Kubectl(ctx, "uncordon", n.name)
	return errors.Join(err, uncordonErr)
}

// Hang stops every process of a node, containers included. Its kernel lives: it answers ARP and ping and
// forwards packets.
func (n *Node) Hang(ctx context.Context) error { return n.signalAll(ctx, "STOP") }

// Unhang lets the processes of a node that hangs go on.
func (n *Node) Unhang(ctx context.Context) error { return n.signalAll(ctx, "CONT") }

// signalAll signals every process in the node's process namespace but process 1. The kernel does it in one
// step, so that none escapes by forking.
func (n *Node) signalAll(ctx context.Context, signal string) error {
	if err := n.check(); err != nil {
		return err
	}
	_, err := n.Exec(ctx, "/bin/sh", "-c", "kill -"+signal+" -1")
	return err
}

// KillProcess signals the processes of a node that run the program with this name, of which the kernel keeps
// 15 bytes. It is an error if there is none. The node starts containerd, kubelet and kube-proxy again a
// second after they end.
func (n *Node) KillProcess(name string, signal syscall.Signal) error {
	if err := n.check(); err != nil {
		return err
	}
	init, err := n.process()
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
		return fmt.Errorf("%s runs no %q; it runs %s", n.name, name, strings.Join(sortedKeys(names), ", "))
	}
	return nil
}
