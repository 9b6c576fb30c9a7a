package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-lb/berth/internal/cli/snapshot"
)

// completePatience is how long a shell waits for names.
const completePatience = 3 * time.Second

// namesOf returns the names of the objects of a kind; Services are those of the namespace.
// What cannot be read has no names: a shell is no place for errors.
func (o *options) namesOf(ctx context.Context, kind snapshot.Kind) []string {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completePatience)
	defer cancel()
	c, err := o.client()
	if err != nil {
		return nil
	}
	request := snapshot.Request{Kinds: []snapshot.Kind{kind}, Berth: o.berth, Namespace: o.namespace()}
	s, err := snapshot.Gather(ctx, c, request)
	if err != nil {
		return nil
	}
	var out []string
	for _, p := range s.Pools {
		out = append(out, p.Name)
	}
	for _, n := range s.Nodes {
		out = append(out, n.Name)
	}
	for _, p := range s.BGPPeers {
		out = append(out, p.Name)
	}
	for i := range s.Services {
		if v := &s.Services[i]; v.Spec.Type == "LoadBalancer" && v.Namespace == request.Namespace {
			out = append(out, v.Name)
		}
	}
	for _, n := range s.Namespaces {
		out = append(out, n.Name)
	}
	slices.Sort(out)
	return out
}

// completion returns the names of a kind that begin with what was typed.
func (o *options) completion(kind snapshot.Kind) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return beginning(o.namesOf(cmd.Context(), kind), typed), cobra.ShellCompDirectiveNoFileComp
	}
}

// beginning returns the words that begin with what was typed.
func beginning(words []string, typed string) []string {
	return slices.DeleteFunc(words, func(w string) bool { return !strings.HasPrefix(w, typed) })
}

// completeFilters has the values of filters completed.
func (o *options) completeFilters(cmd *cobra.Command) {
	for flag, kind := range map[string]snapshot.Kind{
		"pool":    snapshot.Pools,
		"node":    snapshot.Nodes,
		"peer":    snapshot.BGPPeers,
		"service": snapshot.Services,
	} {
		_ = cmd.RegisterFlagCompletionFunc(flag, o.completion(kind)) // each flag has one
	}
}

// completeNames has the values of flags completed that all commands have.
func (o *options) completeNames(root *cobra.Command) {
	for _, flag := range []string{"namespace", "berth-namespace"} {
		_ = root.RegisterFlagCompletionFunc(flag, o.completion(snapshot.Namespaces))
	}
}

// completeSubjects completes what explain takes.
func (o *options) completeSubjects(
	cmd *cobra.Command, args []string, typed string,
) ([]string, cobra.ShellCompDirective) {
	kinds := map[string]snapshot.Kind{
		"service": snapshot.Services,
		"pool":    snapshot.Pools,
		"node":    snapshot.Nodes,
		"peer":    snapshot.BGPPeers,
	}
	const done = cobra.ShellCompDirectiveNoFileComp
	if len(args) == 1 {
		kind, ok := kinds[kindNames[args[0]]]
		if !ok {
			return nil, done
		}
		return beginning(o.namesOf(cmd.Context(), kind), typed), done
	}
	if len(args) > 1 {
		return nil, done
	}
	word, name, begun := strings.Cut(typed, "/")
	if !begun {
		var words []string
		for _, kind := range explainable {
			words = append(words, kind+"/")
		}
		return beginning(words, typed), done | cobra.ShellCompDirectiveNoSpace
	}
	kind, ok := kinds[kindNames[word]]
	if !ok {
		return nil, done
	}
	names := beginning(o.namesOf(cmd.Context(), kind), name)
	for i := range names {
		names[i] = word + "/" + names[i]
	}
	return names, done
}
