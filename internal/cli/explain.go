package cli

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-lb/berth/internal/cli/output"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/internal/cli/view"
)

// subject is what is to be explained.
type subject struct {
	kind            string // service, pool, node, peer or address; "" for any of that name
	namespace, name string
	address         netip.Addr
}

func (o *options) explainCommand() *cobra.Command {
	events := 5
	cmd := &cobra.Command{
		Use:   "explain (ADDRESS | NAME | KIND/NAME | KIND NAME)",
		Short: "Explain what becomes of a Service, an address, a pool, a node or a peer, step by step",
		Long: "Explain what becomes of a Service, an address, a pool, a node or a peer, step by step, " +
			"each with " +
			"the reason that also stands in conditions, Events, logs and metrics.\n\nKIND is service, " +
			"pool, node " +
			"or peer, or what kubectl calls them. A NAME alone is that of a Service, or else of a pool, " +
			"node or " +
			"peer. Of an address it says who has it, or why nobody can have it.",
		Example: "  kubectl berth explain svc/web -n shop\n  kubectl berth explain 192.0.2.10\n" +
			"  kubectl berth explain node/node1",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: o.completeSubjects,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := o.subjectOf(args)
			if err != nil {
				return err
			}
			e, err := o.explain(cmd.Context(), s, events)
			if err != nil {
				return err
			}
			return o.printExplanation(e)
		},
	}
	cmd.Flags().IntVar(&events, "events", events, "How many of the last Events to print; 0 for none.")
	o.output.Add(cmd)
	return cmd
}

// subjectOf reads what is to be explained.
func (o *options) subjectOf(args []string) (subject, error) {
	kind, name, both := strings.Cut(args[0], "/")
	if len(args) == 2 {
		kind, name, both = args[0], args[1], true
	}
	if addr, err := netip.ParseAddr(args[len(args)-1]); err == nil {
		return subject{kind: "address", address: addr.Unmap()}, nil
	}
	if !both {
		return subject{namespace: o.namespace(), name: kind}, nil
	}
	s := subject{kind: kindNames[strings.ToLower(kind)], namespace: o.namespace(), name: name}
	switch {
	case s.kind == "" && len(args) == 1: // NAMESPACE/NAME, as tables have it
		return subject{kind: "service", namespace: kind, name: name}, nil
	case s.kind == "":
		return subject{}, fmt.Errorf("%q is no kind that can be explained: use %s", kind,
			strings.Join(explainable, ", "))
	case s.kind == "address":
		return subject{}, fmt.Errorf("%q is no IP address", name)
	case strings.Contains(name, "/") && s.kind == "service":
		s.namespace, s.name, _ = strings.Cut(name, "/")
	}
	return s, nil
}

// explain gathers and explains.
func (o *options) explain(ctx context.Context, s subject, events int) (v1alpha1.Explanation, error) {
	f, c, err := o.gather(ctx, view.ExplainKinds)
	if err != nil {
		return v1alpha1.Explanation{}, err
	}
	if s.kind == "address" {
		e, err := f.ExplainAddress(s.address)
		if err == nil {
			e, err = o.withEvents(ctx, c, e, f.HolderOf(s.address), "Service", events)
		}
		return e, err
	}
	for _, kind := range []string{"service", "pool", "node", "peer"} {
		if s.kind != "" && s.kind != kind {
			continue
		}
		e, ref, objectKind, found := explainOne(f, kind, s)
		if found {
			return o.withEvents(ctx, c, e, ref, objectKind, events)
		}
	}
	return v1alpha1.Explanation{}, notFound(f, s)
}

// explainOne explains an object of a kind, with what its Events are found by.
func explainOne(
	f *view.Facts, kind string, s subject,
) (e v1alpha1.Explanation, ref v1alpha1.Ref, objectKind string, found bool) {
	switch kind {
	case "service":
		e, found = f.ExplainService(s.namespace, s.name)
		return e, v1alpha1.Ref{Kind: kind, Namespace: s.namespace, Name: s.name}, "Service", found
	case "pool":
		e, found = f.ExplainPool(s.name)
		objectKind = "IPAddressPool"
	case "node":
		e, found = f.ExplainNode(s.name)
		objectKind = "Speaker"
	default:
		e, found = f.ExplainPeer(s.name)
		objectKind = "BGPPeer"
	}
	return e, v1alpha1.Ref{Kind: strings.ToLower(objectKind), Name: s.name}, objectKind, found
}

// neededFor are the kinds without which it is not known whether an object exists.
var neededFor = map[string][]snapshot.Kind{
	"":        {snapshot.Services, snapshot.Pools, snapshot.Nodes, snapshot.Speakers, snapshot.BGPPeers},
	"service": {snapshot.Services},
	"pool":    {snapshot.Pools},
	"node":    {snapshot.Nodes, snapshot.Speakers},
	"peer":    {snapshot.BGPPeers},
}

// notFound returns the error for what is not there, or could not be read.
func notFound(f *view.Facts, s subject) error {
	what := cmp.Or(s.kind, "service, pool, node or peer")
	for _, k := range neededFor[s.kind] {
		if f.Has(k) {
			continue
		}
		for _, u := range f.Unread() {
			if u.Kind == k.Name {
				return fmt.Errorf("no %s %q among what could be read: %s: %s. %s", what, s.name,
					u.Kind, u.Reason, u.Message)
			}
		}
	}
	if s.kind == "service" {
		return fmt.Errorf("there is no Service %q in namespace %q", s.name, s.namespace)
	}
	return fmt.Errorf("there is no %s %q", what, s.name)
}

// withEvents completes an explanation by the last Events of an object.
func (o *options) withEvents(
	ctx context.Context, c *snapshot.Client, e v1alpha1.Explanation, ref v1alpha1.Ref, kind string, most int,
) (v1alpha1.Explanation, error) {
	if most <= 0 || ref.Name == "" {
		return e, nil
	}
	events, err := snapshot.EventsOf(ctx, c, ref, kind)
	if err != nil {
		e.Unread = append(e.Unread, snapshot.UnreadOf(snapshot.Events, err))
		return e, nil
	}
	view.AddEvents(&e, events, most)
	return e, nil
}

func (o *options) printExplanation(e v1alpha1.Explanation) error {
	var err error
	if o.output.Structured() {
		err = o.output.Object(o.streams.Out, e, []string{e.Subject})
	} else {
		err = output.Explanation(o.streams.Out, e, o.output.Style(o.streams.Out), o.now())
	}
	if err != nil {
		return err
	}
	return outcome(view.Wrong(e))
}
