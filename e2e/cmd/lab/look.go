package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-lb/berth/e2e/lab"
)

func newStatus(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the nodes, components and images of a lab",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := lab.Open(*name)
			if errors.Is(err, lab.ErrNotRunning) {
				if others, _ := lab.List(); len(others) > 0 {
					return fmt.Errorf("%w\nThere are files of: %s", err, strings.Join(others, ", "))
				}
			}
			if err != nil {
				return err
			}
			status, err := l.Status(cmd.Context())
			if err != nil {
				return err
			}
			return printStatus(cmd.OutOrStdout(), status)
		},
	}
}

func printStatus(out io.Writer, s lab.Status) error {
	fmt.Fprintf(out, "Lab %s, up for %s, kube-proxy in mode %s, files and logs in %s\n\n",
		s.Name, time.Since(s.Created).Round(time.Second), s.ProxyMode, s.Dir)
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "NODE\tADDRESSES\tSTATE\tCABLE\tREADY\tPROCESSES\tMEMORY")
	for _, n := range s.Nodes {
		cable := "cut"
		if n.Plugged {
			cable = "plugged"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n",
			n.Name, strings.Trim(fmt.Sprint(n.Addresses), "[]"), n.State, cable, n.Ready,
			n.Processes, mebibytes(n.RSS))
	}
	fmt.Fprintln(table, "\nCOMPONENT\tPROCESS\tMEMORY")
	for _, c := range s.Components {
		if c.Running {
			fmt.Fprintf(table, "%s\t%d\t%s\n", c.Name, c.PID, mebibytes(c.RSS))
		} else {
			fmt.Fprintf(table, "%s\tstopped\t\n", c.Name)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nImages on every node: %s\n\nTo look around:\n", strings.Join(s.Images, ", "))
	printHints(out, s.Name, s.Nodes[0].Addresses[0])
	return nil
}

// printHints shows commands that work with the lab of this name, whose first node has this address.
func printHints(out io.Writer, name string, node netip.Addr) {
	command := "lab"
	if name != lab.DefaultName {
		command = "lab --name " + name
	}
	for _, hint := range []string{
		"kubectl get nodes -o wide",
		"exec node1 -- ps ax",
		"exec client -- ping -c1 " + node.String(),
		"status",
	} {
		fmt.Fprintf(out, "  %s %s\n", command, hint)
	}
}

func mebibytes(bytes int64) string { return fmt.Sprintf("%d MiB", bytes>>20) }

func newExec(name *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec HOST -- COMMAND [ARGUMENT...]",
		Short: "Run a command on a host: sw, cp, router, router2, client, ext, stranger, node1, ...",
		Long: `Run a command on a host of the lab: sw (the switch), cp (the control plane), router,
router2 if it was started, client, ext, stranger, or a node.

On a node, ps shows that node, ctr talks to its containerd, and files below /run and /var/lib are its own.
On the others only the network is different. KUBECONFIG is set and kubectl is in PATH; it works where the
network leads to cp.`,
		Example: `  lab exec node1 -- ps ax
  lab exec node1 -- ctr -n k8s.io containers ls
  lab exec client -- arping -c1 -I eth0 10.77.0.11
  lab exec sw -- bridge link
  lab exec cp -- bash`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			if args[1] == "--" {
				args = slices.Delete(args, 1, 2)
			}
			return runIn(cmd, l, args[0], args[1:])
		},
	}
	cmd.Flags().SetInterspersed(false) // flags behind the host belong to the command
	return cmd
}

func newKubectl(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl [--] ARGUMENT...",
		Short: "Run the cluster's own kubectl as administrator",
		Long: `Run the cluster's own kubectl as administrator. Everything behind the word kubectl belongs to
it, so --name stands in front: lab --name other kubectl get pods -A`,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && args[0] == "--" {
				args = args[1:]
			}
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			return runIn(cmd, l, lab.HostControlPlane, append([]string{"kubectl"}, args...))
		},
	}
}

// runIn runs a command that shares this program's terminal.
func runIn(cmd *cobra.Command, l *lab.Lab, host string, args []string) error {
	// Not the command's context: Ctrl-C reaches the process by the terminal, and it may want to go on.
	process, err := l.Host(host).Command(context.WithoutCancel(cmd.Context()), args...)
	if err != nil {
		return err
	}
	process.Stdin, process.Stdout, process.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	err = process.Run()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		if failed.ExitCode() > 0 {
			return statusError(failed.ExitCode())
		}
		return fmt.Errorf("%s: %w", args[0], failed) // a signal ended it: there is no status to pass on
	}
	return err
}

// A statusError is the exit status of a command that was run in the lab.
type statusError int

func (s statusError) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

func newKubeconfig(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print the path of the administrator's kubeconfig",
		Long: `Print the path of the administrator's kubeconfig. The API server is reachable from inside the
lab only:
  lab exec cp -- env KUBECONFIG=$(lab kubeconfig) some-tool`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := lab.Open(*name)
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), l.API().Kubeconfig())
			}
			return err
		},
	}
}
