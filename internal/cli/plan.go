package cli

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-lb/berth/internal/cli/change"
	"github.com/berth-lb/berth/internal/cli/output"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/internal/cli/view"
)

// planFlags are what is to be changed, as it is asked for.
type planFlags struct {
	files                    change.Files
	remove, drain, fail, add []string
}

const planLong = `Print the consequences of changes before they are made: which Services get, lose or change
an address, which addresses move to which node and why, which prefixes appear or go at
which routers, how full pools are then, and which objects of the configuration would not
be in force.

What is to be changed is in files (-f), in what kustomize makes of a directory (-k), and
in flags; all of it is taken as done at once. Files are applied as kubectl apply does it.
Changes can be judged of Berth's own kinds, Services, EndpointSlices, Nodes and
Namespaces; objects of other kinds are named under NOT JUDGED.

The code of the controller and of the speakers decides about the objects as they are, and
as they would be, until nothing is left to do. Nothing is changed in the cluster.

It cannot know: what the API server refuses (kubectl apply --dry-run=server tells that);
where pods start that are evicted or new; which connections break; what the LAN answers,
and so whether a new address is free there; whether a service proxy is ready; how long
all of it takes, and what is said or lost meanwhile; which of several Services comes first
where there are too few addresses for them, the older one is assumed; weights of routes by
endpoints; passwords; versions of objects that are in force although what is written since
is invalid; what other programs do.

The exit code is 0 if nothing differs, 1 if something does or if not all could be read, 2
if the question could not be answered.`

func (o *options) planCommand() *cobra.Command {
	var asked planFlags
	cmd := &cobra.Command{
		Use:   "plan (-f FILE | -k DIR | --delete KIND/NAME | --drain NODE | --fail NODE | --add NODE)...",
		Short: "Print what would become of Services, addresses and routes by a change",
		Long:  planLong,
		Example: "  # Is this file safe to apply?\n  kubectl berth plan -f pool.yaml\n\n" +
			"  # What happens if I drain node3?\n  kubectl berth plan --drain node3\n\n" +
			"  # Who takes over if node1 dies, and what do routers hear then?\n" +
			"  kubectl berth plan --fail node1 -o yaml\n\n" +
			"  # A pool is replaced by another\n" +
			"  kubectl berth plan -f new.yaml --delete ipaddresspool/old",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := o.plan(cmd.Context(), asked)
			if err != nil {
				return err
			}
			return o.printPlan(p)
		},
	}
	o.output.Add(cmd)
	asked.addTo(o, cmd)
	return cmd
}

func (a *planFlags) addTo(o *options, cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVarP(&a.files.Filenames, "filename", "f", nil,
		"Files, directories or URLs with manifests to be applied; - for standard input.")
	flags.StringVarP(&a.files.Kustomize, "kustomize", "k", "",
		"Directory with a kustomization.yaml, what comes of which is to be applied.")
	flags.BoolVarP(&a.files.Recursive, "recursive", "R", false, "Take directories below those of -f too.")
	flags.StringSliceVar(&a.remove, "delete", nil,
		"Objects to be deleted: KIND/NAME, of Services also service/NAMESPACE/NAME.")
	flags.StringSliceVar(&a.drain, "drain", nil, "Nodes to be cordoned, and emptied of pods.")
	flags.StringSliceVar(&a.fail, "fail", nil, "Nodes that die.")
	flags.StringSliceVar(&a.add, "add", nil, "New nodes with a speaker. A manifest of -f gives their labels.")
	for _, flag := range []string{"drain", "fail"} {
		_ = cmd.RegisterFlagCompletionFunc(flag, o.completion(snapshot.Nodes)) // each flag has one
	}
	_ = cmd.RegisterFlagCompletionFunc("add", cobra.NoFileCompletions)
	_ = cmd.RegisterFlagCompletionFunc("delete", o.completeDeletions)
	_ = cmd.MarkFlagFilename("filename", "json", "yaml", "yml")
	_ = cmd.MarkFlagDirname("kustomize")
}

// errNothingAsked is returned if nothing is to be changed.
var errNothingAsked = errors.New("say what is to be changed: -f, -k, --delete, --drain, --fail or --add")

// changes reads what is to be changed.
func (o *options) changes(asked planFlags) (change.Request, error) {
	out := change.Request{
		Drain:     asked.drain,
		Fail:      asked.fail,
		Add:       asked.add,
		Namespace: o.namespace(),
	}
	files := len(asked.files.Filenames) > 0 || asked.files.Kustomize != ""
	if !files && len(asked.remove)+len(asked.drain)+len(asked.fail)+len(asked.add) == 0 {
		return out, errNothingAsked
	}
	asked.files.In = o.streams.In
	documents, err := change.Read(asked.files)
	if err != nil {
		return out, fmt.Errorf("read manifests: %w", err)
	}
	out.Documents = documents
	if files && len(documents) == 0 {
		return out, errors.New("read manifests: there are no objects in them")
	}
	for _, text := range asked.remove {
		ref, err := o.deletion(text)
		if err != nil {
			return out, err
		}
		out.Delete = append(out.Delete, ref)
	}
	return out, nil
}

// deletion reads what is to be deleted.
func (o *options) deletion(text string) (v1alpha1.Ref, error) {
	word, name, both := strings.Cut(text, "/")
	kind, namespaced, known := change.Kind(word)
	switch {
	case !both || name == "":
		return v1alpha1.Ref{}, fmt.Errorf("--delete: %q is not KIND/NAME", text)
	case !known:
		return v1alpha1.Ref{}, fmt.Errorf("--delete: what the deletion of a %s brings cannot be judged: "+
			"use %s", word, strings.Join(change.Kinds(), ", "))
	case !namespaced:
		return v1alpha1.Ref{Kind: kind, Name: name}, nil
	}
	ref := v1alpha1.Ref{Kind: kind, Namespace: o.namespace(), Name: name}
	if namespace, name, both := strings.Cut(name, "/"); both {
		ref.Namespace, ref.Name = namespace, name
	}
	return ref, nil
}

// planGCPercent is how much of the heap may be garbage while a plan is made. Several outcomes
// of a large cluster are made one after the other: with the usual 100 they would take a third
// of memory more.
const planGCPercent = 40

// plan gathers, applies the changes to what was read, and decides.
func (o *options) plan(ctx context.Context, asked planFlags) (v1alpha1.Plan, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(planGCPercent))
	request, err := o.changes(asked)
	if err != nil {
		return v1alpha1.Plan{}, err
	}
	f, _, err := o.gather(ctx, view.PlanKinds)
	if err != nil {
		return v1alpha1.Plan{}, err
	}
	if !f.Installed() {
		return v1alpha1.Plan{}, errors.New("the API server does not know Berth's kinds: install them first")
	}
	if err := f.Plannable(); err != nil {
		return v1alpha1.Plan{}, err // an object that could not be read is not one that there is not
	}
	done, err := change.Apply(f.Snapshot, request)
	if err != nil {
		return v1alpha1.Plan{}, err
	}
	return f.Plan(view.Change{
		After:  done.Objects,
		Failed: done.FailedNodes,
		Added:  done.AddedNodes,
		Said:   said(done),
	})
}

// said returns the beginning of a plan: what is done.
func said(done change.Result) v1alpha1.Plan {
	out := v1alpha1.Plan{
		Changes:   []v1alpha1.PlannedChange{},
		Services:  []v1alpha1.ServiceChange{},
		Addresses: []v1alpha1.AddressChange{},
		Routes:    []v1alpha1.RouteChange{},
		Pools:     []v1alpha1.PoolChange{},
		Objects:   []v1alpha1.ReadyChange{},
		Remarks:   done.Remarks,
	}
	for _, d := range done.Done {
		out.Changes = append(out.Changes, v1alpha1.PlannedChange{
			Verb:   string(d.Verb),
			Object: d.Object,
			From:   d.From,
		})
	}
	for _, n := range done.NotJudged {
		out.NotJudged = append(out.NotJudged, v1alpha1.PlannedChange{Object: n.Object, From: n.From})
	}
	return out
}

// printPlan prints a plan.
func (o *options) printPlan(p v1alpha1.Plan) error {
	var err error
	if o.output.Structured() {
		err = o.output.Object(o.streams.Out, p, plannedNames(p))
	} else {
		err = output.Plan(o.streams.Out, p, o.output.Style(o.streams.Out), o.output.Wide())
	}
	if err != nil {
		return err
	}
	return outcome(p.Verdict != view.VerdictNoDifference)
}

// plannedNames returns the names of the Services whose addresses become others, and of the
// objects that come to say something else.
func plannedNames(p v1alpha1.Plan) []string {
	var out []string
	for _, s := range p.Services {
		out = append(out, v1alpha1.Ref{Kind: "service", Namespace: s.Namespace, Name: s.Name}.Resource())
	}
	for _, r := range p.Objects {
		out = append(out, r.Object.Resource())
	}
	return out
}

// completeDeletions completes KIND/NAME.
func (o *options) completeDeletions(
	cmd *cobra.Command, _ []string, typed string,
) ([]string, cobra.ShellCompDirective) {
	const done = cobra.ShellCompDirectiveNoFileComp
	word, name, begun := strings.Cut(typed, "/")
	if !begun {
		var words []string
		for _, kind := range change.Kinds() {
			words = append(words, kind+"/")
		}
		return beginning(words, typed), done | cobra.ShellCompDirectiveNoSpace
	}
	kind, _, known := change.Kind(word)
	completed := map[string]snapshot.Kind{
		"service":       snapshot.Services,
		"ipaddresspool": snapshot.Pools,
		"bgppeer":       snapshot.BGPPeers,
		"node":          snapshot.Nodes,
		"namespace":     snapshot.Namespaces,
	}
	reads, ok := completed[kind]
	if !known || !ok {
		return nil, done
	}
	names := beginning(o.namesOf(cmd.Context(), reads), name)
	for i := range names {
		names[i] = word + "/" + names[i]
	}
	return slices.Clip(names), done
}
