package main

import (
	"fmt"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-lb/berth/e2e/lab"
)

func newUp(name *string) *cobra.Command {
	var options lab.Options
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a lab",
		Long: `Start a lab, and return when its nodes are Ready. Leftovers of an earlier lab of the same name
are removed first. Ctrl-C, or a failure, takes everything down again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options.Name = *name
			options.Progress = cmd.ErrOrStderr()
			start := time.Now()
			l, err := lab.Up(cmd.Context(), options)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "Lab %s is up after %.1f s. To look around:\n",
				l.Name(), time.Since(start).Seconds())
			printHints(out, l.Name(), l.Families().Of(lab.NodeAddresses(1))[0])
			return nil
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&options.Nodes, "nodes", 3, fmt.Sprintf("number of nodes, 1 to %d", lab.MaxNodes))
	flags.StringVar((*string)(&options.ProxyMode), "proxy-mode", string(lab.ProxyNFTables), fmt.Sprintf(
		"mode of kube-proxy: %s, %s, %s (where the kernel has it), or %s for a stand-in that writes no rules",
		lab.ProxyNFTables, lab.ProxyIPTables, lab.ProxyIPVS, lab.ProxyNone))
	flags.StringVar((*string)(&options.Families), "families", string(lab.DualStack), fmt.Sprintf(
		"IP families of the cluster and all hosts: %s, %s, %s or %s",
		lab.DualStack, lab.DualStackIPv6First, lab.IPv4Only, lab.IPv6Only))
	flags.BoolVar(&options.ServiceLAN, "service-lan", false,
		"give nodes, client and stranger a second interface, svc0, on a network of its own: "+
			"10.78.0.0/24, fd78::/64")
	flags.DurationVar(&options.NodeGrace, "node-grace", 8*time.Second,
		"how long a node may be silent before it is NotReady")
	flags.TextVar(&options.DNS, "dns", netip.Addr{},
		"address at which pods ask for names; the lab itself runs no DNS")
	flags.StringVar(&options.KubernetesBinary, "kubernetes", "",
		"multi-call Kubernetes binary to use instead of building one")
	flags.StringArrayVar(&options.APIServerFlags, "apiserver-flag", nil,
		"a further flag of the API server; may be repeated")
	flags.StringArrayVar(&options.Images, "image", nil,
		"docker-archive to load into every node; may be repeated")
	return cmd
}

func newDown(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "End a lab and remove everything of it",
		Long: `End every process of a lab and remove its namespaces, control groups and files, logs included.
It also removes what a lab left that ended half way. It is no error if there is nothing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return lab.Remove(cmd.Context(), *name) },
	}
}

func newBuild() *cobra.Command {
	var kubetest, ingress, conformance, helm bool
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Build what \"lab up\" needs, if it is not in the cache",
		Long: `Build the Kubernetes binary and the images of every node into ~/.cache/berth-lab
($XDG_CACHE_HOME/berth-lab), if they are not there, and print the path of the binary.
Files there that belong to older sources may be deleted at any time.

With --ingress it builds an image of the ingress controller too, and prints the path of its
archive. With --helm it builds Helm, and prints the path of the program.
With --kubetest it builds what "make kubetest" needs, and prints the paths of the program
of the tests and of the image that their pods run. With --conformance it builds the conformance
suite of Gateway API, and prints the paths of its program and of the images that its pods run.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, out, progress := cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			binary, err := lab.Build(ctx, progress)
			if err != nil {
				return err
			}
			fmt.Fprintln(out, binary)
			if ingress {
				archive, err := lab.BuildTraefik(ctx, progress)
				if err != nil {
					return err
				}
				fmt.Fprintln(out, archive)
			}
			if helm {
				program, err := lab.BuildHelm(ctx, progress)
				if err != nil {
					return err
				}
				fmt.Fprintln(out, program)
			}
			if kubetest {
				program, image, err := lab.BuildKubetest(ctx, progress)
				if err != nil {
					return err
				}
				fmt.Fprintf(out, "%s\n%s\n", program, image)
			}
			if conformance {
				program, images, err := lab.BuildConformance(ctx, progress)
				if err != nil {
					return err
				}
				fmt.Fprintln(out, program)
				for _, image := range images {
					fmt.Fprintln(out, image)
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&ingress, "ingress", false, "build the ingress controller too")
	cmd.Flags().BoolVar(&kubetest, "kubetest", false, "build Kubernetes' own tests of load balancers too")
	cmd.Flags().BoolVar(&conformance, "conformance", false, "build the conformance suite of Gateway API too")
	cmd.Flags().BoolVar(&helm, "helm", false, "build Helm too")
	cmd.MarkFlagsMutuallyExclusive("ingress", "kubetest", "conformance")
	return cmd
}

func newDeps() *cobra.Command {
	var install bool
	cmd := &cobra.Command{
		Use:   "deps",
		Short: "List what the lab needs of this machine, or install what is missing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			if install {
				installed, err := lab.InstallMissing(cmd.Context(), cmd.ErrOrStderr())
				if err != nil {
					return err
				}
				if len(installed) == 0 {
					fmt.Fprintln(out, "Nothing is missing.")
				} else {
					fmt.Fprintln(out, "Installed:", strings.Join(installed, " "))
				}
				return nil
			}
			table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
			fmt.Fprintln(table, "PACKAGE\tPURPOSE\tNEEDED BY\tMISSING")
			for _, r := range lab.Requirements() {
				by := "tests and people"
				if r.Essential {
					by = "lab up"
				}
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\n",
					r.Package, r.Purpose, by, strings.Join(r.Missing(), " "))
			}
			return table.Flush()
		},
	}
	cmd.Flags().BoolVar(&install, "install", false, "install what is missing with apt-get")
	return cmd
}
