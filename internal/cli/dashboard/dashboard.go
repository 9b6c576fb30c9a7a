// Package dashboard shows Facts as pages: HTML with drawings in SVG, made of values of package
// view. A Server shows them to one user of this machine, and Snapshot writes them as a file.
// There is no script in them, and they ask nobody else for anything.
package dashboard

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"net/url"
	"time"

	"github.com/berth-lb/berth/internal/cli/output"
	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/internal/cli/view"
)

//go:embed style.css
var style string

//go:embed page.html
var pageText string

var templates = template.Must(template.New("").Parse(pageText))

// How much one page has.
const (
	mostProblems = 50
	mostStrips   = 16
	mostMoves    = 200
	rowsOfPage   = 200
	mostEvents   = 20
)

// Links say where a page leads to.
type Links struct {
	// Explain returns where an object is explained, "" for nowhere.
	Explain func(v1alpha1.Ref) string
	// Services and Nodes are where all of them are listed, "" for nowhere.
	Services, Nodes string
}

// paths are the Links of a Server.
var paths = Links{
	Explain: func(r v1alpha1.Ref) string {
		switch r.Kind {
		case "service", "pool", "node", "peer", "address":
		default:
			return ""
		}
		query := url.Values{"kind": {r.Kind}, "name": {r.Name}}
		if r.Namespace != "" {
			query.Set("namespace", r.Namespace)
		}
		return "/explain?" + query.Encode()
	},
	Services: "/services",
	Nodes:    "/nodes",
}

// page is what a template shows.
type page struct {
	Title  string
	Head   template.HTML // of a file: its style
	Served bool          // by a Server
	Notice string        // what is wrong with the whole page
	Taken  time.Time
	Unread []v1alpha1.Unread
	Links  Links

	Overview *overview
	List     *list
	Explain  []explanation
	Message  string
}

// overview is the first page.
type overview struct {
	Status   v1alpha1.Status
	Lines    [][]string
	Problems table
	Diagram  diagram
	Nodes    []string // that can be asked for
	WhatIf   []whatIf
	Strips   []strip
	NoStrip  view.Strips // what is not among them
	Pools    table
	Moves    view.Moves
	MoveLine drawing
	MoveRows table
}

// diagram is a drawing with the tables behind it.
type diagram struct {
	Drawing   drawing
	Unknown   []string
	Sessions  table
	Addresses table
}

type whatIf struct {
	view.WhatIf
	Diagram *diagram // nil where a table must do
	Table   table
}

type strip struct {
	view.Strip
	Families []family
	Drawing  drawing
	Table    *table
	Href     string
}

// list is a table of which one part is shown.
type list struct {
	Head            string
	Table           table
	Query           string
	Problems        bool
	Filters         bool
	Total           int
	Previous, Next  string
	Number, Numbers int
	Remarks         []string
}

// explanation is an explanation with a place in the page.
type explanation struct {
	v1alpha1.Explanation
	ID    string
	State v1alpha1.StepState
	Strip *strip
	When  time.Time
}

// newOverview gathers the first page from Facts. without is a node that is thought dead, ""
// for none.
func newOverview(f *view.Facts, context, without string, links Links) *overview {
	out := &overview{Status: f.Status(context), Nodes: f.NodeNames()}
	out.Lines = output.StatusLines(out.Status, f.Taken)
	out.Problems = problemTable(out.Status.Problems, mostProblems, links)
	out.Problems.Where = "kubectl berth status -o yaml"
	now := f.Diagram()
	if without != "" {
		w := f.Without(without)
		title := "Routers, nodes and addresses if " + without + " died"
		out.Diagram = newDiagram("diagram", title, now.Overlay(w), links)
		out.WhatIf = []whatIf{{WhatIf: w, Table: whatIfTable(w, links)}}
	} else {
		out.Diagram = newDiagram("diagram", "Routers, nodes and addresses", now, links)
	}
	out.NoStrip = f.Strips(mostStrips)
	for i, s := range out.NoStrip.List {
		out.Strips = append(out.Strips, newStrip(fmt.Sprintf("pool%d", i), s, links))
	}
	out.Pools = fromTable("Pools", output.Pools(f.PoolRows(view.Filter{})), linkOf(links, "pool"))
	out.Moves = f.Moves(mostMoves)
	out.MoveLine = drawMoves("moves", out.Moves, f.Taken)
	out.MoveRows = moveTable(out.Moves, f.Taken)
	return out
}

func newDiagram(id, title string, d view.Diagram, links Links) diagram {
	return diagram{
		Drawing:   drawDiagram(id, title, d, links),
		Unknown:   d.Unknown,
		Sessions:  sessionTable(d, links),
		Addresses: addressTable(d, links),
	}
}

func newStrip(id string, s view.Strip, links Links) strip {
	out := strip{
		Strip:    s,
		Families: families(s.PoolUse),
		Drawing:  drawStrip(id, s, links),
		Href:     links.Explain(v1alpha1.Ref{Kind: "pool", Name: s.Name}),
	}
	if len(s.Cells) > 0 {
		t := cellTable(s, links)
		out.Table = &t
	}
	return out
}

// linkOf returns what the names in a table of objects without a namespace lead to.
func linkOf(links Links, kind string) func(column string, row []any) string {
	return func(column string, row []any) string {
		if column != "NAME" {
			return ""
		}
		return links.Explain(v1alpha1.Ref{Kind: kind, Name: fmt.Sprint(row[0])})
	}
}

// linkOfService returns what names and addresses in a table of Services lead to.
func linkOfService(links Links) func(column string, row []any) string {
	return func(column string, row []any) string {
		switch column {
		case "NAME":
			return links.Explain(v1alpha1.Ref{
				Kind:      "service",
				Namespace: fmt.Sprint(row[0]),
				Name:      fmt.Sprint(row[1]),
			})
		case "ADDRESS":
			if address := fmt.Sprint(row[2]); address != "<none>" {
				return links.Explain(v1alpha1.Ref{Kind: "address", Name: address})
			}
		}
		return ""
	}
}

// query is what a list is asked for.
type query struct {
	text     string
	problems bool
	number   int // of the part
}

func (q query) path(base string, number int) string {
	values := url.Values{"page": {fmt.Sprint(number)}}
	if q.text != "" {
		values.Set("q", q.text)
	}
	if q.problems {
		values.Set("problems", "yes")
	}
	return base + "?" + values.Encode()
}

// serviceList returns one part of the Services.
func serviceList(f *view.Facts, q query, links Links) *list {
	rows := f.ServiceRows(view.Filter{Problems: q.problems})
	var kept []v1alpha1.Service
	for _, s := range rows.Items {
		if wants(s, q.text) {
			kept = append(kept, s)
		}
	}
	out := &list{Head: "Services", Query: q.text, Problems: q.problems, Filters: true, Remarks: rows.Remarks}
	rows.Items = out.part(q, links.Services, kept)
	out.Table = fromTable("Services", output.Services(rows, true, f.Taken), linkOfService(links))
	out.Table.More = out.Total - (out.Number-1)*rowsOfPage - len(rows.Items)
	return out
}

// nodeList returns one part of the nodes.
func nodeList(f *view.Facts, q query, links Links) *list {
	rows := f.NodeRows(view.Filter{Problems: q.problems})
	out := &list{Head: "Nodes", Problems: q.problems, Remarks: rows.Remarks}
	out.Total = len(rows.Items)
	rows.Items, out.Number, out.Numbers = part(rows.Items, q.number, rowsOfPage)
	out.steps(q, links.Nodes)
	out.Table = fromTable("Nodes", output.Nodes(rows), linkOf(links, "node"))
	out.Table.More = out.Total - (out.Number-1)*rowsOfPage - len(rows.Items)
	return out
}

// part takes one part of the Services.
func (l *list) part(q query, base string, all []v1alpha1.Service) []v1alpha1.Service {
	l.Total = len(all)
	all, l.Number, l.Numbers = part(all, q.number, rowsOfPage)
	l.steps(q, base)
	return all
}

// steps fills in where the parts before and after are.
func (l *list) steps(q query, base string) {
	if l.Number > 1 {
		l.Previous = q.path(base, l.Number-1)
	}
	if l.Number < l.Numbers {
		l.Next = q.path(base, l.Number+1)
	}
}

// newExplanation explains an object; ok is false if there is none.
func newExplanation(f *view.Facts, r v1alpha1.Ref, id string, links Links) (out explanation, ok bool) {
	e, ok := f.Explained(r, mostEvents)
	if !ok {
		return out, false
	}
	out = explanation{Explanation: e, ID: id, State: v1alpha1.StepOK, When: f.Taken}
	for _, s := range e.Steps {
		unknown := s.State == v1alpha1.StepUnknown && out.State == v1alpha1.StepOK
		if s.State == v1alpha1.StepProblem || unknown {
			out.State = s.State
		}
	}
	if r.Kind == "pool" {
		if s, found := f.StripOf(r.Name); found {
			shown := newStrip("strip-"+id, s, links)
			out.Strip = &shown
		}
	}
	return out, true
}

// render writes a page.
func render(w io.Writer, p page) error {
	if err := templates.ExecuteTemplate(w, "page", p); err != nil {
		return fmt.Errorf("write page %s: %w", p.Title, err)
	}
	return nil
}

// filePolicy is the content security policy of a file: its own style, and nothing else.
func filePolicy() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-" +
		base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// fileHead is the head of a file, which has its style with it.
func fileHead() template.HTML {
	// Both parts are of the program itself.
	return template.HTML(`<meta http-equiv="Content-Security-Policy" content="` + filePolicy() + `" />` +
		"\n<style>" + style + "</style>")
}
