// Package cli is the command line of kubectl-berth: it gathers a snapshot, has package view
// decide what to say of it, and package output print that.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // what kubeconfig files may name
	"k8s.io/klog/v2"

	"github.com/berth-lb/berth/internal/cli/output"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/internal/cli/view"
)

// Exit codes.
const (
	ExitOK       = 0 // nothing is wrong
	ExitProblems = 1 // something is, and was printed
	ExitError    = 2 // the question could not be answered
)

// errProblems is returned by commands that have printed what is wrong.
var errProblems = errors.New("there are problems")

// softMemory is how many bytes the program takes before the garbage collector works harder. It
// is no bound: more is taken if more is needed.
const softMemory = 192 << 20

// completeName is the name by which kubectl asks a plugin to complete words.
const completeName = "kubectl_complete-berth"

// Main runs the program with its arguments, the first of which is its name, and returns its
// exit code.
func Main(ctx context.Context, args []string, streams genericiooptions.IOStreams) int {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(softMemory)
	}
	return runMain(ctx, args, streams, time.Now)
}

func runMain(
	ctx context.Context, args []string, streams genericiooptions.IOStreams, now func() time.Time,
) int {
	name := strings.TrimSuffix(filepath.Base(args[0]), ".exe")
	args = args[1:]
	if name == completeName {
		name, args = "kubectl-berth", append([]string{cobra.ShellCompRequestCmd}, args...)
	}
	klog.SetOutput(streams.ErrOut)
	klog.LogToStderr(false)
	cmd := newRoot(name, streams, now)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, errProblems):
		return ExitProblems
	}
	_, _ = fmt.Fprintf(streams.ErrOut, "error: %v\n", err) // there is nobody else to tell
	return ExitError
}

// options are what all commands share.
type options struct {
	streams genericiooptions.IOStreams
	config  *genericclioptions.ConfigFlags
	output  *output.Flags
	berth   string // Berth's own namespace
	class   string
	chunk   int64
	cmd     *cobra.Command // that runs
	now     func() time.Time
}

// New returns the root command of a program of this name.
func New(name string, streams genericiooptions.IOStreams) *cobra.Command {
	return newRoot(name, streams, time.Now)
}

func newRoot(name string, streams genericiooptions.IOStreams, now func() time.Time) *cobra.Command {
	o := &options{
		now:     now,
		streams: streams,
		config:  genericclioptions.NewConfigFlags(true).WithWarningPrinter(streams),
		output:  output.NewFlags(),
	}
	display := name
	if strings.HasPrefix(name, "kubectl-") {
		display = "kubectl " + strings.ReplaceAll(strings.TrimPrefix(name, "kubectl-"), "_", "-")
	}
	root := &cobra.Command{
		Use:   name,
		Short: "See what Berth does, and why",
		Long: "See what Berth does in a cluster, and why: which node answers for an address, why a " +
			"Service has " +
			"none, what each router is told.\n\nIt reads API objects and nothing else, and decides what " +
			"it says " +
			"with the code of the controller and the speakers. What it may not read, it says; it never " +
			"counts " +
			"that as nothing.\n\nExit codes: 0 nothing is wrong, 1 there are problems, 2 the question " +
			"could not be " +
			"answered.",
		Annotations:       map[string]string{cobra.CommandDisplayNameAnnotation: display},
		SilenceUsage:      true,
		SilenceErrors:     true,
		DisableAutoGenTag: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			o.cmd = cmd
			return o.output.Validate()
		},
	}
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	flags := root.PersistentFlags()
	o.config.AddFlags(flags)
	flags.StringVar(&o.berth, "berth-namespace", "berth-system", "Namespace that Berth runs in.")
	flags.StringVar(&o.class, "load-balancer-class", "",
		"spec.loadBalancerClass of the Services that Berth handles, in place of what the controller's "+
			"Deployment says.")
	flags.Int64Var(&o.chunk, "chunk-size", 500, "How many objects to ask the API server for at once; 0 "+
		"for all.")
	o.output.AddStyle(root)
	o.completeNames(root)

	root.AddCommand(o.statusCommand(), o.explainCommand(), o.planCommand(), o.watchCommand(),
		o.versionCommand())
	root.AddCommand(o.checkCommand(), o.reportCommand(), o.importCommand(),
		o.dashboardCommand())
	for _, l := range listings {
		root.AddCommand(o.listCommand(l))
	}
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.AddCommand(kubectlCompletion())
		}
	}
	return root
}

// kubectlCompletion prints the file by which kubectl has this program complete words.
func kubectlCompletion() *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl",
		Short: "Print the script that completes words after `kubectl berth`",
		Long: "Print the script that kubectl calls to complete words after `kubectl berth`.\n\n" +
			"Put it into a directory of $PATH, as an executable file with the name " + completeName + ". " +
			"A link of that name to the program itself does the same.",
		Args:                  cobra.NoArgs,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), "#!/usr/bin/env sh\nkubectl berth "+
				cobra.ShellCompRequestCmd+" \"$@\"\n")
			return err
		},
	}
}

// client returns a client for the cluster that the flags name.
func (o *options) client() (*snapshot.Client, error) {
	config, err := o.config.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	return snapshot.NewClient(config, o.chunk)
}

// request returns what to read for a command.
func (o *options) request(kinds []snapshot.Kind) snapshot.Request {
	out := snapshot.Request{Kinds: kinds, Berth: o.berth, Namespace: o.namespace(), Now: o.now}
	if o.cmd != nil && o.cmd.Flags().Changed("load-balancer-class") {
		out.Class = &o.class
	}
	return out
}

// namespace returns the namespace of the user, by flag or kubeconfig.
func (o *options) namespace() string {
	namespace, _, err := o.config.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return ""
	}
	return namespace
}

// gather reads the kinds and puts them in order.
func (o *options) gather(ctx context.Context, kinds []snapshot.Kind) (*view.Facts, *snapshot.Client, error) {
	c, err := o.client()
	if err != nil {
		return nil, nil, err
	}
	s, err := snapshot.Gather(ctx, c, o.request(kinds))
	if err != nil {
		return nil, nil, err
	}
	f, err := view.Of(s)
	return f, c, err
}

// contextName returns the name of the kubeconfig's context in use.
func (o *options) contextName() string {
	if *o.config.Context != "" {
		return *o.config.Context
	}
	raw, err := o.config.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return ""
	}
	return raw.CurrentContext
}

// stderrStyle is how texts on stderr look.
func (o *options) stderrStyle() output.Style { return o.output.Style(o.streams.ErrOut) }

// outcome returns the error for what was printed.
func outcome(wrong bool) error {
	if wrong {
		return errProblems
	}
	return nil
}

func (o *options) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Print the state of Berth on one screen: verdict first, problems with the next command",
		Example: "  # Is anything wrong?\n  kubectl berth status\n\n" +
			"  # The verdict alone, for scripts\n  kubectl berth status -o jsonpath='{.verdict}'",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, _, err := o.gather(cmd.Context(), view.StatusKinds)
			if err != nil {
				return err
			}
			s := f.Status(o.contextName())
			if o.output.Structured() {
				err = o.output.Object(o.streams.Out, s, problemNames(s.Problems))
			} else {
				err = output.Status(o.streams.Out, s, o.output.Style(o.streams.Out), f.Taken)
			}
			if err != nil {
				return err
			}
			return outcome(s.Verdict != view.VerdictHealthy)
		},
	}
	o.output.Add(cmd)
	return cmd
}

// problemNames returns the names of the objects with problems.
func problemNames(problems []v1alpha1.Problem) []string {
	var out []string
	for _, p := range problems {
		out = append(out, p.Object.Resource())
	}
	return out
}

func (o *options) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "version",
		Short:             "Print the versions of this program, the controller, the speakers and Kubernetes",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := o.versions(cmd.Context())
			if err != nil {
				return err
			}
			if o.output.Structured() {
				return o.output.Object(o.streams.Out, v, nil)
			}
			return output.Version(o.streams.Out, v, o.output.Style(o.streams.Out))
		},
	}
	o.output.Add(cmd)
	return cmd
}

// versionPatience is how long the version of this program waits for those of the cluster.
const versionPatience = 10 * time.Second

// versions returns which versions run; that of this program also without a cluster.
func (o *options) versions(ctx context.Context) (v1alpha1.Version, error) {
	ctx, cancel := context.WithTimeout(ctx, versionPatience)
	defer cancel()
	alone := v1alpha1.Version{TypeMeta: v1alpha1.TypeMeta("Version"), Client: clientVersion()}
	f, c, err := o.gather(ctx, view.VersionKinds)
	if err != nil {
		alone.Unread = []v1alpha1.Unread{{
			Kind:    "the cluster",
			Reason:  snapshot.ReasonFailed,
			Message: err.Error(),
		}}
		return alone, nil
	}
	server, err := c.ServerVersion(ctx)
	if err != nil {
		_, _ = fmt.Fprintf(o.streams.ErrOut, "warning: %v\n", err)
	}
	return f.Version(clientVersion(), server), nil
}

// Streams returns those of the process.
func Streams() genericiooptions.IOStreams {
	return genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
}
