package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/resource"

	"github.com/berth-lb/berth/internal/cli/importing"
	"github.com/berth-lb/berth/internal/cli/output"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// importFlags are those of import.
type importFlags struct {
	from, namespace          string
	files                    []string
	recursive, local, report bool
	takeOver                 bool
}

func (o *options) importCommand() *cobra.Command {
	var names []string
	for _, s := range importing.Sources {
		names = append(names, s.Name)
	}
	asked := importFlags{}
	cmd := &cobra.Command{
		Use:   "import --from " + strings.Join(names, "|") + " [-f FILE]",
		Short: "Print Berth's manifests for the configuration of another load balancer, and what differs",
		Long: "Print Berth's manifests for the configuration of another load balancer, which is read from " +
			"the cluster or from files, and a report: what has no equivalent, what does not do quite the " +
			"same, what has to be done by hand, and whether any Service would get another address. The " +
			"last is decided by the controller's own code on a snapshot in which the manifests are " +
			"applied.\n\n" +
			"With --take-over it prints the steps from the other load balancer to Berth instead, in " +
			"which no packet is lost: which of them the cluster shows as done, which is next and with " +
			"which commands, what is in its way, and how to go back. Ask again after each.\n\n" +
			"It changes nothing. Manifests go to stdout, the report to stderr.\n\n" +
			"Exit codes: 0 all of it carries over and no Service changes, 1 something does not, a Service " +
			"would change or that is not known, 2 an error. With --take-over: 0 all steps are done, 1 one " +
			"is not, 2 an error.",
		Example: "  # See what would become of MetalLB's configuration\n" +
			"  kubectl berth import --from metallb --report\n\n" +
			"  # Apply it\n  kubectl berth import --from metallb | kubectl apply -f -\n\n" +
			"  # See which step of leaving MetalLB is next\n" +
			"  kubectl berth import --from metallb --take-over\n\n" +
			"  # From files, without a cluster\n  kubectl berth import --from cilium -f pools.yaml --local",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			source, err := importing.SourceOf(asked.from)
			if err != nil {
				return err
			}
			if asked.takeOver {
				if err := source.CanTakeOver(); err != nil {
					return err
				}
			}
			return o.runImport(cmd.Context(), source, asked)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&asked.from, "from", "", "The other load balancer: "+strings.Join(names, ", ")+".")
	flags.StringSliceVarP(&asked.files, "filename", "f", nil,
		"Files, directories or URLs with its objects, - for stdin, instead of those in the cluster.")
	flags.BoolVarP(&asked.recursive, "recursive", "R", false, "Read the directories of -f with all below "+
		"them.")
	flags.BoolVar(&asked.local, "local", false,
		"Ask no cluster: Services, namespaces and nodes are those in the files too.")
	flags.StringVar(&asked.namespace, "source-namespace", "",
		"Namespace in which the other load balancer runs; by default the one in which it usually does.")
	flags.BoolVar(&asked.report, "report", false, "Print the report alone, to stdout.")
	flags.BoolVar(&asked.takeOver, "take-over", false,
		"Print the steps from the other load balancer to Berth, and which of them are done.")
	for _, other := range []string{"filename", "local", "report"} {
		cmd.MarkFlagsMutuallyExclusive("take-over", other)
	}
	_ = cmd.MarkFlagRequired("from")
	_ = cmd.MarkFlagFilename("filename", "yaml", "yml", "json")
	_ = cmd.RegisterFlagCompletionFunc("from",
		cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("source-namespace", o.completion(snapshot.Namespaces))
	o.output.Add(cmd)
	return cmd
}

// runImport gathers, converts and prints.
func (o *options) runImport(ctx context.Context, source importing.Source, asked importFlags) error {
	if asked.namespace == "" {
		asked.namespace = source.Namespace
	}
	objects, unread, err := o.foreign(ctx, source, asked)
	if err != nil {
		return err
	}
	s, err := o.importSnapshot(ctx, objects, asked)
	if err != nil {
		return err
	}

	result := importing.Convert(importing.Input{
		Source:    source,
		Objects:   objects,
		Namespace: asked.namespace,
		Berth:     o.berth,
		Services:  s.Services,
		Nodes:     s.Nodes,
	})
	if len(result.Found) == 0 && (!asked.takeOver || len(failed(unread)) > 0) {
		return nothingFound(source, unread)
	}
	services, err := result.Check(s, source)
	if err != nil {
		return err
	}
	manifests, err := result.Manifests()
	if err != nil {
		return err
	}
	out := v1alpha1.Import{
		TypeMeta:  v1alpha1.TypeMeta("Import"),
		From:      source.Name,
		Found:     result.Found,
		Manifests: manifests,
		Remarks:   result.Remarks,
		Services:  services,
		Unread:    append(unread, failed(s.Unread())...),
	}

	if asked.takeOver {
		out.Steps = importing.TakeOver{
			Source:    source,
			Namespace: asked.namespace,
			Objects:   objects,
			Unread:    unread,
			Result:    result,
			Services:  services,
			Cluster:   s,
		}.Steps()
	}

	if err := o.printImport(out, result, source, asked); err != nil {
		return err
	}
	if asked.takeOver {
		notDone := func(s v1alpha1.ImportStep) bool { return s.State != v1alpha1.ImportStepDone }
		return outcome(slices.ContainsFunc(out.Steps, notDone))
	}
	doesNotCarry := func(r v1alpha1.ImportRemark) bool { return !r.Reason.Carries() }
	return outcome(services.Verdict != importing.Unchanged || len(out.Unread) > 0 ||
		slices.ContainsFunc(out.Remarks, doesNotCarry))
}

// failed returns the kinds that could not be read, without those that are not installed: of
// these there are no objects.
func failed(unread []v1alpha1.Unread) []v1alpha1.Unread {
	return slices.DeleteFunc(unread, func(u v1alpha1.Unread) bool {
		return u.Reason == snapshot.ReasonNotInstalled
	})
}

// nothingFound returns the error for a load balancer of which there is nothing to import.
func nothingFound(source importing.Source, unread []v1alpha1.Unread) error {
	if len(unread) > 0 {
		return fmt.Errorf("nothing of %s could be read: %s: %s. %s", source.Title, unread[0].Kind,
			unread[0].Reason, unread[0].Message)
	}
	return fmt.Errorf("nothing of %s was found", source.Title)
}

// foreign returns the objects of the other load balancer, from files or from the cluster.
func (o *options) foreign(
	ctx context.Context, source importing.Source, asked importFlags,
) ([]unstructured.Unstructured, []v1alpha1.Unread, error) {
	if len(asked.files) > 0 {
		objects, err := o.readFiles(asked)
		return objects, nil, err
	}
	if asked.local {
		return nil, nil, fmt.Errorf("--local needs -f: it asks no cluster")
	}
	c, err := o.client()
	if err != nil {
		return nil, nil, err
	}
	return c.Foreign(ctx, source.Kinds, asked.namespace)
}

// readFiles returns the objects in files, as kubectl reads them.
func (o *options) readFiles(asked importFlags) ([]unstructured.Unstructured, error) {
	builder := resource.NewLocalBuilder().Unstructured().ContinueOnError().Flatten()
	files := slices.DeleteFunc(slices.Clone(asked.files), func(f string) bool { return f == "-" })
	if len(files) < len(asked.files) {
		builder = builder.Stream(o.streams.In, "stdin")
	}
	if len(files) > 0 {
		builder = builder.FilenameParam(false, &resource.FilenameOptions{
			Filenames: files,
			Recursive: asked.recursive,
		})
	}
	infos, err := builder.Do().Infos()
	if err != nil {
		return nil, fmt.Errorf("-f: %w", err)
	}
	var out []unstructured.Unstructured
	for _, info := range infos {
		if object, ok := info.Object.(*unstructured.Unstructured); ok {
			out = append(out, *object)
		}
	}
	return out, nil
}

// importSnapshot returns the cluster, or what stands for it in files. If the objects come from
// files, a cluster that cannot be asked is one of which nothing is known.
func (o *options) importSnapshot(
	ctx context.Context, objects []unstructured.Unstructured, asked importFlags,
) (*snapshot.Snapshot, error) {
	kinds := importing.Kinds
	if asked.takeOver {
		kinds = importing.TakeOverKinds
	}
	request := o.request(kinds)
	if asked.local {
		return importing.Local(objects, request, o.now())
	}
	c, err := o.client()
	if err == nil {
		var s *snapshot.Snapshot
		if s, err = snapshot.Gather(ctx, c, request); err == nil {
			return s, nil
		}
	}
	if len(asked.files) == 0 {
		return nil, err
	}
	s := snapshot.New(snapshot.Objects{}, request, o.now())
	s.SetUnread(snapshot.Services, err)
	return s, nil
}

// printImport prints the manifests and the report, or what -o asks for.
func (o *options) printImport(
	i v1alpha1.Import, result importing.Result, source importing.Source, asked importFlags,
) error {
	if o.output.Structured() {
		var names []string
		for _, m := range i.Manifests {
			kind, name := importing.NameOf(m)
			names = append(names, v1alpha1.Ref{Kind: strings.ToLower(kind), Name: name}.Resource())
		}
		return o.output.Object(o.streams.Out, i, names)
	}
	if asked.takeOver {
		return output.TakeOver(o.streams.Out, i, source.Title, o.output.Style(o.streams.Out))
	}
	report := o.streams.ErrOut
	if asked.report {
		report = o.streams.Out
	} else if err := output.Manifests(o.streams.Out, i.Manifests, result.About); err != nil {
		return err
	}
	return output.Import(report, i, source.Title, o.output.Style(report))
}
