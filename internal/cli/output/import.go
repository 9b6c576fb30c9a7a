package output

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/berth-lb/berth/internal/cli/v1alpha1"
)

// commentWidth is how wide comments in manifests are.
const commentWidth = 100

// Manifests writes manifests as YAML documents. about returns what there is to say of each,
// which is written as a comment before it.
func Manifests(w io.Writer, manifests []map[string]any, about func(map[string]any) []string) error {
	var t text
	for _, m := range manifests {
		raw, err := yaml.Marshal(m)
		if err != nil {
			return fmt.Errorf("write a manifest: %w", err)
		}
		t.addf("---\n")
		for _, line := range about(m) {
			for _, part := range wrapped(line, commentWidth) {
				t.addf("# %s\n", part)
			}
		}
		t.Write(raw)
	}
	return t.print(w)
}

// wrapped returns the words of a text in lines of at most some width; what follows the first
// is indented.
func wrapped(text string, width int) []string {
	var out []string
	var line bytes.Buffer
	for _, word := range strings.Fields(text) {
		if line.Len() > 0 && line.Len()+1+len(word) > width {
			out = append(out, line.String())
			line.Reset()
			line.WriteString(" ")
		}
		if line.Len() > 0 {
			line.WriteString(" ")
		}
		line.WriteString(word)
	}
	if line.Len() > 0 {
		out = append(out, line.String())
	}
	return out
}

// mostObjects is how many objects a remark names, mostCommands how many commands it prints.
const (
	mostObjects  = 3
	mostCommands = 10
	mostChanges  = 50
)

// Import writes the report of an import for a person: the verdict on Services first.
func Import(w io.Writer, i v1alpha1.Import, title string, style Style) error {
	var t text
	var found []string
	for _, f := range i.Found {
		found = append(found, fmt.Sprintf("%d %s", f.Count, f.Kind))
	}
	t.addf("%s: %s\n", style.Head(title), strings.Join(found, ", "))
	t.addf("Berth: %s\n", counted(len(i.Manifests), "manifest"))
	t.importServices(i.Services, style)
	t.remarks(i.Remarks, style)
	t.unread(i.Unread, style)
	return t.print(w)
}

// importServices adds whether any Service would get another address.
func (t *text) importServices(s v1alpha1.ImportServices, style Style) {
	t.addf("\n%s\n", style.Head("SERVICES"))
	switch s.Verdict {
	case "Unchanged":
		t.addf("%s No Service would get another address: %d of %d have one, and keep it.\n",
			style.State(v1alpha1.StepOK), s.Assigned, s.Checked)
	case "Changes":
		t.addf("%s %s would change; %d of %d have an address now.\n", style.Severity(v1alpha1.Error),
			counted(len(s.Changes), "Service"), s.Assigned, s.Checked)
	default:
		t.addf("%s It is not known whether a Service would get another address.\n",
			style.State(v1alpha1.StepUnknown))
	}
	if s.Message != "" {
		t.addf("    %s\n", s.Message)
	}
	for n, c := range s.Changes {
		if n == mostChanges {
			t.addf("    and %d more: -o yaml lists all\n", len(s.Changes)-n)
			break
		}
		t.addf("    %s %s%s: "+
			"%s\n", c.Service, c.Change, arrow(c), strings.TrimPrefix(c.Reason+": "+c.Message, ": "))
	}
}

// arrow says which addresses a Service has, and would have.
func arrow(c v1alpha1.ImportChange) string {
	out := ""
	if len(c.Now) > 0 {
		out += " " + strings.Join(c.Now, ",")
	}
	if len(c.Then) > 0 && c.Change != "NotTaken" {
		out += " -> " + strings.Join(c.Then, ",")
	}
	if c.When != "" {
		out += ", " + c.When
	}
	return out
}

// remarks adds what there is to know and to do.
func (t *text) remarks(list []v1alpha1.ImportRemark, style Style) {
	headline := ""
	for _, r := range list {
		head := remarkHead(r.Reason)
		if head != headline {
			t.addf("\n%s\n", style.Head(head))
			headline = head
		}
		t.addf("%s %s\n", remarkSign(r.Reason, style), Remark(r))
		for n, command := range r.Commands {
			if n == mostCommands {
				t.addf("    and %d more: -o yaml lists all\n", len(r.Commands)-n)
				break
			}
			t.addf("    %s\n", command)
		}
	}
}

func remarkHead(r v1alpha1.ImportReason) string {
	switch r {
	case v1alpha1.ImportToDo:
		return "TO DO BY HAND"
	case v1alpha1.ImportDiffers:
		return "NOT QUITE THE SAME"
	case v1alpha1.ImportRewritten:
		return "WRITTEN OTHERWISE"
	}
	return "DOES NOT CARRY OVER"
}

func remarkSign(r v1alpha1.ImportReason, style Style) string {
	switch r {
	case v1alpha1.ImportDiffers, v1alpha1.ImportToDo:
		return style.Severity(v1alpha1.Warning)
	case v1alpha1.ImportRewritten:
		return style.State(v1alpha1.StepInfo)
	}
	return style.Severity(v1alpha1.Error)
}

// Remark returns a remark on one line.
func Remark(r v1alpha1.ImportRemark) string {
	var names []string
	for n, o := range r.Objects {
		if n == mostObjects {
			names = append(names, fmt.Sprintf("and %d more", len(r.Objects)-n))
			break
		}
		names = append(names, o.String())
	}
	out := strings.Join(names, ", ")
	if r.Field != "" {
		out = strings.TrimPrefix(out+", "+r.Field, ", ")
	}
	if out == "" {
		return r.Message
	}
	return out + ": " + r.Message
}
