// Command lab brings up a real Kubernetes cluster in network namespaces, lets one look around in it, and
// breaks it on request. See package lab for what it is made of.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/berth-lb/berth/e2e/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := newCommand().ExecuteContext(ctx)
	if err == nil {
		return
	}
	// A command that ran in the lab and failed has said why itself: only its status is passed on.
	if status := statusError(0); errors.As(err, &status) {
		os.Exit(int(status))
	}
	fmt.Fprintln(os.Stderr, "lab:", err)
	os.Exit(1)
}

// newCommand returns the command with all its subcommands. name is shared by them: it is read after the flags
// are.
func newCommand() *cobra.Command {
	name := new(string)
	root := &cobra.Command{
		Use:   "lab",
		Short: "A real Kubernetes cluster in network namespaces, to try and to break",
		Long: `lab runs a Kubernetes cluster on this machine: each node in network, mount, process, host name
and IPC namespaces of its own, with containerd, kubelet and kube-proxy, and around them a LAN,
a router and clients.

  client 10.77.0.100 fd77::100 ─┐              ┌─ node1 10.77.0.11 fd77::11
  cp     10.77.0.2   fd77::2  ──┤ switch (sw)  ├─ node2 10.77.0.12 fd77::12
  router 10.77.0.1   fd77::1  ──┘              └─ node3 10.77.0.13 fd77::13
     └─ 10.88.0.1 fd88::1 ── ext 10.88.0.100 fd88::100

It needs root. The first "lab up" compiles Kubernetes, which takes minutes; later ones take about ten seconds.
Labs with different --name run side by side.`,
		Example: `  lab deps --install
  lab up
  lab kubectl get nodes
  lab exec client -- ping -c1 10.77.0.11
  lab cut node2
  lab down`,
		SilenceUsage:     true,
		SilenceErrors:    true,
		TraverseChildren: true, // --name stands in front of kubectl, whose own flags are not ours to read
	}
	root.PersistentFlags().StringVar(name, "name", lab.DefaultName, "name of the lab")
	root.AddGroup(
		&cobra.Group{ID: "life", Title: "Up and down:"},
		&cobra.Group{ID: "look", Title: "Look around:"},
		&cobra.Group{ID: "fault", Title: "Break and mend:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("life", newUp(name), newDown(name), newBuild(), newDeps())
	add("look", newStatus(name), newExec(name), newKubectl(name), newKubeconfig(name), newImage(name))
	add("fault", newFaults(name)...)
	return root
}
