package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-lb/berth/e2e/lab"
)

// newFaults returns the commands that do something to nodes or components.
func newFaults(name *string) []*cobra.Command {
	components := strings.Join(lab.ComponentNames(), ", ")
	return []*cobra.Command{
		newFault(name, "cut NODE...", "Pull a node's cable at the switch", "", onNode((*lab.Node).Cut)),
		newFault(name, "heal NODE...", "Plug a node's cable in again; undo block, part and leave", "",
			onNode((*lab.Node).Heal)),
		newFault(name, "leave NODE...", "Take a node's ports out of the service LAN; its carrier stays", "",
			func(l *lab.Lab, ctx context.Context, node string) error {
				return l.Node(node).LeaveVLAN(ctx, lab.ServiceLAN)
			}),
		newFault(name, "join NODE...", "Put a node's ports back into the service LAN", "",
			func(l *lab.Lab, ctx context.Context, node string) error {
				return l.Node(node).JoinVLAN(ctx, lab.ServiceLAN)
			}),
		newPart(name),
		newBlock(name),
		newFault(name, "drain NODE...", "Cordon a node and label it for load balancers to leave it", "",
			onNode((*lab.Node).Drain)),
		newFault(name, "undrain NODE...", "Take a drained node back", "", onNode((*lab.Node).Undrain)),
		newFault(name, "crash NODE...", "Take the power from a node",
			"Take the power from a node: its cable goes dead and all its processes end at once. "+
				"Its disk stays.",
			onNode((*lab.Node).Crash)),
		newFault(name, "hang NODE...", "Stop every process of a node; its kernel goes on", "",
			onNode((*lab.Node).Hang)),
		newFault(name, "unhang NODE...", "Let the processes of a hung node go on", "",
			onNode((*lab.Node).Unhang)),
		newFault(name, "stop COMPONENT...", "Stop a component of the control plane",
			"Stop a component of the control plane: "+components+".",
			func(l *lab.Lab, ctx context.Context, name string) error {
				return l.Component(name).Stop(ctx)
			}),
		newFault(name, "start NODE|COMPONENT...", "Boot a crashed node, or start a stopped component",
			"Boot a node that crashed, with its cable plugged in, or start a stopped component of the "+
				"control plane ("+components+"), and wait until it is ready.",
			start),
	}
}

// onNode does something to a node by its name.
func onNode(do func(*lab.Node, context.Context) error) func(*lab.Lab, context.Context, string) error {
	return func(l *lab.Lab, ctx context.Context, node string) error { return do(l.Node(node), ctx) }
}

//nolint:revive // it stands beside methods of a lab, and these have the lab first
func start(l *lab.Lab, ctx context.Context, what string) error {
	if slices.Contains(lab.ComponentNames(), what) {
		return l.Component(what).Start(ctx)
	}
	return l.Node(what).Start(ctx)
}

// newFault returns a command that does the same to each of its arguments, one after another.
func newFault(
	name *string, use, short, long string, do func(*lab.Lab, context.Context, string) error,
) *cobra.Command {
	verb, _, _ := strings.Cut(use, " ")
	return &cobra.Command{
		Use:   use,
		Short: short,
		Long:  long,
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			for _, what := range args {
				begin := time.Now()
				if err := do(l, cmd.Context(), what); err != nil {
					return err
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "%6.1fs  %s %s: done\n",
					time.Since(begin).Seconds(), verb, what)
			}
			return nil
		},
	}
}

// newPart and newBlock return the commands for what lies between nodes.
func newPart(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "part NODE NODE",
		Short: "Drop every frame between two nodes; all others reach both",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			return l.Network().Part(cmd.Context(), args[0], args[1])
		},
	}
}

func newBlock(name *string) *cobra.Command {
	return &cobra.Command{
		Use:     "block PORT NODE [OTHER...]",
		Short:   "Drop what a node and others, or all, send each other for a TCP and UDP port",
		Example: "  lab block 7947 node2",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			port, err := strconv.ParseUint(args[0], 10, 16)
			if err != nil {
				return fmt.Errorf("port %q: %w", args[0], err)
			}
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			return l.Node(args[1]).Block(cmd.Context(), uint16(port), args[2:]...)
		},
	}
}
