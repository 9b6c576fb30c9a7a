package output

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// text is what is printed at once, when it is whole.
type text struct{ bytes.Buffer }

// print writes the text.
func (t *text) print(w io.Writer) error {
	_, err := w.Write(t.Bytes())
	return err
}

// addf adds what is formatted.
func (t *text) addf(format string, args ...any) { fmt.Fprintf(&t.Buffer, format, args...) }

// lines adds lines whose parts are parted by tabs, aligned.
func (t *text) lines(indent string, rows [][]string) {
	aligned := tabwriter.NewWriter(t, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(aligned, indent+strings.TrimRight(strings.Join(row, "\t"), "\t"))
	}
	_ = aligned.Flush() // a buffer takes everything
}

// mostProblems is how many problems a screen has.
const mostProblems = 20

// Status writes the state of Berth on one screen.
func Status(w io.Writer, s v1alpha1.Status, style Style, now time.Time) error {
	var t text
	t.addf("%s  namespace %s", style.Head("Berth: "+s.Verdict), s.Namespace)
	if s.Context != "" {
		t.addf(", context %s", s.Context)
	}
	t.addf("\n")
	t.lines("", StatusLines(s, now))
	t.unread(s.Unread, style)
	t.problems(s.Problems, style)
	return t.print(w)
}

// StatusLines returns a line for each part of Berth.
func StatusLines(s v1alpha1.Status, now time.Time) [][]string {
	const notRead = "could not be read"
	controller, speakers, services := notRead, notRead, notRead
	if c := s.Controller; c != nil {
		controller = tellController(c, now)
	}
	if p := s.Speakers; p != nil {
		speakers = tellSpeakers(p)
	}
	if n := s.Services; n != nil {
		services = tellServices(n)
	}
	rows := [][]string{{"Controller", controller}, {"Speakers", speakers}}
	if len(s.Pools) > 0 {
		rows = append(rows, []string{"Pools", tellPools(s.Pools)})
	}
	if l := s.Layer2; l != nil {
		rows = append(rows, []string{"Layer 2", fmt.Sprintf("%s on %s, %s", counted(l.Addresses, "address"),
			counted(l.Nodes, "node"), counted(l.Conflicts, "conflict"))})
	}
	if b := s.BGP; b != nil {
		rows = append(rows, []string{"BGP", fmt.Sprintf("%d of %d sessions established", b.Up, b.Sessions)})
	}
	if b := s.BFD; b != nil {
		rows = append(rows, []string{"BFD", fmt.Sprintf("%d of %d sessions up", b.Up, b.Sessions)})
	}
	return append(rows, []string{"Services", services})
}

func tellServices(n *v1alpha1.ServicesState) string {
	text := fmt.Sprintf("%d, of which %d have all addresses and %d are announced",
		n.Total, n.Assigned, n.Announced)
	if n.Unknown > 0 {
		text += fmt.Sprintf("; of %d that is not known", n.Unknown)
	}
	if n.Namespace != "" {
		text += "; only those of namespace " + n.Namespace + " could be read"
	}
	return text
}

// counted returns a number of things.
func counted(n int, thing string) string {
	switch {
	case n == 1:
		return "1 " + thing
	case strings.HasSuffix(thing, "s"):
		return fmt.Sprintf("%d %ses", n, thing)
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func tellController(c *v1alpha1.ControllerState, now time.Time) string {
	var parts []string
	if c.Ready != nil && c.Replicas != nil {
		parts = append(parts, fmt.Sprintf("%d of %d ready", *c.Ready, *c.Replicas))
	}
	if c.Leader != "" {
		text := c.Leader + " leads"
		if !c.Since.IsZero() {
			text += " since " + ago(c.Since, now)
		}
		parts = append(parts, text)
	}
	return cmp.Or(strings.Join(parts, ", "), "there is none")
}

func tellSpeakers(p *v1alpha1.SpeakersState) string {
	of := p.Known
	if p.Wanted != nil {
		of = int(*p.Wanted)
	}
	text := fmt.Sprintf("%d of %d ready", p.Ready, of)
	var versions []string
	for _, v := range p.Versions {
		version := cmp.Or(v.Version, "unknown")
		if len(p.Versions) > 1 {
			version += fmt.Sprintf(" (%d)", v.Count)
		}
		versions = append(versions, version)
	}
	if len(versions) > 0 {
		text += ", version " + strings.Join(versions, ", ")
	}
	if len(p.Absent) > 0 {
		text += "; the others miss " + few(p.Absent)
	}
	return text
}

// mostPools is how many pools a screen names.
const mostPools = 8

func tellPools(pools []v1alpha1.PoolUse) string {
	var out []string
	for i, p := range pools {
		if i == mostPools {
			out = append(out, fmt.Sprintf("and %d more", len(pools)-i))
			break
		}
		text := p.Name
		for _, f := range []struct {
			name string
			size *v1alpha1.PoolSize
		}{{"IPv4", p.IPv4}, {"IPv6", p.IPv6}} {
			if f.size == nil {
				continue
			}
			text += fmt.Sprintf(" %d/%d %s", f.size.Assigned, f.size.Size-f.size.Excluded, f.name)
			if f.size.Free == 0 {
				text += " FULL"
			}
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// problems adds problems, each with the next command to type.
func (t *text) problems(list []v1alpha1.Problem, style Style) {
	if len(list) == 0 {
		return
	}
	t.addf("\n%s\n", style.Head("PROBLEMS"))
	for i, p := range list {
		if i == mostProblems {
			t.addf("and %d more: -o yaml lists all\n", len(list)-i)
			break
		}
		t.addf("%s %s: %s. %s\n", style.Severity(p.Severity), p.Object, p.Reason, p.Message)
		if p.Command != "" {
			t.addf("    %s\n", p.Command)
		}
	}
}

// Unread writes which kinds could not be read.
func Unread(w io.Writer, list []v1alpha1.Unread, style Style) error {
	var t text
	t.unread(list, style)
	return t.print(w)
}

// unread adds which kinds could not be read.
func (t *text) unread(list []v1alpha1.Unread, style Style) {
	if len(list) == 0 {
		return
	}
	t.addf("\n%s\n", style.Head("NOT READ"))
	for _, u := range list {
		only := ""
		if u.Namespace != "" {
			only = " but those of namespace " + u.Namespace
		}
		t.addf("%s %s%s: %s. %s\n",
			style.State(v1alpha1.StepUnknown), u.Kind, only, u.Reason, u.Message)
	}
}

// Explanation writes an explanation, step by step.
func Explanation(w io.Writer, e v1alpha1.Explanation, style Style, now time.Time) error {
	var t text
	t.addf("%s\n%s\n", style.Head(e.Subject), e.Summary)
	for i, s := range e.Steps {
		reason := ""
		if s.Reason != "" {
			reason = s.Reason + ": "
		}
		t.addf("%s %d %s: %s%s\n", style.State(s.State), i+1, s.Title, reason, s.Text)
		var rows [][]string
		for _, d := range s.Details {
			why := d.Text
			if d.Reason != "" {
				why = strings.TrimSuffix(d.Reason+": "+d.Text, ": ")
			}
			rows = append(rows, []string{style.State(d.State) + " " + d.Subject, why})
		}
		t.lines("    ", rows)
	}
	if len(e.Events) > 0 {
		t.addf("%s\n", style.Head("Last Events"))
		var rows [][]string
		for _, ev := range e.Events {
			rows = append(rows, []string{ago(ev.Time, now), ev.Type, ev.Reason, ev.Message})
		}
		t.lines("    ", rows)
	}
	t.unread(e.Unread, style)
	return t.print(w)
}

// Change writes one line of the stream of decisions.
func Change(w io.Writer, c v1alpha1.Change) error {
	_, err := fmt.Fprintf(w, "%s  %-28s  %-18s  %s\n",
		c.Time.Format(time.TimeOnly), c.Object, c.Reason, c.Message)
	return err
}

// Version writes which versions run.
func Version(w io.Writer, v v1alpha1.Version, style Style) error {
	rows := [][]string{
		{"kubectl berth", v.Client},
		{"Kubernetes", cmp.Or(v.Kubernetes, "unknown")},
		{"Controller", cmp.Or(v.Controller, "unknown")},
	}
	for _, s := range v.Speakers {
		where := fmt.Sprintf("%s on %s", cmp.Or(s.Version, "unknown"), counted(s.Count, "node"))
		rows = append(rows, []string{"Speakers", where})
	}
	var t text
	t.lines("", rows)
	t.unread(v.Unread, style)
	return t.print(w)
}
