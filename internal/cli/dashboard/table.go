package dashboard

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/internal/cli/v1alpha1"
	"github.com/berth-lb/berth/internal/cli/view"
)

// table is what a drawing shows, as text.
type table struct {
	Caption string
	Columns []string
	Rows    [][]entry
	// More is how many rows there are besides, Where says where to find them.
	More  int
	Where string
}

// entry is one place of a table.
type entry struct {
	Text, Href string
	Class      string // of a state, "" for none
}

func plain(texts ...string) []entry {
	out := make([]entry, 0, len(texts))
	for _, t := range texts {
		out = append(out, entry{Text: cmp.Or(t, "–")})
	}
	return out
}

// marked returns an entry with the sign of a state.
func marked(s v1alpha1.StepState, text string) entry {
	return entry{Text: signOf(s) + " " + text, Class: classOf(s)}
}

// fromTable takes over a table as the commands print it, with its messages, but not what else
// only wide tables have. link says what the cell of a row in a column leads to, "" for nothing.
func fromTable(caption string, t *metav1.Table, link func(column string, row []any) string) table {
	out := table{Caption: caption}
	var keep []int
	for i, c := range t.ColumnDefinitions {
		if c.Priority == 0 || c.Name == "MESSAGE" || c.Name == "PROBLEM" || c.Name == "RANGES" {
			keep = append(keep, i)
			out.Columns = append(out.Columns, title(c.Name))
		}
	}
	for _, r := range t.Rows {
		var row []entry
		for _, i := range keep {
			text := fmt.Sprint(r.Cells[i])
			if text == "<none>" {
				text = "–"
			}
			row = append(row, entry{Text: text, Href: link(t.ColumnDefinitions[i].Name, r.Cells)})
		}
		out.Rows = append(out.Rows, row)
	}
	return out
}

// title writes a head of the terminal's tables as pages do.
func title(head string) string {
	if len(head) <= 3 { // BGP, BFD
		return head
	}
	return head[:1] + strings.ToLower(head[1:])
}

// addressTable says what the addresses of a diagram say.
func addressTable(d view.Diagram, links Links) table {
	out := table{
		Caption: "Addresses, and the nodes that announce them",
		Columns: []string{"Address", "Service", "State", "Announced by"},
		More:    d.Addresses.More,
	}
	by := make([][]string, len(d.Addresses.Spots))
	words := map[view.LineKind]string{
		view.LineOwner:   "%s (owner)",
		view.LineStandIn: "%s (stands in)",
		view.LineBGP:     "%s (BGP)",
		view.LineNext:    "%s (would take over)",
	}
	for _, l := range d.Announcements {
		text := fmt.Sprintf(words[l.Kind], d.Nodes.Spots[l.From].Name)
		if l.Lost {
			text = "no longer " + text
		}
		by[l.To] = append(by[l.To], text)
	}
	for i, s := range d.Addresses.Spots {
		row := []entry{
			{Text: s.Name, Href: links.Explain(s.Ref)},
			{Text: s.Note},
			marked(s.State, strings.TrimSuffix(strings.Join([]string{s.Reason, s.Text}, ": "), ": ")),
		}
		out.Rows = append(out.Rows, append(row, plain(strings.Join(by[i], ", "))...))
	}
	return out
}

// sessionTable says what the sessions of a diagram say.
func sessionTable(d view.Diagram, links Links) table {
	out := table{
		Caption: "Sessions of routers and nodes",
		Columns: []string{"Router", "Node", "State"},
	}
	for _, l := range d.Sessions {
		from, to := d.Routers.Spots[l.From], d.Nodes.Spots[l.To]
		text := l.Text
		if l.Lost {
			text += "; would end"
		}
		out.Rows = append(out.Rows, []entry{
			{Text: from.Name, Href: links.Explain(from.Ref)},
			{Text: to.Name, Href: links.Explain(to.Ref)},
			marked(l.State, text),
		})
	}
	return out
}

// cellTable says what a strip says: addresses that follow one another and say the same are
// one row.
func cellTable(s view.Strip, links Links) table {
	out := table{
		Caption: "Addresses of pool " + s.Name,
		Columns: []string{"Addresses", "State", "Why"},
	}
	for from := 0; from < len(s.Cells); {
		to := from
		for to+1 < len(s.Cells) && s.Cells[to].Address.Next() == s.Cells[to+1].Address &&
			s.Cells[to+1].State == s.Cells[from].State && s.Cells[to+1].Text == s.Cells[from].Text {
			to++
		}
		c := s.Cells[from]
		name := c.Address.String()
		if to > from {
			name += "–" + s.Cells[to].Address.String()
		}
		row := []entry{{Text: name}, {Text: stateWords[c.State]}, {Text: c.Text}}
		if to == from {
			row[0].Href = links.Explain(v1alpha1.Ref{Kind: "address", Name: name})
		}
		if len(c.Holders) > 0 {
			namespace, service, _ := strings.Cut(c.Holders[0], "/")
			row[2].Href = links.Explain(v1alpha1.Ref{Kind: "service", Namespace: namespace, Name: service})
		}
		out.Rows = append(out.Rows, row)
		from = to + 1
	}
	return out
}

// stateWords are the words for the states of cells.
var stateWords = map[view.CellState]string{
	view.CellHeld:     "held",
	view.CellFree:     "free",
	view.CellResting:  "free or resting",
	view.CellExcluded: "excluded",
	view.CellUnknown:  "not known",
}

// moveTable says what a time line says.
func moveTable(m view.Moves, now time.Time) table {
	out := table{
		Caption: "Moves, the newest first",
		Columns: []string{"Time", "Ago", "Node", "Object", "Reason", "Message", "Told by"},
		More:    m.More,
	}
	for _, move := range m.List {
		at := move.Time.UTC().Format(time.DateTime)
		out.Rows = append(out.Rows, plain(at, view.Ago(move.Time.Time, now), cmp.Or(move.Node, "controller"),
			move.Object, move.Reason, move.Message, move.From))
	}
	return out
}

// whatIfTable says what would be if a node died.
func whatIfTable(w view.WhatIf, links Links) table {
	out := table{
		Caption: "If " + w.Node + " died",
		Columns: []string{"Address", "Services", "Then"},
		More:    w.More,
	}
	for _, c := range w.Addresses {
		text := c.Text
		if c.Reason != "" {
			text = c.Reason + ": " + text
		}
		out.Rows = append(out.Rows, []entry{
			{Text: c.Address, Href: links.Explain(v1alpha1.Ref{Kind: "address", Name: c.Address})},
			{Text: strings.Join(c.Services, ", ")},
			marked(c.State, text),
		})
	}
	return out
}

// problemTable lists problems, with the next command to type.
func problemTable(problems []v1alpha1.Problem, most int, links Links) table {
	out := table{
		Caption: "Problems",
		Columns: []string{"Severity", "Object", "Reason", "Message", "Next command"},
		More:    max(0, len(problems)-most),
	}
	states := map[v1alpha1.Severity]v1alpha1.StepState{
		v1alpha1.Error:   v1alpha1.StepProblem,
		v1alpha1.Warning: v1alpha1.StepUnknown,
	}
	for _, p := range problems[:min(most, len(problems))] {
		severity := entry{Text: string(p.Severity), Class: classOf(states[p.Severity])}
		row := []entry{severity, {Text: p.Object.String(), Href: links.Explain(explained(p.Object))}}
		row = append(row, plain(p.Reason, p.Message)...)
		out.Rows = append(out.Rows, append(row, entry{Text: p.Command, Class: "code"}))
	}
	return out
}

// explained returns what is explained for an object, by the words of explain.
func explained(r v1alpha1.Ref) v1alpha1.Ref {
	kinds := map[string]string{"ipaddresspool": "pool", "speaker": "node", "bgppeer": "peer"}
	r.Kind = cmp.Or(kinds[r.Kind], r.Kind)
	return r
}

// wants reports whether a Service has a text in its name or in one of its addresses.
func wants(s v1alpha1.Service, text string) bool {
	if text == "" || strings.Contains(s.Namespace+"/"+s.Name, text) {
		return true
	}
	addr, err := netip.ParseAddr(text)
	return slices.ContainsFunc(s.Addresses, func(a v1alpha1.ServiceAddress) bool {
		return strings.Contains(a.Address, text) || err == nil && a.Address == addr.String()
	})
}

// part returns one part of a list, of so many at once, and how many parts there are. Numbers
// begin at 1; one that there is not is the nearest that there is.
func part[T any](list []T, number, size int) (one []T, at, parts int) {
	parts = max(1, (len(list)+size-1)/size)
	at = min(max(1, number), parts)
	from := (at - 1) * size
	return list[from:min(from+size, len(list))], at, parts
}
