package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/internal/cli/output"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/view"
	"github.com/berth-lb/berth/internal/version"
)

func clientVersion() string { return version.String() }

// joinAfter is how long the change of an object waits for an Event that tells the same.
const joinAfter = time.Second

func (o *options) watchCommand() *cobra.Command {
	allNamespaces, format := false, ""
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Print decisions as they are taken, from Events and the changes of objects",
		Long: "Print decisions as they are taken, a line each: addresses assigned and announced, nodes " +
			"taking " +
			"over, sessions that come and go, objects in force or not. It joins Events and the changes of " +
			"objects: what both tell is printed once. It ends when interrupted.\n\nWith -n it leaves out " +
			"the " +
			"Services of other namespaces.",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "" && format != "json" {
				return fmt.Errorf("--output: %q is not valid: use json, for a line of JSON each", format)
			}
			namespace := ""
			if *o.config.Namespace != "" && !allNamespaces {
				namespace = *o.config.Namespace
			}
			return o.watchDecisions(cmd.Context(), namespace, format == "json")
		},
	}
	cmd.Flags().BoolVarP(&allNamespaces, "all-namespaces", "A", false, "Take Services of all namespaces.")
	cmd.Flags().StringVarP(&format, "output", "o", "", "Output format: json, for a line of JSON each.")
	_ = cmd.RegisterFlagCompletionFunc("output",
		cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// pending are decisions that wait to be printed.
type pending struct {
	mu   sync.Mutex
	list []view.Decided
}

func (p *pending) add(list []view.Decided) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = append(p.list, list...)
}

// take returns what waits, joined, the oldest first.
func (p *pending) take() []view.Decided {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := view.Join(p.list)
	p.list = nil
	slices.SortStableFunc(out, func(a, b view.Decided) int { return a.Time.Compare(b.Time.Time) })
	return out
}

func (o *options) watchDecisions(ctx context.Context, namespace string, asJSON bool) error {
	c, err := o.client()
	if err != nil {
		return err
	}
	request := o.request(slices.Concat(view.WatchKinds, []snapshot.Kind{
		snapshot.Deployments, snapshot.DaemonSets,
	}))
	first, err := snapshot.Gather(ctx, c, request)
	if err != nil {
		return err
	}
	if err := output.Unread(o.streams.ErrOut, first.Unread(), o.stderrStyle()); err != nil {
		return err
	}
	readable, narrow := readableOf(first, view.WatchKinds)
	if len(readable) == 0 {
		return errors.New("nothing that could be watched may be read")
	}
	request.Kinds = readable
	waiting := &pending{}
	snapshot.Follow(ctx, c, request, narrow, func(change snapshot.Change) {
		if change.Initial {
			return
		}
		at := metav1.NewTime(o.now())
		waiting.add(view.ChangesOf(change.Before, change.After, first.Settings.Class, at))
	})

	ticker := time.NewTicker(joinAfter)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		for _, d := range waiting.take() {
			if namespace != "" && d.Namespace != "" && d.Namespace != namespace {
				continue
			}
			if !asJSON {
				if err := output.Change(o.streams.Out, d.Change); err != nil {
					return fmt.Errorf("print: %w", err)
				}
				continue
			}
			line, err := json.Marshal(d.Change)
			if err != nil {
				return fmt.Errorf("print: %w", err)
			}
			if _, err := fmt.Fprintln(o.streams.Out, string(line)); err != nil {
				return fmt.Errorf("print: %w", err)
			}
		}
	}
}
