package dashboard

import (
	"fmt"
	"io"
	"slices"

	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/internal/cli/view"
)

// How much a file has: it is to be attached to a ticket.
const (
	mostExplained = 300 // Services
	mostOthers    = 60  // nodes, pools and peers, each
	mostWhatIfs   = 30
	mostOverlays  = 8
)

// Snapshot writes Facts as one file that needs no other: the overview, what if each node died,
// and explanations. What is left out is said.
func Snapshot(w io.Writer, f *view.Facts, context string) error {
	refs := explainedIn(f)
	ids := make(map[v1alpha1.Ref]string, len(refs))
	for i, r := range refs {
		ids[r] = fmt.Sprintf("e%d", i)
	}
	links := Links{
		Explain: func(r v1alpha1.Ref) string {
			if id := ids[r]; id != "" {
				return "#" + id
			}
			return ""
		},
	}
	p := page{
		Title:    "Berth",
		Head:     fileHead(),
		Taken:    f.Taken,
		Unread:   f.Unread(),
		Links:    links,
		Overview: newOverview(f, context, "", links),
	}
	now := f.Diagram()
	for i, node := range p.Overview.Nodes {
		if i == mostWhatIfs {
			break
		}
		one := whatIf{WhatIf: f.Without(node)}
		one.Table = whatIfTable(one.WhatIf, links)
		if i < mostOverlays {
			d := newDiagram(fmt.Sprintf("without%d", i), "If "+node+" died", now.Overlay(one.WhatIf), links)
			one.Diagram = &d
		}
		p.Overview.WhatIf = append(p.Overview.WhatIf, one)
	}
	for _, r := range refs {
		if e, found := newExplanation(f, r, ids[r], links); found {
			p.Explain = append(p.Explain, e)
		}
	}
	return render(w, p)
}

// explainedIn returns what a file explains: Services, those with problems first, and the
// first nodes, pools and peers.
func explainedIn(f *view.Facts) []v1alpha1.Ref {
	services := f.ServiceRows(view.Filter{}).Items
	slices.SortStableFunc(services, func(a, b v1alpha1.Service) int {
		return min(1, len(b.Problems)) - min(1, len(a.Problems))
	})
	var out []v1alpha1.Ref
	for _, s := range services[:min(mostExplained, len(services))] {
		out = append(out, v1alpha1.Ref{Kind: "service", Namespace: s.Namespace, Name: s.Name})
	}
	d := f.Diagram()
	names := map[string][]string{"node": f.NodeNames()}
	for i := range f.Pools {
		names["pool"] = append(names["pool"], f.Pools[i].Name)
	}
	for _, s := range d.Routers.Spots {
		names["peer"] = append(names["peer"], s.Name)
	}
	for _, kind := range []string{"node", "pool", "peer"} {
		slices.Sort(names[kind])
		for _, name := range names[kind][:min(mostOthers, len(names[kind]))] {
			out = append(out, v1alpha1.Ref{Kind: kind, Name: name})
		}
	}
	return out
}

// LeftOut says of a file how many Services and what-ifs it has not.
func (p page) LeftOut() []string {
	if p.Served || p.Overview == nil {
		return nil
	}
	var out []string
	if s := p.Overview.Status.Services; s != nil && s.Total > mostExplained {
		out = append(out, fmt.Sprintf("%d more Services are not explained in this file: those with problems "+
			"come first.", s.Total-mostExplained))
	}
	if n := len(p.Overview.Nodes) - mostWhatIfs; n > 0 {
		out = append(out, fmt.Sprintf("What if one of %d more nodes died is not in this file.", n))
	}
	return out
}
