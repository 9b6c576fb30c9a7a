package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/berth-lb/berth/internal/cli/output"
	"github.com/berth-lb/berth/internal/cli/snapshot"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/internal/cli/view"
)

// listing is a command that prints a list.
type listing struct {
	use, short, long, example string
	aliases                   []string
	kinds                     []snapshot.Kind
	// needs is the kind without which there is nothing to list.
	needs snapshot.Kind
	// namespaced is set if the list is of objects in namespaces.
	namespaced bool
	rows       func(f *view.Facts, want view.Filter, asked listFlags) (result, error)
}

// result is a list.
type result struct {
	object any
	meta   v1alpha1.ListMeta
	names  []string
	wrong  bool // a row has a problem
	// table returns the list as a table, at a time.
	table func(now time.Time) *metav1.Table
}

// listFlags are those of a list.
type listFlags struct {
	allNamespaces, problems, services, watch, watchOnly bool
	selector, pool, node, peer, address, service        string
}

var listings = []listing{
	{
		use:   "pools",
		short: "List the pools, and how full they are",
		long: "List the pools, a line for each family. SIZE counts all addresses, USED those assigned of " +
			"the " +
			"ones that can be.",
		example: "  # Who holds addresses of pool lan?\n  kubectl berth pools --pool lan --services",
		aliases: []string{"pool", "ipp"},
		kinds:   view.PoolKinds,
		needs:   snapshot.Pools,
		rows: func(f *view.Facts, want view.Filter, asked listFlags) (result, error) {
			list := f.PoolRows(want)
			out := result{object: list, meta: list.ListMeta}
			out.table = func(time.Time) *metav1.Table {
				if asked.services {
					return output.Holdings(list)
				}
				return output.Pools(list)
			}
			for _, r := range list.Items {
				out.add(v1alpha1.Ref{Kind: "ipaddresspool", Name: r.Name}, r.Problems)
			}
			return out, nil
		},
	},
	{
		use:   "services",
		short: "List the Services that Berth handles: addresses, pools, and who announces them",
		long: "List the Services that Berth handles, a line for each address. STATUS is Announcing " +
			"(layer 2) " +
			"or Announced (BGP), or why nobody announces the address, or why there is none.",
		example: "  # Which node answers for this address?\n  kubectl berth services -A --address " +
			"192.0.2.10\n\n" +
			"  # What is wrong, anywhere?\n  kubectl berth services -A --problems",
		aliases:    []string{"service", "svc"},
		kinds:      view.ServiceKinds,
		needs:      snapshot.Services,
		namespaced: true,
		rows: func(f *view.Facts, want view.Filter, asked listFlags) (result, error) {
			list := f.ServiceRows(want)
			out := result{object: list, meta: list.ListMeta}
			out.table = func(now time.Time) *metav1.Table {
				return output.Services(list, asked.allNamespaces, now)
			}
			for _, r := range list.Items {
				out.add(v1alpha1.Ref{Kind: "service", Namespace: r.Namespace, Name: r.Name}, r.Problems)
			}
			return out, nil
		},
	},
	{
		use:   "nodes",
		short: "List the nodes with their speakers: what they own, whom they miss, their sessions",
		long: "List the nodes with what their speakers say. OWNED is how many addresses the node answers " +
			"for, " +
			"+N those for which it stands in. MISSES is how many other speakers it does not hear.",
		aliases: []string{"node", "speakers"},
		kinds:   view.NodeKinds,
		needs:   snapshot.Speakers,
		rows: func(f *view.Facts, want view.Filter, _ listFlags) (result, error) {
			list := f.NodeRows(want)
			out := result{object: list, meta: list.ListMeta}
			out.table = func(time.Time) *metav1.Table { return output.Nodes(list) }
			for _, r := range list.Items {
				out.add(v1alpha1.Ref{Kind: "node", Name: r.Name}, r.Problems)
			}
			return out, nil
		},
	},
	{
		use:   "sessions",
		short: "List the sessions of nodes with routers, of BGP and of BFD",
		long: "List the sessions of nodes with routers. ADVERTISED is how many IPv4/IPv6 prefixes are " +
			"sent.",
		example: "  # Which sessions are not established, and why?\n  kubectl berth sessions --problems " +
			"-o wide",
		aliases: []string{"session", "bgp"},
		kinds:   view.SessionKinds,
		needs:   snapshot.Speakers,
		rows: func(f *view.Facts, want view.Filter, _ listFlags) (result, error) {
			list := f.SessionRows(want)
			out := result{object: list, meta: list.ListMeta}
			out.table = func(now time.Time) *metav1.Table { return output.Sessions(list, now) }
			for _, r := range list.Items {
				out.add(v1alpha1.Ref{Kind: "bgppeer", Name: r.Peer}, r.Problems)
			}
			return out, nil
		},
	},
	{
		use:   "routes",
		short: "List what each node tells each router, and which Service wants it",
		long: "List the routes that each node is to announce to each BGPPeer, with the Services that " +
			"want them. " +
			"They are computed by the code of the speakers. In a large cluster, name a node, peer, " +
			"Service or " +
			"address: there is a line for each node, peer and prefix.",
		example: "  # What do routers hear of this Service?\n  kubectl berth routes -n shop --service cart",
		aliases: []string{"route"},
		kinds:   view.RouteKinds,
		needs:   snapshot.Speakers,
		rows: func(f *view.Facts, want view.Filter, _ listFlags) (result, error) {
			list, err := f.RouteRows(want)
			if err != nil {
				return result{}, err
			}
			out := result{object: list, meta: list.ListMeta}
			out.table = func(time.Time) *metav1.Table { return output.Routes(list) }
			for _, r := range list.Items {
				out.add(v1alpha1.Ref{Kind: "bgppeer", Name: r.Peer}, r.Problems)
			}
			return out, nil
		},
	},
}

// add takes note of a row.
func (r *result) add(object v1alpha1.Ref, problems []v1alpha1.Problem) {
	r.names = append(r.names, object.Resource())
	r.wrong = r.wrong || len(problems) > 0
}

// listCommand returns the command of a list.
func (o *options) listCommand(l listing) *cobra.Command {
	var asked listFlags
	cmd := &cobra.Command{
		Use:               l.use,
		Aliases:           l.aliases,
		Short:             l.short,
		Long:              l.long + filterHelp,
		Example:           l.example,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			want, err := o.filter(l, asked)
			if err != nil {
				return err
			}
			if asked.watch || asked.watchOnly {
				return o.watchList(cmd.Context(), l, want, asked)
			}
			f, _, err := o.gather(cmd.Context(), l.kinds)
			if err != nil {
				return err
			}
			r, err := l.list(f, want, asked)
			if err != nil {
				return err
			}
			return o.printList(r, f.Taken)
		},
	}
	o.output.Add(cmd)
	asked.add(cmd, l)
	o.completeFilters(cmd)
	return cmd
}

// filterHelp is what the help of every list says.
const filterHelp = "\n\nEvery list takes the same filters, which select what has to do with that pool, " +
	"node, " +
	"peer, address or Service. The exit code is 1 if a line has a problem."

func (a *listFlags) add(cmd *cobra.Command, l listing) {
	flags := cmd.Flags()
	flags.BoolVarP(&a.allNamespaces, "all-namespaces", "A", false, "Take Services of all namespaces.")
	flags.StringVarP(&a.selector, "selector", "l", "", "Label selector of the objects listed; of routes and "+
		"sessions, of their BGPPeers.")
	flags.StringVar(&a.pool, "pool", "", "Only what has to do with this IPAddressPool.")
	flags.StringVar(&a.node, "node", "", "Only what has to do with this node.")
	flags.StringVar(&a.peer, "peer", "", "Only what has to do with this BGPPeer.")
	flags.StringVar(&a.address, "address", "", "Only what has to do with this address.")
	flags.StringVar(&a.service, "service", "", "Only what has to do with this Service: NAME or "+
		"NAMESPACE/NAME.")
	flags.BoolVar(&a.problems, "problems", false, "Only lines with problems.")
	flags.BoolVarP(&a.watch, "watch", "w", false, "List, then print what changes, until interrupted.")
	flags.BoolVar(&a.watchOnly, "watch-only", false, "Print what changes, without listing first.")
	if l.use == "pools" {
		flags.BoolVar(&a.services, "services", false, "List who holds addresses of each pool.")
	}
}

// filter returns what a list is to have.
func (o *options) filter(l listing, asked listFlags) (view.Filter, error) {
	want := view.Filter{
		Pool:     asked.pool,
		Node:     asked.node,
		Peer:     asked.peer,
		Service:  strings.TrimPrefix(strings.TrimPrefix(asked.service, "service/"), "svc/"),
		Problems: asked.problems,
	}
	var errs []error
	if asked.address != "" {
		addr, err := netip.ParseAddr(asked.address)
		if err != nil {
			errs = append(errs, fmt.Errorf("--address: %q is no IP address", asked.address))
		}
		want.Address = addr.Unmap()
	}
	if asked.selector != "" {
		selector, err := labels.Parse(asked.selector)
		if err != nil {
			errs = append(errs, fmt.Errorf("--selector: %w", err))
		}
		want.Labels = selector
	}
	named := *o.config.Namespace != ""
	whole := strings.Contains(want.Service, "/")
	if !asked.allNamespaces && !whole && (l.namespaced || named || want.Service != "") {
		want.Namespace = o.namespace()
	}
	return want, errors.Join(errs...)
}

// list returns the rows of a list, or an error if nothing of it could be read.
func (l listing) list(f *view.Facts, want view.Filter, asked listFlags) (result, error) {
	if !f.HasSome(l.needs) {
		for _, u := range f.Unread() {
			if u.Kind == l.needs.Name {
				return result{}, fmt.Errorf("%s could not be read (%s): %s", u.Kind, u.Reason, u.Message)
			}
		}
	}
	return l.rows(f, want, asked)
}

// printList prints a list, and on stderr what is missing in it.
func (o *options) printList(r result, now time.Time) error {
	if o.output.Structured() {
		if err := o.output.Object(o.streams.Out, r.object, r.names); err != nil {
			return err
		}
		return outcome(r.wrong)
	}
	if t := r.table(now); len(t.Rows) > 0 {
		if err := o.output.Table(o.streams.Out, t); err != nil {
			return err
		}
	} else {
		_, _ = fmt.Fprintln(o.streams.ErrOut, "No resources found.")
	}
	for _, remark := range r.meta.Remarks {
		_, _ = fmt.Fprintln(o.streams.ErrOut, remark)
	}
	if err := output.Unread(o.streams.ErrOut, r.meta.Unread, o.stderrStyle()); err != nil {
		return err
	}
	return outcome(r.wrong)
}

// gatherChanges is how long changes are gathered before a list is made anew.
const gatherChanges = 500 * time.Millisecond

// watchList prints a list, then the lines that change, until ctx ends.
func (o *options) watchList(ctx context.Context, l listing, want view.Filter, asked listFlags) error {
	c, err := o.client()
	if err != nil {
		return err
	}
	request := o.request(l.kinds)
	first, err := snapshot.Gather(ctx, c, request) // so that what may not be read is known
	if err != nil {
		return err
	}
	readable, narrow := readableOf(first, l.kinds)
	request.Kinds = readable
	changed := make(chan struct{}, 1)
	follower := snapshot.Follow(ctx, c, request, narrow, func(snapshot.Change) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	if !follower.Wait(ctx) {
		return nil
	}
	printed := map[string]bool{}
	for round := 0; ; round++ {
		now := o.now()
		s := follower.Snapshot(now)
		s.Inherit(first)
		f, err := view.Of(s)
		if err != nil {
			return err
		}
		r, err := l.list(f, want, asked)
		if err != nil {
			return err
		}
		if err := o.printChanged(r, printed, first.Taken, now, round == 0, asked.watchOnly); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(gatherChanges):
		}
	}
}

// readableOf returns the kinds of which objects could be read, and the names of those of
// which only one namespace could be.
func readableOf(s *snapshot.Snapshot, kinds []snapshot.Kind) ([]snapshot.Kind, map[string]bool) {
	var readable []snapshot.Kind
	narrow := map[string]bool{}
	for _, k := range kinds {
		if s.HasSome(k) {
			readable = append(readable, k)
			narrow[k.Name] = !s.Has(k)
		}
	}
	return readable, narrow
}

// printChanged prints the lines of a list that were not printed before. Times in them are
// told as of a fixed moment when they are compared: a second that passes is no change.
func (o *options) printChanged(
	r result, printed map[string]bool, fixed, now time.Time, first, silent bool,
) error {
	compared, shown := r.table(fixed), r.table(now)
	known := len(printed)
	rows := shown.Rows
	shown.Rows = nil
	present := map[string]bool{}
	for i, row := range compared.Rows {
		key := fmt.Sprint(row.Cells...)
		present[key] = true
		if !printed[key] {
			shown.Rows = append(shown.Rows, rows[i])
		}
	}
	clear(printed)
	for key := range present {
		printed[key] = true
	}
	switch {
	case first && silent:
		return nil
	case o.output.Structured():
		if len(shown.Rows) == 0 && len(present) == known {
			return nil
		}
		return o.output.Object(o.streams.Out, r.object, r.names)
	case len(shown.Rows) == 0:
		return nil
	}
	return o.output.TableRows(o.streams.Out, shown, !first)
}

// kindNames are the words for kinds that explain takes, with the kind of each.
var kindNames = func() map[string]string {
	out := map[string]string{}
	for kind, words := range map[string][]string{
		"service": {"service", "services", "svc"},
		"pool":    {"pool", "pools", "ipaddresspool", "ipaddresspools", "ipp", "ipaddresspool.berth.io"},
		"node":    {"node", "nodes", "no", "speaker", "speakers", "spk", "speaker.berth.io"},
		"peer":    {"peer", "peers", "bgppeer", "bgppeers", "bgppeer.berth.io"},
		"address": {"address", "ip"},
	} {
		for _, word := range words {
			out[word] = kind
		}
	}
	return out
}()

// explainable are the kinds that explain takes, as its help names them.
var explainable = []string{"node", "peer", "pool", "service"}
